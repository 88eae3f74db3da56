//! What surrounds a pool's threads in a Python process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::intern;
use pyo3::prelude::*;
use pytoweb_engine::Host;

use crate::context;

/// Keeps one Python thread state for the life of a pool thread, lets go of the interpreter lock around waits, and
/// runs the pool's initializer.
///
/// Attaching anew for each wake-up would create and free a thread state each time, which costs more than a message.
#[derive(Debug)]
pub(crate) struct PyHost {
    /// The pool's `PoolRuntime`.
    pub(crate) runtime: Py<PyAny>,
    /// Set once the initializer has failed.
    pub(crate) broken: Arc<AtomicBool>,
}

impl Host for PyHost {
    fn thread(&self, body: &mut dyn FnMut()) {
        Python::attach(|py| {
            let runtime = self.runtime.bind(py);
            let own = std::thread::current();
            let started = runtime.call_method1(
                intern!(py, "thread_started"),
                (own.name().unwrap_or_default(),),
            );
            match started.and_then(|works| works.extract::<bool>()) {
                Ok(true) => {}
                Ok(false) => self.broken.store(true, Ordering::Release),
                Err(error) => {
                    error.write_unraisable(py, Some(runtime));
                    self.broken.store(true, Ordering::Release);
                }
            }
            body();
            context::leave_empty(py);
            if let Err(error) = runtime.call_method0(intern!(py, "thread_ended")) {
                error.write_unraisable(py, Some(runtime));
            }
        });
    }

    fn blocking(&self, wait: &mut (dyn FnMut() + Send)) {
        Python::attach(|py| py.detach(wait));
    }
}
