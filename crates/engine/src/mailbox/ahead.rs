//! Messages that were handed over in a batch: see `handler/delivery.rs`.
//!
//! The thread that looks through what came back holds the mailbox meanwhile: nothing is taken, and a token that would
//! take a batch waits for the release. Else what came back would be handed over again before it was looked at: as soon
//! as its batch is topped up, and in a pool's own mailbox by a token that is free. And no thread looks between the
//! moment at which messages are taken and the one at which they are handed over: what is put back then would go behind
//! them.

use std::sync::Arc;
use std::time::Duration;

use super::Mailbox;
use super::claimed::Popped;
use super::entry::{Bundle, Entry, Finished, Leftover, Punctual, Spot};
use super::line::Told;
use super::outbox::{Outbox, lane};
use super::removal::Swept;
use super::take::{Take, TakeResult};
use crate::clock::{Clock, Timestamp};
use crate::message::{Message, Ticket};
use crate::outcome::Failure;
use crate::reply::ReplyState;

/// What [`Mailbox::take_ahead`] leaves to be done.
pub(crate) struct Topping<M> {
    /// To be abandoned.
    pub(crate) leftovers: Vec<Leftover<M>>,
    /// Parked posts that went in.
    pub(crate) told: Told<M>,
    /// Tokens handed out: the worker enters the run queue this many times.
    pub(crate) activate: usize,
    /// When the timers' thread is to come by.
    pub(crate) alarm: Option<Timestamp>,
}

impl<M: Message> Mailbox<M> {
    /// Hands out no message until [`Mailbox::release`]: what comes back is about to be looked through. Waits for
    /// messages that were taken and have yet to be handed over, so that they come back with those before them.
    pub(crate) fn hold(&self) {
        let mut outbox = self.outbox.0.lock();
        outbox.held += 1;
        while outbox.handing > 0 {
            (outbox, _) = self.handed.wait(outbox, None);
        }
    }

    /// What was taken is handed over.
    pub(crate) fn handed_over(&self) {
        let mut outbox = self.outbox.0.lock();
        outbox.handing -= 1;
        if outbox.held > 0 && outbox.handing == 0 {
            self.handed.notify_all();
        }
    }

    /// Hands out messages again. Returns the tokens to do it with.
    pub(crate) fn release(&self) -> usize {
        let mut outbox = self.outbox.0.lock();
        outbox.held -= 1;
        if outbox.held > 0 {
            return 0;
        }
        let parked = std::mem::take(&mut outbox.waiting_tokens);
        let mut inbox = self.inbox.0.lock();
        let queued = outbox.order.len() + inbox.queue.len();
        parked + inbox.activate(queued)
    }

    /// Whether the message of `ticket` was taken, and is not over.
    pub(crate) fn is_running(&self, ticket: &Arc<dyn Ticket>) -> bool {
        let outbox = self.outbox.0.lock();
        outbox
            .accounts
            .tickets()
            .any(|runs| Arc::ptr_eq(runs, ticket))
    }

    /// Takes up to `window` messages at once, claimed, each with those of its group: the first one runs, the others are
    /// ahead. After `Next` the caller
    /// hands them over, and says so with [`Mailbox::handed_over`]. `Idle`: there was none, and the token was given
    /// back, or is kept until [`Mailbox::release`]. Only then are senders told that their parked posts are in: a sender's
    /// callback may look through the mailbox, for which messages are handed over.
    ///
    /// `spot`: where they are to run, if that is known: keys whose messages ran there go first.
    pub(crate) fn take_many(
        &self,
        (window, spot): (usize, Option<Spot>),
        batch: &mut Vec<Bundle<M>>,
        clock: &dyn Clock,
    ) -> Take<M> {
        let mut leftovers = Vec::new();
        let mut punctual = Punctual::new(clock);
        let mut outbox = self.outbox.0.lock();
        if outbox.held > 0 {
            outbox.waiting_tokens += 1;
            return Take::of(TakeResult::Idle, leftovers);
        }
        let activate = self.gather(&mut outbox, clock);
        loop {
            while batch.len() < window
                && let Some(bundle) =
                    pop_unexpired(&mut outbox, spot, &mut punctual, &mut leftovers)
            {
                if batch.is_empty() {
                    let message = &bundle.first.message;
                    let bytes = outbox.accounts.weight(message);
                    outbox.accounts.run(message.ticket(), bytes);
                    let posted = bundle.first.posted_at.or(outbox.since());
                    outbox.accounts.begin_carried(posted, clock);
                } else {
                    queue_ahead(&mut outbox, &bundle.first);
                }
                for other in &bundle.others {
                    queue_ahead(&mut outbox, other);
                }
                batch.push(bundle);
            }
            let mut guard = self.inbox.0.lock();
            let inbox = &mut *guard;
            inbox.admission.see(&outbox.accounts);
            let dry = inbox.queue.is_empty() || inbox.active > inbox.limit;
            if !batch.is_empty() && (batch.len() == window || dry) {
                outbox.handing += 1;
                return Take {
                    activate,
                    alarm: outbox.set_alarm(clock),
                    // The first one runs, and takes no place any more.
                    told: self.admit(&mut outbox, inbox),
                    ..Take::of(TakeResult::Next, leftovers)
                };
            }
            if dry && let Some(last) = inbox.take_last() {
                outbox.handing += 1;
                batch.push(Bundle {
                    first: last,
                    others: Vec::new(),
                    spot: None,
                });
                return Take {
                    activate,
                    told: self.admit(&mut outbox, inbox),
                    ..Take::of(TakeResult::Last, leftovers)
                };
            }
            if dry {
                let publishing = !leftovers.is_empty();
                inbox.publishing += usize::from(publishing);
                self.give_back(inbox);
                return Take {
                    activate,
                    alarm: outbox.set_alarm(clock),
                    roomy: outbox.order.is_roomy(&inbox.queue),
                    publishing,
                    told: self.admit(&mut outbox, inbox),
                    ..Take::of(TakeResult::Idle, leftovers)
                };
            }
            outbox.refill(inbox, clock);
            outbox.sample(inbox);
        }
    }

    /// Takes up to `most` messages, claimed, behind those of a batch that is on its way: all of them are ahead, but for
    /// the first where those before them have just ended. Parked posts that went in are told of as after
    /// [`Mailbox::take_many`]. If there were any messages, the caller hands them over,
    /// and says so with [`Mailbox::handed_over`].
    pub(crate) fn take_ahead(
        &self,
        (most, spot): (usize, Option<Spot>),
        batch: &mut Vec<Bundle<M>>,
        clock: &dyn Clock,
    ) -> Topping<M> {
        let mut leftovers = Vec::new();
        let mut punctual = Punctual::new(clock);
        let mut outbox = self.outbox.0.lock();
        if outbox.held > 0 {
            return Topping {
                leftovers,
                told: Told::nothing(),
                activate: 0,
                alarm: None,
            };
        }
        let activate = self.gather(&mut outbox, clock);
        loop {
            while batch.len() < most
                && let Some(bundle) =
                    pop_unexpired(&mut outbox, spot, &mut punctual, &mut leftovers)
            {
                for entry in std::iter::once(&bundle.first).chain(&bundle.others) {
                    queue_ahead(&mut outbox, entry);
                }
                batch.push(bundle);
            }
            let mut guard = self.inbox.0.lock();
            let inbox = &mut *guard;
            inbox.admission.see(&outbox.accounts);
            if batch.len() == most || inbox.queue.is_empty() {
                outbox.handing += usize::from(!batch.is_empty());
                if outbox.accounts.runs_none() {
                    outbox.accounts.move_up();
                }
                return Topping {
                    leftovers,
                    activate,
                    alarm: outbox.set_alarm(clock),
                    told: self.admit(&mut outbox, inbox),
                };
            }
            outbox.refill(inbox, clock);
            outbox.sample(inbox);
        }
    }

    /// Counts a message that was handed over, and ran for so long, with as many in all, and there, as far as that is known.
    /// `more`: others of its batch are still on their way, and the next one counts as running now. `now`: the clock, where it
    /// was read.
    pub(crate) fn finish_delivery(
        &self,
        finished: &Finished<'_, M>,
        (ran, together, spot): (Duration, usize, Option<Spot>),
        more: bool,
        now: Option<Timestamp>,
        clock: &dyn Clock,
    ) -> Told<M> {
        let mut outbox = self.outbox.0.lock();
        outbox.accounts.end_carried((ran, together), now, clock);
        let ticket = outbox.end_at(finished, spot);
        // Several that end at once may each have found none ahead, before more were handed over.
        if more || outbox.accounts.runs_none() {
            outbox.accounts.move_up();
        }
        let told = self.release_admitting(outbox);
        drop(ticket);
        told
    }

    /// Puts messages that were ahead back to the front, unclaimed. Returns those that no caller waits for any more, and
    /// all of them where queued messages fail; they are counted here. And the tokens to hand the others over with.
    pub(crate) fn put_back(&self, entries: Vec<Entry<M>>) -> Swept<M> {
        let mut leftovers = Vec::new();
        let mut tickets = Vec::new();
        let mut outbox = self.outbox.0.lock();
        let mut guard = self.inbox.0.lock();
        let inbox = &mut *guard;
        let mut returned = 0;
        for entry in entries.into_iter().rev() {
            tickets.extend(outbox.accounts.put_back(&entry.message));
            // A message that fails stays claimed, so that no thread takes it for queued.
            let state = entry.message.state();
            let failure = match inbox.failing {
                Some(failure) if state.is_none_or(ReplyState::is_claimed) => Some(failure),
                None if state.is_none_or(ReplyState::unclaim) => None,
                _ => state.map(ReplyState::given_up),
            };
            let Some(failure) = failure else {
                outbox.order.put_back(entry);
                returned += 1;
                continue;
            };
            outbox.order.ended(lane(&entry.message), None);
            outbox.accounts.fail(1, failure);
            leftovers.push((entry.message, failure));
        }
        inbox.admission.see(&outbox.accounts);
        let tokens = if outbox.held > 0 {
            0
        } else {
            inbox.activate(returned)
        };
        // Those that ended made room.
        let told = self.admit(&mut outbox, inbox);
        drop(guard);
        drop(outbox);
        let swept = Swept {
            leftovers,
            told,
            was_held: None,
            activate: tokens,
            never_runs: None,
            unused: None,
        };
        drop(tickets);
        swept
    }
}

/// Counts a message as ahead.
fn queue_ahead<M: Message>(outbox: &mut Outbox<M>, entry: &Entry<M>) {
    let bytes = outbox.accounts.weight(&entry.message);
    outbox.accounts.queue_ahead(entry.message.ticket(), bytes);
}

/// Takes the next message to be handed over, past all those that expire.
fn pop_unexpired<M: Message>(
    outbox: &mut Outbox<M>,
    spot: Option<Spot>,
    punctual: &mut Punctual<'_>,
    leftovers: &mut Vec<Leftover<M>>,
) -> Option<Bundle<M>> {
    loop {
        match outbox.order.pop_to_run(spot, punctual, leftovers) {
            Popped::Message(first, others) => {
                outbox.accounts.fail(others.expired, Failure::Expired);
                return Some(Bundle {
                    first,
                    others: others.entries,
                    spot: others.spot,
                });
            }
            Popped::Expired => outbox.accounts.fail(1, Failure::Expired),
            Popped::Nothing => return None,
        }
    }
}
