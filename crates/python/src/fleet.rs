//! The child processes of a pool, or of one worker, as Python holds them.

use std::sync::Arc;
use std::time::Duration;

use pyo3::call::PyCallArgs;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use pytoweb_process::{Crash, Fleet, Options, Overseer, Payload, Program, Transport};

use crate::error;
use crate::fork::Generation;
use crate::pickling::{self, Way};
use crate::remote::{Load, flags};

/// The child processes of a pool.
#[pyclass(module = "pytoweb._core", frozen)]
#[derive(Debug)]
pub(crate) struct Processes {
    fleet: Option<Arc<Fleet<Load>>>,
    name: String,
    generation: Generation,
}

impl Drop for Processes {
    fn drop(&mut self) {
        if !self.generation.is_here() {
            // The children are the parent's.
            std::mem::forget(self.fleet.take());
        }
    }
}

impl Processes {
    pub(crate) fn fleet(&self) -> PyResult<&Arc<Fleet<Load>>> {
        self.generation.check("pool", &self.name)?;
        self.fleet
            .as_ref()
            .ok_or_else(|| error::forked("pool", &self.name))
    }
}

/// What the children say, brought to the pool's `ProcessRuntime`.
struct Told {
    /// A weak reference.
    runtime: Py<PyAny>,
    setup: Arc<Payload>,
}

impl Told {
    /// Calls a method of the runtime, if that is still there.
    fn tell<'py>(
        &self,
        py: Python<'py>,
        method: &Bound<'py, PyString>,
        args: impl PyCallArgs<'py>,
    ) {
        let told = self.runtime.call0(py).and_then(|runtime| {
            if !runtime.is_none(py) {
                runtime.bind(py).call_method1(method, args)?;
            }
            Ok(())
        });
        if let Err(error) = told {
            error.write_unraisable(py, None);
        }
    }
}

impl Overseer<Load> for Told {
    fn setup(&self) -> Load {
        Load::Control {
            worker: 0,
            flags: flags::SETUP,
            payload: self.setup.clone(),
        }
    }

    fn log(&self, bytes: Vec<u8>) {
        Python::attach(|py| {
            let bytes = PyBytes::new(py, &bytes);
            self.tell(py, intern!(py, "child_logged"), (bytes,));
        });
    }

    fn lane_failed(&self, lane: usize, crash: &Arc<Crash>, rest: Duration) {
        Python::attach(|py| {
            let reason = error::crashed(py, crash, None, "", None).into_value(py);
            let args = (lane, reason, rest.as_secs_f64());
            self.tell(py, intern!(py, "lane_failed"), args);
        });
    }

    fn lane_recovered(&self, lane: usize) {
        Python::attach(|py| self.tell(py, intern!(py, "lane_recovered"), (lane,)));
    }
}

/// A grace beyond that is none: the deadline would be over for years.
const LONGEST_GRACE: Duration = Duration::from_secs(365 * 24 * 3600);

/// What is too long for a `Duration` is no limit.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[pymethods]
impl Processes {
    #[new]
    #[expect(
        clippy::too_many_arguments,
        reason = "called from one place, by keyword"
    )]
    #[pyo3(signature = (*, name, size, executable, arguments, transport, runtime, setup, max_messages, max_memory, max_restarts, restart_window, grace, start_timeout))]
    fn new(
        py: Python<'_>,
        name: String,
        size: usize,
        executable: String,
        arguments: Vec<String>,
        transport: &str,
        runtime: Py<PyAny>,
        setup: &Bound<'_, PyAny>,
        max_messages: Option<u64>,
        max_memory: Option<u64>,
        max_restarts: Option<usize>,
        restart_window: f64,
        grace: f64,
        start_timeout: Option<f64>,
    ) -> PyResult<Self> {
        let setup = pickling::pack(py, Way::ToChild, setup, || None)
            .map_err(|raised| error::unsendable(py, "the set-up of the child processes", raised))?;
        let told = Told {
            runtime,
            setup: Arc::new(setup),
        };
        let options = Options {
            name,
            size,
            program: Program {
                executable: executable.into(),
                arguments: arguments.into_iter().map(Into::into).collect(),
            },
            transport: if transport == "socket" {
                Transport::Socket
            } else {
                Transport::SharedMemory
            },
            max_messages,
            max_memory,
            max_restarts,
            restart_window: seconds(restart_window),
            grace: seconds(grace).min(LONGEST_GRACE),
            start_limit: start_timeout.map(seconds),
        };
        Ok(Self {
            name: options.name.clone(),
            fleet: Some(Arc::new(Fleet::new(options, Box::new(told)))),
            generation: Generation::now(),
        })
    }

    /// The process numbers of the children that exist, by place.
    fn pids(&self) -> PyResult<Vec<Option<u32>>> {
        Ok(self.fleet()?.pids())
    }

    /// Whether a child was ever wanted.
    fn has_started(&self) -> PyResult<bool> {
        Ok(self.fleet()?.has_started())
    }

    /// Tells the children to end; those that do not are killed. Does not wait.
    fn close(&self) -> PyResult<()> {
        self.fleet()?.close();
        Ok(())
    }

    /// Blocks until they have ended, after ``close``.
    fn join(&self, py: Python<'_>) -> PyResult<()> {
        let fleet = self.fleet()?;
        py.detach(|| fleet.join());
        Ok(())
    }
}
