//! What a handler can ask about itself: the message it runs for, and whose it is.

use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, Weak};

use pytoweb_engine::{self as engine, Address};

use crate::lock::lock;
use crate::message::AnyMessage;
use crate::noted;
use crate::table::{Owner, Table};

thread_local! {
    /// What belongs to the worker that ran last on this thread. Weak, so that a worker that ended is let go.
    static TABLE: RefCell<Weak<Table>> = const { RefCell::new(Weak::new()) };
}

/// Notes whose messages this thread handles now.
pub(crate) fn enter(table: &Arc<Table>) {
    TABLE.with_borrow_mut(|last| {
        if last.as_ptr() != Arc::as_ptr(table) {
            *last = Arc::downgrade(table);
        }
    });
}

/// The message that a handler runs for.
///
/// Can be cloned and sent to threads that help the handler, so that they see the request to stop as well.
///
/// ```
/// # use std::convert::Infallible;
/// # use std::time::Duration;
/// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
/// # let worker = Worker::new("w");
/// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
/// let (tell, told) = std::sync::mpsc::channel();
/// worker.on_message("look", move |(): ()| {
///     let message = pytoweb_workers::current_message().expect("inside a handler");
///     tell.send((message.kind().to_owned(), message.is_cancelled())).expect("the test listens");
///     Ok::<_, Infallible>(())
/// });
/// worker.start()?;
/// worker.post_message("look", ())?;
/// assert_eq!(told.recv_timeout(Duration::from_secs(5))?, ("look".to_owned(), false));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct CurrentMessage {
    kind: String,
    attempt: u32,
    /// `None` for a post in its envelope, which no caller can cancel.
    message: Option<Arc<dyn AnyMessage>>,
    address: Option<Address>,
}

impl fmt::Debug for CurrentMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CurrentMessage")
            .field("kind", &self.kind)
            .field("cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}

impl CurrentMessage {
    /// The kind it was sent with; of a closure, the name of the function or `submit`.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// let (tell, told) = std::sync::mpsc::channel();
    /// worker.on_message("look", move |(): ()| {
    ///     let message = pytoweb_workers::current_message().expect("inside a handler");
    ///     tell.send((message.kind().to_owned(), message.is_cancelled())).expect("the test listens");
    ///     Ok::<_, Infallible>(())
    /// });
    /// worker.start()?;
    /// worker.post_message("look", ())?;
    /// assert_eq!(told.recv_timeout(Duration::from_secs(5))?, ("look".to_owned(), false));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The number of this attempt, from 1: more than that for a message that has failed and is tried again, see
    /// [`Worker::on_message_retry`](crate::Worker::on_message_retry).
    ///
    /// ```
    /// use std::time::Duration;
    /// use pytoweb_workers::{Retry, Worker, current_message};
    ///
    /// let worker = Worker::new("shop");
    /// worker.on_message_retry("deliver", Retry::new(5).backoff(Duration::ZERO), |order: &u64| {
    ///     let attempt = current_message().map_or(0, |message| message.attempt());
    ///     if attempt < 3 { Err("the door is closed") } else { Ok((*order, attempt)) }
    /// });
    /// worker.start()?;
    /// assert_eq!(worker.ask::<u64, (u64, u32)>("deliver", 7)?.wait()?, (7, 3));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Whether the handler should give up: the caller cancelled, the deadline passed, or the worker was terminated. Of a
    /// batch, once that holds for each of its messages.
    ///
    /// A long handler looks now and then, and returns early. Nothing else can stop a running thread.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// let (tell, told) = std::sync::mpsc::channel();
    /// worker.on_message("look", move |(): ()| {
    ///     let message = pytoweb_workers::current_message().expect("inside a handler");
    ///     tell.send((message.kind().to_owned(), message.is_cancelled())).expect("the test listens");
    ///     Ok::<_, Infallible>(())
    /// });
    /// worker.start()?;
    /// worker.post_message("look", ())?;
    /// assert_eq!(told.recv_timeout(Duration::from_secs(5))?, ("look".to_owned(), false));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        let message = self.message.as_ref();
        message.is_some_and(|message| message.is_cancel_requested())
            || self.address.as_ref().is_some_and(Address::is_terminated)
    }
}

/// The message that the calling handler runs for; `None` outside of a handler.
///
/// ```
/// use std::convert::Infallible;
/// use pytoweb_workers::{Worker, current_message};
///
/// let worker = Worker::new("echo");
/// worker.on_message("name", |(): ()| {
///     let message = current_message().expect("inside a handler");
///     assert!(!message.is_cancelled());
///     Ok::<_, Infallible>(message.kind().to_owned())
/// });
/// worker.start()?;
/// assert_eq!(worker.ask::<(), String>("name", ())?.wait()?, "name");
/// assert!(current_message().is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn current_message() -> Option<CurrentMessage> {
    let table = TABLE.with_borrow(Weak::upgrade)?;
    noted::with(|envelope| CurrentMessage {
        kind: table.kind_of(envelope),
        attempt: envelope
            .attempts()
            .map_or(1, |attempts| lock(attempts).next()),
        message: envelope.message().cloned(),
        address: engine::current(),
    })
}

/// Whose handler is calling. `None` outside of a handler, and in one of a pool.
pub(crate) fn current_owner() -> Option<Owner> {
    noted::with(|_| ())?;
    TABLE.with_borrow(|table| table.upgrade()?.owner.clone())
}
