//! Forks: a new generation for the child, and what else of this process is not for it.
//!
//! The C library moves the generation, within `fork` itself: before anything of Python runs in the child, the hooks of
//! `os.register_at_fork` included, since whatever runs may drop a handle.

#![expect(unsafe_code, reason = "the C library calls it in a forked child")]

use std::ffi::c_int;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pytoweb_engine::{Registry, Timers};

use crate::interpreter::{ending, generation, marks};

/// What the pools of this process share.
#[derive(Clone, Default)]
pub(crate) struct OfProcess {
    /// What watches their deadlines: a forked child has none of its parent's threads.
    pub(crate) timers: Timers,
    /// Where they are found.
    pub(crate) registry: Registry,
}

/// Null until the first pool; never freed.
static OF_PROCESS: AtomicPtr<OfProcess> = AtomicPtr::new(ptr::null_mut());

/// What the pools of this process share.
pub(crate) fn of_process() -> OfProcess {
    // ORDERING: Acquire, with the Release that stored it.
    let mut shared = OF_PROCESS.load(Ordering::Acquire);
    if shared.is_null() {
        let made = Box::into_raw(Box::default());
        // ORDERING: AcqRel, its contents go with it, or come from the thread that was first.
        match OF_PROCESS.compare_exchange(shared, made, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => shared = made,
            Err(first) => {
                // SAFETY: it was made above, and no other thread has seen it.
                drop(unsafe { Box::from_raw(made) });
                shared = first;
            }
        }
    }
    // SAFETY: not null, made by `Box::into_raw`, and never freed once it is stored.
    unsafe { &*shared }.clone()
}

/// Whether this process is the child of a pool.
static IS_CHILD: AtomicBool = AtomicBool::new(false);

/// This process is the child of a pool.
pub(crate) fn note_child() {
    // ORDERING: Relaxed, see `is_child`.
    IS_CHILD.store(true, Ordering::Relaxed);
}

fn is_child() -> bool {
    // ORDERING: Relaxed, for the text of an error.
    IS_CHILD.load(Ordering::Relaxed)
}

/// What a use of a handle raises that is not set up: by its subclass, or because this is a child's copy of it.
pub(crate) fn not_set_up() -> PyErr {
    if is_child() {
        return PyRuntimeError::new_err(
            "this is a worker as its own process sees it: it has its name and its attributes; post to it, and start \
             and stop it, from the host",
        );
    }
    PyRuntimeError::new_err("call super().__init__(...) in your __init__ before using the worker")
}

#[cfg(unix)]
unsafe extern "C" {
    fn pthread_atfork(
        prepare: Option<extern "C" fn()>,
        parent: Option<extern "C" fn()>,
        child: Option<extern "C" fn()>,
    ) -> c_int;
}

/// Called in a forked child: every handle made before belongs to the parent.
extern "C" fn begin_generation() {
    generation::begin();
    // ORDERING: Relaxed, there is one thread. Leaked: its locks may be another thread's.
    OF_PROCESS.store(ptr::null_mut(), Ordering::Relaxed);
    ending::forget_threads();
    marks::forget_threads();
}

/// Has the C library move the generation in every forked child of this process.
pub(crate) fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        #[cfg(unix)]
        // SAFETY: the signature is POSIX's. The function lives as long as the process, because extension modules are
        // never unloaded, and does nothing that is forbidden in a forked child of a process with threads.
        unsafe {
            // The only error is a lack of memory for a list entry.
            pthread_atfork(None, None, Some(begin_generation));
        }
    });
}
