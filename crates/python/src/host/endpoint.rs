//! Something that messages are posted to: a worker, or a pool's own mailbox.
//!
//! [`Endpoint`] is the native half of `PythonWorker` and `WorkerPool`: both Python classes inherit it. The methods that
//! Python calls stand in `endpoint_methods.rs`, above the futures that they return.

mod posting;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pytoweb_engine::{Pool, Worker, WorkerOptions, WorkerState};

use crate::error;
use crate::host::fleet::Processes;
use crate::host::handler::{PyHandler, Runner};
use crate::host::packing::{LastKind, Packing};
use crate::host::threads::Threads;
use crate::host::worker_shared::WorkerShared;
use crate::interpreter::attached::Attached;
use crate::interpreter::fork;
use crate::interpreter::generation::Generation;
use crate::pickle::definitions::Definitions;

/// An endpoint that is set up.
#[derive(Debug)]
pub(crate) struct Inner {
    worker: Option<Worker<PyHandler>>,
    pub(crate) shared: Arc<Attached<WorkerShared>>,
    /// For an endpoint whose handlers run in other processes.
    pub(crate) packing: Option<Packing>,
    pub(crate) generation: Generation,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !self.generation.is_here() {
            // Stopping it would take locks that no thread of this process can release.
            std::mem::forget(self.worker.take());
            std::mem::forget(self.packing.take());
        }
    }
}

impl Inner {
    /// The name of a state. While no process can be started, a worker that would run has failed.
    pub(crate) fn state_of(&self, state: WorkerState) -> &'static str {
        let runs = matches!(state, WorkerState::Running | WorkerState::Stuck);
        let packing = self.packing.as_ref().filter(|_| runs);
        match packing.and_then(|packing| packing.runner.failure()) {
            Some(_) => "failed",
            None => state.name(),
        }
    }

    /// What every use in a forked child raises.
    fn forked(&self) -> PyErr {
        // Reads what never changes: no lock.
        let kind = if self.shared.is_pool {
            "pool"
        } else {
            "worker"
        };
        error::forked(kind, &self.shared.name)
    }

    /// `shared`: a pool's own mailbox. `way`: the processes that run the handlers, with the lane and the attempts.
    pub(crate) fn make(
        own: Attached<WorkerShared>,
        options: WorkerOptions,
        shared: bool,
        pool: &Pool,
        way: Option<(&Processes, Option<usize>, u32)>,
    ) -> PyResult<Self> {
        let own = Arc::new(own);
        own.label.is_of::<WorkerShared>(&own);
        let packing = match way {
            None => None,
            Some((processes, lane, max_attempts)) => {
                let fleet = processes.fleet()?.clone();
                Some(Packing {
                    runner: Arc::new(Runner::new(&own.name, fleet, lane, pool)),
                    max_attempts,
                    // A pool has no start that would tell its children.
                    stale: AtomicBool::new(shared),
                    // A named worker is asked when it is started.
                    may_start: AtomicBool::new(!shared),
                    functions: Definitions::default(),
                    kind: LastKind::default(),
                    runtime: Python::attach(|py| own.runtime.clone_ref(py)),
                })
            }
        };
        let handler = PyHandler {
            shared: own.clone(),
            runner: packing.as_ref().map(|packing| packing.runner.clone()),
        };
        let worker = if shared {
            Worker::shared(&own.name, handler, options, pool)
        } else {
            Worker::new(&own.name, handler, options, pool)
        };
        // One that is made at the same time as the recording begins may be asked twice.
        if own.recording.is_on() {
            worker.address().time_all(true);
        }
        Ok(Self {
            worker: Some(worker),
            shared: own,
            packing,
            generation: Generation::now(),
        })
    }
}

/// The native half of ``PythonWorker`` and ``WorkerPool``: something that messages are posted to.
///
/// Until ``_pytoweb_set_up`` was called every method raises ``RuntimeError``; in a forked child each raises
/// ``ForkedProcessError``. Every method may be called from any thread.
// Under the name that a `TypeError` of a call should have; in `_core` it is `Endpoint`.
#[pyclass(module = "pytoweb._core", name = "PythonWorker", subclass, frozen)]
#[derive(Debug, Default)]
pub(crate) struct Endpoint {
    inner: OnceLock<Inner>,
    /// In a forked child: the same endpoint as it was made anew there.
    renewed: OnceLock<Box<Self>>,
}

impl Endpoint {
    /// Fills in what is made empty.
    pub(crate) fn fill(&self, inner: Inner) -> PyResult<()> {
        self.inner
            .set(inner)
            .map_err(|_| PyRuntimeError::new_err("the worker is set up already"))
    }

    /// In a forked child: makes it anew, empty and not started, on threads and processes of this process.
    pub(crate) fn renew(
        &self,
        py: Python<'_>,
        threads: &Threads,
        processes: Option<&Processes>,
    ) -> PyResult<()> {
        let mut last = self;
        while let Some(renewed) = last.renewed.get() {
            last = renewed;
        }
        let before = last.inner.get().ok_or_else(fork::not_set_up)?;
        let worker = before.worker.as_ref().ok_or_else(|| before.forked())?;
        let options = WorkerOptions {
            capacity: worker.capacity(),
            overflow: worker.overflow(),
            rate: worker.rate(),
            shed: worker.shed(),
            concurrency: worker.concurrency(),
            stuck_after: worker.stuck_after(),
            bytes: worker.byte_limit(),
        };
        let own = Attached::new(before.shared.again(py, threads));
        let way = processes
            .zip(before.packing.as_ref())
            .map(|(processes, packing)| (processes, packing.runner.lane(), packing.max_attempts));
        let inner = Inner::make(own, options, before.shared.is_pool, threads.pool()?, way)?;
        let renewed = Box::<Self>::default();
        // Just made, so it is not set.
        let _ = renewed.inner.set(inner);
        last.renewed
            .set(renewed)
            .map_err(|_| PyRuntimeError::new_err("the worker was made anew already"))
    }

    pub(crate) fn address(&self) -> PyResult<pytoweb_engine::Address> {
        Ok(self.inner()?.1.address())
    }

    /// Its parts.
    ///
    /// # Errors
    /// Where it is not set up, or belongs to the parent process.
    pub(crate) fn inner(&self) -> PyResult<(&Inner, &Worker<PyHandler>)> {
        let inner = self.inner.get().ok_or_else(fork::not_set_up)?;
        match &inner.worker {
            Some(worker) if inner.generation.is_here() => Ok((inner, worker)),
            _ => match self.renewed.get() {
                Some(renewed) => renewed.inner(),
                None => Err(inner.forked()),
            },
        }
    }

    /// The engine's side of it.
    pub(crate) fn worker(&self) -> PyResult<&Worker<PyHandler>> {
        Ok(self.inner()?.1)
    }

    /// Shows the collector the references that it may follow.
    pub(crate) fn traverse(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        let Some(inner) = self.inner.get() else {
            return Ok(());
        };
        // While it has work, the engine refers to it too: leaving the references out keeps it alive for the
        // collector. In a forked child its locks may not be touched.
        let idle = inner.generation.is_here() && inner.worker.as_ref().is_some_and(Worker::is_idle);
        if idle {
            visit.call(&inner.shared.handlers)?;
            visit.call(&inner.shared.pool_handlers)?;
            visit.call(&inner.shared.replies)?;
            inner.shared.surroundings.traverse(visit)?;
        }
        Ok(())
    }
}
