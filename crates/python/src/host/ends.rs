//! How messages with an id have ended, as long as that is kept.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use pytoweb_engine::{DropReason, Failure};

use crate::host::task::Task;

/// Messages with an id whose end is kept, of each worker.
pub(crate) const KEPT_ENDS: usize = 1_000;
/// Characters that are kept of what an error says.
const ERROR_LENGTH: usize = 300;

/// How messages with an id have ended: the last ones.
#[derive(Debug, Default)]
pub(crate) struct RecentEnds(Mutex<EndLog>);

#[derive(Debug, Default)]
struct EndLog {
    ends: VecDeque<End>,
    /// Those that are dead letters, and whose reply is to come.
    dead: HashSet<Box<str>>,
}

#[derive(Debug)]
struct End {
    id: Box<str>,
    outcome: &'static str,
    /// What its handler raised.
    error: Option<Box<str>>,
    dead: bool,
    at: Instant,
    /// More is to be said of it: it was noted as its message left the mailbox, before its reply went anywhere.
    early: bool,
}

impl RecentEnds {
    fn lock(&self) -> MutexGuard<'_, EndLog> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message with that id is a dead letter.
    pub(crate) fn dies(&self, py: Python<'_>, id: &Py<PyString>) {
        self.lock()
            .dead
            .insert(id.bind(py).to_string_lossy().into());
    }

    /// A message was dropped before it came to the mailbox, as there was no place for its reply.
    pub(crate) fn note_unanswerable(&self, py: Python<'_>, id: &Py<PyString>) {
        let id = id.bind(py).to_string_lossy();
        self.note_early(&id, "dropped_unanswerable");
        self.note(&id, "dropped_unanswerable", None);
    }

    /// A message ends so; [`RecentEnds::note`] says more of it.
    pub(crate) fn note_early(&self, id: &str, outcome: &'static str) {
        let mut log = self.lock();
        let dead = log.dead.remove(id);
        if log.ends.len() == KEPT_ENDS {
            log.ends.pop_front();
        }
        log.ends.push_back(End {
            id: id.into(),
            outcome,
            error: None,
            dead,
            at: Instant::now(),
            early: true,
        });
    }

    /// What became of a message that was noted early.
    pub(crate) fn note(&self, id: &str, outcome: &'static str, error: Option<Box<str>>) {
        let mut log = self.lock();
        let dead = log.dead.remove(id);
        let mut ends = log.ends.iter_mut().rev();
        // None where so many others have ended since.
        if let Some(end) = ends.find(|end| end.early && *end.id == *id) {
            end.outcome = outcome;
            end.error = error;
            end.dead |= dead;
            end.early = false;
        }
    }
}

/// How a message ended with that failure, in a word.
pub(crate) fn name_of(failure: Failure, task: &Task) -> &'static str {
    match failure {
        Failure::Dropped(DropReason::Oldest) => "dropped_oldest",
        Failure::Dropped(DropReason::Newest) => "dropped_newest",
        Failure::Dropped(_) => "replaced",
        Failure::Stopped => "stopped",
        Failure::Cancelled => "cancelled",
        // As its error says it: a handler that has begun was asked to stop.
        Failure::Expired if task.is_own_stop_asked() => "expired_begun",
        Failure::Expired => "expired",
        _ => "failed",
    }
}

/// What an error says, in a line.
pub(crate) fn text_of(error: &Bound<'_, PyAny>) -> Box<str> {
    let kind = error.get_type().qualname();
    let kind = kind.map_or_else(|_| "an exception".to_owned(), |kind| kind.to_string());
    let text = error.str().map(|text| text.to_string_lossy().into_owned());
    let text = text.unwrap_or_else(|_| "(its text cannot be had)".to_owned());
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = if line.is_empty() {
        kind
    } else {
        format!("{kind}: {line}")
    };
    line.chars().take(ERROR_LENGTH).collect::<String>().into()
}

/// How a message with that id has ended, if that is known.
pub(crate) fn end_of<'py>(
    py: Python<'py>,
    ends: &RecentEnds,
    id: &Bound<'py, PyString>,
) -> PyResult<Option<Bound<'py, PyDict>>> {
    let id = id.to_string_lossy();
    let log = ends.lock();
    let Some(end) = log.ends.iter().rev().find(|end| *end.id == *id) else {
        return Ok(None);
    };
    let told = PyDict::new(py);
    told.set_item("code", "done")?;
    told.set_item("outcome", end.outcome)?;
    told.set_item("error", end.error.as_deref())?;
    told.set_item("dead", end.dead)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0.0, |now| now.as_secs_f64());
    told.set_item("since", now - end.at.elapsed().as_secs_f64())?;
    Ok(Some(told))
}
