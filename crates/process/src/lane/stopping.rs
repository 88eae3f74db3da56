//! Messages that are taken back or stopped, and children that are killed for them.

use std::time::{Duration, Instant};

use pytoweb_engine::BatchKey;

use super::{Aboard, Lane, Phase, State};
use crate::cargo::{Answer, Cargo};
use crate::crash::Cause;
use crate::flight::Flight;
use crate::frame;

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

/// What [`Lane::look_at_waiting`] found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WaitingLook {
    pub(crate) ahead: bool,
    pub(crate) stuck: bool,
}

/// Which messages are stopped.
enum Which<'a, C> {
    /// All of a worker, and its configuration.
    Worker(u32),
    /// Those that this picks.
    Of(&'a dyn Fn(&C) -> bool),
}

impl<C> Which<'_, C> {
    fn picks(&self, flight: &Flight<C>) -> bool {
        match self {
            Self::Worker(worker) => flight.worker == *worker,
            Self::Of(of) => of(&flight.cargo),
        }
    }
}

/// Whether it is the first of its batch, of those that this was asked of.
fn is_first(batches: &mut Vec<BatchKey>, batch: Option<BatchKey>) -> bool {
    match batch {
        Some(batch) if batches.contains(&batch) => false,
        Some(batch) => {
            batches.push(batch);
            true
        }
        None => true,
    }
}

impl<C: Cargo> Lane<C> {
    /// Takes what the child has not begun out, but for the first message of each batch, of the messages that `of` picks:
    /// they are to be put back.
    pub(crate) fn recall(&self, of: &dyn Fn(&Flight<C>) -> bool, found: &mut Vec<C>) {
        let mut state = self.state();
        let mut batches = Vec::new();
        for seq in state.numbers() {
            let link = state.link.clone();
            let Some(Some(tracked)) = state.table.get_mut(State::<C>::place(seq)) else {
                continue;
            };
            let Some(flight) = tracked.flight().filter(|flight| of(flight)) else {
                continue;
            };
            if is_first(&mut batches, flight.batch) {
                continue;
            }
            if link.is_some_and(|link| link.revoke(seq)) {
                tracked.revoked = true;
                if let Some(flight) = tracked.take() {
                    state.has_unsent(&flight);
                    found.push(flight.cargo);
                }
            }
        }
        // A message that is held was not even sent.
        let mut batches = state
            .table
            .iter()
            .flatten()
            .filter_map(|tracked| tracked.flight()?.batch)
            .collect();
        for flight in std::mem::take(&mut state.held) {
            if is_first(&mut batches, flight.batch) || flight.attempt > 1 || !of(&flight) {
                state.held.push_back(flight);
            } else {
                found.push(flight.cargo);
            }
        }
    }

    /// Whether messages wait here behind another one that could run elsewhere, and whether the child has answered nothing
    /// since this was last called.
    pub(crate) fn look_at_waiting(&self) -> WaitingLook {
        let mut state = self.state();
        let stuck = state.answered == state.answered_seen;
        state.answered_seen = state.answered;
        WaitingLook {
            ahead: state.is_ahead(),
            stuck,
        }
    }

    /// Whether messages wait here behind another one that could run elsewhere.
    pub(crate) fn is_ahead(&self) -> bool {
        self.state().is_ahead()
    }

    /// Takes a message out that waits behind another one, has not begun and could run elsewhere: the first of its batch,
    /// once the others were recalled.
    pub(crate) fn take_waiting(&self) -> Option<Flight<C>> {
        let mut state = self.state();
        let link = state.link.clone();
        let mut behind = false;
        for seq in state.numbers() {
            let Some(Some(tracked)) = state.table.get_mut(State::<C>::place(seq)) else {
                continue;
            };
            let Some(flight) = tracked.flight() else {
                continue;
            };
            let moves = behind && flight.may_go_elsewhere && !tracked.stopped;
            behind = true;
            if moves && link.as_ref().is_some_and(|link| link.revoke(seq)) {
                tracked.revoked = true;
                let flight = tracked.take();
                if let Some(flight) = &flight {
                    state.has_unsent(flight);
                }
                return flight;
            }
        }
        let mut held = state.held.iter().skip(usize::from(!behind));
        let place = held.position(|flight| flight.may_go_elsewhere && flight.attempt == 1)?;
        state.held.remove(place + usize::from(!behind))
    }

    /// Whether the child has begun a message that `of` picks.
    pub(crate) fn has_begun(&self, of: &dyn Fn(&C) -> bool) -> bool {
        let state = self.state();
        state.link.as_ref().is_some_and(|link| {
            state.table.iter().flatten().any(|tracked| {
                matches!(&tracked.what, Aboard::Message(flight) if of(&flight.cargo))
                    && link.has_begun(tracked.seq)
            })
        })
    }

    /// What `note` says of each message that the child has begun, with its number, and the process number of the child.
    pub(crate) fn begun<T>(&self, note: &dyn Fn(&C) -> T) -> Option<(u32, Vec<(u64, T)>)> {
        let state = self.state();
        let (link, child) = (state.link.as_ref()?, state.child.as_ref()?);
        let each = state.table.iter().flatten();
        let begun = each.filter_map(|tracked| {
            let flight = tracked.flight()?;
            link.has_begun(tracked.seq)
                .then(|| (tracked.seq, note(&flight.cargo)))
        });
        Some((child.pid(), begun.collect()))
    }

    /// What `note` says of each message of a worker that the child has begun.
    pub(crate) fn begun_of<T>(&self, worker: u32, note: &dyn Fn(&C) -> Option<T>) -> Vec<T> {
        let state = self.state();
        let Some(link) = &state.link else {
            return Vec::new();
        };
        let each = state.table.iter().flatten();
        each.filter_map(|tracked| {
            let flight = tracked.flight().filter(|flight| flight.worker == worker)?;
            let noted = note(&flight.cargo)?;
            link.has_begun(tracked.seq).then_some(noted)
        })
        .collect()
    }

    /// Stops the messages that `of` picks: one that has not begun never will, one that runs is asked, and after the grace
    /// its child is killed. True: the supervisor is to be told.
    pub(crate) fn stop(&self, of: &dyn Fn(&C) -> bool, grace: Duration) -> bool {
        self.stop_all(&Which::Of(of), grace)
    }

    /// Stops all messages of a worker, and kills the child for one that runs. True: the supervisor is to be told.
    pub(crate) fn terminate(&self, worker: u32) -> bool {
        self.stop_all(&Which::Worker(worker), Duration::ZERO)
    }

    fn stop_all(&self, which: &Which<'_, C>, grace: Duration) -> bool {
        let mut state = self.state();
        let mut skipped = state.revoke(&|flight| which.picks(flight));
        let mut told = Vec::new();
        if let Some(link) = state.link.clone() {
            for tracked in state.table.iter_mut().flatten() {
                let stops = match &tracked.what {
                    Aboard::Message(flight) => !tracked.revoked && which.picks(flight),
                    // It belongs to the start of the child, unless its worker is over.
                    Aboard::Control { worker, .. } => {
                        matches!(which, Which::Worker(over) if over == worker)
                            && link.has_begun(tracked.seq)
                    }
                    Aboard::Gone => false,
                };
                if stops {
                    link.ask_to_stop(tracked.seq);
                    tracked.stopped = true;
                    told.push(tracked.seq);
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
        let watches = state.expect_taking_up(grace);
        if !told.is_empty() {
            state.condemn(Instant::now() + grace, Cause::Stopped);
        }
        skipped.extend(state.take_held(&|flight| which.picks(flight)));
        drop(state);
        for cargo in skipped {
            cargo.answered(Answer::skipped());
        }
        watches || !told.is_empty()
    }

    /// Tells the child that more items of the streams of messages which `of` picks may come.
    pub(crate) fn grant(&self, of: &dyn Fn(&C) -> bool, items: u32) {
        let state = self.state();
        state.tell_of(of, |seq, frame| frame::encode_grant(seq, items, frame));
    }

    /// The streams of messages that `of` picks are not read any more: one that has not begun goes into `found`, and never
    /// will; the child of one that has is told. True: the supervisor is to be told.
    pub(crate) fn unread(
        &self,
        of: &dyn Fn(&C) -> bool,
        grace: Duration,
        found: &mut Vec<C>,
    ) -> bool {
        let of_flight = |flight: &Flight<C>| of(&flight.cargo);
        let mut state = self.state();
        let before = found.len();
        found.extend(state.revoke(&of_flight));
        let revoked = found.len() > before;
        found.extend(state.take_held(&of_flight));
        state.tell_of(of, frame::encode_enough);
        revoked && state.expect_taking_up(grace)
    }

    /// Sees to it that the child takes up what it was sent, or passes by what was taken back of it. True: the supervisor
    /// is to be told.
    pub(crate) fn watch(&self, grace: Duration) -> bool {
        self.state().expect_taking_up(grace)
    }

    /// Takes the messages of a worker out that have not begun: it has stopped. Those of which that is not known yet
    /// follow when their child has ended. True: the supervisor is to be told.
    pub(crate) fn withdraw(&self, worker: u32, grace: Duration, found: &mut Vec<C>) -> bool {
        let of = |flight: &Flight<C>| flight.worker == worker;
        let mut state = self.state();
        found.extend(state.revoke(&of));
        if let Some(link) = state.link.clone() {
            for tracked in state.table.iter_mut().flatten() {
                if tracked.flight().is_some_and(of) && !link.has_begun(tracked.seq) {
                    tracked.withdrawn = true;
                }
            }
        }
        found.extend(state.take_held(&of));
        state.expect_taking_up(grace)
    }

    /// Kills the child if its time has come, or it uses more memory than `limit`. The number of its process, if it was
    /// told to end and did not.
    pub(crate) fn enforce(
        &self,
        now: Instant,
        memory: Option<(u64, u64)>,
        grace: Duration,
    ) -> Option<u32> {
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
        let is_news = state.ends_by.is_some_and(|at| at <= now) && state.kill_is_news;
        let late = state.kill.as_ref().is_some_and(|(at, _)| *at <= now)
            || state.ends_by.is_some_and(|at| at <= now);
        let mut overdue = None;
        if late && let Some(child) = &mut state.child {
            child.kill();
            overdue = is_news.then(|| child.pid());
            state.kill_is_news = false;
            state.ends_by = None;
            if let Some((at, _)) = &mut state.kill {
                // Once is enough: from here on its end is waited for.
                *at = now + KILLED_LOOK;
            }
        }
        overdue
    }
}

impl<C: Cargo> Lane<C> {
    /// Has the child killed that was told to end. True: the supervisor is to be told.
    pub(crate) fn kill_ending(&self) -> bool {
        let mut state = self.state();
        let ending = state.ends_by.is_some();
        if ending {
            state.ends_by = Some(Instant::now());
            // The owner wants it so.
            state.kill_is_news = false;
        }
        ending
    }
}

impl<C: Cargo> State<C> {
    /// Sends a frame about each message on its way that `of` picks.
    fn tell_of(&self, of: &dyn Fn(&C) -> bool, encode: impl Fn(u64, &mut Vec<u8>)) {
        let Some(link) = &self.link else { return };
        let mut frame = Vec::new();
        for tracked in self.table.iter().flatten() {
            if tracked.flight().is_some_and(|flight| of(&flight.cargo)) {
                encode(tracked.seq, &mut frame);
                // A broken link shows when its replies are read.
                let _ = link.tell(&frame);
            }
        }
        link.flush();
    }

    /// Takes the messages out that `of` picks and that the child has not begun, and now never will.
    fn revoke(&mut self, of: &dyn Fn(&Flight<C>) -> bool) -> Vec<C> {
        let Some(link) = self.link.clone() else {
            return Vec::new();
        };
        let mut taken = Vec::new();
        for tracked in self.table.iter_mut().flatten() {
            if tracked.flight().is_some_and(of) && link.revoke(tracked.seq) {
                tracked.revoked = true;
                taken.extend(tracked.take());
            }
        }
        for flight in &taken {
            self.has_unsent(flight);
        }
        taken.into_iter().map(|flight| flight.cargo).collect()
    }

    fn take_held(&mut self, of: &dyn Fn(&Flight<C>) -> bool) -> Vec<C> {
        let mut found = Vec::new();
        for flight in std::mem::take(&mut self.held) {
            if of(&flight) {
                found.push(flight.cargo);
            } else {
                self.held.push_back(flight);
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
        let late = !self.health.is_ready()
            || self.link.as_ref().is_some_and(|link| {
                self.table
                    .iter()
                    .flatten()
                    .any(|tracked| tracked.is_control() && link.has_begun(tracked.seq))
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
