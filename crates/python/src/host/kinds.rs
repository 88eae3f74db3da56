//! What is asked of the mailbox for all messages of one type: their rate, and that they are handled in batches.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyString;
use pytoweb_engine::{Group, Key, Meter, Plan, Rate, Timestamp};

/// Buckets below this number are not looked through for those that are full.
const SWEEP_FROM: usize = 1024;

/// A rate that counts for each key by itself.
#[derive(Debug)]
struct KeyedMeter {
    rate: Rate,
    buckets: Mutex<Buckets>,
}

#[derive(Debug, Default)]
struct Buckets {
    by_key: HashMap<Key, Arc<Meter>>,
    sweep_at: usize,
}

impl KeyedMeter {
    fn new(rate: Rate) -> Self {
        Self {
            rate,
            buckets: Mutex::default(),
        }
    }

    /// The bucket of a key. One that no queued message counts against is kept until it is full.
    fn of(&self, key: &Key, now: impl FnOnce() -> Timestamp) -> Arc<Meter> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = buckets.by_key.get(key) {
            return known.clone();
        }
        if buckets.by_key.len() >= buckets.sweep_at.max(SWEEP_FROM) {
            let now = now();
            buckets
                .by_key
                .retain(|_, meter| Arc::strong_count(meter) > 1 || !meter.is_full(now));
            // Each sweep halves what is kept, or doubles the mark of the next one.
            buckets.sweep_at = buckets.by_key.len() * 2;
        }
        let meter = Arc::new(Meter::new(self.rate));
        buckets.by_key.insert(key.clone(), meter.clone());
        meter
    }
}

/// What is asked for the messages of one type.
#[derive(Clone, Debug, Default)]
pub(crate) struct OfKind {
    meter: Option<Arc<Meter>>,
    meter_of_key: Option<Arc<KeyedMeter>>,
    group: Option<Arc<Group>>,
    /// They are answered with streams.
    is_stream: bool,
    /// The plan of those that ask for nothing else, where it is the same for all.
    plan: Option<Arc<Plan>>,
}

impl OfKind {
    /// The plan of a message that asks for nothing else; `None`: it is to be made.
    pub(crate) const fn plan(&self) -> Option<&Arc<Plan>> {
        self.plan.as_ref()
    }

    /// Puts it into the plan of a message.
    pub(crate) fn apply(self, plan: &mut Plan, now: impl Fn() -> Timestamp) {
        if !self.has_plan() {
            return;
        }
        plan.more_mut().meter = match (&self.meter_of_key, &plan.key) {
            (Some(meter), Some(key)) => Some(meter.of(key, &now)),
            _ => self.meter,
        };
        if let Some(group) = &self.group
            && !group.max_wait().is_zero()
        {
            let from = plan.more().not_before.unwrap_or_else(now);
            plan.more_mut().alone_at = Some(from.after(group.max_wait()));
        }
        plan.more_mut().group = self.group;
    }

    /// Whether they are answered with streams.
    pub(crate) const fn is_stream(&self) -> bool {
        self.is_stream
    }

    /// Whether anything is asked of the mailbox.
    pub(crate) const fn has_plan(&self) -> bool {
        self.meter.is_some() || self.meter_of_key.is_some() || self.group.is_some()
    }

    fn keep_plan(&mut self) {
        let waits = self
            .group
            .as_ref()
            .is_some_and(|group| !group.max_wait().is_zero());
        self.plan = (!waits).then(|| {
            let mut plan = Plan::default();
            plan.more_mut().meter.clone_from(&self.meter);
            plan.more_mut().group.clone_from(&self.group);
            Arc::new(plan)
        });
    }
}

/// The same by type.
#[derive(Debug, Default)]
pub(crate) struct Kinds {
    any: AtomicBool,
    /// There is, or was, a type whose messages are handled in batches.
    batches: AtomicBool,
    by_type: Mutex<HashMap<String, OfKind>>,
}

impl Kinds {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, OfKind>> {
        self.by_type.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, kind: &str, change: impl FnOnce(&mut OfKind)) {
        let mut by_type = self.lock();
        let of_kind = by_type.entry(kind.to_owned()).or_default();
        change(of_kind);
        if !of_kind.has_plan() && !of_kind.is_stream {
            by_type.remove(kind);
        } else {
            of_kind.keep_plan();
        }
        // ORDERING: Relaxed, a post at the same time may come before or after.
        self.any.store(!by_type.is_empty(), Ordering::Relaxed);
    }

    /// `per_key`: it counts for each key by itself, and for no message without one.
    pub(crate) fn set_rate(&self, kind: &str, rate: Option<Rate>, per_key: bool) {
        let of_all = rate.filter(|_| !per_key);
        let of_key = rate.filter(|_| per_key);
        self.change(kind, |of_kind| {
            of_kind.meter = of_all.map(|rate| Arc::new(Meter::new(rate)));
            of_kind.meter_of_key = of_key.map(|rate| Arc::new(KeyedMeter::new(rate)));
        });
    }

    /// Has messages of a type, posted from now on, handled in batches of up to so many, of which the first waits so long.
    pub(crate) fn set_batch(&self, kind: &str, batch: Option<(usize, Duration)>) {
        if batch.is_some() {
            // ORDERING: Relaxed, the handler that is registered next is looked up under the interpreter lock.
            self.batches.store(true, Ordering::Relaxed);
        }
        self.change(kind, |of_kind| {
            of_kind.group = batch.map(|(size, max_wait)| {
                Arc::new(match &of_kind.group {
                    Some(group) => group.changed(size, max_wait),
                    None => Group::new(size, max_wait),
                })
            });
        });
    }

    /// Whether messages of a type, posted from now on, are answered with streams.
    pub(crate) fn set_stream(&self, kind: &str, is_stream: bool) {
        self.change(kind, |of_kind| of_kind.is_stream = is_stream);
    }

    /// Whether a handler may be one of batches.
    #[inline]
    pub(crate) fn has_batches(&self) -> bool {
        // ORDERING: Relaxed, see `set_batch`.
        self.batches.load(Ordering::Relaxed)
    }

    /// Whether anything is asked for any type.
    #[inline]
    pub(crate) fn are_there(&self) -> bool {
        // ORDERING: Relaxed, see `change`.
        self.any.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn of(&self, kind: &Bound<'_, PyString>) -> Option<OfKind> {
        if !self.are_there() {
            return None;
        }
        self.lock().get(kind.to_str().ok()?).cloned()
    }

    /// The same for an endpoint that is made anew: buckets that are full.
    pub(crate) fn again(&self) -> Self {
        let own = Self {
            batches: AtomicBool::new(self.has_batches()),
            ..Self::default()
        };
        for (kind, of_kind) in self.lock().iter() {
            if let Some(meter) = &of_kind.meter {
                own.set_rate(kind, Some(meter.rate()), false);
            }
            if let Some(meter) = &of_kind.meter_of_key {
                own.set_rate(kind, Some(meter.rate), true);
            }
            if of_kind.is_stream {
                own.set_stream(kind, true);
            }
            if let Some(group) = &of_kind.group {
                own.set_batch(kind, Some((group.size(), group.max_wait())));
            }
        }
        own
    }
}
