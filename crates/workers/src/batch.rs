//! How many messages a handler gets at once.

use std::time::Duration;

/// Messages that a batch has at most: each of them takes a place of the mailbox, and is found by its place.
const MAX_SIZE: usize = 1 << 16;

/// How many messages of one kind a handler gets at once: for [`Worker::on_batch`](crate::Worker::on_batch).
///
/// ```
/// use std::time::Duration;
/// use pytoweb_workers::Batch;
///
/// let batch = Batch::new(64).max_wait(Duration::from_millis(10));
/// # let _ = batch;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a Batch is given to on_batch"]
pub struct Batch {
    size: usize,
    max_wait: Duration,
}

impl Batch {
    /// Up to `size` messages: those that are queued when the first of them has its turn.
    ///
    /// # Panics
    /// When `size` is not from 1 to 65 536.
    pub const fn new(size: usize) -> Self {
        assert!(
            0 < size && size <= MAX_SIZE,
            "a batch has from 1 to 65536 messages"
        );
        Self {
            size,
            max_wait: Duration::ZERO,
        }
    }

    /// How long the first message waits for others, from when it was posted, or from the end of its delay; not at all
    /// unless told otherwise. It goes earlier once there are enough, or when the worker stops.
    pub const fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = wait;
        self
    }

    /// Its size, and how long the first message waits.
    pub(crate) const fn numbers(self) -> (usize, Duration) {
        (self.size, self.max_wait)
    }
}
