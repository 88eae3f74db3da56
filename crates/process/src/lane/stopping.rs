//! Messages that are taken back or stopped, and children that are killed for them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Flight, Lane, Phase, State};
use crate::cargo::{Answer, Cargo};
use crate::crash::Cause;
use crate::frame;
use crate::link::HostLink;

/// How long an idle child may take to come by a message that it was sent, whatever the grace: it has to get a core.
const TAKE_UP: Duration = Duration::from_millis(100);
/// How long after it did not, it is looked at again before it is killed.
const SECOND_LOOK: Duration = Duration::from_millis(50);
/// How often to look at a child that was killed and has not ended.
const KILLED_LOOK: Duration = Duration::from_millis(100);

/// What is expected of a child that was sent something which is over.
#[derive(Debug)]
pub(super) struct TakingUp {
    pub(super) by: Instant,
    /// Messages that it had answered before.
    answered: u64,
    /// It was looked at already, and had not.
    late: bool,
}

impl<C: Cargo> Lane<C> {
    /// Takes back what the child has not begun, but for the first message of each batch, of the messages that `of`
    /// picks.
    pub(crate) fn recall(&self, of: &dyn Fn(&C) -> bool) {
        let mut state = self.state();
        let mut found: Vec<C> = Vec::new();
        let mut kept: Vec<u64> = Vec::new();
        for seq in state.numbers() {
            let index = State::<C>::place(seq);
            let link = state.link.clone();
            let first = {
                let Some(Some(flight)) = state.table.get(index) else {
                    continue;
                };
                let Some(cargo) = flight.cargo.as_ref().filter(|cargo| of(cargo)) else {
                    continue;
                };
                !kept.iter().any(|seq| {
                    state
                        .table
                        .get(State::<C>::place(*seq))
                        .and_then(Option::as_ref)
                        .and_then(|flight| flight.cargo.as_ref())
                        .is_some_and(|kept| kept.is_of_same_batch(cargo))
                })
            };
            if first {
                kept.push(seq);
                continue;
            }
            if link.is_some_and(|link| link.revoke(seq))
                && let Some(Some(flight)) = state.table.get_mut(index)
            {
                flight.revoked = true;
                found.extend(flight.cargo.take());
            }
        }
        // A message that is held was not even sent.
        let held = std::mem::take(&mut state.held);
        let mut firsts: Vec<usize> = Vec::new();
        for (cargo, attempt) in held {
            let first = !state
                .table
                .iter()
                .flatten()
                .filter_map(|flight| flight.cargo.as_ref())
                .any(|other| other.is_of_same_batch(&cargo))
                && !firsts
                    .iter()
                    .any(|at| state.held[*at].0.is_of_same_batch(&cargo));
            if first {
                firsts.push(state.held.len());
            }
            if first || attempt > 1 || !of(&cargo) {
                state.held.push_back((cargo, attempt));
            } else {
                found.push(cargo);
            }
        }
        drop(state);
        C::put_back(found);
    }

    /// Takes back what another lane could run, if one is `idle`, or if the child has answered nothing since this was last
    /// called. Says whether there is more to look after.
    pub(crate) fn recall_waiting(&self, idle: bool) -> bool {
        let stuck = {
            let mut state = self.state();
            let stuck = state.answered == state.answered_seen;
            state.answered_seen = state.answered;
            if !state.is_ahead() {
                return false;
            }
            stuck
        };
        if stuck || idle {
            self.recall(&C::may_go_elsewhere);
        }
        self.state().is_ahead()
    }

    /// Stops the messages that `of` picks: one that has not begun never will, one that runs is asked, and after the grace
    /// (`None`: at once) its child is killed. True: the supervisor is to be told.
    pub(crate) fn stop(&self, of: &dyn Fn(&C) -> bool, grace: Option<Duration>) -> bool {
        let mut state = self.state();
        let mut skipped = state.revoke(&|cargo| of(cargo) && !cargo.is_control());
        let mut told = Vec::new();
        if let Some(link) = state.link.clone() {
            for flight in state.table.iter().flatten() {
                if flight.revoked || !flight.cargo.as_ref().is_some_and(of) {
                    continue;
                }
                // A configuration is not asked: it belongs to the start of the child, unless its worker is over.
                let is_control = flight.cargo.as_ref().is_some_and(C::is_control);
                if is_control && !(grace.is_none() && link.has_begun(flight.seq)) {
                    continue;
                }
                link.ask_to_stop(flight.seq);
                told.push(flight.seq);
            }
            for seq in &told {
                let mut frame = Vec::new();
                frame::encode_stop_asked(*seq, &mut frame);
                // A broken link shows when its replies are read.
                let _ = link.tell(&frame);
            }
            link.flush();
        }
        for seq in &told {
            if let Some(Some(flight)) = state.table.get_mut(State::<C>::place(*seq)) {
                flight.attempt = u32::MAX;
            }
        }
        let watches = state.expect_taking_up(grace.unwrap_or_default());
        if !told.is_empty() {
            state.condemn(Instant::now() + grace.unwrap_or_default(), Cause::Stopped);
        }
        skipped.extend(state.take_held(of));
        drop(state);
        for cargo in skipped {
            cargo.answered(Answer::skipped());
        }
        watches || !told.is_empty()
    }

    /// Sees to it that the child takes up what it was sent, or passes by what was taken back of it. True: the supervisor
    /// is to be told.
    pub(crate) fn watch(&self, grace: Duration) -> bool {
        self.state().expect_taking_up(grace)
    }

    /// Takes the messages out that `of` picks and that have not begun: their worker has stopped. Those of which that is
    /// not known yet follow when their child has ended. True: the supervisor is to be told.
    pub(crate) fn withdraw(
        &self,
        of: &dyn Fn(&C) -> bool,
        grace: Duration,
        found: &mut Vec<C>,
    ) -> bool {
        let mut state = self.state();
        found.extend(state.revoke(&|cargo| of(cargo) && !cargo.is_control()));
        if let Some(link) = state.link.clone() {
            for flight in state.table.iter_mut().flatten() {
                if flight
                    .cargo
                    .as_ref()
                    .is_some_and(|cargo| of(cargo) && !cargo.is_control())
                    && !link.has_begun(flight.seq)
                {
                    flight.withdrawn = true;
                }
            }
        }
        found.extend(state.take_held(of));
        state.expect_taking_up(grace)
    }

    /// Kills the child if its time has come, or it uses more memory than `limit`.
    pub(crate) fn enforce(&self, now: Instant, memory: Option<(u64, u64)>, grace: Duration) {
        let mut state = self.state();
        if let Some((used, limit)) = memory.filter(|(used, limit)| used > limit)
            && matches!(state.phase, Phase::Up)
        {
            if state.has_begun() {
                state.condemn(now, Cause::Memory { used, limit });
            } else {
                state.retire(now);
            }
        }
        state.look_at_controls(now);
        state.look_at_taking_up(now, grace);
        // The message that it was to be killed for may be over.
        if matches!(&state.kill, Some((_, Cause::Stopped))) && !state.has_stopping() {
            state.kill = None;
        }
        let late = state.kill.as_ref().is_some_and(|(at, _)| *at <= now)
            || state.ends_by.is_some_and(|at| at <= now);
        if late && let Some(child) = &mut state.child {
            child.kill();
            state.ends_by = None;
            if let Some((at, _)) = &mut state.kill {
                // Once is enough: from here on its end is waited for.
                *at = now + KILLED_LOOK;
            }
        }
    }
}

impl<C: Cargo> State<C> {
    /// Takes the messages out that `of` picks and that the child has not begun, and now never will.
    fn revoke(&mut self, of: &dyn Fn(&C) -> bool) -> Vec<C> {
        let Some(link) = self.link.clone() else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for flight in self.table.iter_mut().flatten() {
            if flight.cargo.as_ref().is_some_and(of) && !flight.revoked && link.revoke(flight.seq) {
                flight.revoked = true;
                found.extend(flight.cargo.take());
            }
        }
        found
    }

    fn take_held(&mut self, of: &dyn Fn(&C) -> bool) -> Vec<C> {
        let mut found = Vec::new();
        for (cargo, attempt) in std::mem::take(&mut self.held) {
            if of(&cargo) {
                found.push(cargo);
            } else {
                self.held.push_back((cargo, attempt));
            }
        }
        found
    }

    /// If something lies before the child, it is to come by that within the grace: see [`Self::look_at_taking_up`]. True:
    /// this was not expected of it before.
    fn expect_taking_up(&mut self, grace: Duration) -> bool {
        let is_new = self.take_up.is_none() && self.on_their_way > 0;
        if is_new {
            self.take_up = Some(self.taking_up(Instant::now(), grace));
        }
        is_new
    }

    fn taking_up(&self, now: Instant, grace: Duration) -> TakingUp {
        TakingUp {
            by: now + grace.max(TAKE_UP),
            answered: self.answered,
            late: false,
        }
    }

    /// Condemns a child that has nothing to do and does not come by what it was sent: it is stopped, or some thread of
    /// it keeps the interpreter. One that is busy, or starts, has limits of its own.
    fn look_at_taking_up(&mut self, now: Instant, grace: Duration) {
        let Some(expected) = self.take_up.take_if(|expected| expected.by <= now) else {
            return;
        };
        if self.on_their_way == 0 {
            return;
        }
        let is_busy = !self.health.is_ready() || self.has_begun();
        if is_busy || expected.answered != self.answered {
            self.take_up = Some(self.taking_up(now, grace));
        } else if expected.late {
            self.condemn(now, Cause::Silent);
        } else {
            // It may be this process that was not running: its answers are read first.
            self.take_up = Some(TakingUp {
                by: now + SECOND_LOOK,
                late: true,
                ..expected
            });
        }
    }

    /// Condemns a child that is not ready in time, or that stays at a configuration.
    fn look_at_controls(&mut self, now: Instant) {
        let Some(limit) = self
            .start_limit
            .filter(|_| self.controls_by.is_some_and(|by| by <= now))
        else {
            return;
        };
        let is_at_one = |flight: &Flight<C>, link: &Arc<dyn HostLink>| {
            flight.cargo.as_ref().is_some_and(C::is_control) && link.has_begun(flight.seq)
        };
        let late = !self.health.is_ready()
            || self.link.as_ref().is_some_and(|link| {
                self.table
                    .iter()
                    .flatten()
                    .any(|flight| is_at_one(flight, link))
            });
        if late {
            self.controls_by = None;
            self.condemn(now, Cause::SlowStart(limit));
        } else {
            // It is at something else, which is before them.
            self.limit_controls();
        }
    }
}
