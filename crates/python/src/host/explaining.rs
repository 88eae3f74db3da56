//! Where a message is and why it waits: found by its id, or by its future.

use std::cell::RefCell;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use pytoweb_engine::{Key, Plan, Ticket, Waits, Whereabouts, Worker};

use crate::host::ends;
use crate::host::handler::PyHandler;
use crate::host::message::PyMessage;
use crate::host::planning::Planned;
use crate::host::running;
use crate::host::task::{Head, Task};

/// What is looked for.
pub(crate) enum Wanted<'py> {
    Id(Bound<'py, PyString>),
    Task(Arc<Task>),
}

impl Wanted<'_> {
    fn is(&self, task: &Task) -> bool {
        match self {
            Self::Task(wanted) => std::ptr::eq(&raw const **wanted, task),
            Self::Id(wanted) => task
                .id()
                .is_some_and(|id| wanted.to_str().ok() == id.bind(wanted.py()).to_str().ok()),
        }
    }
}

fn task_of(ticket: &Arc<dyn Ticket>) -> Option<&Task> {
    ticket.as_any()?.downcast_ref()
}

/// What is known of the message while it is found, under the mailbox's lock: no Python code runs there.
#[derive(Default)]
struct Sighting {
    kind: Option<Py<PyString>>,
    attempt: u32,
    attempts: u32,
    late: bool,
    /// That of one that was taken.
    ticket: Option<Arc<dyn Ticket>>,
    /// The task of one that is queued, or gone.
    task: Option<Arc<Task>>,
}

impl Sighting {
    fn of_task(&mut self, task: &Task) {
        let retry = task.retry();
        self.attempts = retry.map_or(0, |retry| retry.attempts());
        self.attempt = retry.map_or(0, |retry| 1 + retry.made());
        self.late = task.slot.state().is_done();
    }
}

/// Where a message is, in words of one: see `_explain.py`. `None`: it is not here.
pub(crate) fn explain<'py>(
    py: Python<'py>,
    worker: &Worker<PyHandler>,
    wanted: &Wanted<'py>,
) -> PyResult<Option<Bound<'py, PyDict>>> {
    let seen = RefCell::new(Sighting::default());
    let of = |message: &PyMessage| {
        let found = message.task().filter(|task| wanted.is(task));
        if let Some(task) = found {
            let mut seen = seen.borrow_mut();
            seen.of_task(task);
            seen.task = Some(task.clone());
            if task.head == Head::Type {
                seen.kind = message.kind(py).ok();
            }
        }
        found.is_some()
    };
    let of_ticket = |ticket: &Arc<dyn Ticket>| {
        let found = task_of(ticket).filter(|task| wanted.is(task));
        if let Some(task) = found {
            let mut seen = seen.borrow_mut();
            seen.of_task(task);
            seen.kind = None;
            seen.ticket = Some(ticket.clone());
        }
        found.is_some()
    };
    let has_key = |ticket: &Arc<dyn Ticket>, key: &Key| {
        let plan = task_of(ticket).and_then(|task| task.plan.as_ref());
        plan.map(Planned::get)
            .and_then(|plan: &Plan| plan.key.as_ref())
            == Some(key)
    };
    let Some(found) = worker.whereabouts(&of, &of_ticket, &has_key) else {
        return Ok(None);
    };
    let told = PyDict::new(py);
    let seen = seen.into_inner();
    if matches!(found, Whereabouts::Gone) {
        let outcome = seen.task.as_ref().and_then(|task| match task.slot.get() {
            Some(Err(failure)) => Some(ends::name_of(*failure, task)),
            _ => None,
        });
        told.set_item("code", "done")?;
        told.set_item("outcome", outcome.unwrap_or("cancelled"))?;
        for unknown in ["error", "since"] {
            told.set_item(unknown, py.None())?;
        }
        told.set_item("dead", false)?;
        return Ok(Some(told));
    }
    if let Whereabouts::Queued {
        ahead,
        waited,
        why,
        behind,
    } = found
    {
        told.set_item("ahead", ahead)?;
        told.set_item("waited", waited.map(|waited| waited.as_secs_f64()))?;
        let (code, left) = match why {
            Waits::Start => ("start", None),
            Waits::Key => ("key", None),
            Waits::Rate(left) => ("rate", Some(left)),
            Waits::Delay(left) => ("delay", Some(left)),
            Waits::Retry(left) => ("retry", Some(left)),
            Waits::Company(left) => ("company", Some(left)),
            Waits::Room => ("room", None),
            _ => ("turn", None),
        };
        told.set_item("code", code)?;
        told.set_item("left", left.map(|left| left.as_secs_f64()))?;
        if let Some(behind) = behind {
            let id = task_of(&behind).and_then(|task| task.id());
            told.set_item("behind_id", id.map(|id| id.clone_ref(py)))?;
            let place = running::thread_of(py, behind.state());
            told.set_item("behind", place.map(|(ident, number, _)| (ident, number)))?;
        }
    } else if let Whereabouts::Ahead(before) = found {
        told.set_item("code", "child")?;
        told.set_item("ahead", before)?;
    } else {
        told.set_item("code", "running")?;
        let ticket = seen.ticket.as_ref();
        let place = ticket.and_then(|ticket| running::thread_of(py, ticket.state()));
        told.set_item("place", place.map(|(ident, number, _)| (ident, number)))?;
        let ran = match place {
            Some((_, _, ran)) => ran,
            None => ticket
                .and_then(task_of)
                .and_then(Task::awaited_for)
                .or_else(|| worker.carried_for()),
        };
        told.set_item("ran", ran.map(|ran| ran.as_secs_f64()))?;
    }
    told.set_item("kind", seen.kind)?;
    told.set_item("attempt", seen.attempt)?;
    told.set_item("attempts", seen.attempts)?;
    told.set_item("late", seen.late)?;
    Ok(Some(told))
}
