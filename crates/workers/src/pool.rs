//! The handle of a pool.

pub(crate) mod builder;
mod handlers;
pub(crate) mod health;
mod letters;
mod messages;
pub(crate) mod stats;
mod stopping;
mod streams;
mod workers;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use pytoweb_engine::Pool as EnginePool;

use crate::clock::Clocked;
use crate::send::Engine;
use crate::table::Table;
use crate::worker::Worker;

struct Workers {
    by_name: BTreeMap<String, Worker>,
    closed: bool,
}

struct PoolInner {
    threads: EnginePool,
    /// The pool's own mailbox.
    own: Engine,
    workers: Mutex<Workers>,
}

impl Clocked for PoolInner {
    fn threads(&self) -> &EnginePool {
        &self.threads
    }
}

/// A fixed number of threads that run any number of named workers, and messages and closures of their own.
///
/// Each worker handles its messages one at a time, in order, on whichever thread is free. Messages posted to the pool
/// itself run on as many threads at once as it has, so their handlers are `Fn + Sync`; it is open from the start.
///
/// The handle is cheap to clone. When the last clone goes, the pool lets go of its workers and finishes what is
/// queued, without waiting; a program that must see the end calls [`WorkerPool::shutdown`].
///
/// ```
/// use std::convert::Infallible;
/// use pytoweb_workers::WorkerPool;
///
/// let pool = WorkerPool::new(4);
/// let worker = pool.create_worker("background-tasks")?;
/// worker.on_message("process", |n: u64| Ok::<_, Infallible>(n + 1));
/// worker.start()?;
/// assert_eq!(worker.ask::<u64, u64>("process", 1)?.wait()?, 2);
///
/// pool.on_message("square", |n: u64| Ok::<_, Infallible>(n * n));
/// assert_eq!(pool.ask::<u64, u64>("square", 9)?.wait()?, 81);
/// pool.shutdown();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct WorkerPool(Arc<PoolInner>);

impl fmt::Debug for WorkerPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerPool")
            .field("name", &self.name())
            .field("size", &self.size())
            .finish_non_exhaustive()
    }
}

impl PartialEq for WorkerPool {
    /// Whether both are handles of one pool.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for WorkerPool {}

impl WorkerPool {
    /// The pool's name, which its threads carry.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// assert_eq!(WorkerPool::builder().name("images").build().name(), "images");
    /// ```
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.threads.name()
    }

    /// Threads that run handlers at the same time.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// assert_eq!(WorkerPool::builder().size(3).build().size(), 3);
    /// ```
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.threads.size()
    }

    fn own(&self) -> &Engine {
        &self.0.own
    }

    fn table(&self) -> &Arc<Table> {
        &self.own().handler().table
    }
}
