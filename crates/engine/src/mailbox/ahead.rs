//! Messages that were handed over in a batch: see `delivery.rs`.

use std::time::Duration;

use super::outbox::{Entry, Finished, Leftover};
use super::{Found, KEEP_ENTRIES, Mailbox, Take};
use crate::delivery::given_up;
use crate::message::{Failure, Message};
use crate::reply::ReplyState;

impl<M: Message> Mailbox<M> {
    /// Takes up to `window` messages at once, claimed: the first one runs, the others are ahead. `Idle`: there was
    /// none, and the token was given back.
    pub(crate) fn take_many(&self, window: usize, batch: &mut Vec<Entry<M>>) -> Take<M> {
        let mut leftovers = Vec::new();
        let mut outbox = self.outbox.0.lock();
        loop {
            while batch.len() < window
                && let Some(entry) = outbox.pop_batch(&mut leftovers)
            {
                if batch.is_empty() {
                    outbox.counts.running += 1;
                } else {
                    // It still takes a place of the mailbox.
                    outbox.gone -= 1;
                    outbox.ahead += 1;
                }
                outbox.running.extend(entry.message.ticket());
                batch.push(entry);
            }
            let mut inbox = self.inbox.0.lock();
            inbox.gone_seen = outbox.gone;
            let dry = inbox.queue.is_empty() || inbox.active > inbox.limit;
            if !batch.is_empty() && (batch.len() == window || dry) {
                drop(inbox);
                self.release_with_room(outbox);
                return Take::of(Found::Next, leftovers);
            }
            if dry {
                let publishing = !leftovers.is_empty();
                inbox.publishing += usize::from(publishing);
                self.give_back(&mut inbox);
                return Take {
                    roomy: outbox.batch.capacity().max(inbox.queue.capacity()) > KEEP_ENTRIES,
                    publishing,
                    ..Take::of(Found::Idle, leftovers)
                };
            }
            std::mem::swap(&mut outbox.batch, &mut inbox.queue);
            // Whoever ran them says how long it took, so timing costs one look at the clock here.
            inbox.sample_every = super::SAMPLE_UNDER_LOAD;
            inbox.until_sample = inbox.until_sample.min(inbox.sample_every);
        }
    }

    /// Takes up to `most` messages, claimed, behind those of a batch that is on its way: all of them are ahead. Returns
    /// what is to be abandoned.
    pub(crate) fn take_ahead(&self, most: usize, batch: &mut Vec<Entry<M>>) -> Vec<Leftover<M>> {
        let mut leftovers = Vec::new();
        let mut outbox = self.outbox.0.lock();
        loop {
            while batch.len() < most
                && let Some(entry) = outbox.pop_batch(&mut leftovers)
            {
                outbox.gone -= 1;
                outbox.ahead += 1;
                outbox.running.extend(entry.message.ticket());
                batch.push(entry);
            }
            let mut inbox = self.inbox.0.lock();
            inbox.gone_seen = outbox.gone;
            if batch.len() == most || inbox.queue.is_empty() {
                return leftovers;
            }
            std::mem::swap(&mut outbox.batch, &mut inbox.queue);
        }
    }

    /// Counts a message that was handed over. `more`: others of its batch are still on their way, and the next one
    /// counts as running now.
    pub(crate) fn finish_delivery(&self, finished: &Finished<'_, M>, ran: Duration, more: bool) {
        let mut outbox = self.outbox.0.lock();
        outbox.busy += ran;
        let ticket = outbox.finish(finished);
        if more && outbox.ahead > 0 {
            outbox.ahead -= 1;
            outbox.gone += 1;
            outbox.counts.running += 1;
            self.release_with_room(outbox);
        } else {
            drop(outbox);
        }
        drop(ticket);
    }

    /// Puts messages that were ahead back to the front, unclaimed. Returns those that nobody waits for any more, which
    /// are counted here, and the tokens to enter into the run queue for the others.
    pub(crate) fn put_back(&self, entries: Vec<Entry<M>>) -> (Vec<Leftover<M>>, usize) {
        let mut leftovers = Vec::new();
        let mut tickets = Vec::new();
        let mut outbox = self.outbox.0.lock();
        let mut returned = 0;
        for entry in entries.into_iter().rev() {
            // One that moved up since counts as running and takes no place any more: it gets its place back, even
            // where that is one more than the capacity.
            if outbox.ahead > 0 {
                outbox.ahead -= 1;
            } else {
                outbox.gone -= 1;
                outbox.counts.running -= 1;
            }
            tickets.extend(outbox.forget_running(&entry.message));
            if entry.message.state().is_none_or(ReplyState::unclaim) {
                outbox.batch.push_front(entry);
                returned += 1;
                continue;
            }
            outbox.gone += 1;
            let failure = given_up(&entry.message);
            if failure == Failure::Cancelled {
                outbox.counts.cancelled += 1;
            } else {
                outbox.counts.expired += 1;
            }
            leftovers.push((entry.message, failure));
        }
        let mut inbox = self.inbox.0.lock();
        inbox.gone_seen = outbox.gone;
        let tokens = inbox.activate(returned);
        drop(inbox);
        let mut callbacks = Vec::new();
        if !leftovers.is_empty() {
            // Each of them made room.
            outbox.notified = outbox.blocked;
            callbacks = std::mem::take(&mut outbox.room_callbacks);
        }
        drop(outbox);
        if !leftovers.is_empty() {
            self.room.notify_all();
        }
        for callback in callbacks {
            callback();
        }
        drop(tickets);
        (leftovers, tokens)
    }
}
