//! How a worker has ended.

use std::fmt;

use crate::contained::contained;
use crate::sync::{AtomicBool, AtomicU8, Mutex, Ordering};

/// How a worker has ended. Of several stops of one worker that were called before its end, the last one of these counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Exit {
    /// All that was queued has been handled.
    Drained,
    /// What was queued has failed or was cancelled, or it was never started; a handler that ran was finished.
    Stopped,
    /// It was abandoned: what was queued has failed, and the running handler was asked to stop.
    Terminated,
}

impl Exit {
    const ALL: [Self; 3] = [Self::Drained, Self::Stopped, Self::Terminated];
}

type Callback = Box<dyn FnOnce(Exit) + Send>;

/// Who is told of the end of one worker.
#[derive(Default)]
pub(crate) struct Exits {
    callbacks: Mutex<Vec<Callback>>,
    /// There are some.
    any: AtomicBool,
    /// How it ends, as a place in [`Exit::ALL`].
    how: AtomicU8,
}

impl fmt::Debug for Exits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exits").finish_non_exhaustive()
    }
}

impl Exits {
    /// It is to end like this, or has been told to end in a stronger way.
    pub(crate) fn note(&self, how: Exit) {
        // ORDERING: Relaxed, noted before the mailbox is closed under its lock, and read after it was seen closed there.
        self.how.fetch_max(how as u8, Ordering::Relaxed);
    }

    /// How it ends.
    pub(crate) fn how(&self) -> Exit {
        // ORDERING: Relaxed, see `note`.
        Exit::ALL[usize::from(self.how.load(Ordering::Relaxed))]
    }

    /// Adds a callback. The caller looks afterwards whether the worker has ended.
    pub(crate) fn add(&self, callback: Callback) {
        self.callbacks.lock().push(callback);
        // ORDERING: Relaxed: both the thread that ends the worker and the one that adds take the lock of its inbox between
        // this and their look. Who comes second sees what the first has done.
        self.any.store(true, Ordering::Relaxed);
    }

    /// Whether an end is of interest.
    #[inline]
    pub(crate) fn are_there(&self) -> bool {
        // ORDERING: Relaxed, see `add`.
        self.any.load(Ordering::Relaxed)
    }

    /// It has ended: calls each callback that was not called yet, with no lock held.
    #[cold]
    pub(crate) fn call(&self) {
        let callbacks = std::mem::take(&mut *self.callbacks.lock());
        let how = self.how();
        for callback in callbacks {
            let _ = contained(|| callback(how));
        }
    }
}
