//! The payload of a message that is shared: lent to one thread at a time, and moved out once, by the thread that is
//! first.
//!
//! Without a lock: a payload is there from the start, and a flag says whether it was moved out.
#![expect(unsafe_code, reason = "a cell that is guarded by a flag")]

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::mem::{self, MaybeUninit};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};

use pytoweb_engine::contained;

/// A value of the user's, moved out once.
pub(crate) struct PayloadCell<T> {
    /// There until `taken` is set; and while it is lent, which sets `taken` for as long.
    value: UnsafeCell<MaybeUninit<T>>,
    taken: AtomicBool,
}

// SAFETY: the value is moved, or lent, to the one thread that sets `taken`, which needs `T: Send`; no two threads have a
// reference to it at a time.
unsafe impl<T: Send> Sync for PayloadCell<T> {}

impl<T> PayloadCell<T> {
    pub(crate) const fn new(data: T) -> Self {
        Self {
            value: UnsafeCell::new(MaybeUninit::new(data)),
            taken: AtomicBool::new(false),
        }
    }

    /// The value. `None` after the first time.
    #[inline]
    pub(crate) fn take(&self) -> Option<T> {
        // ORDERING: Acquire, with the Release of `Loan`, which may have given the value to another thread before.
        if self.taken.swap(true, Ordering::Acquire) {
            return None;
        }
        // SAFETY: this thread alone has set `taken`, so the value is there, and no other one reads or drops it.
        Some(unsafe { (*self.value.get()).assume_init_read() })
    }

    /// Lends the value to `look`. `None`: it was moved out, or is lent already. Meanwhile it cannot be moved out.
    pub(crate) fn lend<R>(&self, look: impl FnOnce(&T) -> R) -> Option<R> {
        self.borrow().map(|loan| look(&loan))
    }

    /// Lends the value until the loan is dropped. `None` as of [`PayloadCell::lend`].
    pub(crate) fn borrow(&self) -> Option<Loan<'_, T>> {
        // ORDERING: Acquire, see `take`.
        if self.taken.swap(true, Ordering::Acquire) {
            return None;
        }
        Some(Loan {
            of: self,
            stays: PhantomData,
        })
    }
}

/// The value of a payload, for as long as this stands.
pub(crate) struct Loan<'a, T> {
    of: &'a PayloadCell<T>,
    /// With the thread that has it: the value need not be `Sync`.
    stays: PhantomData<*const T>,
}

impl<T> Deref for Loan<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: its thread alone has set `taken`, so the value is there, and no other one has it until this is dropped,
        // which no reference from here outlives.
        unsafe { (*self.of.value.get()).assume_init_ref() }
    }
}

impl<T> Drop for Loan<'_, T> {
    fn drop(&mut self) {
        // ORDERING: Release, with the Acquire of `take` and `borrow`: the next thread sees what this one did to it.
        self.of.taken.store(false, Ordering::Release);
    }
}

impl<T> Drop for PayloadCell<T> {
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
        let payload = PayloadCell::new("text".to_owned());
        let taken = thread::scope(|scope| {
            let both = [(); 2].map(|()| scope.spawn(|| payload.take()));
            both.map(|thread| thread.join().expect("it does not panic"))
        });
        assert_eq!(taken.iter().flatten().collect::<Vec<_>>(), ["text"]);
        assert_eq!(payload.take(), None);
    }

    #[test]
    fn a_payload_is_lent_to_one_thread_at_a_time_and_comes_back() {
        let payload = PayloadCell::new(std::cell::Cell::new(0));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let add = |count: &std::cell::Cell<u32>| count.set(count.get() + 1);
                    (0..100).for_each(|_| while payload.lend(add).is_none() {});
                });
            }
        });
        let inside = payload.lend(|count| (payload.take().is_none(), count.get()));
        assert_eq!(inside, Some((true, 200)));
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            payload.lend(|_| panic!("on purpose"))
        }));
        assert!(unwound.is_err());
        assert_eq!(payload.take().map(|count| count.get()), Some(200));
        assert_eq!(payload.lend(std::cell::Cell::get), None);
    }

    #[test]
    fn a_loan_that_is_refused_ends_none_that_stands() {
        let payload = PayloadCell::new(1);
        let loan = payload.borrow().expect("it is there");
        assert!(payload.borrow().is_none() && payload.borrow().is_none());
        assert_eq!((*loan, payload.take()), (1, None));
        drop(loan);
        assert_eq!(payload.take(), Some(1));
        assert!(payload.borrow().is_none() && payload.borrow().is_none());
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
        drop(PayloadCell::new(held.clone()));
        let payload = PayloadCell::new(held.clone());
        drop(payload.take());
        drop(payload);
        drop(PayloadCell::new(Sore {
            _held: held.clone(),
        }));
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
