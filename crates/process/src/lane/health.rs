//! How the children of a lane fare: which ends count against it, when it is given up, and when it is tried again.
//!
//! A child that has begun a message has started well, and what ends it then is that message's business. Only children
//! that end before count: `max_restarts` of them in a row are replaced at once, the next one gives the lane up. So does,
//! at once, a child whose initializer raised or that was not ready in time: it would not be otherwise a moment later.
//!
//! A lane that was given up is tried again after a *back-off*, which doubles while that fails.

use std::time::{Duration, Instant};

use crate::crash::{Cause, Crash};
use crate::options::{DEFAULT_MAX_RESTARTS, Options};

/// How long a lane rests after it was given up the first time: long enough not to burn a core, short enough for a cause
/// that goes away.
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
/// What that doubles to.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60);

/// What is to become of a lane whose child ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outlook {
    /// Another child is started at that time.
    Again(Instant),
    /// It is given up, and tried again at that time.
    GivenUp(Instant, Cause),
}

/// The record of a lane's children.
#[derive(Debug, Default)]
pub(super) struct LaneHealth {
    /// Children that were started.
    started: u64,
    /// When the present one said that it is ready.
    ready: Option<Instant>,
    /// The present one has answered a message.
    useful: bool,
    /// Children in a row that ended before they had begun a message.
    vain: usize,
    back_off: Option<Duration>,
    /// When the last one ended, and when the lane was given up.
    ended: Option<Instant>,
    given_up: Option<Instant>,
}

impl LaneHealth {
    /// A child was started.
    pub(super) fn begins(&mut self) {
        self.started += 1;
        self.ready = None;
        self.useful = false;
    }

    /// The child says that it is ready.
    pub(super) fn is_ready_at(&mut self, now: Instant) {
        self.ready = Some(now);
        self.given_up = None;
    }

    /// When the child ended in whose place another one is.
    pub(super) fn ended(&self) -> Option<Instant> {
        self.ended
    }

    /// When the lane was given up, while no child has been ready since.
    pub(super) fn given_up(&self) -> Option<Instant> {
        self.given_up
    }

    pub(super) fn is_ready(&self) -> bool {
        self.ready.is_some()
    }

    /// The child has begun a message.
    pub(super) fn proves_useful(&mut self) {
        self.useful = true;
    }

    pub(super) fn is_useful(&self) -> bool {
        self.useful
    }

    /// Children that were started in the place of another one.
    pub(super) fn restarts(&self) -> u64 {
        self.started.saturating_sub(1)
    }

    /// The child has ended. `planned`: this side ended it, for a reason that is not the child's start.
    pub(super) fn ends(
        &mut self,
        crash: &Crash,
        planned: bool,
        now: Instant,
        options: &Options,
    ) -> Outlook {
        self.ended = Some(now);
        let outlook = self.after_end(crash, planned, now, options);
        if let Outlook::GivenUp(..) = outlook {
            self.given_up.get_or_insert(now);
        }
        outlook
    }

    fn after_end(
        &mut self,
        crash: &Crash,
        planned: bool,
        now: Instant,
        options: &Options,
    ) -> Outlook {
        let lasted = self.ready.map(|ready| now.saturating_duration_since(ready));
        if self.useful || lasted.is_some_and(|lasted| lasted > options.restart_window) {
            self.vain = 0;
            self.back_off = None;
            return Outlook::Again(now);
        }
        if matches!(crash.cause, Cause::Initializer(_) | Cause::SlowStart(_)) {
            return Outlook::GivenUp(self.rests_until(now), crash.cause.clone());
        }
        if planned {
            return Outlook::Again(now);
        }
        self.vain += 1;
        match options.max_restarts {
            Some(most) if self.vain > most => {
                let cause = Cause::TooManyRestarts {
                    restarts: most,
                    last: Box::new(crash.clone()),
                };
                Outlook::GivenUp(self.rests_until(now), cause)
            }
            // Without a limit messages wait, but not for one interpreter after the other as fast as they can start.
            None if self.vain > DEFAULT_MAX_RESTARTS => Outlook::Again(self.rests_until(now)),
            _ => Outlook::Again(now),
        }
    }

    /// When the next try is due.
    pub(super) fn rests_until(&mut self, now: Instant) -> Instant {
        let rest = self
            .back_off
            .map_or(FIRST_BACK_OFF, |last| (2 * last).min(LONGEST_BACK_OFF));
        self.back_off = Some(rest);
        now + rest
    }
}

#[cfg(all(test, not(pytoweb_loom)))]
mod tests {
    use super::*;
    use crate::options::Transport;

    fn options(max_restarts: Option<usize>) -> Options {
        Options {
            name: String::new(),
            size: 1,
            transport: Transport::Socket,
            max_messages: None,
            max_memory: None,
            max_restarts,
            restart_window: Duration::from_secs(5),
            grace: Duration::ZERO,
            start_limit: None,
        }
    }

    /// A child that started and ended after `lasted`. Says how long until the next one, and whether the lane is given up.
    fn life(
        health: &mut LaneHealth,
        lasted: Duration,
        cause: Cause,
        planned: bool,
        options: &Options,
    ) -> (u64, bool) {
        let now = Instant::now() + Duration::from_secs(3600);
        health.begins();
        health.is_ready_at(now - lasted);
        match health.ends(&Crash::without_process(cause), planned, now, options) {
            Outlook::Again(at) => ((at - now).as_secs(), false),
            Outlook::GivenUp(at, _) => ((at - now).as_secs(), true),
        }
    }

    fn crash(health: &mut LaneHealth, options: &Options) -> (u64, bool) {
        life(health, Duration::ZERO, Cause::Itself, false, options)
    }

    #[test]
    fn a_lane_is_given_up_after_so_many_restarts_and_rests_ever_longer() {
        let (mut health, options) = (LaneHealth::default(), options(Some(3)));
        for _ in 0..3 {
            assert_eq!(crash(&mut health, &options), (0, false));
        }
        for rest in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(crash(&mut health, &options), (rest, true));
        }
        assert_eq!(health.restarts(), 10);
    }

    #[test]
    fn a_child_that_began_a_message_or_lasted_starts_the_count_anew() {
        let (mut health, options) = (LaneHealth::default(), options(Some(1)));
        for useful in [true, false] {
            for rest in [(0, false), (1, true), (2, true)] {
                assert_eq!(crash(&mut health, &options), rest);
            }
            if useful {
                health.begins();
                health.proves_useful();
                let ended = Crash::without_process(Cause::Itself);
                let now = Instant::now();
                let outlook = health.ends(&ended, false, now, &options);
                assert_eq!(outlook, Outlook::Again(now));
            } else {
                let lasted = Duration::from_secs(6);
                let outlook = life(&mut health, lasted, Cause::Itself, false, &options);
                assert_eq!(outlook, (0, false));
            }
        }
        assert_eq!(crash(&mut health, &options), (0, false));
    }

    #[test]
    fn what_would_not_be_otherwise_a_moment_later_gives_the_lane_up_at_once() {
        for cause in [
            Cause::Initializer(Vec::new()),
            Cause::SlowStart(Duration::ZERO),
        ] {
            let (mut health, options) = (LaneHealth::default(), options(None));
            for rest in [1, 2] {
                let outlook = life(&mut health, Duration::ZERO, cause.clone(), false, &options);
                assert_eq!(outlook, (rest, true));
            }
        }
    }

    #[test]
    fn without_a_limit_no_lane_is_given_up_but_the_pace_slows_down() {
        let (mut health, options) = (LaneHealth::default(), options(None));
        for rest in [0, 0, 0, 1, 2, 4] {
            assert_eq!(crash(&mut health, &options), (rest, false));
        }
    }

    #[test]
    fn an_end_that_this_side_wanted_does_not_count() {
        let (mut health, options) = (LaneHealth::default(), options(Some(0)));
        for _ in 0..5 {
            let outlook = life(&mut health, Duration::ZERO, Cause::Silent, true, &options);
            assert_eq!(outlook, (0, false));
        }
    }
}
