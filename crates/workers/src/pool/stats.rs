//! The numbers of a pool.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use pytoweb_engine::{Busy, Counters, TimingStats, TypeStats, WorkerStats};

use super::WorkerPool;

impl WorkerPool {
    /// Its numbers, each worker's at one instant.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// pool.ask::<u64, u64>("inc", 1)?.wait()?;
    /// assert_eq!(pool.stats().own.counters.completed, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let own = self.0.own.stats();
        let workers: BTreeMap<_, _> = self
            .workers()
            .iter()
            .map(|worker| (worker.name().to_owned(), worker.stats()))
            .collect();
        let mut counters = own.counters;
        let mut busy = own.busy;
        let mut recently = own.recently;
        for worker in workers.values() {
            counters.add(&worker.counters);
            busy += worker.busy;
            recently.add(&worker.recently);
        }
        let ages = workers.values().chain([&own]).map(|stats| stats.oldest_age);
        PoolStats {
            name: self.name().to_owned(),
            size: self.size(),
            threads: self.0.threads.threads(),
            counters,
            oldest_age: ages.flatten().max(),
            busy,
            recently,
            timings: WorkerStats::merged_timings(workers.values().chain([&own])),
            own,
            workers,
        }
    }

    /// What became of the messages of each kind that were begun, in the pool's own mailbox and in its workers; see
    /// [`Worker::type_stats`](crate::Worker::type_stats).
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use pytoweb_workers::WorkerPool;
    /// # let pool = WorkerPool::new(2);
    /// pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// pool.ask::<u64, u64>("inc", 1)?.wait()?;
    /// pool.submit(|| 7)?.wait()?;
    /// let types = pool.type_stats();
    /// assert_eq!((types["inc"].completed, types["submit"].completed), (1, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn type_stats(&self) -> BTreeMap<String, TypeStats> {
        let mut all = self.table().type_stats();
        for worker in self.workers() {
            for (kind, stats) in worker.type_stats() {
                match all.entry(kind) {
                    Entry::Vacant(entry) => drop(entry.insert(stats)),
                    Entry::Occupied(mut entry) => entry.get_mut().add(&stats),
                }
            }
        }
        all
    }
}

/// A pool's numbers: each worker's, and their sum.
///
/// ```
/// # use std::convert::Infallible;
/// # use std::time::Duration;
/// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
/// # let pool = WorkerPool::new(2);
/// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
/// let stats = pool.stats();
/// assert_eq!(stats.own.counters.posted, 0);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PoolStats {
    /// The pool's name.
    pub name: String,
    /// Threads that run handlers at the same time.
    pub size: usize,
    /// Threads that exist now.
    pub threads: usize,
    /// The pool's own mailbox.
    pub own: WorkerStats,
    /// The workers by name.
    pub workers: BTreeMap<String, WorkerStats>,
    /// What became of all their messages.
    pub counters: Counters,
    /// How long the oldest of their messages has waited that is queued.
    pub oldest_age: Option<Duration>,
    /// Time that the threads spent on all of them.
    pub busy: Duration,
    /// The same in the seconds just gone.
    pub recently: Busy,
    /// How long messages waited and ran, in all of them.
    pub timings: TimingStats,
}
