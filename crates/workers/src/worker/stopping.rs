//! The end of a worker, and waiting until it is idle.

use std::time::Duration;

use pytoweb_engine::{Exit, StopMode, StopTimedOut};

use super::Worker;
use crate::error::IdleError;

/// How a worker stops.
///
/// ```
/// use std::time::Duration;
/// use pytoweb_workers::StopOptions;
///
/// let in_five_seconds = StopOptions { timeout: Some(Duration::from_secs(5)), ..StopOptions::default() };
/// assert!(in_five_seconds.drain);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopOptions {
    /// Whether what is queued is handled first, or fails with [`AskError::Stopped`](crate::AskError::Stopped). The
    /// message that runs is finished in any case.
    pub drain: bool,
    /// How long to wait for the end. `None`: as long as it takes.
    pub timeout: Option<Duration>,
}

impl Default for StopOptions {
    /// Drains, and waits as long as it takes.
    fn default() -> Self {
        Self {
            drain: true,
            timeout: None,
        }
    }
}

impl StopOptions {
    pub(crate) const fn mode(self) -> StopMode {
        if self.drain {
            StopMode::Drain
        } else {
            StopMode::FinishRunning
        }
    }
}

impl Worker {
    /// Refuses posts from now on, finishes what is queued, and waits for that; for good, and any number of times.
    ///
    /// From inside its own handler, or where the wait could never end, it only refuses posts, and the worker ends
    /// once the rest is done. A worker that was never started has no thread to finish the queued messages: they fail
    /// with [`AskError::Stopped`](crate::AskError::Stopped).
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// worker.start()?;
    /// let reply = worker.ask::<u64, u64>("inc", 1)?;
    /// worker.stop();
    /// assert_eq!(reply.wait()?, 2);
    /// assert!(worker.post_message("inc", 2_u64).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stop(&self) {
        // Without a timeout there is nothing to run out of.
        let _ = self.stop_with(StopOptions::default());
    }

    /// Stops as the options say. When the time is up, the rest of the queue fails with
    /// [`AskError::Stopped`](crate::AskError::Stopped), and a handler that still runs goes on to its end.
    ///
    /// # Errors
    /// [`StopTimedOut`] when the time was up first.
    ///
    /// ```
    /// use pytoweb_workers::{StopOptions, Worker};
    ///
    /// let worker = Worker::new("impatient");
    /// worker.stop_with(StopOptions { drain: false, timeout: None })?;
    /// assert!(!worker.is_alive());
    /// # Ok::<(), pytoweb_workers::StopTimedOut>(())
    /// ```
    pub fn stop_with(&self, options: StopOptions) -> Result<(), StopTimedOut> {
        let inside = pytoweb_engine::current().is_some();
        let stopped = self.engine().stop(options.mode(), options.timeout);
        if self.0.owns_pool {
            let pool = self.engine().pool();
            pool.shutdown();
            // A handler that still runs may take its time, and a handler that waits here may be what it waits for.
            if stopped.is_ok() && !inside {
                pool.join();
            }
        }
        stopped
    }

    /// Abandons: what is queued fails with [`AskError::Stopped`](crate::AskError::Stopped), the reply of the message
    /// that runs does too, and its handler sees [`CurrentMessage::is_cancelled`](crate::CurrentMessage::is_cancelled).
    /// Does not wait.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// let reply = worker.ask::<u64, u64>("inc", 1)?;
    /// worker.terminate();
    /// assert!(matches!(reply.wait(), Err(AskError::Stopped)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn terminate(&self) {
        self.engine().terminate();
        if self.0.owns_pool {
            self.engine().pool().shutdown();
        }
    }

    /// Calls `callback` once, when the worker has ended: after its last message and its end hooks, however it was stopped. Here
    /// and now if it has ended. It runs on the thread that ends it, with no lock held, and should be short; a panic of it is
    /// reported by the panic hook and goes no further.
    ///
    /// ```
    /// use pytoweb_workers::{Exit, Worker};
    ///
    /// let (tell, told) = std::sync::mpsc::channel();
    /// let worker = Worker::new("w");
    /// worker.on_exit(move |exit| tell.send(exit).expect("the test listens"));
    /// worker.start()?;
    /// worker.stop();
    /// assert_eq!(told.recv()?, Exit::Drained);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_exit(&self, callback: impl FnOnce(Exit) + Send + 'static) -> &Self {
        self.engine().on_exit(callback);
        self
    }

    /// Blocks until nothing is queued and nothing runs, at most for `limit`.
    ///
    /// # Errors
    /// [`IdleError`]: the time was up, or the caller is the worker's own handler.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
    /// # let worker = Worker::new("w");
    /// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// worker.start()?;
    /// worker.post_message("inc", 1_u64)?;
    /// worker.run_until_idle(Duration::from_secs(5))?;
    /// assert_eq!(worker.stats().counters.completed, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn run_until_idle(&self, limit: Duration) -> Result<(), IdleError> {
        if self.engine().wait_idle(Some(limit))? {
            Ok(())
        } else {
            Err(IdleError::TimedOut)
        }
    }
}
