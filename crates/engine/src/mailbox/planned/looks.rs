//! When the worker looks at what senders have pushed: once a round, and when they knock.
//!
//! Senders knock where their message may go before one that is here, and then the worker looks before it takes the next one.
//! Each look takes the senders' lock; where they knock for each message, and handlers are quick, the looks would cost more than
//! all else. So the worker looks for so many knocks at once, and then once in [`LATE`] messages, until there is a calm: an
//! urgent message goes behind so many quick ones at most, and mostly behind none.

use crate::mailbox::door::{Knock, is_knocked};

/// How often the worker looks because a sender has knocked, without a calm between.
pub(super) const LOOKS: u32 = 64;

/// How many quick messages may pass a knock after so many looks.
const LATE: u32 = 16;

/// So many messages in a row without a knock are a calm, after which the worker may look once more.
const CALM: u32 = 32;

pub(super) struct Looks {
    /// Set by senders whose message may go before one that is here.
    knock: Option<Knock>,
    /// How many messages are to leave before the next look.
    until_next: usize,
    /// [`LOOKS`] that are left.
    left: u32,
    /// Messages that have passed a knock since there was none left.
    passed: u32,
    /// Messages since the last knock.
    calm: u32,
}

impl Looks {
    pub(super) const fn new() -> Self {
        Self {
            knock: None,
            until_next: 0,
            left: LOOKS,
            passed: 0,
            calm: 0,
        }
    }

    /// Looks when they `knock`.
    pub(super) fn answer(&mut self, knock: Knock) {
        self.knock = Some(knock);
    }

    /// Whether a sender may have knocked since the last look.
    #[inline]
    pub(super) fn is_knocked(&self) -> bool {
        self.knock.as_deref().is_none_or(is_knocked)
    }

    /// There was a look. The next one is due when so many messages have left.
    pub(super) const fn note(&mut self, until_next: usize) {
        self.until_next = until_next;
    }

    /// Whether the next message may be taken without a look. Handlers are quick.
    #[inline]
    pub(super) fn may_wait(&mut self) -> bool {
        if self.until_next == 0 {
            return false;
        }
        if self.is_knocked() {
            return self.passes_knock();
        }
        self.calm += 1;
        if self.calm == CALM {
            (self.left, self.calm) = (LOOKS.min(self.left + 1), 0);
        }
        self.until_next -= 1;
        true
    }

    fn passes_knock(&mut self) -> bool {
        self.calm = 0;
        if let Some(left) = self.left.checked_sub(1) {
            self.left = left;
            return false;
        }
        self.passed = (self.passed + 1) % (LATE + 1);
        self.passed > 0
    }
}
