//! Handlers that run past their deadline, or for longer than they are to: brought to the log, with their stacks.

use std::ffi::c_ulong;
use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pytoweb_engine::{Overrun, Stuck};

use crate::host::message::PyMessage;
use crate::host::running;
use crate::host::worker_shared::WorkerShared;
use crate::interpreter::attached::Attached;
use crate::interpreter::marks;
use crate::interpreter::watchdog;

/// Has a run logged, once the interpreter lock is to be had.
pub(crate) fn tell(shared: &Arc<Attached<WorkerShared>>, stuck: Stuck) {
    let shared = shared.clone();
    // The number now: the thread may be at another message by then.
    let mut place = None::<(c_ulong, u64)>;
    if let Some(thread) = stuck.thread {
        marks::visit(|seen| {
            if seen.thread == thread {
                place = Some((seen.ident, seen.mark.number()));
            }
        });
    }
    watchdog::tell(move |py| {
        let ticket = stuck.ticket.as_deref();
        let place = place.or_else(|| {
            let (ident, number, _) = running::thread_of(py, ticket?.state())?;
            Some((ident, number))
        });
        let limit = match stuck.why {
            Overrun::Limit(limit) => Some(limit.as_secs_f64()),
            _ => None,
        };
        let lasted = stuck.lasted.as_secs_f64();
        let owner = shared.owner.call0(py)?;
        // By it a coroutine is found.
        let at = ticket.map_or(0, |ticket| std::ptr::from_ref(ticket.state()).addr());
        let told = (&shared.name, limit, lasted, &stuck.name, place, owner, at);
        watchdog::module(py)?
            .call_method1(intern!(py, "tell_stuck"), told)
            .map(drop)
    });
}

/// Logs that the child was ended that ran a message past its deadline.
pub(crate) fn tell_killed(py: Python<'_>, shared: &WorkerShared, message: &PyMessage, pid: u32) {
    let told = message.kind(py).and_then(|kind| {
        let about = message.about(py);
        let seconds = about
            .task
            .as_ref()
            .and_then(|task| task.limit.as_ref())
            .map(|limit| limit.seconds);
        let told = (&shared.name, kind, about.id, about.attempt, seconds, pid);
        watchdog::module(py)?
            .call_method1(intern!(py, "tell_killed"), told)
            .map(drop)
    });
    if let Err(error) = told {
        error.write_unraisable(py, None);
    }
}
