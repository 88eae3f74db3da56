//! What a Python message carries when its sender may come back to it, or asks more of the mailbox: a reply slot, a plan, an
//! id, keyword arguments.
//!
//! A plain post has none of it, and its message stays at four words: messages are moved several times on their way,
//! and the moves are a good part of what one costs. A task is kept small for the like reason: a mailbox may hold thousands,
//! and each line of memory that goes from the sender's core to the handler's costs as much as a hundred instructions. So what
//! few messages have is apart, in [`Extras`] from the sender and in [`Beside`] from the handler.

mod unread;
pub(crate) mod value;

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use pytoweb_engine::{Failure, ReplyState, Shared, Slot, StreamProgress, Ticket};
use pytoweb_process::LaneNote;

use crate::error::NamedOwner;
use crate::host::channel::Channel;
use crate::host::failure::{self, Limit};
use crate::host::planning::Planned;
use crate::host::progress::ReportMeter;
use crate::host::retrying::Retrying;

use self::unread::{UnreadFailure, UnreadNote};
use self::value::Value;

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
    /// The lane that a message of a pool of processes was sent to.
    pub(crate) lane: LaneNote,
    /// The handler's result, or that there is none, is in the slot, to be published once it was counted.
    pub(crate) settled: AtomicBool,
    /// The caller got a future for it.
    pub(crate) asked: bool,
    pub(crate) limit: Option<Box<Limit>>,
    /// What it asks of the mailbox.
    pub(crate) plan: Option<Planned>,
    pub(crate) unread: UnreadNote,
    pub(crate) extras: Option<Box<Extras>>,
    pub(crate) beside: OnceLock<Box<Beside>>,
}

// As the header says; with the two counts of an `Arc` a little below two lines of memory.
const _: () = assert!(size_of::<Task>() <= 104);

/// What few senders ask for.
#[derive(Debug, Default)]
pub(crate) struct Extras {
    /// The id of a message, whose reply goes to the owner.
    pub(crate) id: Option<Py<PyString>>,
    /// The id is for logs and `explain` alone: the owner wants no reply.
    pub(crate) silent: bool,
    pub(crate) kwargs: Option<Py<PyDict>>,
    /// The bytes of its data, where they count.
    pub(crate) bytes: usize,
    /// Whether it is tried again when it fails.
    pub(crate) retry: Option<Box<Retrying>>,
    /// How it ends is known to `explain`: see `ends.rs`.
    pub(crate) noted: AtomicBool,
}

impl Extras {
    /// `None`: there are none.
    pub(crate) fn boxed(self) -> Option<Box<Self>> {
        let Self {
            id,
            silent: _,
            kwargs,
            bytes,
            retry,
            noted: _,
        } = &self;
        let none = id.is_none() && kwargs.is_none() && *bytes == 0 && retry.is_none();
        (!none).then(|| Box::new(self))
    }
}

/// What lies beside the task of a message that streams, that runs as a coroutine or in a batch, whose handler says how far it
/// is, or whose failure is left to its future.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    /// Where its handler puts items, if it is to stream.
    stream: Option<Arc<Channel>>,
    pub(crate) meter: ReportMeter,
    /// Called to interrupt an `async def` handler that runs. It refers to the coroutine, whose context refers to this
    /// message: [`Task::forget_interrupter`] breaks the circle, which the collector cannot see.
    interrupter: Mutex<Option<Py<PyAny>>>,
    /// When its coroutine began.
    awaits_since: OnceLock<Instant>,
    /// While it runs as the first of a batch: the others, which are to be stopped as well before the handler is.
    company: Mutex<Company>,
    failure: OnceLock<UnreadFailure>,
}

impl Beside {
    /// That of a message that streams into `channel`.
    pub(crate) fn of_stream(channel: Arc<Channel>) -> Self {
        Self {
            stream: Some(channel),
            ..Self::default()
        }
    }

    fn lock_company(&self) -> MutexGuard<'_, Company> {
        self.company.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_interrupter(&self) -> MutexGuard<'_, Option<Py<PyAny>>> {
        self.interrupter
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
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
        self.beside().awaits_since.get_or_init(Instant::now);
        let before = self.beside().lock_interrupter().replace(interrupter);
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
            && self.beside.get().is_none_or(|beside| {
                let company = beside.lock_company();
                let mut company = company.iter().flat_map(|company| company.iter());
                company.all(|task| task.is_own_stop_asked())
            })
    }

    /// It runs as the first of a batch with these.
    pub(crate) fn join(&self, company: Vec<Arc<Self>>) {
        *self.beside().lock_company() = Some(company.into());
    }

    /// The batch is over.
    pub(crate) fn part(&self) {
        if let Some(beside) = self.beside.get() {
            let company = std::mem::take(&mut *beside.lock_company());
            drop(company);
        }
    }

    /// For how long its coroutine has run, where it is one.
    pub(crate) fn awaited_for(&self) -> Option<Duration> {
        Some(self.beside.get()?.awaits_since.get()?.elapsed())
    }

    /// The handler is through: there is nothing to interrupt any more.
    pub(crate) fn forget_interrupter(&self) {
        if let Some(beside) = self.beside.get() {
            let interrupter = beside.lock_interrupter().take();
            drop(interrupter);
        }
    }

    /// The id of a message whose reply goes to the owner.
    pub(crate) fn id(&self) -> Option<&Py<PyString>> {
        self.extras.as_ref()?.id.as_ref()
    }

    pub(crate) fn kwargs(&self) -> Option<&Py<PyDict>> {
        self.extras.as_ref()?.kwargs.as_ref()
    }

    /// The bytes of its data, where they count.
    pub(crate) fn bytes(&self) -> usize {
        self.extras.as_ref().map_or(0, |extras| extras.bytes)
    }

    /// Whether it is tried again when it fails.
    pub(crate) fn retry(&self) -> Option<&Retrying> {
        self.extras.as_ref()?.retry.as_deref()
    }

    /// What lies beside it, made if it is not there.
    pub(crate) fn beside(&self) -> &Beside {
        self.beside.get_or_init(Box::default)
    }

    /// Where its handler puts items, if it is to stream.
    pub(crate) fn stream(&self) -> Option<&Arc<Channel>> {
        self.beside.get()?.stream.as_ref()
    }

    /// Why it was not handled by `to`, as what Python raises.
    pub(crate) fn error_of(&self, failure: Failure, to: NamedOwner<'_>) -> PyErr {
        let asked_to_stop = self.is_own_stop_asked();
        failure::failure(failure, to, self.limit.as_deref(), asked_to_stop)
    }

    /// Whether the reply goes to the owner.
    pub(crate) fn is_answered(&self) -> bool {
        self.id().is_some() && !self.is_silent()
    }

    /// Whether the id, if it has one, is for logs and `explain` alone.
    pub(crate) fn is_silent(&self) -> bool {
        self.extras.as_ref().is_some_and(|extras| extras.silent)
    }

    /// Whether its end is not noted yet; from now on it is.
    pub(crate) fn is_noted_first(&self) -> bool {
        // ORDERING: Relaxed, one thread at a time ends a message, and the locks of the ends order the rest.
        self.extras
            .as_ref()
            .is_some_and(|extras| !extras.noted.swap(true, Ordering::Relaxed))
    }

    /// Whether no code learns of it where it fails without having been begun: it has no reply and no future, or that was
    /// dropped; and no attempt of it has failed.
    pub(crate) fn is_untold(&self) -> bool {
        let has_future = self.asked && !self.unread.is_dropped();
        let was_tried = self.retry().is_some_and(|retry| retry.made() > 0);
        !has_future && !self.is_answered() && !was_tried
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
    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn state(&self) -> &ReplyState {
        self.slot.state()
    }

    fn fail(&self, queued: bool, failure: Failure) -> bool {
        self.slot.fail(queued, failure)
    }

    fn progress(&self) -> Option<StreamProgress> {
        Some(self.stream()?.progress())
    }

    fn interrupt(&self) {
        if let Some(stream) = self.stream() {
            stream.give_up();
        }
        // Made where there is none: of this and the thread that leaves an interrupter, one has the lock second, and finds what
        // the other has said. Without the interpreter lock first: most handlers are no coroutines, and the deadline thread is
        // not to wait.
        let beside = self.beside();
        if beside.lock_interrupter().is_none() {
            return;
        }
        Python::attach(|py| {
            let interrupter = beside
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
