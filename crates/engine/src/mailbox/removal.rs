//! Removal: how messages leave that do not run. One by one, cancelled or expired; or all, where a mailbox closes.

use std::sync::Arc;

use super::Mailbox;
use super::entry::Leftover;
use super::inbox::{Gate, Inbox, Settled};
use super::line::Told;
use super::outbox::AlarmHold;
use crate::message::{Message, Ticket};
use crate::outcome::Failure;

/// What is to happen with the queued messages of a mailbox that closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    Run,
    Fail(Failure),
}

/// What became of the messages of a mailbox that was closed or emptied.
pub(crate) struct Swept<M> {
    pub(crate) leftovers: Vec<Leftover<M>>,
    pub(crate) told: Told<M>,
    /// Nothing sleeps any more, and something was held for it: see [`Mailbox::hold_for_alarm`].
    pub(crate) was_held: AlarmHold,
    /// Tokens handed out: the worker enters the run queue this many times.
    pub(crate) activate: usize,
    /// The last message of a mailbox that was never opened.
    pub(crate) never_runs: Option<M>,
    /// That of one that has had its last message already.
    pub(crate) unused: Option<M>,
}

/// What [`Mailbox::remove`] did.
pub(crate) struct Removal<M> {
    /// The tickets of the messages that it claimed: the caller settles their replies.
    pub(crate) removed: Vec<Arc<dyn Ticket>>,
    /// Those of messages that were not queued.
    pub(crate) elsewhere: Vec<Arc<dyn Ticket>>,
    pub(crate) leftovers: Vec<Leftover<M>>,
    pub(crate) told: Told<M>,
    /// As of [`Swept`].
    pub(crate) was_held: AlarmHold,
    /// As of [`Swept`]: to have the last message run, where those that are gone were all that it waited for.
    pub(crate) activate: usize,
}

impl<M: Message> Mailbox<M> {
    /// Takes out what is queued, to be failed by the caller, and stays open.
    pub(crate) fn fail_queued(&self, failure: Failure) -> Swept<M> {
        self.sweep(|_| Some(failure))
    }

    /// Refuses posts from now on, those that are parked included. Queued messages are run, or come back as leftovers, as
    /// those do that are delayed, in any case; a
    /// mailbox that was never opened has no thread to run it, so there it always comes back. `last` runs when all
    /// others are over, if it `runs` at all; else it comes back.
    pub(crate) fn close(&self, rest: Rest, last: Option<M>, runs: bool) -> Swept<M> {
        let (mut last, mut never_runs) = (last, None);
        let mut swept = self.sweep(|inbox| {
            let rest = if inbox.gate == Gate::Paused && rest == Rest::Run {
                Rest::Fail(Failure::Stopped)
            } else {
                rest
            };
            match inbox.gate {
                Gate::Open if runs => inbox.last = last.take(),
                Gate::Open | Gate::Paused => never_runs = last.take(),
                Gate::Closed => {}
            }
            inbox.gate = Gate::Closed;
            let Rest::Fail(failure) = rest else {
                return None;
            };
            inbox.failing = Some(failure);
            Some(failure)
        });
        swept.never_runs = never_runs;
        swept.unused = last;
        swept
    }

    /// Takes out what is queued, if `decide` says how it fails.
    fn sweep(&self, decide: impl FnOnce(&mut Inbox<M>) -> Option<Failure>) -> Swept<M> {
        let mut leftovers = Vec::new();
        let mut activate = 0;
        let mut outbox = self.outbox.0.lock();
        let mut inbox = self.inbox.0.lock();
        if let Some(failure) = decide(&mut inbox) {
            let queue = &mut inbox.queue;
            while let Some(entry) = outbox.order.pop_oldest(queue, &mut leftovers) {
                outbox.accounts.fail(1, failure);
                leftovers.push((entry.message, failure));
            }
        } else if inbox.gate == Gate::Closed {
            let queue = &mut inbox.queue;
            for entry in outbox.order.take_delayed(queue, &mut leftovers) {
                outbox.accounts.fail(1, Failure::Stopped);
                leftovers.push((entry.message, Failure::Stopped));
            }
            outbox.order.hurry(&mut inbox.queue);
            // Those behind one that slept have no token yet.
            activate = inbox.activate(outbox.order.len());
        }
        let was_held = outbox.let_go_if_awake();
        let told = self.admit(&mut outbox, &mut inbox);
        activate += inbox.activate_for_last();
        drop(inbox);
        drop(outbox);
        self.settled.notify_all();
        Swept {
            leftovers,
            told,
            was_held,
            activate,
            never_runs: None,
            unused: None,
        }
    }

    /// Claims queued messages for removal because they were cancelled or expired.
    pub(crate) fn remove(&self, tickets: Vec<Arc<dyn Ticket>>, expired: bool) -> Removal<M> {
        let mut leftovers = Vec::new();
        let mut outbox = self.outbox.0.lock();
        // In one go: as many may have been queued as the mailbox holds.
        let (removed, elsewhere): (Vec<_>, Vec<_>) = tickets
            .into_iter()
            .partition(|ticket| ticket.state().claim_removed(expired));
        if removed.is_empty() {
            return Removal {
                removed,
                elsewhere,
                leftovers,
                told: Told::nothing(),
                was_held: None,
                activate: 0,
            };
        }
        outbox.accounts.fail(
            removed.len(),
            if expired {
                Failure::Expired
            } else {
                Failure::Cancelled
            },
        );
        let mut inbox = self.inbox.0.lock();
        inbox.admission.see(&outbox.accounts);
        let buried = removed.len();
        let queue = &mut inbox.queue;
        outbox.order.bury(buried, queue, &mut leftovers);
        if inbox.is_settled(Settled::Idle) && inbox.watchers > 0 {
            self.settled.notify_all();
        }
        let told = self.admit(&mut outbox, &mut inbox);
        let activate = inbox.activate_for_last();
        Removal {
            removed,
            elsewhere,
            leftovers,
            told,
            was_held: outbox.let_go_if_awake(),
            activate,
        }
    }
}
