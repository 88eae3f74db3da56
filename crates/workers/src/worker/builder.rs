//! How a worker with a thread of its own is made.

use std::sync::Arc;
use std::time::Duration;

use pytoweb_engine::{
    Overflow, PlainHost, Pool as EnginePool, PoolOptions, Rate, Shed, WorkerOptions,
};

use super::Worker;
use crate::clock::HandClock;

impl Worker {
    /// Makes a worker with a thread of its own, the default capacity, and senders that wait when it is full. Starts
    /// nothing.
    ///
    /// # Panics
    /// When `name` is empty.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// assert_eq!(Worker::new("thumbnails").state(), WorkerState::New);
    /// ```
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self::builder(name).build()
    }

    /// Makes a worker with other options.
    ///
    /// ```
    /// use pytoweb_workers::{Overflow, SendError, Worker};
    ///
    /// let worker = Worker::builder("small").capacity(1).overflow(Overflow::Reject).build();
    /// worker.post_message("job", 1)?;
    /// assert!(matches!(worker.post_message("job", 2), Err(SendError::Full(2))));
    /// # Ok::<(), SendError<i32>>(())
    /// ```
    pub fn builder(name: &str) -> WorkerBuilder<'_> {
        WorkerBuilder {
            name,
            stack_bytes: None,
            clock: None,
            options: WorkerOptions::default(),
        }
    }
}

/// The options of a new [`Worker`].
///
/// ```
/// # use std::convert::Infallible;
/// # use std::time::Duration;
/// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
/// # let worker = Worker::new("w");
/// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
/// let worker = Worker::builder("latest").capacity(10).overflow(Overflow::DropOldest).build();
/// assert_eq!(worker.stats().capacity, 10);
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "call build"]
pub struct WorkerBuilder<'a> {
    name: &'a str,
    stack_bytes: Option<usize>,
    clock: Option<&'a HandClock>,
    options: WorkerOptions,
}

impl<'a> WorkerBuilder<'a> {
    /// Messages that the mailbox holds at most; [`DEFAULT_CAPACITY`](crate::DEFAULT_CAPACITY) unless told otherwise.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// assert_eq!(Worker::builder("small").capacity(1).build().stats().capacity, 1);
    /// ```
    pub const fn capacity(mut self, capacity: usize) -> Self {
        self.options.capacity = capacity;
        self
    }

    /// What happens to one more; [`Overflow::Block`] unless told otherwise.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// let worker = Worker::builder("latest").capacity(1).overflow(Overflow::DropOldest).build();
    /// worker.post_messages("value", [1, 2, 3])?;
    /// assert_eq!(worker.stats().counters.dropped_oldest, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
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
    /// use pytoweb_workers::{Rate, Worker};
    ///
    /// let rate = Rate::new(100, Duration::from_secs(1), 5).ok_or("no such rate")?;
    /// let worker = Worker::builder("small").rate(rate).build();
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
    /// use pytoweb_workers::{SendError, Worker};
    ///
    /// let worker = Worker::builder("small").bytes(1_000).build();
    /// let refused = worker.message("job", "text").bytes(1_001).post();
    /// assert!(matches!(refused, Err(SendError::TooLarge("text"))));
    /// ```
    pub const fn bytes(mut self, bytes: u64) -> Self {
        self.options.bytes = Some(bytes);
        self
    }

    /// Bytes of stack for its thread; the standard library's 2 MiB (or `RUST_MIN_STACK`) unless told otherwise.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// let worker = Worker::builder("deep").stack_bytes(64 << 20).build();
    /// assert_eq!(worker.name(), "deep");
    /// ```
    pub const fn stack_bytes(mut self, bytes: usize) -> Self {
        self.stack_bytes = Some(bytes);
        self
    }

    /// How many of its messages are handled at the same time, on as many threads; one unless told otherwise. More give
    /// up their order, but for messages with a key: those with the same [`key`](crate::MessageBuilder::key) are handled
    /// one at a time, in the order of their posts.
    ///
    /// Its handlers run beside themselves, so they are `Fn + Sync` and are registered with
    /// [`Worker::concurrent`](crate::Worker::concurrent). A handler that waits for a reply, or for room, lends its
    /// place to another message, so more than `messages` may have begun. In a [`WorkerPool`](crate::WorkerPool) it is
    /// [`WorkerOptions::concurrency`], and the pool's threads are as many as there are.
    ///
    /// # Panics
    /// When `messages` is 0.
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use std::sync::Barrier;
    /// use pytoweb_workers::Worker;
    ///
    /// let worker = Worker::builder("fetcher").concurrency(3).build();
    /// let together = Barrier::new(3); // each waits for the two others
    /// worker.concurrent().on_message("fetch", move |number: u64| {
    ///     together.wait();
    ///     Ok::<_, Infallible>(number)
    /// });
    /// worker.start()?;
    /// let replies: Vec<_> = (0..3_u64).filter_map(|n| worker.ask::<u64, u64>("fetch", n).ok()).collect();
    /// let numbers: Result<Vec<u64>, _> = replies.into_iter().map(|reply| reply.wait()).collect();
    /// assert_eq!(numbers?, [0, 1, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub const fn concurrency(mut self, messages: usize) -> Self {
        assert!(
            messages > 0,
            "a worker handles at least one message at a time: concurrency(0) would be none"
        );
        self.options.concurrency = messages;
        self
    }

    /// When messages are refused because those that are queued have waited too long, with
    /// [`SendError::Overloaded`](crate::SendError::Overloaded) and whatever the overflow policy; never unless told
    /// otherwise. Counted in [`Counters::shed`](crate::Counters::shed).
    ///
    /// ```
    /// use std::time::Duration;
    /// use pytoweb_workers::{HandClock, SendError, Shed, Worker};
    ///
    /// let clock = HandClock::new();
    /// let shed = Shed { target: Duration::from_millis(50), window: Duration::from_secs(1) };
    /// let worker = Worker::builder("web").shed(shed).clock(&clock).build();
    /// worker.post_message("request", 1)?; // waits, because the worker is not started
    /// clock.advance(Duration::from_millis(50));
    /// worker.post_message("request", 2)?; // from here on it has waited too long
    /// clock.advance(Duration::from_secs(1));
    /// assert!(matches!(worker.post_message("request", 3), Err(SendError::Overloaded(3))));
    /// assert_eq!(worker.stats().counters.shed, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub const fn shed(mut self, shed: Shed) -> Self {
        self.options.shed = Some(shed);
        self
    }

    /// After how long a run of its handlers counts as stuck; never unless told otherwise, but for one that runs past its
    /// message's deadline. Then [`health`](crate::Worker::health) says [`HealthState::Stuck`](crate::HealthState::Stuck)
    /// until it returns, and it is told of once: by a line on standard error, or the event `WARN` of target
    /// `pytoweb_workers` with the feature `tracing`. It is not interrupted.
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use std::sync::mpsc;
    /// use std::time::Duration;
    /// use pytoweb_workers::{HandClock, HealthState, Worker};
    ///
    /// let clock = HandClock::new();
    /// let worker = Worker::builder("w").stuck_after(Duration::from_secs(30)).clock(&clock).build();
    /// let (begun, begins) = mpsc::channel();
    /// let (go_on, goes_on) = mpsc::channel::<()>();
    /// worker.on_message("wait", move |(): ()| {
    ///     let _ = (begun.send(()), goes_on.recv());
    ///     Ok::<_, Infallible>(())
    /// });
    /// worker.start()?;
    /// let reply = worker.ask::<(), ()>("wait", ())?;
    /// begins.recv()?;
    /// assert_eq!(worker.health().state, HealthState::Busy);
    /// clock.advance(Duration::from_secs(30));
    /// assert_eq!(worker.health().state, HealthState::Stuck);
    /// go_on.send(())?;
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
    /// use pytoweb_workers::{HandClock, Worker};
    ///
    /// let clock = HandClock::new();
    /// let worker = Worker::builder("w").clock(&clock).build();
    /// worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// worker.start()?;
    /// let reply = worker.message("inc", 1_u64).delay(Duration::from_secs(60)).ask::<u64>()?;
    /// clock.advance(Duration::from_secs(60));
    /// assert_eq!(reply.wait()?, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub const fn clock(mut self, clock: &'a HandClock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Makes the worker. Starts nothing.
    ///
    /// # Panics
    /// When the name is empty, or the capacity 0.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// assert_eq!(Worker::builder("plain").build().name(), "plain");
    /// ```
    #[must_use]
    pub fn build(self) -> Worker {
        assert!(!self.name.is_empty(), "a worker needs a name");
        let mut options = PoolOptions::new(self.options.concurrency);
        options.name = self.name.to_owned();
        options.host = Arc::new(PlainHost {
            stack_bytes: self.stack_bytes,
        });
        if let Some(clock) = self.clock {
            options.clock = clock.engine_clock();
        }
        let worker = Worker::make(self.name, self.options, &EnginePool::new(options), None);
        if let Some(clock) = self.clock {
            let inner = Arc::downgrade(&worker.0);
            clock.tell(inner);
        }
        worker
    }
}
