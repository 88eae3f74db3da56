//! The reply slot of a Python message, as the engine reaches it.

use std::sync::OnceLock;

use pyo3::prelude::*;
use pytoweb_engine::{Failure, ReplyState, Shared, Slot, Ticket};

/// What a handler returned, or the exception it raised.
pub(crate) type Value = Result<Py<PyAny>, Py<PyAny>>;

#[derive(Debug, Default)]
pub(crate) struct Task {
    pub(crate) slot: Slot<Value, Shared>,
    /// Called to interrupt an `async def` handler that runs.
    pub(crate) interrupter: OnceLock<Py<PyAny>>,
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
