//! Messages and closures to the pool itself.

use std::time::Duration;

use super::WorkerPool;
use crate::control::MessageBuilder;
use crate::error::SendError;
use crate::reply::Reply;
use crate::send::{self, Patience};

impl WorkerPool {
    /// A message to whichever thread is free that says how it is to be queued; see
    /// [`Worker::message`](crate::Worker::message).
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

    /// Posts a message to whichever thread is free; see [`Worker::post_message`](crate::Worker::post_message).
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

    /// Posts, and waits for room at most for `limit`; see
    /// [`Worker::post_message_timeout`](crate::Worker::post_message_timeout).
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

    /// Posts without waiting; see [`Worker::try_post_message`](crate::Worker::try_post_message).
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

    /// Posts many messages of a kind; see [`Worker::post_messages`](crate::Worker::post_messages).
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

    /// Asks whichever thread is free; see [`Worker::ask`](crate::Worker::ask).
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

    /// Asks with a deadline; see [`Worker::ask_timeout`](crate::Worker::ask_timeout).
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
