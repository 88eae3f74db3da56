//! Many replies awaited as one, without a task for each: what `gather` waits for.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use pyo3::prelude::*;
use pyo3::types::PyList;
use pyo3::{PyTraverseError, PyVisit};

use super::{FutureBase, outcome};

/// How far the replies are, counted by the threads that settle them.
#[derive(Debug)]
struct GatherProgress {
    left: AtomicUsize,
    /// The first to fail, where that ends the wait.
    failed: OnceLock<usize>,
}

/// Futures that are awaited together.
#[derive(Debug)]
pub(super) struct Gathered {
    futures: Vec<Py<FutureBase>>,
    /// Exceptions are results like any other.
    return_exceptions: bool,
    /// The replies report to `progress`.
    watched: AtomicBool,
    progress: Arc<GatherProgress>,
}

impl Gathered {
    pub(super) fn new(futures: Vec<Py<FutureBase>>, return_exceptions: bool) -> Self {
        let progress = GatherProgress {
            left: AtomicUsize::new(futures.len()),
            failed: OnceLock::new(),
        };
        Self {
            futures,
            return_exceptions,
            watched: AtomicBool::new(false),
            progress: Arc::new(progress),
        }
    }

    /// Calls `done` when the wait is over, on the thread that settles the last reply, or the first that failed; once
    /// for each of these two.
    pub(super) fn watch(&self, done: impl Fn() + Send + Sync + 'static) -> PyResult<()> {
        // ORDERING: Relaxed, the interpreter lock orders it: only the loop's thread reads and writes it.
        self.watched.store(true, Ordering::Relaxed);
        let done = Arc::new(done);
        for (index, future) in self.futures.iter().enumerate() {
            let (progress, done) = (self.progress.clone(), done.clone());
            let failure_ends = !self.return_exceptions;
            future.get().on_outcome(move |failed| {
                let ends = failed && failure_ends && progress.failed.set(index).is_ok();
                // ORDERING: AcqRel, so that the thread that counts to zero has seen every other reply.
                let last = progress.left.fetch_sub(1, Ordering::AcqRel) == 1;
                if ends || (last && progress.failed.get().is_none()) {
                    done();
                }
            })?;
        }
        Ok(())
    }

    pub(super) fn is_done(&self) -> PyResult<bool> {
        // ORDERING: Relaxed, see `watch`.
        if self.watched.load(Ordering::Relaxed) {
            // ORDERING: Acquire, with the count of the last reply.
            return Ok(self.progress.failed.get().is_some()
                || self.progress.left.load(Ordering::Acquire) == 0);
        }
        for future in &self.futures {
            if !future.get().done()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Gives all messages up.
    pub(super) fn cancel(&self) -> PyResult<()> {
        for future in &self.futures {
            future.get().cancel()?;
        }
        Ok(())
    }

    /// The results in the order of the futures, or the exception of the first that failed.
    pub(super) fn value(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if let Some(first) = self.progress.failed.get() {
            outcome::of(py, &self.futures[*first])?;
        }
        let results = PyList::empty(py);
        for future in &self.futures {
            match outcome::of(py, future) {
                Ok(result) => results.append(result)?,
                Err(error) if self.return_exceptions => results.append(error.into_value(py))?,
                Err(error) => return Err(error),
            }
        }
        Ok(results.into_any().unbind())
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.futures
            .iter()
            .try_for_each(|future| visit.call(future))
    }
}
