//! How a pool is made.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::Duration;

use pytoweb_engine::{
    Overflow, PlainHost, Pool as EnginePool, PoolOptions, Rate, Shed, WorkerOptions,
};

use super::{PoolInner, WorkerPool, Workers};
use crate::clock::HandClock;
use crate::dispatch::Dispatch;
use crate::send::Engine;
use crate::table::Table;

impl WorkerPool {
    /// Makes a pool of `size` threads, which start when there is work for them.
    ///
    /// # Panics
    /// When `size` is 0.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// assert_eq!(WorkerPool::new(4).size(), 4);
    /// ```
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self::builder().size(size).build()
    }

    /// Makes a pool with other options.
    ///
    /// ```
    /// use pytoweb_workers::WorkerPool;
    ///
    /// let pool = WorkerPool::builder().size(2).name("images").build();
    /// let thread = pool.submit(|| std::thread::current().name().map(str::to_owned)).map_err(|_| "shut down")?;
    /// assert!(thread.wait()?.is_some_and(|name| name.starts_with("images-")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder() -> PoolBuilder {
        PoolBuilder {
            size: None,
            name: None,
            stack_bytes: None,
            max_spare_threads: None,
            clock: None,
            options: WorkerOptions::default(),
        }
    }
}

/// The options of a new [`WorkerPool`].
///
/// ```
/// # use std::convert::Infallible;
/// # use std::time::Duration;
/// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
/// # let pool = WorkerPool::new(2);
/// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
/// let pool = WorkerPool::builder().size(2).name("images").capacity(100).build();
/// assert_eq!(pool.size(), 2);
/// ```
#[derive(Clone, Debug)]
#[must_use = "call build"]
pub struct PoolBuilder {
    size: Option<usize>,
    name: Option<String>,
    stack_bytes: Option<usize>,
    max_spare_threads: Option<usize>,
    clock: Option<HandClock>,
    options: WorkerOptions,
}

impl PoolBuilder {
    /// Threads; as many as there are processors unless told otherwise.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// assert_eq!(WorkerPool::builder().size(3).build().size(), 3);
    /// ```
    pub const fn size(mut self, size: usize) -> Self {
        self.size = Some(size);
        self
    }

    /// The pool's name: its threads are called `<name>-1`, `<name>-2`, ...
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// assert_eq!(WorkerPool::builder().name("images").build().name(), "images");
    /// ```
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Bytes of stack for each thread; the standard library's 2 MiB (or `RUST_MIN_STACK`) unless told otherwise.
    ///
    /// Address space, not memory: the system gives memory for as much of it as handlers have used.
    ///
    /// ```
    /// use pytoweb_workers::WorkerPool;
    ///
    /// fn depth(n: u64) -> u64 {
    ///     let frame = std::hint::black_box([n; 64]);
    ///     if frame[0] == 0 { 0 } else { 1 + depth(frame[0] - 1) }
    /// }
    ///
    /// let pool = WorkerPool::builder().size(1).stack_bytes(64 << 20).build();
    /// assert_eq!(pool.submit(|| depth(20_000)).map_err(|_| "shut down")?.wait()?, 20_000);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub const fn stack_bytes(mut self, bytes: usize) -> Self {
        self.stack_bytes = Some(bytes);
        self
    }

    /// Handlers that may wait at the same time, for replies, for room, or within [`blocking`](crate::blocking): each may
    /// cost a thread beyond the pool's size. 256 unless told otherwise, or 8 for each thread where that is more. One more
    /// wait is refused: [`AskError::ThreadLimit`](crate::AskError::ThreadLimit).
    ///
    /// ```
    /// use pytoweb_workers::{AskError, WorkerPool};
    ///
    /// /// A recursion without an end, in which each level waits for the next.
    /// fn descend(pool: &WorkerPool) -> Result<u32, AskError> {
    ///     let inner = pool.clone();
    ///     let below = pool.submit(move || descend(&inner)).expect("it is open").wait()??;
    ///     Ok(below + 1)
    /// }
    ///
    /// let pool = WorkerPool::builder().size(1).max_spare_threads(10).build();
    /// assert!(matches!(descend(&pool), Err(AskError::ThreadLimit(_))));
    /// assert!(pool.stats().threads <= 11);
    /// ```
    pub const fn max_spare_threads(mut self, threads: usize) -> Self {
        self.max_spare_threads = Some(threads);
        self
    }

    /// Messages that the pool's own mailbox holds at most.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// let pool = WorkerPool::builder().capacity(100).build();
    /// assert_eq!(pool.stats().own.capacity, 100);
    /// ```
    pub const fn capacity(mut self, capacity: usize) -> Self {
        self.options.capacity = capacity;
        self
    }

    /// What happens to one more.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// let pool = WorkerPool::builder().overflow(pytoweb_workers::Overflow::Reject).build();
    /// pool.shutdown();
    /// ```
    pub const fn overflow(mut self, overflow: Overflow) -> Self {
        self.options.overflow = overflow;
        self
    }

    /// How many messages may begin in a time; as many as can unless told otherwise. Those that wait for it stay in the
    /// mailbox.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use pytoweb_workers::{Rate, WorkerPool};
    ///
    /// let rate = Rate::new(100, Duration::from_secs(1), 5).ok_or("no such rate")?;
    /// let pool = WorkerPool::builder().rate(rate).build();
    /// # Ok::<(), &str>(())
    /// ```
    pub const fn rate(mut self, rate: Rate) -> Self {
        self.options.rate = Some(rate);
        self
    }

    /// Bytes that its messages have at most, queued or handled: a message has as many as the type of its payload, or as
    /// [`MessageBuilder::bytes`](crate::MessageBuilder::bytes) says. One that never fits is
    /// [`SendError::TooLarge`](crate::SendError::TooLarge); the overflow policy holds for the others.
    ///
    /// ```
    /// use pytoweb_workers::{SendError, WorkerPool};
    ///
    /// let pool = WorkerPool::builder().bytes(1_000).build();
    /// let refused = pool.message("job", "text").bytes(1_001).post();
    /// assert!(matches!(refused, Err(SendError::TooLarge("text"))));
    /// ```
    pub const fn bytes(mut self, bytes: u64) -> Self {
        self.options.bytes = Some(bytes);
        self
    }

    /// When messages to the pool itself are refused because those that are queued have waited too long; see
    /// [`WorkerBuilder::shed`](crate::WorkerBuilder::shed). Its workers have theirs:
    /// [`WorkerOptions::shed`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use pytoweb_workers::{Shed, WorkerPool};
    ///
    /// let shed = Shed { target: Duration::from_millis(50), window: Duration::from_secs(1) };
    /// let pool = WorkerPool::builder().shed(shed).build();
    /// assert_eq!(pool.stats().own.counters.shed, 0);
    /// ```
    pub const fn shed(mut self, shed: Shed) -> Self {
        self.options.shed = Some(shed);
        self
    }

    /// After how long a run of the handlers of the pool itself counts as stuck; never unless told otherwise, but for one that runs past its
    /// message's deadline. Then [`health`](crate::WorkerPool::health) says [`HealthState::Stuck`](crate::HealthState::Stuck)
    /// until it returns, and it is told of once: by a line on standard error, or the event `WARN` of target
    /// `pytoweb_workers` with the feature `tracing`. It is not interrupted. Its workers have
    /// theirs: [`WorkerOptions::stuck_after`].
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use std::sync::{Arc, Barrier};
    /// use std::time::Duration;
    /// use pytoweb_workers::{HandClock, HealthState, WorkerPool};
    ///
    /// let clock = HandClock::new();
    /// let pool = WorkerPool::builder().stuck_after(Duration::from_secs(30)).clock(&clock).build();
    /// let gate = Arc::new(Barrier::new(2));
    /// let inside = gate.clone();
    /// pool.on_message("wait", move |(): ()| {
    ///     inside.wait(); // it has begun
    ///     inside.wait();
    ///     Ok::<_, Infallible>(())
    /// });
    /// let reply = pool.ask::<(), ()>("wait", ())?;
    /// gate.wait();
    /// assert_eq!(pool.health().state, HealthState::Busy);
    /// clock.advance(Duration::from_secs(30));
    /// assert_eq!(pool.health().state, HealthState::Stuck);
    /// gate.wait();
    /// reply.wait()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub const fn stuck_after(mut self, after: Duration) -> Self {
        self.options.stuck_after = Some(after);
        self
    }

    /// Where the time comes from, for tests: a clock that is moved by hand. That of the machine unless told otherwise.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// use std::time::Duration;
    /// use pytoweb_workers::{HandClock, WorkerPool};
    ///
    /// let clock = HandClock::new();
    /// let pool = WorkerPool::builder().clock(&clock).build();
    /// pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// let reply = pool.message("inc", 1_u64).delay(Duration::from_secs(60)).ask::<u64>()?;
    /// clock.advance(Duration::from_secs(60));
    /// assert_eq!(reply.wait()?, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn clock(mut self, clock: &HandClock) -> Self {
        self.clock = Some(clock.clone());
        self
    }

    /// Makes the pool. Starts no thread.
    ///
    /// # Panics
    /// When the size or the capacity is 0.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// assert!(WorkerPool::builder().build().size() >= 1);
    /// ```
    #[must_use]
    pub fn build(self) -> WorkerPool {
        let size = self
            .size
            .unwrap_or_else(|| thread::available_parallelism().map_or(1, Into::into));
        let mut options = PoolOptions::new(size);
        if let Some(name) = self.name {
            options.name = name;
        }
        if let Some(threads) = self.max_spare_threads {
            options.max_spare_threads = threads;
        }
        options.host = Arc::new(PlainHost {
            stack_bytes: self.stack_bytes,
        });
        if let Some(clock) = &self.clock {
            options.clock = clock.engine_clock();
        }
        let threads = EnginePool::new(options);
        let dispatch = Dispatch::new(Table::new(threads.name(), None, Weak::new()));
        let own = Engine::shared(threads.name(), dispatch, self.options, &threads);
        own.handler().entry.leads_to(&own.address());
        let inner = Arc::new(PoolInner {
            threads,
            own,
            workers: Mutex::new(Workers {
                by_name: BTreeMap::new(),
                closed: false,
            }),
        });
        if let Some(clock) = &self.clock {
            let inner = Arc::downgrade(&inner);
            clock.tell(inner);
        }
        WorkerPool(inner)
    }
}
