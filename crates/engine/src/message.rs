//! What the engine asks of a message.

use std::any::Any;
use std::sync::Arc;

use crate::outcome::Failure;
use crate::plan::Plan;
use crate::reply::ReplyState;
use crate::stream::StreamProgress;

/// A message that a caller may wait for, cancel or give a deadline.
///
/// Implemented next to the typed reply slot; the engine reaches running and expiring messages through it.
pub trait Ticket: Send + Sync + 'static {
    /// Where the message is in its life.
    fn state(&self) -> &ReplyState;

    /// Settles the reply with `failure` and tells its waiters, if nothing has settled it and it is in the phase
    /// that `queued` names (still queued, or running). Says whether it did.
    fn fail(&self, queued: bool, failure: Failure) -> bool;

    /// Itself, for code that knows which type it is.
    fn as_any(&self) -> Option<&dyn Any> {
        None
    }

    /// Called after a running message was asked to stop, for handlers that can be interrupted.
    fn interrupt(&self) {}

    /// How far its handler is, where that answers with a stream.
    fn progress(&self) -> Option<StreamProgress> {
        None
    }
}

/// One message of a mailbox.
pub trait Message: Send + 'static {
    /// The ticket, where a caller may wait for the message; `None` for a plain post.
    fn ticket(&self) -> Option<Arc<dyn Ticket>>;

    /// The ticket's state, without the cost of a reference.
    fn state(&self) -> Option<&ReplyState>;

    /// What it asks of the mailbox beyond a place at the end of the queue. The same at all times.
    #[inline]
    fn plan(&self) -> Option<&Plan> {
        None
    }

    /// Its size, for a mailbox that is bounded by bytes; others do not ask. The same at all times.
    fn bytes(&self) -> usize {
        0
    }

    /// Claims the message for the thread that takes it out of the queue. False: it was cancelled or expired there.
    fn claim(&self) -> bool {
        self.state().is_none_or(ReplyState::claim)
    }
}
