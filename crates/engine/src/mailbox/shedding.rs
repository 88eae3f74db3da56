//! Shedding: a mailbox whose oldest message has waited too long, for too long, takes no new ones.
//!
//! A queue that is long for a moment is a burst, and is what mailboxes are for; one that stays long only makes every message
//! late. So what counts is how long the oldest message has waited, and that this was above the target for a whole window:
//! the idea of CoDel (K. Nichols and V. Jacobson, "Controlling Queue Delay", ACM Queue 10 (5), 2012; RFC 8289), with the
//! sender told in the place of a packet dropped.

use std::time::Duration;

use crate::clock::Timestamp;

/// When new messages are refused, for the wait of those that are queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shed {
    /// How long the oldest message may wait.
    pub target: Duration,
    /// How long it may have waited longer than that, without a break.
    pub window: Duration,
}

/// Since when a mailbox is above its target.
pub(super) struct Shedding {
    shed: Shed,
    above_since: Option<Timestamp>,
}

impl Shedding {
    pub(super) const fn new(shed: Shed) -> Self {
        Self {
            shed,
            above_since: None,
        }
    }

    /// Whether a message that comes now is refused. `oldest`: when the one was posted that has waited longest.
    pub(super) fn refuses(&mut self, oldest: Option<Timestamp>, now: Timestamp) -> bool {
        if oldest.is_none_or(|posted| now.since(posted) < self.shed.target) {
            self.above_since = None;
            return false;
        }
        let since = *self.above_since.get_or_insert(now);
        now.since(since) >= self.shed.window
    }

    /// How long messages are refused by now, if they are.
    pub(super) fn refuses_for(
        &self,
        oldest: Option<Timestamp>,
        now: Timestamp,
    ) -> Option<Duration> {
        let since = self.above_since?;
        let is_above = now.since(oldest?) >= self.shed.target;
        now.since(since)
            .checked_sub(self.shed.window)
            .filter(|_| is_above)
    }

    /// Nothing is queued any more.
    pub(super) const fn rest(&mut self) {
        self.above_since = None;
    }
}
