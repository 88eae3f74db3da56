//! A reply: objects of this process, or those that another process has sent.

use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::ThreadId;

use pyo3::prelude::*;
use pytoweb_process::Answer;

use crate::error;
use crate::host::failure;
use crate::pickle::pickling;

/// An object, or the exception in its place.
pub(crate) type Object = Result<Py<PyAny>, Py<PyAny>>;

/// What a handler returned, or the exception it raised.
#[derive(Debug)]
pub(crate) enum Value {
    /// As objects of this process.
    Here(Object),
    /// As another process sent it. Apart, so that a reply that is awaited takes little room.
    Remote(Box<Remote>),
}

impl Value {
    /// The objects; those of another process are made by the first who asks.
    ///
    /// # Errors
    /// What interrupted the calling thread while it made them (Ctrl-C): they can be asked for again.
    pub(crate) fn get(&self, py: Python<'_>) -> PyResult<Result<&Py<PyAny>, &Py<PyAny>>> {
        match self {
            Self::Here(object) => Ok(object.as_ref()),
            Self::Remote(remote) => remote.get(py),
        }
    }

    /// Whether it is what the handler returned; one that cannot be unpickled here counts as such.
    pub(crate) const fn is_result(&self) -> bool {
        match self {
            Self::Here(object) => object.is_ok(),
            Self::Remote(remote) => !remote.failed,
        }
    }

    /// The object, if there is one yet.
    pub(crate) fn peek(&self) -> Option<&Py<PyAny>> {
        match self {
            Self::Here(Ok(object) | Err(object)) => Some(object),
            Self::Remote(remote) => match remote.object.get()? {
                Ok(object) | Err(object) => Some(object),
            },
        }
    }
}

/// A reply of another process, unpickled by the thread that asks for it first.
#[derive(Debug)]
pub(crate) struct Remote {
    failed: bool,
    reading: Mutex<Reading>,
    /// Rung when a thread is through with reading.
    read: Condvar,
    object: OnceLock<Object>,
}

/// How far a reply of another process is read.
#[derive(Debug)]
enum Reading {
    /// Not yet, or the thread that did was interrupted.
    Open(Answer),
    /// This thread unpickles it.
    By(ThreadId),
    /// The object is there.
    Done,
}

impl Remote {
    pub(crate) fn new(failed: bool, answer: Answer) -> Self {
        Self {
            failed,
            reading: Mutex::new(Reading::Open(answer)),
            read: Condvar::new(),
            object: OnceLock::new(),
        }
    }

    /// The object.
    ///
    /// # Errors
    /// What interrupted the unpickling, which is the calling thread's own: the next call begins again.
    pub(crate) fn get(&self, py: Python<'_>) -> PyResult<Result<&Py<PyAny>, &Py<PyAny>>> {
        let this_thread = std::thread::current().id();
        loop {
            if let Some(object) = self.object.get() {
                return Ok(object.as_ref());
            }
            let mut reading = self.lock();
            match &*reading {
                Reading::Open(_) => {
                    let Reading::Open(answer) =
                        std::mem::replace(&mut *reading, Reading::By(this_thread))
                    else {
                        continue;
                    };
                    drop(reading);
                    self.read(py, answer)?;
                }
                Reading::By(thread) if *thread == this_thread => return Err(error::lost_reply()),
                Reading::By(_) => {
                    drop(reading);
                    py.detach(|| self.wait());
                }
                Reading::Done => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Reading> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self) {
        let mut reading = self.lock();
        while matches!(*reading, Reading::By(_)) {
            reading = self
                .read
                .wait(reading)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn read(&self, py: Python<'_>, answer: Answer) -> PyResult<()> {
        let object = match self.unpack(py, &answer) {
            Err(raised) if error::is_interrupt(py, &raised) => {
                *self.lock() = Reading::Open(answer);
                self.read.notify_all();
                return Err(raised);
            }
            Ok(object) => object,
            Err(raised) => Err(error::unreadable_reply(py, raised)),
        };
        // Only the thread that reads sets it.
        let _ = self.object.set(object);
        *self.lock() = Reading::Done;
        self.read.notify_all();
        Ok(())
    }

    fn unpack(&self, py: Python<'_>, answer: &Answer) -> PyResult<Object> {
        let parcel = answer.parcel.as_ref();
        if self.failed {
            return Ok(Err(failure::remote(py, &answer.note, parcel)));
        }
        let object = match parcel {
            Some(parcel) => pickling::unpack(py, parcel)?.unbind(),
            None => py.None(),
        };
        Ok(Ok(object))
    }
}
