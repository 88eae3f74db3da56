//! Functions that are called again and again: pickled once, and sent to a child once.
//!
//! A call refers to its function by a number. The lane sends the definition before the first call that needs it
//! (`lane/defined.rs` of `crates/process`), and the child unpickles it in that call. A function that goes by value takes
//! along what it refers to; when that changes here, the function gets another number.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyFunction, PyTuple, PyWeakrefReference};
use pytoweb_process::{Packer, Store};

/// Functions that are remembered before those that are gone are looked for.
const MOST: usize = 256;

/// The numbers by which a child tells them apart.
static NUMBERS: AtomicU32 = AtomicU32::new(1);

/// A function as children get it.
#[derive(Debug)]
pub(crate) struct FunctionDefinition {
    /// What the function is called.
    pub(crate) kind: Arc<str>,
    pub(crate) sent: Arc<pytoweb_process::Definition>,
}

/// What must be as it was for a definition to hold, of a function that goes by value.
struct DefinitionWatch {
    code: Py<PyAny>,
    /// Globals: a dictionary, a name and the value there, again and again.
    names: Py<PyTuple>,
    /// Says whether the values that may change by themselves are as they were.
    is_as_before: Option<Py<PyAny>>,
}

/// Stands for a global that is not there.
static ABSENT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

impl DefinitionWatch {
    fn holds(&self, py: Python<'_>, function: &Bound<'_, PyAny>) -> PyResult<bool> {
        if !function
            .getattr(intern!(py, "__code__"))?
            .is(self.code.bind(py))
        {
            return Ok(false);
        }
        let names = self.names.bind(py);
        for index in (0..names.len()).step_by(3) {
            let globals = names.get_borrowed_item(index)?;
            let name = names.get_borrowed_item(index + 1)?;
            let then = names.get_borrowed_item(index + 2)?;
            let holds = match globals.cast::<PyDict>()?.get_item(name)? {
                Some(now) => now.is(then),
                None => ABSENT.get(py).is_some_and(|absent| absent.is(then)),
            };
            if !holds {
                return Ok(false);
            }
        }
        match &self.is_as_before {
            Some(is_as_before) => is_as_before.bind(py).call0()?.is_truthy(),
            None => Ok(true),
        }
    }
}

struct Known {
    function: Py<PyWeakrefReference>,
    watch: Option<DefinitionWatch>,
    definition: Arc<FunctionDefinition>,
}

impl Known {
    fn is_of(&self, py: Python<'_>, function: &Bound<'_, PyAny>) -> PyResult<bool> {
        let is_it = self
            .function
            .bind(py)
            .upgrade()
            .is_some_and(|known| known.is(function));
        match &self.watch {
            Some(watch) if is_it => watch.holds(py, function),
            _ => Ok(is_it),
        }
    }
}

/// The functions that an endpoint was given to call.
#[derive(Default)]
pub(crate) struct Definitions(Mutex<HashMap<usize, Arc<Known>>>);

impl fmt::Debug for Definitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Definitions").finish_non_exhaustive()
    }
}

impl Definitions {
    fn lock(&self) -> MutexGuard<'_, HashMap<usize, Arc<Known>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The definition of `function`; `None` for what goes along with each call.
    pub(crate) fn of(
        &self,
        py: Python<'_>,
        function: &Bound<'_, PyAny>,
        store: impl FnOnce() -> Option<Arc<Store>>,
    ) -> PyResult<Option<Arc<FunctionDefinition>>> {
        if !function.is_exact_instance_of::<PyFunction>() {
            return Ok(None);
        }
        let key = function.as_ptr().addr();
        // Nothing of Python runs under the lock.
        let known = self.lock().get(&key).cloned();
        if let Some(known) = known
            && known.is_of(py, function)?
        {
            return Ok(Some(known.definition.clone()));
        }
        let Some(known) = describe(py, function, store)? else {
            return Ok(None);
        };
        let definition = known.definition.clone();
        let mut gone = Vec::new();
        let mut all = self.lock();
        if all.len() >= MOST {
            all.retain(|_, known| {
                let is_there = known.function.bind(py).upgrade().is_some();
                if !is_there {
                    gone.push(known.clone());
                }
                is_there
            });
        }
        if all.len() >= MOST {
            gone.extend(all.drain().map(|(_, known)| known));
        }
        let replaced = all.insert(key, Arc::new(known));
        drop(all);
        drop((gone, replaced));
        Ok(Some(definition))
    }
}

type Described<'py> = (
    Bound<'py, PyBytes>,
    Option<Bound<'py, PyTuple>>,
    Option<Bound<'py, PyAny>>,
);

fn describe(
    py: Python<'_>,
    function: &Bound<'_, PyAny>,
    store: impl FnOnce() -> Option<Arc<Store>>,
) -> PyResult<Option<Known>> {
    static DESCRIBE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

    let describe = DESCRIBE.get_or_try_init(py, || -> PyResult<_> {
        let module = py.import("pytoweb._definitions")?;
        let absent = module.getattr("ABSENT")?.unbind();
        let _ = ABSENT.set(py, absent);
        Ok(module.getattr("describe")?.unbind())
    })?;
    let Some((pickle, names, is_as_before)) = describe
        .bind(py)
        .call1((function,))?
        .extract::<Option<Described<'_>>>()?
    else {
        return Ok(None);
    };
    let watch = match names {
        Some(names) => Some(DefinitionWatch {
            code: function.getattr(intern!(py, "__code__"))?.unbind(),
            names: names.unbind(),
            is_as_before: is_as_before.map(Bound::unbind),
        }),
        None => None,
    };
    let kind = function.getattr(intern!(py, "__qualname__"))?;
    let bytes = pickle.as_bytes();
    let mut packer = Packer::new(store());
    packer.write(bytes);
    if packer.lacks_memory() {
        // The call goes on without a definition, and says what is amiss.
        return Ok(None);
    }
    Ok(Some(Known {
        function: PyWeakrefReference::new(function)?.unbind(),
        watch,
        definition: Arc::new(FunctionDefinition {
            kind: kind.str()?.to_string_lossy().into(),
            sent: Arc::new(pytoweb_process::Definition {
                // ORDERING: Relaxed, only uniqueness matters.
                number: NUMBERS.fetch_add(1, Ordering::Relaxed),
                payload: Arc::new(packer.finish()),
                bytes: bytes.len(),
            }),
        }),
    }))
}
