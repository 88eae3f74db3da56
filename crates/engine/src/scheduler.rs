//! The run queue of a pool, and when its threads sleep.
//!
//! Ready workers stand in one first-in-first-out queue, and a worker that has used up its budget goes to the back,
//! so no ready worker waits behind more than one budget of every other. One locked queue serves all threads: a turn
//! is a batch of messages, so the lock is taken once a batch.
//!
//! A thread is *active* (runs a turn or is *looking* for one), *parked* (nothing to do), or *blocked* (its handler
//! waits for a reply). At most `size` threads are active; a blocked one is made up for by another, parked or new, so a pool
//! whose threads all wait for each other goes on. When the blocked ones come back there may be more active threads
//! than `size` for a moment; then each parks at the end of its turn until the number is right.
//!
//! At most `max_spare` threads are blocked at the same time: a wait beyond that is refused, not the work that another
//! thread would do. So there are never more than `size + max_spare` threads, of which `size` can always run, and a pool
//! does not stand still because it has no more of them.
//!
//! Waking is a chain: at most one thread is *waking* (notified or being started, and not yet looking). It takes a
//! worker and wakes the next thread if there is more. So a burst of posts costs one wake-up call, not one each.
//! A looking thread takes a worker or looks once more under the lock before it parks, so none is woken or started for
//! as many workers as there are looking threads: calls that follow each other run on one thread, however large the
//! pool.

use std::collections::VecDeque;
use std::time::Duration;

use crate::sync::{Condvar, Mutex, MutexGuard};

/// How long a thread beyond the pool's size stays parked before it ends: longer than the gaps between replies that
/// handlers wait for, so that it serves many of them.
const SPARE_KEEP_ALIVE: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct State<J> {
    ready: VecDeque<J>,
    threads: usize,
    active: usize,
    /// Of the active ones, those that have started, or finished a turn, and have found no worker yet.
    looking: usize,
    parked: usize,
    blocked: usize,
    /// Notified or started, and not looking yet.
    waking: usize,
    /// Turns that will come back from outside (suspended handlers).
    suspended: usize,
    shutdown: bool,
}

/// A pool's run queue. `J` is what stands in it.
#[derive(Debug)]
pub(crate) struct Scheduler<J> {
    size: usize,
    max_spare: usize,
    state: Mutex<State<J>>,
    parked: Condvar,
}

/// Whom to wake after the lock is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Rouse {
    None,
    Parked,
    /// Start a thread, which must begin with [`Scheduler::enter`]; or say [`Scheduler::start_failed`].
    NewThread,
}

/// What a thread does next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Work<J> {
    Run(J, Rouse),
    Exit,
}

impl<J> State<J> {
    fn rouse(&mut self, size: usize) -> Rouse {
        if self.ready.len() <= self.looking || self.waking > 0 || self.active >= size {
            return Rouse::None;
        }
        self.waking += 1;
        if self.parked > 0 {
            Rouse::Parked
        } else {
            self.threads += 1;
            Rouse::NewThread
        }
    }

    /// Of a looking thread, which is looking no more if it gets one.
    fn pop(&mut self, size: usize) -> Option<(J, Rouse)> {
        if self.active > size {
            return None;
        }
        let job = self.ready.pop_front()?;
        self.looking -= 1;
        let rouse = self.rouse(size);
        Some((job, rouse))
    }
}

impl<J> Scheduler<J> {
    pub(crate) fn new(size: usize, max_spare: usize) -> Self {
        Self {
            size,
            max_spare,
            state: Mutex::new(State {
                ready: VecDeque::new(),
                threads: 0,
                active: 0,
                looking: 0,
                parked: 0,
                blocked: 0,
                waking: 0,
                suspended: 0,
                shutdown: false,
            }),
            parked: Condvar::new(),
        }
    }

    pub(crate) const fn max_spare(&self) -> usize {
        self.max_spare
    }

    /// Carries out the notification part of a [`Rouse`]. True: the caller must start a thread.
    pub(crate) fn notify(&self, rouse: Rouse) -> bool {
        if rouse == Rouse::Parked {
            self.parked.notify_one();
        }
        rouse == Rouse::NewThread
    }

    /// Puts `job` behind the others.
    pub(crate) fn push(&self, job: J) -> Rouse {
        let mut state = self.state.lock();
        state.ready.push_back(job);
        state.rouse(self.size)
    }

    /// The first thing a new thread does. It is looking from then on.
    pub(crate) fn enter(&self) -> Rouse {
        let mut state = self.state.lock();
        state.waking = state.waking.saturating_sub(1);
        state.active += 1;
        state.looking += 1;
        // The work that its language has to do first may take long: the next one does not wait for that.
        state.rouse(self.size)
    }

    /// A thread has run a turn, and is looking again; `again` goes behind the other jobs. The next one, if there is one
    /// that it may run.
    pub(crate) fn finish(&self, again: Option<J>) -> Option<(J, Rouse)> {
        let mut state = self.state.lock();
        state.looking += 1;
        state.ready.extend(again);
        state.pop(self.size)
    }

    /// The thread that was to be started could not be.
    pub(crate) fn start_failed(&self) {
        let mut state = self.state.lock();
        state.waking = state.waking.saturating_sub(1);
        state.threads -= 1;
    }

    /// Asks for a first thread, if there is none.
    pub(crate) fn first_thread(&self) -> Rouse {
        let mut state = self.state.lock();
        if state.threads > 0 || state.shutdown {
            return Rouse::None;
        }
        state.waking += 1;
        state.threads += 1;
        Rouse::NewThread
    }

    /// The next job of a looking thread, if there is one that it may run. Never blocks.
    pub(crate) fn try_next(&self) -> Option<(J, Rouse)> {
        self.state.lock().pop(self.size)
    }

    /// The same; parks while there is none.
    pub(crate) fn next(&self) -> Work<J> {
        let mut state = self.state.lock();
        loop {
            if let Some((job, rouse)) = state.pop(self.size) {
                return Work::Run(job, rouse);
            }
            let spare = state.threads - state.blocked > self.size;
            if state.shutdown && state.ready.is_empty() && state.suspended == 0 {
                return self.leave(state);
            }
            state.active -= 1;
            state.looking -= 1;
            state.parked += 1;
            let (guard, timed_out) = self.parked.wait(state, spare.then_some(SPARE_KEEP_ALIVE));
            state = guard;
            state.parked -= 1;
            state.active += 1;
            state.looking += 1;
            // Woken without a notification (by time, or for no reason) it may count another thread's as its own.
            // That one then looks too, which costs a look; none is lost.
            state.waking = state.waking.saturating_sub(1);
            if timed_out && state.ready.is_empty() && state.threads - state.blocked > self.size {
                return self.leave(state);
            }
        }
    }

    fn leave(&self, mut state: MutexGuard<'_, State<J>>) -> Work<J> {
        state.active -= 1;
        state.looking -= 1;
        state.threads -= 1;
        let shutdown = state.shutdown;
        drop(state);
        if shutdown {
            // The others may have parked again while a suspended turn was still to come back.
            self.parked.notify_all();
        }
        Work::Exit
    }

    /// The calling thread is about to wait inside its handler: another one may run in its place. `None`: so many wait
    /// already that it must not.
    pub(crate) fn block(&self) -> Option<Rouse> {
        let mut state = self.state.lock();
        if state.blocked >= self.max_spare {
            return None;
        }
        state.active -= 1;
        state.blocked += 1;
        Some(state.rouse(self.size))
    }

    /// The calling thread goes on with its handler.
    pub(crate) fn unblock(&self) {
        let mut state = self.state.lock();
        state.blocked -= 1;
        state.active += 1;
    }

    /// Whether work waits and no thread is left to do it.
    pub(crate) fn is_stalled(&self) -> bool {
        let state = self.state.lock();
        !state.ready.is_empty() && state.active == 0 && state.parked == 0 && state.waking == 0
    }

    /// A turn was suspended, or came back.
    pub(crate) fn suspended(&self, more: bool) {
        let mut state = self.state.lock();
        if more {
            state.suspended += 1;
            return;
        }
        state.suspended -= 1;
        let last = state.suspended == 0 && state.shutdown;
        drop(state);
        if last {
            // A thread may have run the turn that came back, and parked because of this very count.
            self.parked.notify_all();
        }
    }

    /// Lets every thread end once the queue is empty.
    pub(crate) fn shutdown(&self) {
        self.state.lock().shutdown = true;
        self.parked.notify_all();
    }

    /// Whether every thread has ended after [`Scheduler::shutdown`].
    pub(crate) fn is_over(&self) -> bool {
        let state = self.state.lock();
        state.shutdown && state.threads == 0
    }

    /// Threads that exist or are being started.
    pub(crate) fn threads(&self) -> usize {
        self.state.lock().threads
    }
}

#[cfg(all(test, not(pytoweb_loom)))]
#[path = "scheduler/tests.rs"]
mod tests;
