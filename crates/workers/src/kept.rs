//! Values of users, which engine threads drop.

use std::mem;

use pytoweb_engine::contained;

/// A value of the user's, whose destructor may panic: that must not end the engine's thread that happens to run it.
pub(crate) struct Kept<T>(Option<T>);

impl<T> Kept<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(Some(value))
    }

    /// The value. `None` after the first time.
    pub(crate) const fn take(&mut self) -> Option<T> {
        self.0.take()
    }

    /// The value, unless it was taken.
    pub(crate) const fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }

    /// The same, to change it.
    pub(crate) const fn get_mut(&mut self) -> Option<&mut T> {
        self.0.as_mut()
    }
}

impl<T> Drop for Kept<T> {
    fn drop(&mut self) {
        if mem::needs_drop::<T>()
            && let Some(value) = self.0.take()
        {
            // The panic hook has reported it, and there is no other place to tell.
            let _ = contained(|| drop(value));
        }
    }
}
