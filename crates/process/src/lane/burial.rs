//! The end of a child: what becomes of its messages, and of its lane.

use std::sync::{Arc, PoisonError};

use super::reading::{Log, Taken};
use super::{Fate, Lane, Phase};
use crate::cargo::{Answer, Cargo};
use crate::crash::{Cause, Crash};
use crate::fleet::Options;
use crate::link::HostLink;
use crate::start::Report;

impl<C: Cargo> Lane<C> {
    /// Looks whether the child has ended; if so, decides what becomes of its messages and of the lane. `given_up`
    /// is told if the lane is.
    pub(crate) fn bury(
        &self,
        options: &Options,
        log: Log<'_>,
        given_up: &dyn Fn(&Arc<Crash>),
    ) -> Option<Fate> {
        let link = {
            let mut state = self.state();
            let told = matches!(state.phase, Phase::Retiring | Phase::Closed);
            let child = state.child.as_mut()?;
            let pid = child.pid();
            let (exitcode, signal) = child.try_wait(told)?;
            let stack = state.report.take().map(Report::read).unwrap_or_default();
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
        let (link, crash) = link;
        if let Some(link) = &link {
            // What it answered before it ended counts. Nobody else is reading when this has the lock.
            let mut intake = self.intake.lock().unwrap_or_else(PoisonError::into_inner);
            while self.take_in(link, &mut intake, log) == Taken::News {}
        }
        Some(self.after(link, &crash, options, given_up))
    }

    fn after(
        &self,
        link: Option<Arc<dyn HostLink>>,
        crash: &Arc<Crash>,
        options: &Options,
        given_up: &dyn Fn(&Arc<Crash>),
    ) -> Fate {
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
        let mut again = Vec::new();
        // A message that is tried again bounds its crashes itself, by its attempts.
        let mut retried = false;
        for seq in state.numbers() {
            let Some(flight) = state.take(seq) else {
                continue;
            };
            let Some(cargo) = flight.cargo else { continue };
            if cargo.is_control() {
                continue;
            }
            if flight.revoked || flight.attempt == u32::MAX {
                // It never began, or the child was killed for it.
                skipped.push(cargo);
            } else if flight.disputed {
                victims.push(cargo);
            } else if link.as_ref().is_some_and(|link| link.has_begun(seq)) {
                if flight.attempt < cargo.max_attempts() && cargo.is_wanted() {
                    retried = true;
                    again.push((cargo, flight.attempt + 1));
                } else {
                    victims.push(cargo);
                }
            } else {
                again.push((cargo, flight.attempt));
            }
        }
        state.link = None;
        state.ends_by = None;
        for held in again.into_iter().rev() {
            state.held.push_front(held);
        }
        if state.healthy {
            // It worked: whatever this was, it is not that it cannot start.
            state.restarts.clear();
        }
        let planned = matches!(crash.cause, Cause::Stopped | Cause::Memory { .. })
            || matches!(state.phase, Phase::Retiring)
            || retried;
        let mut fate = Fate::Over;
        if !matches!(state.phase, Phase::Closed) {
            let failed = if matches!(crash.cause, Cause::Initializer(_)) {
                Some(crash.clone())
            } else if planned {
                None
            } else {
                state.too_many_restarts(&crash, options)
            };
            state.phase = match failed {
                Some(crash) => {
                    fate = Fate::Failed;
                    Phase::Failed(crash)
                }
                // At once, so that the next message does not wait for it.
                None => {
                    fate = Fate::Replaced;
                    Phase::Wanted
                }
            };
        }
        let reason = match &state.phase {
            Phase::Failed(reason) => Some(reason.clone()),
            Phase::Closed => Some(crash.clone()),
            _ => None,
        };
        let left = reason.map(|reason| (std::mem::take(&mut state.held), reason));
        drop(state);
        self.changed.notify_all();
        if let Some(link) = link {
            link.wake();
        }
        // First, so that whoever learns of a failed message finds its worker failed.
        if let Some((_, reason)) = left.as_ref().filter(|_| fate == Fate::Failed) {
            given_up(reason);
        }
        for cargo in skipped {
            cargo.answered(Answer::skipped());
        }
        for cargo in victims {
            cargo.crashed(&crash);
        }
        if let Some((held, reason)) = left {
            for (cargo, _) in held {
                cargo.crashed(&reason);
            }
        }
        fate
    }
}
