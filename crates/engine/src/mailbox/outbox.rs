//! The outbox: the worker's side of a mailbox.

use std::any::Any;
use std::sync::Arc;

use super::accounts::Accounts;
use super::entry::{Finished, Spot, TicketKey};
use super::inbox::{Inbox, SAMPLE_UNDER_LOAD};
use super::line::SenderLine;
use super::order::Order;
use crate::clock::{Clock, Timestamp};
use crate::key::Key;
use crate::message::{Message, Ticket};
use crate::plan::{Meter, Plan};

/// Keeps a worker alive whose messages sleep, though its owner has let go of it.
pub(crate) type AlarmHold = Option<Arc<dyn Any + Send + Sync>>;

/// The lane in which a message waits, where that is not the common one.
pub(super) fn lane(message: &impl Message) -> Option<&Key> {
    message.plan().and_then(Plan::lane)
}

pub(super) struct Outbox<M> {
    pub(super) order: Order<M>,
    pub(super) accounts: Accounts,
    /// When the first of those was posted that were taken in last.
    since: Option<Timestamp>,
    /// Posts that wait for a place.
    pub(super) line: SenderLine<M>,
    /// Threads that look through what was taken back, and tokens that are used once they are through.
    pub(super) held: usize,
    pub(super) waiting_tokens: usize,
    /// When the timers' thread comes by, where it was asked to.
    pub(super) alarm: Option<Timestamp>,
    /// See [`Mailbox::hold_for_alarm`](super::Mailbox::hold_for_alarm).
    pub(super) alarm_held: AlarmHold,
    /// Threads that have taken messages and have yet to hand them over.
    pub(super) handing: usize,
}

impl<M: Message> Outbox<M> {
    pub(super) fn new(meter: Option<Meter>, weighs: bool) -> Self {
        Self {
            order: Order::new(meter),
            accounts: Accounts::new(weighs),
            since: None,
            line: SenderLine::new(),
            held: 0,
            waiting_tokens: 0,
            alarm: None,
            alarm_held: None,
            handing: 0,
        }
    }

    /// Takes in what senders have pushed: see [`Order::take_in`].
    #[inline]
    pub(super) fn refill(&mut self, inbox: &mut Inbox<M>, clock: &dyn Clock) -> usize {
        self.fetch(inbox);
        self.order.take_in(clock)
    }

    /// The first half of that, for which the senders' lock is held: see [`Order::fetch`].
    #[inline]
    pub(super) fn fetch(&mut self, inbox: &mut Inbox<M>) {
        self.since = inbox.since;
        let has_more = self.order.has_any();
        let door = inbox.door.as_mut();
        let is_even = door.is_some_and(|door| door.opens(has_more));
        self.order.fetch(&mut inbox.queue, is_even);
    }

    /// Says how many of the messages that are posted from now on are timed: while handlers are slow, all.
    #[inline]
    pub(super) fn sample(&self, inbox: &mut Inbox<M>) {
        inbox.sample(if self.accounts.is_slow() {
            1
        } else {
            SAMPLE_UNDER_LOAD
        });
    }

    /// When the first of those was posted that were taken in last.
    pub(super) const fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// When the message was posted that has waited longest, here or in the inbox: known to within a batch.
    pub(super) fn oldest(&self, inbox: &Inbox<M>) -> Option<Timestamp> {
        let here = || self.order.oldest_here(self.since);
        let there = || {
            let (_, posted) = inbox.queue.front()?;
            posted.or(inbox.since)
        };
        self.accounts.oldest_ahead().or_else(here).or_else(there)
    }

    /// A message that ran has ended. Returns its ticket, to be dropped outside the lock.
    #[inline]
    pub(super) fn end(&mut self, finished: &Finished<'_, M>) -> Option<Arc<dyn Ticket>> {
        self.end_at(finished, None)
    }

    /// The same, at `spot` where that is known.
    #[inline]
    pub(super) fn end_at(
        &mut self,
        finished: &Finished<'_, M>,
        spot: Option<Spot>,
    ) -> Option<Arc<dyn Ticket>> {
        self.order.ended(lane(finished.message), spot);
        self.accounts.end(finished)
    }

    /// The same for one whose handler unwound; these are what is left of it.
    pub(super) fn end_unwound(
        &mut self,
        key: Option<TicketKey>,
        lane: Option<&Key>,
        bytes: u64,
    ) -> Option<Arc<dyn Ticket>> {
        self.order.ended(lane, None);
        self.accounts.end_unwound(key, bytes)
    }

    /// When the timers' thread is to come by, unless it comes by then anyway.
    #[inline]
    pub(super) fn set_alarm(&mut self, clock: &dyn Clock) -> Option<Timestamp> {
        let at = self.order.look_at(clock)?;
        if self.alarm.is_some_and(|known| known <= at) {
            return None;
        }
        self.alarm = Some(at);
        Some(at)
    }

    /// What is held for the timers' thread, where nothing sleeps any more for which it would come by.
    pub(super) fn let_go_if_awake(&mut self) -> AlarmHold {
        if self.order.has_sleepers() {
            None
        } else {
            self.take_alarm()
        }
    }

    /// The timers' thread is not to come by, or has. Returns what is held for it, to be dropped outside the lock.
    pub(super) fn take_alarm(&mut self) -> AlarmHold {
        self.alarm = None;
        std::mem::take(&mut self.alarm_held)
    }
}
