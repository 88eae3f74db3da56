//! Awaiting a future: completions brought to an event loop in batches.
//!
//! `await future` (and `gather`, of many) iterates over a [`Waiter`], which is to the awaiting task what an asyncio
//! future is: an object with `_asyncio_future_blocking`, as asyncio's own tasks expect of a "future-compatible object".
//! A real one would have the loop make a handle for each completion, which costs more than everything here together.
//! Instead the [`Completions`] of a loop wake all tasks whose replies came, one after the other, from one handle.
//!
//! Waking the loop itself costs microseconds, so one wake-up serves all replies that came since the last. It is a
//! byte into a socket that the loop reads, written without letting go of the interpreter lock: with
//! `call_soon_threadsafe`, which lets go, the loop wakes for the first reply of a batch and runs while the worker,
//! which has the others ready in a moment, waits for its turn.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyNotImplementedError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyType;
use pyo3::{PyTraverseError, PyVisit, intern};

use crate::host::doorbell::Doorbell;
use crate::host::edges::WaitEdge;
use crate::interpreter::context;

use super::FutureBase;
use super::gathering::Gathered;
use super::outcome;

#[derive(Debug, Default)]
struct ReadyWaiters {
    /// Waiters whose reply stands.
    ready: VecDeque<Py<Waiter>>,
    /// The loop was told to drain.
    scheduled: bool,
}

/// The replies on their way to one event loop.
#[pyclass(module = "pytoweb._core", frozen, weakref)]
#[derive(Debug)]
pub(crate) struct Completions {
    queue: Mutex<ReadyWaiters>,
    event_loop: Py<PyAny>,
    /// `None` where the loop takes no readers.
    doorbell: Option<Doorbell>,
    /// A future of the loop that is done, and the class of its tasks: see `Waiter::wake`.
    done: Py<PyAny>,
    task_class: Py<PyType>,
}

impl Completions {
    /// Nothing of Python runs while the lock is held.
    fn queue(&self) -> MutexGuard<'_, ReadyWaiters> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the task of `waiter` woken on the loop.
    fn push(slf: &Bound<'_, Self>, waiter: Py<Waiter>) {
        let wake = {
            let mut queue = slf.get().queue();
            queue.ready.push_back(waiter);
            !std::mem::replace(&mut queue.scheduled, true)
        };
        if wake {
            Self::schedule(slf);
        }
    }

    fn schedule(slf: &Bound<'_, Self>) {
        let py = slf.py();
        if let Some(doorbell) = &slf.get().doorbell {
            doorbell.ring();
            return;
        }
        let woken = slf.getattr(intern!(py, "_drain")).and_then(|drain| {
            slf.get()
                .event_loop
                .bind(py)
                .call_method1(intern!(py, "call_soon_threadsafe"), (drain,))
        });
        if woken.is_err() {
            // The loop is closed: no coroutine waits there any more.
            let lost = std::mem::take(&mut *slf.get().queue());
            drop(lost);
        }
    }

    /// Completions for `event_loop`, which keeps them alive as its reader.
    pub(super) fn new<'py>(event_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
        let py = event_loop.py();
        let done = event_loop.call_method0(intern!(py, "create_future"))?;
        done.call_method1(intern!(py, "set_result"), (py.None(),))?;
        let task_class = py
            .import(intern!(py, "asyncio"))?
            .getattr(intern!(py, "Task"))?
            .cast_into::<PyType>()?;
        let make = |doorbell| {
            let completions = Self {
                queue: Mutex::default(),
                event_loop: event_loop.clone().unbind(),
                doorbell,
                done: done.clone().unbind(),
                task_class: task_class.clone().unbind(),
            };
            Bound::new(py, completions)
        };
        if let Some((doorbell, number)) = Doorbell::new() {
            let made = make(Some(doorbell))?;
            let drain = made.getattr(intern!(py, "_drain"))?;
            match event_loop.call_method1(intern!(py, "add_reader"), (number, drain)) {
                Ok(_) => return Ok(made),
                Err(error) if error.is_instance_of::<PyNotImplementedError>(py) => {}
                Err(error) => return Err(error),
            }
        }
        make(None)
    }
}

#[pymethods]
impl Completions {
    /// Wakes the tasks whose replies are here. Called by the loop.
    fn _drain(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        if let Some(doorbell) = &slf.get().doorbell {
            doorbell.hush();
        }
        let mut ready = std::mem::take(&mut *slf.get().queue()).ready;
        while let Some(waiter) = ready.pop_front() {
            if let Err(error) = waiter.get().wake(waiter.bind(py)) {
                // KeyboardInterrupt and SystemExit end the loop; the others are woken if it goes on.
                let mut queue = slf.get().queue();
                ready.append(&mut queue.ready);
                queue.ready = ready;
                queue.scheduled = true;
                drop(queue);
                Self::schedule(slf);
                return Err(error);
            }
        }
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(queue) = self.queue.try_lock() {
            for waiter in &queue.ready {
                visit.call(waiter)?;
            }
        }
        visit.call(&self.done)?;
        visit.call(&self.task_class)?;
        visit.call(&self.event_loop)
    }

    /// Lets go of the rest, once the loop is closed and drains no more.
    fn __clear__(&self) {
        let lost = std::mem::take(&mut *self.queue());
        drop(lost);
    }
}

#[derive(Debug, Default)]
struct Wait {
    /// `_asyncio_future_blocking`: set by the iteration, cleared by the task that understood it.
    blocking: bool,
    /// The task's wake-up, and the context to call it in.
    wakeup: Option<(Py<PyAny>, Option<Py<PyAny>>)>,
    cancelled: bool,
    /// What the task was cancelled with: scopes of anyio tell their own cancellations by it.
    cancel_message: Option<Py<PyAny>>,
}

/// The replies of one wait.
#[derive(Debug)]
pub(super) enum Awaited {
    One(Py<FutureBase>),
    All(Gathered),
}

/// What one task waits on.
#[pyclass(module = "pytoweb._core", frozen)]
#[derive(Debug)]
pub(crate) struct Waiter {
    awaited: Awaited,
    completions: Py<Completions>,
    /// A task asks for this where there is no `get_loop`, and is answered without a call.
    #[pyo3(get, name = "_loop")]
    event_loop: Py<PyAny>,
    wait: Mutex<Wait>,
    /// Held for the time of the wait: it tells other workers that this one cannot answer before the reply is here.
    _edge: Option<WaitEdge>,
}

impl Waiter {
    /// A waiter for a task of this loop.
    pub(super) fn on<'py>(
        (event_loop, completions): (Bound<'py, PyAny>, Bound<'py, Completions>),
        awaited: Awaited,
        edge: Option<WaitEdge>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = event_loop.py();
        let waiter = Self {
            awaited,
            completions: completions.unbind(),
            event_loop: event_loop.unbind(),
            wait: Mutex::default(),
            _edge: edge,
        };
        Ok(Bound::new(py, waiter)?.into_any())
    }

    /// Nothing of Python runs while the lock is held.
    fn wait(&self) -> MutexGuard<'_, Wait> {
        self.wait.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the task, on its loop.
    fn wake(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let wakeup = self.wait().wakeup.take();
        let Some((wakeup, context)) = wakeup else {
            return Ok(());
        };
        let py = slf.py();
        let context = context.map(|context| context.into_bound(py));
        let _entered = context.as_ref().map(context::enter_given).transpose()?;
        let completions = self.completions.get();
        // A task asks the future that wakes it for its result, in the slowest way that there is, and throws that away:
        // the iteration gives it. A future of asyncio's own is not asked.
        if context::is_native_method_of(wakeup.bind(py), completions.task_class.bind(py)) {
            wakeup.call1(py, (&completions.done,)).map(drop)
        } else {
            wakeup.call1(py, (slf,)).map(drop)
        }
    }

    fn is_done(&self) -> PyResult<bool> {
        if self.wait().cancelled {
            return Ok(true);
        }
        match &self.awaited {
            Awaited::One(future) => future.get().done(),
            Awaited::All(gathered) => gathered.is_done(),
        }
    }

    fn value(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        {
            let wait = self.wait();
            if wait.cancelled {
                let message = wait.cancel_message.as_ref();
                let message = message.map(|message| message.clone_ref(py));
                drop(wait);
                return Err(outcome::cancelled_error(py, message));
            }
        }
        match &self.awaited {
            Awaited::One(future) => outcome::of(py, future),
            Awaited::All(gathered) => gathered.value(py),
        }
    }
}

#[pymethods]
impl Waiter {
    const fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    const fn __await__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    /// First the waiter itself, for the task to wait on; then the end of the iteration, with the reply.
    fn __next__(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        let py = slf.py();
        if slf.get().is_done()? {
            let value = slf.get().value(py)?;
            return context::end_iteration(value.into_bound(py));
        }
        if std::mem::replace(&mut slf.get().wait().blocking, true) {
            return Err(PyRuntimeError::new_err("await wasn't used with future"));
        }
        Ok(Some(slf.clone().into_any().unbind()))
    }

    #[getter(_asyncio_future_blocking)]
    fn blocking(&self) -> bool {
        self.wait().blocking
    }

    #[setter(_asyncio_future_blocking)]
    fn set_blocking(&self, blocking: bool) {
        self.wait().blocking = blocking;
    }

    #[pyo3(signature = (r#fn, *, context=None))]
    fn add_done_callback(
        slf: &Bound<'_, Self>,
        r#fn: Py<PyAny>,
        context: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let before = this.wait().wakeup.replace((r#fn, context));
        drop(before);
        if this.is_done()? {
            Completions::push(this.completions.bind(py), slf.clone().unbind());
            return Ok(());
        }
        let completions = this.completions.clone_ref(py);
        let waiter = slf.clone().unbind();
        match &this.awaited {
            Awaited::One(future) => future.get().on_done(move || {
                Python::attach(|py| Completions::push(completions.bind(py), waiter));
            }),
            Awaited::All(gathered) => gathered.watch(move || {
                Python::attach(|py| Completions::push(completions.bind(py), waiter.clone_ref(py)));
            }),
        }
    }

    fn remove_done_callback(&self, r#fn: &Bound<'_, PyAny>) -> PyResult<usize> {
        let known = self
            .wait()
            .wakeup
            .as_ref()
            .map(|(wakeup, _)| wakeup.clone_ref(r#fn.py()));
        let Some(known) = known else { return Ok(0) };
        if !known.bind(r#fn.py()).eq(r#fn)? {
            return Ok(0);
        }
        let removed = self.wait().wakeup.take();
        Ok(usize::from(removed.is_some()))
    }

    /// Ends the wait, and cancels the message.
    #[pyo3(signature = (msg=None))]
    fn cancel(slf: &Bound<'_, Self>, msg: Option<Py<PyAny>>) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        if this.is_done()? {
            return Ok(false);
        }
        {
            let mut wait = this.wait();
            wait.cancelled = true;
            wait.cancel_message = msg;
        }
        match &this.awaited {
            Awaited::One(future) => future.get().cancel().map(drop)?,
            Awaited::All(gathered) => gathered.cancel()?,
        }
        Completions::push(this.completions.bind(py), slf.clone().unbind());
        Ok(true)
    }

    fn done(&self) -> PyResult<bool> {
        self.is_done()
    }

    fn cancelled(&self) -> PyResult<bool> {
        Ok(self.wait().cancelled
            || match &self.awaited {
                Awaited::One(future) => future.get().is_cancelled()?,
                Awaited::All(_) => false,
            })
    }

    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.value(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match &self.awaited {
            Awaited::One(future) => visit.call(future)?,
            Awaited::All(gathered) => gathered.traverse(&visit)?,
        }
        visit.call(&self.completions)?;
        visit.call(&self.event_loop)?;
        if let Ok(wait) = self.wait.try_lock() {
            if let Some((wakeup, context)) = &wait.wakeup {
                visit.call(wakeup)?;
                visit.call(context)?;
            }
            visit.call(&wait.cancel_message)?;
        }
        Ok(())
    }
}
