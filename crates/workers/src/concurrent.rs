//! Handlers that run several at the same time, of a pool's own messages and of a worker with more than one at a time.

use crate::batch::Batch;
use crate::batching;
use crate::error::BoxError;
use crate::handling;
use crate::kinds::Signature;
use crate::retry::Retry;
use crate::send::Engine;
use crate::stream::{StreamRequest, StreamSender};
use crate::{trying, trying_together};

/// Registers handlers that may run several at the same time, with themselves and with each other: they are `Fn + Sync`,
/// and what they share needs a lock, or messages with a key. Made by [`Worker::concurrent`](crate::Worker::concurrent).
///
/// ```
/// use std::convert::Infallible;
/// use pytoweb_workers::Worker;
///
/// let worker = Worker::builder("squares").concurrency(4).build();
/// worker.concurrent().on_message("square", |n: u64| Ok::<_, Infallible>(n * n));
/// worker.start()?;
/// assert_eq!(worker.ask::<u64, u64>("square", 7)?.wait()?, 49);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct ConcurrentHandlers<'a> {
    engine: &'a Engine,
}

impl std::fmt::Debug for ConcurrentHandlers<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConcurrentHandlers")
            .field("worker", &self.engine.name())
            .finish_non_exhaustive()
    }
}

impl<'a> ConcurrentHandlers<'a> {
    pub(crate) const fn new(engine: &'a Engine) -> Self {
        Self { engine }
    }

    /// Registers the handler of a kind of message, in the place of the one before; see
    /// [`Worker::on_message`](crate::Worker::on_message).
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use pytoweb_workers::Worker;
    /// # let worker = Worker::builder("w").concurrency(4).build();
    /// worker
    ///     .concurrent()
    ///     .on_message("double", |n: u64| Ok::<_, Infallible>(n * 2))
    ///     .on_message("parse", |text: &str| text.parse::<u64>());
    /// # worker.start()?;
    /// assert_eq!(worker.ask::<&str, u64>("parse", "7")?.wait()?, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_message<T, R, E, F>(&self, kind: &str, handler: F) -> &Self
    where
        T: Send + 'static,
        R: Send + 'static,
        E: Into<BoxError>,
        F: Fn(T) -> Result<R, E> + Send + Sync + 'static,
    {
        let registration = if self.engine.is_exclusive() {
            handling::exclusive(handler)
        } else {
            handling::concurrent(handler)
        };
        let signature = Signature::of::<T, R>();
        let table = &self.engine.handler().table;
        table.register(kind, signature, registration, None);
        self
    }

    /// Registers the handler of a kind of message that is tried again when it fails; see
    /// [`Worker::on_message_retry`](crate::Worker::on_message_retry).
    ///
    /// ```
    /// use std::time::Duration;
    /// use pytoweb_workers::{Retry, Worker};
    ///
    /// let worker = Worker::builder("w").concurrency(4).build();
    /// # worker.start()?;
    /// let retry = Retry::new(3).backoff(Duration::ZERO);
    /// worker.concurrent().on_message_retry("parse", retry, |text: &&str| text.parse::<u64>());
    /// let error = worker.ask::<&str, u64>("parse", "seven")?.wait().unwrap_err();
    /// assert_eq!(error.to_string(), "the handler failed: invalid digit found in string");
    /// assert_eq!(worker.dead_letters()[0].errors().len(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_message_retry<T, R, E, F>(&self, kind: &str, retry: Retry<E>, handler: F) -> &Self
    where
        T: Send + 'static,
        R: Send + 'static,
        E: Into<BoxError> + 'static,
        F: Fn(&T) -> Result<R, E> + Send + Sync + 'static,
    {
        let registration = if self.engine.is_exclusive() {
            trying::exclusive(retry, handler)
        } else {
            trying::concurrent(retry, handler)
        };
        let signature = Signature::of::<T, R>().retrying();
        let table = &self.engine.handler().table;
        table.register(kind, signature, registration, None);
        self
    }

    /// Registers the handler of a kind of message that gets several at once; see
    /// [`Worker::on_batch`](crate::Worker::on_batch). Several batches may run at the same time.
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use pytoweb_workers::{Batch, Worker};
    ///
    /// let worker = Worker::builder("w").concurrency(4).build();
    /// # worker.start()?;
    /// worker.concurrent().on_batch("square", Batch::new(8), |numbers: Vec<u64>| {
    ///     numbers.into_iter().map(|n| Ok::<_, Infallible>(n * n))
    /// });
    /// assert_eq!(worker.ask::<u64, u64>("square", 7)?.wait()?, 49);
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
        let registration = if self.engine.is_exclusive() {
            batching::exclusive(handler)
        } else {
            batching::concurrent(handler)
        };
        let signature = Signature::of::<T, R>();
        let table = &self.engine.handler().table;
        table.register(kind, signature, registration, Some(batch));
        self
    }

    /// The same for a handler that answers with a stream; see [`Worker::on_stream`](crate::Worker::on_stream).
    ///
    /// ```
    /// use pytoweb_workers::{StreamSender, Worker};
    ///
    /// let worker = Worker::builder("numbers").concurrency(4).build();
    /// worker.concurrent().on_stream("up-to", |last: u32, items: &StreamSender<u32>| {
    ///     (0..last).try_for_each(|number| items.send(number))
    /// });
    /// worker.start()?;
    /// assert_eq!(worker.stream::<u32, u32>("up-to", 3)?.count(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_stream<T, I, E, F>(&self, kind: &str, handler: F) -> &Self
    where
        T: Send + 'static,
        I: Send + 'static,
        E: Into<BoxError>,
        F: Fn(T, &StreamSender<I>) -> Result<(), E> + Send + Sync + 'static,
    {
        self.on_message(kind, move |request: StreamRequest<T, I>| {
            handler(request.data, &request.sender)
        })
    }

    /// Registers the handler of a kind of message that gets several at once, each of which is tried again when it fails;
    /// see [`Worker::on_batch_retry`](crate::Worker::on_batch_retry). Several batches may run at the same time.
    ///
    /// ```
    /// use std::time::Duration;
    /// use pytoweb_workers::{Batch, Retry, Worker};
    ///
    /// let worker = Worker::builder("w").concurrency(4).build();
    /// # worker.start()?;
    /// let retry = Retry::new(2).backoff(Duration::ZERO);
    /// worker.concurrent().on_batch_retry("parse", Batch::new(8), retry, |texts: &[&&str]| {
    ///     texts.iter().map(|text| text.parse::<u64>()).collect::<Vec<_>>()
    /// });
    /// assert_eq!(worker.ask::<&str, u64>("parse", "7")?.wait()?, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_batch_retry<T, R, E, I, F>(
        &self,
        kind: &str,
        batch: Batch,
        retry: Retry<E>,
        handler: F,
    ) -> &Self
    where
        T: Send + 'static,
        R: Send + 'static,
        E: Into<BoxError> + 'static,
        I: IntoIterator<Item = Result<R, E>>,
        F: Fn(&[&T]) -> I + Send + Sync + 'static,
    {
        let registration = if self.engine.is_exclusive() {
            trying_together::exclusive(retry, handler)
        } else {
            trying_together::concurrent(retry, handler)
        };
        let signature = Signature::of::<T, R>().retrying();
        let table = &self.engine.handler().table;
        table.register(kind, signature, registration, Some(batch));
        self
    }
}
