//! A clock that tests move by hand.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use pytoweb_engine::{Clock, Pool as EnginePool, Timestamp};

use crate::lock::lock;

/// The pool of a worker or a pool, which reads a clock.
pub(crate) trait Clocked: Send + Sync {
    fn threads(&self) -> &EnginePool;
}

#[derive(Debug, Default)]
struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        // ORDERING: Relaxed, the thread that moves it tells the pools, whose locks bring the rest along.
        Timestamp::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

#[derive(Default)]
struct ClockInner {
    hand: Arc<Hand>,
    clocked: Mutex<Vec<Weak<dyn Clocked>>>,
}

/// A clock that stands still until it is moved, for tests: of delays, rates, deadlines, retries, batches and the shedding
/// of load, without waiting for any of them.
///
/// Workers and pools take it from their builders. Waits of threads ([`Reply::wait_timeout`](crate::Reply::wait_timeout),
/// [`Worker::run_until_idle`](crate::Worker::run_until_idle)) go by the time of the machine all the same. A clone is the
/// same clock.
///
/// ```
/// use std::convert::Infallible;
/// use std::time::Duration;
/// use pytoweb_workers::{HandClock, Worker};
///
/// let clock = HandClock::new();
/// let worker = Worker::builder("reminders").clock(&clock).build();
/// worker.on_message("remind", |text: &str| Ok::<_, Infallible>(text.len()));
/// worker.start()?;
/// let reply = worker.message("remind", "the bill").delay(Duration::from_secs(3600)).ask::<usize>()?;
/// assert!(!reply.is_done());
/// clock.advance(Duration::from_secs(3600));
/// assert_eq!(reply.wait()?, 8);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct HandClock(Arc<ClockInner>);

impl std::fmt::Debug for HandClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("HandClock").field(&self.now()).finish()
    }
}

impl HandClock {
    /// A clock at 0.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How far it was moved.
    ///
    /// ```
    /// use std::time::Duration;
    /// use pytoweb_workers::HandClock;
    ///
    /// let clock = HandClock::new();
    /// clock.advance(Duration::from_millis(20));
    /// assert_eq!(clock.now(), Duration::from_millis(20));
    /// ```
    #[must_use]
    pub fn now(&self) -> Duration {
        self.0.hand.now().since(Timestamp::from_nanos(0))
    }

    /// Moves it forward. Before it returns, deadlines that have passed by then have failed their messages, and delays
    /// that are over have let theirs go: those run on their workers' threads. Blocks for as long as that takes; not for
    /// use inside a handler of a worker that has this clock.
    ///
    /// ```
    /// use std::time::Duration;
    /// use pytoweb_workers::{AskError, HandClock, Worker};
    ///
    /// let clock = HandClock::new();
    /// let worker = Worker::builder("not started").clock(&clock).build();
    /// let reply = worker.ask_timeout::<(), ()>("job", (), Duration::from_secs(60))?;
    /// clock.advance(Duration::from_secs(61));
    /// assert!(matches!(reply.wait(), Err(AskError::Expired)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        let moved = |nanos: u64| Some(nanos.saturating_add(by));
        // ORDERING: Relaxed, see `now`.
        let _ = self
            .0
            .hand
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, moved);
        let mut clocked = lock(&self.0.clocked);
        clocked.retain(|weak| weak.strong_count() > 0);
        let alive: Vec<_> = clocked.iter().filter_map(Weak::upgrade).collect();
        drop(clocked);
        for one in alive {
            one.threads().expire_due();
        }
    }

    /// What an engine's pool reads.
    pub(crate) fn engine_clock(&self) -> Arc<dyn Clock> {
        self.0.hand.clone()
    }

    /// Tells the pool of `one` of each move from now on.
    pub(crate) fn tell(&self, one: Weak<dyn Clocked>) {
        lock(&self.0.clocked).push(one);
    }
}
