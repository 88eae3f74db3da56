//! What surrounds a pool's threads in a Python process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use pyo3::exceptions::PySystemExit;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyCFunction;
use pytoweb_engine::Host;

use crate::host::broken::InitializerFailure;
use crate::interpreter::attached::Attached;
use crate::interpreter::context;
use crate::interpreter::ending::Presence;
use crate::interpreter::{marks, memory, watchdog};

/// Bytes of stack for a thread where `threading.stack_size()` names none: what the main thread has on Linux, and with
/// it any `threading.Thread`. The interpreter's limits on recursion are made for it: on less, a deep `json.dumps` is a
/// segmentation fault instead of a `RecursionError`. It is address space; memory is taken only for what a handler uses.
const DEFAULT_STACK_BYTES: usize = 8 << 20;

/// One wait for the interpreter lock in so many is timed, and stands for all of them.
const TIMED_WAITS: u64 = 8;

/// Keeps one Python thread state for the life of a pool thread, lets go of the interpreter lock around waits, and
/// runs the pool's initializer.
///
/// Attaching anew for each wake-up would create and free a thread state each time, which costs more than a message.
#[derive(Debug)]
pub(crate) struct PyHost {
    /// The pool's `PoolRuntime`.
    pub(crate) runtime: Attached<Py<PyAny>>,
    /// Set once the initializer has failed.
    pub(crate) broken: Arc<InitializerFailure>,
    /// How long threads with work have waited for the interpreter lock, in nanoseconds.
    pub(crate) waited_nanos: Arc<AtomicU64>,
    /// Waits for work.
    pub(crate) waits: AtomicU64,
}

impl PyHost {
    /// From the start of a thread to its end, inside what Python knows of it.
    fn live(&self, py: Python<'_>, body: Box<dyn FnOnce() + Send>) {
        marks::serve();
        watchdog::ensure(py);
        let runtime = self.runtime.bind(py);
        let started = runtime.call_method0(intern!(py, "thread_started"));
        match started.and_then(|works| works.extract::<bool>()) {
            Ok(true) => {}
            Ok(false) => self.broken.set(),
            Err(error) => {
                error.write_unraisable(py, Some(runtime));
                self.broken.set();
            }
        }
        body();
        context::leave_empty(py);
        let end = || runtime.call_method0(intern!(py, "thread_ended"));
        // An exception that interrupts handlers at a broken-off exit may come too late for them.
        let late = |error: &PyErr| error.is_instance_of::<PySystemExit>(py);
        if let Err(error) = end().or_else(|error| if late(&error) { end() } else { Err(error) }) {
            error.write_unraisable(py, Some(runtime));
        }
    }
}

impl Host for PyHost {
    fn thread(self: Arc<Self>, body: Box<dyn FnOnce() + Send>) {
        Python::attach(|py| {
            let own = std::thread::current();
            let body = Arc::new(Mutex::new(Some(body)));
            let taken = body.clone();
            let take = move || taken.lock().unwrap_or_else(PoisonError::into_inner).take();
            let host = Self {
                runtime: Attached::new(self.runtime.clone_ref(py)),
                broken: self.broken.clone(),
                waited_nanos: self.waited_nanos.clone(),
                waits: AtomicU64::new(0),
            };
            let life = PyCFunction::new_closure(py, None, None, move |args, _| {
                if let Some(body) = take() {
                    host.live(args.py(), body);
                }
            });
            let runtime = self.runtime.bind(py);
            let lived = life.and_then(|life| {
                let name = own.name().unwrap_or_default();
                runtime.call_method1(intern!(py, "run_thread"), (name, life))
            });
            if let Err(error) = lived {
                error.write_unraisable(py, Some(runtime));
            }
            // Python refused to know of the thread, for want of memory: the pool counts on it all the same.
            let left = body.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(body) = left {
                self.live(py, body);
            }
            // Attached, because it may be the last reference to the runtime.
            drop(self);
        });
    }

    fn blocking(&self, wait: &mut (dyn FnMut() + Send)) {
        // ORDERING: Relaxed, only the sums matter.
        let timed = !cfg!(pytoweb_without_numbers)
            && self
                .waits
                .fetch_add(1, Ordering::Relaxed)
                .is_multiple_of(TIMED_WAITS);
        let mut woken = None;
        Python::attach(|py| {
            py.detach(|| {
                marks::rests();
                wait();
                marks::wakes();
                woken = timed.then(Instant::now);
            });
        });
        if let Some(woken) = woken {
            let nanos = u64::try_from(woken.elapsed().as_nanos()).unwrap_or(u64::MAX);
            let nanos = nanos.saturating_mul(TIMED_WAITS);
            // ORDERING: Relaxed, as above.
            self.waited_nanos.fetch_add(nanos, Ordering::Relaxed);
        }
    }

    fn rests(&self) {
        memory::tidy_if_large();
    }

    fn presence(&self) -> Box<dyn Send> {
        Box::new(Presence::new())
    }

    fn stack_bytes(&self) -> Option<usize> {
        Some(Python::attach(context::stack_bytes).unwrap_or(DEFAULT_STACK_BYTES))
    }
}
