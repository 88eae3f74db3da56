//! A pool: threads that take ready workers from one run queue.

#[path = "pool/inner.rs"]
mod inner;
#[path = "pool/roll.rs"]
mod roll;

use std::fmt;
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::address::Address;
use crate::clock::{Clock, MonotonicClock, Timestamp};
use crate::deadline::Timer;
use crate::host::{Host, PlainHost};
use crate::registry::{AnyPool, Members, Registry};
use crate::timers::Timers;

use inner::PoolInner;

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
    /// Where it enters itself.
    pub registry: Registry,
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
            registry: Registry::of_program(),
        }
    }
}

/// The handle of a pool. Clones share it; when the last one goes, the threads end after the work that is queued.
#[derive(Clone, Debug)]
pub struct Pool(Arc<PoolHandle>);

#[derive(Debug)]
struct PoolHandle {
    inner: Arc<PoolInner>,
    registry: Registry,
    /// Its number there.
    number: u64,
}

impl Drop for PoolHandle {
    fn drop(&mut self) {
        self.registry.leave(self.number);
        self.inner.shutdown();
    }
}

impl AnyPool for PoolHandle {
    fn name(&self) -> &str {
        &self.inner.name
    }

    fn size(&self) -> usize {
        self.inner.size
    }

    fn threads(&self) -> usize {
        self.inner.scheduler.threads()
    }

    fn members(&self) -> &Members {
        &self.inner.members
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
        let registry = options.registry.clone();
        let inner = Arc::new(PoolInner::new(options));
        Self(Arc::new_cyclic(|handle: &Weak<PoolHandle>| PoolHandle {
            inner,
            number: registry.enter(handle.clone()),
            registry,
        }))
    }

    pub(crate) fn inner(&self) -> &Arc<PoolInner> {
        &self.0.inner
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

    /// Its workers and its own mailbox, in the order in which they were made.
    #[must_use]
    pub fn workers(&self) -> Vec<Address> {
        self.inner().members.all()
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
        // Its deadlines hold until its last thread has ended.
        if inner.threads.join() {
            inner.timers.wait_gone(&**inner);
        }
    }

    /// Does all that is due by now, as the thread that watches deadlines would, before it returns. For clocks that a test
    /// moves by hand.
    pub fn expire_due(&self) {
        let inner = self.inner();
        inner.timers.serve_here(&**inner);
    }
}
