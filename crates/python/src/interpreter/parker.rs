//! How a thread outside the pools waits for a reply: on a lock of the interpreter, which a signal interrupts.
//!
//! Short slices with a look for signals in between would arm a timer each time, which costs microseconds on a virtual
//! machine. A lock's wait is the one that `threading.Lock.acquire` uses: it ends early when a signal (Ctrl-C) came to
//! this thread.
#![expect(
    unsafe_code,
    reason = "the interpreter's lock functions, which PyO3 does not declare"
)]

use std::ffi::{c_int, c_longlong, c_void};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use pytoweb_engine::Unpark;

/// `PyThread_type_lock`.
type RawLock = *mut c_void;

// `PyLockStatus`.
const ACQUIRED: c_int = 1;
const INTERRUPTED: c_int = 2;

unsafe extern "C" {
    // Stable since Python 3.2; none of them needs the interpreter lock.
    fn PyThread_allocate_lock() -> RawLock;
    fn PyThread_free_lock(lock: RawLock);
    fn PyThread_acquire_lock_timed(
        lock: RawLock,
        microseconds: c_longlong,
        interruptible: c_int,
    ) -> c_int;
    fn PyThread_release_lock(lock: RawLock);
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// Another thread unparked it, now or earlier.
    Unparked,
    /// A signal came.
    Interrupted,
    TimedOut,
}

/// One thread's lock, which is held but for the moment after an unpark.
#[derive(Debug)]
pub(crate) struct Parker(NonNull<c_void>);

// SAFETY: the functions may be called from any thread, and a lock may be released by another one than acquired it.
unsafe impl Send for Parker {}
// SAFETY: as above.
unsafe impl Sync for Parker {}

thread_local! {
    static OWN: Option<Arc<Parker>> = Parker::new().map(Arc::new);
}

impl Parker {
    fn new() -> Option<Self> {
        // SAFETY: no preconditions once an interpreter exists, which is so in an extension module.
        let lock = NonNull::new(unsafe { PyThread_allocate_lock() })?;
        let parker = Self(lock);
        // The lock starts out free: take it.
        parker.park(Some(Duration::ZERO));
        Some(parker)
    }

    /// The calling thread's; `None` if the system has no more locks.
    pub(crate) fn of_this_thread() -> Option<Arc<Self>> {
        OWN.with(Clone::clone)
    }

    /// Waits until it is unparked, a signal comes, or `limit` passes.
    pub(crate) fn park(&self, limit: Option<Duration>) -> Woken {
        let microseconds = match limit {
            None => -1,
            // Rounded up: a wait that ends early would be tried again for nothing. A century is as good as for ever.
            Some(limit) => c_longlong::try_from(limit.as_nanos().div_ceil(1000))
                .unwrap_or(-1)
                .min(1 << 51),
        };
        // SAFETY: the lock lives as long as `self`.
        match unsafe { PyThread_acquire_lock_timed(self.0.as_ptr(), microseconds, 1) } {
            ACQUIRED => Woken::Unparked,
            INTERRUPTED => Woken::Interrupted,
            _ => Woken::TimedOut,
        }
    }
}

impl Unpark for Parker {
    fn unpark(&self) {
        // SAFETY: the lock lives as long as `self`. Releasing it twice lets a later wait end early, and every wait
        // here looks at what it waits for.
        unsafe { PyThread_release_lock(self.0.as_ptr()) };
    }
}

impl Drop for Parker {
    fn drop(&mut self) {
        // SAFETY: no code refers to it any more; a lock may be freed while it is held.
        unsafe { PyThread_free_lock(self.0.as_ptr()) };
    }
}
