//! The registry: the pools that there are and their workers, for code that looks at all of them.
//!
//! Pools enter themselves, and workers enter their pool; both leave as they go. What is entered is weak: to be found keeps
//! nothing alive. Messages have nothing to do with it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

use crate::address::{Address, AnyCell};
use crate::sync::Mutex;

/// Entries below this number are not looked through for those that are gone.
const SWEEP_FROM: usize = 64;

/// Things by their number, weakly.
struct Entries<T: ?Sized> {
    by_number: BTreeMap<u64, Weak<T>>,
    sweep_at: usize,
}

impl<T: ?Sized> Entries<T> {
    fn enter(&mut self, number: u64, entry: Weak<T>) {
        if self.by_number.len() >= self.sweep_at.max(SWEEP_FROM) {
            self.by_number.retain(|_, entry| entry.strong_count() > 0);
            self.sweep_at = self.by_number.len() * 2;
        }
        self.by_number.insert(number, entry);
    }

    /// Those that are there, in the order of their numbers. The caller lets go of them without the lock: it may be the last
    /// to hold one, and their ends take it.
    fn all(&self) -> Vec<Arc<T>> {
        self.by_number.values().filter_map(Weak::upgrade).collect()
    }
}

impl<T: ?Sized> Default for Entries<T> {
    fn default() -> Self {
        Self {
            by_number: BTreeMap::new(),
            sweep_at: 0,
        }
    }
}

/// A pool, whatever its workers are.
pub(crate) trait AnyPool: Send + Sync {
    fn name(&self) -> &str;
    fn size(&self) -> usize;
    fn threads(&self) -> usize;
    fn members(&self) -> &Members;
}

/// The workers of a pool, its own mailbox included.
#[derive(Default)]
pub(crate) struct Members(Mutex<Entries<dyn AnyCell>>);

impl Members {
    pub(crate) fn enter(&self, number: u64, worker: Weak<dyn AnyCell>) {
        self.0.lock().enter(number, worker);
    }

    /// As it is dropped. Where the lock is taken the entry stays, and is swept later: in a forked process the thread that
    /// has the lock may not exist.
    pub(crate) fn leave(&self, number: u64) {
        let left = self
            .0
            .try_lock()
            .map(|mut all| all.by_number.remove(&number));
        drop(left);
    }

    pub(crate) fn all(&self) -> Vec<Address> {
        let workers = self.0.lock().all();
        workers.into_iter().map(Address).collect()
    }
}

#[derive(Default)]
struct Pools {
    entered: u64,
    entries: Entries<dyn AnyPool>,
}

/// The pools of a program. Clones share it.
#[derive(Clone, Default)]
pub struct Registry(Arc<Mutex<Pools>>);

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

impl Registry {
    /// That of the program. A process that is forked needs one of its own: a thread that it does not have may hold
    /// the lock of this one.
    #[cfg(not(pytoweb_loom))]
    #[must_use]
    pub fn of_program() -> Self {
        static REGISTRY: std::sync::OnceLock<Registry> = std::sync::OnceLock::new();
        REGISTRY.get_or_init(Self::default).clone()
    }

    /// Models end, and with them what is in them.
    #[cfg(pytoweb_loom)]
    #[must_use]
    pub fn of_program() -> Self {
        Self::default()
    }

    /// The pools that there are, in the order in which they were made. Those of workers that have one of their own are among
    /// them.
    #[must_use]
    pub fn pools(&self) -> Vec<PoolAddress> {
        let pools = self.0.lock().entries.all();
        pools.into_iter().map(PoolAddress).collect()
    }

    /// Enters a pool. Returns the number under which it leaves.
    pub(crate) fn enter(&self, pool: Weak<dyn AnyPool>) -> u64 {
        let mut pools = self.0.lock();
        pools.entered += 1;
        let number = pools.entered;
        pools.entries.enter(number, pool);
        number
    }

    /// As [`Members::leave`].
    pub(crate) fn leave(&self, number: u64) {
        let pools = self.0.try_lock();
        let left = pools.map(|mut pools| pools.entries.by_number.remove(&number));
        drop(left);
    }
}

/// A pool as [`Registry::pools`] finds it, to be looked at. It holds the pool: who keeps one keeps its threads.
#[derive(Clone)]
pub struct PoolAddress(Arc<dyn AnyPool>);

impl fmt::Debug for PoolAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PoolAddress").field(&self.name()).finish()
    }
}

impl PoolAddress {
    /// The pool's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// Threads that run handlers at the same time.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.size()
    }

    /// Threads that exist now.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.0.threads()
    }

    /// Its workers and its own mailbox, in the order in which they were made.
    #[must_use]
    pub fn workers(&self) -> Vec<Address> {
        self.0.members().all()
    }
}
