//! What a sender asks of a mailbox for one message, and how that gets on the message.
//!
//! A plan lies beside its message, in a box of both. A small post that is only urgent has no box: it says so in a byte of
//! its own, and its plan is one of ten that are there from the start.

use pytoweb_engine::{Key, Message, Plan, Priority, Timestamp};

use crate::inline::Alone;
use crate::kind_plans::OfKind;
use crate::message::{Envelope, OwnRetry, Planned};
use crate::sent::Sent;

/// What a sender asks of the mailbox for one message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) priority: Option<Priority>,
    pub(crate) key: Option<Key>,
    /// It replaces the queued one of its kind with this key.
    pub(crate) keep_latest: bool,
    pub(crate) not_before: Option<Timestamp>,
    pub(crate) bytes: Option<usize>,
    pub(crate) retry: Option<Box<OwnRetry>>,
}

impl Wishes {
    /// Puts them on the message of `kind` in `place`, if there is one; and what is asked for all of its kind. In place, for the
    /// reason that [`Engine::post_from`](crate::send::Engine::post_from) has.
    #[inline]
    pub(crate) fn put_on(
        self,
        place: &mut Option<Envelope>,
        kind: &str,
        of_kind: Option<OfKind>,
        now: impl FnOnce() -> Timestamp,
    ) {
        let is_plain = self.key.is_none() && self.not_before.is_none() && of_kind.is_none();
        let is_light = self.bytes.is_none() && self.retry.is_none();
        if is_plain
            && is_light
            && let Some(Envelope::Small(small)) = place
        {
            small.urge(self.priority.and_then(Alone::of));
            return;
        }
        if is_plain && is_light && self.priority.is_none() {
            return;
        }
        let plan = (!is_plain || self.priority.is_some()).then(|| {
            let mut plan = Plan::default();
            plan.priority = self.priority.unwrap_or_default();
            if let Some(key) = self.key.as_ref().filter(|_| self.keep_latest) {
                plan.more_mut().replaces = Some(key.with(kind));
            }
            plan.key = self.key;
            if self.not_before.is_some() {
                plan.more_mut().not_before = self.not_before;
            }
            if let Some(of_kind) = of_kind {
                of_kind.apply(&mut plan, now);
            }
            plan
        });
        if let Some(envelope) = place.take() {
            *place = Some(Envelope::Planned(Box::new(Planned {
                plan,
                bytes: self.bytes.unwrap_or_else(|| envelope.bytes()),
                retry: self.retry,
                sent: Sent::default(),
                envelope,
            })));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind_id::KindId;
    use crate::message::Target;

    fn post(wishes: Wishes) -> Envelope {
        let mut place = Some(Envelope::post(Target::Known(KindId::NONE), 7_u64));
        wishes.put_on(&mut place, "kind", None, || {
            unreachable!("there is no batch")
        });
        place.expect("a message")
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
