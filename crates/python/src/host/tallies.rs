//! Tallies: what became of the messages of each type that a worker began.
//!
//! A message of a handler here counts with a look at the address of its type: that is a constant of the sender's code most
//! of the time. A type that is a new string each time, read from JSON say, costs a look by name.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyString;
use pytoweb_engine::{Tally, TypeStats};

/// Types that have a tally of their own: senders choose their names, and may choose ever new ones.
const MOST_TYPES: usize = 128;
/// What all others are counted under.
const OTHERS: &str = "(others)";
/// Types that are found by their address, besides the first one.
const BY_ADDRESS: usize = 7;

type Cached = OnceLock<(Py<PyAny>, Arc<Tally>)>;

/// Where to look for a type, one place after the other: several types may have the same first one.
#[inline]
fn places(kind: &Py<PyAny>) -> impl Iterator<Item = usize> + use<> {
    // Objects are aligned to 16 bytes.
    let first = kind.as_ptr() as usize >> 4;
    (0..BY_ADDRESS).map(move |next| first.wrapping_add(next) % BY_ADDRESS)
}

/// The tallies of one worker, by type. Made with its first message: many workers never have one.
#[derive(Debug, Default)]
pub(crate) struct Tallies(OnceLock<Box<Made>>);

#[derive(Debug, Default)]
struct Made {
    /// The string is kept, so its address is no other's. A place that is taken stays so.
    first: Cached,
    /// Made with the second one: many workers have one type.
    others: OnceLock<Box<[Cached; BY_ADDRESS]>>,
    /// By name, in its order.
    by_name: Mutex<Vec<(Box<str>, Arc<Tally>)>>,
    /// The last one of a message that ran in a child.
    last: Mutex<Option<(Arc<str>, Arc<Tally>)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tallies {
    /// The tally of a type that is found by its address.
    #[inline]
    pub(crate) fn at_hand(&self, kind: &Py<PyAny>) -> Option<&Tally> {
        let made = self.0.get()?;
        let is_it = |(known, _): &&(Py<PyAny>, _)| known.as_ptr() == kind.as_ptr();
        let (_, tally) = match made.first.get().filter(is_it) {
            Some(found) => found,
            None => {
                let others = made.others.get()?;
                let each = places(kind).map_while(|place| others[place].get());
                each.into_iter().find(is_it)?
            }
        };
        Some(tally)
    }

    /// Counts with the tally of a type that is not at hand.
    #[cold]
    pub(crate) fn with_named<R>(
        &self,
        kind: &Bound<'_, PyString>,
        count: impl FnOnce(&Tally) -> R,
    ) -> R {
        let kept = kind.clone().into_any().unbind();
        if let Some(tally) = self.at_hand(&kept) {
            return count(tally);
        }
        let made = self.made();
        let tally = made.named(&kind.to_string_lossy());
        if let Err((kept, tally)) = made.first.set((kept, tally.clone())) {
            let others = made.others.get_or_init(Box::default);
            let free = places(&kept).find(|&place| others[place].get().is_none());
            if let Some(free) = free {
                let _ = others[free].set((kept, tally));
            }
        }
        count(&tally)
    }

    /// The same of a message that ran in a child.
    pub(crate) fn with_shared<R>(&self, kind: &Arc<str>, count: impl FnOnce(&Tally) -> R) -> R {
        let made = self.made();
        let mut last = lock(&made.last);
        if let Some((known, tally)) = &*last
            && Arc::ptr_eq(known, kind)
        {
            return count(tally);
        }
        let tally = made.named(kind);
        *last = Some((kind.clone(), tally.clone()));
        count(&tally)
    }

    /// The tally of that name.
    pub(crate) fn named(&self, kind: &str) -> Arc<Tally> {
        self.made().named(kind)
    }

    fn made(&self) -> &Made {
        self.0.get_or_init(Box::default)
    }

    /// Calls `see` for the tally of each type.
    pub(crate) fn each(&self, see: &mut dyn FnMut(&Tally)) {
        if let Some(made) = self.0.get() {
            lock(&made.by_name).iter().for_each(|(_, tally)| see(tally));
        }
    }

    /// The numbers of each type.
    pub(crate) fn stats(&self) -> Vec<(Box<str>, TypeStats)> {
        let Some(made) = self.0.get() else {
            return Vec::new();
        };
        let by_name = lock(&made.by_name);
        let each = by_name.iter();
        each.map(|(name, tally)| (name.clone(), tally.stats()))
            .collect()
    }
}

impl Made {
    #[cold]
    fn named(&self, kind: &str) -> Arc<Tally> {
        let mut by_name = lock(&self.by_name);
        let place = |by_name: &[(Box<str>, _)], kind: &str| {
            by_name.binary_search_by(|(name, _)| (**name).cmp(kind))
        };
        let mut name = kind;
        let mut found = place(&by_name, kind);
        if found.is_err() && by_name.len() >= MOST_TYPES {
            name = OTHERS;
            found = place(&by_name, name);
        }
        let at = found.unwrap_or_else(|at| {
            by_name.reserve_exact(1);
            by_name.insert(at, (name.into(), Arc::default()));
            at
        });
        by_name[at].1.clone()
    }
}
