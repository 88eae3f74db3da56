//! The end of a stream that its reader has.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pytoweb_engine::Ticket;

use crate::error;
use crate::host::channel::{Channel, FoundItem, Item, StreamWaker};
use crate::host::edges;
use crate::host::future::{FutureBase, SIGNAL_LOOK};
use crate::interpreter::parker::Parker;
use crate::pickle::pickling;

/// Where the items of a stream are read: the base of ``WorkerStream``, which has its own names for what this can do.
#[pyclass(module = "pytoweb._core", subclass, frozen)]
#[derive(Debug)]
pub(crate) struct StreamReader {
    future: Py<FutureBase>,
    channel: Arc<Channel>,
    closed: AtomicBool,
}

#[pymethods]
impl StreamReader {
    /// The reader of the stream that ``future`` is the reply of.
    #[new]
    #[pyo3(signature = (future, *_args))]
    fn new(py: Python<'_>, future: Py<FutureBase>, _args: &Bound<'_, PyTuple>) -> PyResult<Self> {
        let inner = future.get().stream_parts()?;
        let channel = inner
            .task
            .stream()
            .cloned()
            .ok_or_else(|| PyRuntimeError::new_err("the reply of a stream is needed"))?;
        let ends = channel.clone();
        // Out of the interpreter lock: the callback may run here and now.
        let parts = future.get().stream_parts()?;
        py.detach(|| parts.on_done(move || ends.end()));
        Ok(Self {
            future,
            channel,
            closed: AtomicBool::new(false),
        })
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// The next item; where there is none yet, what ``_wait_for_item()`` of the subclass returns or raises.
    fn __next__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        match slf.get().channel.take(|| None) {
            FoundItem::Item(item) => slf.get().unpacked(py, item).map(Bound::unbind),
            FoundItem::Nothing | FoundItem::End => slf
                .call_method0(intern!(py, "_wait_for_item"))
                .map(Bound::unbind),
        }
    }

    /// The next item in a tuple; an empty one at the end; None when ``limit`` seconds have passed first.
    fn _take<'py>(
        &self,
        py: Python<'py>,
        limit: Option<f64>,
    ) -> PyResult<Option<Bound<'py, PyTuple>>> {
        if let Some(found) = self.found(py, self.channel.take(|| None))? {
            return Ok(Some(found));
        }
        let future = self.future.get();
        let inner = future.stream_parts()?;
        inner.check_here()?;
        let own = Parker::of_this_thread()
            .ok_or_else(|| PyRuntimeError::new_err("can't allocate lock"))?;
        let until = limit
            .and_then(|limit| Duration::try_from_secs_f64(limit.max(0.0)).ok())
            .and_then(|limit| Instant::now().checked_add(limit));
        // In a handler: an error where that could never end.
        let edge = future.edge_of_handler(py)?;
        let _blocked = match pytoweb_engine::current() {
            Some(_) => None,
            None => Some(edges::block_loop(py, edge.as_ref())?),
        };
        loop {
            py.check_signals()?;
            let found = self.channel.take(|| Some(StreamWaker::Thread(own.clone())));
            if let Some(found) = self.found(py, found)? {
                return Ok(Some(found));
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(None);
            }
            let step = left.map_or(SIGNAL_LOOK, |left| left.min(SIGNAL_LOOK));
            let waited = py.detach(|| {
                inner.call_lane();
                pytoweb_engine::lend(|| own.park(Some(step)))
            });
            waited.map_err(|error| error::wait(py, error))?;
        }
    }

    /// The same without waiting: None where there is nothing yet, and ``wake()`` is called when there is.
    fn _take_soon<'py>(
        &self,
        py: Python<'py>,
        wake: Py<PyAny>,
    ) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let found = self.channel.take(|| Some(StreamWaker::Callback(wake)));
        let found = self.found(py, found)?;
        if found.is_none() {
            self.future.get().stream_parts()?.call_lane();
        }
        Ok(found)
    }

    /// Reads no more. The message is cancelled if its handler has not begun, else that is told to stop at its next item;
    /// a coroutine is cancelled. True the first time.
    fn _close(&self, py: Python<'_>) -> PyResult<bool> {
        // ORDERING: Relaxed, the channel has its own lock.
        if self.closed.swap(true, Ordering::Relaxed) {
            return Ok(false);
        }
        self.channel.close();
        let inner = self.future.get().stream_parts()?;
        if !inner.is_here() || inner.task.slot.state().is_done() {
            return Ok(true);
        }
        let ticket: Arc<dyn Ticket> = inner.task.clone();
        py.detach(|| inner.give_up(&ticket));
        Ok(true)
    }

    /// Whether it was closed by its reader.
    fn _is_closed(&self) -> bool {
        // ORDERING: Relaxed, as in `close`.
        self.closed.load(Ordering::Relaxed)
    }
}

impl StreamReader {
    fn found<'py>(
        &self,
        py: Python<'py>,
        found: FoundItem,
    ) -> PyResult<Option<Bound<'py, PyTuple>>> {
        match found {
            FoundItem::Nothing => Ok(None),
            FoundItem::End => Ok(Some(PyTuple::empty(py))),
            FoundItem::Item(item) => PyTuple::new(py, [self.unpacked(py, item)?]).map(Some),
        }
    }

    fn unpacked<'py>(&self, py: Python<'py>, item: Item) -> PyResult<Bound<'py, PyAny>> {
        let parcel = match item {
            Item::Here(item) => return Ok(item.into_bound(py)),
            Item::Remote(parcel) => parcel,
        };
        if let Some(read) = self.channel.to_grant() {
            let inner = self.future.get().stream_parts()?;
            py.detach(|| inner.grant(read));
        }
        pickling::unpack(py, &parcel).map_err(|raised| {
            if error::is_interrupt(py, &raised) {
                return raised;
            }
            let error = error::unreadable_reply(py, raised);
            PyErr::from_value(error.into_bound(py))
        })
    }
}
