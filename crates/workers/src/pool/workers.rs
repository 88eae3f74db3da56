//! The workers of a pool, by name.

use pytoweb_engine::{WorkerOptions, WorkerState};

use super::{WorkerPool, Workers};
use crate::error::CreateError;
use crate::lock::lock;
use crate::worker::Worker;

impl WorkerPool {
    /// Makes a worker of this pool, with the default options. Starts nothing.
    ///
    /// # Errors
    /// [`CreateError::NameTaken`] when there is a worker of this name that is not stopped.
    ///
    /// ```
    /// # use pytoweb_workers::{CreateError, WorkerPool};
    /// let pool = WorkerPool::new(1);
    /// let first = pool.create_worker("images")?;
    /// assert_eq!(pool.create_worker("images"), Err(CreateError::NameTaken("images".to_owned())));
    /// first.stop();
    /// pool.create_worker("images")?;
    /// # Ok::<(), CreateError>(())
    /// ```
    pub fn create_worker(&self, name: &str) -> Result<Worker, CreateError> {
        self.create_worker_with(name, WorkerOptions::default())
    }

    /// Makes a worker of this pool. Starts nothing.
    ///
    /// # Errors
    /// As [`WorkerPool::create_worker`].
    ///
    /// # Panics
    /// When the capacity or the concurrency is 0.
    ///
    /// ```
    /// # use pytoweb_workers::{Overflow, WorkerOptions, WorkerPool};
    /// let pool = WorkerPool::new(1);
    /// let options = WorkerOptions { capacity: 100, overflow: Overflow::DropOldest, ..WorkerOptions::default() };
    /// assert_eq!(pool.create_worker_with("latest", options)?.stats().capacity, 100);
    /// # Ok::<(), pytoweb_workers::CreateError>(())
    /// ```
    pub fn create_worker_with(
        &self,
        name: &str,
        options: WorkerOptions,
    ) -> Result<Worker, CreateError> {
        let mut workers = lock(&self.0.workers);
        if is_taken(&workers, name) {
            return Err(CreateError::NameTaken(name.to_owned()));
        }
        let (worker, old) = self.insert(&mut workers, name, options)?;
        drop(workers);
        drop(old);
        Ok(worker)
    }

    fn insert(
        &self,
        workers: &mut Workers,
        name: &str,
        options: WorkerOptions,
    ) -> Result<(Worker, Option<Worker>), CreateError> {
        if name.is_empty() {
            return Err(CreateError::EmptyName);
        }
        if workers.closed {
            return Err(CreateError::Stopped);
        }
        let worker = Worker::make(name, options, &self.0.threads, Some(self.table()));
        let old = workers.by_name.insert(name.to_owned(), worker.clone());
        Ok((worker, old))
    }

    /// The worker of this name, made and started if there is none that is not stopped.
    pub(crate) fn ensure_worker(&self, name: &str) -> Result<Worker, CreateError> {
        let mut workers = lock(&self.0.workers);
        if is_taken(&workers, name)
            && let Some(worker) = workers.by_name.get(name)
        {
            return Ok(worker.clone());
        }
        let (worker, old) = self.insert(&mut workers, name, WorkerOptions::default())?;
        drop(workers);
        drop(old);
        Ok(worker)
    }

    /// The worker of this name, stopped or not.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// let made = pool.create_worker("one")?;
    /// assert_eq!(pool.get_worker("one"), Some(made));
    /// assert_eq!(pool.get_worker("two"), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn get_worker(&self, name: &str) -> Option<Worker> {
        lock(&self.0.workers).by_name.get(name).cloned()
    }

    /// Forgets a worker and stops it, as [`Worker::stop`] does. Returns it, for its numbers; `None` if there is none
    /// of this name.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// pool.create_worker("one")?;
    /// assert!(pool.remove_worker("one").is_some());
    /// assert!(pool.get_worker("one").is_none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn remove_worker(&self, name: &str) -> Option<Worker> {
        let worker = lock(&self.0.workers).by_name.remove(name)?;
        worker.stop();
        Some(worker)
    }

    /// The pool's workers, in the order of their names.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// # use pytoweb_workers::{AskError, StopOptions, WorkerPool};
    /// # let pool = WorkerPool::new(2);
    /// # pool.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    /// pool.create_worker("one")?;
    /// assert_eq!(pool.workers().len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn workers(&self) -> Vec<Worker> {
        lock(&self.0.workers).by_name.values().cloned().collect()
    }
}

fn is_taken(workers: &Workers, name: &str) -> bool {
    workers
        .by_name
        .get(name)
        .is_some_and(|worker| worker.state() != WorkerState::Stopped)
}
