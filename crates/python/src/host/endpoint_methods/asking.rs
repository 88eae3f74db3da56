//! Messages whose sender gets a future, or a place in the line before a full mailbox.

use std::sync::Arc;
use std::time::Duration;

use pyo3::prelude::*;
use pytoweb_engine::{Overflow, ParkedPost, PostError, Worker};

use crate::host::endpoint::Endpoint;
use crate::host::future::new_future;
use crate::host::handler::PyHandler;
use crate::host::message::PyMessage;
use crate::host::parked::Parked;
use crate::host::task::Task;
use crate::host::waiting::{self, PostResult};

impl Endpoint {
    pub(super) fn ask_for<'py>(
        &self,
        py: Python<'py>,
        message: PyMessage,
        task: Arc<Task>,
        limit: Option<Duration>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (inner, worker) = self.inner()?;
        inner.post(py, worker, message, limit)?;
        new_future(py, self, task)
    }

    pub(super) fn try_ask_for<'py>(
        &self,
        py: Python<'py>,
        message: PyMessage,
        task: Arc<Task>,
        limit: Option<Duration>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let (_, worker) = self.inner()?;
        let posted = try_post(worker, message, limit.map(|limit| (limit, task.clone())))?;
        posted.then(|| new_future(py, self, task)).transpose()
    }

    pub(super) fn park_for<'py>(
        &self,
        slf: &Bound<'py, Self>,
        message: PyMessage,
        task: Arc<Task>,
        limit: Option<Duration>,
        told: Py<PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match waiting::enter(self.worker()?, message, limit)? {
            PostResult::In => new_future(slf.py(), self, task),
            PostResult::Line(post) => self.parked(slf, post, Some(task), false, told),
        }
    }

    pub(super) fn parked<'py>(
        &self,
        slf: &Bound<'py, Self>,
        post: ParkedPost<PyHandler>,
        task: Option<Arc<Task>>,
        is_answered: bool,
        told: Py<PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (inner, _) = self.inner()?;
        let shared = inner.shared.clone();
        let parked = Parked::new(post, slf.clone().unbind(), shared, task, is_answered, told);
        Ok(Bound::new(slf.py(), parked)?.into_any())
    }
}

/// Posts without waiting, with a deadline if there is one; false where a "block" mailbox has no room.
fn try_post(
    worker: &Worker<PyHandler>,
    message: PyMessage,
    deadline: Option<(Duration, Arc<Task>)>,
) -> PyResult<bool> {
    match worker.try_post(message) {
        Ok(()) => {}
        Err(PostError::Full(_)) if worker.overflow() == Overflow::Block => return Ok(false),
        Err(error) => return Err(waiting::refused(worker, error)),
    }
    if let Some((limit, task)) = deadline {
        waiting::set_deadline(worker, task, limit)?;
    }
    Ok(true)
}
