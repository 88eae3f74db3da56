//! What is asked of the mailbox for all messages of one kind: their rate, and that they are handled in batches.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pytoweb_engine::{Group, Meter, Plan, Rate, Timestamp};

use crate::batch::Batch;

/// What is asked for the messages of one kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct OfKind {
    meter: Option<Arc<Meter>>,
    group: Option<Arc<Group>>,
}

impl OfKind {
    /// Puts it into the plan of a message.
    pub(crate) fn apply(self, plan: &mut Plan, now: impl FnOnce() -> Timestamp) {
        if self.is_nothing() {
            return;
        }
        plan.more_mut().meter = self.meter;
        if let Some(group) = &self.group
            && !group.max_wait().is_zero()
        {
            let from = plan.more().not_before.unwrap_or_else(now);
            plan.more_mut().alone_at = Some(from.after(group.max_wait()));
        }
        plan.more_mut().group = self.group;
    }

    const fn is_nothing(&self) -> bool {
        self.meter.is_none() && self.group.is_none()
    }
}

/// The same by kind.
#[derive(Default)]
pub(crate) struct KindPlans {
    any: AtomicBool,
    by_kind: Mutex<HashMap<String, OfKind>>,
}

impl KindPlans {
    fn change(&self, kind: &str, change: impl FnOnce(&mut OfKind)) {
        let mut by_kind = self.by_kind.lock().unwrap_or_else(PoisonError::into_inner);
        let mut of_kind = by_kind.remove(kind).unwrap_or_default();
        change(&mut of_kind);
        if !of_kind.is_nothing() {
            by_kind.insert(kind.to_owned(), of_kind);
        }
        // ORDERING: Relaxed, a post at the same time may come before or after.
        self.any.store(!by_kind.is_empty(), Ordering::Relaxed);
    }

    /// What the messages of a kind are counted against as they begin.
    pub(crate) fn set_rate(&self, kind: &str, rate: Option<Rate>) {
        self.change(kind, |of_kind| {
            of_kind.meter = rate.map(|rate| Arc::new(Meter::new(rate)));
        });
    }

    /// Has messages of a kind that are posted from now on handled in batches, or not.
    pub(crate) fn set_batch(&self, kind: &str, batch: Option<Batch>) {
        self.change(kind, |of_kind| {
            of_kind.group = batch.map(|batch| {
                let (size, max_wait) = batch.numbers();
                Arc::new(match &of_kind.group {
                    // Those that are queued keep their order with those to come.
                    Some(group) => group.changed(size, max_wait),
                    None => Group::new(size, max_wait),
                })
            });
        });
    }

    #[inline]
    pub(crate) fn of(&self, kind: &str) -> Option<OfKind> {
        // ORDERING: Relaxed, see `change`.
        if !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let by_kind = self.by_kind.lock().unwrap_or_else(PoisonError::into_inner);
        by_kind.get(kind).cloned()
    }
}
