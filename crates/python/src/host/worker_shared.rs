//! What a worker's Python side and its engine side share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::{self, NamedOwner};
use crate::host::around::Surroundings;
use crate::host::broken::InitializerFailure;
use crate::host::end_hooks::EndHooks;
use crate::host::ends::RecentEnds;
use crate::host::hearing::Hearing;
use crate::host::kinds::Kinds;
use crate::host::last_crash::LastCrash;
use crate::host::planning::ByType;
use crate::host::recording::Recording;
use crate::host::reply_room::ReplyRoom;
use crate::host::retrying::Policy;
use crate::host::sizes::Scale;
use crate::host::start_hook::StartHook;
use crate::host::tallies::Tallies;
use crate::host::threads::Threads;
use crate::interpreter::marks::Label;

/// What a worker's Python side and its engine side share.
#[derive(Debug)]
pub(crate) struct WorkerShared {
    pub(crate) name: String,
    /// By it the watchdog knows the worker.
    pub(crate) label: Label,
    /// It is a pool's own mailbox.
    pub(crate) is_pool: bool,
    /// Handlers by message type; under `None` the error handler.
    pub(crate) handlers: Py<PyDict>,
    /// The same of the pool that made the worker.
    pub(crate) pool_handlers: Option<Py<PyDict>>,
    /// The worker's `Replies`: the owner's side of its messages.
    pub(crate) replies: Py<PyAny>,
    /// The pool's `PoolRuntime`.
    pub(crate) runtime: Py<PyAny>,
    /// A weak reference to the `PythonWorker` or `WorkerPool`.
    pub(crate) owner: Py<PyAny>,
    /// Set once the pool's initializer has failed.
    pub(crate) broken: Arc<InitializerFailure>,
    /// Set once a pool is to close when the calls of its `map` are posted.
    pub(crate) closing: AtomicBool,
    pub(crate) start_hook: StartHook,
    pub(crate) end_hooks: EndHooks,
    /// A message was begun.
    pub(crate) began: AtomicBool,
    pub(crate) surroundings: Surroundings,
    /// For the replies of messages with an id.
    pub(crate) reply_room: ReplyRoom,
    /// A worker that handles several messages at the same time.
    pub(crate) runs_several: bool,
    /// It handles one message at a time: no pool, and no such worker.
    pub(crate) runs_one: bool,
    /// How its messages are weighed, where it is bounded by bytes.
    pub(crate) scale: Option<Scale>,
    /// What is asked of the mailbox for message types.
    pub(crate) kinds: Kinds,
    /// Whether messages of a type are tried again when they fail.
    pub(crate) retries: ByType<Policy>,
    pub(crate) tallies: Tallies,
    /// Messages that became dead letters.
    pub(crate) dead: AtomicU64,
    /// Messages that were never begun as the worker stopped, and of which no future and no reply tells.
    pub(crate) untold: AtomicU64,
    /// Events that came from a child.
    pub(crate) hearing: Hearing,
    pub(crate) last_crash: LastCrash,
    /// That of its threads.
    pub(crate) recording: Arc<Recording>,
    /// How messages with an id have ended.
    pub(crate) ends: RecentEnds,
}

impl WorkerShared {
    /// The same in a forked child, where none has begun, on the threads of that process.
    pub(crate) fn again(&self, py: Python<'_>, threads: &Threads) -> Self {
        Self {
            name: self.name.clone(),
            label: Label::new(&self.name),
            is_pool: self.is_pool,
            handlers: self.handlers.clone_ref(py),
            pool_handlers: self
                .pool_handlers
                .as_ref()
                .map(|of_pool| of_pool.clone_ref(py)),
            replies: self.replies.clone_ref(py),
            runtime: threads.runtime.clone_ref(py),
            owner: self.owner.clone_ref(py),
            broken: threads.broken.clone(),
            closing: AtomicBool::new(false),
            start_hook: self.start_hook.again(py),
            end_hooks: self.end_hooks.again(py),
            began: AtomicBool::new(false),
            surroundings: self.surroundings.again(py),
            reply_room: self.reply_room.again(),
            runs_several: self.runs_several,
            runs_one: self.runs_one,
            scale: self.scale.as_ref().map(|scale| scale.again(py)),
            kinds: self.kinds.again(),
            retries: self.retries.again(Arc::clone),
            tallies: Tallies::default(),
            dead: AtomicU64::new(0),
            untold: AtomicU64::new(0),
            hearing: Hearing::default(),
            last_crash: LastCrash::default(),
            recording: threads.recording.clone(),
            ends: RecentEnds::default(),
        }
    }

    pub(crate) fn named(&self) -> NamedOwner<'_> {
        NamedOwner {
            name: &self.name,
            is_pool: self.is_pool,
        }
    }

    /// Whether anything is laid down for messages, of a type or of all.
    #[inline]
    pub(crate) fn has_terms(&self) -> bool {
        self.kinds.are_there() || self.retries.are_there() || self.scale.is_some()
    }

    /// An error once posts are refused because the pool is about to close.
    pub(crate) fn check_open(&self) -> PyResult<()> {
        // ORDERING: Relaxed, see where it is set.
        if self.closing.load(Ordering::Relaxed) {
            return Err(error::pool_stopped(&self.name));
        }
        Ok(())
    }

    /// The handlers with the one that is told of errors: those of the pool, where the worker has none and the pool has.
    pub(crate) fn error_handlers<'py>(&self, py: Python<'py>) -> &Bound<'py, PyDict> {
        let own = self.handlers.bind(py);
        match &self.pool_handlers {
            Some(of_pool) if !tells_errors(own) && tells_errors(of_pool.bind(py)) => {
                of_pool.bind(py)
            }
            _ => own,
        }
    }

    pub(crate) fn has_error_handler(&self, py: Python<'_>) -> bool {
        tells_errors(self.error_handlers(py))
    }

    /// Lets go of the handlers. That of errors stays: messages that expired in the queue are told of on another thread, and
    /// a pool tells its own of its workers, which may end later.
    pub(crate) fn let_go(&self, py: Python<'_>) {
        let handlers = self.handlers.bind(py);
        let on_error = handlers.get_item(py.None()).ok().flatten();
        handlers.clear();
        if let Some(on_error) = on_error
            && let Err(error) = handlers.set_item(py.None(), on_error)
        {
            error.write_unraisable(py, None);
        }
    }

    /// Why the pool cannot run anything.
    pub(crate) fn broken_error(&self, py: Python<'_>) -> PyErr {
        let pool = self.runtime.bind(py);
        match pool.call_method0(intern!(py, "broken_error")) {
            Ok(error) => PyErr::from_value(error),
            Err(error) => error,
        }
    }
}

/// Whether there is an error handler among `handlers`.
fn tells_errors(handlers: &Bound<'_, PyDict>) -> bool {
    matches!(handlers.get_item(handlers.py().None()), Ok(Some(_)))
}
