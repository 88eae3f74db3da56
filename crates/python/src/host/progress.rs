//! How far the handler of a message is, as its future knows it.
//!
//! The handler *reports*; what is not the first report in a while waits for the *ticker* (`_progress.py`), which *flushes* it.
//! *Watchers* are told that there is something new, and look for the latest themselves: so a slow one misses some. The end
//! of the message tells them a last time, and nothing is reported after it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pytoweb_process::Parcel;

use crate::interpreter::attached::Attached;

/// The least time between two reports of a message that watchers are told of, but for the last: 20 a second, which is
/// more than eyes see and little work.
pub(crate) const STEP: Duration = Duration::from_millis(50);

/// What was reported: a tuple of what is done, the total and a text.
#[derive(Clone, Debug)]
pub(crate) enum Report {
    Here(Arc<Attached<Py<PyTuple>>>),
    /// As another process sent it.
    Remote(Arc<Parcel>),
}

#[derive(Debug, Default)]
struct State {
    latest: Option<Report>,
    /// How many there were.
    version: u64,
    /// Each is called without arguments.
    watchers: Vec<Py<PyAny>>,
    /// When they were last told.
    told: Option<Instant>,
    /// They will be.
    is_due: bool,
    is_over: bool,
}

/// The progress of one message.
#[derive(Debug, Default)]
pub(crate) struct ReportMeter(Mutex<State>);

/// What is to follow a report.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AfterReport {
    Nothing,
    Flush,
    FlushAfter(Duration),
}

impl ReportMeter {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a report. `coalesced`: it comes from where that was done.
    pub(crate) fn note(&self, report: Report, coalesced: bool) -> AfterReport {
        let (before, then) = {
            let mut state = self.lock();
            if state.is_over {
                return AfterReport::Nothing;
            }
            state.version += 1;
            let before = state.latest.replace(report);
            (before, state.due(coalesced))
        };
        drop(before);
        then
    }

    /// The watchers, who are to be told now.
    pub(crate) fn to_tell(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        let mut state = self.lock();
        state.is_due = false;
        state.told = Some(Instant::now());
        state.watchers.iter().map(|one| one.clone_ref(py)).collect()
    }

    /// No report counts any more; returns the watchers.
    pub(crate) fn end(&self) -> Vec<Py<PyAny>> {
        let mut state = self.lock();
        state.is_over = true;
        std::mem::take(&mut state.watchers)
    }

    /// The latest report, and the how-manieth it is.
    pub(crate) fn latest(&self) -> Option<(u64, Report)> {
        let state = self.lock();
        Some((state.version, state.latest.clone()?))
    }

    /// Adds a watcher. True: it is the first.
    pub(crate) fn watch(&self, watcher: Py<PyAny>) -> bool {
        let mut state = self.lock();
        state.watchers.push(watcher);
        state.watchers.len() == 1
    }
}

impl State {
    fn due(&mut self, coalesced: bool) -> AfterReport {
        if self.watchers.is_empty() || self.is_due {
            return AfterReport::Nothing;
        }
        self.is_due = true;
        let since = self.told.map_or(STEP, |told| told.elapsed());
        if coalesced || since >= STEP {
            AfterReport::Flush
        } else {
            AfterReport::FlushAfter(STEP - since)
        }
    }
}
