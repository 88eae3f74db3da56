//! A message for another process, made where it is posted: bad payloads are the sender's error, at the sender's call.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};
use pytoweb_process::OwnedRequest;

use crate::error;
use crate::error::{NamedOwner, Quoted};
use crate::host::failure;
use crate::host::flags;
use crate::host::handler::Runner;
use crate::host::message::{Apart, Body, run_chunk};
use crate::host::task::{Head, Task};
use crate::interpreter::context;
use crate::pickle::definitions::Definitions;
use crate::pickle::pickling;
use crate::pickle::pickling::Way;

/// How one endpoint packs its messages.
#[derive(Debug)]
pub(crate) struct Packing {
    pub(crate) runner: Arc<Runner>,
    pub(crate) max_attempts: u32,
    /// The child is to be told of the handlers by the next post.
    pub(crate) stale: AtomicBool,
    /// It was found that children may be started.
    pub(crate) may_start: AtomicBool,
    pub(crate) functions: Definitions,
    pub(crate) kind: LastKind,
    /// The pool's `ProcessRuntime`.
    pub(crate) runtime: Py<PyAny>,
}

/// The type of the last message: the next one is mostly of the same, and shares its text.
#[derive(Debug, Default)]
pub(crate) struct LastKind(Mutex<Option<Arc<str>>>);

impl LastKind {
    fn share(&self, kind: &str) -> PyResult<Arc<str>> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(last) if **last == *kind => Ok(last.clone()),
            _ => {
                let kind: Arc<str> = checked_name(kind, "the type")?.into();
                *last = Some(kind.clone());
                Ok(kind)
            }
        }
    }
}

impl Packing {
    /// Refuses messages while no process can be started that would run them, or may be. A named worker was asked when
    /// it was started.
    fn check(&self, py: Python<'_>, to: NamedOwner<'_>) -> PyResult<()> {
        // ORDERING: Relaxed, written and read under the interpreter lock.
        if !self.may_start.load(Ordering::Relaxed) {
            self.runtime
                .bind(py)
                .call_method0(intern!(py, "check_start"))?;
            // ORDERING: Relaxed, as above.
            self.may_start.store(true, Ordering::Relaxed);
        }
        match self.runner.failure() {
            None => Ok(()),
            Some((crash, rest)) => Err(failure::crashed(py, &crash, None, Some(to), Some(rest))),
        }
    }

    /// Has the child told of the handlers, if it is to be before the next post.
    pub(crate) fn refresh(&self, py: Python<'_>, owner: &Py<PyAny>) -> PyResult<()> {
        // ORDERING: Relaxed, set and read under the interpreter lock.
        if !self.stale.load(Ordering::Relaxed) {
            return Ok(());
        }
        let owner = owner.bind(py).call0()?;
        if owner.is_none() {
            return Ok(());
        }
        owner.call_method0(intern!(py, "_pytoweb_refresh"))?;
        // ORDERING: Relaxed, as above. One that fails is tried again by the next post.
        self.stale.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// A message for the handler of `kind`.
    pub(crate) fn message(
        &self,
        py: Python<'_>,
        to: NamedOwner<'_>,
        kind: &Bound<'_, PyString>,
        data: &Bound<'_, PyAny>,
        task: Option<&Task>,
    ) -> PyResult<Body> {
        self.check(py, to)?;
        let payload =
            pickling::pack(py, Way::ToChild, data, || self.runner.store()).map_err(|raised| {
                let what = format!(
                    "the data of a message of type {} for {to}",
                    Quoted(&kind.to_string()),
                );
                error::unsendable(py, &what, raised)
            })?;
        let id = task.and_then(Task::id);
        let id = id.map(|id| id.to_str(py)).transpose()?;
        let (context, own_context) = variables(py)?;
        let request = OwnedRequest {
            kind: self.kind.share(kind.to_str()?)?,
            id: id
                .map(|id| checked_name(id, "the message_id").map(Into::into))
                .transpose()?,
            context,
            payload,
            definition: None,
            flags: match task {
                None => flags::NO_REPLY,
                Some(task) => task
                    .stream()
                    .map_or(0, |channel| flags::of_window(channel.window())),
            },
            // Another attempt would send the items of a stream once more.
            max_attempts: match task.and_then(Task::stream) {
                Some(_) => 1,
                None => self.max_attempts,
            },
            attempt: AtomicU32::new(1),
            earlier: AtomicU32::new(0),
            company: Box::default(),
        };
        Ok(packed(request, own_context))
    }

    /// A message that calls `function`.
    pub(crate) fn call(
        &self,
        py: Python<'_>,
        to: NamedOwner<'_>,
        head: Head,
        function: &Bound<'_, PyAny>,
        args: Py<PyTuple>,
        kwargs: Option<Py<PyDict>>,
    ) -> PyResult<Body> {
        self.check(py, to)?;
        let mut args = args.into_bound(py);
        // A chunk calls its first argument: that is the function.
        let chunk = kwargs.is_none() && function.is(run_chunk(py)?) && !args.is_empty();
        let called = if chunk {
            args.get_item(0)?
        } else {
            function.clone()
        };
        let store = || self.runner.store();
        let definition = self.functions.of(py, &called, store)?;
        let kind = match &definition {
            Some(definition) => definition.kind.clone(),
            None => {
                let kind = match called.getattr_opt(intern!(py, "__qualname__"))? {
                    Some(name) => name.str()?,
                    None => called.get_type().name()?,
                };
                checked_name(&kind.to_string_lossy(), "the name")?.into()
            }
        };
        let unsendable =
            |raised| error::unsendable(py, &format!("a call of {}", Quoted(&kind)), raised);
        let payload = match &definition {
            Some(definition) if chunk => {
                args = args.get_slice(1, args.len());
                let call = (definition.sent.number, args, true).into_pyobject(py)?;
                pickling::pack(py, Way::ToChild, &call, store)
            }
            Some(definition) => {
                let call = (definition.sent.number, args, kwargs).into_pyobject(py)?;
                pickling::pack(py, Way::ToChild, &call, store)
            }
            None => {
                let call = (function, args, kwargs).into_pyobject(py)?;
                pickling::pack(py, Way::ToChild, &call, store)
            }
        }
        .map_err(unsendable)?;
        let (context, own_context) = variables(py)?;
        let awaits = if head == Head::AsyncFunction {
            flags::AWAITS
        } else {
            0
        };
        let request = OwnedRequest {
            kind,
            id: None,
            context,
            payload,
            definition: definition.map(|definition| definition.sent.clone()),
            flags: flags::FUNCTION | awaits,
            max_attempts: self.max_attempts,
            attempt: AtomicU32::new(1),
            earlier: AtomicU32::new(0),
            company: Box::default(),
        };
        Ok(packed(request, own_context))
    }
}

fn packed(request: OwnedRequest, context: Option<Py<PyAny>>) -> Body {
    Body::Apart(Apart::Packed {
        request: Arc::new(request),
        context,
    })
}

/// What a frame holds besides the payload has to fit into the ring, several times.
const LONGEST_NAME: usize = 16 << 10;

pub(crate) fn checked_name<'a>(name: &'a str, what: &str) -> PyResult<&'a str> {
    if name.len() <= LONGEST_NAME {
        return Ok(name);
    }
    Err(error::SerializationError::new_err(format!(
        "{what} of a message for another process has {} bytes, {LONGEST_NAME} are allowed: send it as data",
        name.len()
    )))
}

/// The sender's context as it is here, if it has one.
type OwnContext = Option<Py<PyAny>>;

/// The sender's context, and those of its variables that can be brought over, pickled; empty for none.
fn variables(py: Python<'_>) -> PyResult<(Box<[u8]>, OwnContext)> {
    static PACK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

    let Some(context) = context::capture(py)? else {
        return Ok((Box::default(), None));
    };
    let pack = PACK.get_or_try_init(py, || -> PyResult<_> {
        Ok(py
            .import("pytoweb._pickling")?
            .getattr("pack_context")?
            .unbind())
    })?;
    let packed = pack.bind(py).call1((&context,))?;
    let packed = packed.cast::<PyBytes>()?.as_bytes().into();
    Ok((packed, Some(context)))
}
