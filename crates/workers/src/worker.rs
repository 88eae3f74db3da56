//! The handle of a worker.
//!
//! Long because of its examples, one for each method; a method itself is a line or two.

pub(crate) mod weak;

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use pytoweb_engine::{
    Overflow, PlainHost, Pool as EnginePool, PoolOptions, Rate, StopMode, StopTimedOut,
    WorkerOptions, WorkerState, WorkerStats,
};

use crate::control::MessageBuilder;
use crate::dispatch::Dispatch;
use crate::error::{BoxError, IdleError, SendError, StartError, WorkerError};
use crate::handling;
use crate::kinds::Signature;
use crate::reply::Reply;
use crate::send::{self, Engine, Patience};
use crate::table::{Owner, Table};

pub(crate) struct WorkerInner {
    pub(crate) engine: Engine,
    /// The pool is this worker's alone, and ends with it.
    owns_pool: bool,
}

/// How a worker stops.
///
/// ```
/// use std::time::Duration;
/// use pytoweb_workers::StopOptions;
///
/// let in_five_seconds = StopOptions { timeout: Some(Duration::from_secs(5)), ..StopOptions::default() };
/// assert!(in_five_seconds.drain);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopOptions {
    /// Whether what is queued is handled first, or fails with [`AskError::Stopped`](crate::AskError::Stopped). The
    /// message that runs is finished in any case.
    pub drain: bool,
    /// How long to wait for the end. `None`: as long as it takes.
    pub timeout: Option<Duration>,
}

impl Default for StopOptions {
    /// Drains, and waits as long as it takes.
    fn default() -> Self {
        Self {
            drain: true,
            timeout: None,
        }
    }
}

impl StopOptions {
    pub(crate) const fn mode(self) -> StopMode {
        if self.drain {
            StopMode::Drain
        } else {
            StopMode::FinishRunning
        }
    }
}

/// A named background worker: a bounded mailbox, and handlers that take its messages one at a time, in the order of
/// posting.
///
/// The handle is cheap to clone. When the last clone goes, the worker finishes what is queued and ends; that does not
/// wait, so a program that must see the end calls [`Worker::stop`]. A worker of a [`WorkerPool`](crate::WorkerPool)
/// is held by its pool too.
///
/// ```
/// use pytoweb_workers::Worker;
///
/// let worker = Worker::new("background-tasks");
/// worker.on_message("process", |text: String| {
///     if text.is_empty() { Err("there is nothing to process") } else { Ok(text.len()) }
/// });
/// worker.start()?;
///
/// worker.post_message("process", "fire and forget".to_owned())?;
/// let length: usize = worker.ask("process", "some data".to_owned())?.wait()?;
/// assert_eq!(length, 9);
/// worker.stop();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Worker(Arc<WorkerInner>);

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("name", &self.name())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl PartialEq for Worker {
    /// Whether both are handles of one worker.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Worker {}

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
            options: WorkerOptions::default(),
        }
    }

    pub(crate) fn make(
        name: &str,
        options: WorkerOptions,
        pool: &EnginePool,
        table: Option<&Arc<Table>>,
    ) -> Self {
        let owns_pool = table.is_none();
        let of_pool = table.map_or_else(Weak::new, Arc::downgrade);
        Self(Arc::new_cyclic(|owner: &Weak<WorkerInner>| {
            let owner: Owner = owner.clone();
            let dispatch = Dispatch::new(Table::new(name, Some(owner), of_pool));
            let engine = Engine::new(name, dispatch, options, pool);
            engine.handler().entry.leads_to(&engine.address());
            WorkerInner { engine, owns_pool }
        }))
    }

    fn of_owner(owner: &Owner) -> Option<Self> {
        owner.upgrade()?.downcast().ok().map(Self)
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.0.engine
    }

    fn table(&self) -> &Table {
        &self.engine().handler().table
    }

    /// Registers the handler of a kind of message, in the place of the one before. At any time, also while the worker
    /// runs and from inside a handler; messages that are handled after the call find the new one.
    ///
    /// `T` is the type of the payload and `R` that of the reply: later posts and asks of other types are refused at
    /// the call, and queued ones fail when their turn comes. The error is any [`std::error::Error`], or what turns
    /// into a boxed one. A panic fails the message and leaves the worker, and the handler, in use.
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use pytoweb_workers::Worker;
    ///
    /// let worker = Worker::new("counter");
    /// let mut total = 0;
    /// worker
    ///     .on_message("add", move |n: u64| {
    ///         total += n; // a handler owns its state: messages come one at a time
    ///         Ok::<_, Infallible>(total)
    ///     })
    ///     .on_message("parse", |text: &str| text.parse::<u64>());
    /// worker.start()?;
    /// worker.post_message("add", 40_u64)?;
    /// assert_eq!(worker.ask::<u64, u64>("add", 2)?.wait()?, 42);
    /// assert_eq!(worker.ask::<&str, u64>("parse", "7")?.wait()?, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_message<T, R, E, F>(&self, kind: &str, handler: F) -> &Self
    where
        T: Send + 'static,
        R: Send + 'static,
        E: Into<BoxError>,
        F: FnMut(T) -> Result<R, E> + Send + 'static,
    {
        let registration = handling::exclusive(handler);
        self.table()
            .kinds
            .register(kind, Signature::of::<T, R>(), registration);
        self
    }

    /// Registers who is told of messages that could not be handled: the handler failed or panicked, the kind is
    /// unknown, or the types do not agree. Called on the worker's thread, before the reply stands. One that panics
    /// changes nothing.
    ///
    /// Without it [`WorkerPool::on_error`](crate::WorkerPool::on_error) of the worker's pool is told; without that too such
    /// a failure goes to the reply, and that of a plain post, which has none, to
    /// [`set_error_hook`](crate::set_error_hook)'s, else to standard error.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// let (tell, told) = std::sync::mpsc::channel();
    /// worker.on_error(move |error| tell.send(error.kind().to_owned()).expect("the test listens"));
    /// worker.start()?;
    /// worker.post_message("no handler takes this", ())?;
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

    /// Has `hook` called when the worker has ended: on its own thread, after the last message and before its handlers are
    /// dropped. Of several, the one that was registered last runs first. None is called for a worker that was never
    /// started. A hook that panics is reported by the panic hook, and the others run. [`Worker::stop`] waits for them. One that is registered
    /// once the worker has ended never runs.
    ///
    /// A worker that has ended drops its handlers, on that thread as well, and with them what they hold.
    ///
    /// ```
    /// use pytoweb_workers::Worker;
    ///
    /// let (tell, told) = std::sync::mpsc::channel();
    /// let worker = Worker::new("connected");
    /// worker.on_stop(move || tell.send("closed").expect("the test listens"));
    /// worker.start()?;
    /// worker.stop();
    /// assert_eq!(told.try_recv()?, "closed");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_stop(&self, hook: impl FnOnce() + Send + 'static) -> &Self {
        self.engine().handler().table.add_on_stop(hook);
        self
    }

    /// Lets the worker run. Messages posted before are handled first. Does nothing if it runs.
    ///
    /// # Errors
    /// [`StartError`]; a worker that could not get a thread may be started again.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// worker.post_message("inc", 1_u64)?;
    /// worker.start()?;
    /// worker.start()?;
    /// assert!(worker.is_alive());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn start(&self) -> Result<(), StartError> {
        if self.engine().start()? {
            Ok(())
        } else {
            Err(StartError::Stopped)
        }
    }

    /// Refuses posts from now on, finishes what is queued, and waits for that; for good, and any number of times.
    ///
    /// From inside its own handler, or where the wait could never end, it only refuses posts, and the worker ends
    /// once the rest is done. A worker that was never started has no thread to finish the queued messages: they fail
    /// with [`AskError::Stopped`](crate::AskError::Stopped).
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// worker.start()?;
    /// let reply = worker.ask::<u64, u64>("inc", 1)?;
    /// worker.stop();
    /// assert_eq!(reply.wait()?, 2);
    /// assert!(worker.post_message("inc", 2_u64).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stop(&self) {
        // Without a timeout there is nothing to run out of.
        let _ = self.stop_with(StopOptions::default());
    }

    /// Stops as the options say. When the time is up, the rest of the queue fails with
    /// [`AskError::Stopped`](crate::AskError::Stopped), and a handler that still runs goes on to its end.
    ///
    /// # Errors
    /// [`StopTimedOut`] when the time was up first.
    ///
    /// ```
    /// use pytoweb_workers::{StopOptions, Worker};
    ///
    /// let worker = Worker::new("impatient");
    /// worker.stop_with(StopOptions { drain: false, timeout: None })?;
    /// assert!(!worker.is_alive());
    /// # Ok::<(), pytoweb_workers::StopTimedOut>(())
    /// ```
    pub fn stop_with(&self, options: StopOptions) -> Result<(), StopTimedOut> {
        let inside = pytoweb_engine::current().is_some();
        let stopped = self.engine().stop(options.mode(), options.timeout);
        if self.0.owns_pool {
            let pool = self.engine().pool();
            pool.shutdown();
            // A handler that still runs may take its time, and a handler that waits here may be what it waits for.
            if stopped.is_ok() && !inside {
                pool.join();
            }
        }
        stopped
    }

    /// Abandons: what is queued fails with [`AskError::Stopped`](crate::AskError::Stopped), the reply of the message
    /// that runs does too, and its handler sees [`CurrentMessage::is_cancelled`](crate::CurrentMessage::is_cancelled).
    /// Does not wait.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// let reply = worker.ask::<u64, u64>("inc", 1)?;
    /// worker.terminate();
    /// assert!(matches!(reply.wait(), Err(AskError::Stopped)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn terminate(&self) {
        self.engine().terminate();
        if self.0.owns_pool {
            self.engine().pool().shutdown();
        }
    }

    /// The worker's name.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// assert_eq!(worker.name(), "w");
    /// ```
    #[must_use]
    pub fn name(&self) -> &str {
        self.engine().name()
    }

    /// What it is doing.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// assert_eq!(worker.state(), WorkerState::New);
    /// worker.start()?;
    /// assert_eq!(worker.state(), WorkerState::Running);
    /// worker.stop();
    /// assert_eq!(worker.state(), WorkerState::Stopped);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn state(&self) -> WorkerState {
        self.engine().state()
    }

    /// Whether it was started and has not ended.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// assert!(!worker.is_alive());
    /// worker.start()?;
    /// assert!(worker.is_alive());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !matches!(self.state(), WorkerState::New | WorkerState::Stopped)
    }

    /// Its numbers at one instant. Every message is in exactly one counter:
    /// `posted == completed + failed + dropped() + cancelled + expired + queued + running`.
    ///
    /// ```
    /// # use pytoweb_workers::Worker;
    /// let worker = Worker::new("not started yet");
    /// worker.post_message("job", ())?;
    /// let counters = worker.stats().counters;
    /// assert_eq!((counters.posted, counters.queued), (1, 1));
    /// # Ok::<(), pytoweb_workers::SendError<()>>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> WorkerStats {
        self.engine().stats()
    }

    /// Blocks until nothing is queued and nothing runs, at most for `limit`.
    ///
    /// # Errors
    /// [`IdleError`]: the time was up, or the caller is the worker's own handler.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// worker.start()?;
    /// worker.post_message("inc", 1_u64)?;
    /// worker.run_until_idle(Duration::from_secs(5))?;
    /// assert_eq!(worker.stats().counters.completed, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn run_until_idle(&self, limit: Duration) -> Result<(), IdleError> {
        if self.engine().wait_idle(Some(limit))? {
            Ok(())
        } else {
            Err(IdleError::TimedOut)
        }
    }

    /// A message that says how it is to be queued: priority, key, delay, replacement, size. `post` or `ask` sends it.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// use pytoweb_workers::{Priority, Worker};
    ///
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// worker.start()?;
    /// worker.message("inc", 1_u64).priority(Priority::HIGHEST).key("customer-7").post()?;
    /// assert_eq!(worker.message("inc", 2_u64).key("customer-7").ask::<u64>()?.wait()?, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn message<'a, T>(&'a self, kind: &'a str, data: T) -> MessageBuilder<'a, T> {
        MessageBuilder::new(self.engine(), kind, data)
    }

    /// Limits how many messages of a kind begin in a time; `None` lifts the limit. It holds for messages that are sent from
    /// then on, also before the kind has a handler. Messages of other kinds go ahead of those that wait for it.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::{Duration, Instant};
    /// use pytoweb_workers::{Rate, Worker};
    ///
    /// let worker = Worker::new("mailer");
    /// worker.on_message("send", |(): ()| Ok::<_, Infallible>(Instant::now()));
    /// worker.set_rate("send", Rate::new(100, Duration::from_secs(1), 1)); // one every 10 ms
    /// let replies = [worker.ask::<(), Instant>("send", ())?, worker.ask("send", ())?];
    /// worker.start()?;
    /// let [first, second] = replies.map(|reply| reply.wait());
    /// assert!(second?.duration_since(first?) >= Duration::from_millis(5));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_rate(&self, kind: &str, rate: impl Into<Option<Rate>>) -> &Self {
        self.table().rates.set(kind, rate.into());
        self
    }

    /// Posts a message that no caller waits for. Blocks while the mailbox is full and its policy is
    /// [`Overflow::Block`]; messages of one thread are handled in the order of its posts.
    ///
    /// Before [`Worker::start`] messages queue. A kind that has no handler is no error here: one may be registered
    /// before the message's turn comes, and if none is, `on_error` is told.
    ///
    /// # Errors
    /// [`SendError`] gives the message back.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// worker.start()?;
    /// worker.post_message("inc", 1_u64)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn post_message<T: Send + 'static>(&self, kind: &str, data: T) -> Result<(), SendError<T>> {
        send::post(self.engine(), kind, data, None, Patience::Wait)
    }

    /// Posts like [`Worker::post_message`], and waits for room at most for `limit`.
    ///
    /// # Errors
    /// [`SendError::Full`] when there was no room in time; else as [`Worker::post_message`].
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// let small = Worker::builder("small").capacity(1).build();
    /// let limit = Duration::from_millis(1);
    /// assert!(small.post_message_timeout("job", 1, limit).is_ok());
    /// assert!(small.post_message_timeout("job", 2, limit).is_err());
    /// ```
    pub fn post_message_timeout<T: Send + 'static>(
        &self,
        kind: &str,
        data: T,
        limit: Duration,
    ) -> Result<(), SendError<T>> {
        send::post(self.engine(), kind, data, None, Patience::WaitFor(limit))
    }

    /// Posts without waiting.
    ///
    /// # Errors
    /// [`SendError::Full`] when there is no room now; else as [`Worker::post_message`].
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// let small = Worker::builder("small").capacity(1).build();
    /// assert!(small.try_post_message("job", 1).is_ok());
    /// assert!(small.try_post_message("job", 2).is_err());
    /// ```
    pub fn try_post_message<T: Send + 'static>(
        &self,
        kind: &str,
        data: T,
    ) -> Result<(), SendError<T>> {
        send::post(self.engine(), kind, data, None, Patience::Never)
    }

    /// Posts many messages of a kind, in order, with one lock and one wake-up for as many as fit. Returns how many
    /// were accepted: all, but for those that [`Overflow::DropNewest`] dropped.
    ///
    /// # Errors
    /// [`SendError`] gives back the messages that were not accepted, which are the last ones.
    ///
    /// ```
    /// use pytoweb_workers::{Overflow, SendError, Worker};
    ///
    /// let worker = Worker::builder("small").capacity(2).overflow(Overflow::Reject).build();
    /// let Err(SendError::Full(rest)) = worker.post_messages("job", [1, 2, 3, 4]) else {
    ///     panic!("only two fit");
    /// };
    /// assert_eq!(rest, [3, 4]);
    /// assert_eq!(worker.stats().counters.rejected, 2);
    /// ```
    pub fn post_messages<T: Send + 'static>(
        &self,
        kind: &str,
        items: impl IntoIterator<Item = T>,
    ) -> Result<usize, SendError<Vec<T>>> {
        send::post_many(self.engine(), kind, items)
    }

    /// Posts a message and returns its [`Reply`]. Blocks as [`Worker::post_message`] does.
    ///
    /// # Errors
    /// [`SendError`] gives the message back; what happens later is the reply's [`AskError`](crate::AskError).
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// worker.start()?;
    /// assert_eq!(worker.ask::<u64, u64>("inc", 1)?.wait()?, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn ask<T, R>(&self, kind: &str, data: T) -> Result<Reply<R>, SendError<T>>
    where
        T: Send + 'static,
        R: Send + 'static,
    {
        send::ask(self.engine(), kind, data, None, Patience::Wait)
    }

    /// Asks with a deadline `limit` from now. When it passes while the message is queued, the message is never
    /// handled; when it passes while the handler runs, the handler sees
    /// [`CurrentMessage::is_cancelled`](crate::CurrentMessage::is_cancelled) and the worker is
    /// [`WorkerState::Stuck`] until it returns. The reply is [`AskError::Expired`](crate::AskError::Expired) in both
    /// cases, at the deadline.
    ///
    /// # Errors
    /// As [`Worker::ask`]; [`SendError::Full`] when there was no room before the deadline.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Worker};
    /// let worker = Worker::new("not started yet");
    /// let reply = worker.ask_timeout::<u64, u64>("square", 12, Duration::from_millis(1))?;
    /// assert!(matches!(reply.wait(), Err(AskError::Expired)));
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
        send::ask(self.engine(), kind, data, None, Patience::Deadline(limit))
    }

    /// Runs a closure as one message of the worker, in order with the others.
    ///
    /// # Errors
    /// [`SendError`] gives the closure back.
    ///
    /// ```
    /// # use pytoweb_workers::Worker;
    /// let worker = Worker::new("sums");
    /// worker.start()?;
    /// let numbers = vec![1, 2, 3];
    /// let sum = worker.submit(move || numbers.iter().sum::<i32>()).map_err(|_| "stopped")?;
    /// assert_eq!(sum.wait()?, 6);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn submit<F, R>(&self, closure: F) -> Result<Reply<R>, SendError<F>>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        send::submit(self.engine(), "submit", closure)
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
    options: WorkerOptions,
}

impl WorkerBuilder<'_> {
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
    /// [`MessageBuilder::bytes`] says. One that never fits is [`SendError::TooLarge`](crate::SendError::TooLarge); the overflow
    /// policy holds for the others.
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
        let pool = EnginePool::new(PoolOptions {
            name: self.name.to_owned(),
            host: Arc::new(PlainHost {
                stack_bytes: self.stack_bytes,
            }),
            ..PoolOptions::new(1)
        });
        Worker::make(self.name, self.options, &pool, None)
    }
}
