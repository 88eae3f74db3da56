//! The one door to atomics and fences.
//!
//! The protocols of this crate ([`crate::ring`], [`crate::bell`], [`crate::claims`]) are written against [`Atomic`]:
//! in a mapping shared with another process an atomic can only be the standard library's, and in the models of
//! `models.rs` only loom's. The orderings stay in the protocols, so the models check the very ones that ship.

use std::sync::atomic;

pub(crate) use std::sync::atomic::Ordering;

#[cfg(not(pytoweb_loom))]
pub(crate) use std::sync::atomic::fence;

#[cfg(pytoweb_loom)]
pub(crate) use loom::sync::atomic::fence;

/// What the protocols do with an atomic number.
pub(crate) trait Atomic<T> {
    fn load(&self, order: Ordering) -> T;

    fn store(&self, value: T, order: Ordering);

    fn swap(&self, value: T, order: Ordering) -> T;

    fn compare_exchange(
        &self,
        current: T,
        new: T,
        success: Ordering,
        failure: Ordering,
    ) -> Result<T, T>;
}

macro_rules! atomic {
    ($atomic:path, $value:ty) => {
        impl Atomic<$value> for $atomic {
            #[inline]
            fn load(&self, order: Ordering) -> $value {
                <$atomic>::load(self, order)
            }

            #[inline]
            fn store(&self, value: $value, order: Ordering) {
                <$atomic>::store(self, value, order);
            }

            #[inline]
            fn swap(&self, value: $value, order: Ordering) -> $value {
                <$atomic>::swap(self, value, order)
            }

            #[inline]
            fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                <$atomic>::compare_exchange(self, current, new, success, failure)
            }
        }
    };
}

atomic!(atomic::AtomicU32, u32);
atomic!(atomic::AtomicU64, u64);
#[cfg(pytoweb_loom)]
atomic!(loom::sync::atomic::AtomicU32, u32);
#[cfg(pytoweb_loom)]
atomic!(loom::sync::atomic::AtomicU64, u64);

/// How often a thread lets others run before it goes to sleep.
///
/// A wake-up from sleep costs microseconds on both sides, a yield a few hundred nanoseconds on one, and on a single
/// core a yield is what lets the other process make the reply. Sixteen outlast a short handler; a spin of the same
/// length would take the core from the thread that could end the wait. Models have no use for it.
pub(crate) const YIELDS: usize = if cfg!(pytoweb_loom) { 0 } else { 16 };

/// Looks for something up to [`YIELDS`] times, and lets others run in between.
pub(crate) fn look_while_yielding<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    for _ in 0..YIELDS {
        if let Some(found) = look() {
            return Some(found);
        }
        std::thread::yield_now();
    }
    None
}
