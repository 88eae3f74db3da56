//! How a pool fares.

use std::collections::BTreeMap;
use std::time::Duration;

use pytoweb_engine::{Health, HealthState, Whereabouts};

use super::WorkerPool;
use crate::reply::Reply;
use crate::worker;

impl WorkerPool {
    /// Where the message of an ask is, of the pool or of one of its workers, and why it waits: see
    /// [`Worker::explain`](crate::Worker::explain).
    ///
    /// ```
    /// # use pytoweb_workers::{Whereabouts, WorkerPool};
    /// let pool = WorkerPool::new(1);
    /// let worker = pool.create_worker("later")?;
    /// let reply = worker.ask::<u32, u32>("double", 1)?;
    /// assert!(matches!(pool.explain(&reply), Some(Whereabouts::Queued { ahead: 0, .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn explain<R: Send + 'static>(&self, reply: &Reply<R>) -> Option<Whereabouts> {
        let own = || worker::explain(self.own(), &reply.ticket());
        let workers = self.workers();
        own().or_else(|| workers.iter().find_map(|worker| worker.explain(reply)))
    }

    /// How it fares: the worst of its own mailbox and its workers, and each of them. Waits for no handler.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use pytoweb_workers::{HealthState, WorkerPool};
    /// let pool = WorkerPool::new(2);
    /// pool.create_worker("images")?.start()?;
    /// let health = pool.health();
    /// assert_eq!(health.state, HealthState::Ok);
    /// assert_eq!(health.workers["images"].reason, "nothing to do");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn health(&self) -> PoolHealth {
        let own = self.own().health();
        let workers: BTreeMap<_, _> = self
            .workers()
            .iter()
            .map(|worker| (worker.name().to_owned(), worker.health()))
            .collect();
        if own.state == HealthState::Stopped {
            return PoolHealth::of(own.clone(), own, workers);
        }
        let worst = workers
            .iter()
            .max_by_key(|(_, health)| (health.state, health.lasted));
        let worst = match worst {
            Some((name, health)) if health.state > own.state => {
                let mut worst = health.clone();
                worst.reason = format!("worker {name:?}: {}", worst.reason);
                worst
            }
            _ => own.clone(),
        };
        PoolHealth::of(worst, own, workers)
    }
}

/// How a pool fares: the worst of its own mailbox and its workers. A worker that was stopped, or not started, makes it no
/// worse; a pool that was shut down is stopped, whatever its workers are.
///
/// ```
/// # use pytoweb_workers::{HealthState, WorkerPool};
/// let pool = WorkerPool::new(1);
/// pool.shutdown();
/// assert_eq!(pool.health().state, HealthState::Stopped);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PoolHealth {
    /// In a word.
    pub state: HealthState,
    /// Why, in words.
    pub reason: String,
    /// For how long.
    pub lasted: Duration,
    /// The pool's own mailbox.
    pub own: Health,
    /// The workers by name.
    pub workers: BTreeMap<String, Health>,
}

impl PoolHealth {
    fn of(worst: Health, own: Health, workers: BTreeMap<String, Health>) -> Self {
        Self {
            state: worst.state,
            reason: worst.reason,
            lasted: worst.lasted,
            own,
            workers,
        }
    }
}
