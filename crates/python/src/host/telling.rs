//! What becomes of a message, brought to the side that posted it: failures, replies, attempts, dead letters.

use std::sync::atomic::Ordering;
use std::time::Duration;

use pyo3::intern;
use pyo3::prelude::*;
use pytoweb_engine::{Address, Failure, Fate};

use crate::error;
use crate::host::hook::Hook;
use crate::host::message::{About, PyMessage};
use crate::host::retrying::{Retrying, Then};
use crate::host::running;
use crate::host::task::value::Value;
use crate::host::task::{Head, Task};
use crate::host::watcher;
use crate::host::worker_shared::WorkerShared;

impl WorkerShared {
    /// Tells the error handler of a message that failed, else its future, else the log. The message does not wait for
    /// an error handler that is a coroutine.
    pub(crate) fn report(&self, py: Python<'_>, message: &PyMessage, error: &PyErr) {
        if let Some(hook) = self.tell(py, None, message, error) {
            hook.run(py, self, |_| {});
        }
    }

    /// The same; returns the coroutine of an error handler that is one, for the message to end after it. `address`: that
    /// of the mailbox in which the message has a place until then.
    pub(crate) fn tell(
        &self,
        py: Python<'_>,
        address: Option<&Address>,
        message: &PyMessage,
        error: &PyErr,
    ) -> Option<Hook> {
        let told = message
            .kind(py)
            .and_then(|kind| self.tell_as(py, kind.bind(py), message.about(py), error));
        match told {
            Ok(coroutine) => coroutine.map(|coroutine| Hook {
                coroutine,
                message: match address {
                    Some(address) => message.view_of_coroutine(py, address).ok(),
                    None => message.view_of(py, &self.name).ok(),
                },
                context: message.context().map(|context| context.clone_ref(py)),
            }),
            Err(error) => {
                error.write_unraisable(py, None);
                None
            }
        }
    }

    fn tell_as(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        about: About,
        error: &PyErr,
    ) -> PyResult<Option<Py<PyAny>>> {
        watcher::tell(py, &self.name, kind, error);
        self.record_failure(py, kind, error, Fate::Failed);
        let is_call = about
            .task
            .as_ref()
            .is_some_and(|task| task.head != Head::Type);
        if let Some(task) = about.task.as_ref().filter(|task| task.asked)
            && (is_call || !self.has_error_handler(py))
        {
            let state = task.slot.state();
            if state.is_cancel_requested() && is_cancelled_error(py, error) {
                return Ok(None);
            }
            // An error that a handler raises after its deadline is not in its future.
            if !state.is_done() || error.is_instance_of::<error::DeadlineError>(py) {
                task.leave_failure(py, kind, about.attempt);
                return Ok(None);
            }
        }
        if is_call {
            return Ok(None);
        }
        let told = self.replies.bind(py).call_method1(
            intern!(py, "report"),
            // `into_value` attaches the traceback, which `value` leaves apart before Python 3.12.
            (
                error.clone_ref(py).into_value(py),
                kind,
                about.id,
                about.attempt,
                self.error_handlers(py),
            ),
        )?;
        Ok((!told.is_none()).then(|| told.unbind()))
    }

    /// The same for the message that runs on this thread.
    pub(crate) fn tell_of_running(&self, py: Python<'_>, error: &PyErr) -> Option<Py<PyAny>> {
        // The message is asked for its kind before the report, which may look at it too.
        let (kind, about) = running::kind(py)?;
        self.tell_as(py, kind.bind(py), about, error)
            .unwrap_or_else(|error| {
                error.write_unraisable(py, None);
                None
            })
    }

    /// Keeps how a message with an id ended, and brings its reply to the owner.
    pub(crate) fn deliver(&self, py: Python<'_>, task: &Task) {
        let (Some(id), Some(reply)) = (task.id(), task.slot.get()) else {
            return;
        };
        self.note_reply(py, task, reply);
        // Its events came before it.
        self.hear(py);
        if task.is_silent() {
            return self.note_unread(py, task, reply);
        }
        let replies = self.replies.bind(py);
        let got = reply.as_ref().map(|value| value.get(py));
        let end = match &got {
            Ok(Ok(Ok(_))) => Ok(None),
            Ok(Ok(Err(error))) => Ok(Some(error.bind(py))),
            // What interrupted the unpickling is no end of the message.
            Ok(Err(_)) => Ok(None),
            Err(failure) => Err(**failure),
        };
        self.note_end(py, task, end);
        let told = match got {
            Ok(Err(interrupt)) => {
                // No code that asks for it is interrupted here: the unpickling has raised it by itself.
                let error = error::unreadable_reply(py, interrupt);
                replies.call_method1(intern!(py, "deliver"), (id, error, true))
            }
            Ok(Ok(Ok(result))) => replies.call_method1(intern!(py, "deliver"), (id, result, false)),
            Ok(Ok(Err(error))) => replies.call_method1(intern!(py, "deliver"), (id, error, true)),
            Err(failure) => {
                let error = task.error_of(*failure, self.named()).into_value(py);
                replies.call_method1(intern!(py, "deliver"), (id, error, true))
            }
        };
        if let Err(error) = told {
            error.write_unraisable(py, None);
            self.reply_room.give_back(py, 1);
        }
    }

    /// Keeps how a message ended whose reply goes nowhere. A result is not looked at: to unpickle it may run the user's
    /// code, and take long.
    fn note_unread(&self, py: Python<'_>, task: &Task, reply: &Result<Value, Failure>) {
        match reply {
            Ok(value) if value.is_result() => self.note_end(py, task, Ok(None)),
            Ok(value) => {
                let got = value.get(py);
                let error = got.as_ref().ok().and_then(|got| got.as_ref().err());
                let error = error.map(|error| error.bind(py));
                self.note_end(py, task, Ok(error));
            }
            Err(failure) => self.note_end(py, task, Err(*failure)),
        }
    }

    /// Brings what has come to the handlers of events.
    pub(crate) fn hear(&self, py: Python<'_>) {
        if !self.hearing.has_news() {
            return;
        }
        let told = self.owner.bind(py).call0().and_then(|owner| {
            if !owner.is_none() {
                owner.call_method0(intern!(py, "_pytoweb_hear"))?;
            }
            Ok(())
        });
        if let Err(error) = told {
            error.write_unraisable(py, None);
        }
    }

    /// Logs how many messages were never begun as the worker was closed, of which nothing else tells; once, if that `counts`.
    pub(crate) fn tell_of_untold(&self, py: Python<'_>, counts: bool, was_new: bool) {
        // ORDERING: Relaxed, counted by this very thread as it closed the mailbox.
        let untold = self.untold.swap(0, Ordering::Relaxed);
        if !counts || untold == 0 {
            return;
        }
        let told = self.replies.bind(py).call_method1(
            intern!(py, "tell_of_untold"),
            (untold, was_new, self.is_pool),
        );
        if let Err(error) = told {
            error.write_unraisable(py, None);
        }
    }

    pub(crate) fn tell_of_retry(
        &self,
        py: Python<'_>,
        message: &PyMessage,
        wait: Duration,
        error: &PyErr,
    ) {
        let told = message.kind(py).and_then(|kind| {
            self.record_failure(py, kind.bind(py), error, Fate::Retried);
            self.replies.bind(py).call_method1(
                intern!(py, "tell_of_retry"),
                (kind, message.attempt(), wait.as_secs_f64(), error.value(py)),
            )
        });
        if let Err(error) = told {
            error.write_unraisable(py, None);
        }
    }

    /// The same as [`WorkerShared::bury`], for one whose next attempt is not made.
    pub(crate) fn bury_last(&self, py: Python<'_>, message: &PyMessage) {
        if let Some(Then::DeadLetter(errors)) = message.retry().map(Retrying::over) {
            self.bury(py, message, errors);
        }
    }

    /// Makes a message that has failed for good a dead letter.
    pub(crate) fn bury(&self, py: Python<'_>, message: &PyMessage, errors: Vec<Py<PyAny>>) {
        if errors.is_empty() {
            return;
        }
        // ORDERING: Relaxed, only the sum matters.
        self.dead.fetch_add(1, Ordering::Relaxed);
        let id = message.id().map(|id| id.clone_ref(py));
        if let Some(id) = &id {
            self.ends.dies(py, id);
        }
        let told = message.kind(py).and_then(|kind| {
            let reply = message.task().is_none_or(|task| !task.is_silent());
            let letter = (kind, message.data(py)?, id, errors, reply);
            self.replies
                .bind(py)
                .call_method1(intern!(py, "bury"), letter)
        });
        if let Err(error) = told {
            error.write_unraisable(py, None);
        }
    }
}

/// Whether `error` is how a coroutine ends whose task is cancelled.
pub(crate) fn is_cancelled_error(py: Python<'_>, error: &PyErr) -> bool {
    let name = error.get_type(py).fully_qualified_name();
    name.is_ok_and(|name| name == "asyncio.exceptions.CancelledError")
}
