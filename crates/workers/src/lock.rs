//! The locks of this crate.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A lock that ignores poisoning: no user code runs under the locks of this crate.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
