//! A worker, whatever its messages are: what pools, waits and deadlines know of it, and the address that users hold.

#[path = "address/waits.rs"]
mod waits;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

use crate::health::Health;
use crate::message::Ticket;
use crate::stats::{Numbers, WorkerState, WorkerStats};
use crate::tally::TypeStats;
use crate::wait_error::WaitError;
use crate::wake::Wake;

pub(crate) use waits::{Edge, Edges, MailboxWaits};

/// How a turn ended.
pub(crate) enum TurnEnd {
    /// The budget is used up; the worker goes to the back of the run queue.
    More,
    /// The token was given back, or went elsewhere. `roomy`: the worker may give memory back before the thread sleeps.
    Done { wake: Wake, roomy: bool },
}

/// A worker, whatever its messages are.
pub(crate) trait AnyCell: Send + Sync {
    fn id(&self) -> u64;
    fn name(&self) -> &str;
    /// It is a pool's own mailbox.
    fn is_pool(&self) -> bool;
    fn state(&self) -> WorkerState;
    /// Its numbers at one instant.
    fn numbers(&self) -> Numbers;
    fn stats(&self) -> WorkerStats;
    fn type_stats(&self) -> BTreeMap<String, TypeStats>;
    /// Messages that became dead letters.
    fn dead(&self) -> u64;
    /// How it fares, and why.
    fn health(&self) -> Health;
    fn time_all(&self, on: bool);
    /// Handles one message at a time.
    fn is_exclusive(&self) -> bool;
    fn edges(&self) -> &Edges;
    fn is_terminated(&self) -> bool;
    fn run_turn(self: Arc<Self>) -> TurnEnd;
    fn expire(&self, tickets: Vec<Arc<dyn Ticket>>);
    fn cancel(&self, ticket: &Arc<dyn Ticket>) -> bool;
    /// The same of a message that no handler has begun.
    fn withdraw(&self, ticket: &Arc<dyn Ticket>) -> bool;
    /// Looks at what sleeps in its mailbox: it is time.
    fn nudge(&self);
    /// Gives memory back, if there is nothing to do.
    fn shrink(&self);
    /// Where it runs several messages: one more is to run at the same time (`more`), or one less. Returns what is to be
    /// given to [`AnyCell::activate_places`], which takes other locks and may start a thread.
    fn lend_place(&self, more: bool) -> usize;
    fn activate_places(&self, places: usize);
    /// A thread that runs its handler is about to wait: the pool makes up for it with another one.
    fn block(&self) -> Result<(), WaitError>;
    /// The thread goes on, after [`AnyCell::block`].
    fn unblock(&self);
    /// One of its threads is about to wait (`more`), or goes on.
    fn lend(&self, more: bool) {
        let places = self.lend_place(more);
        self.activate_places(places);
    }
}

/// Where a message was sent: enough to wait for its reply and to cancel it.
#[derive(Clone)]
pub struct Address(pub(crate) Arc<dyn AnyCell>);

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Address").field(&self.name()).finish()
    }
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        self.0.id() == other.0.id()
    }
}

impl Eq for Address {}

impl Address {
    /// The worker's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// Its number, which no other worker of the program has or had.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.0.id()
    }

    /// Whether it is a pool's own mailbox.
    #[must_use]
    pub fn is_pool(&self) -> bool {
        self.0.is_pool()
    }

    /// What the worker is doing.
    #[must_use]
    pub fn state(&self) -> WorkerState {
        self.0.state()
    }

    /// How the worker fares, and why.
    #[must_use]
    pub fn health(&self) -> Health {
        self.0.health()
    }

    /// Has every message timed that is posted from now on, also where handlers are quick: see
    /// [`TimingStats`](crate::TimingStats). With `false`, as many as before.
    pub fn time_all(&self, on: bool) {
        self.0.time_all(on);
    }

    /// Its numbers at one instant, without the timings: for readers of many workers.
    #[must_use]
    pub fn numbers(&self) -> Numbers {
        self.0.numbers()
    }

    /// Its numbers at one instant.
    #[must_use]
    pub fn stats(&self) -> WorkerStats {
        self.0.stats()
    }

    /// What became of its messages that a handler began, by type; empty where the handler keeps no tallies. Waits for no
    /// handler.
    #[must_use]
    pub fn type_stats(&self) -> BTreeMap<String, TypeStats> {
        self.0.type_stats()
    }

    /// How many of its messages became dead letters.
    #[must_use]
    pub fn dead(&self) -> u64 {
        self.0.dead()
    }

    /// The same without keeping the worker.
    #[must_use]
    pub fn downgrade(&self) -> WeakAddress {
        WeakAddress(Arc::downgrade(&self.0))
    }

    /// Whether it handles one message at a time.
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        self.0.is_exclusive()
    }

    /// Whether [`Worker::terminate`](crate::Worker::terminate) was called.
    #[must_use]
    pub fn is_terminated(&self) -> bool {
        self.0.is_terminated()
    }

    /// Cancels a message. True: it was still queued, is out of the mailbox, and its reply says
    /// [`Failure::Cancelled`](crate::Failure::Cancelled). False: it runs, and was asked to stop; or it is over.
    #[must_use]
    pub fn cancel(&self, ticket: &Arc<dyn Ticket>) -> bool {
        self.0.cancel(ticket)
    }

    /// Cancels a message that no handler has begun, and leaves one alone that runs. True: it was queued, is out of the
    /// mailbox, and its reply says [`Failure::Cancelled`](crate::Failure::Cancelled).
    #[must_use]
    pub fn withdraw(&self, ticket: &Arc<dyn Ticket>) -> bool {
        self.0.withdraw(ticket)
    }
}

/// Where a message was sent, as long as there is the worker.
#[derive(Clone)]
pub struct WeakAddress(Weak<dyn AnyCell>);

impl fmt::Debug for WeakAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakAddress").finish_non_exhaustive()
    }
}

impl WeakAddress {
    /// The address, unless the worker is gone.
    #[must_use]
    pub fn upgrade(&self) -> Option<Address> {
        self.0.upgrade().map(Address)
    }
}
