//! Named background workers: typed messages, replies, bounded mailboxes, pools.
//!
//! A [`Worker`] has a name, a bounded mailbox and typed handlers, and handles one message at a time, in the order of
//! posting, unless told otherwise. [`Worker::post_message`] sends and forgets, [`Worker::ask`] returns a [`Reply`] to wait
//! for or to `await`. A [`WorkerPool`] runs any number of workers on a few threads.
//!
//! ```
//! use pytoweb_workers::Worker;
//!
//! let worker = Worker::new("background-tasks");
//! worker.on_message("process", |text: String| text.trim().parse::<u64>());
//! worker.on_error(|error| eprintln!("{error}"));
//! worker.start()?;
//!
//! let reply = worker.ask::<String, u64>("process", " 42 ".to_owned())?;
//! assert_eq!(reply.wait()?, 42);
//! worker.stop();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What to rely on:
//! - **Payloads are moved**, never copied or serialised; a payload or reply of a type that the handler does not have
//!   is an error to the sender.
//! - **Nothing is lost silently.** A message is refused at the call and comes back ([`SendError`]), or ends in
//!   exactly one counter of [`WorkerStats`]; its reply says which ([`AskError`]).
//! - **Waits end.** Mailboxes have a capacity and an [`Overflow`] policy; asks can have a deadline;
//!   handlers that wait for each other's replies in a circle get [`AskError::Cycle`]; a pool whose threads all wait for
//!   replies or room runs another. Any other wait of a handler takes its thread out of the pool, unless it waits within
//!   [`blocking`].
//! - **Many items** of one message come as they are made: [`Worker::on_stream`], [`Worker::stream`].
//! - **A handler that fails or panics** fails its message. The worker lives.
//! - **Under load** messages have priorities, keys and delays ([`MessageBuilder`]), workers have limits ([`WorkerBuilder`]), and
//!   handlers get several at once ([`Batch`]) or are called again after a failure ([`Retry`]).
//! - **At the end of `main`** what is queued is not waited for: [`Worker::stop`], [`WorkerPool::shutdown`] do that.
//!
//! The functions and methods of a program become messages with [`run_in_worker`] and [`macro@worker`].

mod ask;
mod attempts;
mod batch;
mod batching;
mod blocking;
mod clock;
mod closure;
mod company;
mod concurrent;
mod control;
mod current;
mod dead_letter;
mod default_pool;
mod dispatch;
mod error;
mod farewell;
mod handling;
mod inline;
mod kept;
mod kind_id;
mod kind_plans;
mod kinds;
mod lock;
mod message;
#[cfg(feature = "metrics")]
pub mod metrics;
mod noted;
mod payload_cell;
mod pool;
mod registry;
mod reply;
mod retried;
mod retry;
mod send;
mod sent;
mod service;
mod spans;
mod strays;
mod stream;
mod table;
mod trying;
mod trying_together;
mod unseen;
mod wishes;
mod worker;

pub use batch::Batch;
pub use blocking::blocking;
pub use clock::HandClock;
pub use concurrent::ConcurrentHandlers;
pub use control::MessageBuilder;
pub use current::{CurrentMessage, current_message};
pub use dead_letter::{DEAD_LETTERS, DeadLetter};
pub use default_pool::default_pool;
pub use error::{
    AskError, CreateError, IdleError, Part, SendError, StartError, TypeMismatch, WorkerError,
};
pub use pool::WorkerPool;
pub use pool::builder::PoolBuilder;
pub use pool::health::PoolHealth;
pub use pool::stats::PoolStats;
pub use pytoweb_engine::{
    Busy, Counters, DEFAULT_CAPACITY, DropReason, Exit, Health, HealthState, Key, Overflow,
    Priority, Rate, Shed, StopTimedOut, ThreadLimit, TimingStats, TypeStats, UnknownOverflow,
    WaitError, Waits, Whereabouts, WorkerOptions, WorkerState, WorkerStats,
};
pub use reply::Reply;
pub use retry::Retry;
pub use service::Service;
pub use stream::{StreamReply, StreamSender, Unread};
pub use unseen::set_error_hook;
pub use worker::Worker;
pub use worker::builder::WorkerBuilder;
pub use worker::stopping::StopOptions;
pub use worker::weak::{WeakWorker, current_worker};

/// What the macros expand to. No part of the API.
#[doc(hidden)]
pub mod __private {
    pub use crate::default_pool::{run_call, submit_call};
    pub use crate::service::SharedService;
}

/// # Examples
/// ```
/// use pytoweb_workers::run_in_worker;
///
/// #[run_in_worker("background-tasks")]
/// fn sum(numbers: Vec<u64>) -> u64 {
///     numbers.iter().sum()
/// }
///
/// assert_eq!(sum(vec![1, 2, 3]), 6); // runs in the worker, and waits
///
/// let reply = sum::submit(vec![4, 5, 6]); // runs in the worker, meanwhile
/// assert_eq!(reply.wait()?, 15);
/// # Ok::<(), pytoweb_workers::AskError>(())
/// ```
pub use pytoweb_macros::run_in_worker;

/// # Examples
/// ```
/// use std::num::ParseIntError;
/// use pytoweb_workers::{Service, worker};
///
/// #[derive(Default)]
/// struct Ledger {
///     total: i64,
/// }
///
/// #[worker]
/// impl Ledger {
///     #[worker_method("book")]
///     fn book(&mut self, amount: String) -> Result<i64, ParseIntError> {
///         self.total += amount.parse::<i64>()?;
///         Ok(self.total)
///     }
///
///     #[worker_method("total")]
///     fn total(&self) -> i64 {
///         self.total
///     }
/// }
///
/// let ledger = Ledger::default().spawn("ledger")?;
/// ledger.post_message("book", "40".to_owned())?;
/// ledger.post_message("book", "2".to_owned())?;
/// assert_eq!(ledger.ask::<(), i64>("total", ())?.wait()?, 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub use pytoweb_macros::worker;

pub use pytoweb_macros::worker_method;

/// The code blocks of the guide run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/rust.md")]
mod guide {}

#[cfg(all(doctest, feature = "metrics", feature = "tracing"))]
#[doc = include_str!("../../../docs/guide/rust-observability.md")]
mod guide_of_observability {}
