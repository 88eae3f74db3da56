//! A value whose methods handle messages.

use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{BoxError, StartError};
use crate::worker::Worker;

/// A value whose methods handle the messages of a worker; implemented by [`#[worker]`](macro@crate::worker).
///
/// ```
/// # use std::convert::Infallible;
/// # use std::time::Duration;
/// # use pytoweb_workers::{AskError, Overflow, StopOptions, Worker, WorkerState};
/// # let worker = Worker::new("w");
/// # worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
/// use pytoweb_workers::Service;
/// struct Counter(u64);
///
/// #[pytoweb_workers::worker]
/// impl Counter {
///     #[worker_method("add")]
///     fn add(&mut self, number: u64) -> u64 {
///         self.0 += number;
///         self.0
///     }
/// }
///
/// let worker = Counter(40).spawn("counter")?;
/// assert_eq!(worker.ask::<u64, u64>("add", 2)?.wait()?, 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Service: Sized + Send + 'static {
    /// Moves the value into `worker`: registers a handler for every method marked `#[worker_method]`, all over this
    /// one value.
    ///
    /// # Panics
    /// When `worker` handles several messages at the same time: the value has one lock.
    fn register(self, worker: &Worker);

    /// Makes a worker with a thread of its own around the value, and starts it.
    ///
    /// # Errors
    /// [`StartError::NoThread`] when the system refuses a thread.
    ///
    /// # Panics
    /// When `name` is empty.
    fn spawn(self, name: &str) -> Result<Worker, StartError> {
        let worker = Worker::new(name);
        self.register(&worker);
        worker.start()?;
        Ok(worker)
    }
}

/// What the handlers of one [`Service`] share. The lock is never contended: a worker runs one message at a time.
#[derive(Debug)]
pub struct SharedService<S>(Arc<Mutex<S>>);

impl<S: Send + 'static> SharedService<S> {
    /// Takes the value in.
    pub fn new(service: S) -> Self {
        Self(Arc::new(Mutex::new(service)))
    }

    /// Registers one method as the handler of a kind.
    pub fn method<T, R, E>(
        &self,
        worker: &Worker,
        kind: &str,
        mut method: impl FnMut(&mut S, T) -> Result<R, E> + Send + 'static,
    ) where
        T: Send + 'static,
        R: Send + 'static,
        E: Into<BoxError>,
    {
        let service = self.0.clone();
        worker.on_message(kind, move |data| {
            // A method that panicked fails its message; the value stays in use, as the worker does.
            let mut service = service.lock().unwrap_or_else(PoisonError::into_inner);
            method(&mut service, data)
        });
    }
}
