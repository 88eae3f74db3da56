//! Waits for room and for workers to end, outside the interpreter lock, in slices between which signals are looked for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pytoweb_engine::{Message, ParkedPost, PostError, Shed, Ticket, WaitError, Worker};

use crate::error;
use crate::host::handler::PyHandler;
use crate::host::message::PyMessage;
use crate::host::task::Task;

/// The length of a slice: how long Ctrl-C may take on the main thread.
pub(crate) const SIGNAL_SLICE: Duration = Duration::from_millis(50);

/// A message that was refused, or nothing of it.
pub(crate) trait RefusedMessage {
    /// Its bytes, if it is there.
    fn weight(&self) -> Option<usize> {
        None
    }
}

impl RefusedMessage for () {}

impl RefusedMessage for PyMessage {
    fn weight(&self) -> Option<usize> {
        Some(self.bytes())
    }
}

/// What a refused post raises.
pub(crate) fn refused<M: RefusedMessage>(worker: &Worker<PyHandler>, error: PostError<M>) -> PyErr {
    match error {
        PostError::Full(_) => full(
            worker,
            "post fewer, wait for replies, or choose another overflow policy",
        ),
        PostError::WouldDeadlock(_) => full(
            worker,
            "waiting would deadlock, because the caller is this worker's own handler or one that it awaits; post fewer, \
             or choose another overflow policy",
        ),
        PostError::Shed(_) => {
            let shed = worker.shed().unwrap_or(Shed {
                target: Duration::ZERO,
                window: Duration::ZERO,
            });
            error::overloaded(worker.name(), shed.target, shed.window)
        }
        PostError::TooLarge(message) => error::too_large(
            worker.name(),
            message.weight(),
            worker.byte_limit().unwrap_or_default(),
        ),
        PostError::NoThread(_, error) => {
            PyRuntimeError::new_err(format!("can't start new thread: {error}"))
        }
        _ if worker.handler().shared.is_pool => error::pool_stopped(worker.name()),
        _ => error::stopped(worker.name()),
    }
}

/// The error of a post that found no room.
pub(crate) fn full(worker: &Worker<PyHandler>, hint: &str) -> PyErr {
    let bytes = worker
        .byte_limit()
        .map(|limit| (worker.address().numbers().counters.bytes, limit));
    error::full(worker.name(), worker.capacity(), bytes, hint)
}

/// Makes the message of `task` expire after `limit`.
pub(crate) fn set_deadline(
    worker: &Worker<PyHandler>,
    task: Arc<Task>,
    limit: Duration,
) -> PyResult<()> {
    let ticket: Arc<dyn Ticket> = task;
    worker.set_deadline(&ticket, limit).map_err(|error| {
        // Without it the message would run for as long as it likes.
        let _ = worker.address().cancel(&ticket);
        PyRuntimeError::new_err(format!("can't start new thread: {error}"))
    })
}

/// What a post that does not wait for room came to.
pub(crate) enum PostResult {
    In,
    Line(ParkedPost<PyHandler>),
}

/// Posts, or leaves the message in line; a message that goes in at once gets its deadline here.
///
/// # Errors
/// What a refused post raises.
pub(crate) fn enter(
    worker: &Worker<PyHandler>,
    message: PyMessage,
    limit: Option<Duration>,
) -> PyResult<PostResult> {
    let deadline = limit.zip(message.task().cloned());
    match worker.park(message, limit) {
        Ok(Some(parked)) => Ok(PostResult::Line(parked)),
        Ok(None) => {
            if let Some((limit, task)) = deadline {
                set_deadline(worker, task, limit)?;
            }
            Ok(PostResult::In)
        }
        Err(error) => Err(refused(worker, error)),
    }
}

/// Waits in line outside the interpreter lock until the message is in; `limit` is its deadline as well.
pub(crate) fn post_when_room(
    py: Python<'_>,
    worker: &Worker<PyHandler>,
    message: PyMessage,
    limit: Option<Duration>,
) -> PyResult<()> {
    may_wait(py, worker, 1)?;
    let until = limit.and_then(|limit| Instant::now().checked_add(limit));
    let PostResult::Line(post) = enter(worker, message, limit)? else {
        return Ok(());
    };
    let waited = wait_until(py, until, |step| post.wait(Some(step)));
    match (post.finish(), waited) {
        // A signal's exception is raised whether the message is in or not.
        (Ok(()), Err(raised)) => Err(raised),
        (Ok(()), Ok(_)) => Ok(()),
        (Err(PostError::Full(_)), waited) => {
            worker.give_up(1);
            Err(match waited {
                Err(raised) => raised,
                Ok(Err(WaitError::Cycle(_))) => refused(worker, PostError::WouldDeadlock(())),
                Ok(Err(error)) => error::wait(py, error),
                Ok(Ok(_)) => {
                    let seconds = limit.map_or(0.0, |limit| limit.as_secs_f64());
                    let hint =
                        format!("no room came within {seconds} s; allow more time, or post fewer");
                    full(worker, &hint)
                }
            })
        }
        (Err(error), _) => Err(refused(worker, error)),
    }
}

/// Refuses to block an event loop.
pub(crate) fn may_wait(py: Python<'_>, worker: &Worker<PyHandler>, posts: usize) -> PyResult<()> {
    let in_loop = py
        .import(intern!(py, "pytoweb._aio"))?
        .call_method0(intern!(py, "in_event_loop"))?;
    if in_loop.is_truthy()? {
        worker.give_up(posts);
        let hint = "waiting would block the event loop: await the same for coroutines, which is apost_message(), \
                    aask(), astream() or afeed()";
        return Err(full(worker, hint));
    }
    Ok(())
}

/// Waits in slices, between which signals are looked for. False: it is past `until`.
pub(crate) fn wait_until(
    py: Python<'_>,
    until: Option<Instant>,
    wait: impl Fn(Duration) -> Result<bool, WaitError> + Send + Sync,
) -> PyResult<Result<bool, WaitError>> {
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

/// The same for as long as `limit`.
pub(crate) fn wait_in_slices(
    py: Python<'_>,
    limit: Option<Duration>,
    wait: impl Fn(Duration) -> Result<bool, WaitError> + Send + Sync,
) -> PyResult<Result<bool, WaitError>> {
    let until = limit.and_then(|limit| Instant::now().checked_add(limit));
    wait_until(py, until, wait)
}
