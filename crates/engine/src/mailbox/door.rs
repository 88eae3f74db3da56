//! The door between senders and an order by plans: whether the worker is to look at what senders have pushed.
//!
//! In the order by plans the worker could look through the inbox each time it takes a message; but then it and the senders
//! would contend for one lock once a message. It need not look while what was pushed would go behind all that was taken in:
//! then it looks once a round, when each unit has had a turn. A sender *knocks* if its message may go before one that was
//! taken in, or waits for a time; then the worker looks soon: see `planned/looks.rs`.

use std::mem;
use std::sync::Arc;

use crate::plan::{Plan, Priority};
use crate::sync::{AtomicBool, Ordering};

/// What a sender sets, and the worker looks at without a lock.
pub(super) type Knock = Arc<AtomicBool>;

/// The senders' side, under their lock.
pub(super) struct InboxDoor {
    knock: Knock,
    /// The lowest level of the messages that were taken in, or a lower one.
    lowest: usize,
    pushed: Pushed,
}

/// What was pushed since the worker took in all there was.
struct Pushed {
    /// The levels of these messages, lowest and highest.
    lowest: usize,
    highest: usize,
    /// Whether one of them waits for more than its turn.
    waits: bool,
}

impl Pushed {
    const NOTHING: Self = Self {
        lowest: usize::MAX,
        highest: 0,
        waits: false,
    };
}

impl InboxDoor {
    /// That of a mailbox none of whose messages has a plan.
    pub(super) fn new() -> Self {
        let ordinary = Priority::default().level();
        Self {
            knock: Arc::new(AtomicBool::new(true)),
            lowest: ordinary,
            pushed: Pushed {
                lowest: ordinary,
                highest: ordinary,
                waits: false,
            },
        }
    }

    pub(super) fn knock(&self) -> Knock {
        self.knock.clone()
    }

    /// A message is pushed that asks for this.
    #[inline]
    pub(super) fn comes(&mut self, plan: Option<&Plan>) {
        let (level, waits) = match plan {
            Some(plan) => (plan.priority.level(), plan.waits()),
            None => (Priority::default().level(), false),
        };
        if level > self.lowest || waits {
            knock(&self.knock);
        }
        self.pushed.lowest = self.pushed.lowest.min(level);
        self.pushed.highest = self.pushed.highest.max(level);
        self.pushed.waits |= waits;
    }

    /// The worker takes in all that was pushed; `has_more`: it has other messages. Says whether what was pushed is *even*: none
    /// of it waits for more than its turn, all have one priority, and no other message has a lower one.
    pub(super) fn opens(&mut self, has_more: bool) -> bool {
        // ORDERING: Relaxed, as in `knock`; it is set and cleared under the senders' lock.
        self.knock.store(false, Ordering::Relaxed);
        let pushed = mem::replace(&mut self.pushed, Pushed::NOTHING);
        let others = if has_more { self.lowest } else { usize::MAX };
        self.lowest = others.min(pushed.lowest);
        !pushed.waits && pushed.lowest >= pushed.highest && pushed.highest <= others
    }
}

#[inline]
fn knock(knock: &AtomicBool) {
    // ORDERING: Relaxed: the message itself is handed over by the senders' lock. A thread that knows of the post by other
    // means sees what was stored before it.
    if !knock.load(Ordering::Relaxed) {
        knock.store(true, Ordering::Relaxed);
    }
}

/// Whether a sender has knocked since the worker looked.
#[inline]
pub(super) fn is_knocked(knock: &AtomicBool) -> bool {
    // ORDERING: Relaxed, as in `knock`.
    knock.load(Ordering::Relaxed)
}
