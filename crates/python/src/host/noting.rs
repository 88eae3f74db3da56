//! How messages with an id end, noted for `explain` by the time they leave the mailbox.
//!
//! Their replies go to their owner on a thread of the pool, maybe much later: a message that is asked for by its id stands in
//! the mailbox, or among the ends.

use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use pytoweb_engine::{Failure, Outcome};

use crate::host::ends::{name_of, text_of};
use crate::host::message::PyMessage;
use crate::host::task::Task;
use crate::host::task::value::Value;
use crate::host::worker_shared::WorkerShared;

impl WorkerShared {
    /// A message is about to leave the mailbox, and ends as `outcome`. On any thread, with the interpreter lock or without.
    pub(crate) fn note_outcome(&self, message: &PyMessage, outcome: Outcome) {
        let Some(task) = message.task().filter(|task| task.id().is_some()) else {
            return;
        };
        let name = match (task.slot.get(), outcome) {
            (Some(Err(failure)), _) => name_of(*failure, task),
            (_, Outcome::Completed) => "completed",
            (_, Outcome::Cancelled) => "cancelled",
            (_, Outcome::Expired) => name_of(Failure::Expired, task),
            // Why, its thread says in a moment; it keeps the interpreter lock until then.
            (_, _) => return,
        };
        self.note_as(message, task, name);
    }

    /// The same of one that no handler gets.
    pub(crate) fn note_failure(&self, message: &PyMessage, failure: Failure) {
        if failure == Failure::Stopped && message.task().is_none_or(|task| task.is_untold()) {
            // ORDERING: Relaxed, a number for the log.
            self.untold.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(task) = message.task().filter(|task| task.id().is_some()) {
            let tried =
                failure == Failure::Stopped && task.retry().is_some_and(|retry| retry.made() > 0);
            let name = if tried {
                "failed"
            } else {
                name_of(failure, task)
            };
            self.note_as(message, task, name);
        }
    }

    fn note_as(&self, message: &PyMessage, task: &Task, name: &'static str) {
        match message.request().and_then(|request| request.id.as_deref()) {
            Some(id) => {
                if task.is_noted_first() {
                    self.ends.note_early(id, name);
                }
            }
            None => Python::attach(|py| self.note_as_here(py, task, name)),
        }
    }

    fn note_as_here(&self, py: Python<'_>, task: &Task, name: &'static str) {
        if let Some(id) = task.id().filter(|_| task.is_noted_first()) {
            self.ends.note_early(&id.bind(py).to_string_lossy(), name);
        }
    }

    /// The same, as its reply stands, before anything of the program runs.
    pub(crate) fn note_reply(&self, py: Python<'_>, task: &Task, reply: &Result<Value, Failure>) {
        let name = match reply {
            Ok(value) if value.is_result() => "completed",
            Ok(_) => "failed",
            Err(failure) => name_of(*failure, task),
        };
        self.note_as_here(py, task, name);
    }

    /// Keeps what became of a message that was noted as above: `None`, its handler returned.
    pub(crate) fn note_end(
        &self,
        py: Python<'_>,
        task: &Task,
        end: Result<Option<&Bound<'_, PyAny>>, Failure>,
    ) {
        let Some(id) = task.id() else {
            return;
        };
        let (name, error) = match end {
            Ok(None) => ("completed", None),
            // Before the lock: its text is the program's code.
            Ok(Some(error)) => ("failed", Some(text_of(error))),
            Err(failure) => (name_of(failure, task), None),
        };
        self.ends.note(&id.bind(py).to_string_lossy(), name, error);
    }
}
