//! The end of a worker: its end hooks, and letting go of its handlers, on its own thread.
//!
//! A handler may hold the only handle of another worker, which may hold this one. So a worker that has ended holds nothing:
//! workers that hold each other are freed once they are stopped. Before that a [`WeakWorker`] keeps none of them alive.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Weak};

use pytoweb_engine::{Failure, Outcome, ReplyState, Ticket, contained};

use crate::dispatch::{Ended, Table};
use crate::error::TypeMismatch;
use crate::message::{Cause, Envelope, Parcel, Route};
use crate::noted;
use crate::worker::{Worker, WorkerInner};

/// The last message of a worker or a pool.
pub(crate) struct Farewell(pub(crate) Arc<Table>);

impl Parcel for Farewell {
    fn route(&self) -> Route<'_> {
        Route::Itself("stop")
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn run(&self, table: &Table, envelope: &Envelope) -> Ended {
        noted::during(envelope, || {
            for hook in table.take_on_stop() {
                // The panic hook has reported one that panics; the others run.
                let _ = contained(hook);
            }
        });
        table.let_go();
        Ended {
            outcome: Outcome::Completed,
            settled: true,
        }
    }

    fn mismatch(&self, kind: &str, payload: &'static str, _: &'static str) -> TypeMismatch {
        TypeMismatch::payload::<()>(kind, payload)
    }

    fn settle_error(&self, _: Cause) -> bool {
        true
    }

    fn publish(&self) -> bool {
        false
    }

    /// The worker was never started: there is nothing to say farewell to.
    fn abandon(&self, _: Failure) {
        self.0.let_go();
    }

    fn state(&self) -> Option<&ReplyState> {
        None
    }

    fn bytes(&self) -> usize {
        0
    }

    fn into_ticket(self: Arc<Self>) -> Option<Arc<dyn Ticket>> {
        None
    }
}

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
        Worker::from_owner(&self.0)
    }
}
