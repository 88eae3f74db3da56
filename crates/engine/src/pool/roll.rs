//! The roll of a pool: which threads it has, and the wait for their end.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle, ThreadId};

use crate::contained::drop_each;
use crate::sync::{Condvar, Mutex};

/// Which threads a pool has. Apart from the pool, because a thread signs off when nothing of the pool is left on it.
#[derive(Default)]
pub(super) struct Roll {
    list: Mutex<Threads>,
    /// A thread has ended, waits for the others, or was joined.
    changed: Condvar,
}

impl Roll {
    /// Starts a thread of the pool. It signs off after `body` and the drop of `presence`.
    pub(super) fn start(
        self: &Arc<Self>,
        thread: thread::Builder,
        presence: Box<dyn Send>,
        body: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        // Held until the thread is entered: its end waits for that.
        let mut threads = self.list.lock();
        let roll = self.clone();
        let handle = thread.spawn(move || {
            body();
            drop_each([presence]);
            roll.list.lock().leave(thread::current().id());
            roll.changed.notify_all();
        })?;
        threads.enter(handle);
        Ok(())
    }

    /// See [`Pool::join`](crate::Pool::join). Says whether all threads have ended: not where the caller is one of them.
    pub(super) fn join(&self) -> bool {
        let own = thread::current().id();
        let mut threads = self.list.lock();
        if threads.alive.contains(&own) {
            threads.joining.push(own);
            self.changed.notify_all();
            while !threads.all_join() {
                (threads, _) = self.changed.wait(threads, None);
            }
            return false;
        }
        loop {
            if let Some(thread) = threads.handles.pop() {
                drop(threads);
                let id = thread.thread().id();
                // A panic of the engine was reported by the hook already, and there is no other place to tell.
                let _ = thread.join();
                threads = self.list.lock();
                threads.unjoined.retain(|known| *known != id);
                self.changed.notify_all();
            } else if threads.unjoined.is_empty() {
                return true;
            } else {
                // Another caller joins it.
                (threads, _) = self.changed.wait(threads, None);
            }
        }
    }
}

/// The threads of a pool.
#[derive(Default)]
struct Threads {
    handles: Vec<JoinHandle<()>>,
    /// Those that no caller of [`Roll::join`] has seen the end of.
    unjoined: Vec<ThreadId>,
    alive: Vec<ThreadId>,
    /// Those that are in [`Roll::join`].
    joining: Vec<ThreadId>,
}

impl Threads {
    fn enter(&mut self, handle: JoinHandle<()>) {
        let finished = |thread: &mut JoinHandle<()>| thread.is_finished();
        for thread in self.handles.extract_if(.., finished) {
            self.unjoined.retain(|known| *known != thread.thread().id());
        }
        let id = handle.thread().id();
        self.alive.push(id);
        self.unjoined.push(id);
        self.handles.push(handle);
    }

    fn leave(&mut self, id: ThreadId) {
        self.alive.retain(|known| *known != id);
        self.joining.retain(|known| *known != id);
    }

    /// Whether every thread that lives waits for the others.
    fn all_join(&self) -> bool {
        self.alive.iter().all(|id| self.joining.contains(id))
    }
}
