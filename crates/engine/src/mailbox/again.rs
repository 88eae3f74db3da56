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

impl<M: Message> Mailbox<M> {
    /// Takes back a message that runs. `more`: of a batch that was handed over, whether others of it are still on their way.
    /// Where it comes back nothing has changed: the mailbox has closed, or a deadline or a cancel has settled the reply.
    pub(crate) fn again(
        &self,
        entry: Entry<M>,
        at: Timestamp,
        more: Option<bool>,
    ) -> Result<Told<M>, Entry<M>> {
        let mut outbox = self.outbox.0.lock();
        let mut inbox = self.inbox.0.lock();
        let state = entry.message.state();
        if inbox.gate == Gate::Closed || !state.is_none_or(ReplyState::unclaim) {
            return Err(entry);
        }
        keep_planned(&mut outbox, &mut inbox);
        let ticket = outbox.accounts.again(&entry.message);
        outbox.order.again(entry, at);
        // As of `Mailbox::finish_delivery`.
        if more.is_some_and(|more| more || outbox.accounts.runs_none()) {
            outbox.accounts.move_up();
        }
        let told = self.admit(&mut outbox, &mut inbox);
        drop(inbox);
        drop(outbox);
        drop(ticket);
        Ok(told)
    }
}
