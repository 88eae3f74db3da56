//! The end of a stream that its handler has, on a thread of the host.

use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::host::running;
use crate::interpreter::parker::Parker;

use crate::host::channel::{Channel, Item, Wake};

/// A wait that is over within this time has no other thread take the place of this one.
const BRIEFLY: Duration = Duration::from_micros(200);

/// Where a handler puts the items of its stream.
#[pyclass(module = "pytoweb._core", frozen)]
#[derive(Debug)]
pub(crate) struct StreamWriter(Arc<Channel>);

/// That of the message whose handler runs on this thread of the host, if it is to stream.
pub(crate) fn running(py: Python<'_>) -> PyResult<Option<Py<StreamWriter>>> {
    let channel = running::look(|message, _| {
        let task = message.task.as_ref()?;
        task.stream().cloned()
    });
    channel
        .flatten()
        .map(|channel| Py::new(py, StreamWriter(channel)))
        .transpose()
}

#[pymethods]
impl StreamWriter {
    /// Puts an item. Waits while the reader is a window behind, at most for `limit` seconds: None after that. False: no
    /// more items are wanted.
    fn put(&self, py: Python<'_>, item: &Bound<'_, PyAny>, limit: f64) -> PyResult<Option<bool>> {
        let own = Parker::of_this_thread()
            .ok_or_else(|| PyRuntimeError::new_err("can't allocate lock"))?;
        let limit = Duration::try_from_secs_f64(limit).unwrap_or_default();
        for wait in [BRIEFLY, limit] {
            match self.0.room(|| Some(Wake::Thread(own.clone()))) {
                None => return Ok(Some(false)),
                Some(true) => {
                    self.0.push(Item::Here(item.clone().unbind()));
                    return Ok(Some(true));
                }
                Some(false) => {}
            }
            py.detach(|| {
                if wait == BRIEFLY {
                    own.park(Some(wait));
                } else {
                    // Without a spare thread it waits in the place that it has.
                    let lent = pytoweb_engine::lend(|| own.park(Some(wait)));
                    if lent.is_err() {
                        own.park(Some(wait));
                    }
                }
            });
        }
        match self.0.room(|| None) {
            None => Ok(Some(false)),
            Some(true) => {
                self.0.push(Item::Here(item.clone().unbind()));
                Ok(Some(true))
            }
            Some(false) => Ok(None),
        }
    }

    /// The same without waiting: None where there is no room, and `wake()` is called when it is time to try again.
    fn put_soon(&self, item: Bound<'_, PyAny>, wake: Py<PyAny>) -> Option<bool> {
        match self.0.room(|| Some(Wake::Call(wake))) {
            None => Some(false),
            Some(true) => {
                self.0.push(Item::Here(item.unbind()));
                Some(true)
            }
            Some(false) => None,
        }
    }

    /// Whether no more items are wanted.
    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}
