//! The call of a message as most are: for a handler of this process that has nothing around it, with its data and with no
//! context variables. What [`Serving::run_one`] does for any message comes to this for such a one, and a good part of what
//! a message costs would be the questions in between, and results that are moved from one answer to the next.

use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use pytoweb_engine::{Handled, Outcome};

use crate::host::message::{Body, PyMessage};
use crate::host::running;
use crate::host::task::Head;
use crate::host::worker_shared::WorkerShared;
use crate::interpreter::context;
use crate::interpreter::ending;

use super::{PyHandler, Serving};

impl Serving<'_> {
    /// Runs such a message. `None`: it is another one, and nothing was done.
    #[inline]
    pub(super) fn run_plainly(&self, message: &PyMessage) -> Option<Handled<PyHandler>> {
        let (py, shared) = (self.py, &**self.handler.shared);
        let Body::Local {
            head,
            data,
            context: None,
        } = &message.body
        else {
            return None;
        };
        let task = message.task().map(|task| &**task);
        if task.is_some_and(|task| task.head != Head::Type || task.retry().is_some())
            || !shared.calls_plainly()
        {
            return None;
        }
        let handler = shared.handlers.bind(py).get_item(head).ok()??;
        let mut hook = None;
        // The error is boxed: results are moved, and most are none.
        let result = running::with_mark(py, self.mark, message, shared, || {
            let _entered = context::enter(py, self.empty, None).map_err(Box::new)?;
            let returned = ending::call_one(&handler, data.bind(py))
                .and_then(|returned| context::no_generator(returned, || head.to_string()));
            returned.map_err(|error| {
                hook = shared.tell_of_running(py, &error);
                Box::new(error)
            })
        });
        Some(match result {
            Ok(value) if !context::is_coroutine(&value) => {
                Handled::Done(shared.settle_value(message, value))
            }
            Ok(coroutine) => self.conclude(message, Ok(coroutine), None, hook, true),
            Err(error) => self.conclude(message, Err(*error), None, hook, true),
        })
    }
}

impl WorkerShared {
    /// Whether nothing is to be done before a handler, and nothing goes around it.
    #[inline]
    fn calls_plainly(&self) -> bool {
        // ORDERING: Relaxed, see `WorkerShared::end_worker`.
        self.began.load(Ordering::Relaxed)
            && !self.broken.is_set()
            && !self.start_hook.waits()
            && !self.kinds.has_batches()
            && self.surroundings.are_none()
    }

    /// Settles the reply of a message whose handler returned `value`. Returns what it counts as.
    #[inline]
    fn settle_value(&self, message: &PyMessage, value: Bound<'_, PyAny>) -> Outcome {
        match message.task() {
            None => Outcome::Completed,
            Some(_) => self.settle(value.py(), message, Ok(value)),
        }
    }
}
