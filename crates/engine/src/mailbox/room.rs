//! Room: a sender that finds the mailbox full gives it a moment.

use super::Mailbox;
use super::inbox::Gate;
use crate::message::Message;
use crate::sync::look_while_yielding;

/// Room that a sender waits for, for a moment, once the mailbox was full: some hundred microseconds of quick messages.
const AMPLE_ROOM: usize = 1024;

impl<M: Message> Mailbox<M> {
    /// Gives a mailbox that looks full a moment to make room for more than one message. A sender that went on at the
    /// first would meet the worker at its lock for each message from then on.
    pub(crate) fn dally(&self) {
        let ample = self.capacity.div_ceil(2).min(AMPLE_ROOM);
        look_while_yielding(|| {
            let outbox = self.outbox.0.lock();
            let mut inbox = self.inbox.0.lock();
            inbox.admission.see(&outbox.accounts);
            let pointless = inbox.gate == Gate::Closed || !outbox.line.is_empty();
            (pointless || inbox.admission.room() >= ample && !inbox.admission.weighs())
                .then_some(())
        });
    }
}
