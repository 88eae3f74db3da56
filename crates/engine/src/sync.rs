//! The one door to atomics, cells, locks and condition variables.
//!
//! Under `--cfg pytoweb_loom` the same names come from loom, so the very code that ships is what the models in
//! `models.rs` explore. `Arc` is std's in both: loom's cannot hold a trait object, and none of the protocols
//! here hangs on a reference count.
//!
//! No user code ever runs while an engine lock is held (handlers, reply callbacks and destructors of messages run
//! outside), so a lock cannot be poisoned; should it be all the same, the data is still consistent and is used on.

use std::sync::TryLockError;
use std::time::Duration;

#[cfg(not(pytoweb_loom))]
use std::sync as imp;

#[cfg(pytoweb_loom)]
use loom::sync as imp;

pub(crate) use imp::MutexGuard;
pub(crate) use imp::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};

/// A lock that ignores poisoning (see the module documentation).
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(imp::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(imp::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        match self.0.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    /// The same where it is free.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

/// A condition variable for [`Mutex`].
#[derive(Debug, Default)]
pub(crate) struct Condvar(imp::Condvar);

impl Condvar {
    pub(crate) fn new() -> Self {
        Self(imp::Condvar::new())
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }

    /// Waits for a notification, or for `limit` if one is given. Wakes spuriously; says whether time ran out.
    pub(crate) fn wait<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        limit: Option<Duration>,
    ) -> (MutexGuard<'a, T>, bool) {
        match limit {
            None => match self.0.wait(guard) {
                Ok(guard) => (guard, false),
                Err(poisoned) => (poisoned.into_inner(), false),
            },
            Some(limit) => match self.0.wait_timeout(guard, limit) {
                Ok((guard, result)) => (guard, result.timed_out()),
                Err(poisoned) => {
                    let (guard, result) = poisoned.into_inner();
                    (guard, result.timed_out())
                }
            },
        }
    }
}

/// A cell whose accesses loom checks for races.
#[derive(Debug)]
pub(crate) struct UnsafeCell<T>(
    #[cfg(not(pytoweb_loom))] std::cell::UnsafeCell<T>,
    #[cfg(pytoweb_loom)] loom::cell::UnsafeCell<T>,
);

impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        #[cfg(not(pytoweb_loom))]
        return Self(std::cell::UnsafeCell::new(value));
        #[cfg(pytoweb_loom)]
        return Self(loom::cell::UnsafeCell::new(value));
    }

    /// Runs `f` with a pointer that may be read through while no thread writes.
    pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        #[cfg(not(pytoweb_loom))]
        return f(self.0.get());
        #[cfg(pytoweb_loom)]
        return self.0.with(f);
    }

    /// Runs `f` with a pointer that may be written through while no other thread reads or writes.
    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        #[cfg(not(pytoweb_loom))]
        return f(self.0.get());
        #[cfg(pytoweb_loom)]
        return self.0.with_mut(f);
    }
}

/// How often a thread lets others run before it goes to sleep.
///
/// A wake-up from sleep costs microseconds on both sides, a yield a few hundred nanoseconds on one, and on a single
/// core a yield is what lets the other side make the reply. Sixteen outlast a short handler; a spin of the same length
/// would take the core from the thread that could end the wait. Models have no use for it.
pub(crate) const YIELDS: usize = if cfg!(pytoweb_loom) { 0 } else { 16 };

/// Looks for something up to [`YIELDS`] times, and lets others run in between.
pub(crate) fn look_while_yielding<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    for _ in 0..YIELDS {
        if let Some(found) = look() {
            return Some(found);
        }
        std::thread::yield_now();
    }
    None
}
