//! Health: how a worker fares, in one word, with the reason.

use std::time::Duration;

/// How a worker fares, the least first. Of several the greatest is the one to act on: one that was stopped is at peace, and
/// says nothing of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum HealthState {
    /// Not started, stopping or stopped.
    Stopped,
    /// Started, with nothing to do.
    Ok,
    /// It handles messages, or some are queued.
    Busy,
    /// The process of its handlers has ended, and another one is being started.
    Restarting,
    /// More comes than it can handle: it refuses messages for their wait, or its mailbox is full, and has been for a second.
    Overloaded,
    /// Its handler runs past the message's deadline, or in another way that it is not to run in.
    Stuck,
    /// Its messages fail, whatever they are.
    Failed,
}

impl HealthState {
    /// The state's name in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Ok => "ok",
            Self::Busy => "busy",
            Self::Restarting => "restarting",
            Self::Overloaded => "overloaded",
            Self::Stuck => "stuck",
            Self::Failed => "failed",
        }
    }
}

/// How a worker fares, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// In a word.
    pub state: HealthState,
    /// Why, in words.
    pub reason: String,
    /// For how long; since when it was made, for one that was not started.
    pub lasted: Duration,
}

/// What a handler knows of how its messages fare, whatever they are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Condition {
    /// They are run.
    Works,
    /// They wait for something to be started anew: why, and for how long by now.
    Restarts(String, Duration),
    /// A handler runs that is not to run like that: why, and for how long by now.
    Stuck(String, Duration),
    /// They fail: why, and for how long by now.
    Fails(String, Duration),
}

/// A mailbox that was full for so long is overloaded; for a shorter time, it is a burst.
pub(crate) const FULL_FOR: Duration = Duration::from_secs(1);

/// A run of a handler beyond its limit: how long it takes by now, for how long beyond it, and that limit.
#[derive(Clone, Copy)]
pub(crate) struct Over {
    pub(crate) ran: Duration,
    pub(crate) lasted: Duration,
    pub(crate) after: Duration,
}

/// What is known of a worker that may tell how it fares.
pub(crate) struct Signs {
    pub(crate) condition: Condition,
    pub(crate) stuck_for: Option<Duration>,
    /// A handler runs for longer than it is to.
    pub(crate) over: Option<Over>,
    /// How long messages are refused by now, for the wait of the oldest one.
    pub(crate) shedding_for: Option<Duration>,
    pub(crate) full_for: Option<Duration>,
    pub(crate) capacity: usize,
    pub(crate) queued: u64,
    pub(crate) running: u64,
    pub(crate) oldest_age: Option<Duration>,
    /// How long there is work by now without a break, or none.
    pub(crate) lasted: Duration,
}

impl Health {
    pub(crate) const fn new(state: HealthState, reason: String, lasted: Duration) -> Self {
        Self {
            state,
            reason,
            lasted,
        }
    }

    /// That of a worker that was started and not stopped. The worst counts.
    pub(crate) fn of(signs: Signs) -> Self {
        if let Condition::Fails(reason, lasted) = signs.condition {
            return Self::new(HealthState::Failed, reason, lasted);
        }
        if let Some(lasted) = signs.stuck_for {
            let reason = "a handler runs past the deadline of its message".to_owned();
            return Self::new(HealthState::Stuck, reason, lasted);
        }
        if let Some(Over { ran, lasted, after }) = signs.over {
            let reason = format!(
                "a handler has run for {}: stuck_after is {} s",
                seconds(ran),
                after.as_secs_f64()
            );
            return Self::new(HealthState::Stuck, reason, lasted);
        }
        if let Condition::Stuck(reason, lasted) = signs.condition {
            return Self::new(HealthState::Stuck, reason, lasted);
        }
        if let Some(lasted) = signs.shedding_for {
            let reason = format!(
                "new messages are refused: the oldest of {} has waited for {}",
                signs.queued,
                seconds(signs.oldest_age.unwrap_or_default())
            );
            return Self::new(HealthState::Overloaded, reason, lasted);
        }
        if let Some(lasted) = signs.full_for.filter(|lasted| *lasted >= FULL_FOR) {
            let reason = format!(
                "its mailbox was full {} ago and was never half empty since: {} of {} messages are queued",
                seconds(lasted),
                signs.queued,
                signs.capacity
            );
            return Self::new(HealthState::Overloaded, reason, lasted);
        }
        if let Condition::Restarts(reason, lasted) = signs.condition {
            return Self::new(HealthState::Restarting, reason, lasted);
        }
        if signs.running > 0 || signs.queued > 0 {
            let reason = format!("{} running, {} queued", signs.running, signs.queued);
            return Self::new(HealthState::Busy, reason, signs.lasted);
        }
        Self::new(HealthState::Ok, "nothing to do".to_owned(), signs.lasted)
    }
}

/// A time as text, in seconds.
fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(all(test, not(pytoweb_loom)))]
mod tests {
    use super::*;

    fn well() -> Signs {
        Signs {
            condition: Condition::Works,
            stuck_for: None,
            over: None,
            shedding_for: None,
            full_for: None,
            capacity: 10,
            queued: 0,
            running: 0,
            oldest_age: None,
            lasted: Duration::from_secs(7),
        }
    }

    fn second() -> Duration {
        Duration::from_secs(1)
    }

    #[test]
    fn the_worst_sign_counts() {
        // Each one hides those before it.
        let mut signs = vec![(HealthState::Ok, well())];
        let mut add = |state, change: &dyn Fn(&mut Signs)| {
            let mut all = Signs {
                ..match signs.last() {
                    Some((_, last)) => copy(last),
                    None => well(),
                }
            };
            change(&mut all);
            signs.push((state, all));
        };
        add(HealthState::Busy, &|signs| signs.queued = 1);
        add(HealthState::Busy, &|signs| {
            signs.full_for = Some(Duration::from_millis(999));
        });
        add(HealthState::Restarting, &|signs| {
            signs.condition = Condition::Restarts("r".to_owned(), second());
        });
        add(HealthState::Overloaded, &|signs| {
            signs.full_for = Some(second());
        });
        add(HealthState::Overloaded, &|signs| {
            signs.shedding_for = Some(second());
        });
        add(HealthState::Stuck, &|signs| {
            signs.stuck_for = Some(second());
        });
        add(HealthState::Stuck, &|signs| {
            signs.stuck_for = None;
            signs.condition = Condition::Stuck("s".to_owned(), second());
        });
        add(HealthState::Stuck, &|signs| {
            signs.over = Some(Over {
                ran: second() * 2,
                lasted: second(),
                after: second(),
            });
        });
        add(HealthState::Failed, &|signs| {
            signs.condition = Condition::Fails("f".to_owned(), second());
        });
        for (state, signs) in signs {
            let lasted = signs.lasted;
            let health = Health::of(signs);
            assert_eq!(health.state, state, "{}", health.reason);
            let own = matches!(state, HealthState::Ok | HealthState::Busy);
            assert_eq!(health.lasted, if own { lasted } else { second() });
        }
    }

    fn copy(signs: &Signs) -> Signs {
        Signs {
            condition: signs.condition.clone(),
            ..*signs
        }
    }

    #[test]
    fn states_are_in_the_order_of_their_urgency() {
        let order = [
            HealthState::Stopped,
            HealthState::Ok,
            HealthState::Busy,
            HealthState::Restarting,
            HealthState::Overloaded,
            HealthState::Stuck,
            HealthState::Failed,
        ];
        assert!(order.is_sorted());
        let mut names: Vec<_> = order.iter().map(|state| state.name()).collect();
        names.dedup();
        assert_eq!(names.len(), order.len());
    }
}
