//! Messages that have failed: tried again, or ended after their error handler.

use std::time::Duration;

use pyo3::prelude::*;
use pytoweb_engine::{Fate, Outcome, RunPlace, Span, Suspension, Tally};

use crate::host::hook::Hook;
use crate::host::message::PyMessage;
use crate::host::worker_shared::WorkerShared;

use super::PyHandler;

impl WorkerShared {
    /// Ends a message with `error` once the coroutine of its error handler is through.
    pub(super) fn fail_after(
        coroutine: Py<PyAny>,
        error: PyErr,
        suspension: Suspension<PyHandler>,
    ) {
        Python::attach(|py| {
            let shared = suspension.handler().shared.clone();
            let address = suspension.address();
            let hook = Hook {
                coroutine,
                message: suspension
                    .message()
                    .and_then(|message| message.view_of_coroutine(py, &address).ok()),
                context: suspension
                    .message()
                    .and_then(PyMessage::context)
                    .map(|context| context.clone_ref(py)),
            };
            let own = shared.clone();
            hook.run(py, &shared, move |py| own.end(py, suspension, Err(error)));
        });
    }

    /// Puts a message back to be tried again after `wait`; where that is not to be, it fails with `error`. It ran at `place`.
    pub(super) fn try_again_or_fail(
        &self,
        py: Python<'_>,
        suspension: Suspension<PyHandler>,
        (place, wait): (RunPlace, Duration),
        error: PyErr,
    ) {
        if let Some(last) = self.try_again(py, suspension, (place, wait), &error) {
            self.fail_for_good(py, last, error);
        }
    }

    /// Puts a message back to be tried again, and says so. `Some`: it is not, and is to fail.
    fn try_again(
        &self,
        py: Python<'_>,
        suspension: Suspension<PyHandler>,
        (place, wait): (RunPlace, Duration),
        error: &PyErr,
    ) -> Option<Suspension<PyHandler>> {
        let message = suspension.message()?;
        self.tell_of_retry(py, message, wait, error);
        message.goes_on(true);
        self.with_tally(py, message, Tally::count_retry);
        if self.recording.is_on()
            && let Some((waited, run)) = suspension.times()
        {
            let span = Span {
                wait: waited,
                run,
                outcome: Outcome::Failed,
                place,
            };
            self.record(message, &span, Fate::Retried);
        }
        let last = suspension.again(wait)?;
        if let Some(message) = last.message() {
            message.goes_on(false);
            self.with_tally(py, message, Tally::uncount_retry);
        }
        Some(last)
    }

    /// Fails a message whose next attempt is not made, with the error of the last one.
    fn fail_for_good(&self, py: Python<'_>, suspension: Suspension<PyHandler>, error: PyErr) {
        let Some(message) = suspension.message() else {
            return;
        };
        let hook = self.tell(py, Some(&suspension.address()), message, &error);
        self.bury_last(py, message);
        match hook {
            None => self.end(py, suspension, Err(error)),
            Some(hook) => {
                let own = suspension.handler().shared.clone();
                hook.run(py, self, move |py| own.end(py, suspension, Err(error)));
            }
        }
    }
}
