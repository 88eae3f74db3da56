//! A pool without its handle: what cells, threads and timers hold, and the life of its threads.

use std::fmt;
use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread;
use std::time::Duration;

use super::PoolOptions;
use super::roll::Roll;
use crate::address::{AnyCell, TurnEnd};
use crate::clock::{Clock, Timestamp};
use crate::contained::contained;
use crate::deadline::{Added, Deadlines};
use crate::host::Host;
use crate::message::Ticket;
use crate::registry::Members;
use crate::scheduler::{Rouse, Scheduler, Work};
use crate::sync::{AtomicBool, Mutex, Ordering, look_while_yielding};
use crate::timers::{TimedPool, Timers};
use crate::wait;
use crate::wait_error::{ThreadLimit, WaitError};
use crate::wake::Wake;

/// Workers with large buffers that a thread keeps in mind until it sleeps.
const MAX_ROOMY: usize = 64;

/// What a pool thread has in hand between two turns.
#[derive(Default)]
struct Shift {
    /// The thread runs a turn: it is not looking for one.
    runs: bool,
    found: Option<(Arc<dyn AnyCell>, Rouse)>,
    wake: Wake,
    /// Workers that went idle with large buffers since the thread last slept.
    roomy: Vec<Arc<dyn AnyCell>>,
}

impl Shift {
    fn keep_in_mind(&mut self, cell: Arc<dyn AnyCell>) {
        if self.roomy.last().is_none_or(|last| last.id() != cell.id()) {
            if self.roomy.len() == MAX_ROOMY {
                self.shrink();
            }
            self.roomy.push(cell);
        }
    }

    fn shrink(&mut self) {
        for cell in self.roomy.drain(..) {
            // It may be the last reference to the worker, and to its handlers.
            let _ = contained(move || cell.shrink());
        }
    }
}

pub(crate) struct PoolInner {
    pub(crate) name: String,
    pub(crate) size: usize,
    pub(crate) scheduler: Scheduler<Arc<dyn AnyCell>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(super) deadlines: Deadlines,
    pub(super) timers: Timers,
    host: Arc<dyn Host>,
    pub(super) threads: Arc<Roll>,
    pub(crate) members: Members,
    numbering: AtomicUsize,
    has_thread: AtomicBool,
}

impl fmt::Debug for PoolInner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolInner")
            .field("name", &self.name)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// Runs `body` inside the host; or without it, where it panics or returns before it has run `body`: the pool counts on
/// its thread.
fn live<B: FnOnce() + Send + 'static>(host: Arc<dyn Host>, body: B) {
    fn run(body: &Mutex<Option<impl FnOnce()>>) {
        let body = body.lock().take();
        if let Some(body) = body {
            body();
        }
    }

    let body = Arc::new(Mutex::new(Some(body)));
    let inside = body.clone();
    let _ = contained(|| host.thread(Box::new(move || run(&inside))));
    run(&body);
}

impl PoolInner {
    pub(super) fn new(options: PoolOptions) -> Self {
        Self {
            name: options.name,
            size: options.size,
            scheduler: Scheduler::new(options.size, options.max_spare_threads),
            clock: options.clock,
            deadlines: Deadlines::default(),
            timers: options.timers,
            host: options.host,
            threads: Arc::default(),
            members: Members::default(),
            numbering: AtomicUsize::new(0),
            has_thread: AtomicBool::new(false),
        }
    }

    /// Makes sure that a thread will run what is posted.
    pub(crate) fn ensure_thread(self: &Arc<Self>) -> io::Result<()> {
        // ORDERING: Relaxed, a hint; the scheduler's lock decides.
        if self.has_thread.load(Ordering::Relaxed) {
            return Ok(());
        }
        let rouse = self.scheduler.first_thread();
        self.rouse(rouse)?;
        self.has_thread.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Whether a thread was ever started.
    pub(crate) fn has_thread(&self) -> bool {
        // ORDERING: Relaxed, see `ensure_thread`: a thread that posted has seen its own store.
        self.has_thread.load(Ordering::Relaxed)
    }

    /// Enters a worker into the run queue.
    pub(crate) fn push(self: &Arc<Self>, cell: Arc<dyn AnyCell>) {
        let rouse = self.scheduler.push(cell);
        // A thread that cannot be started is not missed: there is at least one, see `ensure_thread`.
        let _ = self.rouse(rouse);
    }

    pub(crate) fn rouse(self: &Arc<Self>, rouse: Rouse) -> io::Result<()> {
        if !self.scheduler.notify(rouse) {
            return Ok(());
        }
        let inner = self.clone();
        let started = self.spawn(move || {
            let rouse = inner.scheduler.enter();
            // Another one that cannot be started is not missed, see `push`.
            let _ = inner.rouse(rouse);
            live(inner.host.clone(), move || {
                inner.work();
                inner.end_deadlines();
            });
        });
        if started.is_err() {
            self.scheduler.start_failed();
        }
        started
    }

    /// Has the message of `ticket` expire at `at`.
    pub(crate) fn set_deadline(
        self: &Arc<Self>,
        at: Timestamp,
        ticket: &Arc<dyn Ticket>,
        cell: &Arc<dyn AnyCell>,
    ) -> io::Result<()> {
        self.set_entry(at, Some(ticket), cell)
    }

    /// Has a worker look at `at` at what sleeps in its mailbox.
    pub(crate) fn set_alarm(
        self: &Arc<Self>,
        at: Timestamp,
        cell: &Arc<dyn AnyCell>,
    ) -> io::Result<()> {
        self.set_entry(at, None, cell)
    }

    fn set_entry(
        self: &Arc<Self>,
        at: Timestamp,
        ticket: Option<&Arc<dyn Ticket>>,
        cell: &Arc<dyn AnyCell>,
    ) -> io::Result<()> {
        let added = self.deadlines.add(at, ticket, cell);
        self.watch(at, added)
    }

    /// Has what was added at `at` watched.
    pub(super) fn watch(self: &Arc<Self>, at: Timestamp, added: Added) -> io::Result<()> {
        let until = |at: Timestamp| at.since(self.clock.now());
        match added {
            Added::First => self
                .timers
                .add(self.clone(), until(at))
                .inspect_err(|_| self.deadlines.watch_failed()),
            Added::Next => {
                self.timers.hasten(&**self, until(at));
                Ok(())
            }
            Added::Many => {
                self.timers.hasten(&**self, Duration::ZERO);
                Ok(())
            }
            Added::Later => Ok(()),
        }
    }

    fn spawn(&self, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        // ORDERING: Relaxed, only the number matters.
        let number = self.numbering.fetch_add(1, Ordering::Relaxed) + 1;
        // The system takes no NUL in the name of a thread.
        let name = format!("{}-{number}", self.name).replace('\0', "\u{fffd}");
        let mut thread = thread::Builder::new().name(name);
        if let Some(bytes) = self.stack_bytes() {
            thread = thread.stack_size(bytes);
        }
        let presence = self.presence()?;
        self.threads.start(thread, presence, body)
    }

    /// One thread's life between entering and leaving the scheduler.
    fn work(self: &Arc<Self>) {
        let mut shift = Shift {
            found: self.scheduler.try_next(),
            ..Shift::default()
        };
        // Ends: what unwinds has used up a turn or a hook. Everything that may unwind for good reason is caught where it
        // is called, so this is for what was not thought of: the thread goes on where it was.
        while contained(|| self.look_and_run(&mut shift)).is_err() {
            if mem::take(&mut shift.runs) {
                shift.found = self.scheduler.finish(None);
            }
        }
    }

    /// Runs turns until the thread is to end.
    fn look_and_run(self: &Arc<Self>, shift: &mut Shift) {
        loop {
            // Without letting go of the runtime first, where there is work; else the thread that waits for the last
            // reply is woken after letting go, so that it does not run into what this thread still holds.
            let (cell, rouse) = match shift.found.take() {
                Some(next) => {
                    shift.runs = true;
                    drop(mem::take(&mut shift.wake));
                    next
                }
                None => match self.rest(shift) {
                    Work::Run(cell, rouse) => {
                        shift.runs = true;
                        (cell, rouse)
                    }
                    Work::Exit => return,
                },
            };
            let _ = self.rouse(rouse);
            let turn = {
                let _current = wait::enter_turn(cell.clone());
                cell.clone().run_turn()
            };
            let mut again = None;
            match turn {
                TurnEnd::More => again = Some(cell),
                TurnEnd::Done { wake, roomy } => {
                    shift.wake = wake;
                    if roomy {
                        shift.keep_in_mind(cell);
                    }
                }
            }
            shift.runs = false;
            shift.found = self.scheduler.finish(again);
        }
    }

    /// Waits for work, inside what the host puts around that; without it where it panics before it waits.
    fn rest(&self, shift: &mut Shift) -> Work<Arc<dyn AnyCell>> {
        let mut next = None;
        let _ = contained(|| {
            self.host
                .blocking(&mut || next = Some(self.wait_for_work(shift)));
        });
        next.unwrap_or_else(|| self.wait_for_work(shift))
    }

    fn wait_for_work(&self, shift: &mut Shift) -> Work<Arc<dyn AnyCell>> {
        drop(mem::take(&mut shift.wake));
        if let Some((cell, rouse)) = look_while_yielding(|| self.scheduler.try_next()) {
            return Work::Run(cell, rouse);
        }
        shift.shrink();
        self.rests();
        self.scheduler.next()
    }

    /// A thread that runs a handler is about to wait: another one runs in its place.
    pub(crate) fn block(self: &Arc<Self>) -> Result<(), WaitError> {
        let Some(rouse) = self.scheduler.block() else {
            return Err(WaitError::ThreadLimit(ThreadLimit {
                pool: self.name.clone(),
                size: self.size,
                max_spare_threads: self.scheduler.max_spare(),
            }));
        };
        if let Err(error) = self.rouse(rouse)
            && self.scheduler.is_stalled()
        {
            self.scheduler.unblock();
            return Err(WaitError::NoThread(error));
        }
        Ok(())
    }

    pub(super) fn shutdown(self: &Arc<Self>) {
        self.scheduler.shutdown();
        self.end_deadlines();
    }

    /// Deadlines hold as long as a handler may run.
    fn end_deadlines(self: &Arc<Self>) {
        if self.scheduler.is_over() && self.deadlines.shutdown() {
            self.timers.remove(&**self);
        }
    }
}

impl TimedPool for PoolInner {
    fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    fn deadlines(&self) -> &Deadlines {
        &self.deadlines
    }

    /// A hook that panics takes no thread along that only wanted to start another.
    fn stack_bytes(&self) -> Option<usize> {
        contained(|| self.host.stack_bytes()).ok().flatten()
    }

    fn presence(&self) -> io::Result<Box<dyn Send>> {
        contained(|| self.host.presence()).map_err(|panic| io::Error::other(panic.into_text()))
    }

    fn rests(&self) {
        let _ = contained(|| self.host.rests());
    }
}
