//! The end of a stream that its handler has, on a thread of the host.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyIterator;
use pytoweb_engine::StreamPut;

use crate::host::running;
use crate::interpreter::parker::Parker;

use crate::host::channel::{Channel, Item, StreamWaker};

/// A wait that is over within this time has no other thread take the place of this one.
const BRIEFLY: Duration = Duration::from_micros(200);

/// Where a handler puts the items of its stream.
#[pyclass(module = "pytoweb._core", frozen)]
#[derive(Debug)]
pub(crate) struct StreamWriter {
    channel: Arc<Channel>,
    /// The item for which there was no room.
    waiting: Mutex<Option<Py<PyAny>>>,
}

/// That of the message whose handler runs on this thread of the host, if it is to stream.
pub(crate) fn running(py: Python<'_>) -> PyResult<Option<Py<StreamWriter>>> {
    let channel = running::look(|message, _| {
        let task = message.task()?;
        task.stream().cloned()
    });
    channel
        .flatten()
        .map(|channel| Py::new(py, StreamWriter::new(channel)))
        .transpose()
}

#[pymethods]
impl StreamWriter {
    /// Puts the items of an iterator as they come, and returns True at its end. Waits while the reader is a window behind,
    /// at most for `limit` seconds at a time: None after that, and the next call goes on. False: no more items are wanted.
    fn put_all(
        &self,
        py: Python<'_>,
        items: &Bound<'_, PyIterator>,
        limit: f64,
    ) -> PyResult<Option<bool>> {
        let waiting = self
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let mut next = match waiting {
            Some(item) => Some(item),
            None => items.clone().next().transpose()?.map(Bound::unbind),
        };
        while let Some(item) = next {
            match self.put(py, Item::Here(item), limit)? {
                StreamPut::Done => {}
                StreamPut::Unwanted => return Ok(Some(false)),
                StreamPut::Full(Item::Here(item)) => {
                    let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                    *waiting = Some(item);
                    return Ok(None);
                }
                StreamPut::Full(Item::Remote(_)) => return Ok(Some(false)),
            }
            next = items.clone().next().transpose()?.map(Bound::unbind);
        }
        Ok(Some(true))
    }

    /// Puts an item without waiting: None where there is no room, and `wake()` is called when it is time to try again.
    fn put_soon(&self, item: Bound<'_, PyAny>, wake: Py<PyAny>) -> Option<bool> {
        match self.channel.put(Item::Here(item.unbind()), || {
            Some(StreamWaker::Callback(wake))
        }) {
            StreamPut::Done => Some(true),
            StreamPut::Unwanted => Some(false),
            StreamPut::Full(_) => None,
        }
    }

    /// Whether no more items are wanted.
    fn is_closed(&self) -> bool {
        self.channel.is_closed()
    }
}

impl StreamWriter {
    fn new(channel: Arc<Channel>) -> Self {
        Self {
            channel,
            waiting: Mutex::new(None),
        }
    }

    /// Waits for room, for `limit` seconds at most.
    fn put(&self, py: Python<'_>, item: Item, limit: f64) -> PyResult<StreamPut<Item>> {
        let mut item = match self.channel.put(item, || None) {
            StreamPut::Full(item) => item,
            put => return Ok(put),
        };
        let own = Parker::of_this_thread()
            .ok_or_else(|| PyRuntimeError::new_err("can't allocate lock"))?;
        let limit = Duration::try_from_secs_f64(limit).unwrap_or_default();
        for wait in [BRIEFLY, limit] {
            let wake = || Some(StreamWaker::Thread(own.clone()));
            item = match self.channel.put(item, wake) {
                StreamPut::Full(item) => item,
                put => return Ok(put),
            };
            py.detach(|| {
                // Without a spare thread it waits in the place that it has.
                if wait == BRIEFLY || pytoweb_engine::lend(|| own.park(Some(wait))).is_err() {
                    own.park(Some(wait));
                }
            });
        }
        Ok(self.channel.put(item, || None))
    }
}
