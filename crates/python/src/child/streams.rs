//! The streams of a child: items of handlers that run, as far as the host's readers have room for them.
//!
//! The host says how many items were read; so many more may be sent. A handler that waits for that on the main thread
//! reads the frames itself, because no other code does: those that are not about streams it holds back, in order, for the
//! loop of the child. A coroutine, on the event loop's thread, is woken by that loop.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyIterator;
use pytoweb_engine::StreamWake;
use pytoweb_process::frame::{ToChild, decode_for_child, encode_item};
use pytoweb_process::{ChildLink, Credit};

use crate::error;
use crate::interpreter::generation::Generation;
use crate::pickle::pickling::{self, Way};

use super::broken;

/// Called when there is credit again, or none will come.
#[derive(Debug)]
struct WakeCallback(Py<PyAny>);

impl StreamWake for WakeCallback {
    fn wake(self) {
        Python::attach(|py| {
            if let Err(error) = self.0.call0(py) {
                error.write_unraisable(py, None);
            }
        });
    }
}

/// The stream of one message.
type Outgoing = Credit<WakeCallback>;

/// The streams of the messages that run.
#[derive(Debug, Default)]
pub(super) struct Streams {
    by_seq: Mutex<HashMap<u64, Arc<Outgoing>>>,
    /// Frames that a handler read while it waited, and which are not its own.
    held: Mutex<VecDeque<Vec<u8>>>,
}

impl Streams {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Outgoing>>> {
        self.by_seq.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The message is to stream; its reader has room for a window of items.
    fn open(&self, seq: u64, window: u32) -> Arc<Outgoing> {
        let outgoing = Arc::new(Outgoing::new(window));
        self.lock().insert(seq, outgoing.clone());
        outgoing
    }

    /// The message is over.
    pub(super) fn forget(&self, seq: u64) {
        let gone = self.lock().remove(&seq);
        drop(gone);
    }

    fn of(&self, seq: u64) -> Option<Arc<Outgoing>> {
        self.lock().get(&seq).cloned()
    }

    /// So many items more may be sent.
    pub(super) fn grant(&self, seq: u64, items: u32) {
        if let Some(outgoing) = self.of(seq) {
            outgoing.grant(items);
        }
    }

    /// No more items are wanted.
    pub(super) fn close(&self, seq: u64) {
        if let Some(outgoing) = self.of(seq) {
            outgoing.close();
        }
    }

    /// Puts the next frame that was held back into `frame`, if there is one.
    pub(super) fn take_held(&self, frame: &mut Vec<u8>) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match held.pop_front() {
            Some(next) => {
                *frame = next;
                true
            }
            None => false,
        }
    }
}

/// What a message needs to send the items of its stream.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    link: Arc<dyn ChildLink>,
    streams: Arc<Streams>,
    outgoing: Arc<Outgoing>,
    seq: u64,
    generation: Generation,
}

impl Sender {
    pub(super) fn new(
        link: &Arc<dyn ChildLink>,
        streams: &Arc<Streams>,
        seq: u64,
        window: u32,
        generation: Generation,
    ) -> Self {
        Self {
            link: link.clone(),
            streams: streams.clone(),
            outgoing: streams.open(seq, window),
            seq,
            generation,
        }
    }

    fn send(&self, py: Python<'_>, item: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut payload = pickling::pack(py, Way::ToHost, item, || self.link.store().cloned())
            .map_err(|raised| error::unpicklable(py, "an item of the stream", raised))?;
        // The host releases it, perhaps before this returns.
        let _ = payload.detach();
        let mut head = Vec::new();
        encode_item(self.seq, &payload, &mut head).map_err(broken)?;
        let area: &[u8] = match payload.place() {
            pytoweb_process::AreaPlace::Inline(area) => area,
            _ => &[],
        };
        if self.link.try_send(&head, area).map_err(broken)? {
            return Ok(());
        }
        py.detach(|| self.link.send(&head, area)).map_err(broken)
    }

    /// Takes a frame that came while this waited.
    fn take(&self, frame: &mut Vec<u8>) -> PyResult<()> {
        match decode_for_child(frame).map_err(broken)? {
            ToChild::Grant { seq, items } => self.streams.grant(seq, items),
            ToChild::Release { offset } => {
                if let Some(store) = self.link.store() {
                    store.release(offset);
                }
            }
            ToChild::StopAsked { seq } if seq == self.seq => self.streams.close(seq),
            other => {
                if let ToChild::Enough { seq } = other {
                    self.streams.close(seq);
                }
                // Those of other messages are for coroutines, and what is to interrupt them is with the loop.
                let mut held = self
                    .streams
                    .held
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                held.push_back(std::mem::take(frame));
            }
        }
        Ok(())
    }
}

/// Where a handler puts the items of its stream.
#[pyclass(module = "pytoweb._core", frozen)]
#[derive(Debug)]
pub(crate) struct ChildStreamWriter {
    sender: Sender,
    /// The item for which there was no credit.
    waiting: Mutex<Option<Py<PyAny>>>,
}

#[pymethods]
impl ChildStreamWriter {
    /// As ``StreamWriter.put_all``; for the main thread.
    fn put_all(
        &self,
        py: Python<'_>,
        items: &Bound<'_, PyIterator>,
        limit: f64,
    ) -> PyResult<Option<bool>> {
        if !self.sender.generation.is_here() {
            return Err(error::copied());
        }
        let limit = Duration::try_from_secs_f64(limit).unwrap_or_default();
        let waiting = self
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let mut next = match waiting {
            Some(item) => Some(item.into_bound(py)),
            None => items.clone().next().transpose()?,
        };
        while let Some(item) = next {
            match self.put(py, &item, limit)? {
                Some(true) => {}
                Some(false) => return Ok(Some(false)),
                None => {
                    let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                    *waiting = Some(item.unbind());
                    return Ok(None);
                }
            }
            next = items.clone().next().transpose()?;
        }
        Ok(Some(true))
    }

    /// As ``StreamWriter.put_soon``.
    fn put_soon(
        &self,
        py: Python<'_>,
        item: &Bound<'_, PyAny>,
        wake: Py<PyAny>,
    ) -> PyResult<Option<bool>> {
        let sender = &self.sender;
        if !sender.generation.is_here() {
            return Err(error::copied());
        }
        let Some(may) = sender.outgoing.take(|| Some(WakeCallback(wake))) else {
            return Ok(Some(false));
        };
        if may {
            sender.send(py, item)?;
        }
        Ok(may.then_some(true))
    }

    /// Whether no more items are wanted.
    fn is_closed(&self) -> bool {
        self.sender.outgoing.is_closed()
    }
}

impl ChildStreamWriter {
    pub(super) fn new(sender: Sender) -> Self {
        Self {
            sender,
            waiting: Mutex::new(None),
        }
    }

    /// Sends an item. Waits for credit, for `limit` at most: `None` after that. False: no more items are wanted.
    fn put(
        &self,
        py: Python<'_>,
        item: &Bound<'_, PyAny>,
        limit: Duration,
    ) -> PyResult<Option<bool>> {
        let sender = &self.sender;
        let until = Instant::now() + limit;
        let mut frame = Vec::new();
        // The reader may have gone, and there is credit all the same.
        while sender.link.receive(&mut frame).map_err(broken)? {
            sender.take(&mut frame)?;
        }
        loop {
            match sender.outgoing.take(|| None) {
                None => return Ok(Some(false)),
                Some(true) => {
                    sender.send(py, item)?;
                    return Ok(Some(true));
                }
                Some(false) => {}
            }
            if sender.link.receive(&mut frame).map_err(broken)? {
                sender.take(&mut frame)?;
                continue;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            py.detach(|| sender.link.wait(Some(left)));
            py.check_signals()?;
        }
    }
}
