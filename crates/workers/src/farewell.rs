//! The end of a worker: its end hooks, and letting go of its handlers, on its own thread.
//!
//! A handler may hold the only handle of another worker, which may hold this one. So a worker that has ended holds nothing:
//! workers that hold each other are freed once they are stopped. Before that a [`WeakWorker`](crate::WeakWorker) keeps none
//! of them alive.

use std::any::Any;
use std::sync::Arc;

use pytoweb_engine::{Failure, Outcome, ReplyState, Ticket, contained};

use crate::error::TypeMismatch;
use crate::message::{AnyMessage, Ended, Envelope, FailureCause, Route};
use crate::noted;
use crate::table::Table;

/// The last message of a worker or a pool.
pub(crate) struct Farewell(pub(crate) Arc<Table>);

impl AnyMessage for Farewell {
    fn route(&self) -> Route<'_> {
        Route::Itself("stop")
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn run(&self, envelope: &Envelope) -> Option<Ended> {
        let table = &*self.0;
        noted::during(envelope, || {
            for hook in table.take_on_stop() {
                // The panic hook has reported one that panics; the others run.
                let _ = contained(hook);
            }
        });
        table.let_go();
        Some(Ended::Settled(Outcome::Completed))
    }

    fn mismatch(&self, kind: &str, payload: &'static str, _: &'static str) -> TypeMismatch {
        TypeMismatch::payload::<()>(kind, payload)
    }

    fn settle_error(&self, _: FailureCause) -> bool {
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
