//! The worker as its own handlers reach it: by a handle that does not keep it alive.

use std::fmt;
use std::sync::{Arc, Weak};

use super::{Worker, WorkerInner};
use crate::current::current_owner;

/// A handle that keeps no worker alive: for handlers and callbacks that reach their own worker, or each other's.
///
/// ```
/// use pytoweb_workers::Worker;
///
/// let worker = Worker::new("counter");
/// let weak = worker.downgrade();
/// worker.on_message("again", move |n: u32| {
///     if let (Some(own), true) = (weak.upgrade(), n > 0) {
///         let _ = own.post_message("again", n - 1);
///     }
///     Ok::<_, std::convert::Infallible>(())
/// });
/// assert!(worker.downgrade().upgrade().is_some());
/// let weak = worker.downgrade();
/// drop(worker);
/// assert!(weak.upgrade().is_none());
/// ```
#[derive(Clone, Default)]
pub struct WeakWorker(pub(crate) Weak<WorkerInner>);

impl fmt::Debug for WeakWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakWorker").finish_non_exhaustive()
    }
}

impl WeakWorker {
    /// The worker, unless its last handle is gone.
    #[must_use]
    pub fn upgrade(&self) -> Option<Worker> {
        self.0.upgrade().map(Worker)
    }
}

impl Worker {
    /// A handle that does not keep the worker alive.
    #[must_use]
    pub fn downgrade(&self) -> WeakWorker {
        WeakWorker(Arc::downgrade(&self.0))
    }
}

/// The worker whose handler is calling.
///
/// `None` outside of a handler, in a handler of the pool itself, and when every handle of the worker was dropped: it
/// only finishes what is queued then, and cannot be held any more.
///
/// ```
/// use std::convert::Infallible;
/// use pytoweb_workers::{Worker, current_worker};
///
/// let worker = Worker::new("countdown");
/// worker.on_message("from", |n: u64| {
///     if n > 0 && let Some(me) = current_worker() {
///         me.post_message("from", n - 1).expect("there is room");
///     }
///     Ok::<_, Infallible>(())
/// });
/// worker.start()?;
/// worker.post_message("from", 9_u64)?;
/// worker.run_until_idle(std::time::Duration::from_secs(10))?;
/// assert_eq!(worker.stats().counters.completed, 10);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn current_worker() -> Option<Worker> {
    Worker::of_owner(&current_owner()?)
}
