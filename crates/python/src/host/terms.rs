//! The terms of a message, beside its data and its deadline: what is asked of the mailbox for it, whether it is tried again,
//! and its bytes. They come from the keywords of the call and from what is laid down for its type.
//!
//! Most messages have none, and this is on the way of each: see [`Terms::of`].

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;
use pytoweb_engine::Clock;

use crate::error::Quoted;
use crate::host::channel::Channel;
use crate::host::failure::Limit;
use crate::host::kinds::OfKind;
use crate::host::message::Asks;
use crate::host::planning::{Planned, Wishes};
use crate::host::retrying::Retrying;
use crate::host::task::{Beside, Extras, Task};
use crate::host::worker_shared::WorkerShared;

#[derive(Debug, Default)]
pub(crate) struct Terms {
    plan: Option<Planned>,
    retry: Option<Box<Retrying>>,
    bytes: usize,
}

impl Terms {
    /// Those of a message of the type `kind`. `limit`: its deadline.
    #[inline]
    pub(crate) fn of<'py>(
        shared: &WorkerShared,
        clock: &dyn Clock,
        kind: &Bound<'py, PyString>,
        limit: Option<Duration>,
        wishes: Wishes<'_, 'py>,
        data: &Py<PyAny>,
    ) -> PyResult<Self> {
        if wishes.is_nothing() && !shared.has_terms() {
            return Ok(Self::default());
        }
        Self::found(shared, clock, kind, limit, wishes, data)
    }

    #[inline(never)]
    fn found<'py>(
        shared: &WorkerShared,
        clock: &dyn Clock,
        kind: &Bound<'py, PyString>,
        limit: Option<Duration>,
        wishes: Wishes<'_, 'py>,
        data: &Py<PyAny>,
    ) -> PyResult<Self> {
        let of_kind = shared.kinds.of(kind);
        let retry = wishes.retrying(shared.retries.of(kind))?;
        let is_stream = of_kind.as_ref().is_some_and(OfKind::is_stream);
        if is_stream && !wishes.streams {
            return Err(PyTypeError::new_err(format!(
                "the handler of {} streams its answer: read it with stream() or astream()",
                Quoted(&kind.to_string())
            )));
        }
        Ok(Self {
            plan: wishes.plan(Some(kind), limit, of_kind.filter(OfKind::has_plan), clock)?,
            retry,
            bytes: match &shared.scale {
                Some(scale) => scale.weigh(data.bind(kind.py()))?,
                None => 0,
            },
        })
    }

    /// What a post asks for. A plain one asks for nothing, and one that only says where it is to go needs no task. `reply`: one
    /// with an id is answered.
    #[inline]
    pub(crate) fn of_post(
        self,
        kind: &Bound<'_, PyString>,
        id: Option<Py<PyString>>,
        reply: bool,
        limit: Option<Duration>,
    ) -> Asks {
        let is_simple = self.retry.is_none() && self.bytes == 0 && id.is_none() && limit.is_none();
        let plan = match self.plan {
            None if is_simple => return Asks::Nothing,
            Some(plan) if is_simple && plan.get().is_short() => return Asks::Order(plan),
            plan => plan,
        };
        let mut task = Self { plan, ..self }.task(kind, id, limit);
        if let Some(extras) = &mut task.extras {
            extras.silent = !reply;
        }
        Asks::Task(Arc::new(task))
    }

    /// The task of an ask.
    pub(crate) fn of_ask(self, kind: &Bound<'_, PyString>, limit: Option<Duration>) -> Arc<Task> {
        Arc::new(Task {
            asked: true,
            ..self.task(kind, None, limit)
        })
    }

    /// The task of a message that is answered with a stream, through `channel`.
    pub(crate) fn of_stream(
        self,
        kind: &Bound<'_, PyString>,
        limit: Option<Duration>,
        channel: Arc<Channel>,
    ) -> Arc<Task> {
        Arc::new(Task {
            asked: true,
            beside: OnceLock::from(Box::new(Beside::of_stream(channel))),
            ..self.task(kind, None, limit)
        })
    }

    /// The task of a message of `every`, whose end it is told of.
    pub(crate) fn of_repeated(self, kind: &Bound<'_, PyString>) -> Arc<Task> {
        Arc::new(self.task(kind, None, None))
    }

    fn task(
        self,
        kind: &Bound<'_, PyString>,
        id: Option<Py<PyString>>,
        limit: Option<Duration>,
    ) -> Task {
        Task {
            limit: limit.map(|limit| Limit::new(kind, limit)),
            plan: self.plan,
            extras: Extras {
                id,
                bytes: self.bytes,
                retry: self.retry,
                ..Extras::default()
            }
            .boxed(),
            ..Task::default()
        }
    }
}
