//! The workers of the program by number: a way to a worker that keeps it neither alive nor counted.
//!
//! A reply leads to its worker to cancel the message, and to look for circles, which few ever do. A reference would be
//! counted for each ask, on a line of memory that all senders share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use pytoweb_engine::{Address, WeakAddress};

/// Of the workers and pools that are alive; `None` before the first one.
static ADDRESSES: RwLock<Option<HashMap<u64, WeakAddress>>> = RwLock::new(None);
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Names a worker or a pool, and does not keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WorkerId(u64);

impl WorkerId {
    /// Where its messages are sent. `None`: it is gone. Then nothing is queued and nothing runs: each reply stands, or the
    /// thread that lets go of the worker is about to settle it.
    pub(crate) fn address(self) -> Option<Address> {
        let addresses = ADDRESSES.read().unwrap_or_else(PoisonError::into_inner);
        // It is the caller that lets go of it, without the lock: the last reference takes it in `RegistryEntry::drop`.
        addresses.as_ref()?.get(&self.0)?.upgrade()
    }
}

/// The place of a worker in the registry, for as long as there is a worker.
#[derive(Debug)]
pub(crate) struct RegistryEntry(u64);

impl RegistryEntry {
    /// A number that leads nowhere yet.
    pub(crate) fn new() -> Self {
        // ORDERING: Relaxed, only uniqueness matters.
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) const fn id(&self) -> WorkerId {
        WorkerId(self.0)
    }

    /// From now on the number leads to `address`.
    pub(crate) fn leads_to(&self, address: &Address) {
        let mut addresses = ADDRESSES.write().unwrap_or_else(PoisonError::into_inner);
        let addresses = addresses.get_or_insert_default();
        addresses.insert(self.0, address.downgrade());
    }
}

impl Drop for RegistryEntry {
    fn drop(&mut self) {
        let mut addresses = ADDRESSES.write().unwrap_or_else(PoisonError::into_inner);
        let Some(addresses) = addresses.as_mut() else {
            return;
        };
        addresses.remove(&self.0);
        // As large as there are workers, not as there once were.
        if addresses.capacity() > 64 && addresses.len() * 8 < addresses.capacity() {
            addresses.shrink_to(addresses.len() * 2);
        }
    }
}
