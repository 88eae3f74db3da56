//! The engine's handler for Python callables.

mod attempts;
mod calling;
mod counting;
mod hooks;
pub(crate) mod pending;
mod plainly;
mod settling;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyList;
use pytoweb_engine::{
    Carrier, Companions, Condition, Course, Failure, Handled, Handler, Outcome, RunPlace, Span,
    Stuck, Tally, Ticket, TypeStats, Wake,
};

use crate::host::failure;
use crate::host::message::{Apart, Body, PyMessage};
use crate::host::retrying::Then;
use crate::host::running;
use crate::host::stuck;
use crate::host::task::Head;
use crate::host::task::value::Value;
use crate::host::worker_shared::WorkerShared;
use crate::interpreter::attached::Attached;
use crate::interpreter::context::{self, Empty};
use crate::interpreter::ending;
use crate::interpreter::marks::{self, Mark};

use self::calling::HandlerCall;
use self::hooks::is_terminated;
use self::pending::{RestOfBatch, tasks_of};
use self::settling::BatchEnd;

/// Why a worker is stuck whose handler the watchdog has seen.
const KEPT_THE_LOCK: &str = "a handler has run on while the interpreter lock could not be had";

/// Takes the messages of one worker to child processes.
pub(crate) type Runner = pytoweb_process::Runner<PyHandler>;

/// Runs Python messages.
#[derive(Clone, Debug)]
pub(crate) struct PyHandler {
    pub(crate) shared: Arc<Attached<WorkerShared>>,
    /// Where messages go that are handled in another process.
    pub(crate) runner: Option<Arc<Runner>>,
}

impl Handler for PyHandler {
    type Message = PyMessage;

    fn handle(&self, message: &mut PyMessage) -> Handled<Self> {
        self.serve(|serving| serving.handle(message))
    }

    fn handle_together(
        &self,
        message: &mut PyMessage,
        companions: Companions<Self>,
    ) -> Handled<Self> {
        self.serve(|serving| serving.handle_together(message, companions))
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
        let ended = self.serve(|serving| turn(serving));
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

    fn keeps_times(&self) -> bool {
        true
    }

    fn tallies(&self, see: &mut dyn FnMut(&Tally)) {
        self.shared.tallies.each(see);
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
        match &self.runner {
            Some(runner) => self.finish_remote(message, runner),
            None => Python::attach(|py| self.finish_here(py, message)),
        }
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
        self.shared.note_failure(&message, failure);
        match &self.runner {
            Some(runner) => self.abandon_remote(message, failure, runner),
            None => Python::attach(|py| {
                self.abandon_here(py, &message, failure);
                message.drop_attached(py);
            }),
        }
    }
}

/// A thread that handles messages, with the interpreter lock and with the state of its own, which is looked up once for
/// all of a turn.
struct Serving<'a> {
    handler: &'a PyHandler,
    py: Python<'a>,
    mark: &'a Mark,
    empty: &'a Empty,
    /// The last type that was counted, by its address, and its tally.
    counted: Option<(*mut ffi::PyObject, &'a Tally)>,
    /// The last function that was counted, of the messages that call one, with the tally of its name. Kept until the turn rests,
    /// so that its address is no other's.
    called: Option<(Py<PyAny>, Arc<Tally>)>,
}

impl<'a> Serving<'a> {
    /// Counts a message that ended here.
    #[inline]
    fn count(&mut self, message: &PyMessage, outcome: Outcome) {
        if cfg!(pytoweb_without_numbers) {
            return;
        }
        let shared: &'a WorkerShared = &self.handler.shared;
        let Body::Local { head, .. } = &message.body else {
            return shared.count(self.py, message, outcome);
        };
        if let Some((known, tally)) = self.counted
            && known == head.as_ptr()
        {
            return shared.count_with(tally, outcome);
        }
        if message.head_kind() != Head::Type {
            return self.count_call(message, outcome);
        }
        shared.count(self.py, message, outcome);
        // The tallies keep the string of a type that they have at hand, so its address is no other's.
        self.counted = shared
            .tally_at_hand(message)
            .map(|tally| (head.as_ptr(), tally));
    }

    /// The same for a message that calls a function.
    fn count_call(&mut self, message: &PyMessage, outcome: Outcome) {
        let shared = &self.handler.shared;
        let Body::Local { head, .. } = &message.body else {
            return;
        };
        if let Some((known, tally)) = &self.called
            && known.as_ptr() == head.as_ptr()
        {
            return shared.count_with(tally, outcome);
        }
        let old = self.called.take();
        match shared.tally_of_call(self.py, head) {
            Some(tally) => {
                shared.count_with(&tally, outcome);
                self.called = Some((head.clone_ref(self.py), tally));
            }
            None => shared.count(self.py, message, outcome),
        }
        // It may be the last reference to a function.
        drop(old);
    }
}

impl Course<PyHandler> for Serving<'_> {
    fn handle(&mut self, message: &mut PyMessage) -> Handled<PyHandler> {
        let (py, shared) = (self.py, &self.handler.shared);
        if matches!(message.body, Body::Apart(Apart::Last)) {
            shared.end_worker(py, message);
            return Handled::Done(Outcome::Completed);
        }
        let handled = match self.run_plainly(message) {
            Some(handled) => handled,
            None => self.run_one(message),
        };
        if let Handled::Done(outcome) = &handled {
            self.count(message, *outcome);
        }
        handled
    }

    fn handle_together(
        &mut self,
        message: &mut PyMessage,
        companions: Companions<PyHandler>,
    ) -> Handled<PyHandler> {
        let (py, shared) = (self.py, &self.handler.shared);
        // ORDERING: Relaxed, see `WorkerShared::end_worker`; Acquire as in `handle`.
        shared.began.store(true, Ordering::Relaxed);
        if !shared.broken.is_set()
            && let HandlerCall::Batch(handler) = shared.call(py, message)
        {
            let handled = self.run_batch(message, Some(companions), &handler);
            if let Handled::Done(outcome) = &handled {
                shared.count(py, message, *outcome);
            }
            return handled;
        }
        // The type's handler was replaced since they were posted: they run one by one.
        companions.put_back();
        self.handle(message)
    }

    fn finish(&mut self, message: PyMessage) -> Wake {
        match &self.handler.runner {
            Some(runner) => self.handler.finish_remote(message, runner),
            None => self.handler.finish_here(self.py, message),
        }
    }

    fn rest(&mut self) {
        drop(self.called.take());
    }
}

impl PyHandler {
    /// Has `work` done by the calling thread.
    fn serve<R>(&self, work: impl FnOnce(&mut Serving<'_>) -> R) -> R {
        Python::attach(|py| {
            marks::own(|mark| {
                context::with_empty(|empty| {
                    work(&mut Serving {
                        handler: self,
                        py,
                        mark,
                        empty,
                        counted: None,
                        called: None,
                    })
                })
            })
        })
    }

    /// Publishes the reply of a message that was handled in this process.
    #[inline]
    fn finish_here(&self, py: Python<'_>, message: PyMessage) -> Wake {
        let Some(task) = message.task() else {
            message.drop_attached(py);
            return Wake::none();
        };
        let threads = task.is_settled() && task.slot.publish();
        self.shared.deliver(py, task);
        let wake = if threads {
            Wake::threads_of(task.clone())
        } else {
            Wake::none()
        };
        task.ended(self.shared.named());
        message.drop_attached(py);
        wake
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
            if let Some(task) = message.task() {
                task.settle(Value::Here(Err(error.into_value(py).into_any())));
                task.slot.publish();
            }
        }
        if let Some(task) = message.task() {
            task.forget_interrupter();
            task.fail(false, failure);
            self.shared.deliver(py, task);
            task.ended(self.shared.named());
        }
    }
}

impl Serving<'_> {
    /// Runs one message, which is not the worker's last.
    #[inline(never)]
    fn run_one(&self, message: &PyMessage) -> Handled<PyHandler> {
        let (py, shared) = (self.py, &self.handler.shared);
        // ORDERING: Relaxed, see `WorkerShared::end_worker`.
        if !shared.began.load(Ordering::Relaxed) {
            shared.began.store(true, Ordering::Relaxed);
        }
        if shared.broken.is_set() {
            let error = shared.broken_error(py);
            shared.report(py, message, &error);
            return Handled::Done(shared.settle(py, message, Err(error)));
        }
        let call = match shared.call(py, message) {
            HandlerCall::Batch(handler) => return self.run_batch(message, None, &handler),
            call => call,
        };
        let awaits = call.awaits();
        let context = message.context().map(|context| context.bind(py));
        let task = message
            .task()
            .cloned()
            .filter(|task| task.retry().is_some());
        let mut then = None;
        // The error handler is part of the call: it finds the message as the current one, and its context.
        let mut hook = None;
        let result = running::with_mark(py, self.mark, message, shared, || {
            let _entered = context::enter(py, self.empty, context)?;
            let alone = shared.runs_several;
            let started = shared.start_hook.run(py, alone, |coroutine| {
                shared.finish_hook(py, &coroutine, context)
            });
            // Of a hook that was cancelled because its worker was terminated there is nothing to tell.
            let mut counts = true;
            let called = match started {
                Ok(()) => call.run(&shared.surroundings),
                Err(raised) => {
                    counts = !is_terminated(py, &raised);
                    Err(shared.of_start_hook(py, message, raised))
                }
            };
            called.inspect_err(|error| {
                if !counts {
                    return;
                }
                let tried = task.as_ref().filter(|task| !task.slot.state().is_done());
                let retry = tried.and_then(|task| task.retry());
                then = retry.map(|retry| retry.failed(py, error, false));
                if !matches!(then, Some(Then::Again(_))) {
                    hook = shared.tell_of_running(py, error);
                }
            })
        });
        self.conclude(message, result, then, hook, awaits)
    }

    /// What there is to do once the handler has returned. `then`: what the policy of its retries says of its failure;
    /// `hook`: the coroutine of the error handler; `awaits`: a coroutine that the handler returned is run.
    fn conclude(
        &self,
        message: &PyMessage,
        result: PyResult<Bound<'_, PyAny>>,
        then: Option<Then>,
        hook: Option<Py<PyAny>>,
        awaits: bool,
    ) -> Handled<PyHandler> {
        let (py, shared) = (self.py, &self.handler.shared);
        match (then, &result) {
            (Some(Then::Again(wait)), Err(error)) => {
                let (shared, error) = (shared.clone(), error.clone_ref(py));
                return Handled::Suspend(Box::new(move |suspension| {
                    Python::attach(|py| {
                        shared.try_again_or_fail(py, suspension, (RunPlace::Turn, wait), error);
                    });
                }));
            }
            (Some(Then::DeadLetter(errors)), _) => shared.bury(py, message, errors),
            _ => {}
        }
        if let Some(hook) = hook
            && let Err(error) = &result
        {
            let error = error.clone_ref(py);
            return Handled::Suspend(Box::new(move |suspension| {
                WorkerShared::fail_after(hook, error, suspension);
            }));
        }
        if awaits
            && let Ok(coroutine) = &result
            && context::is_coroutine(coroutine)
        {
            let (shared, coroutine) = (shared.clone(), coroutine.clone().unbind());
            return Handled::Suspend(Box::new(move |suspension| {
                shared.go_on(&coroutine, suspension, None)
            }));
        }
        Handled::Done(shared.settle(py, message, result))
    }

    /// Calls a handler with the data of the messages of a batch.
    fn run_batch(
        &self,
        message: &PyMessage,
        companions: Option<Companions<PyHandler>>,
        handler: &Bound<'_, PyAny>,
    ) -> Handled<PyHandler> {
        let (py, shared) = (self.py, &self.handler.shared);
        if let (Some(task), Some(companions)) = (message.task(), &companions) {
            task.join(tasks_of(companions));
        }
        let context = message.context().map(|context| context.bind(py));
        let result = running::with_mark(py, self.mark, message, shared, || {
            let _entered = context::enter(py, self.empty, context)?;
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
                shared.go_on(&coroutine, suspension, Some(RestOfBatch(companions)));
            }));
        }
        let address = pytoweb_engine::current();
        match shared.end_batch(py, address.as_ref(), message, companions, result) {
            BatchEnd::Done(outcome) => Handled::Done(outcome),
            BatchEnd::Again(wait, error) => {
                let shared = shared.clone();
                Handled::Suspend(Box::new(move |suspension| {
                    Python::attach(|py| {
                        shared.try_again_or_fail(py, suspension, (RunPlace::Turn, wait), error)
                    });
                }))
            }
        }
    }
}
