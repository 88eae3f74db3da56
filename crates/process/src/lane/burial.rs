//! The end of a child: what becomes of its messages, and of its lane.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::health::Outlook;
use super::reading::{Taken, Tell};
use super::{Lane, Phase};
use crate::cargo::{Answer, Cargo};
use crate::crash::{Cause, Crash};
use crate::flight::Flight;
use crate::link::HostLink;
use crate::options::Options;
use crate::start::LastWords;

/// Told why a lane is given up, and for how long if it was not before. Takes what other lanes could run.
pub(crate) type GivenUp<'a, C> = &'a dyn Fn(&Arc<Crash>, Option<Duration>, &mut Vec<Flight<C>>);

impl<C: Cargo> Lane<C> {
    /// Looks whether the child has ended; if so, decides what becomes of its messages and of the lane. `given_up`
    /// is told if the lane is.
    pub(crate) fn bury(&self, options: &Options, tell: Tell<'_>, given_up: GivenUp<'_, C>) {
        let (link, crash) = {
            let mut state = self.state();
            let told = matches!(state.phase, Phase::Retiring | Phase::Closed);
            let Some(child) = state.child.as_mut() else {
                return;
            };
            let pid = child.pid();
            let Some((exitcode, signal)) = child.try_wait(told) else {
                return;
            };
            let stack = state.report.take().map(LastWords::read).unwrap_or_default();
            state.child = None;
            let cause = match (state.kill.take(), state.unfit.take()) {
                (_, Some(bytes)) => Cause::Initializer(bytes),
                (Some((_, cause)), None) if signal.is_some() => cause,
                _ => Cause::Itself,
            };
            let crash = Arc::new(Crash {
                cause,
                exitcode,
                signal,
                pid,
                stack,
            });
            (state.link.clone(), crash)
        };
        if let Some(link) = &link {
            // The replies that it sent before it ended count. No other thread is reading when this has the lock.
            let mut intake = self.intake.lock().unwrap_or_else(PoisonError::into_inner);
            while self.take_in(link, &mut intake, tell) == Taken::News {}
        }
        self.after(link, &crash, options, given_up);
    }

    fn after(
        &self,
        link: Option<Arc<dyn HostLink>>,
        crash: &Arc<Crash>,
        options: &Options,
        given_up: GivenUp<'_, C>,
    ) {
        let mut state = self.state();
        let crash = match state.unfit.take() {
            Some(bytes) => Arc::new(Crash {
                cause: Cause::Initializer(bytes),
                ..(**crash).clone()
            }),
            None => crash.clone(),
        };
        let mut victims = Vec::new();
        let mut skipped = Vec::new();
        let mut killed = Vec::new();
        let mut again = Vec::new();
        for seq in state.numbers() {
            let Some(mut tracked) = state.take(seq) else {
                continue;
            };
            let Some(mut flight) = tracked.take() else {
                continue;
            };
            let begun = link.as_ref().is_some_and(|link| link.has_begun(seq));
            if tracked.stopped && begun && crash.cause == Cause::Stopped {
                // The child was killed for it.
                killed.push(flight.cargo);
            } else if tracked.stopped {
                skipped.push(flight.cargo);
            } else if tracked.disputed {
                victims.push(flight.cargo);
            } else if begun {
                // Its crashes are bounded by its attempts, and are no sign that children cannot start.
                state.health.proves_useful();
                if flight.attempt < flight.request.max_attempts && flight.cargo.is_wanted() {
                    flight.attempt += 1;
                    again.push(flight);
                } else {
                    victims.push(flight.cargo);
                }
            } else if tracked.withdrawn {
                victims.push(flight.cargo);
            } else {
                again.push(flight);
            }
        }
        state.link = None;
        state.ends_by = None;
        for held in again.into_iter().rev() {
            state.held.push_front(held);
        }
        let planned = matches!(
            crash.cause,
            Cause::Stopped | Cause::Silent | Cause::Memory { .. }
        ) || matches!(state.phase, Phase::Retiring);
        let mut rest = None;
        if !matches!(state.phase, Phase::Closed) {
            let now = Instant::now();
            match state.health.ends(&crash, planned, now, options) {
                Outlook::Again(at) => state.phase = Phase::Wanted(at),
                Outlook::GivenUp(at, cause) => {
                    state.phase = Phase::Wanted(at);
                    let crash = Crash {
                        cause,
                        ..(*crash).clone()
                    };
                    let before = state.failed.replace(Arc::new(crash));
                    rest = before.is_none().then_some(at - now);
                }
            }
        }
        let reason = match &state.phase {
            Phase::Closed => Some(crash.clone()),
            _ => state.failed.clone(),
        };
        let mut left = Vec::new();
        let mut movable = Vec::new();
        if reason.is_some() {
            for flight in std::mem::take(&mut state.held) {
                if flight.may_go_elsewhere {
                    movable.push(flight);
                } else {
                    left.push(flight.cargo);
                }
            }
        }
        drop(state);
        self.changed.notify_all();
        if let Some(link) = link {
            link.wake();
        }
        // First, so that a caller that learns of a failed message finds its worker failed.
        if let Some(reason) = &reason {
            given_up(reason, rest, &mut movable);
        }
        left.extend(movable.into_iter().map(|flight| flight.cargo));
        for cargo in skipped {
            cargo.answered(Answer::skipped());
        }
        for cargo in killed {
            cargo.killed(&crash);
        }
        for cargo in victims {
            cargo.crashed(&crash);
        }
        if let Some(reason) = reason {
            for cargo in left {
                cargo.crashed(&reason);
            }
        }
    }
}
