//! Which message's handler runs on this thread, and on the others.
//!
//! `current_message()` is rare and messages are many, so nothing is copied for it: the thread marks where the message
//! is, for as long as the handler runs.
#![expect(
    unsafe_code,
    reason = "the pointer to a message that its handler outlives"
)]

use std::ffi::c_ulong;
use std::ptr;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyString;
use pytoweb_engine::{Message, ReplyState};

use crate::host::message::{self, About, Body, PyMessage};
use crate::host::task::Head;
use crate::host::worker_message::WorkerMessage;
use crate::host::worker_shared::WorkerShared;
use crate::interpreter::marks::{self, Mark};

/// Marks `message` as the one that runs on this thread, for the time of `f`.
///
/// `_attached` is what makes a mark safe to follow from other threads: it is made and taken away under the interpreter
/// lock.
pub(crate) fn with<R>(
    attached: Python<'_>,
    message: &PyMessage,
    shared: &WorkerShared,
    f: impl FnOnce() -> R,
) -> R {
    marks::own(|mark| with_mark(attached, mark, message, shared, f))
}

/// The same with the mark of the calling thread.
#[inline]
pub(crate) fn with_mark<R>(
    _attached: Python<'_>,
    mark: &Mark,
    message: &PyMessage,
    shared: &WorkerShared,
    f: impl FnOnce() -> R,
) -> R {
    struct Restore<'a>(&'a Mark, (*mut (), *mut ()), u64);

    impl Drop for Restore<'_> {
        #[inline]
        fn drop(&mut self) {
            self.0.set(self.1);
            self.0.note_began(self.2);
        }
    }

    // One without a task has neither a future nor an id to be looked for by.
    let now = if message.task().is_some() {
        marks::coarse()
    } else {
        0
    };
    let _restore = Restore(mark, mark.get(), mark.note_began(now));
    mark.begin(message, shared);
    f()
}

/// Runs `look` on the message and the worker's shared part, if a handler runs on this thread.
pub(crate) fn look<R>(look: impl FnOnce(&PyMessage, &WorkerShared) -> R) -> Option<R> {
    let (message, shared) = marks::own(Mark::get);
    let (message, shared) = (message.cast::<PyMessage>(), shared.cast::<WorkerShared>());
    // SAFETY: `with` borrows both for as long as they are marked, on this very thread, and takes the marks away before it
    // returns, even by a panic. Null otherwise.
    unsafe { Some(look(message.as_ref()?, shared.as_ref()?)) }
}

/// Type, or name of the function, and more of the message that runs on this thread.
pub(crate) fn kind(py: Python<'_>) -> Option<(Py<PyString>, About)> {
    look(|message, _| {
        let kind = message.kind(py).ok()?;
        Some((kind, message.about(py)))
    })?
}

/// The message whose handler runs on this thread of the host, if one does.
pub(crate) fn message(py: Python<'_>) -> PyResult<Option<WorkerMessage>> {
    let Some(address) = pytoweb_engine::current() else {
        return Ok(None);
    };
    look(|message, _| message.view(py, &address)).transpose()
}

/// A weak reference to the worker or pool whose handler runs on this thread of the host, if one does.
pub(crate) fn owner(py: Python<'_>) -> Option<Py<PyAny>> {
    look(|_, shared| shared.owner.clone_ref(py))
}

/// Which thread runs the message of that ticket, its number there, and for how long it has run, if that is known.
///
/// `_attached` is what makes it safe to follow the marks of other threads.
pub(crate) fn thread_of(
    _attached: Python<'_>,
    ticket: &ReplyState,
) -> Option<(c_ulong, u64, Option<Duration>)> {
    let mut found = None;
    marks::visit(|seen| {
        let (message, _) = seen.mark.get();
        // SAFETY: as in `running_on_threads`.
        let message = unsafe { message.cast::<PyMessage>().as_ref() };
        if message
            .and_then(Message::state)
            .is_some_and(|state| ptr::eq(state, ticket))
        {
            found = Some((seen.ident, seen.mark.number(), seen.mark.ran()));
        }
    });
    found
}

/// What runs on a thread, to be told without the lock of the list.
struct ThreadRun {
    ident: c_ulong,
    number: u64,
    owner: Py<PyAny>,
    name: String,
    kind: RunKind,
    id: Option<Py<PyString>>,
    attempt: u32,
}

enum RunKind {
    Type(Py<PyString>),
    /// A function, whose name may be a property in Python.
    Function(Py<PyAny>),
}

impl ThreadRun {
    /// Runs no Python code, and so keeps the interpreter lock.
    fn of(
        py: Python<'_>,
        listed: (c_ulong, u64),
        message: &PyMessage,
        shared: &WorkerShared,
    ) -> Option<Self> {
        let kind = match &message.body {
            Body::Local { head, .. } if message.head_kind() != Head::Type => {
                RunKind::Function(head.clone_ref(py))
            }
            _ => RunKind::Type(message.kind(py).ok()?),
        };
        Some(Self {
            ident: listed.0,
            number: listed.1,
            owner: shared.owner.clone_ref(py),
            name: shared.name.clone(),
            kind,
            id: message.id().map(|id| id.clone_ref(py)),
            attempt: message.attempt(),
        })
    }

    fn told(self, py: Python<'_>) -> PyResult<ThreadRunRow> {
        let kind = match self.kind {
            RunKind::Type(kind) => kind,
            RunKind::Function(function) => message::name_of(function.bind(py))?.unbind(),
        };
        let owner = self.owner.call0(py)?;
        let (id, attempt) = (self.id, self.attempt);
        Ok((self.ident, self.number, owner, self.name, kind, id, attempt))
    }
}

/// Thread, number of its message, worker or pool, its name, type, id, attempt.
type ThreadRunRow = (
    c_ulong,
    u64,
    Py<PyAny>,
    String,
    Py<PyString>,
    Option<Py<PyString>>,
    u32,
);

/// The messages whose handlers run on threads of this process: for each the thread's identifier, the number of the
/// message on that thread, the worker or pool or None, its name, the message's type, its id, and the attempt.
#[pyfunction]
pub(crate) fn running_on_threads(py: Python<'_>) -> PyResult<Vec<ThreadRunRow>> {
    let mut found = Vec::new();
    marks::visit(|seen| {
        let (message, shared) = seen.mark.get();
        let (message, shared) = (message.cast::<PyMessage>(), shared.cast::<WorkerShared>());
        // SAFETY: the thread cannot leave `with`, and with it the message, before it has the interpreter lock, which this
        // thread holds and does not let go of before all is copied: no Python code runs here.
        let one = unsafe {
            match (message.as_ref(), shared.as_ref()) {
                (Some(message), Some(shared)) => {
                    ThreadRun::of(py, (seen.ident, seen.mark.number()), message, shared)
                }
                _ => None,
            }
        };
        found.extend(one);
    });
    found.into_iter().map(|one| one.told(py)).collect()
}
