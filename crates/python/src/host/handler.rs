//! The engine's handler for Python callables.
//!
//! Past 600 lines, because a message that goes to the event loop comes back to the code that settles it: two files would
//! import each other.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use pytoweb_engine::{
    Address, Carrier, Companions, Failure, Handled, Handler, Message, Outcome, ReplyState,
    Suspension, Ticket, Wake,
};

use crate::error;
use crate::host::around::Surroundings;
use crate::host::batches::{self, OnceAllStop, Results};
use crate::host::coroutines;
use crate::host::hook::Hook;
use crate::host::message::{Apart, Body, PyMessage};
use crate::host::retrying::Then;
use crate::host::running;
use crate::host::shared::Shared;
use crate::host::task::value::Value;
use crate::host::task::{Head, Task};
use crate::host::telling::is_cancelled_error;
use crate::interpreter::attached::Attached;
use crate::interpreter::context;
use crate::interpreter::ending;

impl Shared {
    /// Runs the coroutine of a start hook on the pool's event loop, and waits for it: another thread of the pool may
    /// run meanwhile.
    fn finish_hook(
        &self,
        py: Python<'_>,
        coroutine: &Bound<'_, PyAny>,
        context: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        coroutines::note();
        let message = running::message(py)?;
        let args = (coroutine, context, message, &self.owner);
        let runtime = self.runtime.bind(py);
        pytoweb_engine::lend(|| runtime.call_method1(intern!(py, "finish_hook"), args))
            .map_err(|error| error::wait(py, error))?
            .map(drop)
    }

    /// What a start hook raised; one that was cancelled because its message was given up raised why that was.
    fn of_start_hook(&self, py: Python<'_>, message: &PyMessage, raised: PyErr) -> PyErr {
        let given_up = message.task.as_ref().and_then(|task| task.slot.get());
        match given_up {
            Some(Err(failure)) if is_cancelled_error(py, &raised) => {
                message.error_of(*failure, self.named())
            }
            _ => raised,
        }
    }

    /// Runs the end hooks, if the worker has run a message and its start hook, and lets go of the handlers.
    fn end_worker(&self, py: Python<'_>, message: &PyMessage) {
        // ORDERING: Relaxed, the messages before are ordered by the mailbox.
        let runs = self.began.load(Ordering::Relaxed) && !self.start_hook.waits();
        let hooks = self.end_hooks.begin();
        if runs {
            running::with(message, self, || {
                for hook in hooks {
                    let ended = context::enter(py, None).and_then(|_entered| {
                        let returned = ending::call(hook.bind(py), &PyTuple::empty(py), None)?;
                        self.await_here(py, &returned)
                    });
                    if let Err(error) = ended
                        && !is_terminated(py, &error)
                    {
                        self.tell_of_end_hook(py, error);
                    }
                }
            });
        }
        self.end_hooks.end();
        self.let_go(py);
    }

    /// Waits for what an end hook returned, where that is a coroutine.
    fn await_here(&self, py: Python<'_>, returned: &Bound<'_, PyAny>) -> PyResult<()> {
        if context::is_coroutine(returned) {
            self.finish_hook(py, returned, None)?;
        }
        Ok(())
    }

    fn tell_of_end_hook(&self, py: Python<'_>, error: PyErr) {
        let told = self.replies.bind(py).call_method1(
            intern!(py, "report_end_hook"),
            (error.into_value(py), self.error_handlers(py)),
        );
        if let Err(error) = told.and_then(|returned| self.await_here(py, &returned)) {
            error.write_unraisable(py, None);
        }
    }

    /// Settles the reply of a message that has run. Returns what it counts as.
    fn settle(
        &self,
        py: Python<'_>,
        message: &PyMessage,
        result: PyResult<Bound<'_, PyAny>>,
    ) -> Outcome {
        let outcome = if result.is_ok() {
            Outcome::Completed
        } else {
            Outcome::Failed
        };
        let Some(task) = &message.task else {
            return outcome;
        };
        let value = match result {
            Ok(value) => Ok(value.unbind()),
            Err(raised) => Err(raised.into_value(py).into_any()),
        };
        if task.settle(Value::Here(value)) {
            return outcome;
        }
        // A deadline or `terminate` was first; no caller gets what the handler made of it.
        if let Some(Err(Failure::Stopped)) = task.slot.get() {
            return Outcome::Failed;
        }
        if outcome == Outcome::Completed {
            // A sender that posted without a future learns it here.
            let error = message.error_of(Failure::Expired, self.named());
            self.report(py, message, &error);
        }
        Outcome::Expired
    }

    fn call<'py>(&self, py: Python<'py>, message: &PyMessage) -> Call<'py> {
        let Body::Local { head, data, .. } = &message.body else {
            return Call::Nobody(PyRuntimeError::new_err(
                "the message is for another process",
            ));
        };
        let (head, data) = (head.bind(py), data.bind(py).clone());
        match message.head_kind() {
            Head::Type => match self.handlers.bind(py).get_item(head) {
                Ok(Some(handler)) if self.kinds.has_batches() => {
                    match batches::list_handler(&handler) {
                        Ok(Some(handler)) => Call::Batch(handler),
                        Ok(None) => Call::Handler(handler, data),
                        Err(error) => Call::Nobody(error),
                    }
                }
                Ok(Some(handler)) => Call::Handler(handler, data),
                Ok(None) => Call::Nobody(error::unknown(self.named(), &head.to_string())),
                Err(error) => Call::Nobody(error),
            },
            kind => {
                let kwargs = message.task.as_ref().and_then(|task| task.kwargs.as_ref());
                let kwargs = kwargs.map(|kwargs| kwargs.bind(py).clone());
                match data.cast_into::<PyTuple>() {
                    Ok(args) => Call::Function {
                        function: head.clone(),
                        args,
                        kwargs,
                        awaits: kind == Head::AsyncFunction,
                    },
                    Err(error) => Call::Nobody(error.into()),
                }
            }
        }
    }
}

/// Whether `error` is how a coroutine ends that was cancelled because the worker of this thread was terminated.
fn is_terminated(py: Python<'_>, error: &PyErr) -> bool {
    pytoweb_engine::current().is_some_and(|worker| worker.is_terminated())
        && is_cancelled_error(py, error)
}

/// What to call for one message, apart from the message, which is elsewhere during the call.
enum Call<'py> {
    Handler(Bound<'py, PyAny>, Bound<'py, PyAny>),
    /// For a list of messages.
    Batch(Bound<'py, PyAny>),
    Function {
        function: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        kwargs: Option<Bound<'py, PyDict>>,
        awaits: bool,
    },
    Nobody(PyErr),
}

impl<'py> Call<'py> {
    fn run(self, surroundings: &Surroundings) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Handler(handler, data) => surroundings.handle(&handler, data),
            Self::Function {
                function,
                args,
                kwargs,
                awaits,
            } => surroundings.call(&function, args, kwargs.as_ref(), awaits),
            Self::Nobody(error) => Err(error),
            Self::Batch(_) => Err(PyRuntimeError::new_err("a batch is called with a list")),
        }
    }

    const fn awaits(&self) -> bool {
        match self {
            Self::Handler(..) | Self::Batch(_) => true,
            Self::Function { awaits, .. } => *awaits,
            Self::Nobody(_) => false,
        }
    }
}

/// Takes the messages of one worker to child processes.
pub(crate) type Runner = pytoweb_process::Runner<PyHandler>;

/// Runs Python messages.
#[derive(Clone, Debug)]
pub(crate) struct PyHandler {
    pub(crate) shared: Arc<Attached<Shared>>,
    /// Where messages go that are handled in another process.
    pub(crate) runner: Option<Arc<Runner>>,
}

impl Shared {
    /// Ends a message with `error` once the coroutine of its error handler is through.
    fn fail_after(coroutine: Py<PyAny>, error: PyErr, suspension: Suspension<PyHandler>) {
        Python::attach(|py| {
            let shared = suspension.handler().shared.clone();
            let address = suspension.address();
            let hook = Hook {
                coroutine,
                message: suspension
                    .message()
                    .and_then(|message| message.view_of_coroutine(py, &address).ok()),
                context: suspension
                    .message()
                    .and_then(PyMessage::context)
                    .map(|context| context.clone_ref(py)),
            };
            let own = shared.clone();
            hook.run(py, &shared, move |py| own.end(py, suspension, Err(error)));
        });
    }

    /// Puts a message back to be tried again, and says so. `Some`: it is not, and is to fail.
    fn try_again(
        &self,
        py: Python<'_>,
        suspension: Suspension<PyHandler>,
        wait: Duration,
        error: &PyErr,
    ) -> Option<Suspension<PyHandler>> {
        let message = suspension.message()?;
        self.tell_of_retry(py, message, wait, error);
        message.goes_on(true);
        let last = suspension.again(wait)?;
        if let Some(message) = last.message() {
            message.goes_on(false);
        }
        Some(last)
    }

    /// Fails a message whose next attempt is not made, with the error of the last one.
    fn fail_for_good(&self, py: Python<'_>, suspension: Suspension<PyHandler>, error: PyErr) {
        let Some(message) = suspension.message() else {
            return;
        };
        let hook = self.tell(py, Some(&suspension.address()), message, &error);
        self.bury_last(py, message);
        match hook {
            None => self.end(py, suspension, Err(error)),
            Some(hook) => {
                let own = suspension.handler().shared.clone();
                hook.run(py, self, move |py| own.end(py, suspension, Err(error)));
            }
        }
    }

    /// Settles the reply of a message that was suspended, and ends it.
    fn end(
        &self,
        py: Python<'_>,
        suspension: Suspension<PyHandler>,
        result: PyResult<Bound<'_, PyAny>>,
    ) {
        if let Some(message) = suspension.message() {
            let outcome = self.settle(py, message, result);
            suspension.finish(outcome);
        }
    }

    /// Ends the messages of a batch, each with its own result, but for the first one, whose outcome it returns.
    fn end_batch<'py>(
        &self,
        py: Python<'py>,
        address: Option<&Address>,
        message: &PyMessage,
        companions: Option<Companions<PyHandler>>,
        returned: PyResult<Bound<'py, PyAny>>,
    ) -> Outcome {
        let results = Results::of(returned);
        if let Some(task) = &message.task {
            task.part();
        }
        let end = |of: &PyMessage, index| {
            self.end_of_batch(py, address, of, companions.as_ref(), results.get(py, index))
        };
        let outcome = end(message, 0);
        let outcomes = companions.as_ref().map(|companions| {
            let messages = companions.messages().zip(1..);
            let ended = messages.map(|(message, index)| end(message, index));
            ended.collect::<Vec<_>>()
        });
        if let Some((companions, outcomes)) = companions.zip(outcomes) {
            companions.finish(&outcomes);
        }
        outcome
    }

    /// Tells of the failure of one message of a batch, and settles its reply. The message does not wait for an error
    /// handler that is a coroutine.
    fn end_of_batch(
        &self,
        py: Python<'_>,
        address: Option<&Address>,
        message: &PyMessage,
        companions: Option<&Companions<PyHandler>>,
        result: PyResult<Bound<'_, PyAny>>,
    ) -> Outcome {
        if let Some(task) = &message.task {
            task.forget_interrupter();
        }
        let Err(error) = &result else {
            return self.settle(py, message, result);
        };
        let is_cancelled = is_cancelled_error(py, error);
        if let Some(task) = &message.task
            && task.is_own_stop_asked()
            && is_cancelled
            && task.fail(false, Failure::Cancelled)
        {
            return Outcome::Cancelled;
        }
        let told = match message.task.as_ref().and_then(|task| task.slot.get()) {
            Some(Err(Failure::Stopped)) => None,
            None if address.is_some_and(Address::is_terminated) && is_cancelled => None,
            Some(Err(given_up)) => Some(message.error_of(*given_up, self.named())),
            _ => Some(error.clone_ref(py)),
        };
        if let Some(error) = told {
            let told = || -> PyResult<()> {
                // On an event loop's thread, where no context may stay entered.
                let context = match message.context() {
                    Some(context) => context.bind(py).clone(),
                    None => context::fresh(py)?,
                };
                let _entered = context::enter_given(&context)?;
                if let Some(hook) = self.tell(py, address, message, &error) {
                    hook.run(py, self, |_| {});
                }
                Ok(())
            };
            let tell = || {
                running::with(message, self, || {
                    told().unwrap_or_else(|error| error.write_unraisable(py, None));
                });
            };
            match companions {
                Some(companions) => companions.with_current(message, tell),
                None => tell(),
            }
        }
        self.settle(py, message, result)
    }

    /// Hands a coroutine to the pool's event loop; the worker goes on when it is done. `batch`: it is the handler of
    /// several messages, or of one in a list.
    fn go_on(
        &self,
        coroutine: &Py<PyAny>,
        suspension: Suspension<PyHandler>,
        batch: Option<Batch>,
    ) {
        coroutines::note();
        Python::attach(|py| {
            let context = suspension.message().and_then(PyMessage::context);
            let context = context.map(|context| context.clone_ref(py));
            let pending = Pending {
                suspension: Mutex::new(Some(suspension)),
                batch: Mutex::new(batch),
            };
            let started = Bound::new(py, pending).and_then(|pending| {
                let runtime = self.runtime.bind(py);
                runtime
                    .call_method1(
                        intern!(py, "run_coroutine"),
                        (coroutine, context, &pending, &self.owner),
                    )
                    .map(drop)
                    .or_else(|error| pending.get().finish(py, Err(error)))
            });
            if let Err(error) = started {
                error.write_unraisable(py, None);
            }
        });
    }
}

impl Handler for PyHandler {
    type Message = PyMessage;

    fn handle(&self, message: &mut PyMessage) -> Handled<Self> {
        Python::attach(|py| {
            if matches!(message.body, Body::Apart(Apart::Last)) {
                self.shared.end_worker(py, message);
                return Handled::Done(Outcome::Completed);
            }
            // ORDERING: Relaxed, see `Shared::end_worker`.
            if !self.shared.began.load(Ordering::Relaxed) {
                self.shared.began.store(true, Ordering::Relaxed);
            }
            if self.shared.broken.load(Ordering::Acquire) {
                let error = self.shared.broken_error(py);
                self.shared.report(py, message, &error);
                return Handled::Done(self.shared.settle(py, message, Err(error)));
            }
            let call = match self.shared.call(py, message) {
                Call::Batch(handler) => return self.run_batch(py, message, None, &handler),
                call => call,
            };
            let awaits = call.awaits();
            let context = message.context().map(|context| context.bind(py));
            let task = message.task.clone().filter(|task| task.retry.is_some());
            let mut then = None;
            // The error handler is part of the call: it finds the message as the current one, and its context.
            let mut hook = None;
            let result = running::with(message, &self.shared, || {
                let _entered = context::enter(py, context)?;
                let alone = self.shared.runs_several;
                let started = self.shared.start_hook.run(py, alone, |coroutine| {
                    self.shared.finish_hook(py, &coroutine, context)
                });
                if let Err(raised) = started {
                    let told = !is_terminated(py, &raised);
                    let error = self.shared.of_start_hook(py, message, raised);
                    if told {
                        hook = self.shared.tell_of_running(py, &error);
                    }
                    return Err(error);
                }
                call.run(&self.shared.surroundings).inspect_err(|error| {
                    let retry = task.as_ref().and_then(|task| task.retry.as_deref());
                    then = retry.map(|retry| retry.failed(py, error, false));
                    if !matches!(then, Some(Then::Again(_))) {
                        hook = self.shared.tell_of_running(py, error);
                    }
                })
            });
            match (then, &result) {
                (Some(Then::Again(wait)), Err(error)) => {
                    let (shared, error) = (self.shared.clone(), error.clone_ref(py));
                    return Handled::Suspend(Box::new(move |suspension| {
                        Python::attach(|py| {
                            if let Some(last) = shared.try_again(py, suspension, wait, &error) {
                                shared.fail_for_good(py, last, error);
                            }
                        });
                    }));
                }
                (Some(Then::DeadLetter(errors)), _) => self.shared.bury(py, message, errors),
                _ => {}
            }
            if let Some(hook) = hook
                && let Err(error) = &result
            {
                let error = error.clone_ref(py);
                return Handled::Suspend(Box::new(move |suspension| {
                    Shared::fail_after(hook, error, suspension);
                }));
            }
            if awaits
                && let Ok(coroutine) = &result
                && context::is_coroutine(coroutine)
            {
                let (shared, coroutine) = (self.shared.clone(), coroutine.clone().unbind());
                return Handled::Suspend(Box::new(move |suspension| {
                    shared.go_on(&coroutine, suspension, None)
                }));
            }
            Handled::Done(self.shared.settle(py, message, result))
        })
    }

    fn handle_together(
        &self,
        message: &mut PyMessage,
        companions: Companions<Self>,
    ) -> Handled<Self> {
        Python::attach(|py| {
            // ORDERING: Relaxed, see `Shared::end_worker`; Acquire as in `handle`.
            self.shared.began.store(true, Ordering::Relaxed);
            if !self.shared.broken.load(Ordering::Acquire)
                && let Call::Batch(handler) = self.shared.call(py, message)
            {
                return self.run_batch(py, message, Some(companions), &handler);
            }
            // The type's handler was replaced since they were posted: they run one by one.
            companions.put_back();
            self.handle(message)
        })
    }

    fn last(&self) -> Option<PyMessage> {
        // In a child the hooks run when it ends, and once the program has ended nothing does.
        (self.runner.is_none() && !ending::is_over()).then(PyMessage::last)
    }

    fn carrier(&self) -> Option<&dyn Carrier<Self>> {
        self.runner
            .as_deref()
            .map(|runner| runner as &dyn Carrier<Self>)
    }

    fn finish(&self, message: PyMessage) -> Wake {
        if let Some(runner) = &self.runner {
            return self.finish_remote(message, runner);
        }
        Python::attach(|py| {
            let wake = match &message.task {
                Some(task) => {
                    let threads = task.is_settled() && task.slot.publish();
                    self.shared.deliver(py, task);
                    if threads {
                        Wake::threads_of(task.clone())
                    } else {
                        Wake::nobody()
                    }
                }
                None => Wake::nobody(),
            };
            if let Some(task) = &message.task {
                task.ended(self.shared.named());
            }
            message.drop_attached(py);
            wake
        })
    }

    fn abandon(&self, message: PyMessage, failure: Failure) {
        if matches!(message.body, Body::Apart(Apart::Last)) {
            // The worker was never started.
            Python::attach(|py| {
                drop(self.shared.end_hooks.begin());
                self.shared.end_hooks.end();
                self.shared.let_go(py);
            });
            return;
        }
        match &self.runner {
            Some(runner) => self.abandon_remote(message, failure, runner),
            None => Python::attach(|py| {
                self.abandon_here(py, &message, failure);
                message.drop_attached(py);
            }),
        }
    }
}

/// The tasks of messages of a batch; each has one, because it has a plan.
fn tasks_of(companions: &Companions<PyHandler>) -> Vec<Arc<Task>> {
    companions
        .messages()
        .filter_map(|message| message.task.clone())
        .collect()
}

impl PyHandler {
    /// Calls a handler with the data of the messages of a batch.
    fn run_batch<'py>(
        &self,
        py: Python<'py>,
        message: &PyMessage,
        companions: Option<Companions<Self>>,
        handler: &Bound<'py, PyAny>,
    ) -> Handled<Self> {
        let shared = &self.shared;
        if let (Some(task), Some(companions)) = (&message.task, &companions) {
            task.join(tasks_of(companions));
        }
        let context = message.context().map(|context| context.bind(py));
        let result = running::with(message, shared, || {
            let _entered = context::enter(py, context)?;
            let started = shared.start_hook.run(py, shared.runs_several, |coroutine| {
                shared.finish_hook(py, &coroutine, context)
            });
            started.map_err(|raised| shared.of_start_hook(py, message, raised))?;
            let others = companions.iter().flat_map(Companions::messages);
            let each = std::iter::once(message).chain(others);
            let data = each.filter_map(PyMessage::local_data).collect::<Vec<_>>();
            let items = PyList::new(py, data)?;
            shared.surroundings.handle(handler, items.into_any())
        });
        if let Ok(coroutine) = &result
            && context::is_coroutine(coroutine)
        {
            let (shared, coroutine) = (shared.clone(), coroutine.clone().unbind());
            return Handled::Suspend(Box::new(move |suspension| {
                shared.go_on(&coroutine, suspension, Some(Batch(companions)));
            }));
        }
        let address = pytoweb_engine::current();
        let outcome = shared.end_batch(py, address.as_ref(), message, companions, result);
        Handled::Done(outcome)
    }

    pub(crate) fn abandon_here(&self, py: Python<'_>, message: &PyMessage, failure: Failure) {
        if failure == Failure::Expired {
            let error = message.error_of(failure, self.shared.named());
            self.shared.report(py, message, &error);
        }
        if failure == Failure::Stopped
            && let Some(error) = message.retry().and_then(|retry| retry.last_error(py))
        {
            // It was to be tried again. The stop makes no more attempts: the last one says why it fails.
            self.shared.report(py, message, &error);
            self.shared.bury_last(py, message);
            if let Some(task) = &message.task {
                task.settle(Value::Here(Err(error.into_value(py).into_any())));
                task.slot.publish();
            }
        }
        if let Some(task) = &message.task {
            task.forget_interrupter();
            task.fail(false, failure);
            self.shared.deliver(py, task);
            task.ended(self.shared.named());
        }
    }
}

/// A message whose coroutine runs on the pool's event loop.
#[pyclass(module = "pytoweb._core", frozen)]
#[derive(Debug)]
pub(crate) struct Pending {
    suspension: Mutex<Option<Suspension<PyHandler>>>,
    batch: Mutex<Option<Batch>>,
}

/// The messages that run with the first one of a batch, if there are any.
#[derive(Debug)]
struct Batch(Option<Companions<PyHandler>>);

impl Pending {
    fn finish(&self, py: Python<'_>, result: PyResult<Bound<'_, PyAny>>) -> PyResult<()> {
        let taken = self
            .suspension
            .lock()
            .map_err(|_| PyRuntimeError::new_err("the message is lost"))?
            .take();
        let Some(suspension) = taken else {
            return Err(PyRuntimeError::new_err("the message is finished already"));
        };
        let shared = suspension.handler().shared.clone();
        let Some(message) = suspension.message() else {
            return Ok(());
        };
        let batch = self
            .batch
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(Batch(companions)) = batch {
            let address = suspension.address();
            let outcome = shared.end_batch(py, Some(&address), message, companions, result);
            suspension.finish(outcome);
            return Ok(());
        }
        if let Some(task) = &message.task {
            task.forget_interrupter();
        }
        let Err(error) = &result else {
            shared.end(py, suspension, result);
            return Ok(());
        };
        if let Some(task) = &message.task
            && task.slot.state().is_cancel_requested()
            && is_cancelled_error(py, error)
            && task.fail(false, Failure::Cancelled)
        {
            // The caller cancelled it, and it let that through: no failure, as in a child.
            suspension.finish(Outcome::Cancelled);
            return Ok(());
        }
        if let Some(retry) = message.retry()
            && !message.state().is_some_and(ReplyState::is_done)
        {
            match retry.failed(py, error, false) {
                Then::Again(wait) => {
                    let error = error.clone_ref(py);
                    if let Some(last) = shared.try_again(py, suspension, wait, &error) {
                        shared.fail_for_good(py, last, error);
                    }
                    return Ok(());
                }
                Then::DeadLetter(errors) => shared.bury(py, message, errors),
            }
        }
        // A coroutine that was given up raises CancelledError; what counts is why.
        let hook = match message.task.as_ref().and_then(|task| task.slot.get()) {
            Some(Err(Failure::Stopped)) => None,
            // The same of a message without a reply.
            None if suspension.address().is_terminated() && is_cancelled_error(py, error) => None,
            Some(Err(given_up)) => {
                let error = message.error_of(*given_up, shared.named());
                shared.tell(py, Some(&suspension.address()), message, &error)
            }
            _ => shared.tell(py, Some(&suspension.address()), message, error),
        };
        match hook {
            None => shared.end(py, suspension, result),
            Some(hook) => {
                let (own, error) = (shared.clone(), error.clone_ref(py));
                hook.run(py, &shared, move |py| own.end(py, suspension, Err(error)));
            }
        }
        Ok(())
    }
}

#[pymethods]
impl Pending {
    /// Ends the message with a result.
    fn completed(&self, py: Python<'_>, result: Bound<'_, PyAny>) -> PyResult<()> {
        self.finish(py, Ok(result))
    }

    /// Ends the message with an exception.
    fn failed(&self, py: Python<'_>, error: Bound<'_, PyAny>) -> PyResult<()> {
        self.finish(py, Err(PyErr::from_value(error)))
    }

    /// The message as `current_message()` shows it.
    fn message(&self, py: Python<'_>) -> PyResult<Option<crate::host::message::WorkerMessage>> {
        let guard = self
            .suspension
            .lock()
            .map_err(|_| PyRuntimeError::new_err("the message is lost"))?;
        let Some(suspension) = guard.as_ref() else {
            return Ok(None);
        };
        suspension
            .message()
            .map(|message| message.view_of_coroutine(py, &suspension.address()))
            .transpose()
    }

    /// Has `interrupter` called when the message is cancelled, expires, or its worker is terminated. False: it has no
    /// future, id or deadline by which it could be told.
    fn on_interrupt(&self, py: Python<'_>, interrupter: Py<PyAny>) -> PyResult<bool> {
        let task = self
            .suspension
            .lock()
            .map_err(|_| PyRuntimeError::new_err("the message is lost"))?
            .as_ref()
            .and_then(Suspension::message)
            .and_then(|message| message.task.clone());
        let Some(task) = task else { return Ok(false) };
        let company = {
            let batch = self.batch.lock().unwrap_or_else(PoisonError::into_inner);
            match batch.as_ref() {
                Some(Batch(Some(companions))) => tasks_of(companions),
                _ => Vec::new(),
            }
        };
        if company.is_empty() {
            task.on_interrupt(interrupter);
            return Ok(true);
        }
        let tasks: Vec<_> = std::iter::once(task).chain(company).collect();
        let once = OnceAllStop {
            tasks: tasks.clone(),
            interrupter,
        };
        let once = Bound::new(py, once)?.into_any();
        for task in tasks {
            task.on_interrupt(once.clone().unbind());
        }
        Ok(true)
    }

    /// Whether the worker was terminated.
    fn is_terminated(&self) -> PyResult<bool> {
        let guard = self
            .suspension
            .lock()
            .map_err(|_| PyRuntimeError::new_err("the message is lost"))?;
        Ok(guard
            .as_ref()
            .is_some_and(|suspension| suspension.address().is_terminated()))
    }
}
