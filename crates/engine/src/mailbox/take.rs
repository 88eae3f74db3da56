//! Taking: what a turn does between two messages, and how a token is given back.

use std::any::Any;
use std::sync::Arc;

use super::Mailbox;
use super::claimed::Popped;
use super::entry::{Entry, Finished, Leftover, Punctual, TicketKey};
use super::inbox::Inbox;
use super::line::Told;
use super::outbox::{AlarmHold, Outbox, lane};
use super::queue::Tray;
use crate::clock::{Clock, Timestamp};
use crate::key::Key;
use crate::message::{Message, Ticket};
use crate::outcome::Failure;
use crate::sync::MutexGuard;

/// What [`Mailbox::take`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TakeResult {
    /// A message to run. The token is kept.
    Next,
    /// The budget is used up and there is more. The token is kept.
    More,
    /// A message whose deadline has passed, among what is to be abandoned. The token is kept: look again.
    Expired,
    /// The message that runs when all others are over. The token is kept.
    Last,
    /// Nothing to do. The token was given back.
    Idle,
}

/// What [`Mailbox::take`] found, and what is to be done after its locks are released.
pub(crate) struct Take<M> {
    pub(crate) found: TakeResult,
    pub(crate) leftovers: Vec<Leftover<M>>,
    /// `Idle`, and the mailbox holds large buffers: see [`Mailbox::shrink`].
    pub(crate) roomy: bool,
    /// `Idle`, and the mailbox has not settled before [`Mailbox::published`] is called.
    pub(crate) publishing: bool,
    /// Parked posts that went in.
    pub(crate) told: Told<M>,
    /// `Next`: those that run together with the message.
    pub(crate) others: Vec<Entry<M>>,
    /// `Next`: of the message that runs, where it has a ticket.
    pub(crate) key: Option<TicketKey>,
    /// `Next`: where the message waited, if that is not the common lane; and its bytes, where they count.
    pub(crate) lane: Option<Key>,
    pub(crate) bytes: u64,
    /// Tokens handed out: the worker enters the run queue this many times.
    pub(crate) activate: usize,
    /// When the timers' thread is to come by.
    pub(crate) alarm: Option<Timestamp>,
    /// As of [`Swept`](super::removal::Swept).
    pub(crate) was_held: AlarmHold,
    /// Held until the locks are released: it may be the last reference to the message.
    pub(super) _ended: Option<Arc<dyn Ticket>>,
}

/// What there is to do after the timers' thread has come by.
pub(crate) struct Nudged {
    /// Tokens handed out: the worker enters the run queue this many times.
    pub(crate) activate: usize,
    /// When it is to come by again.
    pub(crate) alarm: Option<Timestamp>,
    /// See [`Mailbox::hold_for_alarm`].
    pub(crate) was_held: AlarmHold,
}

impl<M> Take<M> {
    pub(super) const fn of(found: TakeResult, leftovers: Vec<Leftover<M>>) -> Self {
        Self {
            found,
            leftovers,
            roomy: false,
            publishing: false,
            told: Told::nothing(),
            others: Vec::new(),
            key: None,
            lane: None,
            bytes: 0,
            activate: 0,
            alarm: None,
            was_held: None,
            _ended: None,
        }
    }
}

/// What [`Mailbox::take_next`] did.
///
/// What most messages have not is apart from what they have, for the reason that `queue.rs` has.
pub(crate) enum Next<M> {
    /// The next message was taken from the common lane, and runs.
    Taken {
        /// Of the message, where it has a ticket.
        key: Option<TicketKey>,
    },
    /// The same in the order by plans, from `lane` where that is not the common one.
    Planned {
        key: Option<TicketKey>,
        lane: Option<Key>,
        /// That of the one that ended, to be dropped: it may be the last reference to the message.
        _ended: Option<Arc<dyn Ticket>>,
    },
    /// It is not as simple as that.
    Other(Take<M>),
}

impl<M: Message> Mailbox<M> {
    /// Counts the message that just ended, if any, and puts the next one into `next`.
    ///
    /// `may_run`: whether the turn's budget allows another one.
    ///
    /// One that has expired ends the call: what becomes of it may take long, and the next one's deadline counts when
    /// that begins.
    ///
    /// Quick where it is like most times: the next message is at hand, with no deadline, and no sender waits for its
    /// place. `ended_key` is that of the message that ended. `began`: when the turn began, for its first call.
    #[inline]
    pub(crate) fn take_next(
        &self,
        began: Option<Timestamp>,
        finished: Option<&Finished<'_, M>>,
        ended_key: Option<TicketKey>,
        may_run: bool,
        next: &mut Tray<M>,
        clock: &dyn Clock,
    ) -> Next<M> {
        let mut outbox = self.outbox.0.lock();
        if let Some(began) = began {
            outbox.accounts.begin_turn(began);
        }
        let is_simple = may_run && outbox.line.is_empty() && !outbox.accounts.weighs();
        if is_simple && outbox.order.is_planned_and_quiet() {
            return self.take_next_by_plan(outbox, finished, ended_key, next, clock);
        }
        if is_simple && let Some(ticket) = outbox.order.pop_plainly(next) {
            let ended = finished.and_then(|finished| {
                outbox.accounts.record_if_timed(finished.timed);
                outbox.accounts.end_plainly(finished, ended_key)
            });
            let key = ticket.as_ref().map(TicketKey::of);
            outbox.accounts.run(ticket, 0);
            drop(outbox);
            drop(ended);
            return Next::Taken { key };
        }
        let _ended = finished.and_then(|finished| outbox.end(finished));
        let has_ended = finished.is_some();
        Next::Other(self.take_from(outbox, (has_ended, _ended), may_run, next, clock))
    }

    /// The same in the order by plans, where nothing in it waits for a time.
    #[inline(never)]
    fn take_next_by_plan(
        &self,
        mut outbox: MutexGuard<'_, Outbox<M>>,
        finished: Option<&Finished<'_, M>>,
        ended_key: Option<TicketKey>,
        next: &mut Tray<M>,
        clock: &dyn Clock,
    ) -> Next<M> {
        let _ended = finished.and_then(|finished| {
            outbox.order.ended(lane(finished.message), None);
            outbox.accounts.record_if_timed(finished.timed);
            outbox.accounts.end_plainly(finished, ended_key)
        });
        // A slow handler can wait for the senders' lock, and what has come meanwhile is not to wait for a round; beside
        // quick ones those that are timed look at it.
        let was_timed = finished.is_some_and(|finished| finished.timed.is_some());
        let are_quick = !was_timed && !outbox.accounts.is_slow();
        let activate = if outbox.order.has_enough(are_quick) {
            0
        } else {
            self.gather(&mut outbox, clock)
        };
        // None slept before: what is asleep now was just taken in.
        if activate == 0
            && outbox.order.is_planned_and_quiet()
            && let Some(ticket) = outbox.order.pop_planned_plainly(next)
        {
            let key = ticket.as_ref().map(TicketKey::of);
            outbox.accounts.run(ticket, 0);
            let lane = next.message.as_ref().and_then(lane).cloned();
            return Next::Planned { key, lane, _ended };
        }
        let mut take = self.take_from(outbox, (finished.is_some(), _ended), true, next, clock);
        take.activate += activate;
        Next::Other(take)
    }

    /// The same, with one result for all cases.
    #[cfg(test)]
    pub(crate) fn take(
        &self,
        finished: Option<&Finished<'_, M>>,
        may_run: bool,
        next: &mut Tray<M>,
        clock: &dyn Clock,
    ) -> Take<M> {
        let ended_key = finished
            .and_then(|finished| finished.message.ticket())
            .map(|ticket| TicketKey::of(&ticket));
        match self.take_next(None, finished, ended_key, may_run, next, clock) {
            Next::Taken { key } => Take {
                key,
                ..Take::of(TakeResult::Next, Vec::new())
            },
            Next::Planned { key, lane, _ended } => Take {
                key,
                lane,
                _ended,
                ..Take::of(TakeResult::Next, Vec::new())
            },
            Next::Other(take) => take,
        }
    }

    /// The same where it may be anything. The message that ended, if one has, is counted; it comes with its ticket.
    #[inline(never)]
    fn take_from(
        &self,
        mut outbox: MutexGuard<'_, Outbox<M>>,
        (has_ended, _ended): (bool, Option<Arc<dyn Ticket>>),
        may_run: bool,
        next: &mut Tray<M>,
        clock: &dyn Clock,
    ) -> Take<M> {
        let mut leftovers = Vec::new();
        let mut punctual = Punctual::new(clock);
        // Bytes are free since that one is over, and senders may wait for nothing else.
        let told = if outbox.accounts.weighs() && !outbox.line.is_empty() {
            self.admit(&mut outbox, &mut self.inbox.0.lock())
        } else {
            Told::nothing()
        };
        let activate = self.gather(&mut outbox, clock);
        loop {
            if may_run {
                match outbox.order.pop_to_run(None, &mut punctual, &mut leftovers) {
                    Popped::Message(entry, others) => {
                        let ticket = entry.message.ticket();
                        let key = ticket.as_ref().map(TicketKey::of);
                        let bytes = outbox.accounts.weight(&entry.message);
                        outbox.accounts.run(ticket, bytes);
                        for other in &others.entries {
                            let bytes = outbox.accounts.weight(&other.message);
                            outbox.accounts.run(other.message.ticket(), bytes);
                        }
                        outbox.accounts.fail(others.expired, Failure::Expired);
                        let lane = lane(&entry.message).cloned();
                        *next = Tray::of(entry);
                        return Take {
                            others: others.entries,
                            key,
                            lane,
                            bytes,
                            activate,
                            alarm: outbox.set_alarm(clock),
                            told: told.and(self.release_admitting(outbox)),
                            _ended,
                            ..Take::of(TakeResult::Next, leftovers)
                        };
                    }
                    Popped::Expired => {
                        outbox.accounts.fail(1, Failure::Expired);
                        return Take {
                            activate,
                            told: told.and(self.release_admitting(outbox)),
                            _ended,
                            ..Take::of(TakeResult::Expired, leftovers)
                        };
                    }
                    Popped::Nothing => {}
                }
            } else if !outbox.order.is_empty() {
                return Take {
                    activate,
                    told,
                    _ended,
                    ..Take::of(TakeResult::More, leftovers)
                };
            }
            let mut guard = self.inbox.0.lock();
            let inbox = &mut *guard;
            inbox.admission.see(&outbox.accounts);
            if inbox.queue.is_empty() || inbox.active > inbox.limit {
                if let Some(last) = inbox.take_last() {
                    *next = Tray::of(last);
                    return Take {
                        activate,
                        told,
                        _ended,
                        ..Take::of(TakeResult::Last, leftovers)
                    };
                }
                if outbox.order.is_spent()
                    && let Some(shedding) = &mut inbox.shedding
                {
                    shedding.rest();
                }
                let publishing = has_ended || !leftovers.is_empty();
                inbox.publishing += usize::from(publishing);
                self.give_back(inbox);
                return Take {
                    found: TakeResult::Idle,
                    leftovers,
                    roomy: outbox.order.is_roomy(&inbox.queue),
                    publishing,
                    told,
                    others: Vec::new(),
                    key: None,
                    lane: None,
                    bytes: 0,
                    activate,
                    alarm: outbox.set_alarm(clock),
                    was_held: outbox.let_go_if_awake(),
                    _ended,
                };
            }
            if !may_run {
                return Take {
                    activate,
                    told,
                    _ended,
                    ..Take::of(TakeResult::More, leftovers)
                };
            }
            outbox.refill(inbox, clock);
            outbox.sample(inbox);
        }
    }

    /// Takes in what was pushed since, and wakes what has slept long enough, where the order is by plans. Returns the tokens
    /// handed out for what slept.
    #[inline]
    pub(super) fn gather(&self, outbox: &mut Outbox<M>, clock: &dyn Clock) -> usize {
        if !outbox.order.looks() {
            return 0;
        }
        // Swapped under the senders' lock, and looked through when that is free again.
        let mut inbox = self.inbox.0.lock();
        if !inbox.queue.is_empty() {
            outbox.sample(&mut inbox);
        }
        outbox.fetch(&mut inbox);
        inbox.admission.see(&outbox.accounts);
        let is_full = inbox.admission.room() == 0;
        drop(inbox);
        let woken = outbox.order.take_in(clock) + outbox.order.set_full(is_full);
        if woken == 0 {
            return 0;
        }
        self.inbox.0.lock().activate(woken)
    }

    /// The timers' thread comes by: what has slept long enough may run.
    pub(crate) fn nudge(&self, clock: &dyn Clock) -> Nudged {
        let mut outbox = self.outbox.0.lock();
        let was_held = outbox.take_alarm();
        let mut inbox = self.inbox.0.lock();
        outbox.refill(&mut inbox, clock);
        let ready = outbox.order.len();
        Nudged {
            activate: inbox.activate(ready),
            alarm: outbox.set_alarm(clock),
            was_held,
        }
    }

    /// The timers' thread does come by, unless that is over already: has `hold` called then, once until it has, and keeps what that returns.
    pub(crate) fn hold_for_alarm(&self, hold: impl FnOnce() -> Arc<dyn Any + Send + Sync>) {
        let mut outbox = self.outbox.0.lock();
        if outbox.alarm.is_some() && outbox.alarm_held.is_none() {
            // Under the lock, so that the thread that comes by finds it done.
            outbox.alarm_held = Some(hold());
        }
    }

    /// The timers' thread does not come by. Returns what is held for it.
    pub(crate) fn forget_alarm(&self) -> AlarmHold {
        self.outbox.0.lock().take_alarm()
    }

    /// Messages of that weight were dropped that did not run. Returns the parked posts that went in for them.
    pub(crate) fn let_go(&self, bytes: u64) -> Told<M> {
        let mut outbox = self.outbox.0.lock();
        outbox.accounts.let_go(bytes);
        self.release_admitting(outbox)
    }

    /// Gives large buffers back to the allocator, if there is nothing to do. For a thread that is about to sleep: one
    /// that finds work again in a moment would only have them made anew.
    pub(crate) fn shrink(&self) {
        let mut outbox = self.outbox.0.lock();
        let mut inbox = self.inbox.0.lock();
        if inbox.active == 0 {
            outbox.order.shrink(&mut inbox.queue);
        }
    }

    /// See [`Address::time_all`](crate::Address::time_all).
    pub(crate) fn time_all(&self, on: bool) {
        self.inbox.0.lock().time_all(on);
    }

    /// The messages that a turn ended before it gave its token back are published: a thread that waits for the
    /// mailbox to settle finds the replies standing.
    pub(crate) fn published(&self) {
        let mut inbox = self.inbox.0.lock();
        inbox.publishing -= 1;
        if inbox.watchers > 0 && inbox.publishing == 0 {
            self.settled.notify_all();
        }
    }

    pub(super) fn give_back(&self, inbox: &mut Inbox<M>) {
        if inbox.give_back() {
            self.settled.notify_all();
        }
    }
}
