//! Room for the replies that go to a worker's owner.
//!
//! A message with an id takes a place from its post until its reply is taken by a `response` or `error` handler: in
//! the mailbox, with the worker, and on the way to the handler. There are as many places as the mailbox holds messages,
//! and one for each that may run; so what waits behind a slow handler is bounded by the mailbox's own capacity. Where
//! the oldest message makes room for a new one, it keeps its place until its error was taken, and there are twice as
//! many places.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

/// Places that a thread waits for, for a moment, once all were taken.
const AMPLE_ROOM: usize = 1024;

#[derive(Debug, Default)]
struct State {
    used: usize,
    /// Threads in [`ReplyRoom::wait`].
    waiting: usize,
    callbacks: Vec<Py<PyAny>>,
    /// Posts are refused: there is nothing to wait for.
    closed: bool,
}

#[derive(Debug)]
pub(crate) struct ReplyRoom {
    places: usize,
    /// So many free places wake a thread that waits for one.
    ample: usize,
    state: Mutex<State>,
    freed: Condvar,
}

impl ReplyRoom {
    pub(crate) fn new(places: usize) -> Self {
        Self {
            places,
            ample: places.div_ceil(2).min(AMPLE_ROOM),
            state: Mutex::default(),
            freed: Condvar::new(),
        }
    }

    /// The same in a forked child, with all places free.
    pub(crate) fn again(&self) -> Self {
        Self::new(self.places)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place, if one is free.
    pub(crate) fn take(&self) -> bool {
        self.take_below(self.places)
    }

    /// The same of twice as many places.
    pub(crate) fn take_of_twice(&self) -> bool {
        self.take_below(self.places.saturating_mul(2))
    }

    fn take_below(&self, places: usize) -> bool {
        let mut state = self.lock();
        let free = state.used < places;
        state.used += usize::from(free);
        free
    }

    /// Gives places back, and tells those who wait.
    pub(crate) fn give_back(&self, py: Python<'_>, places: usize) {
        let mut state = self.lock();
        state.used = state.used.saturating_sub(places);
        let callbacks = std::mem::take(&mut state.callbacks);
        let free = self.places - state.used.min(self.places);
        // A thread that went on at the first place would change places with the handler for each message. One that is
        // not woken for a few looks by itself, after a slice of its wait.
        let woken = if free >= self.ample {
            state.waiting.min(free)
        } else {
            0
        };
        drop(state);
        for _ in 0..woken {
            self.freed.notify_one();
        }
        call(py, callbacks);
    }

    /// Posts are refused from now on: wakes all who wait.
    pub(crate) fn close(&self, py: Python<'_>) {
        let mut state = self.lock();
        state.closed = true;
        let callbacks = std::mem::take(&mut state.callbacks);
        drop(state);
        self.freed.notify_all();
        call(py, callbacks);
    }

    /// Blocks until a place may be free, or posts are refused, at most for `limit`.
    pub(crate) fn wait(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let mut state = self.lock();
        while state.used >= self.places && !state.closed {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state.waiting += 1;
            (state, _) = self
                .freed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
    }

    /// Calls `callback()` once a place may be free. False: one may be already, and nothing was kept.
    pub(crate) fn on_room(&self, callback: &Py<PyAny>, py: Python<'_>) -> bool {
        let mut state = self.lock();
        let full = state.used >= self.places && !state.closed;
        if full {
            state.callbacks.push(callback.clone_ref(py));
        }
        full
    }
}

fn call(py: Python<'_>, callbacks: Vec<Py<PyAny>>) {
    for callback in callbacks {
        if let Err(error) = callback.call0(py) {
            error.write_unraisable(py, None);
        }
    }
}
