//! What a Python message carries when its sender may come back to it: a reply slot, an id, keyword arguments.
//!
//! A plain post has none of it, and its message stays at four words: messages are moved several times on their way,
//! and the moves are a good part of what one costs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use pytoweb_engine::{Failure, ReplyState, Shared, Slot, Ticket};
use pytoweb_process::{Answer, LaneNote};

use crate::error;
use crate::host::failure;
use crate::host::planning::Planned;
use crate::host::retrying::Retrying;
use crate::host::unread::Unread;
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

/// How long a message may take, for the error that says that it took longer.
#[derive(Debug)]
pub(crate) struct Limit {
    /// The message's type, or the name of the function.
    pub(crate) kind: Box<str>,
    pub(crate) seconds: f64,
}

impl Limit {
    pub(crate) fn new(kind: &Bound<'_, PyString>, limit: Duration) -> Box<Self> {
        Box::new(Self {
            kind: kind.to_string_lossy().into(),
            seconds: limit.as_secs_f64(),
        })
    }
}

/// What the head of a message is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Head {
    /// The type of a message for the handler that is registered for it.
    #[default]
    Type,
    /// A function to call with the data as its arguments.
    Function,
    /// The same; a coroutine that it returns is run, instead of being the result.
    AsyncFunction,
}

impl Head {
    /// A function; `awaits`: a coroutine that it returns is run.
    pub(crate) const fn of(awaits: bool) -> Self {
        if awaits {
            Self::AsyncFunction
        } else {
            Self::Function
        }
    }
}

/// Tasks that run together with one, if there are any: most messages run alone.
type Company = Option<Box<[Arc<Task>]>>;

#[derive(Debug, Default)]
pub(crate) struct Task {
    pub(crate) slot: Slot<Value, Shared>,
    pub(crate) head: Head,
    /// The id of a message whose reply goes to the owner.
    pub(crate) id: Option<Py<PyString>>,
    pub(crate) kwargs: Option<Py<PyDict>>,
    /// Called to interrupt an `async def` handler that runs. It refers to the coroutine, whose context refers to this
    /// message: [`Task::forget_interrupter`] breaks the circle, which the collector cannot see.
    pub(crate) interrupter: Mutex<Option<Py<PyAny>>>,
    /// The lane that a message of a pool of processes was sent to.
    pub(crate) lane: LaneNote,
    /// The handler's result, or that there is none, is in the slot, to be published once it was counted.
    pub(crate) settled: AtomicBool,
    /// The caller got a future for it.
    pub(crate) asked: bool,
    pub(crate) limit: Option<Box<Limit>>,
    /// The bytes of its data, where they count.
    pub(crate) bytes: usize,
    /// Whether it is tried again when it fails.
    pub(crate) retry: Option<Box<Retrying>>,
    /// What it asks of the mailbox.
    pub(crate) plan: Option<Planned>,
    /// While it runs as the first of a batch: the others, which are to be stopped as well before the handler is.
    pub(crate) company: Mutex<Company>,
    pub(crate) unread: Unread,
}

impl Task {
    /// Settles the reply with what the handler made of it. False: a deadline or a stop was first.
    pub(crate) fn settle(&self, value: Value) -> bool {
        self.settle_with(Ok(value))
    }

    /// Settles the reply of a message that was taken and not begun: its deadline has passed. False: another thread was
    /// first.
    pub(crate) fn expire(&self) -> bool {
        self.settle_with(Err(Failure::Expired))
    }

    fn settle_with(&self, reply: Result<Value, Failure>) -> bool {
        let settled = self.slot.settle(reply);
        if settled {
            // ORDERING: Relaxed, read by the same thread, or by one that took the message from it under a lock.
            self.settled.store(true, Ordering::Relaxed);
        }
        settled
    }

    /// Has `interrupter` called when the running handler is asked to stop; here and now if it was asked already.
    pub(crate) fn on_interrupt(&self, interrupter: Py<PyAny>) {
        let before = self.lock_interrupter().replace(interrupter);
        drop(before);
        if self.slot.state().is_cancel_requested() {
            self.interrupt();
        }
    }

    /// Whether the message was asked to stop.
    pub(crate) fn is_own_stop_asked(&self) -> bool {
        self.slot.state().is_cancel_requested()
    }

    /// Whether its handler was: all messages that it runs were asked to stop.
    pub(crate) fn is_stop_asked(&self) -> bool {
        self.is_own_stop_asked()
            && self
                .lock_company()
                .iter()
                .flat_map(|company| company.iter())
                .all(|task| task.is_own_stop_asked())
    }

    /// It runs as the first of a batch with these.
    pub(crate) fn join(&self, company: Vec<Arc<Self>>) {
        *self.lock_company() = Some(company.into());
    }

    /// The batch is over.
    pub(crate) fn part(&self) {
        let company = std::mem::take(&mut *self.lock_company());
        drop(company);
    }

    fn lock_company(&self) -> MutexGuard<'_, Company> {
        self.company.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The handler is through: there is nothing to interrupt any more.
    pub(crate) fn forget_interrupter(&self) {
        let interrupter = self.lock_interrupter().take();
        drop(interrupter);
    }

    fn lock_interrupter(&self) -> MutexGuard<'_, Option<Py<PyAny>>> {
        self.interrupter
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the reply stands and is no result.
    pub(crate) fn has_failed(&self) -> bool {
        match self.slot.get() {
            Some(Ok(value)) => !value.is_result(),
            Some(Err(_)) => true,
            None => false,
        }
    }

    /// Whether what is in the slot is to be published.
    pub(crate) fn is_settled(&self) -> bool {
        // ORDERING: Relaxed, see `settle`.
        self.settled.load(Ordering::Relaxed)
    }
}

impl Ticket for Task {
    fn state(&self) -> &ReplyState {
        self.slot.state()
    }

    fn fail(&self, queued: bool, failure: Failure) -> bool {
        self.slot.fail(queued, failure)
    }

    fn interrupt(&self) {
        // Without the interpreter lock first: most handlers are no coroutines, and the deadline thread is not to wait.
        if self.lock_interrupter().is_none() {
            return;
        }
        Python::attach(|py| {
            let interrupter = self
                .lock_interrupter()
                .as_ref()
                .map(|interrupter| interrupter.clone_ref(py));
            if let Some(interrupter) = interrupter
                && let Err(error) = interrupter.call0(py)
            {
                error.write_unraisable(py, None);
            }
        });
    }
}
