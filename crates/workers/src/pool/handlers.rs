//! The handlers of a pool's own messages, and what is told of their failures and of the end.

use pytoweb_engine::Rate;

use super::WorkerPool;
use crate::batch::Batch;
use crate::concurrent::ConcurrentHandlers;
use crate::error::{BoxError, WorkerError};
use crate::retry::Retry;

impl WorkerPool {
    /// Registers the handler of a kind of message to the pool itself; see
    /// [`Worker::on_message`](crate::Worker::on_message). It runs on several threads at the same time.
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
        ConcurrentHandlers::new(self.own()).on_message(kind, handler);
        self
    }

    /// Registers the handler of a kind of message to the pool itself that is tried again when it fails; see
    /// [`Worker::on_message_retry`](crate::Worker::on_message_retry). It runs on several threads at the same time.
    ///
    /// ```
    /// use std::time::Duration;
    /// use pytoweb_workers::{Retry, WorkerPool};
    ///
    /// let pool = WorkerPool::new(2);
    /// let retry = Retry::new(3).backoff(Duration::ZERO);
    /// pool.on_message_retry("parse", retry, |text: &&str| text.parse::<u64>());
    /// let error = pool.ask::<&str, u64>("parse", "seven")?.wait().unwrap_err();
    /// assert_eq!(error.to_string(), "the handler failed: invalid digit found in string");
    /// assert_eq!(pool.dead_letters()[0].errors().len(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_message_retry<T, R, E, F>(&self, kind: &str, retry: Retry<E>, handler: F) -> &Self
    where
        T: Send + 'static,
        R: Send + 'static,
        E: Into<BoxError> + 'static,
        F: Fn(&T) -> Result<R, E> + Send + Sync + 'static,
    {
        ConcurrentHandlers::new(self.own()).on_message_retry(kind, retry, handler);
        self
    }

    /// Registers the handler of a kind of message to the pool itself that gets several at once; see
    /// [`Worker::on_batch`](crate::Worker::on_batch). Several batches may run at the same time.
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use pytoweb_workers::{Batch, WorkerPool};
    ///
    /// let pool = WorkerPool::new(2);
    /// pool.on_batch("square", Batch::new(8), |numbers: Vec<u64>| {
    ///     numbers.into_iter().map(|n| Ok::<_, Infallible>(n * n))
    /// });
    /// assert_eq!(pool.ask::<u64, u64>("square", 7)?.wait()?, 49);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_batch<T, R, E, I, F>(&self, kind: &str, batch: Batch, handler: F) -> &Self
    where
        T: Send + 'static,
        R: Send + 'static,
        E: Into<BoxError>,
        I: IntoIterator<Item = Result<R, E>>,
        F: Fn(Vec<T>) -> I + Send + Sync + 'static,
    {
        ConcurrentHandlers::new(self.own()).on_batch(kind, batch, handler);
        self
    }

    /// Registers who is told of messages that could not be handled, of the pool itself and of those of its workers that
    /// have no handler of their own; see [`Worker::on_error`](crate::Worker::on_error). A closure that panics is
    /// reported to its [`Reply`](crate::Reply) alone.
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

    /// Has `hook` called when the pool is shut down and the messages of its own mailbox are over: on one of its
    /// threads, before the handlers of that mailbox are dropped. Of several, the one that was registered last runs
    /// first. None is called for a pool that never ran a message. A hook that panics is reported by the panic hook, and
    /// the others run. One that is registered once the pool has ended never runs.
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

    /// Limits how many messages of a kind, sent to the pool itself, begin in a time; see
    /// [`Worker::set_rate`](crate::Worker::set_rate).
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
        self.table().plans.set_rate(kind, rate.into());
        self
    }
}
