//! How far the handlers of a child are, on the way to the host: at most one report of a message in a while, and the last.
//!
//! A report that comes too early after the one before, or finds no room in the link, is kept in the place of an earlier one,
//! until the ticker (`_progress.py`) sends it, or the reply of its message does.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pytoweb_process::frame::encode_progress;
use pytoweb_process::{AreaPlace, ChildLink, Payload};

use crate::error;
use crate::host::progress::STEP;
use crate::pickle::pickling::{self, Way};

use super::broken;

#[derive(Debug)]
struct Reported {
    /// The last report, if it was not sent. The ticker comes for it.
    kept: Option<Py<PyTuple>>,
    /// How many reports there were.
    version: u64,
    sent: Instant,
}

/// The progress of the messages that run.
#[derive(Debug, Default)]
pub(super) struct Meters {
    by_seq: Mutex<HashMap<u64, Reported>>,
    /// There was a report: before that no message has an end to look for.
    any: AtomicBool,
}

/// A frame without an area beside it: a report is small, or it waits for the reply.
fn frame(seq: u64, payload: &Payload) -> PyResult<(Vec<u8>, &[u8])> {
    let mut head = Vec::new();
    encode_progress(seq, payload, &mut head).map_err(broken)?;
    let area: &[u8] = match payload.place() {
        AreaPlace::Inline(area) => area,
        AreaPlace::Lost { .. } | AreaPlace::Stored { .. } => &[],
    };
    Ok((head, area))
}

fn pack(py: Python<'_>, report: &Bound<'_, PyTuple>) -> PyResult<Payload> {
    // Without a store: it is in ordinary memory, and may be dropped unsent.
    pickling::pack(py, Way::ToHost, report, || None)
        .map_err(|raised| error::unpicklable(py, "the progress", raised))
}

impl Meters {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Reported>> {
        self.by_seq.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a report, or keeps it. `Some`: the ticker is to come after that time.
    pub(super) fn report(
        &self,
        py: Python<'_>,
        link: &Arc<dyn ChildLink>,
        seq: u64,
        report: Bound<'_, PyTuple>,
    ) -> PyResult<Option<Duration>> {
        // ORDERING: Relaxed, the end of the message is on the same thread, or after it in another way.
        self.any.store(true, Ordering::Relaxed);
        let now = Instant::now();
        let (before, wait) = {
            let mut by_seq = self.lock();
            let reported = by_seq.entry(seq).or_insert_with(|| Reported {
                kept: None,
                version: 0,
                sent: now.checked_sub(STEP).unwrap_or(now),
            });
            reported.version += 1;
            let before = reported.kept.replace(report.unbind());
            let since = now.saturating_duration_since(reported.sent);
            let wait = (before.is_none()).then(|| STEP.saturating_sub(since));
            (before, wait)
        };
        drop(before);
        match wait {
            Some(wait) if wait.is_zero() => Ok(self.flush(py, link, seq)?.then_some(STEP)),
            wait => Ok(wait),
        }
    }

    /// Sends what is kept of a message, if there is room. True: something is kept, and the ticker is to come again.
    pub(super) fn flush(
        &self,
        py: Python<'_>,
        link: &Arc<dyn ChildLink>,
        seq: u64,
    ) -> PyResult<bool> {
        let kept = self.lock().get(&seq).and_then(|reported| {
            let kept = reported.kept.as_ref()?;
            Some((kept.clone_ref(py), reported.version))
        });
        let Some((report, version)) = kept else {
            return Ok(false);
        };
        // Out of the lock: it may run other threads.
        let payload = pack(py, report.bind(py))?;
        let (head, area) = frame(seq, &payload)?;
        let (sent, is_left) = {
            let mut by_seq = self.lock();
            match by_seq.get_mut(&seq) {
                None => (None, false),
                // Under the lock, so that it does not go out after the reply.
                Some(reported) if link.try_send(&head, area).map_err(broken)? => {
                    reported.sent = Instant::now();
                    let is_last = reported.version == version;
                    let sent = if is_last { reported.kept.take() } else { None };
                    (sent, !is_last)
                }
                Some(_) => (None, true),
            }
        };
        drop(sent);
        Ok(is_left)
    }

    /// The message is over: sends the last report, unless that was sent.
    pub(super) fn end(&self, py: Python<'_>, link: &Arc<dyn ChildLink>, seq: u64) {
        // ORDERING: Relaxed, see `report`.
        if !self.any.load(Ordering::Relaxed) {
            return;
        }
        let reported = self.lock().remove(&seq);
        let Some(report) = reported.and_then(|reported| reported.kept) else {
            return;
        };
        let sent = pack(py, report.bind(py)).and_then(|payload| {
            let (head, area) = frame(seq, &payload)?;
            if link.try_send(&head, area).map_err(broken)? {
                return Ok(());
            }
            py.detach(|| link.send(&head, area)).map_err(broken)
        });
        if let Err(error) = sent {
            error.write_unraisable(py, None);
        }
    }
}
