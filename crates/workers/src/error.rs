//! The error tree: what a post, an ask, a start and a creation can end with.
//!
//! Long because of its examples, one for each error and each question to it.

use std::any::type_name;
use std::error::Error;
use std::fmt;
use std::io;

use pytoweb_engine::{DropReason, Failure, PostError, ThreadLimit, WaitError, contained};
use thiserror::Error as ThisError;

/// Any error, on its way between threads.
pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// Which of a handler's two types did not fit.
///
/// ```
/// # use std::convert::Infallible;
/// # use std::time::Duration;
/// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
/// # let worker = Worker::new("w");
/// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
/// use pytoweb_workers::{Part, SendError};
/// let Err(SendError::WrongType(_, mismatch)) = worker.post_message("inc", "text") else {
///     panic!("it takes a number");
/// };
/// assert_eq!(mismatch.part(), Part::Payload);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Part {
    /// The type of the message's data.
    Payload,
    /// The type of the reply.
    Reply,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mismatch {
    kind: String,
    part: Part,
    expected: &'static str,
    found: &'static str,
}

/// A message and the handler of its kind disagree on a type.
///
/// ```
/// use std::convert::Infallible;
/// use pytoweb_workers::{SendError, Worker};
///
/// let worker = Worker::new("squares");
/// worker.on_message("square", |x: u64| Ok::<_, Infallible>(x * x));
/// let Err(SendError::WrongType(data, mismatch)) = worker.post_message("square", "seven") else {
///     panic!("the payload is not a number");
/// };
/// assert_eq!(data, "seven");
/// assert_eq!(mismatch.to_string(), "the handler of `square` takes u64, but the payload is &str");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeMismatch(Box<Mismatch>);

impl TypeMismatch {
    pub(crate) fn payload<T>(kind: &str, expected: &'static str) -> Self {
        Self::of_payload(kind, expected, type_name::<T>())
    }

    pub(crate) fn of_payload(kind: &str, expected: &'static str, found: &'static str) -> Self {
        Self::new(kind, Part::Payload, expected, found)
    }

    pub(crate) fn reply<R>(kind: &str, expected: &'static str) -> Self {
        Self::new(kind, Part::Reply, expected, type_name::<R>())
    }

    fn new(kind: &str, part: Part, expected: &'static str, found: &'static str) -> Self {
        Self(Box::new(Mismatch {
            kind: kind.to_owned(),
            part,
            expected,
            found,
        }))
    }

    /// The kind of the message.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// use pytoweb_workers::SendError;
    /// let Err(SendError::WrongType(_, mismatch)) = worker.post_message("inc", "text") else {
    ///     panic!("it takes a number");
    /// };
    /// assert_eq!(mismatch.kind(), "inc");
    /// ```
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.0.kind
    }

    /// Which type it is about.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// use pytoweb_workers::SendError;
    /// let Err(SendError::WrongType(_, mismatch)) = worker.post_message("inc", "text") else {
    ///     panic!("it takes a number");
    /// };
    /// assert_eq!(mismatch.part(), pytoweb_workers::Part::Payload);
    /// ```
    #[must_use]
    pub fn part(&self) -> Part {
        self.0.part
    }

    /// The handler's type, as [`std::any::type_name`] writes it.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// use pytoweb_workers::SendError;
    /// let Err(SendError::WrongType(_, mismatch)) = worker.post_message("inc", "text") else {
    ///     panic!("it takes a number");
    /// };
    /// assert_eq!(mismatch.expected(), "u64");
    /// ```
    #[must_use]
    pub fn expected(&self) -> &'static str {
        self.0.expected
    }

    /// The sender's type.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// use pytoweb_workers::SendError;
    /// let Err(SendError::WrongType(_, mismatch)) = worker.post_message("inc", "text") else {
    ///     panic!("it takes a number");
    /// };
    /// assert_eq!(mismatch.found(), "&str");
    /// ```
    #[must_use]
    pub fn found(&self) -> &'static str {
        self.0.found
    }
}

impl fmt::Display for TypeMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mismatch {
            kind,
            part,
            expected,
            found,
        } = &*self.0;
        match part {
            Part::Payload => write!(
                f,
                "the handler of `{kind}` takes {expected}, but the payload is {found}"
            ),
            Part::Reply => write!(
                f,
                "the handler of `{kind}` replies with {expected}, but {found} was asked for"
            ),
        }
    }
}

impl Error for TypeMismatch {}

/// A message that was not accepted. It comes back: [`SendError::into_inner`], or match on it.
///
/// ```
/// use pytoweb_workers::{SendError, Worker};
///
/// let worker = Worker::new("stopped");
/// worker.stop();
/// match worker.post_message("job", vec![1, 2, 3]) {
///     Err(SendError::Stopped(job)) => assert_eq!(job, [1, 2, 3]),
///     other => panic!("{other:?}"),
/// }
/// ```
#[derive(ThisError)]
#[non_exhaustive]
pub enum SendError<T> {
    /// There was no room in the mailbox, or none in time. Try later, or choose another overflow policy.
    #[error("the mailbox is full")]
    Full(T),
    /// It has more bytes than the worker's messages may have together, so it never fits: send it in parts.
    #[error("the message has more bytes than the mailbox may hold")]
    TooLarge(T),
    /// The messages that are queued have waited too long, for too long, so the worker takes no more for now.
    #[error("the worker is overloaded: its oldest message has waited too long")]
    Overloaded(T),
    /// The worker was stopped. It stays so: make a new one.
    #[error("the worker is stopped")]
    Stopped(T),
    /// The mailbox is full, and waiting for room would never end: the sender is the worker's own handler, or one that
    /// the worker waits for.
    #[error("the mailbox is full, and its worker cannot make room while it waits for the sender")]
    WouldDeadlock(T),
    /// The handler of this kind takes or returns another type.
    #[error("{1}")]
    WrongType(T, TypeMismatch),
    /// The message says how often it is tried, and the handler of this kind takes its payload by value, so that it is gone after
    /// the first attempt: register the handler with [`on_message_retry`](crate::Worker::on_message_retry).
    #[error(
        "the handler takes its message by value, so it cannot be tried again: register it with on_message_retry"
    )]
    NotRetried(T),
    /// The pool has no thread, and the system refused one. Or the sender, a handler, would have to wait for room, and as
    /// many wait in its pool as that may have threads beyond its size ([`ThreadLimit`] is the inner error).
    #[error("no thread could be started: {1}")]
    NoThread(T, #[source] io::Error),
}

impl<T> SendError<T> {
    /// The message.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// worker.stop();
    /// let error = worker.post_message("inc", 7_u64).expect_err("it is stopped");
    /// assert_eq!(error.into_inner(), 7);
    /// ```
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(data)
            | Self::TooLarge(data)
            | Self::Overloaded(data)
            | Self::Stopped(data)
            | Self::WouldDeadlock(data)
            | Self::WrongType(data, _)
            | Self::NotRetried(data)
            | Self::NoThread(data, _) => data,
        }
    }

    pub(crate) fn map<U>(self, f: impl FnOnce(T) -> U) -> SendError<U> {
        match self {
            Self::Full(data) => SendError::Full(f(data)),
            Self::TooLarge(data) => SendError::TooLarge(f(data)),
            Self::Overloaded(data) => SendError::Overloaded(f(data)),
            Self::Stopped(data) => SendError::Stopped(f(data)),
            Self::WouldDeadlock(data) => SendError::WouldDeadlock(f(data)),
            Self::WrongType(data, mismatch) => SendError::WrongType(f(data), mismatch),
            Self::NotRetried(data) => SendError::NotRetried(f(data)),
            Self::NoThread(data, error) => SendError::NoThread(f(data), error),
        }
    }

    pub(crate) fn from_post<M>(error: PostError<M>, unpack: impl FnOnce(M) -> T) -> Self {
        match error {
            PostError::Full(message) => Self::Full(unpack(message)),
            PostError::TooLarge(message) => Self::TooLarge(unpack(message)),
            PostError::Shed(message) => Self::Overloaded(unpack(message)),
            PostError::WouldDeadlock(message) => Self::WouldDeadlock(unpack(message)),
            PostError::NoThread(message, error) => Self::NoThread(unpack(message), error),
            PostError::Stopped(message) => Self::Stopped(unpack(message)),
            other => unreachable!("{}", unknown_refusal(&other)),
        }
    }
}

/// The engine's enum may grow, but engine and facade are released together.
fn unknown_refusal<M>(_: &PostError<M>) -> &'static str {
    "a reason for a refusal that this version does not know"
}

impl<T> fmt::Debug for SendError<T> {
    /// Without the message, so that it need not implement `Debug`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Full(_) => "Full",
            Self::TooLarge(_) => "TooLarge",
            Self::Overloaded(_) => "Overloaded",
            Self::Stopped(_) => "Stopped",
            Self::WouldDeadlock(_) => "WouldDeadlock",
            Self::NotRetried(_) => "NotRetried",
            Self::WrongType(_, mismatch) => {
                return f
                    .debug_tuple("WrongType")
                    .field(mismatch)
                    .finish_non_exhaustive();
            }
            Self::NoThread(_, error) => {
                return f
                    .debug_tuple("NoThread")
                    .field(error)
                    .finish_non_exhaustive();
            }
        };
        f.debug_tuple(name).finish_non_exhaustive()
    }
}

/// Why an ask has no reply.
///
/// ```
/// use pytoweb_workers::{AskError, Worker};
///
/// let worker = Worker::new("parser");
/// worker.on_message("parse", |text: String| text.parse::<u64>());
/// worker.start()?;
/// let error = worker.ask::<String, u64>("parse", "seven".to_owned())?.wait().unwrap_err();
/// assert!(error.downcast_ref::<std::num::ParseIntError>().is_some());
/// assert_eq!(error.to_string(), "the handler failed: invalid digit found in string");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum AskError {
    /// The handler returned this error.
    #[error("the handler failed: {0}")]
    Failed(#[source] BoxError),
    /// The handler panicked with this text. The worker lives.
    #[error("the handler panicked: {0}")]
    Panicked(String),
    /// No handler is registered for the kind.
    #[error("no handler is registered for `{kind}`")]
    Unknown {
        /// The kind of the message.
        kind: String,
    },
    /// The handler of this kind, registered after the message was sent, takes or returns another type.
    #[error("{0}")]
    WrongType(TypeMismatch),
    /// The overflow policy dropped the message from a full mailbox; or a newer one took its place, see
    /// [`MessageBuilder::keep_latest`](crate::MessageBuilder::keep_latest).
    #[error("{}", dropped(*.0))]
    Dropped(DropReason),
    /// The worker was stopped before it handled the message.
    #[error("the worker stopped before it handled the message")]
    Stopped,
    /// The message was cancelled while it was queued.
    #[error("the message was cancelled")]
    Cancelled,
    /// The deadline passed, while the message was queued or while its handler ran.
    #[error("the deadline passed")]
    Expired,
    /// The workers named wait for each other, the first for the second and the last for the first.
    #[error("workers wait for each other: {}", circle(.0))]
    Cycle(Vec<String>),
    /// All threads of the pool wait for replies, and the system refused another one.
    #[error("all threads of the pool wait for replies, and another could not be started: {0}")]
    NoThread(#[source] io::Error),
    /// As many handlers of the pool wait as it may have threads beyond its size; see
    /// [`PoolBuilder::max_spare_threads`](crate::PoolBuilder::max_spare_threads).
    #[error("{0}")]
    ThreadLimit(ThreadLimit),
}

fn dropped(reason: DropReason) -> String {
    match reason {
        DropReason::Replaced => "a newer message took the place of this one".to_owned(),
        reason => format!("the message was dropped from a full mailbox ({reason})"),
    }
}

fn circle(names: &[String]) -> String {
    let mut text = names.join(" -> ");
    if let Some(first) = names.first() {
        text.push_str(" -> ");
        text.push_str(first);
    }
    text
}

impl AskError {
    /// The same as a text, for a place that the error itself does not go to.
    pub(crate) fn as_text(&self) -> Self {
        match self {
            Self::Failed(error) => {
                // The text is the user's code.
                let text = contained(|| error.to_string());
                Self::Failed(text.unwrap_or_else(pytoweb_engine::Panic::into_text).into())
            }
            Self::Panicked(text) => Self::Panicked(text.clone()),
            other => Self::Panicked(other.to_string()),
        }
    }

    /// The handler's own error, if it is an `E`.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// worker.on_message("parse", |text: String| text.parse::<u64>());
    /// worker.start()?;
    /// let error = worker.ask::<String, u64>("parse", "x".to_owned())?.wait().expect_err("no number");
    /// assert!(error.downcast_ref::<std::num::ParseIntError>().is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        match self {
            Self::Failed(error) => error.downcast_ref(),
            _ => None,
        }
    }

    /// The handler's own error, moved out, if it is an `E`.
    ///
    /// # Errors
    /// The error as it was, if it is not.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// worker.on_message("parse", |text: String| text.parse::<u64>());
    /// worker.start()?;
    /// let error = worker.ask::<String, u64>("parse", "x".to_owned())?.wait().expect_err("no number");
    /// assert!(error.downcast::<std::num::ParseIntError>().is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn downcast<E: Error + 'static>(self) -> Result<E, Self> {
        match self {
            Self::Failed(error) => error.downcast().map(|error| *error).map_err(Self::Failed),
            other => Err(other),
        }
    }
}

impl From<Failure> for AskError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Dropped(reason) => Self::Dropped(reason),
            Failure::Stopped => Self::Stopped,
            Failure::Cancelled => Self::Cancelled,
            Failure::Expired => Self::Expired,
            Failure::Panicked => Self::Panicked("a panic outside of what catches it".to_owned()),
            other => Self::Failed(Box::new(other)),
        }
    }
}

impl From<WaitError> for AskError {
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::Cycle(names) => Self::Cycle(names),
            WaitError::NoThread(error) => Self::NoThread(error),
            WaitError::ThreadLimit(limit) => Self::ThreadLimit(limit),
            other => Self::Failed(Box::new(other)),
        }
    }
}

/// A message that a worker could not handle, as `on_error` gets it.
///
/// ```
/// use std::sync::mpsc;
/// use pytoweb_workers::Worker;
///
/// let (sender, errors) = mpsc::channel();
/// let worker = Worker::new("mailer");
/// worker.on_error(move |error| sender.send(error.to_string()).unwrap_or_default());
/// worker.start()?;
/// worker.post_message("send", "hello")?;
/// worker.stop();
/// assert_eq!(errors.recv()?, "worker `mailer`, message `send`: no handler is registered for `send`");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, ThisError)]
#[error("worker `{worker}`, message `{kind}`: {cause}")]
pub struct WorkerError {
    worker: String,
    kind: String,
    #[source]
    cause: AskError,
}

impl WorkerError {
    pub(crate) fn new(worker: &str, kind: String, cause: AskError) -> Self {
        Self {
            worker: worker.to_owned(),
            kind,
            cause,
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
    /// let (tell, told) = std::sync::mpsc::channel();
    /// worker.on_error(move |error| tell.send(error.worker().to_owned()).expect("the test listens"));
    /// worker.start()?;
    /// worker.post_message("lost", ())?;
    /// assert_eq!(told.recv_timeout(Duration::from_secs(5))?, "w");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn worker(&self) -> &str {
        &self.worker
    }

    /// The kind of the message.
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
    /// worker.post_message("lost", ())?;
    /// assert_eq!(told.recv_timeout(Duration::from_secs(5))?, "lost");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// What went wrong: `Failed`, `Panicked`, `Unknown` or `WrongType`.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// let (tell, told) = std::sync::mpsc::channel();
    /// worker.on_error(move |error| tell.send(matches!(error.cause(), AskError::Unknown { .. })).expect("the test listens"));
    /// worker.start()?;
    /// worker.post_message("lost", ())?;
    /// assert_eq!(told.recv_timeout(Duration::from_secs(5))?, true);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn cause(&self) -> &AskError {
        &self.cause
    }

    pub(crate) fn into_cause(self) -> AskError {
        self.cause
    }
}

/// A worker that did not start.
///
/// ```
/// # use std::convert::Infallible;
/// # use std::time::Duration;
/// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
/// # let worker = Worker::new("w");
/// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
/// use pytoweb_workers::StartError;
/// worker.stop();
/// assert!(matches!(worker.start(), Err(StartError::Stopped)));
/// ```
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum StartError {
    /// It was stopped, which is for good.
    #[error("the worker is stopped")]
    Stopped,
    /// The pool has no thread, and the system refused one. The worker is as before.
    #[error("no thread could be started: {0}")]
    NoThread(#[from] io::Error),
}

/// A worker that a pool did not make.
///
/// ```
/// # use std::convert::Infallible;
/// # use std::time::Duration;
/// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
/// # let worker = Worker::new("w");
/// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
/// use pytoweb_workers::{CreateError, WorkerPool};
/// let pool = WorkerPool::new(1);
/// let first = pool.create_worker("one")?;
/// assert!(matches!(pool.create_worker("one"), Err(CreateError::NameTaken(_))));
/// # drop(first);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum CreateError {
    /// A worker of this name is there already, and is not stopped.
    #[error("the pool has a worker named `{0}` already")]
    NameTaken(String),
    /// The name is empty.
    #[error("a worker needs a name")]
    EmptyName,
    /// The pool was shut down.
    #[error("the pool is shut down")]
    Stopped,
}

/// A worker or a pool that was not seen idle.
///
/// ```
/// # use std::convert::Infallible;
/// # use std::time::Duration;
/// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
/// # let worker = Worker::new("w");
/// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
/// use pytoweb_workers::IdleError;
/// worker.post_message("inc", 1_u64)?;
/// assert!(matches!(worker.run_until_idle(Duration::from_millis(1)), Err(IdleError::TimedOut)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum IdleError {
    /// The time was up first.
    #[error("it did not become idle in time")]
    TimedOut,
    /// The caller is the worker's own handler, or one that it waits for: it could never become idle.
    #[error("workers wait for each other: {}", circle(.0))]
    Cycle(Vec<String>),
    /// All threads of the pool wait, and the system refused another one.
    #[error("all threads of the pool wait, and another could not be started: {0}")]
    NoThread(#[source] io::Error),
    /// As many handlers of the pool wait as it may have threads beyond its size; see
    /// [`PoolBuilder::max_spare_threads`](crate::PoolBuilder::max_spare_threads).
    #[error("{0}")]
    ThreadLimit(ThreadLimit),
}

impl From<WaitError> for IdleError {
    fn from(error: WaitError) -> Self {
        match error {
            WaitError::Cycle(names) => Self::Cycle(names),
            WaitError::NoThread(error) => Self::NoThread(error),
            WaitError::ThreadLimit(limit) => Self::ThreadLimit(limit),
            other => Self::NoThread(io::Error::other(other)),
        }
    }
}
