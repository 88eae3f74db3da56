//! The native module `pytoweb._core`: the engine's workers for Python callables.
//!
//! Thin on purpose. What can be Python is Python (`python/pytoweb`): decorators, asyncio, reply handlers, statistics
//! classes. What is here is on the path of every message, or talks to the engine.

mod arguments;
mod around;
mod attached;
mod awaiting;
mod blocking;
mod buffers;
mod child;
mod context;
mod definitions;
mod doorbell;
mod end_hooks;
mod ending;
mod endpoint;
mod error;
mod fleet;
mod fork;
mod functions;
mod future;
mod gathering;
mod handler;
mod hook;
mod host;
mod memory;
mod message;
mod note;
mod packing;
mod parked;
mod parker;
mod pickling;
mod remote;
mod reply_room;
mod running;
mod simple;
mod start_hook;
mod task;
mod threads;
mod unread;
mod waiting;

use pyo3::prelude::*;

/// The engine of `pytoweb.workers`.
#[pymodule(gil_used = true)]
mod _core {
    use pyo3::exceptions::PyImportError;
    use pyo3::prelude::*;

    use crate::context;

    #[pymodule_export]
    use crate::arguments::checked_timeout;
    #[pymodule_export]
    use crate::awaiting::gathered;
    #[pymodule_export]
    use crate::blocking::Blocking;
    #[pymodule_export]
    use crate::child::{ChildEnd, ChildPending, child_arrive};
    #[pymodule_export]
    use crate::context::interrupt_thread;
    #[pymodule_export]
    use crate::ending::wait_for_threads;
    use crate::endpoint::Endpoint;
    #[pymodule_export]
    use crate::endpoint::merged_timings;
    #[pymodule_export]
    use crate::error::{load_errors, write_unraisable};
    #[pymodule_export]
    use crate::fleet::Processes;
    #[pymodule_export]
    use crate::future::FutureBase;
    #[pymodule_export]
    use crate::handler::Pending;
    #[pymodule_export]
    use crate::message::{WorkerMessage, running_message, running_owner};
    #[pymodule_export]
    use crate::parked::Parked;
    #[pymodule_export]
    use crate::pickling::{Reducers, Sink, is_packing, is_unpacking, load};
    #[pymodule_export]
    use crate::threads::Threads;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        // CPython refuses sub-interpreters with a lock of their own, from 3.12 on. Any other would share with the main
        // one what this module keeps for one.
        if !context::is_main_interpreter(module.py()) {
            return Err(PyImportError::new_err(
                "module pytoweb._core does not support loading in subinterpreters",
            ));
        }
        crate::fork::watch();
        // What the process needs before the first message.
        crate::memory::tidy_if_large();
        module.add("Endpoint", module.py().get_type::<Endpoint>())
    }

    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    #[pymodule_export]
    const DEFAULT_CAPACITY: usize = pytoweb_engine::DEFAULT_CAPACITY;
}
