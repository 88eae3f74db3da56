//! A pool: threads that take ready workers from one run queue.

use std::fmt;
use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Duration;

use crate::address::{AnyCell, Turn};
use crate::clock::{Clock, MonotonicClock, Timestamp};
use crate::contained::{contained, drop_each};
use crate::deadline::{Added, Deadlines, Timer};
use crate::message::Ticket;
use crate::scheduler::{Rouse, Scheduler, Work};
use crate::sync::{AtomicBool, Condvar, Mutex, Ordering, look_while_yielding};
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

/// What surrounds a pool's threads: a language runtime that wants to know when they start, wait and end.
pub trait Host: Send + Sync + 'static {
    /// Runs `body`, which is the life of one pool thread. The thread's references to the pool and to the host end in
    /// here.
    fn thread(self: Arc<Self>, body: Box<dyn FnOnce() + Send>) {
        body();
    }

    /// A thread of the pool has nothing to do and is about to sleep: it, or what it runs, may have freed much memory.
    /// Called in no [`Host::thread`], or inside [`Host::blocking`].
    fn rests(&self) {}

    /// Runs `wait`, which may block. Called on a pool thread, inside [`Host::thread`].
    fn blocking(&self, wait: &mut (dyn FnMut() + Send)) {
        wait();
    }

    /// Bytes of stack for a thread that is about to start; `None` is the standard library's own size, 2 MiB unless
    /// `RUST_MIN_STACK` says otherwise. Called on the thread that starts it, with no engine lock held.
    fn stack_bytes(&self) -> Option<usize> {
        None
    }

    /// Held by a thread of the pool from before it starts until nothing of the pool is left on it. Called as
    /// [`Host::stack_bytes`] is.
    fn presence(&self) -> Box<dyn Send> {
        Box::new(())
    }
}

/// A host that adds nothing, but for the size of the stacks.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainHost {
    /// See [`Host::stack_bytes`].
    pub stack_bytes: Option<usize>,
}

impl Host for PlainHost {
    fn stack_bytes(&self) -> Option<usize> {
        self.stack_bytes
    }
}

/// How a pool is made.
pub struct PoolOptions {
    /// Threads that run handlers at the same time, at least 1.
    pub size: usize,
    /// Handlers that may wait for replies at the same time, each of which may cost a thread beyond `size`:
    /// [`PoolOptions::default_spare_threads`] unless told otherwise. One more gets
    /// [`WaitError::ThreadLimit`](crate::WaitError::ThreadLimit).
    pub max_spare_threads: usize,
    /// Names the threads: `<name>-1`, `<name>-2`, ...
    pub name: String,
    /// What surrounds the threads.
    pub host: Arc<dyn Host>,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// What watches its deadlines.
    pub timers: Timers,
}

impl fmt::Debug for PoolOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolOptions")
            .field("size", &self.size)
            .field("max_spare_threads", &self.max_spare_threads)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Threads beyond the size of a small pool: as many as Java's `ForkJoinPool` allows for the same purpose. A recursion
/// that waits at each level ends there, and not when the system has no more threads or memory.
const MIN_SPARE_THREADS: usize = 256;
/// And for each thread of a large one, where more handlers wait for others than run, and nothing is wrong.
const SPARE_THREADS_EACH: usize = 8;

impl PoolOptions {
    /// Threads beyond `size`, unless told otherwise: 256, or 8 for each of `size` where that is more.
    #[must_use]
    pub const fn default_spare_threads(size: usize) -> usize {
        let each = size.saturating_mul(SPARE_THREADS_EACH);
        if each > MIN_SPARE_THREADS {
            each
        } else {
            MIN_SPARE_THREADS
        }
    }

    /// `size` plain threads and the monotonic clock.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self {
            size,
            max_spare_threads: Self::default_spare_threads(size),
            name: "pytoweb-worker".to_owned(),
            host: Arc::new(PlainHost::default()),
            clock: Arc::new(MonotonicClock::new()),
            timers: Timers::of_program(),
        }
    }
}

/// Which threads a pool has. Apart from the pool, because a thread signs off when nothing of the pool is left on it.
#[derive(Default)]
struct Roll {
    list: Mutex<Threads>,
    /// A thread has ended, waits for the others, or was joined.
    changed: Condvar,
}

/// The threads of a pool.
#[derive(Default)]
struct Threads {
    handles: Vec<JoinHandle<()>>,
    /// Those that no caller of [`Pool::join`] has seen the end of.
    unjoined: Vec<ThreadId>,
    alive: Vec<ThreadId>,
    /// Those that are in [`Pool::join`].
    joining: Vec<ThreadId>,
}

impl Threads {
    fn enter(&mut self, handle: JoinHandle<()>) {
        let finished = |thread: &mut JoinHandle<()>| thread.is_finished();
        for thread in self.handles.extract_if(.., finished) {
            self.unjoined.retain(|known| *known != thread.thread().id());
        }
        let id = handle.thread().id();
        self.alive.push(id);
        self.unjoined.push(id);
        self.handles.push(handle);
    }

    fn leave(&mut self, id: ThreadId) {
        self.alive.retain(|known| *known != id);
        self.joining.retain(|known| *known != id);
    }

    /// Whether every thread that lives waits for the others.
    fn all_join(&self) -> bool {
        self.alive.iter().all(|id| self.joining.contains(id))
    }
}

pub(crate) struct PoolInner {
    pub(crate) name: String,
    pub(crate) size: usize,
    pub(crate) scheduler: Scheduler<Arc<dyn AnyCell>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) deadlines: Deadlines,
    timers: Timers,
    host: Arc<dyn Host>,
    threads: Arc<Roll>,
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
    fn watch(self: &Arc<Self>, at: Timestamp, added: Added) -> io::Result<()> {
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
        // Held until the thread is entered: its end waits for that.
        let mut threads = self.threads.list.lock();
        let roll = self.threads.clone();
        let handle = thread.spawn(move || {
            body();
            drop_each([presence]);
            roll.list.lock().leave(thread::current().id());
            roll.changed.notify_all();
        })?;
        threads.enter(handle);
        Ok(())
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
                Turn::More => again = Some(cell),
                Turn::Done { wake, roomy } => {
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

    fn shutdown(self: &Arc<Self>) {
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

/// The handle of a pool. Clones share it; when the last one goes, the threads end after the work that is queued.
#[derive(Clone, Debug)]
pub struct Pool(Arc<PoolHandle>);

#[derive(Debug)]
struct PoolHandle(Arc<PoolInner>);

impl Drop for PoolHandle {
    fn drop(&mut self) {
        self.0.shutdown();
    }
}

impl Pool {
    /// A pool without threads: they start when there is work for them.
    ///
    /// # Panics
    /// When `options.size` is 0.
    #[must_use]
    pub fn new(options: PoolOptions) -> Self {
        assert!(options.size > 0, "a pool needs at least one thread");
        Self(Arc::new(PoolHandle(Arc::new(PoolInner {
            name: options.name,
            size: options.size,
            scheduler: Scheduler::new(options.size, options.max_spare_threads),
            clock: options.clock,
            deadlines: Deadlines::default(),
            timers: options.timers,
            host: options.host,
            threads: Arc::default(),
            numbering: AtomicUsize::new(0),
            has_thread: AtomicBool::new(false),
        }))))
    }

    pub(crate) fn inner(&self) -> &Arc<PoolInner> {
        &self.0.0
    }

    /// Threads that run handlers at the same time.
    #[must_use]
    pub fn size(&self) -> usize {
        self.inner().size
    }

    /// The pool's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner().name
    }

    /// Threads that exist now: fewer than [`Pool::size`] while there was never more work, more while handlers wait.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.inner().scheduler.threads()
    }

    /// Where it reads the time.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner().clock
    }

    /// Has `timer` told at `at`, unless it is gone by then: the pool keeps it weakly. It is told on the thread that watches
    /// the deadlines of the program, and not once the pool is over.
    ///
    /// # Errors
    /// When the thread that watches deadlines could not be started.
    pub fn set_timer(&self, at: Timestamp, timer: &Arc<dyn Timer>) -> io::Result<()> {
        let inner = self.inner();
        let added = inner.deadlines.add_timer(at, timer);
        inner.watch(at, added)
    }

    /// Looks at deadlines and delays now: its clock is one that is moved by hand, and was moved.
    pub fn clock_moved(&self) {
        self.inner().timers.hasten(&**self.inner(), Duration::ZERO);
    }

    /// Lets every thread end once the queued work is done. Does not wait, and refuses nothing: workers do that.
    pub fn shutdown(&self) {
        self.inner().shutdown();
    }

    /// Blocks until all threads have ended, after [`Pool::shutdown`]; any number of threads may call it. One of the pool waits
    /// neither for itself nor for others of the pool that wait here.
    pub fn join(&self) {
        let inner = self.inner();
        let own = thread::current().id();
        let roll = &*inner.threads;
        let mut threads = roll.list.lock();
        if threads.alive.contains(&own) {
            threads.joining.push(own);
            roll.changed.notify_all();
            while !threads.all_join() {
                (threads, _) = roll.changed.wait(threads, None);
            }
            return;
        }
        loop {
            if let Some(thread) = threads.handles.pop() {
                drop(threads);
                let id = thread.thread().id();
                // A panic of the engine was reported by the hook already, and there is no other place to tell.
                let _ = thread.join();
                threads = roll.list.lock();
                threads.unjoined.retain(|known| *known != id);
                roll.changed.notify_all();
            } else if threads.unjoined.is_empty() {
                break;
            } else {
                // Another caller joins it.
                (threads, _) = roll.changed.wait(threads, None);
            }
        }
        drop(threads);
        // Its deadlines hold until its last thread has ended.
        inner.timers.wait_gone(&**inner);
    }

    /// Does all that is due by now, as the thread that watches deadlines would, before it returns. For clocks that a test
    /// moves by hand.
    pub fn expire_due(&self) {
        let inner = self.inner();
        inner.timers.serve_here(&**inner);
    }
}
