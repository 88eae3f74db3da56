//! A gate: one thread waits at it until another opens it.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::LONG;

/// Closed at first; once open, it stays open. Clones are the same gate.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// A closed gate.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets all threads pass, those that come later too.
    pub fn open(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    /// Blocks until it is open.
    ///
    /// # Panics
    /// When that takes longer than [`LONG`].
    pub fn pass(&self) {
        assert!(self.opens_within(LONG), "the gate stayed closed");
    }

    /// Blocks until it is open, at most for `limit`. Says whether it is.
    #[must_use]
    pub fn opens_within(&self, limit: Duration) -> bool {
        let open = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (open, _) = self
            .0
            .1
            .wait_timeout_while(open, limit, |open| !*open)
            .unwrap_or_else(PoisonError::into_inner);
        *open
    }

    /// Whether it is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
