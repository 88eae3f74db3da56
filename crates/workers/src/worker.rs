//! The handle of a worker.

pub(crate) mod builder;
mod handlers;
mod letters;
mod messages;
pub(crate) mod stopping;
mod streams;
pub(crate) mod weak;

use std::collections::BTreeMap;
use std::fmt;
use std::ptr;
use std::sync::{Arc, Weak};

use pytoweb_engine::{
    Health, Message, Pool as EnginePool, ReplyState, Ticket, TypeStats, Whereabouts, WorkerOptions,
    WorkerState, WorkerStats,
};

use crate::clock::Clocked;
use crate::dispatch::Dispatch;
use crate::error::StartError;
use crate::reply::Reply;
use crate::send::Engine;
use crate::table::{Owner, Table};

pub(crate) struct WorkerInner {
    pub(crate) engine: Engine,
    /// The pool is this worker's alone, and ends with it.
    owns_pool: bool,
}

impl Clocked for WorkerInner {
    fn threads(&self) -> &EnginePool {
        self.engine.pool()
    }
}

/// A named background worker: a bounded mailbox, and handlers that take its messages one at a time, in the order of
/// posting.
///
/// The handle is cheap to clone. When the last clone goes, the worker finishes what is queued and ends; that does not
/// wait, so a program that must see the end calls [`Worker::stop`]. A worker of a [`WorkerPool`](crate::WorkerPool)
/// is held by its pool too.
///
/// ```
/// use pytoweb_workers::Worker;
///
/// let worker = Worker::new("background-tasks");
/// worker.on_message("process", |text: String| {
///     if text.is_empty() { Err("there is nothing to process") } else { Ok(text.len()) }
/// });
/// worker.start()?;
///
/// worker.post_message("process", "fire and forget".to_owned())?;
/// let length: usize = worker.ask("process", "some data".to_owned())?.wait()?;
/// assert_eq!(length, 9);
/// worker.stop();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Worker(Arc<WorkerInner>);

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("name", &self.name())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl PartialEq for Worker {
    /// Whether both are handles of one worker.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Worker {}

impl Worker {
    pub(crate) fn make(
        name: &str,
        options: WorkerOptions,
        pool: &EnginePool,
        table: Option<&Arc<Table>>,
    ) -> Self {
        let owns_pool = table.is_none();
        let of_pool = table.map_or_else(Weak::new, Arc::downgrade);
        Self(Arc::new_cyclic(|owner: &Weak<WorkerInner>| {
            let owner: Owner = owner.clone();
            let dispatch = Dispatch::new(Table::new(name, Some(owner), of_pool));
            let engine = Engine::new(name, dispatch, options, pool);
            engine.handler().entry.leads_to(&engine.address());
            WorkerInner { engine, owns_pool }
        }))
    }

    fn of_owner(owner: &Owner) -> Option<Self> {
        owner.upgrade()?.downcast().ok().map(Self)
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.0.engine
    }

    fn table(&self) -> &Table {
        &self.engine().handler().table
    }

    /// Lets the worker run. Messages posted before are handled first. Does nothing if it runs.
    ///
    /// # Errors
    /// [`StartError`]; a worker that could not get a thread may be started again.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// worker.post_message("inc", 1_u64)?;
    /// worker.start()?;
    /// worker.start()?;
    /// assert!(worker.is_alive());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn start(&self) -> Result<(), StartError> {
        if self.engine().start()? {
            Ok(())
        } else {
            Err(StartError::Stopped)
        }
    }

    /// The worker's name.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// assert_eq!(worker.name(), "w");
    /// ```
    #[must_use]
    pub fn name(&self) -> &str {
        self.engine().name()
    }

    /// What it is doing.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// assert_eq!(worker.state(), WorkerState::New);
    /// worker.start()?;
    /// assert_eq!(worker.state(), WorkerState::Running);
    /// worker.stop();
    /// assert_eq!(worker.state(), WorkerState::Stopped);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn state(&self) -> WorkerState {
        self.engine().state()
    }

    /// Whether it was started and has not ended.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// assert!(!worker.is_alive());
    /// worker.start()?;
    /// assert!(worker.is_alive());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !matches!(self.state(), WorkerState::New | WorkerState::Stopped)
    }

    /// Its numbers at one instant. Every message is in exactly one counter:
    /// `posted == completed + failed + dropped() + cancelled + expired + queued + running`.
    ///
    /// ```
    /// # use pytoweb_workers::Worker;
    /// let worker = Worker::new("not started yet");
    /// worker.post_message("job", ())?;
    /// let counters = worker.stats().counters;
    /// assert_eq!((counters.posted, counters.queued), (1, 1));
    /// # Ok::<(), pytoweb_workers::SendError<()>>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> WorkerStats {
        self.engine().stats()
    }

    /// How it fares, in one word, with the reason, and for how long. Waits for no handler.
    ///
    /// ```
    /// # use pytoweb_workers::{HealthState, Worker};
    /// let worker = Worker::new("w");
    /// assert_eq!(worker.health().reason, "not started");
    /// worker.start()?;
    /// assert_eq!(worker.health().state, HealthState::Ok);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn health(&self) -> Health {
        self.engine().health()
    }

    /// Where the message of an ask is, and why it waits: goes through all messages that wait, with the mailbox locked, so it is
    /// for people who ask. `None`: it is not here, and its reply stands if it was.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use pytoweb_workers::{Waits, Whereabouts, Worker};
    ///
    /// let worker = Worker::new("w");
    /// let first = worker.ask::<u32, u32>("double", 1)?;
    /// let second = worker.ask::<u32, u32>("double", 2)?;
    /// let Some(Whereabouts::Queued { ahead, why, .. }) = worker.explain(&second) else {
    ///     panic!("the worker is not started");
    /// };
    /// assert_eq!((ahead, why), (1, Waits::Start));
    /// # drop(first);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn explain<R: Send + 'static>(&self, reply: &Reply<R>) -> Option<Whereabouts> {
        explain(self.engine(), &reply.ticket())
    }

    /// What became of the messages of each kind that were begun, and how long they waited and ran. Closures and messages of
    /// unknown kinds are under their names, up to 64 of them, and the others under `(others)`.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use pytoweb_workers::Worker;
    /// # let worker = Worker::new("w");
    /// worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// worker.start()?;
    /// worker.ask::<u64, u64>("inc", 1)?.wait()?;
    /// let inc = &worker.type_stats()["inc"];
    /// assert_eq!((inc.completed, inc.failed), (1, 0));
    /// assert!(inc.timings.run_p99.is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn type_stats(&self) -> BTreeMap<String, TypeStats> {
        self.table().type_stats()
    }
}

/// Where the message of `ticket` is among those of `worker`.
pub(crate) fn explain(worker: &Engine, ticket: &Arc<dyn Ticket>) -> Option<Whereabouts> {
    let is_it = |state: &ReplyState| ptr::eq(state, ticket.state());
    worker.whereabouts(
        &|message| message.state().is_some_and(is_it),
        &|taken| is_it(taken.state()),
        &|_, _| false,
    )
}
