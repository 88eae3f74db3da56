//! Models of the concurrent protocols: every interleaving of two or three threads, with at most two preemptions
//! (`LOOM_MAX_PREEMPTIONS` sets another bound). `make loom` explores them.
//!
//! Here, because models reach the parts that no user sees. Pools are made for their data only: no thread of the
//! standard library runs, and loom's `wait_timeout` never times out, so what a time limit does is left to the other
//! tests. Under loom a wait that never ends is a failure, and so is an access to a [`UnsafeCell`] that nothing orders
//! after the one before.

#[path = "models/deliveries.rs"]
mod deliveries;
#[path = "models/edges.rs"]
mod edges;
#[path = "models/mailboxes.rs"]
mod mailboxes;
#[path = "models/replies.rs"]
mod replies;
#[path = "models/schedulers.rs"]
mod schedulers;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::message::{Message, Ticket};
use crate::outcome::Failure;
use crate::reply::{ReplyState, Shared, Slot};
use loom::cell::UnsafeCell;

/// Explores `body`.
fn model(body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(2));
    builder.check(body);
}

/// Counts what loom need not explore.
#[derive(Debug, Default)]
struct Count(AtomicUsize);

impl Count {
    fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A message's reply, and how often it was run.
#[derive(Default)]
struct Call {
    slot: Slot<u64, Shared>,
    runs: Count,
}

impl Ticket for Call {
    fn state(&self) -> &ReplyState {
        self.slot.state()
    }

    fn fail(&self, queued: bool, failure: Failure) -> bool {
        self.slot.fail(queued, failure)
    }
}

impl Call {
    fn asked() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// What the worker does after the handler returned.
    fn settle_and_publish(&self, value: u64) -> bool {
        let settled = self.slot.settle(Ok(value));
        if settled && self.slot.publish() {
            self.slot.state().wake_threads();
        }
        settled
    }
}

/// A plain post, or one with a reply.
struct Note {
    number: usize,
    call: Option<Arc<Call>>,
}

impl Message for Note {
    fn ticket(&self) -> Option<Arc<dyn Ticket>> {
        self.call
            .as_ref()
            .map(|call| -> Arc<dyn Ticket> { call.clone() })
    }

    fn state(&self) -> Option<&ReplyState> {
        self.call.as_ref().map(|call| call.slot.state())
    }
}

/// What only one thread at a time may touch, each after the one before.
struct Exclusive<T>(UnsafeCell<T>);

// Loom checks what the type system is told here.
#[expect(unsafe_code, reason = "the very thing the models check")]
// SAFETY: a race is a failure of the model.
unsafe impl<T: Send> Sync for Exclusive<T> {}

impl<T> Exclusive<T> {
    fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    #[expect(unsafe_code, reason = "a checked access")]
    fn with<R>(&self, body: impl FnOnce(&mut T) -> R) -> R {
        // SAFETY: loom fails the model if another thread is in here, or was without being ordered before.
        self.0.with_mut(|value| body(unsafe { &mut *value }))
    }
}
