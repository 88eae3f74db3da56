//! The door between senders and an order by plans: whether the worker is to look at what senders have pushed.
//!
//! In the order by plans the worker could look through the inbox each time it takes a message; but then it and the senders
//! would contend for one lock once a message. It need not look while what was pushed would go behind all that was taken in:
//! then it looks once a round, when each unit has had a turn. A sender *knocks* if its message may go before one that was
//! taken in, or waits for a time; then the worker looks before it takes the next one.

use std::sync::Arc;

use crate::plan::{Plan, Priority};
use crate::sync::{AtomicBool, Ordering};

/// What a sender sets, and the worker looks at without a lock.
pub(super) type Knock = Arc<AtomicBool>;

/// The senders' side, under their lock.
pub(super) struct Door {
    knock: Knock,
    /// The lowest level of the messages here, or lower.
    lowest: usize,
}

impl Door {
    pub(super) fn new() -> Self {
        Self {
            knock: Arc::new(AtomicBool::new(true)),
            lowest: 0,
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
        self.lowest = self.lowest.min(level);
    }

    /// The worker takes in all that was pushed.
    pub(super) fn opens(&mut self) {
        // ORDERING: Relaxed, as in `knock`; it is set and cleared under the senders' lock.
        self.knock.store(false, Ordering::Relaxed);
    }

    /// It has, and no message here has a lower level than that.
    pub(super) const fn opened(&mut self, lowest: usize) {
        self.lowest = lowest;
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
