//! The threads that wait for a reply, and when they are woken.

use std::fmt;
use std::sync::Arc;

use crate::contained::drop_each;
use crate::message::Ticket;

/// Threads that wait for a reply which stands, and have yet to be woken.
///
/// Firing is put off until the waking thread has let go of what the woken one needs (an interpreter lock, say).
/// Dropping fires.
#[derive(Default)]
#[must_use = "dropping it wakes the threads now"]
pub struct Wake(Option<Arc<dyn Ticket>>);

impl fmt::Debug for Wake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Wake").field(&self.0.is_some()).finish()
    }
}

impl Wake {
    /// No thread to wake.
    pub const fn none() -> Self {
        Self(None)
    }

    /// The threads that wait for `ticket`.
    pub fn threads_of(ticket: Arc<dyn Ticket>) -> Self {
        Self(Some(ticket))
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        if let Some(ticket) = self.0.take() {
            ticket.state().wake_threads();
            // It may be the last reference to a reply that was not taken.
            drop_each([ticket]);
        }
    }
}
