//! Which process a handle belongs to.
//!
//! After `os.fork()` the child has the parent's handles but none of its threads, and a lock that another thread held
//! stays locked for ever. So every handle remembers the generation it was made in, and looks at that before it
//! touches anything.

use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::prelude::*;

use crate::error;

static GENERATION: AtomicU32 = AtomicU32::new(0);

/// In a forked child: every handle made before belongs to the parent.
pub(super) fn begin() {
    // ORDERING: Relaxed, see `Generation::now`.
    GENERATION.fetch_add(1, Ordering::Relaxed);
}

/// A process generation: one more in every forked child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation(u32);

impl Generation {
    /// The number of no generation.
    pub(crate) const NONE: u32 = u32::MAX;

    pub(crate) const fn number(self) -> u32 {
        self.0
    }

    pub(crate) fn now() -> Self {
        // ORDERING: Relaxed, written before the child's only thread does anything else.
        Self(GENERATION.load(Ordering::Relaxed))
    }

    pub(crate) fn is_here(self) -> bool {
        self == Self::now()
    }

    /// `ForkedProcessError` in any other process than its own. `kind` and `name` say of what.
    pub(crate) fn check(self, kind: &str, name: &str) -> PyResult<()> {
        if self.is_here() {
            Ok(())
        } else {
            Err(error::forked(kind, name))
        }
    }
}
