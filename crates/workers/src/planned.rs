//! Messages with plans: what they ask of their mailbox, and where that lies.
//!
//! A plan lies beside its message, in a box of both. A small post that is only urgent has no box: it says so in a byte of
//! its own, and its plan is one of ten that are there from the start.

use std::collections::HashMap;
use std::num::NonZeroU8;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use pytoweb_engine::{Key, Message, Meter, Plan, Priority, Rate, Timestamp};

use crate::kinds::lock;
use crate::message::Envelope;

/// A message with what it asks of its mailbox.
pub(crate) struct Planned {
    pub(crate) plan: Option<Plan>,
    pub(crate) bytes: usize,
    /// No planned one itself.
    pub(crate) envelope: Envelope,
}

/// The plan of a message that asks for nothing but a priority.
#[derive(Clone, Copy)]
pub(crate) struct Alone(NonZeroU8);

impl Alone {
    fn of(priority: Priority) -> Option<Self> {
        let above = u8::try_from(priority.level() + 1).ok()?;
        NonZeroU8::new(above).map(Self)
    }

    pub(crate) fn plan(self) -> &'static Plan {
        static PLANS: LazyLock<[Plan; Priority::LEVELS]> = LazyLock::new(|| {
            std::array::from_fn(|level| {
                let mut plan = Plan::default();
                let level = u8::try_from(level).ok().and_then(Priority::new);
                plan.priority = level.unwrap_or_default();
                plan
            })
        });
        &PLANS[usize::from(self.0.get()) - 1]
    }
}

/// What a sender asks of the mailbox for one message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) priority: Option<Priority>,
    pub(crate) key: Option<Key>,
    /// It replaces the queued one of its kind with this key.
    pub(crate) keep_latest: bool,
    pub(crate) not_before: Option<Timestamp>,
    pub(crate) bytes: Option<usize>,
}

impl Wishes {
    /// Puts them on `envelope`, a message of `kind`; and that its kind has a rate.
    pub(crate) fn put_on(
        self,
        envelope: Envelope,
        kind: &str,
        meter: Option<Arc<Meter>>,
    ) -> Envelope {
        let is_plain = self.key.is_none() && self.not_before.is_none() && meter.is_none();
        let envelope = match (envelope, self.priority.and_then(Alone::of)) {
            (Envelope::Small(small), Some(priority)) if is_plain && self.bytes.is_none() => {
                return Envelope::Small(small.urgent(priority));
            }
            (envelope, _) => envelope,
        };
        if is_plain && self.priority.is_none() && self.bytes.is_none() {
            return envelope;
        }
        let plan = (!is_plain || self.priority.is_some()).then(|| {
            let mut plan = Plan::default();
            plan.priority = self.priority.unwrap_or_default();
            if self.keep_latest {
                plan.replaces = self.key.as_ref().map(|key| key.with(kind));
            }
            plan.key = self.key;
            plan.not_before = self.not_before;
            plan.meter = meter;
            plan
        });
        Envelope::Planned(Box::new(Planned {
            plan,
            bytes: self.bytes.unwrap_or_else(|| envelope.bytes()),
            envelope,
        }))
    }
}

/// The rates of kinds: what their messages are counted against as they begin.
#[derive(Default)]
pub(crate) struct Rates {
    any: AtomicBool,
    by_kind: Mutex<HashMap<String, Arc<Meter>>>,
}

impl Rates {
    pub(crate) fn set(&self, kind: &str, rate: Option<Rate>) {
        let mut by_kind = lock(&self.by_kind);
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
        lock(&self.by_kind).get(kind).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::KindId;
    use crate::message::Target;

    fn post(wishes: Wishes) -> Envelope {
        let envelope = Envelope::post(Target::Known(KindId::NONE), 7_u64);
        wishes.put_on(envelope, "kind", None)
    }

    #[test]
    fn a_small_post_that_is_only_urgent_stays_in_its_envelope() {
        for level in 0..10 {
            let priority = Priority::new(level).expect("a priority");
            let envelope = post(Wishes {
                priority: Some(priority),
                ..Wishes::default()
            });
            let plan = envelope.plan().expect("it has one");
            assert_eq!((plan.priority, plan.key.is_none()), (priority, true));
            assert!(matches!(envelope, Envelope::Small(_)));
        }
    }

    #[test]
    fn a_message_that_says_its_size_alone_has_no_plan() {
        let envelope = post(Wishes {
            bytes: Some(100),
            ..Wishes::default()
        });
        assert!(envelope.plan().is_none());
        assert_eq!(envelope.bytes(), 100);
        assert_eq!(post(Wishes::default()).bytes(), 8);
    }
}
