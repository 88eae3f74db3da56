//! The process-wide pool, and what `#[run_in_worker]` expands to.

use std::sync::Mutex;

use pytoweb_engine as engine;

use crate::error::{AskError, CreateError, SendError, StartError};
use crate::lock::lock;
use crate::pool::WorkerPool;
use crate::reply::Reply;
use crate::send;
use crate::worker::Worker;

static DEFAULT: Mutex<Option<WorkerPool>> = Mutex::new(None);

/// The pool of the whole process, with a thread per processor. Made on first use, and made anew after it was shut
/// down.
///
/// The end of `main` does not wait for it: call [`WorkerPool::shutdown`] to finish what is queued.
///
/// ```
/// use pytoweb_workers::default_pool;
///
/// let worker = default_pool().create_worker("anywhere")?;
/// assert_eq!(default_pool().get_worker("anywhere"), Some(worker));
/// # Ok::<(), pytoweb_workers::CreateError>(())
/// ```
#[must_use]
pub fn default_pool() -> WorkerPool {
    let mut default = lock(&DEFAULT);
    match &*default {
        Some(pool) if !pool.is_shut_down() => pool.clone(),
        _ => {
            let pool = WorkerPool::builder().build();
            let old = default.replace(pool.clone());
            drop(default);
            drop(old);
            pool
        }
    }
}

/// The worker of this name in the default pool, started. Waits for one that is stopping.
///
/// # Panics
/// When the pool has no thread and the system refuses one, or when the one that is stopping waits for the caller.
#[track_caller]
fn started(name: &str) -> Worker {
    loop {
        // Between the calls another thread may stop the worker, or shut the pool down: then there will be another one.
        let worker = match default_pool().ensure_worker(name) {
            Ok(worker) => worker,
            Err(CreateError::Stopped) => continue,
            Err(error) => panic!("worker `{name}`: {error}"),
        };
        match worker.start() {
            Ok(()) => return worker,
            Err(StartError::Stopped) => {
                if let Err(error) = worker.engine().wait_ended(None) {
                    panic!("worker `{name}` is stopping: {error}");
                }
            }
            Err(error @ StartError::NoThread(_)) => panic!("worker `{name}`: {error}"),
        }
    }
}

/// Sends a call to the named worker of the default pool.
#[track_caller]
pub fn submit_call<R: Send + 'static>(
    worker: &'static str,
    function: &'static str,
    mut call: impl FnOnce() -> R + Send + 'static,
) -> Reply<R> {
    loop {
        match send::submit(started(worker).engine(), function, call) {
            Ok(reply) => return reply,
            // Stopped since: the next one is new.
            Err(SendError::Stopped(back)) => call = back,
            Err(error) => panic!("`{function}` in worker `{worker}`: {error}"),
        }
    }
}

/// Runs a call in the named worker of the default pool and waits for it; at once where the caller is that worker.
#[track_caller]
pub fn run_call<R: Send + 'static>(
    worker: &'static str,
    function: &'static str,
    call: impl FnOnce() -> R + Send + 'static,
) -> R {
    let inside = || {
        let known = default_pool().get_worker(worker);
        known.is_some_and(|worker| worker.engine().is_current())
    };
    if engine::current().is_some() && inside() {
        return call();
    }
    match submit_call(worker, function, call).wait() {
        Ok(value) => value,
        Err(AskError::Panicked(text)) => {
            panic!("`{function}` panicked in worker `{worker}`: {text}")
        }
        Err(error) => panic!("`{function}` in worker `{worker}`: {error}"),
    }
}
