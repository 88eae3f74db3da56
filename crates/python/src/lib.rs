//! The native module `pytoweb._core`: the engine's workers for Python callables.
//!
//! Thin on purpose. Code that can be Python is Python (`python/pytoweb`): decorators, asyncio, reply handlers,
//! statistics classes. The code here is on the path of every message, or talks to the engine.

mod arguments;
mod child;
mod current;
mod error;
mod host;
mod interpreter;
mod pickle;

use pyo3::prelude::*;

/// The engine of `pytoweb.workers`.
#[pymodule(gil_used = true)]
mod _core {
    use pyo3::exceptions::PyImportError;
    use pyo3::prelude::*;
    use pyo3::types::PyTuple;
    use pytoweb_engine::TimeBuckets;

    use crate::interpreter::context;

    #[pymodule_export]
    use crate::arguments::checked_timeout;
    #[pymodule_export]
    use crate::child::streams::ChildStreamWriter;
    #[pymodule_export]
    use crate::child::{ChildEnd, ChildPending, child_arrive, running_in_child};
    #[pymodule_export]
    use crate::current::{report_progress, running_message, running_owner, running_stream};
    #[pymodule_export]
    use crate::error::{load_errors, write_unraisable};
    #[pymodule_export]
    use crate::host::call_timer::CallTimer;
    #[pymodule_export]
    use crate::host::clocks::HandClock;
    use crate::host::endpoint::Endpoint;
    use crate::host::endpoint_methods::numbers;
    #[pymodule_export]
    use crate::host::endpoint_methods::numbers::merged_numbers;
    #[pymodule_export]
    use crate::host::fleet::Processes;
    #[pymodule_export]
    use crate::host::future::FutureBase;
    #[pymodule_export]
    use crate::host::future::awaiting::gathered;
    #[pymodule_export]
    use crate::host::handler::pending::Pending;
    #[pymodule_export]
    use crate::host::hearing::RemoteData;
    #[pymodule_export]
    use crate::host::parked::{Parked, Repeated};
    #[pymodule_export]
    use crate::host::planning::check_wishes;
    #[pymodule_export]
    use crate::host::program::{program_health, program_numbers};
    #[pymodule_export]
    use crate::host::reporting::ProgressMeter;
    #[pymodule_export]
    use crate::host::running::running_on_threads;
    #[pymodule_export]
    use crate::host::stream::reader::StreamReader;
    #[pymodule_export]
    use crate::host::stream::writer::StreamWriter;
    #[pymodule_export]
    use crate::host::threads::Threads;
    #[pymodule_export]
    use crate::host::waits::{HeldWaits, note_wait_of, note_waits};
    #[pymodule_export]
    use crate::host::watcher::watch_failures;
    #[pymodule_export]
    use crate::host::worker_message::WorkerMessage;
    #[pymodule_export]
    use crate::interpreter::blocking::Blocking;
    #[pymodule_export]
    use crate::interpreter::context::interrupt_thread;
    #[pymodule_export]
    use crate::interpreter::ending::wait_for_threads;
    #[pymodule_export]
    use crate::interpreter::loops::{LoopLabel, Select};
    #[pymodule_export]
    use crate::interpreter::marks::turn_of_loop;
    #[pymodule_export]
    use crate::pickle::pickling::{Reducers, Sink, is_packing, is_unpacking, load};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        // CPython refuses sub-interpreters with a lock of their own, from 3.12 on. Any other would share with the main
        // one what this module keeps for one.
        if !context::is_main_interpreter(module.py()) {
            return Err(PyImportError::new_err(
                "module pytoweb._core does not support loading in subinterpreters",
            ));
        }
        crate::interpreter::fork::watch();
        // What the process needs before the first message.
        crate::interpreter::memory::tidy_if_large();
        module.add("METRICS", PyTuple::new(module.py(), numbers::metrics())?)?;
        let bounds = TimeBuckets::BOUNDS.map(|bound| bound.as_secs_f64());
        module.add("TIME_BOUNDS", PyTuple::new(module.py(), bounds)?)?;
        module.add("Endpoint", module.py().get_type::<Endpoint>())
    }

    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    #[pymodule_export]
    const MOST_AHEAD: u32 = crate::host::flags::MOST_AHEAD;
    #[pymodule_export]
    const KEPT_ENDS: usize = crate::host::ends::KEPT_ENDS;
    #[pymodule_export]
    const MOST_EVENTS: usize = crate::host::hearing::MOST_EVENTS;
    #[pymodule_export]
    const DEFAULT_CAPACITY: usize = pytoweb_engine::DEFAULT_CAPACITY;
}
