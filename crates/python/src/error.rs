//! The one place that knows exception classes: what the engine says, as what Python raises.

use std::fmt::{self, Write};

use std::time::Duration;

use pyo3::exceptions::{PyException, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyTuple, PyType};
use pytoweb_engine::WaitError;

pyo3::import_exception!(pytoweb.errors, MailboxFullError);
pyo3::import_exception!(pytoweb.errors, MessageTooLargeError);
pyo3::import_exception!(pytoweb.errors, OverloadedError);
pyo3::import_exception!(pytoweb.errors, WorkerStoppedError);
pyo3::import_exception!(pytoweb.errors, UnknownMessageError);
pyo3::import_exception!(pytoweb.errors, DeadlineError);
pyo3::import_exception!(pytoweb.errors, SerializationError);
pyo3::import_exception!(pytoweb.errors, AskCycleError);
pyo3::import_exception!(pytoweb.errors, ForkedProcessError);
pyo3::import_exception!(pytoweb.errors, ThreadLimitError);
pyo3::import_exception!(concurrent.futures, CancelledError);
pyo3::import_exception!(concurrent.futures, InvalidStateError);

/// Tells ``sys.unraisablehook`` of an exception that ends where it was raised; never raises.
#[pyfunction]
pub(crate) fn write_unraisable(error: Bound<'_, PyAny>, object: &Bound<'_, PyAny>) {
    let py = object.py();
    PyErr::from_value(error).write_unraisable(py, Some(object));
}

/// Imports every class above, so that none has to be imported when it is needed.
#[pyfunction]
pub(crate) fn load_errors(py: Python<'_>) -> PyResult<()> {
    use pyo3::PyTypeInfo;
    // PyO3 panics where a class cannot be imported. Ctrl-C may come in the middle of an import, but not once the modules
    // are loaded: what follows runs nothing of Python.
    py.import("pytoweb.errors")?;
    py.import("concurrent.futures")?.getattr("CancelledError")?;
    for class in [
        MailboxFullError::type_object,
        MessageTooLargeError::type_object,
        OverloadedError::type_object,
        WorkerStoppedError::type_object,
        UnknownMessageError::type_object,
        DeadlineError::type_object,
        SerializationError::type_object,
        AskCycleError::type_object,
        ForkedProcessError::type_object,
        ThreadLimitError::type_object,
        CancelledError::type_object,
        InvalidStateError::type_object,
    ] {
        class(py);
    }
    Ok(())
}

/// `concurrent.futures.TimeoutError`, which is the built-in one from Python 3.11 on.
pub(crate) fn wait_timeout(py: Python<'_>) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    match CLASS.import(py, "concurrent.futures", "TimeoutError") {
        Ok(class) => PyErr::from_type(class.clone(), ()),
        Err(error) => error,
    }
}

/// A name as Python's `repr` shows it, so that errors quote alike whichever side makes them.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = if self.0.contains('\'') && !self.0.contains('"') {
            '"'
        } else {
            '\''
        };
        f.write_char(quote)?;
        for character in self.0.chars() {
            match character {
                '\\' => f.write_str("\\\\")?,
                '\'' if quote == '\'' => f.write_str("\\'")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                control if control.is_ascii_control() => {
                    write!(f, "\\x{:02x}", u32::from(control))?;
                }
                plain => f.write_char(plain)?,
            }
        }
        f.write_char(quote)
    }
}

/// A worker or a pool in a text, as users know it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NamedOwner<'a> {
    pub(crate) name: &'a str,
    pub(crate) is_pool: bool,
}

impl fmt::Display for NamedOwner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_pool { "pool" } else { "worker" };
        write!(f, "{kind} {}", Quoted(self.name))
    }
}

/// A reply that came and cannot be read here.
pub(crate) fn unreadable_reply(py: Python<'_>, raised: PyErr) -> Py<PyAny> {
    let error = SerializationError::new_err(format!(
        "the reply came, but unpickling it raised {}",
        brief(py, &raised)
    ));
    error.set_cause(py, Some(raised));
    error.into_value(py).into_any()
}

/// A payload that came to a child and cannot be read there.
pub(crate) fn unreadable_payload(
    py: Python<'_>,
    by: NamedOwner<'_>,
    kind: &str,
    raised: PyErr,
) -> PyErr {
    // Ours says all there is to say.
    let why = if raised.is_instance_of::<SerializationError>(py) {
        raised.value(py).to_string()
    } else {
        format!("it raised {}", brief(py, &raised))
    };
    let error = SerializationError::new_err(format!(
        "the process of {by} cannot unpickle a message of type {}: {why}",
        Quoted(kind),
    ));
    error.set_cause(py, Some(raised));
    error
}

/// A message of a type without a handler.
pub(crate) fn unknown(by: NamedOwner<'_>, kind: &str) -> PyErr {
    UnknownMessageError::new_err(format!(
        "{by} has no handler for messages of type {}; register one with on_message",
        Quoted(kind)
    ))
}

/// A reply that is asked for while the same thread unpickles it.
pub(crate) fn lost_reply() -> PyErr {
    SerializationError::new_err(
        "the reply is asked for by its own unpickling (a __setstate__ or a reducer of it)",
    )
}

/// Whether it is about the thread that it was raised in, not about the data at hand: Ctrl-C, `sys.exit`.
pub(crate) fn is_interrupt(py: Python<'_>, raised: &PyErr) -> bool {
    !raised.is_instance_of::<PyException>(py)
}

/// Something that the calling code cannot send to another process; an interruption of the caller passes as it is.
pub(crate) fn unsendable(py: Python<'_>, what: &str, raised: PyErr) -> PyErr {
    if is_interrupt(py, &raised) {
        return raised;
    }
    unpicklable(py, what, raised)
}

/// Something of a child that cannot go to the host, whatever pickling it raised.
pub(crate) fn unpicklable(py: Python<'_>, what: &str, raised: PyErr) -> PyErr {
    let hint = py
        .import("pytoweb._pickling")
        .and_then(|module| {
            module
                .getattr("hint")?
                .call1((raised.value(py),))?
                .extract()
        })
        .unwrap_or_else(|_| String::new());
    let error = SerializationError::new_err(format!(
        "{what} cannot be sent to another process: pickling it raised {}{hint}",
        brief(py, &raised)
    ));
    error.set_cause(py, Some(raised));
    error
}

/// The error of one message of a batch that cannot go to the host.
pub(crate) fn unsendable_error(py: Python<'_>, failed: &Bound<'_, PyAny>, raised: PyErr) -> PyErr {
    let error = SerializationError::new_err(format!(
        "the error of this message cannot be sent to another process ({}); it was {}",
        brief(py, &raised),
        brief(py, &PyErr::from_value(failed.clone()))
    ));
    error.set_cause(py, Some(raised));
    error
}

/// Type and text of an exception, whatever its `__str__` does.
fn brief(py: Python<'_>, raised: &PyErr) -> String {
    let kind = raised
        .get_type(py)
        .name()
        .map_or_else(|_| "an exception".to_owned(), |name| name.to_string());
    match raised.value(py).str() {
        Ok(text) => format!("{kind}: {text}"),
        Err(_) => kind,
    }
}

/// Why waiting is refused.
pub(crate) fn wait(py: Python<'_>, error: WaitError) -> PyErr {
    match error {
        WaitError::Cycle(names) => {
            let raised = AskCycleError::new_err(WaitError::Cycle(names.clone()).to_string());
            match PyTuple::new(py, names).and_then(|names| raised.value(py).setattr("cycle", names))
            {
                Ok(()) => raised,
                Err(error) => error,
            }
        }
        WaitError::ThreadLimit(mut limit) => {
            // The pool's name, from that of its threads.
            if let Some(name) = limit.pool.strip_prefix("pytoweb-") {
                limit.pool = name.to_owned();
            }
            ThreadLimitError::new_err(limit.to_string())
        }
        other => PyRuntimeError::new_err(other.to_string()),
    }
}

pub(crate) fn stopped(name: &str) -> PyErr {
    no_more(&format!("worker {}", Quoted(name)), "is stopped")
}

pub(crate) fn pool_stopped(name: &str) -> PyErr {
    // The first words are those of the standard library.
    let what = format!(
        "cannot schedule new futures after shutdown: pool {}",
        Quoted(name)
    );
    no_more(&what, "is shut down")
}

fn no_more(what: &str, ended: &str) -> PyErr {
    let text = Python::attach(|py| {
        py.import("pytoweb._exit")?
            .getattr("no_more")?
            .call1((what, ended))?
            .extract::<String>()
    });
    text.map_or_else(|error| error, WorkerStoppedError::new_err)
}

/// `bytes`: how many are used, and may be, where they count.
pub(crate) fn full(name: &str, capacity: usize, bytes: Option<(u64, u64)>, hint: &str) -> PyErr {
    let messages = if capacity == 1 { "message" } else { "messages" };
    let bytes = bytes.map_or_else(String::new, |(used, limit)| {
        format!(" or {limit} bytes, of which {used} are used")
    });
    MailboxFullError::new_err(format!(
        "the mailbox of {} is full ({capacity} {messages}{bytes}): {hint}",
        Quoted(name)
    ))
}

pub(crate) fn overloaded(name: &str, target: Duration, window: Duration) -> PyErr {
    OverloadedError::new_err(format!(
        "{} is overloaded: its oldest queued message has waited longer than {} s for {} s; send less, or give the work to \
         more workers",
        Quoted(name),
        target.as_secs_f64(),
        window.as_secs_f64()
    ))
}

pub(crate) fn too_large(name: &str, bytes: Option<usize>, limit: u64) -> PyErr {
    let bytes = bytes.map_or_else(|| "more".to_owned(), |bytes| bytes.to_string());
    MessageTooLargeError::new_err(format!(
        "the message has {bytes} bytes, and all messages of {} together may have {limit}: split it, or give the worker \
         a higher Limits(bytes=...)",
        Quoted(name)
    ))
}

/// Something of the parent in a forked child. `kind`: "worker" or "pool".
pub(crate) fn forked(kind: &str, name: &str) -> PyErr {
    let name = Quoted(name);
    ForkedProcessError::new_err(format!(
        "{kind} {name} was started before os.fork(), so its threads and its messages are the parent process's: start it \
         after the fork (under gunicorn in post_fork), where one that was not started works as it is, or make a new \
         {kind} here"
    ))
}

/// A copy of a process worker's child that a handler forked.
pub(crate) fn copied() -> PyErr {
    ForkedProcessError::new_err(
        "this process is a copy that a handler forked: the message and its reply are those of the process it was \
         forked from",
    )
}

pub(crate) fn not_a_type(object: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!(
        "a message type must be a str, not {}",
        class_name(object)
    ))
}

pub(crate) fn not_an_id(object: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!(
        "message_id must be a str or None, not {}",
        class_name(object)
    ))
}

/// A `str` with half a surrogate pair, which no other program could read: it is refused by each call that takes it, and not
/// by the first that writes it somewhere.
#[cold]
pub(crate) fn no_text(what: &str, text: &Bound<'_, PyString>) -> PyErr {
    match text.repr() {
        Ok(shown) => PyValueError::new_err(format!(
            "{what} must be text without lone surrogates, not {shown}"
        )),
        Err(error) => error,
    }
}

pub(crate) fn not_a_timeout(object: &Bound<'_, PyAny>, what: &str) -> PyErr {
    PyTypeError::new_err(format!(
        "{what} must be a number of seconds or None, not {}",
        class_name(object)
    ))
}

pub(crate) fn bad_timeout(seconds: f64, what: &str) -> PyErr {
    PyValueError::new_err(format!("{what} must be 0 or more seconds, not {seconds}"))
}

/// A handler of messages of `kind` that is no generator function returned one.
#[cold]
pub(crate) fn returned_generator(kind: &str) -> PyErr {
    PyTypeError::new_err(format!(
        "the handler of {} returned a generator, of which nothing has run: to read it with stream(), register the \
         generator function, or have its decorator use functools.wraps",
        Quoted(kind)
    ))
}

pub(crate) fn not_a_function(object: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!(
        "the first argument must be a function to call, not {}",
        class_name(object)
    ))
}

pub(crate) fn reserved(kind: &str) -> PyErr {
    PyValueError::new_err(format!(
        "{0} is the owner's side of a reply and cannot be posted; handle it with on_message({0}, handler)",
        Quoted(kind)
    ))
}

pub(crate) fn class_name(object: &Bound<'_, PyAny>) -> String {
    object
        .get_type()
        .name()
        .map_or_else(|_| "that".to_owned(), |name| name.to_string())
}
