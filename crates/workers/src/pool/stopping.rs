//! The end of a pool and of its workers, and waiting until they are idle.

use std::time::{Duration, Instant};

use pytoweb_engine::{self as engine, StopTimedOut};

use super::WorkerPool;
use crate::error::IdleError;
use crate::lock::lock;
use crate::send::Engine;
use crate::worker::Worker;
use crate::worker::stopping::StopOptions;

impl WorkerPool {
    /// Stops every worker of the pool, which stays open itself. All refuse posts before the first is waited for.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// let one = pool.create_worker("one")?;
    /// one.start()?;
    /// pool.stop_all();
    /// assert!(!one.is_alive());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stop_all(&self) {
        // Without a timeout there is nothing to run out of.
        let _ = self.stop_all_with(StopOptions::default());
    }

    /// Stops every worker of the pool as the options say; the timeout is for all of them together.
    ///
    /// # Errors
    /// [`StopTimedOut`] with the messages that failed in all of them, when the time was up first.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// let one = pool.create_worker("one")?;
    /// one.start()?;
    /// pool.stop_all_with(StopOptions::default())?;
    /// assert!(!one.is_alive());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stop_all_with(&self, options: StopOptions) -> Result<(), StopTimedOut> {
        let workers = self.workers();
        for worker in &workers {
            worker.engine().close(options.mode());
        }
        stop_each(workers.iter().map(Worker::engine), options)
    }

    /// Stops the workers and the pool itself: refuses work, finishes what is queued, and waits for the threads. From
    /// inside a handler of the pool it does not wait for those.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// let reply = pool.ask::<u64, u64>("inc", 1)?;
    /// pool.shutdown();
    /// assert_eq!(reply.wait()?, 2);
    /// assert!(pool.post_message("inc", 2_u64).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shutdown(&self) {
        // Without a timeout there is nothing to run out of.
        let _ = self.shutdown_with(StopOptions::default());
    }

    /// Shuts down as the options say.
    ///
    /// # Errors
    /// [`StopTimedOut`] when the time was up first: the rest of the queues has failed, and handlers still run.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// pool.shutdown_with(StopOptions::default())?;
    /// assert!(pool.is_shut_down());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn shutdown_with(&self, options: StopOptions) -> Result<(), StopTimedOut> {
        let inside = engine::current().is_some();
        lock(&self.0.workers).closed = true;
        let workers = self.workers();
        for worker in workers.iter().map(Worker::engine).chain([&self.0.own]) {
            worker.close(options.mode());
        }
        let stopped = stop_each(
            workers.iter().map(Worker::engine).chain([&self.0.own]),
            options,
        );
        self.0.threads.shutdown();
        if stopped.is_ok() && !inside {
            self.0.threads.join();
        }
        stopped
    }

    /// Whether [`WorkerPool::shutdown`] was called.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// assert!(!pool.is_shut_down());
    /// pool.shutdown();
    /// assert!(pool.is_shut_down());
    /// ```
    #[must_use]
    pub fn is_shut_down(&self) -> bool {
        lock(&self.0.workers).closed
    }

    /// Blocks until nothing is queued and nothing runs, in the pool itself and in all its workers, at most for
    /// `limit`. A worker that was not started and has messages is not idle.
    ///
    /// # Errors
    /// [`IdleError`]: the time was up, or the caller is a handler of one of the workers.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// pool.post_message("inc", 1_u64)?;
    /// pool.run_until_idle(Duration::from_secs(5))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn run_until_idle(&self, limit: Duration) -> Result<(), IdleError> {
        let until = Instant::now().checked_add(limit);
        loop {
            let workers = self.workers();
            let before = self.posted(&workers);
            for worker in workers.iter().map(Worker::engine).chain([&self.0.own]) {
                let left = until.map(|until| until.saturating_duration_since(Instant::now()));
                if !worker.wait_idle(left)? {
                    return Err(IdleError::TimedOut);
                }
            }
            // One that was idle may have been given work by the next.
            if self.posted(&self.workers()) == before {
                return Ok(());
            }
        }
    }

    fn posted(&self, workers: &[Worker]) -> u64 {
        let engines = workers.iter().map(Worker::engine);
        let all = [&self.0.own].into_iter().chain(engines);
        all.map(|engine| engine.address().numbers().counters.posted)
            .sum()
    }
}

fn stop_each<'a>(
    workers: impl Iterator<Item = &'a Engine>,
    options: StopOptions,
) -> Result<(), StopTimedOut> {
    let until = options
        .timeout
        .and_then(|timeout| Instant::now().checked_add(timeout));
    let mut late = None;
    for worker in workers {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        if let Err(StopTimedOut { failed }) = worker.stop(options.mode(), left) {
            *late.get_or_insert(0) += failed;
        }
    }
    late.map_or(Ok(()), |failed| Err(StopTimedOut { failed }))
}
