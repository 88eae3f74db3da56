//! The parts of CPython's C API that PyO3 does not wrap: contexts, and bare instances of a subclass; and one call into
//! the C library, for the memory that it keeps.
//!
//! With `ending`, `fork`, `parker` and `running`, among the few modules of this crate with `unsafe` in them.
#![expect(unsafe_code, reason = "the one home of calls into CPython's C API")]

use std::cell::RefCell;
use std::ffi::{c_long, c_ulong};

use pyo3::exceptions::{PyBaseException, PyStopIteration, PySystemError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

use crate::error;

/// A copy of the calling thread's context, as `contextvars.copy_context()` makes it; `None` if no variable is set.
///
/// Most senders set none. Keeping a context object for each of their messages would make the garbage collector run
/// over thousands of them.
#[inline]
pub(crate) fn capture(py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
    // SAFETY: attached, as `py` proves; the call returns a new reference or null with an exception set.
    let context = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent())? };
    Ok(if is_empty(&context) {
        None
    } else {
        Some(context.unbind())
    })
}

fn is_empty(context: &Bound<'_, PyAny>) -> bool {
    // SAFETY: attached, as `context` proves; the type of a live object, and the length function of a mapping type, which
    // takes such an object. `PyObject_Size` comes to the same, twice as slowly, and this is twice a message.
    unsafe {
        let object = context.as_ptr();
        let mapping = (*ffi::Py_TYPE(object)).tp_as_mapping;
        match mapping.as_ref().and_then(|mapping| mapping.mp_length) {
            Some(length) => length(object) == 0,
            None => ffi::PyObject_Size(object) == 0,
        }
    }
}

/// The empty context that a pool thread is in, entered for as long as it stays empty.
pub(crate) struct Empty(RefCell<Option<Py<PyAny>>>);

thread_local! {
    static EMPTY: Empty = const { Empty(RefCell::new(None)) };
}

/// Runs `f` with the empty context of the calling pool thread.
pub(crate) fn with_empty<R>(f: impl FnOnce(&Empty) -> R) -> R {
    EMPTY.with(f)
}

/// Makes `context`, or the `empty` one of the calling pool thread, the current one until the guard is dropped.
#[inline]
pub(crate) fn enter<'a, 'py>(
    py: Python<'py>,
    empty: &'a Empty,
    context: Option<&'a Bound<'py, PyAny>>,
) -> PyResult<EnteredContext<'a, 'py>> {
    match context {
        Some(context) => push(context)?,
        None if empty.0.borrow().is_none() => empty.begin(py)?,
        None => {}
    }
    Ok(EnteredContext { py, empty, context })
}

/// Runs `f` in `context`, or in the empty one of the calling pool thread.
pub(crate) fn inside<'py, R>(
    py: Python<'py>,
    context: Option<&Bound<'py, PyAny>>,
    f: impl FnOnce() -> PyResult<R>,
) -> PyResult<R> {
    with_empty(|empty| {
        let _entered = enter(py, empty, context)?;
        f()
    })
}

impl Empty {
    #[cold]
    fn begin(&self, py: Python<'_>) -> PyResult<()> {
        let fresh = fresh(py)?;
        push(&fresh)?;
        *self.0.borrow_mut() = Some(fresh.unbind());
        Ok(())
    }

    /// Whether a handler has set a variable in it.
    #[inline]
    fn is_used(&self, py: Python<'_>) -> bool {
        let empty = self.0.borrow();
        empty
            .as_ref()
            .is_some_and(|empty| !is_empty(empty.bind(py)))
    }

    #[cold]
    fn leave(&self, py: Python<'_>) {
        let empty = self.0.borrow_mut().take();
        if let Some(empty) = empty {
            pop(empty.bind(py));
        }
    }
}

/// An empty context.
pub(crate) fn fresh(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: attached, as `py` proves; the call returns a new reference or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_New()) }
}

/// Makes `context` the calling thread's current one until the guard is dropped.
pub(crate) fn enter_given<'a, 'py>(context: &'a Bound<'py, PyAny>) -> PyResult<Given<'a, 'py>> {
    push(context)?;
    Ok(Given(context))
}

fn push(context: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: attached, as `context` proves; it is a context object (the call checks).
    match unsafe { ffi::PyContext_Enter(context.as_ptr()) } {
        0 => Ok(()),
        _ => Err(PyErr::fetch(context.py())),
    }
}

fn pop(context: &Bound<'_, PyAny>) {
    // SAFETY: attached, and the context was entered by this thread in `push`.
    if unsafe { ffi::PyContext_Exit(context.as_ptr()) } != 0 {
        // The handler left another context entered: a defect of the handler, told where such are told.
        PyErr::fetch(context.py()).write_unraisable(context.py(), None);
    }
}

/// Leaves the empty context, before the calling pool thread ends.
pub(crate) fn leave_empty(py: Python<'_>) {
    EMPTY.with(|empty| empty.leave(py));
}

/// What [`enter`] made the current context is that no longer once this is dropped.
pub(crate) struct EnteredContext<'a, 'py> {
    py: Python<'py>,
    empty: &'a Empty,
    context: Option<&'a Bound<'py, PyAny>>,
}

impl Drop for EnteredContext<'_, '_> {
    #[inline]
    fn drop(&mut self) {
        match self.context {
            Some(context) => pop(context),
            // The next message gets a fresh one.
            None if self.empty.is_used(self.py) => self.empty.leave(self.py),
            None => {}
        }
    }
}

/// The same of [`enter_given`].
pub(crate) struct Given<'a, 'py>(&'a Bound<'py, PyAny>);

impl Drop for Given<'_, '_> {
    fn drop(&mut self) {
        pop(self.0);
    }
}

/// An instance of `class` without running its `__init__`.
pub(crate) fn bare_instance<'py>(
    class: &Bound<'py, PyType>,
    none: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: `class` is a live type object; reading a slot of it is always allowed while attached.
    let Some(new) = (unsafe { (*class.as_type_ptr()).tp_new }) else {
        return Err(PySystemError::new_err(
            "the future class cannot be instantiated",
        ));
    };
    // SAFETY: `tp_new` takes the type, an empty tuple and no keywords, and returns a new reference or null with an
    // exception set.
    unsafe {
        Bound::from_owned_ptr_or_err(
            class.py(),
            new(class.as_type_ptr(), none.as_ptr(), std::ptr::null_mut()),
        )
    }
}

/// What a `__next__` returns at the end of an iteration with `value`, as a `return` in a generator makes it.
pub(crate) fn end_iteration(value: Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
    if value.is_instance_of::<PyTuple>() || value.is_instance_of::<PyBaseException>() {
        // The interpreter would take these for the exception's arguments, or for the exception.
        return Err(PyStopIteration::new_err((value.unbind(),)));
    }
    // SAFETY: attached, as `value` proves; sets the exception, whose instance is only made where code looks at it.
    // `None` is a null pointer to the interpreter, which leaves the exception as it is.
    unsafe { ffi::PyErr_SetObject(ffi::PyExc_StopIteration, value.as_ptr()) };
    Ok(None)
}

/// Whether `function` is a native function that is bound to an instance of exactly `class`.
pub(crate) fn is_native_method_of(function: &Bound<'_, PyAny>, class: &Bound<'_, PyType>) -> bool {
    // SAFETY: attached, as `function` proves; the first call is a type comparison, the second one is made for such
    // functions only and returns a borrowed reference or null, and the type of a live object is read.
    unsafe {
        if ffi::PyCFunction_Check(function.as_ptr()) == 0 {
            return false;
        }
        let own = ffi::PyCFunction_GetSelf(function.as_ptr());
        !own.is_null() && ffi::Py_TYPE(own) == class.as_type_ptr()
    }
}

/// Raises ``exception`` in the thread of that identifier, the next time that it runs Python code.
#[pyfunction]
pub(crate) fn interrupt_thread(ident: c_long, exception: &Bound<'_, PyType>) {
    // SAFETY: attached, as `exception` proves; an identifier of no thread does nothing.
    unsafe { ffi::PyThreadState_SetAsyncExc(ident, exception.as_ptr()) };
}

/// Whether the calling thread is attached to the interpreter that the process began with.
pub(crate) fn is_main_interpreter(_attached: Python<'_>) -> bool {
    // SAFETY: attached, so there is a current interpreter; the call reads a number of it.
    unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) == 0 }
}

unsafe extern "C" {
    /// Part of the C API; PyO3 has no declaration of it.
    safe fn PyThread_get_stacksize() -> usize;
    /// As `threading.get_ident()`.
    safe fn PyThread_get_thread_ident() -> c_ulong;
}

/// The identifier of the calling thread, as `threading.get_ident()` gives it.
pub(crate) fn thread_ident() -> c_ulong {
    PyThread_get_thread_ident()
}

/// Bytes of stack that `threading.stack_size` was given for new threads; `None` if it was not called.
///
/// Not asked of `threading.stack_size()` itself, which forgets what it was given when it is called without.
pub(crate) fn stack_bytes(_attached: Python<'_>) -> Option<usize> {
    Some(PyThread_get_stacksize()).filter(|bytes| *bytes > 0)
}

/// Whether `object` is the coroutine of an `async def`.
pub(crate) fn is_coroutine(object: &Bound<'_, PyAny>) -> bool {
    object.get_type_ptr() == &raw mut ffi::PyCoro_Type
}

/// What a handler of messages of `kind` returned, if that is no generator, of an `async def` function or of another one:
/// nothing of it would run.
#[inline]
pub(crate) fn no_generator<'py>(
    returned: Bound<'py, PyAny>,
    kind: impl FnOnce() -> String,
) -> PyResult<Bound<'py, PyAny>> {
    // These have no subclasses.
    let generators = [&raw mut ffi::PyGen_Type, &raw mut ffi::PyAsyncGen_Type];
    if generators.contains(&returned.get_type_ptr()) {
        return Err(error::returned_generator(&kind()));
    }
    Ok(returned)
}

/// Bytes of a page of memory.
pub(crate) fn page_bytes() -> usize {
    #[cfg(unix)]
    {
        unsafe extern "C" {
            /// POSIX; takes no pointer.
            safe fn getpagesize() -> std::ffi::c_int;
        }
        usize::try_from(getpagesize()).unwrap_or(4096)
    }
    #[cfg(not(unix))]
    4096
}

/// Whether [`trim_memory`] does anything.
pub(crate) const TRIMS_MEMORY: bool = cfg!(all(target_os = "linux", target_env = "gnu"));

/// Has the C library give free memory back to the system. It keeps all that lies below anything still in use, and
/// after a burst of messages that is most.
pub(crate) fn trim_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        // SAFETY: it takes no pointer, and its own locks while it looks at the heap.
        unsafe { malloc_trim(0) };
    }
}
