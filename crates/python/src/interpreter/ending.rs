//! Threads of ours at the end of the interpreter: it waits for them, and one that it cannot wait for does no harm.
//!
//! Before Python 3.14 the interpreter ends a thread that asks for its lock once it is torn down: with `pthread_exit`,
//! which unwinds the thread's frames. A frame that catches panics, or that was compiled for calls that never unwind, stops
//! that, and the C library aborts the process. So the end of the program waits until no native thread of ours is left
//! ([`wait_for_threads`]). It does not wait for ever for a handler that its owner has given up: such a thread stops in the
//! first frame of ours, for the short time that the process still has.
#![expect(
    unsafe_code,
    reason = "calls that may unwind, which PyO3 declares as if they could not"
)]

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::ffi::PyObject;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::interpreter::generation::Generation;

/// Native threads of ours in this process that may take the interpreter lock.
static PRESENT: AtomicUsize = AtomicUsize::new(0);

/// The program ends: nothing is begun any more.
static OVER: AtomicBool = AtomicBool::new(false);

/// Whether the end of the program has come so far that nothing is to be begun.
pub(crate) fn is_over() -> bool {
    // ORDERING: SeqCst, for a thread without the interpreter lock that has just made a `Presence`: it sees the end here, or
    // is waited for.
    OVER.load(Ordering::SeqCst)
}

/// The time between two looks at [`PRESENT`]: the threads are on their way out, so there are few.
const LOOK: Duration = Duration::from_micros(200);

/// Held by a native thread for as long as it may take the interpreter lock.
#[derive(Debug)]
pub(crate) struct Presence(Generation);

impl Presence {
    pub(crate) fn new() -> Self {
        // ORDERING: SeqCst, see `is_over`. A thread that is about to start is counted before it is waited for.
        PRESENT.fetch_add(1, Ordering::SeqCst);
        Self(Generation::now())
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if self.0.is_here() {
            // ORDERING: Release, with the Acquire of `wait_for_threads`: the thread has let go of the lock by then.
            PRESENT.fetch_sub(1, Ordering::Release);
        }
    }
}

/// In a forked child, which has none of its parent's threads.
pub(crate) fn forget_threads() {
    // ORDERING: Relaxed, there is one thread.
    PRESENT.store(0, Ordering::Relaxed);
    OVER.store(false, Ordering::Relaxed);
}

/// Waits until no native thread of ours is left, for `seconds` at most. Returns whether that is so.
#[pyfunction]
pub(crate) fn wait_for_threads(py: Python<'_>, seconds: f64) -> bool {
    // ORDERING: SeqCst, see `is_over`.
    OVER.store(true, Ordering::SeqCst);
    let end = Instant::now() + Duration::try_from_secs_f64(seconds).unwrap_or_default();
    // ORDERING: SeqCst, see `is_over`; Acquire, see the drop of `Presence`.
    let none = || PRESENT.load(Ordering::SeqCst) == 0;
    none()
        || py.detach(|| {
            while !none() && Instant::now() < end {
                thread::sleep(LOOK);
            }
            none()
        })
}

unsafe extern "C-unwind" {
    fn PyObject_Call(
        callable: *mut PyObject,
        args: *mut PyObject,
        kwargs: *mut PyObject,
    ) -> *mut PyObject;
    #[cfg(Py_3_11)]
    fn PyObject_CallOneArg(callable: *mut PyObject, argument: *mut PyObject) -> *mut PyObject;
    // Before Python 3.11 the other one is an inline function of a header.
    #[cfg(not(Py_3_11))]
    fn PyObject_CallFunctionObjArgs(callable: *mut PyObject, ...) -> *mut PyObject;
}

/// Stops the thread for good when it is dropped; a panic goes on.
struct Stop;

impl Drop for Stop {
    fn drop(&mut self) {
        while !thread::panicking() {
            thread::park();
        }
    }
}

/// `function(argument)`.
#[inline]
pub(crate) fn call_one<'py>(
    function: &Bound<'py, PyAny>,
    argument: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    // Through a pointer that the compiler cannot see through, here and below: PyO3 declares the same symbols as functions
    // that never unwind, the linker makes one declaration of the two, and a call that goes by that one has no landing pad.
    #[cfg(Py_3_11)]
    let call = black_box(
        PyObject_CallOneArg
            as unsafe extern "C-unwind" fn(*mut PyObject, *mut PyObject) -> *mut PyObject,
    );
    #[cfg(not(Py_3_11))]
    let call = black_box(
        PyObject_CallFunctionObjArgs
            as unsafe extern "C-unwind" fn(*mut PyObject, ...) -> *mut PyObject,
    );
    let stop = Stop;
    // SAFETY: both are alive and the interpreter lock is held.
    #[cfg(Py_3_11)]
    let result = unsafe { call(function.as_ptr(), argument.as_ptr()) };
    // SAFETY: as above; null ends the arguments.
    #[cfg(not(Py_3_11))]
    let result = unsafe {
        call(
            function.as_ptr(),
            argument.as_ptr(),
            std::ptr::null_mut::<PyObject>(),
        )
    };
    std::mem::forget(stop);
    // SAFETY: a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(function.py(), result) }
}

/// `function(*args, **kwargs)`.
pub(crate) fn call<'py>(
    function: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let kwargs = kwargs.map_or(std::ptr::null_mut(), |kwargs| kwargs.as_ptr());
    // See `call_one`.
    let call = black_box(
        PyObject_Call
            as unsafe extern "C-unwind" fn(
                *mut PyObject,
                *mut PyObject,
                *mut PyObject,
            ) -> *mut PyObject,
    );
    let stop = Stop;
    // SAFETY: all are alive and the interpreter lock is held; null is for no keyword arguments.
    let result = unsafe { call(function.as_ptr(), args.as_ptr(), kwargs) };
    std::mem::forget(stop);
    // SAFETY: a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(function.py(), result) }
}
