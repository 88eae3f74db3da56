//! Waits for room and for workers to end, outside the interpreter lock, in slices between which signals are looked for.

use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pytoweb_engine::{PostError, WaitError, Worker};

use crate::error;
use crate::handler::PyHandler;
use crate::message::PyMessage;

/// The length of a slice: how long Ctrl-C may take on the main thread.
pub(crate) const SIGNAL_SLICE: Duration = Duration::from_millis(50);

/// What a refused post raises.
pub(crate) fn refused<M>(worker: &Worker<PyHandler>, error: PostError<M>) -> PyErr {
    match error {
        PostError::Full(_) => error::full(
            worker.name(),
            worker.capacity(),
            "post fewer, wait for replies, or choose another overflow policy",
        ),
        PostError::WouldDeadlock(_) => error::full(
            worker.name(),
            worker.capacity(),
            "waiting would deadlock, because the caller is this worker's own handler or one that it awaits; post fewer, \
             or choose another overflow policy",
        ),
        PostError::NoThread(_, error) => {
            PyRuntimeError::new_err(format!("can't start new thread: {error}"))
        }
        _ if !worker.is_exclusive() => error::pool_stopped(worker.name()),
        _ => error::stopped(worker.name()),
    }
}

/// Waits for room outside the interpreter lock, and posts.
pub(crate) fn post_when_room(
    py: Python<'_>,
    worker: &Worker<PyHandler>,
    message: PyMessage,
    limit: Option<Duration>,
) -> PyResult<()> {
    let mut message = message;
    let until = limit.and_then(|limit| Instant::now().checked_add(limit));
    may_wait(py, worker, 1)?;
    loop {
        if let Err(error) = wait_for_room(py, worker, limit, until) {
            worker.give_up(1);
            return Err(error);
        }
        message = match worker.try_post(message) {
            Ok(()) => return Ok(()),
            Err(PostError::Full(message)) => message,
            Err(error) => return Err(refused(worker, error)),
        };
    }
}

/// Refuses to block an event loop.
pub(crate) fn may_wait(py: Python<'_>, worker: &Worker<PyHandler>, posts: usize) -> PyResult<()> {
    let in_loop = py
        .import(intern!(py, "pytoweb._aio"))?
        .call_method0(intern!(py, "in_event_loop"))?;
    if in_loop.is_truthy()? {
        worker.give_up(posts);
        let hint = "waiting would block the event loop: use `await worker.apost_message(...)`";
        return Err(error::full(worker.name(), worker.capacity(), hint));
    }
    Ok(())
}

/// Waits for room outside the interpreter lock; a post may succeed afterwards.
pub(crate) fn wait_for_room(
    py: Python<'_>,
    worker: &Worker<PyHandler>,
    limit: Option<Duration>,
    until: Option<Instant>,
) -> PyResult<()> {
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let step = left.map_or(SIGNAL_SLICE, |left| left.min(SIGNAL_SLICE));
        match py.detach(|| worker.wait_for_room(Some(step))) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(WaitError::Cycle(_)) => {
                return Err(refused(worker, PostError::WouldDeadlock(())));
            }
            Err(error) => return Err(error::wait(py, error)),
        }
        py.check_signals()?;
        if left.is_some_and(|left| left.is_zero()) {
            let seconds = limit.map_or(0.0, |limit| limit.as_secs_f64());
            let hint = format!("no room came within {seconds} s; allow more time, or post fewer");
            return Err(error::full(worker.name(), worker.capacity(), &hint));
        }
    }
}

/// Waits in slices, between which signals are looked for. False: `limit` has passed.
pub(crate) fn wait_in_slices(
    py: Python<'_>,
    limit: Option<Duration>,
    wait: impl Fn(Duration) -> Result<bool, WaitError> + Send + Sync,
) -> PyResult<Result<bool, WaitError>> {
    let until = limit.and_then(|limit| Instant::now().checked_add(limit));
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let step = left.map_or(SIGNAL_SLICE, |left| left.min(SIGNAL_SLICE));
        match py.detach(|| wait(step)) {
            Ok(false) => {}
            other => return Ok(other),
        }
        py.check_signals()?;
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(Ok(false));
        }
    }
}
