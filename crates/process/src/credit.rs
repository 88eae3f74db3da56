//! What a child may send of a stream: the other half of the window that the host's
//! [`StreamChannel`](pytoweb_engine::StreamChannel) has.
//!
//! The child begins with credit for a window of items. Each item that it sends costs one, and the host gives them back as
//! its reader reads, half a window at a time. So the items on their way and those that wait for the reader are a window
//! at most, and a reader that has read all of them finds the child with credit.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pytoweb_engine::StreamWake;

#[cfg(all(test, not(pytoweb_loom)))]
mod tests;

struct Sending<W> {
    /// Items that may be sent.
    left: u32,
    /// No more items are wanted.
    closed: bool,
    /// Of the handler that waits.
    wake: Option<W>,
}

/// The credit of one stream.
pub struct Credit<W>(Mutex<Sending<W>>);

impl<W> fmt::Debug for Credit<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credit").finish_non_exhaustive()
    }
}

impl<W: StreamWake> Credit<W> {
    /// For `window` items.
    #[must_use]
    pub fn new(window: u32) -> Self {
        Self(Mutex::new(Sending {
            left: window,
            closed: false,
            wake: None,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Sending<W>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the right to send one item; `None`: no more items are wanted. Where there is none now, `wake` makes what is
    /// woken when it is time to look again.
    pub fn take(&self, wake: impl FnOnce() -> Option<W>) -> Option<bool> {
        let (may, _before) = {
            let mut sending = self.lock();
            if sending.closed {
                return None;
            }
            let may = sending.left > 0;
            sending.left -= u32::from(may);
            let wake = if may { None } else { wake() };
            (may, std::mem::replace(&mut sending.wake, wake))
        };
        Some(may)
    }

    /// So many items more may be sent.
    pub fn grant(&self, items: u32) {
        self.change(|sending| sending.left = sending.left.saturating_add(items));
    }

    /// No more items are wanted.
    pub fn close(&self) {
        self.change(|sending| sending.closed = true);
    }

    /// Whether no more items are wanted.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    fn change(&self, change: impl FnOnce(&mut Sending<W>)) {
        let wake = {
            let mut sending = self.lock();
            change(&mut sending);
            sending.wake.take()
        };
        if let Some(wake) = wake {
            wake.wake();
        }
    }
}
