//! The rates of the kinds of one worker or pool.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pytoweb_engine::{Meter, Rate};

/// The rates of kinds: what their messages are counted against as they begin.
#[derive(Default)]
pub(crate) struct Rates {
    any: AtomicBool,
    by_kind: Mutex<HashMap<String, Arc<Meter>>>,
}

impl Rates {
    pub(crate) fn set(&self, kind: &str, rate: Option<Rate>) {
        let mut by_kind = self.by_kind.lock().unwrap_or_else(PoisonError::into_inner);
        match rate {
            Some(rate) => {
                by_kind.insert(kind.to_owned(), Arc::new(Meter::new(rate)));
            }
            None => {
                by_kind.remove(kind);
            }
        }
        // ORDERING: Relaxed, a post at the same time may come before or after.
        self.any.store(!by_kind.is_empty(), Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn of(&self, kind: &str) -> Option<Arc<Meter>> {
        // ORDERING: Relaxed, see `set`.
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let by_kind = self.by_kind.lock().unwrap_or_else(PoisonError::into_inner);
        by_kind.get(kind).cloned()
    }
}
