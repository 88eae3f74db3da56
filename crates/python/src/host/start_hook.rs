//! What a worker runs before its first message.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pytoweb_engine::Blocking;

use crate::interpreter::context;

/// A hook that is still to run, if there is one.
#[derive(Debug, Default)]
pub(crate) struct StartHook {
    /// Whether there may be one: looked at for every message. Changed under the lock.
    waits: AtomicBool,
    hook: Mutex<Option<Py<PyAny>>>,
    /// It runs, and messages that are begun meanwhile are to wait for it.
    runs: Mutex<bool>,
    over: Condvar,
}

/// While it is there, messages wait that are to begin after the hook.
struct HookRuns<'a>(&'a StartHook);

impl Drop for HookRuns<'_> {
    fn drop(&mut self) {
        *self.0.runs.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.over.notify_all();
    }
}

impl StartHook {
    pub(crate) fn new(hook: Option<Py<PyAny>>) -> Self {
        Self {
            waits: AtomicBool::new(hook.is_some()),
            hook: Mutex::new(hook),
            ..Self::default()
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Py<PyAny>>> {
        self.hook.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same hook, for the endpoint that takes this one's place in a forked child. Its lock is only ever held with
    /// the interpreter lock, so that no other thread of the parent held it at the fork.
    pub(crate) fn again(&self, py: Python<'_>) -> Self {
        Self::new(self.lock().as_ref().map(|hook| hook.clone_ref(py)))
    }

    /// Whether a hook has yet to run.
    #[inline]
    pub(crate) fn waits(&self) -> bool {
        // ORDERING: Acquire, with `set`.
        self.waits.load(Ordering::Acquire)
    }

    /// Has `hook` run before the next message.
    pub(crate) fn set(&self, hook: Py<PyAny>) {
        let mut place = self.lock();
        let before = place.replace(hook);
        // ORDERING: Release, with `run`; the interpreter lock orders them as well.
        self.waits.store(true, Ordering::Release);
        drop(place);
        drop(before);
    }

    /// Runs it, before a message, and then one that was registered meanwhile, if only by the hook itself. One that
    /// raises runs again before the next message, unless another has taken its place. `finish` runs a coroutine.
    ///
    /// `alone`: where it runs for another message at this moment, this one waits until that is over.
    pub(crate) fn run(
        &self,
        py: Python<'_>,
        alone: bool,
        finish: impl Fn(Bound<'_, PyAny>) -> PyResult<()>,
    ) -> PyResult<()> {
        // ORDERING: Acquire, with `set`.
        if !self.waits.load(Ordering::Acquire) {
            return Ok(());
        }
        let _running = alone.then(|| self.begin(py));
        let mut done: Option<Py<PyAny>> = None;
        while let Some(hook) = self.take(done.as_ref()) {
            let ended = hook.bind(py).call0().and_then(|returned| {
                if context::is_coroutine(&returned) {
                    finish(returned)
                } else {
                    Ok(())
                }
            });
            if ended.is_err() {
                let mut place = self.lock();
                if place.is_none() {
                    *place = Some(hook);
                    // ORDERING: Release, as in `set`.
                    self.waits.store(true, Ordering::Release);
                }
                return ended;
            }
            done = Some(hook);
        }
        Ok(())
    }

    fn begin(&self, py: Python<'_>) -> HookRuns<'_> {
        let wait = || {
            let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
            let mut runs = self
                .over
                .wait_while(runs, |runs| *runs)
                .unwrap_or_else(PoisonError::into_inner);
            *runs = true;
        };
        // Another message may run in the place of this one: the hook may wait for it. Where no more threads may, it waits
        // all the same.
        py.detach(|| match Blocking::enter() {
            Ok(_lent) => wait(),
            Err(_) => wait(),
        });
        HookRuns(self)
    }

    /// Takes the hook that is to run next. One that has registered itself waits for the next message.
    fn take(&self, done: Option<&Py<PyAny>>) -> Option<Py<PyAny>> {
        let mut place = self.lock();
        if done
            .zip(place.as_ref())
            .is_some_and(|(done, next)| done.is(next))
        {
            return None;
        }
        let next = place.take();
        if next.is_none() {
            // ORDERING: Release, as in `set`.
            self.waits.store(false, Ordering::Release);
        }
        next
    }
}
