//! Waits of a handler that the engine does not know.

use pytoweb_engine::{self as engine, WaitError};

/// Runs `wait`, which blocks this thread: a lock, a channel, a file, `block_on`. Inside a handler another thread of the
/// pool runs meanwhile; elsewhere it is a plain call.
///
/// [`Reply::wait`](crate::Reply::wait) and posts that wait for room do so by themselves. The worker takes no other message
/// meanwhile; of the pool's own mailbox another one may run. Within `wait` it does nothing to call this again.
///
/// A circle of workers that wait for each other in here is not found, and waits for ever.
///
/// # Errors
/// [`WaitError::NoThread`] when all threads of the pool wait, and the system refused another one;
/// [`WaitError::ThreadLimit`] when as many handlers wait as the pool may have threads beyond its size. `wait` did not run.
///
/// # Examples
/// ```
/// use std::sync::mpsc;
/// use pytoweb_workers::{WorkerPool, blocking};
///
/// let pool = WorkerPool::new(1);
/// let (sender, receiver) = mpsc::channel();
/// let received = pool.submit(move || blocking(|| receiver.recv())).map_err(|_| "shut down")?;
/// // On another thread of the pool of one, while the first one waits.
/// pool.submit(move || sender.send(42)).map_err(|_| "shut down")?;
/// assert_eq!(received.wait()??, Ok(42));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn blocking<R>(wait: impl FnOnce() -> R) -> Result<R, WaitError> {
    engine::lend(wait)
}
