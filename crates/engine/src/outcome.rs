//! How a message ended, and why one was not handled.

use std::fmt;

/// Why a full mailbox dropped a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// `drop_oldest`: it was the oldest one when a newer one needed its place.
    Oldest,
    /// `drop_newest`: it came when the mailbox was full.
    Newest,
    /// A newer one took its place: see [`MorePlan::replaces`](crate::MorePlan::replaces).
    Replaced,
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Oldest => "oldest",
            Self::Newest => "newest",
            Self::Replaced => "replaced",
        })
    }
}

/// Why a message was not handled, or why no caller waits for its handler any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// The overflow policy dropped it.
    Dropped(DropReason),
    /// Its worker was stopped or terminated first.
    Stopped,
    /// The caller that asked cancelled it while it was queued.
    Cancelled,
    /// Its deadline passed.
    Expired,
    /// Its handler panicked, and nothing on the way caught that and gave another reply.
    Panicked,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dropped(DropReason::Replaced) => f.write_str("replaced by a newer message"),
            Self::Dropped(reason) => write!(f, "dropped from a full mailbox ({reason})"),
            Self::Stopped => f.write_str("its worker stopped before it was handled"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::Expired => f.write_str("its deadline passed"),
            Self::Panicked => f.write_str("its handler panicked"),
        }
    }
}

impl std::error::Error for Failure {}

/// How a message that was taken from the mailbox ended; each is a counter of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The handler returned a value.
    Completed,
    /// The handler raised, panicked or returned an error, or no handler is registered for the kind.
    Failed,
    /// The deadline passed while the handler ran.
    Expired,
    /// It was cancelled while the handler ran, and the handler was stopped for it.
    Cancelled,
}
