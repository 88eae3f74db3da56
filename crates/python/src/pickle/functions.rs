//! In a child: the functions that calls refer to by a number, and how they are called.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyBytes, PyInt, PyTuple};
use pytoweb_process::Parcel;

use crate::pickle::pickling;

/// A function that came.
enum Function {
    /// As a pickle: the call that needs it unpickles it, and what comes of that is this call's own.
    Packed(Py<PyBytes>),
    Ready(Py<PyAny>),
}

/// The functions of a child by their numbers.
#[derive(Default)]
pub(crate) struct Functions(Mutex<HashMap<u32, Function>>);

impl Functions {
    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Function>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a function. `anew`: forgets the others.
    pub(crate) fn define(&self, py: Python<'_>, number: u32, parcel: &Parcel, anew: bool) {
        let stream = parcel.stream();
        let mut pickle = vec![0; stream.len()];
        // As long as the stream, so nothing is left out.
        let _ = stream.copy_to(&mut pickle);
        let function = Function::Packed(PyBytes::new(py, &pickle).unbind());
        let mut all = self.lock();
        let forgotten = anew.then(|| std::mem::take(&mut *all));
        let replaced = all.insert(number, function);
        // The functions may run code when they go.
        drop(all);
        drop((forgotten, replaced));
    }

    /// Lets go of all of them.
    pub(crate) fn clear(&self) {
        let all = std::mem::take(&mut *self.lock());
        // The functions may run code when they go.
        drop(all);
    }

    /// The function of a call: itself, or by its number.
    ///
    /// # Errors
    /// What unpickling it raised.
    pub(crate) fn get<'py>(&self, named: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = named.py();
        let Ok(number) = named.cast_exact::<PyInt>() else {
            return Ok(named.clone());
        };
        let number: u32 = number.extract()?;
        let pickle = match self.lock().get(&number) {
            Some(Function::Ready(function)) => return Ok(function.bind(py).clone()),
            Some(Function::Packed(pickle)) => pickle.bind(py).clone(),
            None => return Err(PyRuntimeError::new_err("this function was never defined")),
        };
        let function = pickling::load(py, &pickle)?;
        let ready = Function::Ready(function.clone().unbind());
        let replaced = self.lock().insert(number, ready);
        drop(replaced);
        Ok(function)
    }
}

/// What is to be called with what: `options` may say that the arguments are a chunk of calls.
pub(crate) fn called<'py>(
    function: Bound<'py, PyAny>,
    args: Bound<'py, PyTuple>,
    options: &Bound<'py, PyAny>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
    static RUN_CHUNK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

    if !options.is_exact_instance_of::<PyBool>() {
        return Ok((function, args));
    }
    let py = function.py();
    let run_chunk = RUN_CHUNK.import(py, "pytoweb._chunks", "run_chunk")?;
    let mut all = vec![function];
    all.extend(args.iter());
    Ok((run_chunk.clone(), PyTuple::new(py, all)?))
}
