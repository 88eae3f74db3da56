//! Which message's handler runs on this thread, and on the others.
//!
//! `current_message()` is rare and messages are many, so nothing is copied for it: the thread notes where the message
//! is, for as long as the handler runs. The threads that have done so are listed, so that another one can say what all of
//! them run.
#![expect(
    unsafe_code,
    reason = "the pointer to a message that its handler outlives"
)]

use std::ffi::c_ulong;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::host::message::{self, About, Body, PyMessage};
use crate::host::shared::Shared;
use crate::host::task::Head;
use crate::host::worker_message::WorkerMessage;
use crate::interpreter::context;
use crate::interpreter::generation::Generation;

/// What a thread notes: null where no handler runs. Written by that thread alone, and only while it holds the interpreter
/// lock, so another one that holds it sees both pointers of the same message.
struct Note {
    message: AtomicPtr<PyMessage>,
    shared: AtomicPtr<Shared>,
    /// One more for each message, by which a later look knows the same one again.
    number: AtomicU64,
}

thread_local! {
    static NOTE: Note = const {
        Note {
            message: AtomicPtr::new(ptr::null_mut()),
            shared: AtomicPtr::new(ptr::null_mut()),
            number: AtomicU64::new(0),
        }
    };
}

// ORDERING of all accesses below: Relaxed. The interpreter lock orders those of different threads.

impl Note {
    fn get(&self) -> (*mut PyMessage, *mut Shared) {
        let shared = self.shared.load(Ordering::Relaxed);
        (self.message.load(Ordering::Relaxed), shared)
    }

    fn set(&self, (message, shared): (*mut PyMessage, *mut Shared)) {
        self.message.store(message, Ordering::Relaxed);
        self.shared.store(shared, Ordering::Relaxed);
    }
}

/// Notes `message` as the one that runs on this thread, for the time of `f`.
///
/// `_attached` is what makes a note safe to read from other threads: it is made and taken away under the interpreter lock.
pub(crate) fn with<R>(
    _attached: Python<'_>,
    message: &PyMessage,
    shared: &Shared,
    f: impl FnOnce() -> R,
) -> R {
    struct Restore((*mut PyMessage, *mut Shared));

    impl Drop for Restore {
        fn drop(&mut self) {
            NOTE.with(|note| note.set(self.0));
        }
    }

    let _restore = NOTE.with(|note| {
        let before = Restore(note.get());
        let number = note.number.load(Ordering::Relaxed);
        if number == 0 {
            list();
        }
        note.number.store(number.wrapping_add(1), Ordering::Relaxed);
        // They are only ever read.
        note.set((
            ptr::from_ref(message).cast_mut(),
            ptr::from_ref(shared).cast_mut(),
        ));
        before
    });
    f()
}

/// Runs `look` on the message and the worker's shared part, if a handler runs on this thread.
pub(crate) fn look<R>(look: impl FnOnce(&PyMessage, &Shared) -> R) -> Option<R> {
    let (message, shared) = NOTE.with(Note::get);
    // SAFETY: `with` borrows both for as long as the pointers are noted, on this very thread, and takes them away
    // before it returns, even by a panic. Null otherwise.
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

/// A thread that has run a handler, in the list of them.
struct Listed {
    ident: c_ulong,
    note: *const Note,
    /// A forked child has the list, and none of the threads.
    generation: Generation,
}

// SAFETY: the pointer is followed only as `running_on_threads` says.
unsafe impl Send for Listed {}

static THREADS: Mutex<Vec<Listed>> = Mutex::new(Vec::new());

fn threads() -> MutexGuard<'static, Vec<Listed>> {
    THREADS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread whose value this is is in the list; dropped with that, before the memory of its notes goes.
struct Listing {
    ident: c_ulong,
    generation: Generation,
}

thread_local! {
    static LISTING: Listing = {
        let (ident, generation) = (context::thread_ident(), Generation::now());
        let note = NOTE.with(ptr::from_ref);
        threads().push(Listed { ident, note, generation });
        Listing { ident, generation }
    };
}

impl Drop for Listing {
    fn drop(&mut self) {
        let own = (self.ident, self.generation);
        threads().retain(|listed| (listed.ident, listed.generation) != own);
    }
}

#[cold]
fn list() {
    // A thread that has begun to end may run the last reports of what it drops, and is in no list any more.
    let _ = LISTING.try_with(|_| ());
}

/// What runs on a thread, to be told without the lock of the list.
struct Found {
    ident: c_ulong,
    number: u64,
    owner: Py<PyAny>,
    name: String,
    kind: Kind,
    id: Option<Py<PyString>>,
    attempt: u32,
}

enum Kind {
    Type(Py<PyString>),
    /// A function, whose name may be a property in Python.
    Function(Py<PyAny>),
}

impl Found {
    /// Runs no Python code, and so keeps the interpreter lock.
    fn of(
        py: Python<'_>,
        listed: (c_ulong, u64),
        message: &PyMessage,
        shared: &Shared,
    ) -> Option<Self> {
        let kind = match &message.body {
            Body::Local { head, .. } if message.head_kind() != Head::Type => {
                Kind::Function(head.clone_ref(py))
            }
            _ => Kind::Type(message.kind(py).ok()?),
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

    fn told(self, py: Python<'_>) -> PyResult<Running> {
        let kind = match self.kind {
            Kind::Type(kind) => kind,
            Kind::Function(function) => message::name_of(function.bind(py))?.unbind(),
        };
        let owner = self.owner.call0(py)?;
        let (id, attempt) = (self.id, self.attempt);
        Ok((self.ident, self.number, owner, self.name, kind, id, attempt))
    }
}

/// Thread, number of its message, worker or pool, its name, type, id, attempt.
type Running = (
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
pub(crate) fn running_on_threads(py: Python<'_>) -> PyResult<Vec<Running>> {
    let mut found = Vec::new();
    for listed in threads()
        .iter()
        .filter(|listed| listed.generation.is_here())
    {
        // SAFETY: the thread has not ended, because it takes itself out of the list, which is locked here, before its
        // local values go. It cannot leave `with`, and with it the message, before it has the interpreter lock, which
        // this thread holds and does not let go of before all is copied: no Python code runs here.
        let one = unsafe {
            let note = &*listed.note;
            let (message, shared) = note.get();
            match (message.as_ref(), shared.as_ref()) {
                (Some(message), Some(shared)) => {
                    let number = note.number.load(Ordering::Relaxed);
                    Found::of(py, (listed.ident, number), message, shared)
                }
                _ => None,
            }
        };
        found.extend(one);
    }
    found.into_iter().map(|one| one.told(py)).collect()
}
