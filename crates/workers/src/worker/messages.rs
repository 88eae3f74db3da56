//! Messages and closures to a worker.

use std::time::Duration;

use super::Worker;
use crate::control::MessageBuilder;
use crate::error::SendError;
use crate::reply::Reply;
use crate::send::{self, Patience};

impl Worker {
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

    /// Posts a message that no caller waits for. Blocks while the mailbox is full and its policy is
    /// [`Overflow::Block`](crate::Overflow::Block); messages of one thread are handled in the order of its posts.
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

    /// Posts like [`Worker::post_message`](crate::Worker::post_message), and waits for room at most for `limit`.
    ///
    /// # Errors
    /// [`SendError::Full`] when there was no room in time; else as [`Worker::post_message`](crate::Worker::post_message).
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
    /// [`SendError::Full`] when there is no room now; else as [`Worker::post_message`](crate::Worker::post_message).
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
    /// were accepted: all, but for those that [`Overflow::DropNewest`](crate::Overflow::DropNewest) dropped.
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

    /// Posts a message and returns its [`Reply`](crate::Reply). Blocks as [`Worker::post_message`] does.
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

    /// Asks with a deadline `limit` from now. When it passes while the message is queued, the message is never handled;
    /// when it passes while the handler runs, the handler sees
    /// [`CurrentMessage::is_cancelled`](crate::CurrentMessage::is_cancelled) and the worker is
    /// [`WorkerState::Stuck`](crate::WorkerState::Stuck) until it returns. The reply is
    /// [`AskError::Expired`](crate::AskError::Expired) in both cases, at the deadline.
    ///
    /// # Errors
    /// As [`Worker::ask`](crate::Worker::ask); [`SendError::Full`] when there was no room before the deadline.
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
