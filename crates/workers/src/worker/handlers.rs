//! The handlers of a worker, and what is told of their failures and of its end.

use pytoweb_engine::Rate;

use super::Worker;
use crate::batch::Batch;
use crate::batching;
use crate::concurrent::ConcurrentHandlers;
use crate::error::{BoxError, WorkerError};
use crate::handling;
use crate::kinds::Signature;
use crate::retry::Retry;
use crate::{trying, trying_together};

impl Worker {
    /// Registers the handler of a kind of message, in the place of the one before. At any time, also while the worker
    /// runs and from inside a handler; messages that are handled after the call find the new one.
    ///
    /// `T` is the type of the payload and `R` that of the reply: later posts and asks of other types are refused at
    /// the call, and queued ones fail when their turn comes. The error is any [`std::error::Error`], or what turns
    /// into a boxed one. A panic fails the message and leaves the worker, and the handler, in use.
    ///
    /// # Panics
    /// When the worker handles several messages at the same time: see [`Worker::concurrent`].
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
    #[track_caller]
    pub fn on_message<T, R, E, F>(&self, kind: &str, handler: F) -> &Self
    where
        T: Send + 'static,
        R: Send + 'static,
        E: Into<BoxError>,
        F: FnMut(T) -> Result<R, E> + Send + 'static,
    {
        self.assert_one_at_a_time();
        let registration = handling::exclusive(handler);
        let signature = Signature::of::<T, R>();
        self.table().register(kind, signature, registration, None);
        self
    }

    /// Registers the handler of a kind of message that is tried again when it fails, as `retry` says; see
    /// [`Worker::on_message`](crate::Worker::on_message) for the rest.
    ///
    /// The handler gets the payload by reference: so it is there for the next attempt, and for the dead letter, without
    /// a copy, and need not be `Clone`. [`CurrentMessage::attempt`](crate::CurrentMessage::attempt) is the number of
    /// the attempt. A handler may run more than once for a message, so what it does should bear that.
    ///
    /// - Only the last failure reaches the reply, and [`on_error`](Worker::on_error).
    /// - A deadline and a cancel are for all attempts together. After them, and after a stop of the worker, there is no
    ///   other attempt: a message that waits for one when the worker stops fails with the error of the last one.
    /// - What fails for good is a dead letter: see [`dead_letters`](Worker::dead_letters).
    /// - [`Counters::retried`](crate::Counters::retried) counts the attempts after the first.
    ///
    /// # Panics
    /// When the worker handles several messages at the same time: see [`Worker::concurrent`].
    ///
    /// ```
    /// use std::io;
    /// use std::time::Duration;
    /// use pytoweb_workers::{Retry, Worker, current_message};
    ///
    /// struct Order(u64);
    ///
    /// let worker = Worker::new("shop");
    /// let retry = Retry::new(5)
    ///     .backoff(Duration::from_millis(10))
    ///     .on(|error: &io::Error| error.kind() == io::ErrorKind::TimedOut);
    /// worker.on_message_retry("deliver", retry, |order: &Order| {
    ///     if current_message().is_some_and(|message| message.attempt() < 3) {
    ///         return Err(io::Error::from(io::ErrorKind::TimedOut));
    ///     }
    ///     Ok(format!("order {} is delivered", order.0))
    /// });
    /// worker.start()?;
    /// let reply = worker.ask::<Order, String>("deliver", Order(7))?;
    /// assert_eq!(reply.wait()?, "order 7 is delivered");
    /// assert_eq!(worker.stats().counters.retried, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn on_message_retry<T, R, E, F>(&self, kind: &str, retry: Retry<E>, handler: F) -> &Self
    where
        T: Send + 'static,
        R: Send + 'static,
        E: Into<BoxError> + 'static,
        F: FnMut(&T) -> Result<R, E> + Send + 'static,
    {
        self.assert_one_at_a_time();
        let registration = trying::exclusive(retry, handler);
        let signature = Signature::of::<T, R>().retrying();
        self.table().register(kind, signature, registration, None);
        self
    }

    /// Registers the handler of a kind of message that gets several at once, as `batch` says; in the place of the handler
    /// before, for messages that are posted from now on.
    ///
    /// It gets their payloads in the order of their posts, and returns a result for each, in that order: a `Vec`, an
    /// array, or any iterator. An error fails its own message alone. Another number of results, or a panic, fails all
    /// of the batch. A message that is alone comes in a list of one.
    ///
    /// All else is as for [`Worker::on_message`]: each message has its own reply, deadline and place in the mailbox,
    /// and counts as one. One that was cancelled, or whose deadline has passed, before the batch began is not in it.
    /// Messages of other kinds are not held up: the batch passes those that stand between its messages, so a worker
    /// with batches keeps order by kind. Messages with a key are batched with those of their key.
    /// [`current_message`](crate::current_message) stands for all of the batch.
    ///
    /// # Panics
    /// When the worker handles several messages at the same time: see [`Worker::concurrent`].
    ///
    /// ```
    /// use std::num::ParseIntError;
    /// use std::time::Duration;
    /// use pytoweb_workers::{Batch, Worker};
    ///
    /// let worker = Worker::new("adder");
    /// let batch = Batch::new(64).max_wait(Duration::from_millis(10));
    /// worker.on_batch("parse", batch, |texts: Vec<&str>| -> Vec<Result<u64, ParseIntError>> {
    ///     texts.iter().map(|text| text.parse()).collect()
    /// });
    /// worker.start()?;
    /// let replies = ["1", "two", "3"].map(|text| worker.ask::<&str, u64>("parse", text));
    /// let [one, two, three] = replies.map(|reply| reply.expect("there is room").wait());
    /// assert_eq!((one?, three?), (1, 3));
    /// assert_eq!(two.unwrap_err().to_string(), "the handler failed: invalid digit found in string");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn on_batch<T, R, E, I, F>(&self, kind: &str, batch: Batch, handler: F) -> &Self
    where
        T: Send + 'static,
        R: Send + 'static,
        E: Into<BoxError>,
        I: IntoIterator<Item = Result<R, E>>,
        F: FnMut(Vec<T>) -> I + Send + 'static,
    {
        self.assert_one_at_a_time();
        let registration = batching::exclusive(handler);
        let signature = Signature::of::<T, R>();
        self.table()
            .register(kind, signature, registration, Some(batch));
        self
    }

    /// Registers the handler of a kind of message that gets several at once, as of [`Worker::on_batch`], and each of which is
    /// tried again when it fails, as of [`Worker::on_message_retry`].
    ///
    /// The handler gets the payloads by reference, and returns a result for each. An error is a failed attempt of its own
    /// message alone; a panic is one of all. Each message waits and is counted for itself, and may come in another batch: with
    /// no [`jitter`](Retry::jitter), those that failed together mostly come together. With a key they keep their places. Another
    /// number of results fails all of the batch for good. [`CurrentMessage::attempt`](crate::CurrentMessage::attempt) is
    /// that of the first message.
    ///
    /// # Panics
    /// When the worker handles several messages at the same time: see [`Worker::concurrent`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use pytoweb_workers::{Batch, Retry, Worker};
    ///
    /// let worker = Worker::new("adder");
    /// let retry = Retry::new(3).backoff(Duration::ZERO);
    /// worker.on_batch_retry("parse", Batch::new(64), retry, |texts: &[&String]| {
    ///     texts.iter().map(|text| text.parse::<u64>()).collect::<Vec<_>>()
    /// });
    /// worker.start()?;
    /// let replies = ["1", "two"].map(|text| worker.ask::<String, u64>("parse", text.to_owned()));
    /// let [one, two] = replies.map(|reply| reply.expect("there is room").wait());
    /// assert_eq!(one?, 1);
    /// assert!(two.is_err());
    /// assert_eq!(worker.dead_letters()[0].errors().len(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
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
        F: FnMut(&[&T]) -> I + Send + 'static,
    {
        self.assert_one_at_a_time();
        let registration = trying_together::exclusive(retry, handler);
        let signature = Signature::of::<T, R>().retrying();
        self.table()
            .register(kind, signature, registration, Some(batch));
        self
    }

    /// A handler that owns its state must not run beside itself.
    #[track_caller]
    fn assert_one_at_a_time(&self) {
        assert!(
            self.engine().is_exclusive(),
            "worker `{}` handles up to {} messages at the same time: its handlers are registered with `concurrent()`, and \
             are `Fn + Sync`",
            self.name(),
            self.engine().concurrency()
        );
    }

    /// Registers handlers that may run several at the same time: those of a worker that was made with a
    /// [`concurrency`](crate::WorkerBuilder::concurrency) above one. Of another worker they run one at a time all the
    /// same.
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
    #[must_use]
    pub fn concurrent(&self) -> ConcurrentHandlers<'_> {
        ConcurrentHandlers::new(self.engine())
    }

    /// Registers who is told of messages that could not be handled: the handler failed or panicked, the kind is
    /// unknown, or the types do not agree. Called on the worker's thread, before the reply stands. One that panics
    /// changes nothing.
    ///
    /// Without it [`WorkerPool::on_error`](crate::WorkerPool::on_error) of the worker's pool is told; without that too
    /// such a failure goes to the reply, and that of a plain post, which has none, to
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

    /// Has `hook` called when the worker has ended: on its own thread, after the last message and before its handlers
    /// are dropped. Of several, the one that was registered last runs first. None is called for a worker that was never
    /// started. A hook that panics is reported by the panic hook, and the others run. [`Worker::stop`] waits for them.
    /// One that is registered once the worker has ended never runs.
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

    /// Limits how many messages of a kind begin in a time; `None` lifts the limit. It holds for messages that are sent
    /// from then on, also before the kind has a handler. Messages of other kinds go ahead of those that wait for it.
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
        self.table().plans.set_rate(kind, rate.into());
        self
    }
}
