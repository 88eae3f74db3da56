//! How often a message is tried, and after how long.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// The wait before the second attempt: long enough for a connection to come back.
const BACKOFF: Duration = Duration::from_millis(500);
/// The longest wait: a message is tried once a minute at least.
const MAX_BACKOFF: Duration = Duration::from_secs(60);
/// The share by which waits differ, so that messages that failed together do not come back together.
const JITTER: f64 = 0.1;

type Predicate<E> = Arc<dyn Fn(&E) -> bool + Send + Sync>;

/// How often a message is tried when its handler fails, and after how long: for
/// [`Worker::on_message_retry`](crate::Worker::on_message_retry). `E` is the error of the handler.
///
/// After a failed attempt the message goes back into the queue for [`Retry::backoff`], then for twice as long each time.
/// Without a key other messages go past it meanwhile; with one it keeps its place before the others of that key.
///
/// ```
/// use std::io;
/// use std::time::Duration;
/// use pytoweb_workers::Retry;
///
/// let retry = Retry::new(5)
///     .backoff(Duration::from_millis(100))
///     .max_backoff(Duration::from_secs(10))
///     .on(|error: &io::Error| error.kind() == io::ErrorKind::TimedOut);
/// # let _ = retry;
/// ```
#[must_use = "a Retry is given to on_message_retry"]
pub struct Retry<E> {
    attempts: u32,
    backoff: Duration,
    max_backoff: Duration,
    jitter: f64,
    on: Option<Predicate<E>>,
    on_panic: bool,
}

impl<E> Clone for Retry<E> {
    fn clone(&self) -> Self {
        Self {
            on: self.on.clone(),
            ..*self
        }
    }
}

impl<E> fmt::Debug for Retry<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("attempts", &self.attempts)
            .field("backoff", &self.backoff)
            .field("max_backoff", &self.max_backoff)
            .field("jitter", &self.jitter)
            .field("on_panic", &self.on_panic)
            .finish_non_exhaustive()
    }
}

impl<E> Retry<E> {
    /// Up to so many attempts, the first one included, after any error and after a panic: half a second after the first
    /// one, then after twice as long each time, a minute at most.
    ///
    /// # Panics
    /// When `attempts` is 0.
    pub const fn new(attempts: u32) -> Self {
        assert!(
            attempts > 0,
            "a message is tried at least once: Retry::new(0) would be never"
        );
        Self {
            attempts,
            backoff: BACKOFF,
            max_backoff: MAX_BACKOFF,
            jitter: JITTER,
            on: None,
            on_panic: true,
        }
    }

    /// How long to wait before the second attempt; half a second unless told otherwise. Zero is at once.
    pub const fn backoff(mut self, wait: Duration) -> Self {
        self.backoff = wait;
        self
    }

    /// How long to wait at most, before [`Retry::jitter`]; a minute unless told otherwise.
    pub const fn max_backoff(mut self, wait: Duration) -> Self {
        self.max_backoff = wait;
        self
    }

    /// The share, from 0 to 1, by which each wait is longer or shorter, at random, so that messages that failed
    /// together do not come back together; a tenth unless told otherwise.
    ///
    /// # Panics
    /// When `share` is not from 0 to 1.
    pub fn jitter(mut self, share: f64) -> Self {
        assert!(
            (0.0..=1.0).contains(&share),
            "the jitter of a Retry is a share from 0 to 1, not {share}"
        );
        self.jitter = share;
        self
    }

    /// After which errors there is another attempt; after all unless told otherwise. Another error fails the message at
    /// once, and so does one for which `again` panics.
    pub fn on(mut self, again: impl Fn(&E) -> bool + Send + Sync + 'static) -> Self {
        self.on = Some(Arc::new(again));
        self
    }

    /// Whether there is another attempt after a panic; there is unless told otherwise.
    pub const fn on_panic(mut self, again: bool) -> Self {
        self.on_panic = again;
        self
    }

    /// Whether `error` is one after which there is another attempt. A user's code.
    pub(crate) fn is_for(&self, error: &E) -> bool {
        self.on.as_ref().is_none_or(|on| on(error))
    }

    /// The same of a panic.
    pub(crate) const fn is_for_panics(&self) -> bool {
        self.on_panic
    }

    /// How long to wait after so many attempts; `None`: there were enough.
    pub(crate) fn wait_after(&self, made: u32) -> Option<Duration> {
        if made >= self.attempts {
            return None;
        }
        let doubled = 2_u32.checked_pow(made.saturating_sub(1));
        let wait = doubled.and_then(|times| self.backoff.checked_mul(times));
        let wait = wait.map_or(self.max_backoff, |wait| wait.min(self.max_backoff));
        if self.jitter == 0.0 {
            return Some(wait);
        }
        // A hasher with random keys is the random number that the standard library has.
        let random = RandomState::new().build_hasher().finish() >> 11;
        #[expect(clippy::cast_precision_loss, reason = "53 bits")]
        let share = random as f64 / (1_u64 << 53) as f64;
        let wait = wait.as_secs_f64() * self.jitter.mul_add(2.0 * share - 1.0, 1.0);
        Some(Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_wait_is_twice_the_one_before_up_to_the_most() {
        let retry = Retry::<()>::new(70).backoff(SECOND).jitter(0.0);
        let waits: Vec<_> = (1..=8).map(|made| retry.wait_after(made)).collect();
        let seconds = [1, 2, 4, 8, 16, 32, 60, 60].map(|s| Some(s * SECOND));
        assert_eq!(waits, seconds);
        assert_eq!(retry.wait_after(69), Some(MAX_BACKOFF));
        assert_eq!(retry.wait_after(70), None);
        assert_eq!(Retry::<()>::new(1).wait_after(1), None);
    }

    #[test]
    fn jitter_makes_waits_longer_and_shorter_by_its_share_at_most() {
        let retry = Retry::<()>::new(2).backoff(SECOND).jitter(0.25);
        let waits: Vec<_> = (0..100).filter_map(|_| retry.wait_after(1)).collect();
        assert!(
            waits
                .iter()
                .all(|wait| (SECOND * 3 / 4..=SECOND * 5 / 4).contains(wait))
        );
        assert!(waits.iter().any(|wait| *wait < SECOND));
        assert!(waits.iter().any(|wait| *wait > SECOND));
    }
}
