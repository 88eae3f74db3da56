//! The payload of a message that is shared: moved out once, by the thread that is first.
//!
//! Without a lock: a payload is there from the start, and a flag says whether it was moved out.
#![expect(unsafe_code, reason = "a cell that is guarded by a flag")]

use std::cell::UnsafeCell;
use std::mem::{self, MaybeUninit};
use std::sync::atomic::{AtomicBool, Ordering};

use pytoweb_engine::contained;

/// A value of the user's, moved out once.
pub(crate) struct Payload<T> {
    /// There until `taken` is set.
    value: UnsafeCell<MaybeUninit<T>>,
    taken: AtomicBool,
}

// SAFETY: the value is moved to the one thread that sets `taken`, which needs `T: Send`; no thread gets a reference to it.
unsafe impl<T: Send> Sync for Payload<T> {}

impl<T> Payload<T> {
    pub(crate) const fn new(data: T) -> Self {
        Self {
            value: UnsafeCell::new(MaybeUninit::new(data)),
            taken: AtomicBool::new(false),
        }
    }

    /// The value. `None` after the first time.
    #[inline]
    pub(crate) fn take(&self) -> Option<T> {
        // ORDERING: Relaxed, it only picks one thread. The value was written before the message was shared.
        if self.taken.swap(true, Ordering::Relaxed) {
            return None;
        }
        // SAFETY: this thread alone has set `taken`, so the value is there, and no other one reads or drops it.
        Some(unsafe { (*self.value.get()).assume_init_read() })
    }
}

impl<T> Drop for Payload<T> {
    fn drop(&mut self) {
        if mem::needs_drop::<T>() && !*self.taken.get_mut() {
            // The panic hook has reported a destructor that panics, and there is no other place to tell.
            // SAFETY: `taken` is not set, so the value is there, and nothing uses it after this.
            let _ = contained(|| unsafe { self.value.get_mut().assume_init_drop() });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn a_payload_is_moved_out_once_by_one_thread() {
        let payload = Payload::new("text".to_owned());
        let taken = thread::scope(|scope| {
            let both = [(); 2].map(|()| scope.spawn(|| payload.take()));
            both.map(|thread| thread.join().expect("it does not panic"))
        });
        assert_eq!(taken.iter().flatten().collect::<Vec<_>>(), ["text"]);
        assert_eq!(payload.take(), None);
    }

    #[test]
    fn a_payload_is_dropped_once() {
        struct Sore {
            _held: Arc<()>,
        }
        impl Drop for Sore {
            fn drop(&mut self) {
                panic!("it is sore");
            }
        }
        let held = Arc::new(());
        drop(Payload::new(held.clone()));
        let payload = Payload::new(held.clone());
        drop(payload.take());
        drop(payload);
        drop(Payload::new(Sore {
            _held: held.clone(),
        }));
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
