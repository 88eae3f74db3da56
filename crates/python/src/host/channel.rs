//! The channel of a stream, as the two ends of Python have it: see `pytoweb_engine::StreamChannel`.

use std::sync::Arc;

use pyo3::prelude::*;
use pytoweb_engine::{StreamChannel, StreamFound, StreamWake, Unpark};
use pytoweb_process::Parcel;

use crate::interpreter::parker::Parker;

/// One item, as its reader unpacks it.
#[derive(Debug)]
pub(crate) enum Item {
    Here(Py<PyAny>),
    /// As another process sent it.
    Remote(Parcel),
}

impl From<Parcel> for Item {
    fn from(parcel: Parcel) -> Self {
        Self::Remote(parcel)
    }
}

/// What is to be woken.
#[derive(Debug)]
pub(crate) enum StreamWaker {
    Thread(Arc<Parker>),
    /// Called without arguments.
    Callback(Py<PyAny>),
}

impl StreamWake for StreamWaker {
    fn wake(self) {
        match self {
            Self::Thread(parker) => parker.unpark(),
            Self::Callback(function) => Python::attach(|py| {
                if let Err(error) = function.call0(py) {
                    error.write_unraisable(py, None);
                }
            }),
        }
    }
}

pub(crate) type Channel = StreamChannel<Item, StreamWaker>;

pub(crate) type FoundItem = StreamFound<Item>;
