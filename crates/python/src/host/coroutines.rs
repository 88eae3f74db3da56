//! Whether there are handlers that are coroutines: until there is one, no await is looked at for being in a handler.

use std::sync::atomic::{AtomicBool, Ordering};

/// Set once a handler was a coroutine: from then on an await may be one in a handler.
static COROUTINES: AtomicBool = AtomicBool::new(false);

/// Notes that there are handlers that are coroutines.
pub(crate) fn note() {
    // ORDERING: Relaxed, set before the coroutine's first step, which the interpreter lock orders.
    COROUTINES.store(true, Ordering::Relaxed);
}

/// Whether the calling code may be a coroutine of a handler.
pub(crate) fn may_be_in_one() -> bool {
    // ORDERING: Relaxed, see `note`.
    COROUTINES.load(Ordering::Relaxed)
}
