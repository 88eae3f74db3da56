//! Which process a handle belongs to.
//!
//! After `os.fork()` the child has the parent's handles but none of its threads, and a lock that another thread held
//! stays locked for ever. So every handle remembers the generation it was made in, and looks at that before it
//! touches anything.

use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::prelude::*;

static GENERATION: AtomicU32 = AtomicU32::new(0);

/// A process generation: one more in every forked child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation(u32);

impl Generation {
    pub(crate) fn now() -> Self {
        // ORDERING: Relaxed, written before the child's only thread does anything else.
        Self(GENERATION.load(Ordering::Relaxed))
    }

    pub(crate) fn is_here(self) -> bool {
        self == Self::now()
    }

    pub(crate) fn check(self) -> PyResult<()> {
        if self.is_here() {
            Ok(())
        } else {
            Err(crate::error::forked())
        }
    }
}

/// Called in a forked child: every handle made before belongs to the parent.
#[pyfunction]
pub(crate) fn after_fork_in_child() {
    // ORDERING: Relaxed, see `Generation::now`.
    GENERATION.fetch_add(1, Ordering::Relaxed);
}
