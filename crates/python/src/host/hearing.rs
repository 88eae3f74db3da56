//! Events that come from a child, on their way to the owner of their worker.
//!
//! The thread that reads replies takes them in without the interpreter lock. A job on a thread of the pool brings them to
//! Python, many at a time; so does the reply of a message with an id, which comes after them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyString;
use pytoweb_process::{EmittedEvent, Parcel};

use crate::error;
use crate::pickle::pickling;

/// Events of a worker that wait at most, in the child, here, and for each line or event loop that calls handlers. Enough
/// for a burst, and few enough that stale ones do not keep fresh ones waiting for long.
pub(crate) const MOST_EVENTS: usize = 1024;

/// An event that came, and its message.
#[derive(Debug)]
pub(crate) struct ArrivedEvent {
    pub(crate) event: EmittedEvent,
    /// Of its message.
    pub(crate) id: Option<Box<str>>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<ArrivedEvent>,
    /// Since they were last taken, here and in the child.
    dropped: u64,
}

/// Those of one worker that wait for the interpreter lock.
#[derive(Debug, Default)]
pub(crate) struct Hearing {
    state: Mutex<State>,
    /// A job is to take them.
    called: AtomicBool,
}

impl Hearing {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one in; the oldest makes room. True: a job is to be made.
    pub(crate) fn add(&self, arrived: ArrivedEvent) -> bool {
        let oldest = {
            let mut state = self.lock();
            state.dropped = state.dropped.saturating_add(arrived.event.dropped);
            state.waiting.push_back(arrived);
            if state.waiting.len() > MOST_EVENTS {
                state.dropped += 1;
                state.waiting.pop_front()
            } else {
                None
            }
        };
        drop(oldest);
        // ORDERING: AcqRel, with `take`: one that comes after its look has a job made.
        !self.called.swap(true, Ordering::AcqRel)
    }

    /// Whether there is something that a job is to take, or has been asked to.
    pub(crate) fn has_news(&self) -> bool {
        // ORDERING: Acquire, with `add`.
        self.called.load(Ordering::Acquire)
    }

    /// All that wait, and how many were dropped.
    fn take(&self) -> (VecDeque<ArrivedEvent>, u64) {
        // ORDERING: AcqRel, see `add`.
        self.called.swap(false, Ordering::AcqRel);
        let mut state = self.lock();
        (
            std::mem::take(&mut state.waiting),
            std::mem::take(&mut state.dropped),
        )
    }

    /// As `Endpoint._pytoweb_take_events`.
    pub(crate) fn take_for(&self, py: Python<'_>) -> PyResult<(Vec<Came>, u64)> {
        let (arrived, dropped) = self.take();
        let came = arrived.into_iter().map(|ArrivedEvent { event, id }| {
            Ok((
                PyString::new(py, &event.name).unbind(),
                Py::new(py, RemoteData(event.parcel))?,
                id.map(|id| PyString::new(py, &id).unbind()),
            ))
        });
        Ok((came.collect::<PyResult<_>>()?, dropped))
    }
}

/// The name of an event, its data and the id of its message.
pub(crate) type Came = (Py<PyString>, Py<RemoteData>, Option<Py<PyString>>);

/// The data of an event, as another process sent it.
#[pyclass(module = "pytoweb._core", frozen)]
#[derive(Debug)]
pub(crate) struct RemoteData(Parcel);

#[pymethods]
impl RemoteData {
    /// Unpickles it.
    fn unpack<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        pickling::unpack(py, &self.0).map_err(|raised| {
            let error = error::unreadable_reply(py, raised);
            PyErr::from_value(error.into_bound(py))
        })
    }
}
