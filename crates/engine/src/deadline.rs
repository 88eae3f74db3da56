//! Deadlines of a pool, which a thread of the program watches from the first one on ([`Timers`](crate::Timers)).
//!
//! That needs nothing that a handler may hold (an interpreter lock, say) to mark a worker stuck and to settle a reply.
//!
//! It may be late, with many deadlines that pass together or for want of a core. So a thread that takes a message to run it
//! looks at its deadline too: one that has passed in the queue is not run.
//!
//! Messages mostly end long before their deadline, and their entries stay. While there are many, the thread looks at a
//! few of them now and then, and sweeps where most are of ended messages.

use std::cmp::Ordering as Order;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::address::AnyCell;
use crate::clock::Timestamp;
use crate::contained::{contained, drop_each};
use crate::message::Ticket;
use crate::sync::Mutex;

/// Entries below this number are not swept for tickets that were settled in time.
const SWEEP_FROM: usize = 1024;

/// How long the thread waits between two looks at many entries.
const SWEEP_PAUSE: Duration = Duration::from_millis(250);
/// How many entries it looks at, to learn whether most are of ended messages.
const SAMPLE: usize = 64;

/// The tickets of one worker whose deadline has passed, and whether it is to look at what sleeps in its mailbox.
type DueOfOne = (Arc<dyn AnyCell>, Vec<Arc<dyn Ticket>>, bool);

/// Is told of a time of a pool's clock: see [`Pool::set_timer`](crate::Pool::set_timer).
pub trait Timer: Send + Sync + 'static {
    /// Its time has come. Called with no engine lock held, on the thread that watches deadlines: those of the same pool
    /// wait until it returns. It may set itself again.
    fn elapsed(self: Arc<Self>);
}

/// Tickets whose deadline has passed, by worker: what is done for all of a worker at once is not done for each. And the
/// timers, in the order of their times.
#[derive(Default)]
pub(crate) struct Due {
    workers: Vec<DueOfOne>,
    places: HashMap<u64, usize>,
    timers: Vec<Arc<dyn Timer>>,
    /// The time of something had come, be its message over or not.
    pub(crate) found: bool,
}

/// What a new deadline calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    /// To have the pool watched, or say [`Deadlines::watch_failed`]: it is the first one.
    First,
    /// To have it looked at by then: it is the next one.
    Next,
    /// To have it looked at now: there are many, and most may be of messages that are over.
    Many,
    Later,
}

impl Due {
    /// Takes a ticket in, or, with `None`, an alarm. Returns the worker if it is known already: its end may not come under
    /// a lock.
    fn add(
        &mut self,
        cell: Arc<dyn AnyCell>,
        ticket: Option<Arc<dyn Ticket>>,
    ) -> Option<Arc<dyn AnyCell>> {
        let place = *self.places.entry(cell.id()).or_insert(self.workers.len());
        let alarm = ticket.is_none();
        match self.workers.get_mut(place) {
            Some((_, tickets, alarms)) => {
                tickets.extend(ticket);
                *alarms |= alarm;
                Some(cell)
            }
            None => {
                self.workers
                    .push((cell, ticket.into_iter().collect(), alarm));
                None
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.workers.is_empty() && self.timers.is_empty()
    }

    /// Ends the messages, has workers look at what sleeps in their mailboxes, and tells timers. Runs code of users.
    pub(crate) fn expire(self) {
        for (cell, tickets, alarm) in self.workers {
            let _ = contained(move || {
                if !tickets.is_empty() {
                    cell.expire(tickets);
                }
                if alarm {
                    cell.nudge();
                }
            });
        }
        for timer in self.timers {
            let _ = contained(move || timer.elapsed());
        }
    }
}

struct Deadline {
    at: Timestamp,
    /// The message that expires; `None`: the worker is to look at what sleeps in its mailbox.
    ticket: Option<Weak<dyn Ticket>>,
    cell: Weak<dyn AnyCell>,
}

impl Deadline {
    /// Whether its message is over. The ticket goes to `looked_at`: see [`Deadlines::add`].
    fn is_over(&self, looked_at: &mut Vec<Arc<dyn Ticket>>) -> bool {
        let Some(ticket) = &self.ticket else {
            return self.cell.strong_count() == 0;
        };
        if ticket.strong_count() == 0 {
            return true;
        }
        let Some(ticket) = ticket.upgrade() else {
            return true;
        };
        let over = ticket.state().is_done();
        looked_at.push(ticket);
        over
    }
}

impl PartialEq for Deadline {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Deadline {}

impl PartialOrd for Deadline {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        Some(self.cmp(other))
    }
}

impl Ord for Deadline {
    /// Earlier is greater: the heap's top is the next deadline.
    fn cmp(&self, other: &Self) -> Order {
        other.at.cmp(&self.at)
    }
}

#[derive(Default)]
struct State {
    heap: BinaryHeap<Deadline>,
    sweep_at: usize,
    /// Apart from the heap, whose entries are as small as they can be.
    timers: BTreeMap<(Timestamp, u64), Weak<dyn Timer>>,
    /// Tells timers of one time apart, in their order.
    next_timer: u64,
    /// Timers below this number are not swept for those that are gone.
    sweep_timers_at: usize,
    /// When to look at many entries next.
    look_at: Option<Timestamp>,
    watched: bool,
    shutdown: bool,
}

impl State {
    /// The next time at which there is something to do.
    fn next(&self) -> Option<Timestamp> {
        let timer = self.timers.first_key_value().map(|((at, _), _)| *at);
        let entry = self.heap.peek().map(|next| next.at);
        [timer, entry].into_iter().flatten().min()
    }

    /// Drops the entries of messages that are over.
    fn sweep(&mut self, looked_at: &mut Vec<Arc<dyn Ticket>>) {
        self.heap.retain(|entry| !entry.is_over(looked_at));
        self.heap.shrink_to(self.heap.len() * 2);
        self.sweep_at = self.heap.len() * 2;
    }

    /// Whether most entries are of messages that are over, as far as a few of them show.
    fn is_mostly_over(&self, looked_at: &mut Vec<Arc<dyn Ticket>>) -> bool {
        let step = (self.heap.len() / SAMPLE).max(1);
        let sample: Vec<bool> = self
            .heap
            .iter()
            .step_by(step)
            .map(|entry| entry.is_over(looked_at))
            .collect();
        sample.iter().filter(|over| **over).count() * 2 > sample.len()
    }
}

#[derive(Default)]
pub(crate) struct Deadlines {
    state: Mutex<State>,
}

impl fmt::Debug for Deadlines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deadlines").finish_non_exhaustive()
    }
}

impl Deadlines {
    /// Remembers a deadline.
    ///
    /// `ticket`: the message that expires; `None`: the worker is to look at what sleeps in its mailbox.
    pub(crate) fn add(
        &self,
        at: Timestamp,
        ticket: Option<&Arc<dyn Ticket>>,
        cell: &Arc<dyn AnyCell>,
    ) -> Added {
        // A ticket looked at may be the last reference to a reply or to a pool, whose end locks this very state.
        let mut looked_at: Vec<Arc<dyn Ticket>> = Vec::new();
        let mut state = self.state.lock();
        if state.heap.len() >= state.sweep_at.max(SWEEP_FROM) {
            // Most messages are settled long before their deadline; each sweep at least halves what is kept, or
            // doubles the mark of the next one.
            state.sweep(&mut looked_at);
        }
        let first = state.next().is_none_or(|next| at < next);
        state.heap.push(Deadline {
            at,
            ticket: ticket.map(Arc::downgrade),
            cell: Arc::downgrade(cell),
        });
        if !state.watched && !state.shutdown {
            state.watched = true;
            Added::First
        } else if state.watched && state.heap.len() == SWEEP_FROM {
            Added::Many
        } else if state.watched && first {
            Added::Next
        } else {
            Added::Later
        }
    }

    /// Remembers a timer. `Added::Many` is for messages alone.
    pub(crate) fn add_timer(&self, at: Timestamp, timer: &Arc<dyn Timer>) -> Added {
        let mut state = self.state.lock();
        if state.timers.len() >= state.sweep_timers_at.max(SWEEP_FROM) {
            // To let go of a weak reference runs no code.
            state.timers.retain(|_, timer| timer.strong_count() > 0);
            state.sweep_timers_at = state.timers.len() * 2;
        }
        let first = state.next().is_none_or(|next| at < next);
        let number = state.next_timer;
        state.next_timer += 1;
        state.timers.insert((at, number), Arc::downgrade(timer));
        if !state.watched && !state.shutdown {
            state.watched = true;
            Added::First
        } else if state.watched && first {
            Added::Next
        } else {
            Added::Later
        }
    }

    /// The pool could not be watched.
    pub(crate) fn watch_failed(&self) {
        self.state.lock().watched = false;
    }

    /// No deadlines are watched from now on. Says whether they were.
    pub(crate) fn shutdown(&self) -> bool {
        let mut state = self.state.lock();
        state.shutdown = true;
        std::mem::take(&mut state.watched)
    }

    /// Takes out what is due at `now`.
    pub(crate) fn take_due(&self, now: Timestamp) -> Due {
        let mut due = Due::default();
        // See `add`.
        let mut looked_at = Vec::new();
        {
            let mut state = self.state.lock();
            while state.heap.peek().is_some_and(|next| next.at <= now) {
                let Some(entry) = state.heap.pop() else { break };
                due.found = true;
                let is_alarm = entry.ticket.is_none();
                let ticket = entry.ticket.as_ref().and_then(Weak::upgrade);
                let (ticket, cell) = match (ticket, entry.cell.upgrade()) {
                    (None, Some(cell)) if is_alarm => (None, cell),
                    (Some(ticket), Some(cell)) if !ticket.state().is_done() => (Some(ticket), cell),
                    settled => {
                        looked_at.push(settled);
                        continue;
                    }
                };
                if let Some(known) = due.add(cell, ticket) {
                    looked_at.push((None, Some(known)));
                }
            }
            while let Some(timer) = state.timers.first_entry() {
                if timer.key().0 > now {
                    break;
                }
                due.found = true;
                due.timers.extend(timer.remove().upgrade());
            }
        }
        drop_each(looked_at);
        due
    }

    /// How long until there is something to look at. `None`: there is nothing.
    pub(crate) fn next_look(&self, now: Timestamp) -> Option<Duration> {
        let state = self.state.lock();
        let next = [state.next(), state.look_at];
        next.into_iter().flatten().min().map(|next| next.since(now))
    }

    /// Sweeps, if it is time to look and most entries are of messages that are over.
    pub(crate) fn sweep_if_mostly_over(&self, now: Timestamp) {
        // See `add`.
        let mut looked_at = Vec::new();
        let mut state = self.state.lock();
        if state.heap.len() < SWEEP_FROM {
            state.look_at = None;
            return;
        }
        if state.look_at.is_none_or(|at| at <= now) {
            // Not at the first look: the burst that it comes with may be under way.
            if state.look_at.is_some() && state.is_mostly_over(&mut looked_at) {
                state.sweep(&mut looked_at);
            }
            state.look_at = Some(now.after(SWEEP_PAUSE));
        }
        drop(state);
        drop_each(looked_at);
    }
}
