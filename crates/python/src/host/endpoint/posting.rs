//! Messages made and posted, with what the policy of the mailbox makes of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use pytoweb_engine::{Overflow, PostError, Worker};

use crate::error;
use crate::host::failure::Limit;
use crate::host::handler::PyHandler;
use crate::host::message::{Asks, Body, PyMessage, name_of};
use crate::host::places::{PlaceResult, place_for, wait_for_place};
use crate::host::planning::{Planned, Wishes, with_wishes};
use crate::host::task::{Extras, Head, Task};
use crate::host::terms::Terms;
use crate::host::waiting;
use crate::interpreter::context;

use super::Inner;

impl Inner {
    /// Whether nothing is laid down for messages to handlers of this process: see [`Inner::post_plainly`].
    #[inline]
    pub(crate) fn posts_plainly(&self) -> bool {
        self.packing.is_none() && !self.shared.has_terms()
    }

    /// Posts a message that asks for nothing, where nothing is laid down for any. It comes to the same as what follows here,
    /// without the moves that make up a good part of what a post costs.
    #[inline]
    pub(crate) fn post_plainly(
        &self,
        py: Python<'_>,
        worker: &Worker<PyHandler>,
        kind: Py<PyString>,
        data: Py<PyAny>,
    ) -> PyResult<()> {
        let context = context::capture(py)?;
        self.shared.check_open()?;
        let message = PyMessage {
            body: Body::Local {
                head: kind.into_any(),
                data,
                context,
            },
            asks: Asks::Nothing,
        };
        match worker.try_post(message) {
            Ok(()) => Ok(()),
            Err(error) => self.post_again(py, worker, error, None),
        }
    }

    /// What there is to do after a post that did not go in.
    #[cold]
    fn post_again(
        &self,
        py: Python<'_>,
        worker: &Worker<PyHandler>,
        error: PostError<PyMessage>,
        limit: Option<Duration>,
    ) -> PyResult<()> {
        match error {
            PostError::Full(message) if worker.overflow() == Overflow::Block => {
                waiting::post_when_room(py, worker, message, limit)
            }
            error => Err(waiting::refused(worker, error)),
        }
    }

    /// A message for the handler of `kind`.
    pub(crate) fn message(
        &self,
        py: Python<'_>,
        kind: Py<PyString>,
        data: Py<PyAny>,
        asks: impl Into<Asks>,
    ) -> PyResult<PyMessage> {
        let asks = asks.into();
        let body = match &self.packing {
            None => Body::Local {
                head: kind.into_any(),
                data,
                context: context::capture(py)?,
            },
            Some(packing) => {
                packing.refresh(py, &self.shared.owner)?;
                packing.message(
                    py,
                    self.shared.named(),
                    kind.bind(py),
                    data.bind(py),
                    match &asks {
                        Asks::Task(task) => Some(task),
                        Asks::Nothing | Asks::Order(_) => None,
                    },
                )?
            }
        };
        Ok(PyMessage { body, asks })
    }

    /// The terms of a message of the type `kind`.
    #[inline]
    pub(crate) fn terms<'py>(
        &self,
        worker: &Worker<PyHandler>,
        kind: &Bound<'py, PyString>,
        limit: Option<Duration>,
        wishes: Wishes<'_, 'py>,
        data: &Py<PyAny>,
    ) -> PyResult<Terms> {
        let clock = &**worker.pool().clock();
        Terms::of(&self.shared, clock, kind, limit, wishes, data)
    }

    /// What a call asks of the mailbox; `wishes` as of [`with_wishes`].
    pub(crate) fn plan_of_call<'py>(
        &self,
        worker: &Worker<PyHandler>,
        limit: Option<Duration>,
        wishes: Option<&Bound<'py, PyTuple>>,
    ) -> PyResult<Option<Planned>> {
        let clock = &**worker.pool().clock();
        with_wishes(wishes, |wishes| wishes.plan(None, limit, None, clock))
    }

    /// A message that calls `function`.
    #[expect(
        clippy::too_many_arguments,
        reason = "a call and what the caller asks for"
    )]
    pub(crate) fn call(
        &self,
        py: Python<'_>,
        head: Head,
        function: Py<PyAny>,
        args: Py<PyTuple>,
        kwargs: Option<Py<PyDict>>,
        limit: Option<Duration>,
        plan: Option<Planned>,
    ) -> PyResult<(PyMessage, Arc<Task>)> {
        if !function.bind(py).is_callable() {
            return Err(error::not_a_function(function.bind(py)));
        }
        let limit = limit
            .map(|limit| PyResult::Ok(Limit::new(&name_of(function.bind(py))?, limit)))
            .transpose()?;
        let bytes = match &self.shared.scale {
            Some(scale) => {
                let kwargs = kwargs.as_ref().map(|kwargs| kwargs.bind(py));
                scale.weigh_call(args.bind(py), kwargs)?
            }
            None => 0,
        };
        let (body, kwargs) = match &self.packing {
            None => {
                let body = Body::Local {
                    head: function,
                    data: args.into_any(),
                    context: context::capture(py)?,
                };
                (body, kwargs)
            }
            Some(packing) => {
                packing.refresh(py, &self.shared.owner)?;
                let body = packing.call(
                    py,
                    self.shared.named(),
                    head,
                    function.bind(py),
                    args,
                    kwargs,
                )?;
                (body, None)
            }
        };
        let task = Arc::new(Task {
            head,
            asked: true,
            limit,
            plan,
            extras: Extras {
                kwargs,
                bytes,
                ..Extras::default()
            }
            .boxed(),
            ..Task::default()
        });
        let message = PyMessage {
            body,
            asks: Asks::Task(task.clone()),
        };
        Ok((message, task))
    }

    /// Posts `message`, waiting for room as the policy says. Its deadline counts from here, that wait included.
    pub(crate) fn post(
        &self,
        py: Python<'_>,
        worker: &Worker<PyHandler>,
        message: PyMessage,
        limit: Option<Duration>,
    ) -> PyResult<()> {
        if message.is_answered() {
            return self.post_with_id(py, worker, message, limit);
        }
        self.post_now(py, worker, message, limit)
    }

    /// The same, with a place for the reply.
    #[cold]
    fn post_with_id(
        &self,
        py: Python<'_>,
        worker: &Worker<PyHandler>,
        message: PyMessage,
        limit: Option<Duration>,
    ) -> PyResult<()> {
        self.shared.check_open()?;
        let since = Instant::now();
        let place = message
            .reply_id()
            .map(|id| place_for(py, worker, &self.shared, id))
            .transpose()?;
        match place {
            Some(PlaceResult::Dropped) => return Ok(()),
            Some(PlaceResult::Wait) => wait_for_place(py, worker, &self.shared, limit)?,
            Some(PlaceResult::Taken) | None => {}
        }
        let left = limit.map(|limit| limit.saturating_sub(since.elapsed()));
        self.post_now(py, worker, message, left)
            .inspect_err(|_| self.shared.reply_room.give_back(py, 1))
    }

    fn post_now(
        &self,
        py: Python<'_>,
        worker: &Worker<PyHandler>,
        message: PyMessage,
        limit: Option<Duration>,
    ) -> PyResult<()> {
        self.shared.check_open()?;
        let deadline = limit.zip(message.task().cloned());
        if let Err(error) = worker.try_post(message) {
            return self.post_again(py, worker, error, limit);
        }
        match deadline {
            Some((limit, task)) => waiting::set_deadline(worker, task, limit),
            None => Ok(()),
        }
    }
}
