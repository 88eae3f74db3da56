//! The handle of a pool.
//!
//! Long because of its examples, one for each method; a method itself is a line or two.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

use pytoweb_engine::{
    self as engine, Counters, PlainHost, Pool as EnginePool, PoolOptions, Rate, StopTimedOut,
    TimingStats, WorkerOptions, WorkerState, WorkerStats,
};

use crate::control::MessageBuilder;
use crate::dispatch::Dispatch;
use crate::error::{BoxError, CreateError, IdleError, SendError, WorkerError};
use crate::handling;
use crate::kinds::{Signature, lock};
use crate::reply::Reply;
use crate::send::{self, Engine, Patience};
use crate::table::Table;
use crate::worker::{StopOptions, Worker};

struct Workers {
    by_name: BTreeMap<String, Worker>,
    closed: bool,
}

struct PoolInner {
    threads: EnginePool,
    /// The pool's own mailbox.
    own: Engine,
    workers: Mutex<Workers>,
}

/// A fixed number of threads that run any number of named workers, and messages and closures of their own.
///
/// Each worker handles its messages one at a time, in order, on whichever thread is free. Messages posted to the pool
/// itself run on as many threads at once as it has, so their handlers are `Fn + Sync`; it is open from the start.
///
/// The handle is cheap to clone. When the last clone goes, the pool lets go of its workers and finishes what is
/// queued, without waiting; a program that must see the end calls [`WorkerPool::shutdown`].
///
/// ```
/// use std::convert::Infallible;
/// use pytoweb_workers::WorkerPool;
///
/// let pool = WorkerPool::new(4);
/// let worker = pool.create_worker("background-tasks")?;
/// worker.on_message("process", |n: u64| Ok::<_, Infallible>(n + 1));
/// worker.start()?;
/// assert_eq!(worker.ask::<u64, u64>("process", 1)?.wait()?, 2);
///
/// pool.on_message("square", |n: u64| Ok::<_, Infallible>(n * n));
/// assert_eq!(pool.ask::<u64, u64>("square", 9)?.wait()?, 81);
/// pool.shutdown();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct WorkerPool(Arc<PoolInner>);

impl fmt::Debug for WorkerPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerPool")
            .field("name", &self.name())
            .field("size", &self.size())
            .finish_non_exhaustive()
    }
}

impl PartialEq for WorkerPool {
    /// Whether both are handles of one pool.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for WorkerPool {}

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
            options: WorkerOptions::default(),
        }
    }

    /// The pool's name, which its threads carry.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// assert_eq!(WorkerPool::builder().name("images").build().name(), "images");
    /// ```
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.threads.name()
    }

    /// Threads that run handlers at the same time.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// assert_eq!(WorkerPool::builder().size(3).build().size(), 3);
    /// ```
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.threads.size()
    }

    /// Makes a worker of this pool, with the default options. Starts nothing.
    ///
    /// # Errors
    /// [`CreateError::NameTaken`] when there is a worker of this name that is not stopped.
    ///
    /// ```
    /// # use pytoweb_workers::{CreateError, WorkerPool};
    /// let pool = WorkerPool::new(1);
    /// let first = pool.create_worker("images")?;
    /// assert_eq!(pool.create_worker("images"), Err(CreateError::NameTaken("images".to_owned())));
    /// first.stop();
    /// pool.create_worker("images")?;
    /// # Ok::<(), CreateError>(())
    /// ```
    pub fn create_worker(&self, name: &str) -> Result<Worker, CreateError> {
        self.create_worker_with(name, WorkerOptions::default())
    }

    /// Makes a worker of this pool. Starts nothing.
    ///
    /// # Errors
    /// As [`WorkerPool::create_worker`].
    ///
    /// # Panics
    /// When the capacity is 0.
    ///
    /// ```
    /// # use pytoweb_workers::{Overflow, WorkerOptions, WorkerPool};
    /// let pool = WorkerPool::new(1);
    /// let options = WorkerOptions { capacity: 100, overflow: Overflow::DropOldest, ..WorkerOptions::default() };
    /// assert_eq!(pool.create_worker_with("latest", options)?.stats().capacity, 100);
    /// # Ok::<(), pytoweb_workers::CreateError>(())
    /// ```
    pub fn create_worker_with(
        &self,
        name: &str,
        options: WorkerOptions,
    ) -> Result<Worker, CreateError> {
        let mut workers = lock(&self.0.workers);
        if is_taken(&workers, name) {
            return Err(CreateError::NameTaken(name.to_owned()));
        }
        let (worker, old) = self.insert(&mut workers, name, options)?;
        drop(workers);
        drop(old);
        Ok(worker)
    }

    fn insert(
        &self,
        workers: &mut Workers,
        name: &str,
        options: WorkerOptions,
    ) -> Result<(Worker, Option<Worker>), CreateError> {
        if name.is_empty() {
            return Err(CreateError::EmptyName);
        }
        if workers.closed {
            return Err(CreateError::Stopped);
        }
        let worker = Worker::make(name, options, &self.0.threads, Some(self.table()));
        let old = workers.by_name.insert(name.to_owned(), worker.clone());
        Ok((worker, old))
    }

    /// The worker of this name, made and started if there is none that is not stopped.
    pub(crate) fn ensure_worker(&self, name: &str) -> Result<Worker, CreateError> {
        let mut workers = lock(&self.0.workers);
        if is_taken(&workers, name)
            && let Some(worker) = workers.by_name.get(name)
        {
            return Ok(worker.clone());
        }
        let (worker, old) = self.insert(&mut workers, name, WorkerOptions::default())?;
        drop(workers);
        drop(old);
        Ok(worker)
    }

    /// The worker of this name, stopped or not.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// let made = pool.create_worker("one")?;
    /// assert_eq!(pool.get_worker("one"), Some(made));
    /// assert_eq!(pool.get_worker("two"), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn get_worker(&self, name: &str) -> Option<Worker> {
        lock(&self.0.workers).by_name.get(name).cloned()
    }

    /// Forgets a worker and stops it, as [`Worker::stop`] does. Returns it, for its numbers; `None` if there is none
    /// of this name.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// pool.create_worker("one")?;
    /// assert!(pool.remove_worker("one").is_some());
    /// assert!(pool.get_worker("one").is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn remove_worker(&self, name: &str) -> Option<Worker> {
        let worker = lock(&self.0.workers).by_name.remove(name)?;
        worker.stop();
        Some(worker)
    }

    /// The pool's workers, in the order of their names.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// pool.create_worker("one")?;
    /// assert_eq!(pool.workers().len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn workers(&self) -> Vec<Worker> {
        lock(&self.0.workers).by_name.values().cloned().collect()
    }

    /// Stops every worker of the pool, which stays open itself. All refuse posts before the first is waited for.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// let one = pool.create_worker("one")?;
    /// one.start()?;
    /// pool.stop_all();
    /// assert!(!one.is_alive());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stop_all(&self) {
        // Without a timeout there is nothing to run out of.
        let _ = self.stop_all_with(StopOptions::default());
    }

    /// Stops every worker of the pool as the options say; the timeout is for all of them together.
    ///
    /// # Errors
    /// [`StopTimedOut`] with the messages that failed in all of them, when the time was up first.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// let one = pool.create_worker("one")?;
    /// one.start()?;
    /// pool.stop_all_with(StopOptions::default())?;
    /// assert!(!one.is_alive());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stop_all_with(&self, options: StopOptions) -> Result<(), StopTimedOut> {
        let workers = self.workers();
        for worker in &workers {
            worker.engine().close(options.mode());
        }
        stop_each(workers.iter().map(Worker::engine), options)
    }

    /// Stops the workers and the pool itself: refuses work, finishes what is queued, and waits for the threads. From
    /// inside a handler of the pool it does not wait for those.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// let reply = pool.ask::<u64, u64>("inc", 1)?;
    /// pool.shutdown();
    /// assert_eq!(reply.wait()?, 2);
    /// assert!(pool.post_message("inc", 2_u64).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shutdown(&self) {
        // Without a timeout there is nothing to run out of.
        let _ = self.shutdown_with(StopOptions::default());
    }

    /// Shuts down as the options say.
    ///
    /// # Errors
    /// [`StopTimedOut`] when the time was up first: the rest of the queues has failed, and handlers still run.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// pool.shutdown_with(StopOptions::default())?;
    /// assert!(pool.is_shut_down());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shutdown_with(&self, options: StopOptions) -> Result<(), StopTimedOut> {
        let inside = engine::current().is_some();
        lock(&self.0.workers).closed = true;
        let workers = self.workers();
        for worker in workers.iter().map(Worker::engine).chain([&self.0.own]) {
            worker.close(options.mode());
        }
        let stopped = stop_each(
            workers.iter().map(Worker::engine).chain([&self.0.own]),
            options,
        );
        self.0.threads.shutdown();
        if stopped.is_ok() && !inside {
            self.0.threads.join();
        }
        stopped
    }

    /// Whether [`WorkerPool::shutdown`] was called.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// assert!(!pool.is_shut_down());
    /// pool.shutdown();
    /// assert!(pool.is_shut_down());
    /// ```
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        lock(&self.0.workers).closed
    }

    /// Blocks until nothing is queued and nothing runs, in the pool itself and in all its workers, at most for
    /// `limit`. A worker that was not started and has messages is not idle.
    ///
    /// # Errors
    /// [`IdleError`]: the time was up, or the caller is a handler of one of the workers.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// pool.post_message("inc", 1_u64)?;
    /// pool.run_until_idle(Duration::from_secs(5))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn run_until_idle(&self, limit: Duration) -> Result<(), IdleError> {
        let until = Instant::now().checked_add(limit);
        loop {
            let workers = self.workers();
            let before = self.posted(&workers);
            for worker in workers.iter().map(Worker::engine).chain([&self.0.own]) {
                let left = until.map(|until| until.saturating_duration_since(Instant::now()));
                if !worker.wait_idle(left)? {
                    return Err(IdleError::TimedOut);
                }
            }
            // One that was idle may have been given work by the next.
            if self.posted(&self.workers()) == before {
                return Ok(());
            }
        }
    }

    fn posted(&self, workers: &[Worker]) -> u64 {
        let own = self.0.own.stats().counters.posted;
        own + workers
            .iter()
            .map(|worker| worker.stats().counters.posted)
            .sum::<u64>()
    }

    /// Its numbers, each worker's at one instant.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// pool.ask::<u64, u64>("inc", 1)?.wait()?;
    /// assert_eq!(pool.stats().own.counters.completed, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let own = self.0.own.stats();
        let workers: BTreeMap<_, _> = self
            .workers()
            .iter()
            .map(|worker| (worker.name().to_owned(), worker.stats()))
            .collect();
        let mut counters = own.counters;
        let mut busy = own.busy;
        for worker in workers.values() {
            counters.add(&worker.counters);
            busy += worker.busy;
        }
        PoolStats {
            name: self.name().to_owned(),
            size: self.size(),
            threads: self.0.threads.threads(),
            counters,
            busy,
            timings: WorkerStats::merged_timings(workers.values().chain([&own])),
            own,
            workers,
        }
    }

    fn own(&self) -> &Engine {
        &self.0.own
    }

    fn table(&self) -> &Arc<Table> {
        &self.own().handler().table
    }

    /// Registers the handler of a kind of message to the pool itself; see [`Worker::on_message`]. It runs on several
    /// threads at the same time.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// pool.on_message("double", |n: u64| Ok::<_, Infallible>(n * 2));
    /// assert_eq!(pool.ask::<u64, u64>("double", 4)?.wait()?, 8);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_message<T, R, E, F>(&self, kind: &str, handler: F) -> &Self
    where
        T: Send + 'static,
        R: Send + 'static,
        E: Into<BoxError>,
        F: Fn(T) -> Result<R, E> + Send + Sync + 'static,
    {
        let registration = handling::concurrent(handler);
        self.table()
            .kinds
            .register(kind, Signature::of::<T, R>(), registration);
        self
    }

    /// Registers who is told of messages that could not be handled, of the pool itself and of those of its workers that
    /// have no handler of their own; see [`Worker::on_error`]. A closure that panics is reported to its [`Reply`] alone.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// let (tell, told) = std::sync::mpsc::channel();
    /// pool.on_error(move |error| tell.send(error.kind().to_owned()).expect("the test listens"));
    /// pool.post_message("no handler takes this", ())?;
    /// assert_eq!(told.recv_timeout(Duration::from_secs(5))?, "no handler takes this");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_error<F>(&self, handler: F) -> &Self
    where
        F: Fn(&WorkerError) + Send + Sync + 'static,
    {
        self.table().set_on_error(handler);
        self
    }

    /// Has `hook` called when the pool is shut down and the messages of its own mailbox are over: on one of its threads,
    /// before the handlers of that mailbox are dropped. Of several, the one that was registered last runs first. None is
    /// called for a pool that never ran a message. A hook that panics is reported by the panic hook, and the others run. One
    /// that is registered once the pool has ended never runs.
    ///
    /// ```
    /// use pytoweb_workers::WorkerPool;
    ///
    /// let (tell, told) = std::sync::mpsc::channel();
    /// let pool = WorkerPool::new(2);
    /// pool.on_stop(move || tell.send("closed").expect("the test listens"));
    /// pool.submit(|| ())?.wait()?;
    /// pool.shutdown();
    /// assert_eq!(told.try_recv()?, "closed");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_stop(&self, hook: impl FnOnce() + Send + 'static) -> &Self {
        self.0.own.handler().table.add_on_stop(hook);
        self
    }

    /// A message to whichever thread is free that says how it is to be queued; see [`Worker::message`].
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// use pytoweb_workers::WorkerPool;
    ///
    /// let pool = WorkerPool::new(2);
    /// pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// pool.message("inc", 1_u64).key("customer-7").post()?;
    /// assert_eq!(pool.message("inc", 2_u64).key("customer-7").ask::<u64>()?.wait()?, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn message<'a, T>(&'a self, kind: &'a str, data: T) -> MessageBuilder<'a, T> {
        MessageBuilder::new(self.own(), kind, data)
    }

    /// Limits how many messages of a kind, sent to the pool itself, begin in a time; see [`Worker::set_rate`].
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// use pytoweb_workers::{Rate, WorkerPool};
    ///
    /// let pool = WorkerPool::new(2);
    /// pool.on_message("fetch", |n: u64| Ok::<_, Infallible>(n));
    /// pool.set_rate("fetch", Rate::new(20, Duration::from_secs(1), 5));
    /// assert_eq!(pool.ask::<u64, u64>("fetch", 1)?.wait()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_rate(&self, kind: &str, rate: impl Into<Option<Rate>>) -> &Self {
        self.table().rates.set(kind, rate.into());
        self
    }

    /// Posts a message to whichever thread is free; see [`Worker::post_message`].
    ///
    /// # Errors
    /// [`SendError`] gives the message back.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// pool.post_message("inc", 1_u64)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn post_message<T: Send + 'static>(&self, kind: &str, data: T) -> Result<(), SendError<T>> {
        send::post(self.own(), kind, data, None, Patience::Wait)
    }

    /// Posts, and waits for room at most for `limit`; see [`Worker::post_message_timeout`].
    ///
    /// # Errors
    /// [`SendError`] gives the message back.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// pool.post_message_timeout("inc", 1_u64, Duration::from_secs(1))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn post_message_timeout<T: Send + 'static>(
        &self,
        kind: &str,
        data: T,
        limit: Duration,
    ) -> Result<(), SendError<T>> {
        send::post(self.own(), kind, data, None, Patience::WaitFor(limit))
    }

    /// Posts without waiting; see [`Worker::try_post_message`].
    ///
    /// # Errors
    /// [`SendError`] gives the message back.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// pool.try_post_message("inc", 1_u64)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_post_message<T: Send + 'static>(
        &self,
        kind: &str,
        data: T,
    ) -> Result<(), SendError<T>> {
        send::post(self.own(), kind, data, None, Patience::Never)
    }

    /// Posts many messages of a kind; see [`Worker::post_messages`].
    ///
    /// # Errors
    /// [`SendError`] gives back the messages that were not accepted.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// assert_eq!(pool.post_messages("inc", [1_u64, 2, 3])?, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn post_messages<T: Send + 'static>(
        &self,
        kind: &str,
        items: impl IntoIterator<Item = T>,
    ) -> Result<usize, SendError<Vec<T>>> {
        send::post_many(self.own(), kind, items)
    }

    /// Asks whichever thread is free; see [`Worker::ask`].
    ///
    /// # Errors
    /// [`SendError`] gives the message back.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// assert_eq!(pool.ask::<u64, u64>("inc", 1)?.wait()?, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn ask<T, R>(&self, kind: &str, data: T) -> Result<Reply<R>, SendError<T>>
    where
        T: Send + 'static,
        R: Send + 'static,
    {
        send::ask(self.own(), kind, data, None, Patience::Wait)
    }

    /// Asks with a deadline; see [`Worker::ask_timeout`].
    ///
    /// # Errors
    /// [`SendError`] gives the message back.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// let reply = pool.ask_timeout::<u64, u64>("inc", 1, Duration::from_secs(5))?;
    /// assert_eq!(reply.wait()?, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn ask_timeout<T, R>(
        &self,
        kind: &str,
        data: T,
        limit: Duration,
    ) -> Result<Reply<R>, SendError<T>>
    where
        T: Send + 'static,
        R: Send + 'static,
    {
        send::ask(self.own(), kind, data, None, Patience::Deadline(limit))
    }

    /// Runs a closure on whichever thread is free.
    ///
    /// # Errors
    /// [`SendError`] gives the closure back.
    ///
    /// ```
    /// # use pytoweb_workers::WorkerPool;
    /// let pool = WorkerPool::new(2);
    /// let replies: Vec<_> = (1..=3).filter_map(|n| pool.submit(move || n * n).ok()).collect();
    /// let squares: Result<Vec<i32>, _> = replies.into_iter().map(|reply| reply.wait()).collect();
    /// assert_eq!(squares?, [1, 4, 9]);
    /// # Ok::<(), pytoweb_workers::AskError>(())
    /// ```
    pub fn submit<F, R>(&self, closure: F) -> Result<Reply<R>, SendError<F>>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        send::submit(self.own(), "submit", closure)
    }
}

fn is_taken(workers: &Workers, name: &str) -> bool {
    workers
        .by_name
        .get(name)
        .is_some_and(|worker| worker.state() != WorkerState::Stopped)
}

fn stop_each<'a>(
    workers: impl Iterator<Item = &'a Engine>,
    options: StopOptions,
) -> Result<(), StopTimedOut> {
    let until = options
        .timeout
        .and_then(|timeout| Instant::now().checked_add(timeout));
    let mut late = None;
    for worker in workers {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        if let Err(StopTimedOut { failed }) = worker.stop(options.mode(), left) {
            *late.get_or_insert(0) += failed;
        }
    }
    late.map_or(Ok(()), |failed| Err(StopTimedOut { failed }))
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
    pub const fn overflow(mut self, overflow: engine::Overflow) -> Self {
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
    /// [`MessageBuilder::bytes`] says. One that never fits is [`SendError::TooLarge`](crate::SendError::TooLarge); the overflow
    /// policy holds for the others.
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
        let threads = EnginePool::new(options);
        let dispatch = Dispatch::new(Table::new(threads.name(), None, Weak::new()));
        let own = Engine::shared(threads.name(), dispatch, self.options, &threads);
        own.handler().entry.leads_to(&own.address());
        WorkerPool(Arc::new(PoolInner {
            threads,
            own,
            workers: Mutex::new(Workers {
                by_name: BTreeMap::new(),
                closed: false,
            }),
        }))
    }
}

/// A pool's numbers: each worker's, and their sum.
///
/// ```
/// # use std::convert::Infallible;
/// # use std::time::Duration;
/// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
/// # let pool = WorkerPool::new(2);
/// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
/// let stats = pool.stats();
/// assert_eq!(stats.own.counters.posted, 0);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PoolStats {
    /// The pool's name.
    pub name: String,
    /// Threads that run handlers at the same time.
    pub size: usize,
    /// Threads that exist now.
    pub threads: usize,
    /// The pool's own mailbox.
    pub own: WorkerStats,
    /// The workers by name.
    pub workers: BTreeMap<String, WorkerStats>,
    /// What became of all their messages.
    pub counters: Counters,
    /// Time that the threads spent on all of them.
    pub busy: Duration,
    /// How long messages waited and ran, in all of them.
    pub timings: TimingStats,
}
