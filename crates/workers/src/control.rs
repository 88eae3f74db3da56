//! A message that says how it is to be queued: priority, key, delay, replacement, size; and how often it is tried.

use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant};

use pytoweb_engine::{Key, Priority};

use crate::error::SendError;
use crate::reply::Reply;
use crate::retry::Retry;
use crate::send::{self, Engine, Patience};
use crate::stream::StreamReply;
use crate::wishes::Wishes;

/// A message that says how it is to be queued, made by [`Worker::message`](crate::Worker::message) and
/// [`WorkerPool::message`](crate::WorkerPool::message). [`MessageBuilder::post`] or [`MessageBuilder::ask`] sends it.
///
/// ```
/// use std::convert::Infallible;
/// use std::time::Duration;
/// use pytoweb_workers::{Priority, Worker};
///
/// let worker = Worker::new("orders");
/// worker.on_message("add", |n: u64| Ok::<_, Infallible>(n + 1));
/// worker.start()?;
/// worker.message("add", 1_u64).priority(Priority::of::<7>()).key("customer-7").post()?;
/// let reply = worker.message("add", 2_u64).delay(Duration::from_millis(5)).ask::<u64>()?;
/// assert_eq!(reply.wait()?, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a message is sent by post or ask"]
pub struct MessageBuilder<'a, T> {
    engine: &'a Engine,
    kind: &'a str,
    data: T,
    wishes: Wishes,
}

impl<T> fmt::Debug for MessageBuilder<'_, T> {
    /// Without the payload, so that it need not implement `Debug`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageBuilder")
            .field("worker", &self.engine.name())
            .field("kind", &self.kind)
            .field("wishes", &self.wishes)
            .finish_non_exhaustive()
    }
}

impl<'a, T> MessageBuilder<'a, T> {
    pub(crate) fn new(engine: &'a Engine, kind: &'a str, data: T) -> Self {
        Self {
            engine,
            kind,
            data,
            wishes: Wishes::default(),
        }
    }

    /// How urgent it is, from 0 to 9; 4 unless told otherwise. It goes before those of a lower priority, which age: one that
    /// is `d` levels lower waits behind at most `d` × 1024 that came later. Where several priorities keep coming and handlers
    /// take less than 10 us, an urgent one may go behind up to 16 others.
    ///
    /// A number that comes from outside of the program goes through [`Priority::new`], which says whether there is such a
    /// priority.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::sync::mpsc::channel;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{Priority, Worker};
    /// let (tell, told) = channel();
    /// let worker = Worker::new("w");
    /// worker.on_message("say", move |n: u64| tell.send(n));
    /// worker.post_message("say", 1_u64)?;
    /// worker.message("say", 2_u64).priority(Priority::HIGHEST).post()?;
    /// let given = Priority::new(3).ok_or("a priority is a number from 0 to 9")?;
    /// worker.message("say", 3_u64).priority(given).post()?;
    /// worker.start()?;
    /// worker.stop();
    /// assert_eq!(told.try_iter().collect::<Vec<_>>(), [2, 1, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub const fn priority(mut self, priority: Priority) -> Self {
        self.wishes.priority = Some(priority);
        self
    }

    /// Its key: messages of the worker, or of the pool's own mailbox, with one key run one after the other and, where they
    /// have one priority and no delay, in the order of their posts; keys take turns. In a pool, messages of other keys run
    /// beside them.
    ///
    /// A text, bytes, or a `u64`. A key up to 14 bytes long costs no allocation of its own.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use pytoweb_workers::{Key, WorkerPool};
    /// let pool = WorkerPool::new(2);
    /// pool.on_message("book", |n: u64| Ok::<_, Infallible>(n));
    /// let customer = Key::from("customer-7");
    /// for amount in 1..=3_u64 {
    ///     pool.message("book", amount).key(customer.clone()).post()?;
    /// }
    /// assert_eq!(pool.message("book", 4_u64).key(7).ask::<u64>()?.wait()?, 4);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn key(mut self, key: impl Into<Key>) -> Self {
        self.wishes.key = Some(key.into());
        self
    }

    /// Its key, of which only the latest message of this kind is kept: it takes the place of the queued one, if there is one
    /// that was posted so too. The old one is counted as replaced, and its reply is
    /// [`AskError::Dropped`](crate::AskError::Dropped). A message that runs already is not replaced.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use pytoweb_workers::{AskError, DropReason, Worker};
    /// let worker = Worker::new("display");
    /// worker.on_message("price", |cents: u64| Ok::<_, Infallible>(cents));
    /// let old = worker.message("price", 100_u64).keep_latest("ACME").ask::<u64>()?;
    /// let new = worker.message("price", 101_u64).keep_latest("ACME").ask::<u64>()?;
    /// worker.start()?;
    /// assert!(matches!(old.wait(), Err(AskError::Dropped(DropReason::Replaced))));
    /// assert_eq!(new.wait()?, 101);
    /// assert_eq!(worker.stats().counters.replaced, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn keep_latest(mut self, key: impl Into<Key>) -> Self {
        self.wishes.key = Some(key.into());
        self.wishes.keep_latest = true;
        self
    }

    /// It does not begin before that time from now, and takes its place in the order then. Meanwhile it takes room in the
    /// mailbox. A worker that stops does not wait for it: it fails with [`AskError::Stopped`](crate::AskError::Stopped).
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::{Duration, Instant};
    /// # use pytoweb_workers::Worker;
    /// let worker = Worker::new("reminders");
    /// worker.on_message("remind", |(): ()| Ok::<_, Infallible>(Instant::now()));
    /// worker.start()?;
    /// let begin = Instant::now();
    /// let reply = worker.message("remind", ()).delay(Duration::from_millis(20)).ask::<Instant>()?;
    /// assert!(reply.wait()? >= begin + Duration::from_millis(20));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn delay(mut self, delay: Duration) -> Self {
        let clock = self.engine.pool().clock();
        self.wishes.not_before = (!delay.is_zero()).then(|| clock.now().after(delay));
        self
    }

    /// The same, with the time at which it may begin; one that has passed is no delay.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::{Duration, Instant};
    /// # use pytoweb_workers::Worker;
    /// let worker = Worker::new("reminders");
    /// worker.on_message("remind", |(): ()| Ok::<_, Infallible>(Instant::now()));
    /// worker.start()?;
    /// let at = Instant::now() + Duration::from_millis(20);
    /// let reply = worker.message("remind", ()).not_before(at).ask::<Instant>()?;
    /// assert!(reply.wait()? >= at);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn not_before(self, at: Instant) -> Self {
        self.delay(at.saturating_duration_since(Instant::now()))
    }

    /// Its size, for a mailbox that is bounded by bytes. Unless told otherwise it is that of the payload's type, which for a
    /// `Vec` or a `String` is that of the handle alone.
    ///
    /// ```
    /// # use pytoweb_workers::{Overflow, SendError, Worker};
    /// let worker = Worker::builder("images").bytes(1 << 20).overflow(Overflow::Reject).build();
    /// let image = vec![0_u8; 900_000];
    /// let size = image.len();
    /// worker.message("scale", image).bytes(size).post()?;
    /// assert_eq!(worker.stats().counters.bytes, 900_000);
    /// let refused = worker.message("scale", vec![0_u8; 900_000]).bytes(size).post();
    /// assert!(matches!(refused, Err(SendError::Full(_))));
    /// let refused = worker.message("scale", Vec::<u8>::new()).bytes(2 << 20).post();
    /// assert!(matches!(refused, Err(SendError::TooLarge(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub const fn bytes(mut self, bytes: usize) -> Self {
        self.wishes.bytes = Some(bytes);
        self
    }

    /// How often it is tried when its handler fails, instead of what is said for its kind; `Retry::new(1)` is once. The
    /// predicate of [`Retry::on`] gets the handler's error boxed. In a batch it counts for this message alone.
    ///
    /// Its kind is one of [`on_message_retry`](crate::Worker::on_message_retry): else it is refused with
    /// [`SendError::NotRetried`], or tried once where its handler is registered after it was sent.
    ///
    /// ```
    /// use std::num::ParseIntError;
    /// use std::time::Duration;
    /// use pytoweb_workers::{Retry, SendError, Worker, current_message};
    ///
    /// let worker = Worker::new("parser");
    /// worker.on_message_retry("parse", Retry::new(5), |text: &String| text.parse::<u64>());
    /// worker.on_message("print", |text: String| -> Result<(), ParseIntError> { Ok(println!("{text}")) });
    /// worker.start()?;
    /// let once = worker.message("parse", "one".to_owned()).retry(Retry::new(1));
    /// assert!(once.ask::<u64>()?.wait().is_err());
    /// assert_eq!(worker.stats().counters.retried, 0);
    /// let refused = worker.message("print", "two".to_owned()).retry(Retry::new(2)).post();
    /// assert!(matches!(refused, Err(SendError::NotRetried(text)) if text == "two"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn retry(mut self, retry: Retry<Box<dyn Error + Send + Sync>>) -> Self {
        self.wishes.retry = Some(Box::new(retry));
        self
    }
}

impl<T: Send + 'static> MessageBuilder<'_, T> {
    /// Posts it; see [`Worker::post_message`](crate::Worker::post_message).
    ///
    /// # Errors
    /// [`SendError`] gives the payload back.
    ///
    /// ```
    /// # use pytoweb_workers::{Priority, Worker};
    /// let worker = Worker::new("w");
    /// worker.message("job", 1_u64).priority(Priority::HIGHEST).post()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn post(self) -> Result<(), SendError<T>> {
        self.enter(Patience::Wait)
    }

    /// Posts it, and waits for room at most for `limit`.
    ///
    /// # Errors
    /// [`SendError::Full`] when there was no room in time; else as [`MessageBuilder::post`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use pytoweb_workers::Worker;
    /// let small = Worker::builder("small").capacity(1).build();
    /// let limit = Duration::from_millis(1);
    /// assert!(small.message("job", 1).key("a").post_timeout(limit).is_ok());
    /// assert!(small.message("job", 2).key("a").post_timeout(limit).is_err());
    /// ```
    pub fn post_timeout(self, limit: Duration) -> Result<(), SendError<T>> {
        self.enter(Patience::WaitFor(limit))
    }

    /// Posts it without waiting.
    ///
    /// # Errors
    /// [`SendError::Full`] when there is no room now; else as [`MessageBuilder::post`].
    ///
    /// ```
    /// # use pytoweb_workers::Worker;
    /// let small = Worker::builder("small").capacity(1).build();
    /// assert!(small.message("job", 1).key("a").try_post().is_ok());
    /// assert!(small.message("job", 2).key("a").try_post().is_err());
    /// ```
    pub fn try_post(self) -> Result<(), SendError<T>> {
        self.enter(Patience::Never)
    }

    /// Sends it and returns its [`Reply`], to wait for or to `await`; see [`Worker::ask`](crate::Worker::ask).
    ///
    /// # Errors
    /// [`SendError`] gives the payload back; what happens later is the reply's [`AskError`](crate::AskError).
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use pytoweb_workers::Worker;
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// worker.start()?;
    /// assert_eq!(worker.message("inc", 1_u64).key("a").ask::<u64>()?.wait()?, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn ask<R: Send + 'static>(self) -> Result<Reply<R>, SendError<T>> {
        self.enter_ask(Patience::Wait)
    }

    /// The same with a deadline `limit` from now, which holds while a delay lasts, too: see
    /// [`Worker::ask_timeout`](crate::Worker::ask_timeout).
    ///
    /// # Errors
    /// As [`MessageBuilder::ask`]; [`SendError::Full`] when there was no room before the deadline.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Worker};
    /// let worker = Worker::new("not started yet");
    /// let reply = worker.message("job", 1_u64).key("a").ask_timeout::<u64>(Duration::from_millis(1))?;
    /// assert!(matches!(reply.wait(), Err(AskError::Expired)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn ask_timeout<R: Send + 'static>(self, limit: Duration) -> Result<Reply<R>, SendError<T>> {
        self.enter_ask(Patience::Deadline(limit))
    }

    /// Sends a message whose handler answers with a stream, and may be `window` items ahead of its reader, at least 1; see
    /// [`Worker::stream`](crate::Worker::stream).
    ///
    /// # Errors
    /// As [`MessageBuilder::ask`].
    ///
    /// ```
    /// use pytoweb_workers::{Priority, StreamSender, Worker};
    ///
    /// let worker = Worker::new("numbers");
    /// worker.on_stream("up-to", |last: u32, items: &StreamSender<u32>| {
    ///     (0..last).try_for_each(|number| items.send(number))
    /// });
    /// worker.start()?;
    /// let urgent = worker.message("up-to", 3_u32).priority(Priority::HIGHEST);
    /// assert_eq!(urgent.stream::<u32>(1)?.count(), 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stream<I: Send + 'static>(self, window: usize) -> Result<StreamReply<I>, SendError<T>> {
        self.enter_stream(window, Patience::Wait)
    }

    /// The same with a deadline for the whole stream, `limit` from now: then the stream ends with
    /// [`AskError::Expired`](crate::AskError::Expired) after the items that came before, and the handler's next item comes
    /// back to it.
    ///
    /// # Errors
    /// As [`MessageBuilder::ask_timeout`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use pytoweb_workers::{AskError, Worker};
    ///
    /// let worker = Worker::new("not started yet");
    /// let message = worker.message("up-to", 3_u32);
    /// let mut stream = message.stream_timeout::<u32>(8, Duration::from_millis(1))?;
    /// assert!(matches!(stream.next(), Some(Err(AskError::Expired))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stream_timeout<I: Send + 'static>(
        self,
        window: usize,
        limit: Duration,
    ) -> Result<StreamReply<I>, SendError<T>> {
        self.enter_stream(window, Patience::Deadline(limit))
    }

    fn enter_stream<I: Send + 'static>(
        self,
        window: usize,
        patience: Patience,
    ) -> Result<StreamReply<I>, SendError<T>> {
        let this = self.checked()?;
        let (request, read) = StreamReply::channel(this.data, window);
        send::ask(this.engine, this.kind, request, Some(this.wishes), patience)
            .map(read)
            .map_err(|error| error.map(|request| request.data))
    }

    /// Itself, unless it is to be tried again and cannot be.
    #[inline]
    fn checked(self) -> Result<Self, SendError<T>> {
        if self.wishes.retry.is_some() && !send::may_retry(self.engine, self.kind) {
            return Err(SendError::NotRetried(self.data));
        }
        Ok(self)
    }

    fn enter(self, patience: Patience) -> Result<(), SendError<T>> {
        let this = self.checked()?;
        send::post(
            this.engine,
            this.kind,
            this.data,
            Some(this.wishes),
            patience,
        )
    }

    fn enter_ask<R: Send + 'static>(self, patience: Patience) -> Result<Reply<R>, SendError<T>> {
        let this = self.checked()?;
        send::ask(
            this.engine,
            this.kind,
            this.data,
            Some(this.wishes),
            patience,
        )
    }
}
