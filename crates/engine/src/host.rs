//! A host: what surrounds a pool's threads.

use std::sync::Arc;

/// What surrounds a pool's threads: a language runtime that wants to know when they start, wait and end.
pub trait Host: Send + Sync + 'static {
    /// Runs `body`, which is the life of one pool thread. The thread's references to the pool and to the host end in
    /// here.
    fn thread(self: Arc<Self>, body: Box<dyn FnOnce() + Send>) {
        body();
    }

    /// A thread of the pool has nothing to do and is about to sleep: it, or what it runs, may have freed much memory.
    /// Called in no [`Host::thread`], or inside [`Host::blocking`].
    fn rests(&self) {}

    /// Runs `wait`, which may block. Called on a pool thread, inside [`Host::thread`].
    fn blocking(&self, wait: &mut (dyn FnMut() + Send)) {
        wait();
    }

    /// Bytes of stack for a thread that is about to start; `None` is the standard library's own size, 2 MiB unless
    /// `RUST_MIN_STACK` says otherwise. Called on the thread that starts it, with no engine lock held.
    fn stack_bytes(&self) -> Option<usize> {
        None
    }

    /// Held by a thread of the pool from before it starts until nothing of the pool is left on it. Called as
    /// [`Host::stack_bytes`] is.
    fn presence(&self) -> Box<dyn Send> {
        Box::new(())
    }
}

/// A host that adds nothing, but for the size of the stacks.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainHost {
    /// See [`Host::stack_bytes`].
    pub stack_bytes: Option<usize>,
}

impl Host for PlainHost {
    fn stack_bytes(&self) -> Option<usize> {
        self.stack_bytes
    }
}
