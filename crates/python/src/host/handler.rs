//! The engine's handler for Python callables.

mod attempts;
mod calling;
mod counting;
mod hooks;
pub(crate) mod pending;
mod settling;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use pyo3::prelude::*;
use pyo3::types::PyList;
use pytoweb_engine::{
    Carrier, Companions, Condition, Course, Failure, Handled, Handler, Outcome, Place, Span, Stuck,
    Ticket, TypeStats, Wake,
};

use crate::host::failure;
use crate::host::message::{Apart, Body, PyMessage};
use crate::host::retrying::Then;
use crate::host::running;
use crate::host::shared::Shared;
use crate::host::stuck;
use crate::host::task::value::Value;
use crate::interpreter::attached::Attached;
use crate::interpreter::context;
use crate::interpreter::ending;

use self::calling::Call;
use self::hooks::is_terminated;
use self::pending::{Batch, tasks_of};
use self::settling::Ended;

/// Why a worker is stuck whose handler the watchdog has seen.
const KEPT_THE_LOCK: &str = "a handler has run on while the interpreter lock could not be had";

/// Takes the messages of one worker to child processes.
pub(crate) type Runner = pytoweb_process::Runner<PyHandler>;

/// Runs Python messages.
#[derive(Clone, Debug)]
pub(crate) struct PyHandler {
    pub(crate) shared: Arc<Attached<Shared>>,
    /// Where messages go that are handled in another process.
    pub(crate) runner: Option<Arc<Runner>>,
}

impl Handler for PyHandler {
    type Message = PyMessage;

    fn handle(&self, message: &mut PyMessage) -> Handled<Self> {
        Python::attach(|py| {
            if matches!(message.body, Body::Apart(Apart::Last)) {
                self.shared.end_worker(py, message);
                return Handled::Done(Outcome::Completed);
            }
            let handled = self.run_one(py, message);
            if let Handled::Done(outcome) = &handled {
                self.shared.count(py, message, *outcome);
            }
            handled
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
            if !self.shared.broken.is_set()
                && let Call::Batch(handler) = self.shared.call(py, message)
            {
                let handled = self.run_batch(py, message, Some(companions), &handler);
                if let Handled::Done(outcome) = &handled {
                    self.shared.count(py, message, *outcome);
                }
                return handled;
            }
            // The type's handler was replaced since they were posted: they run one by one.
            companions.put_back();
            self.handle(message)
        })
    }

    fn name_of(&self, message: &PyMessage) -> Option<String> {
        // Of one for a thread it is a Python object, which the report looks at.
        message.request().map(|request| request.kind.to_string())
    }

    fn stuck(&self, stuck: Stuck) {
        stuck::tell(&self.shared, stuck);
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

    fn ended(&self, message: &PyMessage, outcome: Outcome) {
        self.shared.count_ended(message, outcome);
    }

    fn timed(&self, message: &PyMessage, span: &Span) {
        self.shared.timed(message, span);
    }

    fn course<R>(&self, turn: impl FnOnce(&mut dyn Course<Self>) -> R) -> R {
        let recording = &self.shared.recording;
        let began = recording.is_on().then(Instant::now);
        let mut plain = self;
        let ended = turn(&mut plain);
        if let Some(began) = began {
            recording.turn(&self.shared.name, began);
        }
        ended
    }

    fn condition(&self) -> Condition {
        match (self.shared.broken.lasted(), &self.runner) {
            (Some(lasted), _) => {
                Condition::Fails("the initializer of the pool has failed".to_owned(), lasted)
            }
            (None, Some(runner)) => runner.condition_with(failure::in_words),
            (None, None) => match self.shared.label.held_for() {
                Some(lasted) => Condition::Stuck(KEPT_THE_LOCK.to_owned(), lasted),
                None => Condition::Works,
            },
        }
    }

    fn type_stats(&self) -> BTreeMap<String, TypeStats> {
        let each = self.shared.tallies.stats().into_iter();
        each.map(|(kind, stats)| (kind.into(), stats)).collect()
    }

    fn dead(&self) -> u64 {
        // ORDERING: Relaxed, only the sum matters.
        self.shared.dead.load(Ordering::Relaxed)
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
                        Wake::none()
                    }
                }
                None => Wake::none(),
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

impl PyHandler {
    /// Runs one message, which is not the worker's last.
    #[inline]
    fn run_one(&self, py: Python<'_>, message: &PyMessage) -> Handled<Self> {
        // ORDERING: Relaxed, see `Shared::end_worker`.
        if !self.shared.began.load(Ordering::Relaxed) {
            self.shared.began.store(true, Ordering::Relaxed);
        }
        if self.shared.broken.is_set() {
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
        let result = running::with(py, message, &self.shared, || {
            let _entered = context::enter(py, context)?;
            let alone = self.shared.runs_several;
            let started = self.shared.start_hook.run(py, alone, |coroutine| {
                self.shared.finish_hook(py, &coroutine, context)
            });
            // Of a hook that was cancelled because its worker was terminated there is nothing to tell.
            let mut counts = true;
            let called = match started {
                Ok(()) => call.run(&self.shared.surroundings),
                Err(raised) => {
                    counts = !is_terminated(py, &raised);
                    Err(self.shared.of_start_hook(py, message, raised))
                }
            };
            called.inspect_err(|error| {
                if !counts {
                    return;
                }
                let tried = task.as_ref().filter(|task| !task.slot.state().is_done());
                let retry = tried.and_then(|task| task.retry.as_deref());
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
                        shared.try_again_or_fail(py, suspension, (Place::Turn, wait), error);
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
    }

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
        let result = running::with(py, message, shared, || {
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
        match shared.end_batch(py, address.as_ref(), message, companions, result) {
            Ended::Done(outcome) => Handled::Done(outcome),
            Ended::Again(wait, error) => {
                let shared = shared.clone();
                Handled::Suspend(Box::new(move |suspension| {
                    Python::attach(|py| {
                        shared.try_again_or_fail(py, suspension, (Place::Turn, wait), error)
                    });
                }))
            }
        }
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
