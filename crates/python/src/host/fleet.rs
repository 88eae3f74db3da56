//! The child processes of a pool, or of one worker, as Python holds them.

use std::ffi::OsString;
use std::io;
use std::os::fd::{IntoRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::call::PyCallArgs;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use pytoweb_engine::Delivery;
use pytoweb_process::{Crash, END_LIMIT, Options, Overseer, Program, Setup, Transport};

use crate::arguments;
use crate::error;
use crate::host::failure;
use crate::host::handler::PyHandler;
use crate::host::message::PyMessage;
use crate::host::remote::Fleet;
use crate::host::task::Task;
use crate::host::waiting;
use crate::interpreter::ending::Presence;
use crate::interpreter::generation::Generation;
use crate::interpreter::memory;
use crate::pickle::pickling::{self, Way};

/// Process, number of its message, worker or pool, its name, type, id, attempt.
type Begun = (u32, u64, Py<PyAny>, String, String, Option<String>, u32);

/// The child processes of a pool.
#[pyclass(module = "pytoweb._core", frozen)]
#[derive(Debug)]
pub(crate) struct Processes {
    fleet: Option<Arc<Fleet>>,
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
    pub(crate) fn fleet(&self) -> PyResult<&Arc<Fleet>> {
        self.generation.check("pool", &self.name)?;
        self.fleet
            .as_ref()
            .ok_or_else(|| error::forked("pool", &self.name))
    }
}

/// What the children say, brought to the pool's `ProcessRuntime`.
struct RuntimeOverseer {
    /// A weak reference.
    runtime: Py<PyAny>,
}

impl RuntimeOverseer {
    fn setup_now(&self, py: Python<'_>, lane: usize) -> PyResult<Setup> {
        let runtime = self.runtime.bind(py).call0()?;
        if runtime.is_none() {
            return Err(PyRuntimeError::new_err(
                "the worker or pool was dropped before its process was started",
            ));
        }
        let made = runtime.call_method1(intern!(py, "child_setup"), (lane,))?;
        let (command, setup): (Vec<OsString>, Bound<'_, PyAny>) = made.extract()?;
        let payload = pickling::pack(py, Way::ToChild, &setup, || None)
            .map_err(|raised| error::unsendable(py, "the set-up of a child process", raised))?;
        let mut command = command.into_iter();
        Ok(Setup {
            program: Program {
                executable: command.next().unwrap_or_default(),
                arguments: command.collect(),
                // Under the interpreter lock, with which Python changes it.
                environment: std::env::vars_os().collect(),
            },
            payload,
        })
    }

    /// Calls a method of the runtime, if that is still there.
    fn tell<'py>(
        &self,
        py: Python<'py>,
        method: &Bound<'py, PyString>,
        args: impl PyCallArgs<'py>,
    ) {
        let called = self.runtime.call0(py).and_then(|runtime| {
            if !runtime.is_none(py) {
                runtime.bind(py).call_method1(method, args)?;
            }
            Ok(())
        });
        if let Err(error) = called {
            error.write_unraisable(py, None);
        }
    }
}

impl Overseer for RuntimeOverseer {
    fn presence(&self) -> Box<dyn Send> {
        Box::new(Presence::new())
    }

    fn rests(&self) {
        memory::tidy_if_large();
    }

    fn setup(&self, lane: usize) -> io::Result<Setup> {
        Python::attach(|py| {
            self.setup_now(py, lane).map_err(|error| {
                let text = error.value(py).to_string();
                io::Error::other(text)
            })
        })
    }

    fn asked(&self, lane: usize, key: Vec<u8>) {
        Python::attach(|py| {
            let key = PyBytes::new(py, &key);
            self.tell(py, intern!(py, "child_asked"), (lane, key));
        });
    }

    fn log(&self, bytes: Vec<u8>) {
        Python::attach(|py| {
            let bytes = PyBytes::new(py, &bytes);
            self.tell(py, intern!(py, "child_logged"), (bytes,));
        });
    }

    fn lane_failed(&self, lane: usize, crash: &Arc<Crash>, rest: Duration) {
        Python::attach(|py| {
            let reason = failure::crashed(py, crash, None, None, None).into_value(py);
            let args = (lane, reason, rest.as_secs_f64());
            self.tell(py, intern!(py, "lane_failed"), args);
        });
    }

    fn lane_recovered(&self, lane: usize) {
        Python::attach(|py| self.tell(py, intern!(py, "lane_recovered"), (lane,)));
    }

    fn killed_late(&self, lane: usize, pid: u32) {
        let seconds = END_LIMIT.as_secs_f64();
        Python::attach(|py| self.tell(py, intern!(py, "child_killed_late"), (lane, pid, seconds)));
    }
}

/// A grace beyond that is none: the deadline would be over for years.
const LONGEST_GRACE: Duration = Duration::from_secs(365 * 24 * 3600);

/// What is too long for a `Duration` is no limit.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

impl Processes {
    /// The process number of the child that has begun that message, if one has.
    pub(crate) fn runs(&self, task: &Arc<Task>) -> PyResult<Option<u32>> {
        let is_it = |delivery: &Delivery<PyHandler>| {
            let own = delivery.message().and_then(|message| message.task());
            own.is_some_and(|own| Arc::ptr_eq(own, task))
        };
        let note = |delivery: &Delivery<PyHandler>| {
            is_it(delivery) || delivery.companions().iter().any(is_it)
        };
        let begun = self.fleet()?.begun(&note);
        Ok(begun
            .into_iter()
            .find(|(_, messages)| messages.iter().any(|(_, found)| *found))
            .map(|(pid, _)| pid))
    }
}

#[pymethods]
impl Processes {
    #[new]
    #[expect(
        clippy::too_many_arguments,
        reason = "called from one place, by keyword"
    )]
    #[pyo3(signature = (*, name, size, transport, runtime, max_messages, max_memory, max_restarts, restart_window, grace, start_timeout))]
    fn new(
        name: String,
        size: usize,
        transport: &str,
        runtime: Py<PyAny>,
        max_messages: Option<u64>,
        max_memory: Option<u64>,
        max_restarts: Option<usize>,
        restart_window: f64,
        grace: f64,
        start_timeout: Option<f64>,
    ) -> Self {
        let overseer = RuntimeOverseer { runtime };
        let options = Options {
            name,
            size,
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
        Self {
            name: options.name.clone(),
            fleet: Some(Arc::new(Fleet::new(options, Box::new(overseer)))),
            generation: Generation::now(),
        }
    }

    /// A new descriptor of the host's end of a child's door; ``None`` where the child has ended.
    fn door(&self, place: usize) -> PyResult<Option<RawFd>> {
        Ok(self.fleet()?.door(place).map(IntoRawFd::into_raw_fd))
    }

    /// The process numbers of the children that exist, by place.
    fn pids(&self) -> PyResult<Vec<Option<u32>>> {
        Ok(self.fleet()?.pids())
    }

    /// The messages that children have begun: for each the process number of the child, the number of the message there, the
    /// worker or pool or None, its name, the message's type, its id, and the attempt.
    fn begun(&self, py: Python<'_>) -> PyResult<Vec<Begun>> {
        let note = |delivery: &Delivery<PyHandler>| {
            let request = delivery.message().and_then(PyMessage::request);
            Some((delivery.handler().shared.clone(), request?.clone()))
        };
        let mut begun = Vec::new();
        for (pid, messages) in self.fleet()?.begun(&note) {
            for (number, noted) in messages {
                let Some((shared, request)) = noted else {
                    continue;
                };
                begun.push((
                    pid,
                    number,
                    shared.owner.call0(py)?,
                    shared.name.clone(),
                    request.kind.to_string(),
                    request.id.as_deref().map(str::to_owned),
                    request.attempt(),
                ));
            }
        }
        Ok(begun)
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

    /// Has those killed that were told to end and have not yet. Does not wait.
    fn kill_ending(&self) -> PyResult<()> {
        self.fleet()?.kill_ending();
        Ok(())
    }

    /// Blocks until they have ended, after ``close``; false when ``timeout`` has passed.
    #[pyo3(signature = (timeout=None))]
    fn join(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let fleet = self.fleet()?;
        let limit = arguments::timeout(timeout)?;
        waiting::wait_in_slices(py, limit, |step| {
            Ok(fleet.join(Instant::now().checked_add(step)))
        })?
        .map_err(|error| error::wait(py, error))
    }
}
