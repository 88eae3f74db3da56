//! The ends of messages whose handlers run in child processes.
//!
//! The runner (`runner.rs` of `crates/process`) takes them there. What their ends need Python for runs as a job on a
//! thread of the pool: errors, callbacks, and replies to the owner.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use pytoweb_engine::{Delivery, Failure, Fate, Message, Outcome, ReplyState, Tally, Wake};
use pytoweb_process::{
    Answer, Codec, Crash, EmittedEvent, Ends, Feed, LaneNote, Listener, OwnedRequest, Parcel,
};

use crate::error::NamedOwner;
use crate::host::batches::Results;
use crate::host::failure;
use crate::host::handler::{PyHandler, Runner};
use crate::host::hearing::ArrivedEvent;
use crate::host::hook::Hook;
use crate::host::message::{Asks, PyMessage};
use crate::host::retrying::Then;
use crate::host::running;
use crate::host::stuck;
use crate::host::task::Task;
use crate::host::task::value::{Remote, Value};
use crate::host::worker_shared::WorkerShared;
use crate::interpreter::context;

/// The child processes of a pool, or of one worker.
pub(crate) type Fleet = pytoweb_process::Fleet<Delivery<PyHandler>>;

impl Codec for PyHandler {
    fn request(message: &PyMessage) -> Option<&Arc<OwnedRequest>> {
        message.request()
    }

    fn lane_note(message: &PyMessage) -> Option<&LaneNote> {
        message.task().map(|task| &task.lane)
    }

    fn feed(message: &PyMessage) -> Option<Arc<dyn Feed>> {
        let stream = message.task()?.stream()?.clone();
        Some(stream)
    }

    fn listener(&self, message: &PyMessage) -> Option<Arc<dyn Listener>> {
        Some(Arc::new(Ear {
            handler: self.clone(),
            id: message.request().and_then(|request| request.id.clone()),
            task: message.task().cloned(),
        }))
    }
}

/// Who is told of what the handler of one message says.
struct Ear {
    handler: PyHandler,
    id: Option<Box<str>>,
    task: Option<Arc<Task>>,
}

impl Listener for Ear {
    fn event(&self, event: EmittedEvent) {
        let arrived = ArrivedEvent {
            event,
            id: self.id.clone(),
        };
        if self.handler.shared.hearing.add(arrived)
            && let Some(runner) = &self.handler.runner
        {
            let shared = self.handler.shared.clone();
            runner.job(move || Python::attach(|py| shared.hear(py)));
        }
    }

    fn progress(&self, parcel: Parcel) {
        if let Some(task) = &self.task
            && let Some(runner) = &self.handler.runner
            && task.asked
            && task.report_remote(parcel)
        {
            let task = task.clone();
            job(runner, move |py| task.flush(py));
        }
    }
}

impl Ends for PyHandler {
    fn runner(&self) -> Option<&Arc<Runner>> {
        self.runner.as_ref()
    }

    fn completed(mut delivery: Delivery<Self>, answer: Answer) {
        delivery.handler().shared.last_crash.forget();
        let ran = Some(answer.ran);
        if !delivery.companions().is_empty() {
            if let Some(runner) = delivery.handler().runner.clone() {
                job(&runner, move |py| end_batch(py, delivery, answer));
            }
            return;
        }
        let task = delivery
            .message()
            .and_then(|message| message.task().cloned());
        let Some(task) = task else {
            return delivery.finish(Outcome::Completed, ran);
        };
        let settled = task.settle(Value::Remote(Box::new(Remote::new(false, answer))));
        let is_answered = delivery
            .message_mut()
            .is_some_and(|message| message.is_answered());
        if settled && !is_answered {
            return delivery.finish(Outcome::Completed, ran);
        }
        if let Some(runner) = delivery.handler().runner.clone() {
            job(&runner, move |py| {
                let outcome = if settled {
                    Outcome::Completed
                } else {
                    given_up(py, &delivery)
                };
                delivery.finish(outcome, ran);
            });
        }
    }

    fn failed(mut delivery: Delivery<Self>, answer: Answer) {
        delivery.handler().shared.last_crash.forget();
        let ran = Some(answer.ran);
        Python::attach(|py| {
            let companions = delivery.take_companions();
            let remote = Remote::new(true, answer);
            let raised = match remote.get(py) {
                Ok(Ok(value) | Err(value)) => PyErr::from_value(value.bind(py).clone()),
                Err(raised) => raised,
            };
            delivery.handler().shared.record_beside(companions.len());
            for delivery in std::iter::once(delivery).chain(companions) {
                let raised = raised.clone_ref(py);
                fail(py, delivery, false, ran, |_, _| raised);
            }
        });
    }

    fn stopped(delivery: Delivery<Self>) {
        Python::attach(|py| {
            let outcome = given_up(py, &delivery);
            let state = delivery.message().and_then(Message::state);
            // One that was taken back had not begun, and ran nowhere.
            if state.is_some_and(ReplyState::is_cancel_requested) {
                record_failed(&delivery, outcome.into(), None);
            }
            delivery.finish(outcome, None);
        });
    }

    fn expired(delivery: Delivery<Self>) {
        Python::attach(|py| {
            let task = delivery.message().and_then(|message| message.task());
            let outcome = if task.is_some_and(|task| task.expire()) {
                expired(py, &delivery)
            } else {
                given_up(py, &delivery)
            };
            delivery.finish(outcome, None);
        });
    }

    fn killed(delivery: &Delivery<Self>, crash: &Crash) {
        let Some(message) = delivery.message() else {
            return;
        };
        let expired = |task: &Arc<Task>| matches!(task.slot.get(), Some(Err(Failure::Expired)));
        if message.task().is_some_and(expired) {
            let shared = &delivery.handler().shared;
            Python::attach(|py| stuck::tell_killed(py, shared, message, crash.pid));
        }
    }

    fn crashed(delivery: Delivery<Self>, crash: &Crash) {
        Python::attach(|py| {
            fail(py, delivery, true, None, |message, by| {
                let kind = message.and_then(|message| message.kind(py).ok());
                failure::crashed(py, crash, kind, Some(by), None)
            });
        });
    }
}

/// Ends the messages of a batch, each with its own result.
fn end_batch(py: Python<'_>, mut delivery: Delivery<PyHandler>, answer: Answer) {
    // Counted once: it is the time of all.
    let mut ran = Some(answer.ran);
    let companions = delivery.take_companions();
    delivery.handler().shared.record_beside(companions.len());
    let remote = Remote::new(false, answer);
    let returned = remote.get(py).map(|value| match value {
        Ok(value) | Err(value) => value.bind(py).clone(),
    });
    let results = match returned {
        // It cannot be unpickled.
        Ok(value) if value.is_instance_of::<PyBaseException>() => {
            Results::of(Err(PyErr::from_value(value)))
        }
        returned => Results::of(returned),
    };
    for (index, delivery) in std::iter::once(delivery).chain(companions).enumerate() {
        match results.get(py, index) {
            Err(error) => fail(py, delivery, false, None, |_, _| error),
            Ok(value) => {
                let task = delivery.message().and_then(|message| message.task());
                let value = Value::Here(Ok(value.unbind()));
                let outcome = if task.is_none_or(|task| task.settle(value)) {
                    Outcome::Completed
                } else {
                    given_up(py, &delivery)
                };
                delivery.finish(outcome, ran.take());
            }
        }
    }
}

/// Has `job` run on a thread of the pool.
fn job(runner: &Runner, job: impl FnOnce(Python<'_>) + Send + 'static) {
    runner.job(move || Python::attach(job));
}

impl PyHandler {
    /// Publishes without the interpreter lock; callbacks become jobs.
    pub(crate) fn finish_remote(&self, message: PyMessage, runner: &Runner) -> Wake {
        let PyMessage { body, asks } = message;
        drop(body);
        let Asks::Task(task) = asks else {
            return Wake::none();
        };
        let threads = task.is_settled()
            && task.slot.publish_with(&mut |callback| {
                job(runner, move |_| callback());
            });
        if task.id().is_some() {
            Python::attach(|py| self.shared.deliver(py, &task));
        }
        if task.is_left() {
            let (task, shared) = (task.clone(), self.shared.clone());
            job(runner, move |_| task.ended(shared.named()));
        }
        if threads {
            Wake::threads_of(task)
        } else {
            Wake::none()
        }
    }

    /// Abandons a message on a thread that need not be one that may run a user's code.
    pub(crate) fn abandon_remote(&self, message: PyMessage, failure: Failure, runner: &Runner) {
        let handler = self.clone();
        let abandon = move |py: Python<'_>| {
            running::with(py, &message, &handler.shared, || {
                handler.abandon_here(py, &message, failure);
            });
            message.drop_attached(py);
        };
        runner.job_or_now(move || Python::attach(abandon));
    }
}

/// Ends a message with an error: the error handler is told, as for one of a thread, and then the future.
fn fail(
    py: Python<'_>,
    delivery: Delivery<PyHandler>,
    crashed: bool,
    ran: Option<Duration>,
    raised: impl FnOnce(Option<&PyMessage>, NamedOwner<'_>) -> PyErr,
) {
    let shared = delivery.handler().shared.clone();
    let Some(message) = delivery.message() else {
        return;
    };
    if message.state().is_some_and(ReplyState::is_done) {
        let outcome = given_up(py, &delivery);
        record_failed(&delivery, outcome.into(), ran);
        return delivery.finish(outcome, None);
    }
    let error = raised(Some(message), shared.named());
    if crashed {
        shared.last_crash.note(py, &error);
    }
    let Some(delivery) = try_again(py, &shared, delivery, &error, (crashed, ran)) else {
        return;
    };
    let Some(message) = delivery.message() else {
        return;
    };
    match tell(py, &delivery, message, &error) {
        None => end(py, delivery, error, (crashed, ran)),
        Some(hook) => hook.run(py, &shared, move |py| {
            end(py, delivery, error, (crashed, ran));
        }),
    }
}

/// Puts a message back, if it is to be tried again. `Some`: it fails for good.
fn try_again(
    py: Python<'_>,
    shared: &WorkerShared,
    delivery: Delivery<PyHandler>,
    error: &PyErr,
    (crashed, ran): (bool, Option<Duration>),
) -> Option<Delivery<PyHandler>> {
    let message = delivery.message()?;
    let Some(retry) = message.retry() else {
        return Some(delivery);
    };
    let wait = match retry.failed(py, error, crashed) {
        Then::Again(wait) => wait,
        Then::DeadLetter(errors) => {
            shared.bury(py, message, errors);
            return Some(delivery);
        }
    };
    shared.tell_of_retry(py, message, wait, error);
    if let Some(request) = message.request() {
        // ORDERING: Relaxed, the message goes on under the mailbox's lock.
        request.earlier.store(request.attempt(), Ordering::Relaxed);
    }
    message.goes_on(true);
    shared.with_tally(py, message, Tally::count_retry);
    record_failed(&delivery, Fate::Retried, ran);
    let last = delivery.again(wait)?;
    if let Some(message) = last.message() {
        message.goes_on(false);
        shared.with_tally(py, message, Tally::uncount_retry);
        shared.bury_last(py, message);
    }
    Some(last)
}

fn end(
    py: Python<'_>,
    delivery: Delivery<PyHandler>,
    error: PyErr,
    (crashed, ran): (bool, Option<Duration>),
) {
    let task = delivery.message().and_then(|message| message.task());
    let outcome = match task {
        Some(task) if !task.settle(Value::Here(Err(error.into_value(py).into_any()))) => {
            given_up(py, &delivery)
        }
        _ => Outcome::Failed,
    };
    let fate = if crashed && outcome == Outcome::Failed {
        Fate::Crashed
    } else {
        outcome.into()
    };
    record_failed(&delivery, fate, ran);
    delivery.finish(outcome, None);
}

/// Tells the error handler, which finds the message as the current one, and its context. Returns its coroutine, if it
/// is one.
fn tell(
    py: Python<'_>,
    delivery: &Delivery<PyHandler>,
    message: &PyMessage,
    error: &PyErr,
) -> Option<Hook> {
    let shared = &delivery.handler().shared;
    let context = message.context().map(|context| context.bind(py));
    delivery.with_current(|| {
        running::with(py, message, shared, || {
            let tell = || Ok(shared.tell(py, Some(&delivery.address()), message, error));
            context::inside(py, context, tell).unwrap_or_else(|error| {
                error.write_unraisable(py, None);
                None
            })
        })
    })
}

/// What a message counts as whose deadline has passed; the error handler learns of it.
fn expired(py: Python<'_>, delivery: &Delivery<PyHandler>) -> Outcome {
    if let Some(message) = delivery.message() {
        let shared = &delivery.handler().shared;
        let error = message.error_of(Failure::Expired, shared.named());
        if let Some(hook) = tell(py, delivery, message, &error) {
            hook.run(py, shared, |_| {});
        }
    }
    Outcome::Expired
}

/// What a message counts as whose reply was settled before its handler ended; the error handler learns of deadlines.
fn given_up(py: Python<'_>, delivery: &Delivery<PyHandler>) -> Outcome {
    let Some(message) = delivery.message() else {
        return Outcome::Failed;
    };
    let failure = message
        .task()
        .and_then(|task| task.slot.get())
        .and_then(|reply| reply.as_ref().err().copied());
    match failure {
        Some(Failure::Expired) => expired(py, delivery),
        Some(Failure::Cancelled) => Outcome::Cancelled,
        _ => Outcome::Failed,
    }
}

/// A message, or an attempt of it, has failed: what a report is told. `ran`: after so long, where that is known.
#[inline]
fn record_failed(delivery: &Delivery<PyHandler>, fate: Fate, ran: Option<Duration>) {
    let shared = &delivery.handler().shared;
    if shared.recording.is_on()
        && let Some(request) = delivery.message().and_then(PyMessage::request)
    {
        let times = (delivery.age().unwrap_or_default(), ran);
        shared.record_failed_remote(&request.kind, delivery.spot(), fate, times);
    }
}
