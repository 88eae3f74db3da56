//! Messages, bounded mailboxes, workers and pools: the engine under `pytoweb`.
//!
//! A [`Worker`] owns a bounded mailbox and runs its messages one at a time, in order, through a [`Handler`], on the
//! threads of a [`Pool`]. A message that a caller waits for carries a reply [`Slot`], reached as a [`Ticket`].
//!
//! The engine knows no language runtime, no async runtime and no format: messages and replies are the handler's own
//! types, time comes from a [`Clock`], and what surrounds the threads is a [`Host`]. Most Rust programs want the
//! typed crate `pytoweb-workers` instead.
//!
//! Rules that hold everywhere in here:
//! - no user code (handlers, callbacks, destructors of messages) runs under an engine lock;
//! - the thread that takes a message out of a mailbox claims it, under the mailbox's lock, so it has one fate;
//! - a message is counted before its reply is published.

mod address;
mod buckets;
mod clock;
mod contained;
mod deadline;
mod exit;
mod handler;
mod health;
mod histogram;
mod host;
mod key;
mod load;
mod mailbox;
mod message;
mod metric;
#[cfg(all(test, pytoweb_loom))]
mod models;
mod options;
mod outcome;
mod parking;
mod plan;
mod policy;
mod pool;
mod recorder;
mod registry;
mod reply;
mod scheduler;
mod stats;
mod stream;
mod sync;
mod tally;
#[cfg(feature = "testing")]
pub mod testing;
mod timers;
mod wait;
mod wait_error;
mod wake;
mod whereabouts;
mod worker;

pub use address::{Address, WeakAddress};
pub use buckets::TimeBuckets;
pub use clock::{Clock, MonotonicClock, Timestamp};
pub use contained::{Panic, contained};
pub use deadline::Timer;
pub use exit::Exit;
pub use handler::{
    BatchKey, Carrier, Companions, Course, Delivery, Handled, Handler, Overrun, RunPlace, Span,
    Stuck, Suspension,
};
pub use health::{Condition, Health, HealthState};
pub use host::{Host, PlainHost};
pub use key::Key;
pub use load::{Busy, share};
pub use mailbox::Shed;
pub use message::{Message, Ticket};
pub use metric::{Metric, MetricKind};
pub use options::WorkerOptions;
pub use outcome::{DropReason, Failure, Outcome};
pub use parking::ParkedPost;
pub use plan::{Group, Meter, MorePlan, Plan, Priority, Rate};
pub use policy::{DEFAULT_CAPACITY, Overflow, UnknownOverflow};
pub use pool::{Pool, PoolOptions};
pub use recorder::{
    Bar, BusyBar, ChartLane, Failed, Fate, KindNumbers, OTHERS, Ran, Recorded, Recorder,
};
pub use registry::{PoolAddress, Registry};
pub use reply::{ReplyState, Shared, Single, Slot, Unpark};
pub use stats::{Counters, Numbers, TimingStats, WorkerState, WorkerStats};
pub use stream::{StreamChannel, StreamFound, StreamProgress, StreamPut, StreamWake};
pub use tally::{Tally, TypeStats};
pub use timers::Timers;
pub use wait::{
    Blocking, EdgeGuard, WaitNode, current, edge, edge_of_current, lend, wait, wait_for,
};
pub use wait_error::{ThreadLimit, WaitError};
pub use wake::Wake;
pub use whereabouts::{Waits, Whereabouts};
pub use worker::{PostError, StopMode, StopTimedOut, Worker};
