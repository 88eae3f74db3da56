//! Messages that are tried again when they fail: how often, after how long, and what every attempt raised.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::mem;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;

use crate::error::class_name;

/// A `pytoweb.workers.Retry`, which has checked its numbers.
#[derive(Debug)]
pub(crate) struct Policy {
    attempts: u32,
    backoff: f64,
    max_backoff: f64,
    /// The share by which a wait is longer or shorter, at random.
    jitter: f64,
    /// The exception classes after which there is another attempt.
    on: Py<PyAny>,
}

impl Policy {
    /// What a caller gave; `None` for no retry.
    pub(crate) fn of(retry: &Bound<'_, PyAny>) -> PyResult<Option<Arc<Self>>> {
        if retry.is_none() {
            return Ok(None);
        }
        let py = retry.py();
        let kind = py
            .import(intern!(py, "pytoweb._retry"))?
            .getattr(intern!(py, "Retry"))?;
        if !retry.is_instance(&kind)? {
            return Err(PyTypeError::new_err(format!(
                "retry must be a Retry, not {}",
                class_name(retry)
            )));
        }
        Ok(Some(Arc::new(Self {
            attempts: retry.getattr(intern!(py, "attempts"))?.extract()?,
            backoff: retry.getattr(intern!(py, "backoff"))?.extract()?,
            max_backoff: retry.getattr(intern!(py, "max_backoff"))?.extract()?,
            jitter: retry.getattr(intern!(py, "jitter"))?.extract()?,
            on: retry.getattr(intern!(py, "on"))?.unbind(),
        })))
    }

    /// How long to wait after so many attempts.
    fn wait(&self, made: u32) -> Duration {
        // Finite, so that it leaves a backoff of zero at zero.
        let doubled =
            i32::try_from(made - 1).map_or(f64::MAX, |power| 2_f64.powi(power.min(1_000)));
        let wait = (self.backoff * doubled).min(self.max_backoff);
        // A hasher with random keys is the random number that the standard library has.
        let random = RandomState::new().build_hasher().finish() >> 11;
        #[expect(clippy::cast_precision_loss, reason = "53 bits")]
        let share = random as f64 / (1_u64 << 53) as f64;
        let wait = wait * self.jitter.mul_add(2.0 * share - 1.0, 1.0);
        Duration::try_from_secs_f64(wait.max(0.0)).unwrap_or_default()
    }
}

/// What is known of the attempts of one message.
#[derive(Debug)]
pub(crate) struct Retrying {
    policy: Arc<Policy>,
    made: AtomicU32,
    errors: Mutex<Vec<Py<PyAny>>>,
}

/// What follows from an attempt that failed.
pub(crate) enum Then {
    Again(Duration),
    /// No more attempts; with what each of them raised.
    DeadLetter(Vec<Py<PyAny>>),
}

impl Retrying {
    pub(crate) fn new(policy: Arc<Policy>) -> Self {
        Self {
            policy,
            made: AtomicU32::new(0),
            errors: Mutex::default(),
        }
    }

    /// How many attempts there are at most.
    pub(crate) fn attempts(&self) -> u32 {
        self.policy.attempts
    }

    /// How many attempts have failed that were followed by another one.
    pub(crate) fn made(&self) -> u32 {
        // ORDERING: Relaxed, changed by the thread that has the message, which goes on under the mailbox's lock.
        self.made.load(Ordering::Relaxed)
    }

    /// Another attempt follows; or, with `false`, does not after all.
    pub(crate) fn goes_on(&self, on: bool) {
        // ORDERING: Relaxed, see `made`.
        if on {
            self.made.fetch_add(1, Ordering::Relaxed);
        } else {
            self.made.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Takes note of an attempt that failed. `crashed`: its process has ended, which is tried again whatever the policy's
    /// classes are.
    pub(crate) fn failed(&self, py: Python<'_>, error: &PyErr, crashed: bool) -> Then {
        let made = self.made() + 1;
        let value = error.clone_ref(py).into_value(py).into_any();
        let matches = crashed
            || value
                .bind(py)
                .is_instance(self.policy.on.bind(py))
                .unwrap_or(false);
        self.lock().push(value);
        if matches && made < self.policy.attempts {
            Then::Again(self.policy.wait(made))
        } else {
            self.over()
        }
    }

    /// The attempt that was to follow is not made.
    pub(crate) fn over(&self) -> Then {
        Then::DeadLetter(mem::take(&mut *self.lock()))
    }

    /// What the last attempt raised.
    pub(crate) fn last_error(&self, py: Python<'_>) -> Option<PyErr> {
        let errors = self.lock();
        let last = errors.last()?.clone_ref(py);
        drop(errors);
        Some(PyErr::from_value(last.into_bound(py)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Py<PyAny>>> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
