//! Messages that are taken back or stopped, and children that are killed for them.

use std::time::Instant;

use super::{GRACE, Lane, Phase, State};
use crate::cargo::{Answer, Cargo};
use crate::crash::Cause;
use crate::frame;

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
        // What is held was not even sent.
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

    /// Stops the messages that `of` picks: one that has not begun never will, one that runs is asked, and after `GRACE`
    /// (or at once) its child is killed. True: the supervisor is to be told.
    pub(crate) fn stop(&self, of: &dyn Fn(&C) -> bool, at_once: bool) -> bool {
        let mut state = self.state();
        let mut runs = false;
        let mut told = Vec::new();
        if let Some(link) = state.link.clone() {
            for flight in state.table.iter_mut().flatten() {
                if flight.revoked || !flight.cargo.as_ref().is_some_and(of) {
                    continue;
                }
                if link.revoke(flight.seq) {
                    flight.revoked = true;
                } else {
                    link.ask_to_stop(flight.seq);
                    told.push(flight.seq);
                    runs = true;
                }
            }
            for seq in &told {
                let mut frame = Vec::new();
                frame::encode_stop_asked(*seq, &mut frame);
                // A broken link shows when its replies are read.
                let _ = link.tell(&frame);
            }
            link.flush();
        }
        let mut skipped = Vec::new();
        let held = std::mem::take(&mut state.held);
        for (cargo, attempt) in held {
            if of(&cargo) {
                skipped.push(cargo);
            } else {
                state.held.push_back((cargo, attempt));
            }
        }
        if runs {
            let at = if at_once {
                Instant::now()
            } else {
                Instant::now() + GRACE
            };
            for seq in told {
                if let Some(Some(flight)) = state.table.get_mut(State::<C>::place(seq)) {
                    flight.attempt = u32::MAX;
                }
            }
            state.condemn(at, Cause::Stopped);
        }
        drop(state);
        for cargo in skipped {
            cargo.answered(Answer::skipped());
        }
        runs
    }

    /// Kills the child if its time has come, or it uses more memory than `limit`.
    pub(crate) fn enforce(&self, now: Instant, memory: Option<(u64, u64)>) {
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
        // What it was to be killed for may be over.
        if matches!(&state.kill, Some((_, Cause::Stopped))) && !state.has_stopping() {
            state.kill = None;
        }
        let late = state.kill.as_ref().is_some_and(|(at, _)| *at <= now)
            || state.ends_by.is_some_and(|at| at <= now);
        if late && let Some(child) = &mut state.child {
            child.kill();
            state.ends_by = None;
        }
    }
}
