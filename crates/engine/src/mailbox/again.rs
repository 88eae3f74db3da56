//! Again: a message that ran and failed goes back into the queue, to be tried again at a time.
//!
//! It counts as queued from then on, even where that is one more than the capacity. A mailbox that has closed takes none
//! back: what is tried last there is the last attempt.

use super::Mailbox;
use super::entry::Entry;
use super::inbox::Gate;
use super::line::Told;
use super::post::keep_planned;
use crate::clock::Timestamp;
use crate::message::Message;
use crate::reply::ReplyState;

/// Where a message ran that comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whence {
    /// In a turn, by itself or as the first of those that ran with it.
    Turn,
    /// Together with the first of those.
    Company,
    /// Elsewhere. `more`: others that were handed over with it are still on their way.
    Delivery { more: bool },
}

impl<M: Message> Mailbox<M> {
    /// Takes back a message that runs, from `whence`. Those that run together come back in their order, but for the first one
    /// of a turn.
    /// Where it comes back nothing has changed: the mailbox has closed, or a deadline or a cancel has settled the reply.
    pub(crate) fn again(
        &self,
        entry: Entry<M>,
        at: Timestamp,
        whence: Whence,
    ) -> Result<Told<M>, Entry<M>> {
        let mut outbox = self.outbox.0.lock();
        let mut inbox = self.inbox.0.lock();
        let state = entry.message.state();
        if inbox.gate == Gate::Closed || !state.is_none_or(ReplyState::unclaim) {
            return Err(entry);
        }
        keep_planned(&mut outbox, &mut inbox);
        let ticket = outbox.accounts.again(&entry.message);
        outbox.order.again(entry, at, whence == Whence::Turn);
        // As of `Mailbox::finish_delivery`.
        if let Whence::Delivery { more } = whence
            && (more || outbox.accounts.runs_none())
        {
            outbox.accounts.move_up();
        }
        let told = self.admit(&mut outbox, &mut inbox);
        drop(inbox);
        drop(outbox);
        drop(ticket);
        Ok(told)
    }
}
