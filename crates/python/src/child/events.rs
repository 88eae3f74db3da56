//! Events of a child's handlers, on their way to the host: a handler that emits one never waits for room.
//!
//! One that finds no room in the link is kept, and a thread sends what is kept, in order, and ends when it has. The reply of a
//! message goes after the events that were emitted before it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pytoweb_process::frame::{Event, encode_event};
use pytoweb_process::{AreaPlace, ChildLink, Payload};

use crate::error::{self, Quoted};
use crate::host::hearing::MOST_EVENTS;
use crate::host::packing::checked_name;
use crate::host::progress::STEP;
use crate::host::reporting;
use crate::host::worker_message::HostChannel;
use crate::interpreter::generation::Generation;
use crate::pickle::pickling::{self, Way};

use super::broken;
use super::progress::Meters;

/// Bytes of events that are kept at most, but for the last one.
const MOST_BYTES: usize = 16 << 20;

#[derive(Debug)]
struct PendingEvent {
    seq: u64,
    name: String,
    payload: Payload,
    /// Where in the store it lies, once the host may release it.
    offset: Option<u64>,
}

impl PendingEvent {
    fn area(&self) -> &[u8] {
        match self.payload.place() {
            AreaPlace::Inline(area) => area,
            AreaPlace::Lost { .. } | AreaPlace::Stored { .. } => &[],
        }
    }

    fn encode(&mut self, dropped: u64, head: &mut Vec<u8>) -> PyResult<()> {
        // The host releases it, perhaps before it is known to be sent.
        self.offset = self.offset.or_else(|| self.payload.detach());
        let event = Event {
            seq: self.seq,
            dropped,
            name: &self.name,
            payload: &self.payload,
        };
        encode_event(&event, head).map_err(broken)
    }
}

#[derive(Debug, Default)]
struct State {
    kept: VecDeque<PendingEvent>,
    bytes: usize,
    /// Events that were dropped and that the host does not know of.
    dropped: u64,
    /// A thread sends what is kept.
    is_sending: bool,
}

/// The events of a child that were not sent yet.
#[derive(Debug)]
pub(crate) struct EventSender {
    link: Arc<dyn ChildLink>,
    /// Itself, for the thread that sends.
    own: Weak<Self>,
    generation: Generation,
    state: Mutex<State>,
    pub(super) meters: Meters,
    /// There is something in it, or a thread sends the last of it.
    is_busy: AtomicBool,
    sent: Condvar,
}

impl EventSender {
    pub(super) fn new(link: &Arc<dyn ChildLink>) -> Arc<Self> {
        Arc::new_cyclic(|own| Self {
            link: link.clone(),
            own: own.clone(),
            generation: Generation::now(),
            state: Mutex::default(),
            meters: Meters::default(),
            is_busy: AtomicBool::new(false),
            sent: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps one more; returns those that make room for it.
    fn keep(state: &mut State, event: PendingEvent) -> Vec<PendingEvent> {
        state.bytes += event.area().len();
        state.kept.push_back(event);
        let mut gone = Vec::new();
        while state.kept.len() > MOST_EVENTS || (state.bytes > MOST_BYTES && state.kept.len() > 1) {
            let Some(oldest) = state.kept.pop_front() else {
                break;
            };
            state.bytes -= oldest.area().len();
            state.dropped += 1;
            gone.push(oldest);
        }
        gone
    }

    /// Gives back what the host will never see.
    fn release(&self, gone: Vec<PendingEvent>) {
        for event in gone {
            if let (Some(offset), Some(store)) = (event.offset, self.link.store()) {
                store.release(offset);
            }
        }
    }

    fn start(&self) {
        let Some(own) = self.own.upgrade() else {
            return;
        };
        let started = thread::Builder::new()
            .name("pytoweb-events".to_owned())
            .spawn(move || own.send_kept());
        if started.is_err() {
            // The next one tries again, and the reply sends what is left.
            self.lock().is_sending = false;
        }
    }

    /// Sends what is kept, and waits for room. For one thread at a time: that which has set `is_sending`.
    fn send_kept(&self) {
        let mut head = Vec::new();
        loop {
            let mut state = self.lock();
            let Some(mut event) = state.kept.pop_front() else {
                state.is_sending = false;
                // ORDERING: Release, see `emit`.
                self.is_busy.store(false, Ordering::Release);
                drop(state);
                self.sent.notify_all();
                return;
            };
            state.bytes -= event.area().len();
            let dropped = std::mem::take(&mut state.dropped);
            drop(state);
            let sent = match event.encode(dropped, &mut head) {
                Ok(()) => self.link.send(&head, event.area()),
                // A name of 4 GiB was refused before.
                Err(_) => Ok(()),
            };
            if sent.is_err() {
                // The child ends.
                let kept = std::mem::take(&mut self.lock().kept);
                drop(kept);
                self.lock().bytes = 0;
            }
        }
    }

    /// The message is over: blocks until all that was said before is sent.
    pub(super) fn end(&self, py: Python<'_>, seq: u64) {
        if self.generation.is_here() {
            self.meters.end(py, &self.link, seq);
            self.flush(py);
        }
    }

    fn flush(&self, py: Python<'_>) {
        // ORDERING: Acquire, with `emit`.
        if !self.is_busy.load(Ordering::Acquire) {
            return;
        }
        py.detach(|| {
            let mut state = self.lock();
            while state.is_sending {
                state = self
                    .sent
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            if !state.kept.is_empty() {
                // No thread could be started.
                state.is_sending = true;
                drop(state);
                self.send_kept();
            }
        });
    }
}

impl HostChannel for EventSender {
    fn emit(&self, py: Python<'_>, seq: u64, name: &str, data: &Bound<'_, PyAny>) -> PyResult<()> {
        if !self.generation.is_here() {
            return Err(error::copied());
        }
        let payload = pickling::pack(py, Way::ToHost, data, || self.link.store().cloned())
            .map_err(|raised| {
                let what = format!("the data of the event {}", Quoted(name));
                error::unpicklable(py, &what, raised)
            })?;
        let mut event = PendingEvent {
            seq,
            name: checked_name(name, "the name of an event")?.to_owned(),
            payload,
            offset: None,
        };
        let mut state = self.lock();
        if !state.is_sending && state.kept.is_empty() {
            let mut head = Vec::new();
            event.encode(state.dropped, &mut head)?;
            if self.link.try_send(&head, event.area()).map_err(broken)? {
                state.dropped = 0;
                return Ok(());
            }
        }
        let gone = Self::keep(&mut state, event);
        let starts = !std::mem::replace(&mut state.is_sending, true);
        // ORDERING: Release, with `flush`; written under the lock.
        self.is_busy.store(true, Ordering::Release);
        drop(state);
        self.release(gone);
        if starts {
            self.start();
        }
        Ok(())
    }

    fn report(&self, py: Python<'_>, seq: u64, report: Bound<'_, PyTuple>) -> PyResult<()> {
        if !self.generation.is_here() {
            return Err(error::copied());
        }
        let Some(own) = self.own.upgrade() else {
            return Ok(());
        };
        let wait = self.meters.report(py, &self.link, seq, report)?;
        match wait {
            None => Ok(()),
            Some(wait) => {
                let meter = Bound::new(py, ChildMeter { events: own, seq })?;
                reporting::later(py, meter.as_any(), wait)
            }
        }
    }
}

/// The progress of a message of a child, for the ticker.
#[pyclass(module = "pytoweb._core", frozen)]
#[derive(Debug)]
struct ChildMeter {
    events: Arc<EventSender>,
    seq: u64,
}

#[pymethods]
impl ChildMeter {
    /// Sends what was reported last, unless that is gone.
    fn flush(slf: &Bound<'_, Self>) -> PyResult<()> {
        let Self { events, seq } = slf.get();
        if events.generation.is_here() && events.meters.flush(slf.py(), &events.link, *seq)? {
            reporting::later(slf.py(), slf.as_any(), STEP)?;
        }
        Ok(())
    }
}
