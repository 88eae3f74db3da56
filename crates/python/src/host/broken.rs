//! A pool whose initializer has failed: it cannot run anything.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Whether the initializer of a pool has failed, and when.
#[derive(Debug, Default)]
pub(crate) struct InitializerFailure(OnceLock<Instant>);

impl InitializerFailure {
    pub(crate) fn set(&self) {
        let _ = self.0.get_or_init(Instant::now);
    }

    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        self.0.get().is_some()
    }

    /// For how long it is by now.
    pub(crate) fn lasted(&self) -> Option<Duration> {
        self.0.get().map(Instant::elapsed)
    }
}
