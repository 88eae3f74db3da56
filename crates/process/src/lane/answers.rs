//! What a child may answer, and what its host knows to be false.
//!
//! A message that the host took back is skipped, and no other: the two ends settle that by one exchange of a claim word
//! (`claims.rs`), or the request never left the host. An answer that says otherwise is no mistake of a working child, so
//! the child is ended. Its message stays in the table until then: it fails with the child rather than not at all.

use std::sync::Arc;

use super::{State, TrackedRequest};
use crate::cargo::{Cargo, Feed, Listener};
use crate::frame::ReplyStatus;

impl<C: Cargo> State<C> {
    /// Where an item of the stream of a message goes.
    ///
    /// # Errors
    /// Why the child cannot have such an item.
    pub(super) fn feed(&self, seq: u64) -> Result<Arc<dyn Feed>, String> {
        self.cargo(seq)
            .and_then(Cargo::feed)
            .ok_or_else(|| format!("it sent an item for message {seq}, which has no stream"))
    }

    /// Who is told of what the handler of a message says. `None`: its owner does not listen, or it is over, for what a
    /// handler has left behind may speak later.
    pub(super) fn listener(&self, seq: u64) -> Option<Arc<dyn Listener>> {
        self.cargo(seq)?.listener()
    }

    /// The message of a number, if the child may run it.
    fn cargo(&self, seq: u64) -> Option<&C> {
        let tracked = self.table.get(Self::place(seq))?.as_ref()?;
        let flight = Some(tracked)
            .filter(|tracked| tracked.seq == seq && !tracked.revoked)
            .and_then(TrackedRequest::flight)?;
        Some(&flight.cargo)
    }

    /// Ends the message that the child answered. `None`: it was taken back, and is elsewhere by now, or is a control.
    ///
    /// # Errors
    /// Why the answer cannot be true.
    pub(super) fn end(&mut self, seq: u64, status: ReplyStatus) -> Result<Option<C>, String> {
        // A link without claim words skips what it is asked to stop and has not begun.
        let may_skip_stopped = self.link.as_ref().is_some_and(|link| !link.runs_ahead());
        let tracked = self
            .table
            .get_mut(Self::place(seq))
            .and_then(Option::as_mut)
            .filter(|tracked| tracked.seq == seq)
            .ok_or_else(|| format!("it answered message {seq}, which it does not have"))?;
        let skipped = status == ReplyStatus::Skipped;
        let may_skip = tracked.revoked || (tracked.stopped && may_skip_stopped);
        if skipped && !may_skip {
            tracked.disputed = true;
            return Err(format!(
                "it skipped message {seq}, which was not taken back"
            ));
        }
        if !skipped && tracked.revoked {
            tracked.disputed = true;
            return Err(format!("it ran message {seq}, which was taken back"));
        }
        Ok(self.take(seq).and_then(TrackedRequest::into_cargo))
    }
}
