//! A post that waits in line for a place in a full mailbox, for a coroutine or for `map`.

use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use pytoweb_engine::{ParkedPost, PostError, WaitError};

use crate::arguments;
use crate::error;
use crate::host::endpoint::Endpoint;
use crate::host::future::new_future;
use crate::host::handler::PyHandler;
use crate::host::task::Task;
use crate::host::waiting::{self, PostResult};
use crate::host::worker_shared::WorkerShared;
use crate::interpreter::attached::Attached;
use crate::interpreter::generation::Generation;

/// A post in line; given up when it is dropped.
#[pyclass(module = "pytoweb._core", frozen)]
#[derive(Debug)]
pub(crate) struct Parked {
    /// Locked for a moment alone: a thread that waits for it may hold the interpreter lock, and a wait may need that to
    /// start another thread in its place.
    post: Mutex<Option<Arc<ParkedPost<PyHandler>>>>,
    endpoint: Py<Endpoint>,
    shared: Arc<Attached<WorkerShared>>,
    /// Of an ask: its future's.
    task: Option<Arc<Task>>,
    /// It has a place for its reply, which is given back where it does not go in.
    is_answered: bool,
    generation: Generation,
}

impl Parked {
    /// Has `told()` called once `post` is in or refused.
    pub(crate) fn new(
        post: ParkedPost<PyHandler>,
        endpoint: Py<Endpoint>,
        shared: Arc<Attached<WorkerShared>>,
        task: Option<Arc<Task>>,
        is_answered: bool,
        told: Py<PyAny>,
    ) -> Self {
        post.on_settled(move || {
            // Where the interpreter has ended, no sender waits.
            let _ = Python::try_attach(|py| {
                if let Err(error) = told.call0(py) {
                    error.write_unraisable(py, None);
                }
            });
        });
        Self {
            post: Mutex::new(Some(Arc::new(post))),
            endpoint,
            shared,
            task,
            is_answered,
            generation: Generation::now(),
        }
    }

    fn take(&self) -> Option<Arc<ParkedPost<PyHandler>>> {
        self.post
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// The post, unless its wait is over.
    fn in_line(&self) -> Option<Arc<ParkedPost<PyHandler>>> {
        let post = self.post.lock().unwrap_or_else(PoisonError::into_inner);
        post.clone()
    }

    fn give_back_place(&self, py: Python<'_>) {
        if self.is_answered {
            self.shared.reply_room.give_back(py, 1);
        }
    }
}

#[pymethods]
impl Parked {
    /// Ends the wait: the future of an ask that is in, or ``None`` for a post.
    ///
    /// Raises:
    ///     MailboxFullError: It was still in line, and is withdrawn; ``why`` says why it did not wait longer.
    ///     WorkerStoppedError: The worker was stopped.
    fn outcome<'py>(&self, py: Python<'py>, why: &str) -> PyResult<Bound<'py, PyAny>> {
        let endpoint = self.endpoint.bind(py).get();
        let worker = endpoint.worker()?;
        let outcome = self.take().map_or(Ok(()), |post| post.finish());
        if let Err(refused) = outcome {
            self.give_back_place(py);
            return Err(match refused {
                PostError::Full(_) => {
                    worker.give_up(1);
                    waiting::full(worker, why)
                }
                other => waiting::refused(worker, other),
            });
        }
        match &self.task {
            Some(task) => new_future(py, endpoint, task.clone()),
            None => Ok(py.None().into_bound(py)),
        }
    }

    /// Takes it out of the line, uncounted. False: it is in, or was refused.
    fn withdraw(&self, py: Python<'_>) -> bool {
        let withdrawn = match self.take().map(|post| post.finish()) {
            Some(Err(PostError::Full(_))) => true,
            Some(Err(_)) => {
                self.give_back_place(py);
                false
            }
            Some(Ok(())) | None => false,
        };
        if withdrawn {
            self.give_back_place(py);
        }
        withdrawn
    }

    /// Blocks until it is in or refused: true; false when ``timeout`` has passed.
    ///
    /// Raises:
    ///     MailboxFullError: Waiting would deadlock.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let limit = arguments::timeout(timeout)?;
        let worker = self.endpoint.bind(py).get().worker()?;
        let waited = waiting::wait_in_slices(py, limit, |step| {
            let post = self.in_line();
            post.map_or(Ok(true), |post| post.wait(Some(step)))
        })?;
        waited.map_err(|error| match error {
            WaitError::Cycle(_) => waiting::refused(worker, PostError::WouldDeadlock(())),
            error => error::wait(py, error),
        })
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        let Some(post) = self.take() else {
            return;
        };
        if !self.generation.is_here() {
            // Taking it out of the line would need a lock that no thread of this process can release.
            std::mem::forget(post);
            return;
        }
        if post.finish().is_err() {
            let _ = Python::try_attach(|py| self.give_back_place(py));
        }
    }
}

/// A message of `every`: posted, or in line for as long as this exists.
///
/// It refers to no object of Python's but those of the message: a timer of the worker itself holds it.
#[pyclass(module = "pytoweb._core", frozen)]
#[derive(Debug)]
pub(crate) struct Repeated {
    task: Arc<Task>,
    /// Its place in the line before a full mailbox.
    post: Mutex<Option<ParkedPost<PyHandler>>>,
    generation: Generation,
}

impl Repeated {
    pub(crate) fn new(task: Arc<Task>, posted: PostResult) -> Self {
        let post = match posted {
            PostResult::In => None,
            PostResult::Line(post) => Some(post),
        };
        Self {
            task,
            post: Mutex::new(post),
            generation: Generation::now(),
        }
    }
}

#[pymethods]
impl Repeated {
    /// Whether it is neither in line nor queued nor run any more.
    fn is_over(&self) -> bool {
        self.task.slot.state().is_over()
    }
}

impl Drop for Repeated {
    fn drop(&mut self) {
        let post = self.post.get_mut().unwrap_or_else(PoisonError::into_inner);
        if !self.generation.is_here() {
            // As in `Parked`.
            std::mem::forget(post.take());
        }
    }
}
