//! Time as the engine sees it: nanoseconds since an arbitrary start, from a trait that tests implement.

use std::fmt;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// A point in time of one [`Clock`], in nanoseconds since that clock's own start.
///
/// Kept as one nanosecond more, so that an `Option` of it is no larger: every queued message has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(NonZeroU64);

impl Timestamp {
    /// The point `nanos` nanoseconds after the clock's start.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        match NonZeroU64::new(nanos.saturating_add(1)) {
            Some(kept) => Self(kept),
            None => Self(NonZeroU64::MIN),
        }
    }

    /// The point `wait` later; the furthest one there is if that does not fit (584 years).
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        let wait = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(wait))
    }

    /// The point `wait` earlier; `None` where that is before the clock's start.
    #[must_use]
    pub fn before(self, wait: Duration) -> Option<Self> {
        let wait = u64::try_from(wait.as_nanos()).ok()?;
        self.0
            .get()
            .checked_sub(wait)
            .and_then(NonZeroU64::new)
            .map(Self)
    }

    /// Nanoseconds since the clock's start.
    pub(crate) const fn nanos(self) -> u64 {
        self.0.get() - 1
    }

    /// The time from `earlier` to this point; zero if `earlier` is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }
}

/// Where the engine reads the time. Never goes backwards, and never panics.
pub trait Clock: Send + Sync + fmt::Debug + 'static {
    /// The present.
    fn now(&self) -> Timestamp;
}

/// The machine's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct MonotonicClock {
    start: Instant,
}

impl MonotonicClock {
    /// A clock that starts now.
    #[must_use]
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Default for MonotonicClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for MonotonicClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}
