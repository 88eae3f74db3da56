//! A place for the reply of a message with an id: taken before the post, or waited for.

use std::time::{Duration, Instant};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;
use pytoweb_engine::{Overflow, PostError, Worker, WorkerState};

use crate::error;
use crate::host::handler::PyHandler;
use crate::host::waiting;
use crate::host::worker_shared::WorkerShared;

/// What came of a post's wish for a place.
pub(crate) enum PlaceResult {
    Taken,
    /// The policy drops the message.
    Dropped,
    /// The policy is to wait.
    Wait,
}

/// Takes a place for a message with `id`, without waiting.
///
/// # Errors
/// `MailboxFullError` where the policy refuses, `WorkerStoppedError`.
pub(crate) fn place_for(
    py: Python<'_>,
    worker: &Worker<PyHandler>,
    shared: &WorkerShared,
    id: &Py<PyString>,
) -> PyResult<PlaceResult> {
    let room = &shared.reply_room;
    if room.take() {
        return Ok(PlaceResult::Taken);
    }
    let replies = shared.replies.bind(py);
    replies.call_method0(intern!(py, "make_room"))?;
    if room.take() {
        return Ok(PlaceResult::Taken);
    }
    if is_closed(worker) {
        return Err(waiting::refused(worker, PostError::Stopped(())));
    }
    match worker.overflow() {
        Overflow::Block => Ok(PlaceResult::Wait),
        Overflow::Reject => {
            worker.give_up(1);
            let hint = "so many messages with an id have replies that wait for the 'response' and 'error' handlers; \
                        make these quicker, or post fewer";
            Err(waiting::full(worker, hint))
        }
        Overflow::DropOldest if room.take_of_twice() => Ok(PlaceResult::Taken),
        _ => {
            worker.drop_newest();
            shared.ends.note_unanswerable(py, id);
            replies.call_method1(intern!(py, "lost"), (id,))?;
            Ok(PlaceResult::Dropped)
        }
    }
}

/// Waits for a place outside the interpreter lock, and takes it.
///
/// # Errors
/// `MailboxFullError` where the wait is too long, or would never end; `WorkerStoppedError`; what a signal raises.
pub(crate) fn wait_for_place(
    py: Python<'_>,
    worker: &Worker<PyHandler>,
    shared: &WorkerShared,
    limit: Option<Duration>,
) -> PyResult<()> {
    waiting::may_wait(py, worker, 1)?;
    let room = &shared.reply_room;
    let until = limit.and_then(|limit| Instant::now().checked_add(limit));
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let step = left.map_or(waiting::SIGNAL_SLICE, |left| {
            left.min(waiting::SIGNAL_SLICE)
        });
        let waited = refuse_deadlock(py, worker, shared).and_then(|()| {
            py.detach(|| pytoweb_engine::lend(|| room.wait(step)))
                .map_err(|error| error::wait(py, error))?;
            py.check_signals()?;
            // An event loop may have been closed meanwhile, with replies that nothing takes any more.
            shared
                .replies
                .call_method0(py, intern!(py, "make_room"))
                .map(drop)
        });
        if let Err(error) = waited {
            worker.give_up(1);
            return Err(error);
        }
        if room.take() {
            return Ok(());
        }
        if is_closed(worker) {
            return Err(waiting::refused(worker, PostError::Stopped(())));
        }
        if let (Some(true), Some(limit)) = (left.map(|left| left.is_zero()), limit) {
            worker.give_up(1);
            let seconds = limit.as_secs_f64();
            let hint = format!(
                "no reply handler made room within {seconds} s; allow more time, or post fewer"
            );
            return Err(waiting::full(worker, &hint));
        }
    }
}

/// Refuses a wait for the caller itself: a reply handler, or the worker's own handler.
fn refuse_deadlock(
    py: Python<'_>,
    worker: &Worker<PyHandler>,
    shared: &WorkerShared,
) -> PyResult<()> {
    let own = worker.is_current() && worker.is_exclusive();
    if own
        || shared
            .replies
            .bind(py)
            .call_method0(intern!(py, "is_reply_thread"))?
            .is_truthy()?
    {
        let hint = "waiting would deadlock, because its room is taken by replies that wait for the caller, which is a \
                    reply handler or the worker's own; post fewer, or from another thread";
        return Err(waiting::full(worker, hint));
    }
    Ok(())
}

fn is_closed(worker: &Worker<PyHandler>) -> bool {
    matches!(worker.state(), WorkerState::Stopping | WorkerState::Stopped)
}
