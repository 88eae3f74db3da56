//! What messages count as with the tally of their type.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use pytoweb_engine::{Outcome, Span, Tally};

use crate::host::message::{Apart, Body, PyMessage, name_of, run_chunk};
use crate::host::task::Head;
use crate::host::worker_shared::WorkerShared;

impl WorkerShared {
    /// Counts a message that ended where it was handled.
    #[inline]
    pub(super) fn count(&self, py: Python<'_>, message: &PyMessage, outcome: Outcome) {
        self.with_tally(py, message, |tally| {
            self.count_with(tally, outcome);
        });
    }

    /// The same with the tally of its type.
    #[inline]
    pub(super) fn count_with(&self, tally: &Tally, outcome: Outcome) {
        if self.runs_one {
            tally.count_alone(outcome);
        } else {
            tally.count(outcome);
        }
    }

    /// Has `count` count with the tally of a message: that of its type, or of the function that it calls.
    #[inline]
    pub(crate) fn with_tally(
        &self,
        py: Python<'_>,
        message: &PyMessage,
        count: impl FnOnce(&Tally),
    ) {
        if cfg!(pytoweb_without_numbers) {
            return;
        }
        match self.tally_at_hand(message) {
            Some(tally) => count(tally),
            None => self.with_other_tally(py, message, count),
        }
    }

    /// The tally of a message whose type is found by its address.
    #[inline]
    pub(super) fn tally_at_hand(&self, message: &PyMessage) -> Option<&Tally> {
        match &message.body {
            // No function is a type.
            Body::Local { head, .. } => self.tallies.at_hand(head),
            Body::Apart(_) => None,
        }
    }

    /// That of the messages that call `function`. `None`: it calls others, and each counts under the name of its own.
    pub(super) fn tally_of_call(&self, py: Python<'_>, function: &Py<PyAny>) -> Option<Arc<Tally>> {
        if function.is(run_chunk(py).ok()?) {
            return None;
        }
        let name = name_of(function.bind(py)).ok()?;
        Some(self.tallies.named(&name.to_string_lossy()))
    }

    #[cold]
    fn with_other_tally(&self, py: Python<'_>, message: &PyMessage, count: impl FnOnce(&Tally)) {
        match &message.body {
            Body::Local { head, .. } if message.head_kind() == Head::Type => {
                if let Ok(kind) = head.bind(py).cast::<PyString>() {
                    self.tallies.with_named(kind, count);
                }
            }
            Body::Local { head, data, .. } => {
                if let Ok(name) = called(head.bind(py), data.bind(py)) {
                    self.tallies.with_named(&name, count);
                }
            }
            Body::Apart(Apart::Packed { request, .. }) => {
                self.tallies.with_shared(&request.kind, count);
            }
            Body::Apart(Apart::Last) => {}
        }
    }

    /// The same on a thread that need not have the interpreter lock.
    fn with_tally_anywhere(&self, message: &PyMessage, count: impl FnOnce(&Tally)) {
        if cfg!(pytoweb_without_numbers) {
            return;
        }
        if let Some(tally) = self.tally_at_hand(message) {
            return count(tally);
        }
        match &message.body {
            Body::Apart(Apart::Packed { request, .. }) => {
                self.tallies.with_shared(&request.kind, count);
            }
            _ => Python::attach(|py| self.with_other_tally(py, message, count)),
        }
    }

    /// See [`Handler::timed`](pytoweb_engine::Handler::timed).
    pub(super) fn timed(&self, message: &PyMessage, span: &Span) {
        self.with_tally_anywhere(message, |tally| tally.record(span.wait, span.run));
        self.record_span(message, span);
    }

    /// What a message of a handler here counts under: its type, or the name of the function that it calls.
    pub(crate) fn kind_here<'py>(
        py: Python<'py>,
        message: &PyMessage,
    ) -> Option<Bound<'py, PyString>> {
        match &message.body {
            Body::Local { head, .. } if message.head_kind() == Head::Type => {
                head.bind(py).cast::<PyString>().ok().cloned()
            }
            Body::Local { head, data, .. } => called(head.bind(py), data.bind(py)).ok(),
            Body::Apart(_) => None,
        }
    }

    /// See [`Handler::ended`](pytoweb_engine::Handler::ended).
    pub(super) fn count_ended(&self, message: &PyMessage, outcome: Outcome) {
        self.note_outcome(message, outcome);
        self.with_tally_anywhere(message, |tally| tally.count(outcome));
    }
}

/// The name of the function that a message calls; of a chunk of `map`, that of the one which is called in there.
fn called<'py>(
    function: &Bound<'py, PyAny>,
    args: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyString>> {
    if function.is(run_chunk(function.py())?)
        && let Ok(args) = args.cast::<PyTuple>()
        && !args.is_empty()
    {
        return name_of(&args.get_item(0)?);
    }
    name_of(function)
}
