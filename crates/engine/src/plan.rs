//! A plan: what a message asks for beyond a place at the end of its queue.
//!
//! A message without one costs nothing here. The first message with one has its mailbox keep order by plans from then on:
//! see `mailbox/planned.rs`.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::key::Key;
use crate::sync::Mutex;

/// How urgent a message is, from 0 to 9.
///
/// A message goes before those of a lower priority, and they age: one that is `d` levels higher overtakes a message only if
/// it comes among the next `d` × [`Priority::STEP`]. So a message of priority 0 waits behind at most 9 216 that came
/// later, however many of a higher priority there are, and one of priority 9 goes before the last 5 120 ordinary ones. Where
/// several priorities keep coming and handlers take less than 10 us, it may go behind up to 16 others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

impl Priority {
    /// How many there are.
    pub const LEVELS: usize = 10;
    /// Messages that one level is worth: enough that an urgent message goes before all that are queued in most mailboxes, few
    /// enough that the others have a bound that can be waited for.
    pub const STEP: u64 = 1024;
    /// The least urgent one, 0.
    pub const LOWEST: Self = Self(0);
    /// The most urgent one, 9.
    pub const HIGHEST: Self = Self(9);

    /// The priority of a number that is written in the program: above 9 it does not compile.
    ///
    /// ```
    /// use pytoweb_engine::Priority;
    ///
    /// assert_eq!(Some(Priority::of::<7>()), Priority::new(7));
    /// ```
    ///
    /// ```compile_fail
    /// # use pytoweb_engine::Priority;
    /// let _ = Priority::of::<10>();
    /// ```
    #[must_use]
    pub const fn of<const LEVEL: u8>() -> Self {
        const {
            assert!(
                (LEVEL as usize) < Self::LEVELS,
                "a priority is a number from 0 to 9"
            );
        }
        Self(LEVEL)
    }

    /// The priority of that number; `None` above 9.
    #[must_use]
    pub const fn new(level: u8) -> Option<Self> {
        if (level as usize) < Self::LEVELS {
            Some(Self(level))
        } else {
            None
        }
    }

    /// Its number.
    #[must_use]
    pub const fn level(self) -> usize {
        self.0 as usize
    }
}

impl Default for Priority {
    /// 4, that of a message without one.
    fn default() -> Self {
        Self(4)
    }
}

/// How many messages may begin in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    interval: Duration,
    burst: u32,
}

impl Rate {
    /// `messages` in each `period`, evenly, after a burst of up to `burst` at once; one that begins up to 10 ms late does not
    /// make the next one later. `None` where one of them is zero, or the time between two messages is no whole nanosecond.
    #[must_use]
    pub fn new(messages: u32, period: Duration, burst: u32) -> Option<Self> {
        let interval = period.checked_div(messages)?;
        (!interval.is_zero() && burst > 0).then_some(Self { interval, burst })
    }

    /// The time between two messages, after the burst.
    #[must_use]
    pub const fn interval(self) -> Duration {
        self.interval
    }
}

/// A message that begins so much later than it might have costs the next one nothing: timers and threads are late, and a
/// rate that counted from there would never be reached.
const MOST_LATE: Duration = Duration::from_millis(10);

/// Counts the messages that begin against a [`Rate`]: a token bucket, kept as the time at which it is full again.
///
/// After the generic cell rate algorithm: ITU-T Recommendation I.371, annex A.
#[derive(Debug)]
pub struct Meter {
    rate: Rate,
    /// The lane in which messages without a key wait for it.
    pub(crate) lane: Key,
    full_at: Mutex<Option<Timestamp>>,
}

impl Meter {
    /// A bucket that is full.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self {
            rate,
            lane: Key::unique(),
            full_at: Mutex::new(None),
        }
    }

    /// What it counts against.
    #[must_use]
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// Whether it is as one that was made anew: nothing is lost with it.
    #[must_use]
    pub fn is_full(&self, now: Timestamp) -> bool {
        self.full_at.lock().is_none_or(|full_at| full_at <= now)
    }

    /// When the next message may begin, `now` at the earliest.
    pub(crate) fn next(&self, now: Timestamp) -> Timestamp {
        self.next_after(*self.full_at.lock(), now)
    }

    fn next_after(&self, full_at: Option<Timestamp>, now: Timestamp) -> Timestamp {
        let tolerance = self.rate.interval * (self.rate.burst - 1);
        full_at
            .and_then(|full_at| full_at.before(tolerance))
            .map_or(now, |at| at.max(now))
    }

    /// Takes the next place there is, and says when that is.
    pub(crate) fn reserve(&self, now: Timestamp) -> Timestamp {
        let mut full_at = self.full_at.lock();
        let at = self.next_after(*full_at, now);
        let late = now.before(self.rate.interval.min(MOST_LATE)).unwrap_or(now);
        let from = full_at.map_or(at, |full_at| full_at.max(late));
        *full_at = Some(from.after(self.rate.interval));
        at
    }
}

/// A kind of messages of which several run together: see [`Handler::handle_together`](crate::Handler::handle_together).
#[derive(Debug)]
pub struct Group {
    size: usize,
    max_wait: Duration,
    /// The lane in which messages without a key wait, for their turn and for company.
    lane: Key,
}

impl Group {
    /// Up to `size` messages, at least one, run together. The first of them waits up to `max_wait` for the others; with
    /// zero it takes those along that are queued.
    #[must_use]
    pub fn new(size: usize, max_wait: Duration) -> Self {
        Self {
            size: size.max(1),
            max_wait,
            lane: Key::unique(),
        }
    }

    /// The same messages with another size and wait: those that are queued keep their order with those to come.
    #[must_use]
    pub fn changed(&self, size: usize, max_wait: Duration) -> Self {
        Self {
            size: size.max(1),
            max_wait,
            lane: self.lane.clone(),
        }
    }

    /// How many run together at most.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// How long the first one waits for the others.
    #[must_use]
    pub const fn max_wait(&self) -> Duration {
        self.max_wait
    }

    /// Whether messages of both may run together.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.lane == other.lane
    }
}

/// What a message asks of its mailbox. The default asks for nothing.
///
/// A mailbox keeps as many as it has messages with a priority or a key: what few of them ask for lies elsewhere.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Plan {
    /// How urgent it is.
    pub priority: Priority,
    /// The key of which no other message runs at the same time.
    pub key: Option<Key>,
    more: Option<Box<MorePlan>>,
}

/// What few messages ask of their mailbox. The default asks for nothing.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct MorePlan {
    /// It stays in the mailbox until then, and takes its place in the order at that time.
    pub not_before: Option<Timestamp>,
    /// It takes the place of the queued message with the same of these, if there is one.
    pub replaces: Option<Key>,
    /// What it is counted against when it begins.
    pub meter: Option<Arc<Meter>>,
    /// It runs together with others of this group.
    pub group: Option<Arc<Group>>,
    /// How long it waits for them, at most, where it is the first; `None`: it takes those along that are queued.
    pub alone_at: Option<Timestamp>,
}

impl Plan {
    /// What else it asks for.
    #[inline]
    #[must_use]
    pub fn more(&self) -> &MorePlan {
        static NOTHING: MorePlan = MorePlan {
            not_before: None,
            replaces: None,
            meter: None,
            group: None,
            alone_at: None,
        };
        self.more.as_deref().unwrap_or(&NOTHING)
    }

    /// Whether it asks for a priority and a key alone.
    #[inline]
    #[must_use]
    pub const fn is_short(&self) -> bool {
        self.more.is_none()
    }

    /// The same, to ask for more.
    pub fn more_mut(&mut self) -> &mut MorePlan {
        self.more.get_or_insert_default()
    }

    /// Whether it may have to wait for more than its turn.
    #[inline]
    pub(crate) fn waits(&self) -> bool {
        self.more().not_before.is_some() || self.waits_in_lane()
    }

    /// Whether it may have to wait for a meter, or runs with others.
    #[inline]
    pub(crate) fn waits_in_lane(&self) -> bool {
        let more = self.more();
        more.meter.is_some() || more.group.is_some()
    }

    /// The lane in which it waits, where that is not the common one.
    #[inline]
    pub(crate) fn lane(&self) -> Option<&Key> {
        let of_meter = || self.more().meter.as_ref().map(|meter| &meter.lane);
        let of_group = || self.more().group.as_ref().map(|group| &group.lane);
        self.key.as_ref().or_else(of_meter).or_else(of_group)
    }
}

#[cfg(all(test, not(pytoweb_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_meter_lets_its_burst_pass_and_then_one_in_each_interval() {
        let rate = Rate::new(10, Duration::from_secs(1), 3).expect("a rate");
        let meter = Meter::new(rate);
        let second = 1_000_000_000;
        let now = Timestamp::from_nanos(second);
        let after = |millis| now.after(Duration::from_millis(millis));
        let places: Vec<_> = (0..5).map(|_| meter.reserve(now)).collect();
        assert_eq!(places, [now, now, now, after(100), after(200)]);
        assert_eq!(meter.next(now), after(300));
        // The bucket is full again, and holds no more than the burst.
        assert!(!meter.is_full(after(499)) && meter.is_full(after(500)));
        let late = after(10_000);
        let places: Vec<_> = (0..4).map(|_| meter.reserve(late)).collect();
        assert_eq!(places, [late, late, late, after(10_090)]);
    }

    #[test]
    fn a_rate_of_nothing_is_none() {
        assert_eq!(Rate::new(0, Duration::from_secs(1), 1), None);
        assert_eq!(Rate::new(1, Duration::ZERO, 1), None);
        assert_eq!(Rate::new(1, Duration::from_secs(1), 0), None);
        assert_eq!(Rate::new(u32::MAX, Duration::from_secs(1), 1), None);
    }
}
