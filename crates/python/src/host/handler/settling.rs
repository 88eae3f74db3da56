//! What a handler made of its messages, settled: of one, or of each of a batch.

use std::time::Duration;

use pyo3::prelude::*;
use pytoweb_engine::{
    Address, Companions, Failure, Message, Outcome, ReplyState, Suspension, Tally, Ticket,
};

use crate::host::batches::Results;
use crate::host::message::PyMessage;
use crate::host::retrying::Then;
use crate::host::running;
use crate::host::task::value::Value;
use crate::host::telling::is_cancelled_error;
use crate::host::worker_shared::WorkerShared;
use crate::interpreter::context;

use super::PyHandler;

/// How a message of a batch ended.
pub(super) enum BatchEnd {
    /// Its reply is settled; it counts as this.
    Done(Outcome),
    /// It is to be tried again after a wait, because of an error.
    Again(Duration, PyErr),
}

impl WorkerShared {
    /// Settles the reply of a message that has run. Returns what it counts as.
    pub(super) fn settle(
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
        let Some(task) = message.task() else {
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

    /// Settles the reply of a message that was suspended, and ends it.
    pub(super) fn end(
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

    /// Ends the messages of a batch, or puts them back to be tried again, each by its own result, but for the first one: the
    /// caller does so with that, after the others.
    pub(super) fn end_batch<'py>(
        &self,
        py: Python<'py>,
        address: Option<&Address>,
        message: &PyMessage,
        companions: Option<Companions<PyHandler>>,
        returned: PyResult<Bound<'py, PyAny>>,
    ) -> BatchEnd {
        let results = Results::of(returned);
        if let Some(task) = message.task() {
            task.part();
        }
        let end = |of: &PyMessage, index| {
            self.end_of_batch(py, address, of, companions.as_ref(), results.get(py, index))
        };
        let first = end(message, 0);
        let others = companions.as_ref().map(|companions| {
            let messages = companions.messages().zip(1..);
            let ended = messages.map(|(message, index)| end(message, index));
            ended.collect::<Vec<_>>()
        });
        if let Some((companions, ended)) = companions.zip(others) {
            self.end_companions(py, address, companions, ended);
        }
        first
    }

    fn end_companions(
        &self,
        py: Python<'_>,
        address: Option<&Address>,
        mut companions: Companions<PyHandler>,
        ended: Vec<BatchEnd>,
    ) {
        let mut waits = Vec::new();
        for (index, ended) in ended.iter().enumerate() {
            if let BatchEnd::Again(wait, error) = ended
                && let Some(message) = companions.get(index)
            {
                self.tell_of_retry(py, message, *wait, error);
                message.goes_on(true);
                self.with_tally(py, message, Tally::count_retry);
                waits.push((index, *wait));
            }
        }
        let last = companions.again(waits);
        let outcomes = ended.into_iter().enumerate().map(|(index, ended)| {
            let (error, message) = match (ended, companions.get(index)) {
                (BatchEnd::Done(outcome), _) => return outcome,
                (BatchEnd::Again(_, error), Some(message)) if last.contains(&index) => {
                    (error, message)
                }
                // It is back in the queue, and counted there.
                (BatchEnd::Again(..), _) => return Outcome::Failed,
            };
            message.goes_on(false);
            self.with_tally(py, message, Tally::uncount_retry);
            self.tell_of_batch(py, address, message, Some(&companions), &error);
            self.bury_last(py, message);
            self.settle(py, message, Err(error))
        });
        let outcomes = outcomes.collect::<Vec<_>>();
        companions.finish(&outcomes);
    }

    /// Tells of the failure of one message of a batch, and settles its reply, unless it is to be tried again. The message does
    /// not wait for an error handler that is a coroutine.
    fn end_of_batch(
        &self,
        py: Python<'_>,
        address: Option<&Address>,
        message: &PyMessage,
        companions: Option<&Companions<PyHandler>>,
        result: PyResult<Bound<'_, PyAny>>,
    ) -> BatchEnd {
        if let Some(task) = message.task() {
            task.forget_interrupter();
        }
        let Err(error) = &result else {
            return BatchEnd::Done(self.settle(py, message, result));
        };
        let is_cancelled = is_cancelled_error(py, error);
        if let Some(task) = message.task()
            && task.is_own_stop_asked()
            && is_cancelled
            && task.fail(false, Failure::Cancelled)
        {
            return BatchEnd::Done(Outcome::Cancelled);
        }
        let is_terminated = is_cancelled && address.is_some_and(Address::is_terminated);
        let mut letter = Vec::new();
        if let Some(retry) = message.retry()
            && !is_terminated
            && !message.state().is_some_and(ReplyState::is_done)
        {
            match retry.failed(py, error, false) {
                Then::Again(wait) => return BatchEnd::Again(wait, error.clone_ref(py)),
                Then::DeadLetter(errors) => letter = errors,
            }
        }
        let told = match message.task().and_then(|task| task.slot.get()) {
            Some(Err(Failure::Stopped)) => None,
            None if is_terminated => None,
            Some(Err(given_up)) => Some(message.error_of(*given_up, self.named())),
            _ => Some(error.clone_ref(py)),
        };
        if let Some(error) = told {
            self.tell_of_batch(py, address, message, companions, &error);
        }
        self.bury(py, message, letter);
        BatchEnd::Done(self.settle(py, message, result))
    }

    fn tell_of_batch(
        &self,
        py: Python<'_>,
        address: Option<&Address>,
        message: &PyMessage,
        companions: Option<&Companions<PyHandler>>,
        error: &PyErr,
    ) {
        let told = || -> PyResult<()> {
            // On an event loop's thread, where no context may stay entered.
            let context = match message.context() {
                Some(context) => context.bind(py).clone(),
                None => context::fresh(py)?,
            };
            let _entered = context::enter_given(&context)?;
            if let Some(hook) = self.tell(py, address, message, error) {
                hook.run(py, self, |_| {});
            }
            Ok(())
        };
        let tell = || {
            running::with(py, message, self, || {
                told().unwrap_or_else(|error| error.write_unraisable(py, None));
            });
        };
        match companions {
            Some(companions) => companions.with_current(message, tell),
            None => tell(),
        }
    }
}
