//! What a thread without the interpreter lock may be the last to hold.
//!
//! PyO3 puts off the end of an object that such a thread lets go of, until the next native call of any thread. That
//! may be long after, and in a forked process: the object would end there, and take what is the parent's along.

use std::ops::Deref;

use pyo3::prelude::*;

/// A value with references to Python objects, dropped under the interpreter lock by the thread that lets go of it.
///
/// Nothing of the engine is locked where one is dropped: see "Locks and their order" in `ARCHITECTURE.md`.
#[derive(Debug)]
pub(crate) struct Attached<T>(Option<T>);

impl<T> Attached<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(Some(value))
    }
}

impl<T> Deref for Attached<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Some(value) => value,
            None => unreachable!("it is taken only by its drop"),
        }
    }
}

impl<T> Drop for Attached<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        // Where the interpreter has ended, the closure is dropped with the value, and PyO3 keeps what is in there.
        let _ = Python::try_attach(|_| drop(value));
    }
}
