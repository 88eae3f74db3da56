//! Waits of a handler that the engine does not know.

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::error;
use crate::interpreter::generation::Generation;

type BlockingSince = (Generation, pytoweb_engine::Blocking);

/// Lets another thread of the pool run while this one waits in a ``with`` block.
///
/// For what blocks a handler and is no reply: a lock, a queue, a socket, a subprocess.
///
///     with blocking():
///         lock.acquire()
///
/// A pool runs ``size`` handlers at a time; one in such a block does not count. Waits for replies
/// (``future.result()``) and for room do the same by themselves. The worker takes no other message meanwhile; of a
/// pool's own mailbox another one may run. Blocks within blocks, and blocks outside of handlers, in child processes and
/// in coroutines do nothing: what blocks an event loop blocks it, so await there.
///
/// Raises:
///     ThreadLimitError: As many handlers wait as the pool may have threads beyond its size.
///     RuntimeError: All threads of the pool wait, and the system refused another one. Both at the start of the block.
#[pyclass(module = "pytoweb.workers", name = "blocking", frozen)]
#[derive(Debug, Default)]
pub(crate) struct Blocking {
    entered: Mutex<Option<BlockingSince>>,
}

impl Blocking {
    fn lock(&self) -> MutexGuard<'_, Option<BlockingSince>> {
        self.entered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Blocking {
    fn drop(&mut self) {
        let entered = mem::take(
            self.entered
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner),
        );
        leave(entered);
    }
}

/// A thread of the parent process is not taken back in a forked child.
fn leave(entered: Option<BlockingSince>) {
    if let Some((generation, guard)) = entered
        && !generation.is_here()
    {
        mem::forget(guard);
    }
}

#[pymethods]
impl Blocking {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// From here on another thread may run.
    fn __enter__(&self, py: Python<'_>) -> PyResult<()> {
        if self.lock().is_some() {
            return Err(PyRuntimeError::new_err(
                "this blocking() is entered already: make one for each block",
            ));
        }
        let guard = pytoweb_engine::Blocking::enter().map_err(|error| error::wait(py, error))?;
        *self.lock() = Some((Generation::now(), guard));
        Ok(())
    }

    /// The handler goes on.
    #[pyo3(signature = (*_error))]
    fn __exit__(&self, _error: &Bound<'_, PyTuple>) {
        let entered = self.lock().take();
        leave(entered);
    }
}
