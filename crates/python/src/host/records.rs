//! What the recording of a report is told of messages: see `recording.rs`.

use std::time::{Duration, Instant};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;
use pytoweb_engine::{ChartLane, Fate, Ran, RunPlace, Span};

use crate::host::message::PyMessage;
use crate::host::recording::{Active, nanos};
use crate::host::worker_shared::WorkerShared;

impl WorkerShared {
    /// A message that is timed has ended.
    #[inline]
    pub(crate) fn record_span(&self, message: &PyMessage, span: &Span) {
        if self.recording.is_on() {
            self.record(message, span, span.outcome.into());
        }
    }

    /// A message that is timed, or an attempt of it, has ended.
    #[cold]
    pub(crate) fn record(&self, message: &PyMessage, span: &Span, fate: Fate) {
        let end = Instant::now();
        let place = span.place;
        // Those that failed in a child are told of where more is known: see `record_failed_remote`.
        if matches!(place, RunPlace::Carried(_)) && fate != Fate::Completed {
            return;
        }
        let Some(kind) = kind_of(message) else {
            return;
        };
        let (wait, run) = (nanos(span.wait), nanos(span.run));
        if place == RunPlace::Beside {
            Active::add_beside();
        }
        self.recording.with(|active| {
            if place == RunPlace::Beside {
                let told = active.told_here();
                active
                    .recorder
                    .ran_beside(&kind, Some((wait, run)), fate, told);
                return;
            }
            let lane = match place {
                RunPlace::Carried(spot) => active.lane_of(spot.unwrap_or(0)),
                RunPlace::Suspended => {
                    let name = || "coroutines".to_owned();
                    active.recorder.lane(ChartLane::Coroutines, name)
                }
                RunPlace::Turn | RunPlace::Beside => active.lane_here(),
            };
            let told = active.told_here();
            let ran = Ran {
                worker: &self.name,
                kind: &kind,
                lane,
                end: active.at(end),
                run: Some(run),
                wait,
                together: Active::take_together(),
                fate,
            };
            active.recorder.ran(&ran, told);
        });
    }

    /// A failure was told of, on this thread; `fate`: what becomes of its message, as far as that is known.
    #[inline]
    pub(crate) fn record_failure(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        error: &PyErr,
        fate: Fate,
    ) {
        if self.recording.is_on() {
            self.record_this_failure(py, kind, error, fate);
        }
    }

    #[cold]
    fn record_this_failure(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        error: &PyErr,
        fate: Fate,
    ) {
        let now = Instant::now();
        let texts = || -> PyResult<(String, String)> {
            let module = py.import(intern!(py, "pytoweb._snapshot"))?;
            let line = module.call_method1(intern!(py, "one_line"), (error.value(py),))?;
            let line = line.cast::<PyString>()?.to_string_lossy().into_owned();
            let kind = kind.str()?.to_string_lossy().into_owned();
            Ok((kind, line))
        };
        match texts() {
            Ok((kind, text)) => self.recording.with(|active| {
                let (lane, at) = (active.lane_here(), active.at(now));
                let of = (self.name.as_str(), kind.as_str());
                let failed = active.recorder.failed(of, lane, at, text, fate);
                active.tell_here(failed);
            }),
            Err(error) => error.write_unraisable(py, None),
        }
    }

    /// A message, or an attempt of it, has failed in a child: `age` after its post, when it had run for so
    /// long, if that is known.
    #[cold]
    pub(crate) fn record_failed_remote(
        &self,
        kind: &str,
        child: Option<u32>,
        fate: Fate,
        (age, ran): (Duration, Option<Duration>),
    ) {
        let end = Instant::now();
        let wait = nanos(age.saturating_sub(ran.unwrap_or_default()));
        self.recording.with(|active| {
            let told = active.told_here();
            let Some(child) = child else {
                // One of a batch, whose first one has the child.
                let times = ran.map(|ran| (wait, nanos(ran)));
                return active.recorder.ran_beside(kind, times, fate, told);
            };
            let ran = Ran {
                worker: &self.name,
                kind,
                lane: active.lane_of(child),
                end: active.at(end),
                run: ran.map(nanos),
                wait,
                together: Active::take_together(),
                fate,
            };
            active.recorder.ran(&ran, told);
        });
    }

    /// So many messages ran beside one in a child that ends next on this thread.
    pub(crate) fn record_beside(&self, messages: usize) {
        if self.recording.is_on() {
            Active::set_beside(messages);
        }
    }
}

/// What a message counts under; `None`: it is a worker's last. That of one which ran in a child needs no interpreter lock: the
/// thread that reads replies asks for it.
fn kind_of(message: &PyMessage) -> Option<String> {
    if let Some(request) = message.request() {
        return Some(request.kind.to_string());
    }
    Python::attach(|py| {
        let kind = WorkerShared::kind_here(py, message)?;
        Some(kind.to_string_lossy().into_owned())
    })
}
