//! Whereabouts: where a message is in its mailbox, and why it waits there.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::message::Ticket;

/// Why a queued message does not run yet. What holds it up last is said: one that is delayed is not said to be behind
/// others.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Waits {
    /// For those before it, and a thread of the pool.
    Turn,
    /// For a place in the mailbox, which is full.
    Room,
    /// For its worker to be started.
    Start,
    /// For the message with its key that runs.
    Key,
    /// For the rate of its worker or its kind: for so long yet.
    Rate(Duration),
    /// For its time: for so long yet.
    Delay(Duration),
    /// To be tried again: for so long yet.
    Retry(Duration),
    /// For others that run together with it: for so long yet, at most.
    Company(Duration),
}

/// Where a message is.
#[derive(Clone)]
#[non_exhaustive]
pub enum Whereabouts {
    /// In the mailbox.
    Queued {
        /// Messages that go before it as things are. With keys and priorities, at least so many.
        ahead: usize,
        /// For how long it has waited, if it is one of those that are timed.
        waited: Option<Duration>,
        /// Why.
        why: Waits,
        /// For [`Waits::Key`]: the message that runs.
        behind: Option<Arc<dyn Ticket>>,
    },
    /// With the process that is to run it, which has not begun it: the number of messages there before it.
    Ahead(usize),
    /// Its handler runs, or awaits.
    Running,
    /// It was cancelled, or has expired, and its place is not cleared yet: its reply says so.
    Gone,
}

impl fmt::Debug for Whereabouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queued {
                ahead, waited, why, ..
            } => f
                .debug_struct("Queued")
                .field("ahead", ahead)
                .field("waited", waited)
                .field("why", why)
                .finish_non_exhaustive(),
            Self::Ahead(before) => f.debug_tuple("Ahead").field(before).finish(),
            Self::Running => f.write_str("Running"),
            Self::Gone => f.write_str("Gone"),
        }
    }
}
