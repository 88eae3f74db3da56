//! What is called for a message.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::error;
use crate::host::around::Surroundings;
use crate::host::batches;
use crate::host::message::{Body, PyMessage};
use crate::host::task::Head;
use crate::host::worker_shared::WorkerShared;
use crate::interpreter::context;

/// What to call for one message, apart from the message, which is elsewhere during the call.
pub(super) enum HandlerCall<'py> {
    /// The handler, the type of the message, and its data.
    Handler(Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>),
    /// For a list of messages.
    Batch(Bound<'py, PyAny>),
    Function {
        function: Bound<'py, PyAny>,
        args: Bound<'py, PyTuple>,
        kwargs: Option<Bound<'py, PyDict>>,
        awaits: bool,
    },
    /// There is nothing to call, for this reason.
    Refused(PyErr),
}

impl<'py> HandlerCall<'py> {
    pub(super) fn run(self, surroundings: &Surroundings) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Handler(handler, kind, data) => {
                let returned = surroundings.handle(&handler, data)?;
                context::no_generator(returned, || kind.to_string())
            }
            Self::Function {
                function,
                args,
                kwargs,
                awaits,
            } => surroundings.call(&function, args, kwargs.as_ref(), awaits),
            Self::Refused(error) => Err(error),
            Self::Batch(_) => Err(PyRuntimeError::new_err("a batch is called with a list")),
        }
    }

    pub(super) const fn awaits(&self) -> bool {
        match self {
            Self::Handler(..) | Self::Batch(_) => true,
            Self::Function { awaits, .. } => *awaits,
            Self::Refused(_) => false,
        }
    }
}

impl WorkerShared {
    /// The call of a message.
    pub(super) fn call<'py>(&self, py: Python<'py>, message: &PyMessage) -> HandlerCall<'py> {
        let Body::Local { head, data, .. } = &message.body else {
            return HandlerCall::Refused(PyRuntimeError::new_err(
                "the message is for another process",
            ));
        };
        let (head, data) = (head.bind(py), data.bind(py).clone());
        match message.head_kind() {
            Head::Type => match self.handlers.bind(py).get_item(head) {
                Ok(Some(handler)) if self.kinds.has_batches() => {
                    match batches::list_handler(&handler) {
                        Ok(Some(handler)) => HandlerCall::Batch(handler),
                        Ok(None) => HandlerCall::Handler(handler, head.clone(), data),
                        Err(error) => HandlerCall::Refused(error),
                    }
                }
                Ok(Some(handler)) => HandlerCall::Handler(handler, head.clone(), data),
                Ok(None) => HandlerCall::Refused(error::unknown(self.named(), &head.to_string())),
                Err(error) => HandlerCall::Refused(error),
            },
            kind => {
                let kwargs = message.task().and_then(|task| task.kwargs());
                let kwargs = kwargs.map(|kwargs| kwargs.bind(py).clone());
                match data.cast_into::<PyTuple>() {
                    Ok(args) => HandlerCall::Function {
                        function: head.clone(),
                        args,
                        kwargs,
                        awaits: kind == Head::AsyncFunction,
                    },
                    Err(error) => HandlerCall::Refused(error.into()),
                }
            }
        }
    }
}
