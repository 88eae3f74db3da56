//! A cell: a mailbox, a handler, and the turns in which a pool thread runs the one over the other.
//!
//! It is what the handle of a worker, its futures and the run queue share.
//!
//! Past 600 lines, because each of those has its methods here, over the same fields.

use std::collections::BTreeMap;
use std::sync::atomic;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::Handler;
use super::overruns::Overruns;
use crate::address::{AnyCell, Edges, TurnEnd};
use crate::clock::Timestamp;
use crate::contained::{contained, drop_each};
use crate::exit::Exits;
use crate::health::{Condition, Health, HealthState, Over, Signs};
use crate::mailbox::{
    AlarmHold, Gate, Leftover, Limits, Mailbox, MailboxSnapshot, News, Removal, Settled, Shed,
    Swept, Told,
};
use crate::message::Ticket;
use crate::options::WorkerOptions;
use crate::outcome::{DropReason, Failure};
use crate::plan::{Meter, Rate};
use crate::pool::Pool;
use crate::stats::{Numbers, Timings, WorkerState, WorkerStats};
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering};
use crate::tally::TypeStats;
use crate::wait_error::WaitError;
use crate::wake::Wake;

static NEXT_ID: atomic::AtomicU64 = atomic::AtomicU64::new(0);

/// The times of a worker.
#[derive(Clone, Copy)]
pub(crate) struct Life {
    made: Timestamp,
    pub(crate) started: Option<Timestamp>,
    pub(crate) closed: Option<Timestamp>,
    /// When it was seen to have ended.
    pub(crate) ended: Option<Timestamp>,
}

impl Life {
    const fn new(made: Timestamp) -> Self {
        Self {
            made,
            started: None,
            closed: None,
            ended: None,
        }
    }
}

/// What a cell is to its pool.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// One of its workers.
    Worker,
    /// Its own mailbox.
    Own,
    /// A worker for the engine's own ends, of which no list of workers tells.
    Hidden,
}

pub(crate) struct Cell<H: Handler> {
    id: u64,
    pub(crate) name: String,
    role: Role,
    pub(crate) exclusive: bool,
    pub(crate) concurrency: usize,
    pub(crate) shed: Option<Shed>,
    pub(crate) rate: Option<Rate>,
    pub(crate) byte_limit: Option<u64>,
    pub(crate) mailbox: Mailbox<H::Message>,
    pub(crate) handler: H,
    pub(crate) pool: Pool,
    edges: Edges,
    /// When a deadline passed that its handler runs past, in nanoseconds since the clock's start and one more; 0: it runs past
    /// none.
    stuck_since: AtomicU64,
    pub(crate) overruns: Overruns,
    pub(crate) terminated: AtomicBool,
    pub(crate) exits: Exits,
    pub(crate) life: Mutex<Life>,
    own: Weak<Self>,
}

impl<H: Handler> Cell<H> {
    /// A worker of `pool`, or its own mailbox, which runs as many messages at the same time as the pool has threads.
    ///
    /// # Panics
    /// When `options.capacity` or `options.concurrency` is 0.
    pub(crate) fn new(
        name: &str,
        handler: H,
        options: WorkerOptions,
        pool: &Pool,
        role: Role,
    ) -> Arc<Self> {
        assert!(
            options.capacity > 0,
            "a mailbox needs room for at least one message"
        );
        assert!(
            options.concurrency > 0,
            "a worker that runs no message at a time never ends"
        );
        let is_own = role == Role::Own;
        let (concurrency, gate) = if is_own {
            (pool.size(), Gate::Open)
        } else {
            (options.concurrency, Gate::Paused)
        };
        // ORDERING: Relaxed, only uniqueness matters.
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let mut mailbox = Mailbox::new(
            options.capacity,
            options.overflow,
            concurrency,
            gate,
            Limits {
                meter: options.rate.map(Meter::new),
                bytes: options.bytes,
                shed: options.shed,
            },
        );
        if handler.keeps_times() {
            mailbox = mailbox.leave_times();
        }
        let cell = Arc::new_cyclic(|own| Self {
            id,
            name: name.to_owned(),
            role,
            exclusive: !is_own && concurrency == 1,
            concurrency,
            shed: options.shed,
            rate: options.rate,
            byte_limit: options.bytes,
            mailbox,
            handler,
            pool: pool.clone(),
            edges: Mutex::default(),
            stuck_since: AtomicU64::new(0),
            overruns: Overruns::new(options.stuck_after),
            terminated: AtomicBool::new(false),
            exits: Exits::default(),
            life: Mutex::new(Life::new(pool.inner().clock.now())),
            own: own.clone(),
        });
        if role != Role::Hidden {
            let weak: Weak<dyn AnyCell> = cell.own.clone();
            pool.inner().members.enter(id, weak);
        }
        cell
    }

    pub(crate) fn abandon_all(&self, leftovers: Vec<Leftover<H::Message>>) {
        let bytes = if self.mailbox.weighs() {
            self.weight_of(&leftovers)
        } else {
            0
        };
        for (message, failure) in leftovers {
            // The next one is waited for, too.
            let _ = contained(|| self.handler.abandon(message, failure));
        }
        if bytes > 0 {
            self.tell(self.mailbox.let_go(bytes));
        }
    }

    /// The bytes that are free once these are dropped. One that was dropped as the newest never had a place.
    #[cold]
    fn weight_of(&self, leftovers: &[Leftover<H::Message>]) -> u64 {
        leftovers
            .iter()
            .filter(|(_, failure)| *failure != Failure::Dropped(DropReason::Newest))
            .map(|(message, _)| self.mailbox.weight(message))
            .sum()
    }

    /// Deals with what came out of the mailbox. Returns how many messages that were.
    pub(crate) fn swept(&self, swept: Swept<H::Message>) -> usize {
        let count = swept.leftovers.len();
        self.abandon_all(swept.leftovers);
        let never_runs = swept.never_runs.into_iter();
        self.abandon_all(never_runs.map(|last| (last, Failure::Stopped)).collect());
        self.tell(swept.told);
        if let Some(own) = self.own.upgrade() {
            own.activate(swept.activate);
        }
        self.let_go(swept.was_held);
        drop_each([swept.unused]);
        self.look_for_end();
        count
    }

    /// Tells senders what became of their parked posts.
    #[inline]
    pub(crate) fn tell(&self, told: Told<H::Message>) {
        if let Some(news) = told.news() {
            self.tell_news(*news);
        }
    }

    #[cold]
    fn tell_news(&self, mut news: News<H::Message>) {
        if let Some(own) = self.own.upgrade() {
            let cell: Arc<dyn AnyCell> = own.clone();
            let pool = self.pool.inner();
            for (at, ticket) in news.deadlines.drain(..) {
                // Without the thread that watches it the message expires all the same, when a worker comes by it.
                let _ = pool.set_deadline(at, &ticket, &cell);
            }
            own.activate(news.activate);
        }
        self.abandon_all(std::mem::take(&mut news.replaced));
        news.tell();
    }

    /// Ends what [`Cell::wake_at`] holds until the timers' thread comes by. Not under a lock: it may be the last reference
    /// to this worker.
    pub(crate) fn let_go(&self, held: AlarmHold) {
        if held.is_some() {
            self.pool.inner().scheduler.suspended(false);
        }
    }

    /// Has the timers' thread come by, for what sleeps until a time.
    #[inline]
    pub(crate) fn set_alarm(self: &Arc<Self>, alarm: Option<Timestamp>) {
        if let Some(at) = alarm {
            self.wake_at(at);
        }
    }

    /// Counts as a suspended turn until the thread has come by: what sleeps is still to be handled.
    #[cold]
    fn wake_at(self: &Arc<Self>, at: Timestamp) {
        let pool = self.pool.inner();
        self.mailbox.hold_for_alarm(|| {
            pool.scheduler.suspended(true);
            self.clone()
        });
        let cell: Arc<dyn AnyCell> = self.clone();
        if pool.set_alarm(at, &cell).is_err() && self.mailbox.forget_alarm().is_some() {
            // There is no thread to be had. The next message looks again.
            pool.scheduler.suspended(false);
        }
    }

    /// Tells of the end of the worker, where it has come. To be called after each step that may be the last, with no lock
    /// held.
    #[inline]
    pub(crate) fn look_for_end(&self) {
        if self.exits.are_there() && self.mailbox.is_settled(Settled::Ended) {
            self.exits.call();
        }
    }

    pub(crate) fn clear_stuck(&self) {
        // ORDERING: Relaxed, a report for people; nothing is published by it.
        if self.stuck_since.load(Ordering::Relaxed) != 0 {
            self.stuck_since.store(0, Ordering::Relaxed);
        }
    }

    #[inline(never)]
    pub(crate) fn activate(self: &Arc<Self>, tokens: usize) {
        for _ in 0..tokens {
            if self.handler.carrier().is_some() {
                self.dispatch(None);
            } else {
                self.pool.inner().push(self.clone());
            }
        }
    }

    /// Its numbers at one instant.
    pub(crate) fn stats(&self) -> WorkerStats {
        let timings = if self.handler.keeps_times() {
            let mut sum = Timings::new();
            self.handler
                .tallies(&mut |tally| tally.add_times_to(&mut sum));
            sum.run.longest().map(|_| Box::new(sum))
        } else {
            self.mailbox.timings()
        };
        WorkerStats::of(&self.name, self.numbers(), timings)
    }

    /// The same without the timings.
    pub(crate) fn numbers(&self) -> Numbers {
        let carrier = self.handler.carrier();
        let carries = carrier.is_none_or(|carrier| carrier.condition() == Condition::Works);
        self.numbers_of(&self.snapshot(carries))
    }

    /// What is known of the mailbox. `carries`: messages that are with another process run there.
    fn snapshot(&self, carries: bool) -> MailboxSnapshot {
        self.mailbox.snapshot(&*self.pool.inner().clock, carries)
    }

    fn numbers_of(&self, snapshot: &MailboxSnapshot) -> Numbers {
        let Life { started, ended, .. } = *self.life.lock();
        let until = ended.unwrap_or(snapshot.now);
        Numbers {
            state: self.state_of(snapshot.gate, snapshot.ended),
            capacity: self.mailbox.capacity(),
            concurrency: self.concurrency,
            counters: snapshot.counters,
            oldest_age: snapshot.oldest.map(|posted| snapshot.now.since(posted)),
            busy: snapshot.busy,
            recently: snapshot.recently,
            alive: started.map_or(Duration::ZERO, |started| until.since(started)),
        }
    }

    /// How it fares, and why.
    pub(crate) fn health(&self) -> Health {
        let snapshot = self.snapshot(true);
        let life = *self.life.lock();
        let since = |at: Option<Timestamp>| snapshot.now.since(at.unwrap_or(life.made));
        let queued = snapshot.counters.queued;
        let (reason, lasted) = match self.state_of(snapshot.gate, snapshot.ended) {
            WorkerState::New if queued > 0 => {
                (format!("not started, {queued} queued"), since(None))
            }
            WorkerState::New => ("not started".to_owned(), since(None)),
            WorkerState::Stopping => {
                let left = queued + snapshot.counters.running;
                (format!("stopping, {left} left"), since(life.closed))
            }
            // ORDERING: Relaxed, the flag carries no data.
            WorkerState::Stopped if self.terminated.load(Ordering::Relaxed) => {
                ("terminated".to_owned(), since(life.closed))
            }
            WorkerState::Stopped => ("stopped".to_owned(), since(life.closed)),
            WorkerState::Running | WorkerState::Stuck => {
                // ORDERING: Relaxed, see `clear_stuck`.
                let stuck_since = self.stuck_since.load(Ordering::Relaxed).checked_sub(1);
                let stuck_for =
                    stuck_since.map(|nanos| snapshot.now.since(Timestamp::from_nanos(nanos)));
                self.look_at_carried(snapshot.now);
                let over = self.overruns.over(snapshot.now).zip(self.overruns.after);
                return Health::of(Signs {
                    condition: self.handler.condition(),
                    stuck_for,
                    over: over.map(|((ran, lasted), after)| Over { ran, lasted, after }),
                    shedding_for: snapshot.shedding_for,
                    full_for: snapshot.full_since.map(|at| snapshot.now.since(at)),
                    capacity: self.mailbox.capacity(),
                    queued,
                    running: snapshot.counters.running,
                    oldest_age: snapshot.oldest.map(|at| snapshot.now.since(at)),
                    lasted: since(snapshot.since.or(life.started)),
                });
            }
        };
        Health::new(HealthState::Stopped, reason, lasted)
    }

    pub(crate) fn state(&self) -> WorkerState {
        let (gate, ended) = self.mailbox.gate();
        self.state_of(gate, ended)
    }

    fn state_of(&self, gate: Gate, ended: bool) -> WorkerState {
        match (gate, ended) {
            (Gate::Closed, true) => WorkerState::Stopped,
            // ORDERING: Relaxed, see `clear_stuck`.
            (Gate::Open, _) if self.stuck_since.load(Ordering::Relaxed) != 0 => WorkerState::Stuck,
            (Gate::Closed, false) => WorkerState::Stopping,
            (Gate::Open, _) => WorkerState::Running,
            (Gate::Paused, _) => WorkerState::New,
        }
    }
}

impl<H: Handler> Drop for Cell<H> {
    fn drop(&mut self) {
        self.pool.inner().members.leave(self.id);
    }
}

impl<H: Handler> AnyCell for Cell<H> {
    fn id(&self) -> u64 {
        self.id
    }

    fn is_pool(&self) -> bool {
        self.role == Role::Own
    }

    fn state(&self) -> WorkerState {
        self.state()
    }

    fn numbers(&self) -> Numbers {
        self.numbers()
    }

    fn health(&self) -> Health {
        self.health()
    }

    fn time_all(&self, on: bool) {
        self.mailbox.time_all(on);
    }

    fn stats(&self) -> WorkerStats {
        self.stats()
    }

    fn type_stats(&self) -> BTreeMap<String, TypeStats> {
        self.handler.type_stats()
    }

    fn dead(&self) -> u64 {
        self.handler.dead()
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn is_exclusive(&self) -> bool {
        self.exclusive
    }

    fn edges(&self) -> &Edges {
        &self.edges
    }

    fn is_terminated(&self) -> bool {
        // ORDERING: Relaxed, the flag carries no data.
        self.terminated.load(Ordering::Relaxed)
    }

    fn run_turn(self: Arc<Self>) -> TurnEnd {
        if self.handler.carrier().is_some() {
            self.dispatch(None);
            return TurnEnd::Done {
                wake: Wake::none(),
                roomy: false,
            };
        }
        self.turn()
    }

    fn expire(&self, tickets: Vec<Arc<dyn Ticket>>) {
        let mut due = tickets;
        while !due.is_empty() {
            let Removal {
                removed,
                elsewhere,
                leftovers,
                told,
                was_held,
                activate,
            } = self.remove(due, true);
            // First the few that run: their handlers are to stop, and the queued ones may be many.
            due = elsewhere
                .into_iter()
                // The thread that cancelled or dropped one settles it; one that is queued was put back in between.
                .filter(|ticket| !self.expire_running(ticket) && ticket.state().is_queued())
                .collect();
            for ticket in removed {
                ticket.fail(false, Failure::Expired);
            }
            self.abandon_all(leftovers);
            self.tell(told);
            self.activate_places(activate);
            self.let_go(was_held);
        }
    }

    fn cancel(&self, ticket: &Arc<dyn Ticket>) -> bool {
        loop {
            if self.cancel_queued(ticket) || self.cancel_running(ticket) {
                return true;
            }
            if !ticket.state().is_queued() {
                return false;
            }
            // Another thread put it back in between.
        }
    }

    fn withdraw(&self, ticket: &Arc<dyn Ticket>) -> bool {
        loop {
            if self.cancel_queued(ticket) {
                return true;
            }
            if !ticket.state().is_queued() {
                return false;
            }
            // As of `cancel`.
        }
    }

    fn nudge(&self) {
        let nudged = self.mailbox.nudge(&*self.pool.inner().clock);
        if let Some(own) = self.own.upgrade() {
            own.set_alarm(nudged.alarm);
            own.activate(nudged.activate);
        }
        self.let_go(nudged.was_held);
    }

    fn shrink(&self) {
        self.mailbox.shrink();
    }

    fn lend_place(&self, more: bool) -> usize {
        if self.exclusive {
            return 0;
        }
        self.mailbox.lend(more)
    }

    fn block(&self) -> Result<(), WaitError> {
        self.pool.inner().block()
    }

    fn unblock(&self) {
        self.pool.inner().scheduler.unblock();
    }

    fn activate_places(&self, places: usize) {
        if places > 0
            && let Some(own) = self.own.upgrade()
        {
            own.activate(places);
        }
    }
}

impl<H: Handler> Cell<H> {
    /// Takes back what was handed over and not begun, and has `look` at the queued messages before they are handed
    /// over again.
    pub(crate) fn recalled<R>(&self, look: impl FnOnce(&Mailbox<H::Message>) -> R) -> R {
        let Some(carrier) = self.handler.carrier() else {
            return look(&self.mailbox);
        };
        self.mailbox.hold();
        carrier.recall();
        let seen = look(&self.mailbox);
        let tokens = self.mailbox.release();
        if let Some(own) = self.own.upgrade() {
            own.activate(tokens);
        }
        seen
    }

    /// As [`Mailbox::remove`], with those that are ahead.
    fn remove(&self, tickets: Vec<Arc<dyn Ticket>>, expired: bool) -> Removal<H::Message> {
        let removal = if tickets.iter().any(|ticket| ticket.state().is_claimed()) {
            self.recalled(|mailbox| mailbox.remove(tickets, expired))
        } else {
            self.mailbox.remove(tickets, expired)
        };
        if !removal.removed.is_empty()
            && let Some(carrier) = self.handler.carrier()
        {
            carrier.ended_unbegun();
        }
        removal
    }

    /// False: no mailbox has it, and no carrier has it unbegun.
    fn cancel_queued(&self, ticket: &Arc<dyn Ticket>) -> bool {
        let is_ahead = self.handler.carrier().is_some() && ticket.state().is_claimed();
        if !is_ahead && !ticket.state().is_queued() {
            return false;
        }
        let removal = self.remove(vec![ticket.clone()], false);
        let cancelled = !removal.removed.is_empty();
        if cancelled && !ticket.fail(false, Failure::Cancelled) {
            // The worker came by its entry first, and is settling it the same way at this moment.
            ticket.state().wait(None);
        }
        self.abandon_all(removal.leftovers);
        self.tell(removal.told);
        self.activate_places(removal.activate);
        self.let_go(removal.was_held);
        cancelled
    }

    /// False: it does not run, or its handler returned in between.
    fn expire_running(&self, ticket: &Arc<dyn Ticket>) -> bool {
        if !self.mailbox.is_running(ticket) {
            return false;
        }
        // ORDERING: Relaxed, see `clear_stuck`. Before the reply stands, so that the caller that got the error finds
        // the worker stuck.
        let now = self.pool.inner().clock.now();
        self.stuck_since.store(now.nanos() + 1, Ordering::Relaxed);
        let carrier = self.handler.carrier();
        if carrier.is_none_or(|carrier| carrier.has_begun(ticket)) {
            // Before the reply stands: by this its caller tells whether the message ran. A handler that returns as soon as it
            // sees it may be first, and then its result stands.
            ticket.state().request_cancel();
        }
        let expired = ticket.fail(false, Failure::Expired);
        if expired {
            // A carrier ends it, and says so.
            if carrier.is_none()
                && let Some(own) = self.own.upgrade()
            {
                own.runs_overdue(ticket, now);
            }
            self.stop_running(ticket);
        } else {
            self.clear_stuck();
        }
        expired
    }

    /// Stops what runs of a message whose reply is settled. On the deadline thread, which has others to expire.
    fn stop_running(&self, ticket: &Arc<dyn Ticket>) {
        let _ = contained(|| ticket.interrupt());
        if let Some(carrier) = self.handler.carrier() {
            let _ = contained(|| carrier.stop(Some(ticket)));
        }
    }

    fn cancel_running(&self, ticket: &Arc<dyn Ticket>) -> bool {
        // A message that another thread took out to cancel, drop or fail it is that thread's to settle.
        if !ticket.state().is_claimed() || !self.mailbox.is_running(ticket) {
            return false;
        }
        ticket.state().request_cancel();
        // A handler that runs elsewhere can be stopped for real.
        let carrier = self.handler.carrier();
        let stops = carrier.is_some() && ticket.fail(false, Failure::Cancelled);
        ticket.interrupt();
        if let Some(carrier) = carrier.filter(|_| stops) {
            carrier.stop(Some(ticket));
        }
        stops
    }
}
