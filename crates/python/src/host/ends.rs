//! How messages with an id have ended, as long as that is kept.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use pytoweb_engine::{DropReason, Failure};

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

    /// A message has ended so, or with that failure.
    pub(crate) fn note(
        &self,
        py: Python<'_>,
        id: &Py<PyString>,
        reply: Result<Option<&Bound<'_, PyAny>>, Failure>,
    ) {
        let id: Box<str> = id.bind(py).to_string_lossy().into();
        let (outcome, error) = match reply {
            Ok(None) => ("completed", None),
            // Before the lock: its text is the program's code.
            Ok(Some(error)) => ("failed", Some(text_of(error))),
            Err(failure) => (name_of(failure), None),
        };
        let mut log = self.lock();
        let dead = log.dead.remove(&id);
        if log.ends.len() == KEPT_ENDS {
            log.ends.pop_front();
        }
        log.ends.push_back(End {
            id,
            outcome,
            error,
            dead,
            at: Instant::now(),
        });
    }
}

/// How a message ended with that failure, in a word.
pub(crate) const fn name_of(failure: Failure) -> &'static str {
    match failure {
        Failure::Dropped(DropReason::Oldest) => "dropped_oldest",
        Failure::Dropped(DropReason::Newest) => "dropped_newest",
        Failure::Dropped(_) => "replaced",
        Failure::Stopped => "stopped",
        Failure::Cancelled => "cancelled",
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
