//! What a lane carries, as its owner sees it.

use std::sync::Arc;
use std::time::Duration;

use crate::crash::Crash;
use crate::payload::Parcel;

/// How the child ended a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The handler returned; the parcel is what.
    Completed,
    /// It failed; the note and the parcel say how.
    Failed,
    /// It was taken back before it began.
    Skipped,
}

/// A child's answer to one message.
#[derive(Debug)]
pub struct Answer {
    /// How it ended.
    pub verdict: Verdict,
    /// How long the handler took.
    pub ran: Duration,
    /// What there is to say of a failure, in the words of the two ends.
    pub note: Vec<u8>,
    /// The reply.
    pub parcel: Option<Parcel>,
}

impl Answer {
    /// The answer to a message that never began.
    #[must_use]
    pub const fn skipped() -> Self {
        Self {
            verdict: Verdict::Skipped,
            ran: Duration::ZERO,
            note: Vec::new(),
            parcel: None,
        }
    }
}

/// One message on its way through a child. A method that a lane calls must not block and must not run a user's code.
pub trait Cargo: Sized + Send + 'static {
    /// Writes the head of its request frame.
    fn encode(&self, seq: u64, attempt: u32, frame: &mut Vec<u8>);

    /// The rest of the frame: the payload, where it goes inline.
    fn area(&self) -> &[u8];

    /// The number of its worker in this fleet.
    fn worker(&self) -> u32;

    /// The version of the worker's configuration that the child must have first; 0 for none.
    fn config_version(&self) -> u32;

    /// That configuration, as a message of its own.
    fn configuration(&self) -> Self;

    /// The number of a definition that the child must have first, and its bytes.
    fn definition(&self) -> Option<(u32, usize)> {
        None
    }

    /// That definition, as a message of its own. `anew`: the child forgets those that it has.
    fn define(&self, anew: bool) -> Option<Self> {
        let _ = anew;
        None
    }

    /// Whether it is a configuration, a definition, or the set-up of the child.
    fn is_control(&self) -> bool;

    /// Whether `other` was handed over with it.
    fn is_of_same_batch(&self, other: &Self) -> bool;

    /// Whether another lane could run it just as well.
    fn may_go_elsewhere(&self) -> bool;

    /// How many times it may be begun.
    fn max_attempts(&self) -> u32;

    /// Whether its reply is still open, or it has none.
    fn is_wanted(&self) -> bool;

    /// Whether its deadline has passed: then it is not sent, and [`Cargo::expired`] ends it.
    fn is_overdue(&self) -> bool;

    /// Puts messages that were not begun back where they came from, in order.
    fn put_back(all: Vec<Self>);

    /// It is over.
    fn answered(self, answer: Answer);

    /// Its deadline passed before it was sent.
    fn expired(self);

    /// Its child ended while it ran, or there is none.
    fn crashed(self, crash: &Arc<Crash>);
}
