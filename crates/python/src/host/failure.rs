//! Why a message got no reply of its handler: as the engine, a crash or a child says it, as what Python raises.

use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use pytoweb_engine::{DropReason, Failure};
use pytoweb_process::{Cause, Crash, Parcel};

use crate::error::{
    CancelledError, DeadlineError, MailboxFullError, NamedOwner, Quoted, WorkerStoppedError,
};
use crate::host::note;
use crate::pickle::pickling;

/// How long a message may take, for the error that says that it took longer.
#[derive(Debug)]
pub(crate) struct Limit {
    /// The message's type, or the name of the function.
    pub(crate) kind: Box<str>,
    pub(crate) seconds: f64,
}

impl Limit {
    pub(crate) fn new(kind: &Bound<'_, PyString>, limit: Duration) -> Box<Self> {
        Box::new(Self {
            kind: kind.to_string_lossy().into(),
            seconds: limit.as_secs_f64(),
        })
    }
}

/// Why a message for `to` was not handled. `limit`: its own, if it has one. `asked_to_stop`: its handler ran, and was
/// asked.
pub(crate) fn failure(
    failure: Failure,
    to: NamedOwner<'_>,
    limit: Option<&Limit>,
    asked_to_stop: bool,
) -> PyErr {
    match failure {
        Failure::Cancelled => CancelledError::new_err(()),
        Failure::Dropped(DropReason::Replaced) => {
            CancelledError::new_err("replaced by a newer message with the same key")
        }
        Failure::Dropped(reason) => MailboxFullError::new_err(format!(
            "dropped from the full mailbox of {to} as its {reason} message"
        )),
        Failure::Stopped => {
            WorkerStoppedError::new_err(format!("{to} stopped before it finished this message"))
        }
        Failure::Expired => DeadlineError::new_err(expired(to, limit, asked_to_stop)),
        _ => PyRuntimeError::new_err(failure.to_string()),
    }
}

fn expired(to: NamedOwner<'_>, limit: Option<&Limit>, asked_to_stop: bool) -> String {
    let Some(limit) = limit else {
        return format!("{to} did not finish the message before its deadline");
    };
    let (kind, seconds) = (Quoted(&limit.kind), limit.seconds);
    // Only a handler that ran was asked to stop.
    if !asked_to_stop {
        return format!(
            "a message of type {kind} waited {seconds} s, its whole timeout, in the mailbox of {to} and was \
             not run: allow it more time, or give the work to more workers"
        );
    }
    format!(
        "{to} was still running a message of type {kind} when its timeout of {seconds} s ended: allow it \
         more time, or split its work"
    )
}

/// How a child ended, with what its initializer raised.
pub(crate) fn in_words(crash: &Crash) -> String {
    let mut text = crash.to_string();
    if let Cause::Initializer(bytes) = &crash.cause {
        let [kind, said, _] = note::read(bytes);
        text.push_str(&if said.is_empty() {
            format!(": {kind}")
        } else {
            format!(": {kind}: {said}")
        });
    }
    text
}

/// The end of the child that ran a message of the type `kind`, or was to run it. `rest`: how long until another one is
/// tried.
pub(crate) fn crashed(
    py: Python<'_>,
    crash: &Crash,
    kind: Option<Py<PyString>>,
    by: Option<NamedOwner<'_>>,
    rest: Option<Duration>,
) -> PyErr {
    let what = match (by, &crash.cause, kind) {
        (None, ..) => String::new(),
        (
            Some(by),
            Cause::TooManyRestarts { .. }
            | Cause::Start(_)
            | Cause::SlowStart(_)
            | Cause::Initializer(_),
            _,
        )
        | (Some(by), _, None) => format!("{by} has failed: "),
        (Some(by), _, Some(kind)) => format!(
            "{by} crashed while it handled a message of type {}: ",
            Quoted(&kind.bind(py).to_string())
        ),
    };
    let mut text = format!("{what}{}", in_words(crash));
    if let Some(rest) = rest {
        text.push_str(&format!(
            "; it is tried again in {:.1} s",
            rest.as_secs_f64()
        ));
    }
    if !crash.stack.is_empty() {
        text.push_str("\n\nThe last it wrote:\n");
        text.push_str(&crash.stack);
    }
    let raised = || {
        let details = PyDict::new(py);
        details.set_item("exitcode", crash.exitcode)?;
        details.set_item("signal", crash.signal)?;
        let error = crashed_class(py)?.call((text,), Some(&details))?;
        if let Cause::Initializer(bytes) = &crash.cause {
            error.setattr("__cause__", initializer_error(py, bytes)?)?;
        }
        Ok(PyErr::from_value(error))
    };
    raised().unwrap_or_else(|error| error)
}

/// The class of what becomes of messages whose process is gone.
fn crashed_class(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import("pytoweb.errors")?
        .getattr("crashed_error")?
        .call1(("ProcessCrashedError",))
}

/// What an initializer in a child raised, from its note.
fn initializer_error<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let pickles = py.import("pytoweb._pickling")?;
    let ([kind, text, traceback], pickle) = note::read_with_rest(bytes);
    let object = match pickle {
        [] => None,
        pickle => pickles.getattr("loads")?.call1((pickle,)).ok(),
    };
    pickles
        .getattr("rebuild")?
        .call1((object, kind, text, traceback))
}

/// What a handler in a child raised, from its note and its pickle.
pub(crate) fn remote(py: Python<'_>, bytes: &[u8], parcel: Option<&Parcel>) -> Py<PyAny> {
    let rebuild = || {
        let object = match parcel.filter(|parcel| !parcel.stream().is_empty()) {
            Some(parcel) => pickling::unpack(py, parcel).ok(),
            None => None,
        };
        let [kind, text, traceback] = note::read(bytes);
        py.import("pytoweb._pickling")?
            .getattr("rebuild")?
            .call1((object, kind, text, traceback))
    };
    match rebuild() {
        Ok(error) => error.unbind(),
        Err(error) => error.into_value(py).into_any(),
    }
}
