//! The reply of an ask: wait for it, await it, or be called.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pytoweb_engine::{self as engine, Ticket, contained};

use crate::ask::TypedTicket;
use crate::error::AskError;
use crate::registry::WorkerId;

/// The reply that an ask will get.
///
/// Dropping it changes nothing: the message is handled all the same.
///
/// ```
/// # use std::convert::Infallible;
/// # use std::time::Duration;
/// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
/// # let worker = Worker::new("w");
/// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
/// worker.start()?;
/// let reply = worker.ask::<u64, u64>("inc", 1)?;
/// assert_eq!(reply.wait()?, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Reply<R> {
    ticket: Arc<dyn TypedTicket<R>>,
    /// A reply keeps no worker.
    worker: WorkerId,
}

impl<R: 'static> fmt::Debug for Reply<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply")
            .field("worker", &self.worker)
            .field("state", self.ticket.state())
            .finish_non_exhaustive()
    }
}

impl<R: Send + 'static> Reply<R> {
    pub(crate) fn new(ticket: Arc<dyn TypedTicket<R>>, worker: WorkerId) -> Self {
        Self { ticket, worker }
    }

    /// Its ticket, and whose it is.
    pub(crate) fn into_parts(self) -> (Arc<dyn TypedTicket<R>>, WorkerId) {
        (self.ticket, self.worker)
    }

    pub(crate) fn ticket(&self) -> Arc<dyn Ticket> {
        self.ticket.clone()
    }

    /// Whether the reply, or the reason why there is none, stands.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// let reply = worker.ask::<u64, u64>("inc", 1)?;
    /// assert!(!reply.is_done());
    /// worker.start()?;
    /// worker.run_until_idle(Duration::from_secs(5))?;
    /// assert!(reply.is_done());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.ticket.state().is_done()
    }

    fn take(&self) -> Result<R, AskError> {
        match self.ticket.take() {
            Some(result) => result,
            None => panic!("a reply was polled after it had been taken"),
        }
    }

    /// Blocks until the reply stands.
    ///
    /// Inside a handler another thread of the pool runs meanwhile, so a pool whose threads all wait goes on.
    ///
    /// # Errors
    /// [`AskError`]; [`AskError::Cycle`] when the wait could never end, because the worker that owes the reply waits,
    /// directly or through others, for the one that called.
    ///
    /// # Examples
    /// ```
    /// # use std::convert::Infallible;
    /// # use pytoweb_workers::Worker;
    /// # let worker = Worker::new("squares");
    /// # worker.on_message("square", |x: u64| Ok::<_, Infallible>(x * x));
    /// # worker.start()?;
    /// let reply = worker.ask::<u64, u64>("square", 12)?;
    /// assert_eq!(reply.wait()?, 144);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait(self) -> Result<R, AskError> {
        if !self.is_done() {
            engine::wait_for(|| self.worker.address(), &self.ticket(), None)?;
        }
        self.take()
    }

    /// Blocks until the reply stands, at most for `limit`. The message goes on when that has passed; the reply comes
    /// back, to wait again, to cancel, or to drop.
    ///
    /// # Errors
    /// The reply, when it does not stand in time.
    ///
    /// # Examples
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::Worker;
    /// let worker = Worker::new("not started yet");
    /// worker.on_message("square", |x: u64| Ok::<_, Infallible>(x * x));
    /// let reply = worker.ask::<u64, u64>("square", 12)?;
    /// let Err(reply) = reply.wait_timeout(Duration::from_millis(1)) else {
    ///     panic!("no worker could handle it");
    /// };
    /// worker.start()?;
    /// assert_eq!(reply.wait()?, 144);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_timeout(self, limit: Duration) -> Result<Result<R, AskError>, Self> {
        if !self.is_done() {
            match engine::wait_for(|| self.worker.address(), &self.ticket(), Some(limit)) {
                Ok(true) => {}
                Ok(false) => return Err(self),
                Err(error) => return Ok(Err(error.into())),
            }
        }
        Ok(self.take())
    }

    /// Cancels the message. True: it was still queued, will not be handled, and its reply is
    /// [`AskError::Cancelled`]. False: its handler runs, and sees [`CurrentMessage::is_cancelled`]; or it is over.
    ///
    /// [`CurrentMessage::is_cancelled`]: crate::CurrentMessage::is_cancelled
    ///
    /// # Examples
    /// ```
    /// # use pytoweb_workers::{AskError, Worker};
    /// let worker = Worker::new("not started yet");
    /// let reply = worker.ask::<u64, u64>("square", 12)?;
    /// assert!(reply.cancel());
    /// assert!(matches!(reply.wait(), Err(AskError::Cancelled)));
    /// assert_eq!(worker.stats().counters.cancelled, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cancel(&self) -> bool {
        let address = self.worker.address();
        let cancelled = address.is_some_and(|address| address.cancel(&self.ticket()));
        if cancelled {
            self.ticket.discard();
        }
        cancelled
    }

    /// Calls `callback` with the reply: on the thread that settles it, which is mostly the worker's, so keep it
    /// short; or here and now if it stands. A callback that panics is reported by the panic hook and changes nothing.
    ///
    /// # Examples
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::sync::mpsc;
    /// # use pytoweb_workers::Worker;
    /// # let worker = Worker::new("squares");
    /// # worker.on_message("square", |x: u64| Ok::<_, Infallible>(x * x));
    /// # worker.start()?;
    /// let (sender, results) = mpsc::channel();
    /// for x in 1..=3_u64 {
    ///     let sender = sender.clone();
    ///     worker.ask::<u64, u64>("square", x)?.on_done(move |result| {
    ///         let _ = sender.send(result);
    ///     });
    /// }
    /// drop(sender);
    /// let squares: Result<Vec<u64>, _> = results.iter().collect();
    /// assert_eq!(squares?, [1, 4, 9]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_done(self, callback: impl FnOnce(Result<R, AskError>) + Send + 'static) {
        let ticket = self.ticket.clone();
        self.ticket.state().on_done(move || {
            let _ = contained(|| {
                if let Some(result) = ticket.take() {
                    callback(result);
                }
            });
        });
    }
}

/// Resolves to what [`Reply::wait`] returns, on any executor. Cancel safe: dropping it leaves the message alone.
///
/// A cycle is not detected here. In a handler [`Reply::wait`] finds it, and lets another thread of the pool run; an executor
/// that blocks the handler's thread (`block_on`) does neither: call it within [`blocking`](crate::blocking).
///
/// # Panics
/// When polled again after it was ready.
impl<R: Send + 'static> Future for Reply<R> {
    type Output = Result<R, AskError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.ticket.state().poll_done(context.waker()) {
            Poll::Ready(self.take())
        } else {
            Poll::Pending
        }
    }
}
