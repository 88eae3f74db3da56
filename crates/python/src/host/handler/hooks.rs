//! Start hooks and end hooks, as the handler runs them around the messages of a worker.

use std::sync::atomic::Ordering;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::error;
use crate::host::coroutines;
use crate::host::message::PyMessage;
use crate::host::running;
use crate::host::telling::is_cancelled_error;
use crate::host::worker_shared::WorkerShared;
use crate::interpreter::context;
use crate::interpreter::ending;

impl WorkerShared {
    /// Runs the coroutine of a start hook on the pool's event loop, and waits for it: another thread of the pool may
    /// run meanwhile.
    pub(super) fn finish_hook(
        &self,
        py: Python<'_>,
        coroutine: &Bound<'_, PyAny>,
        context: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        coroutines::note();
        let message = running::message(py)?;
        let args = (coroutine, context, message, &self.owner);
        let runtime = self.runtime.bind(py);
        pytoweb_engine::lend(|| runtime.call_method1(intern!(py, "finish_hook"), args))
            .map_err(|error| error::wait(py, error))?
            .map(drop)
    }

    /// What a start hook raised; one that was cancelled because its message was given up raised why that was.
    pub(super) fn of_start_hook(
        &self,
        py: Python<'_>,
        message: &PyMessage,
        raised: PyErr,
    ) -> PyErr {
        let given_up = message.task().and_then(|task| task.slot.get());
        match given_up {
            Some(Err(failure)) if is_cancelled_error(py, &raised) => {
                message.error_of(*failure, self.named())
            }
            _ => raised,
        }
    }

    /// Runs the end hooks, if the worker has run a message and its start hook, and lets go of the handlers.
    pub(super) fn end_worker(&self, py: Python<'_>, message: &PyMessage) {
        // ORDERING: Relaxed, the messages before are ordered by the mailbox.
        let runs = self.began.load(Ordering::Relaxed) && !self.start_hook.waits();
        let hooks = self.end_hooks.begin();
        if runs {
            running::with(py, message, self, || {
                for hook in hooks {
                    let ended = context::inside(py, None, || {
                        let returned = ending::call(hook.bind(py), &PyTuple::empty(py), None)?;
                        self.await_here(py, &returned)
                    });
                    if let Err(error) = ended
                        && !is_terminated(py, &error)
                    {
                        self.tell_of_end_hook(py, error);
                    }
                }
            });
        }
        self.end_hooks.end();
        self.let_go(py);
    }

    /// Waits for what an end hook returned, where that is a coroutine.
    fn await_here(&self, py: Python<'_>, returned: &Bound<'_, PyAny>) -> PyResult<()> {
        if context::is_coroutine(returned) {
            self.finish_hook(py, returned, None)?;
        }
        Ok(())
    }

    fn tell_of_end_hook(&self, py: Python<'_>, error: PyErr) {
        let told = self.replies.bind(py).call_method1(
            intern!(py, "report_end_hook"),
            (error.into_value(py), self.error_handlers(py)),
        );
        if let Err(error) = told.and_then(|returned| self.await_here(py, &returned)) {
            error.write_unraisable(py, None);
        }
    }
}

/// Whether `error` is how a coroutine ends that was cancelled because the worker of this thread was terminated.
pub(super) fn is_terminated(py: Python<'_>, error: &PyErr) -> bool {
    pytoweb_engine::current().is_some_and(|worker| worker.is_terminated())
        && is_cancelled_error(py, error)
}
