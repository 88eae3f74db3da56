//! What a Python message carries when somebody may come back to it: a reply slot, an id, keyword arguments.
//!
//! A plain post has none of it, and its message stays at four words: messages are moved several times on their way,
//! and the moves are a good part of what one costs.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use pytoweb_engine::{Failure, ReplyState, Shared, Slot, Ticket};

/// What a handler returned, or the exception it raised.
pub(crate) type Value = Result<Py<PyAny>, Py<PyAny>>;

/// What the head of a message is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Head {
    /// The type of a message for the handler that is registered for it.
    #[default]
    Type,
    /// A function to call with the data as its arguments.
    Function,
    /// The same; a coroutine that it returns is run, instead of being the result.
    AsyncFunction,
}

#[derive(Debug, Default)]
pub(crate) struct Task {
    pub(crate) slot: Slot<Value, Shared>,
    pub(crate) head: Head,
    /// The id of a message whose reply goes to the owner.
    pub(crate) id: Option<Py<PyString>>,
    pub(crate) kwargs: Option<Py<PyDict>>,
    /// Called to interrupt an `async def` handler that runs.
    pub(crate) interrupter: OnceLock<Py<PyAny>>,
    /// The handler's result is in the slot, to be published once it was counted.
    pub(crate) settled: AtomicBool,
}

impl Task {
    /// Settles the reply with what the handler made of it. False: a deadline or a stop was first.
    pub(crate) fn settle(&self, value: Value) -> bool {
        let settled = self.slot.settle(Ok(value));
        if settled {
            // ORDERING: Relaxed, read by the same thread, or by one that took the message from it under a lock.
            self.settled.store(true, Ordering::Relaxed);
        }
        settled
    }

    /// Whether the handler's result is to be published.
    pub(crate) fn is_settled(&self) -> bool {
        // ORDERING: Relaxed, see `settle`.
        self.settled.load(Ordering::Relaxed)
    }
}

impl Ticket for Task {
    fn state(&self) -> &ReplyState {
        self.slot.state()
    }

    fn fail(&self, queued: bool, failure: Failure) -> bool {
        self.slot.fail(queued, failure)
    }

    fn interrupt(&self) {
        if let Some(interrupter) = self.interrupter.get() {
            Python::attach(|py| {
                if let Err(error) = interrupter.call0(py) {
                    error.write_unraisable(py, None);
                }
            });
        }
    }
}
