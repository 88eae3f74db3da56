//! The table of a lane: what is held, what is on its way, and what is sent next.

use std::sync::Arc;
use std::time::Instant;

use super::{Flight, Phase, State};
use crate::cargo::Cargo;
use crate::claims::SLOTS;
use crate::crash::Cause;
use crate::frame;
use crate::link::HostLink;
use crate::options::END_LIMIT;

/// What is to be done for messages that were sent, once the lane's lock is released.
#[must_use]
pub(super) struct Sent<C> {
    link: Arc<dyn HostLink>,
    /// Those that were not: their deadline has passed.
    late: Vec<C>,
}

impl<C: Cargo> Sent<C> {
    pub(super) fn conclude(self) {
        self.link.flush();
        for cargo in self.late {
            cargo.expired();
        }
    }
}

impl<C: Cargo> State<C> {
    #[expect(clippy::cast_possible_truncation, reason = "a remainder of SLOTS")]
    pub(super) const fn place(seq: u64) -> usize {
        (seq % SLOTS as u64) as usize
    }

    /// The numbers of the messages on their way, in order.
    pub(super) fn numbers(&self) -> Vec<u64> {
        let mut numbers: Vec<u64> = self
            .table
            .iter()
            .flatten()
            .map(|flight| flight.seq)
            .collect();
        numbers.sort_unstable();
        numbers
    }

    pub(super) fn take(&mut self, seq: u64) -> Option<Flight<C>> {
        let place = self.table.get_mut(Self::place(seq))?;
        if place.as_ref()?.seq != seq {
            return None;
        }
        let flight = place.take()?;
        self.on_their_way -= 1;
        if flight.cargo.as_ref().is_some_and(C::is_control) {
            self.controls -= 1;
            self.limit_controls();
        }
        Some(flight)
    }

    /// Has a child started, if there is none. True: it was not wanted before.
    pub(super) fn want(&mut self) -> bool {
        let wanted = matches!(self.phase, Phase::Idle);
        if wanted {
            self.phase = Phase::Wanted(Instant::now());
        }
        wanted
    }

    /// The child has as long as a start may take for the controls that it has now.
    pub(super) fn limit_controls(&mut self) {
        self.controls_by = self
            .start_limit
            .filter(|_| self.controls > 0)
            .and_then(|limit| Instant::now().checked_add(limit));
    }

    /// Whether the child is at something: a message, or a control.
    pub(super) fn has_begun(&self) -> bool {
        self.on_their_way > 0
            && self.link.as_ref().is_some_and(|link| {
                self.table
                    .iter()
                    .flatten()
                    .any(|flight| !flight.revoked && link.has_begun(flight.seq))
            })
    }

    /// Whether a message waits behind another one that could run elsewhere.
    pub(super) fn is_ahead(&self) -> bool {
        let elsewhere = |flight: &&Flight<C>| {
            let cargo = flight.cargo.as_ref();
            cargo.is_some_and(C::may_go_elsewhere)
        };
        self.on_their_way > 1 && self.table.iter().flatten().filter(elsewhere).count() > 1
    }

    /// Whether a message that was asked to stop still runs.
    pub(super) fn has_stopping(&self) -> bool {
        self.table
            .iter()
            .flatten()
            .any(|flight| flight.attempt == u32::MAX)
    }

    /// Sends what is held, as far as there is place.
    pub(super) fn send_held(&mut self) -> Option<Sent<C>> {
        if !matches!(self.phase, Phase::Up) || self.held.is_empty() {
            return None;
        }
        let link = self.link.clone()?;
        if self.table.is_empty() {
            self.table.resize_with(SLOTS, || None);
        }
        let mut late = Vec::new();
        while self.on_their_way < SLOTS - 1
            && let Some((cargo, attempt)) = self.held.pop_front()
        {
            if cargo.is_overdue() {
                late.push(cargo);
                continue;
            }
            let version = cargo.config_version();
            if version != 0 && self.configured.get(&cargo.worker()) != Some(&version) {
                self.configured.insert(cargo.worker(), version);
                let configuration = cargo.configuration();
                self.held.push_front((cargo, attempt));
                self.send(&link, configuration, 1);
                continue;
            }
            if let Some((number, bytes)) = cargo.definition()
                && !self.defined.has(number)
                && let Some(definition) = cargo.define(self.defined.add(number, bytes))
            {
                self.held.push_front((cargo, attempt));
                self.send(&link, definition, 1);
                continue;
            }
            if !cargo.is_control()
                && let Some(quota) = &mut self.quota
            {
                if *quota == 0 {
                    self.held.push_front((cargo, attempt));
                    if self.on_their_way == 0 {
                        self.retire(Instant::now());
                    }
                    break;
                }
                *quota -= 1;
            }
            self.send(&link, cargo, attempt);
        }
        Some(Sent { link, late })
    }

    /// Ends a child that has handled as many messages as it may.
    pub(super) fn retire_if_used_up(&mut self) {
        if self.quota == Some(0) && self.on_their_way == 0 {
            self.retire(Instant::now());
        }
    }

    pub(super) fn send(&mut self, link: &Arc<dyn HostLink>, cargo: C, attempt: u32) {
        while self.table[Self::place(self.next_seq)].is_some() {
            self.next_seq += 1;
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        self.frame.clear();
        cargo.encode(seq, attempt, &mut self.frame);
        let sent = link.offer(seq, &self.frame, cargo.area());
        let is_control = cargo.is_control();
        self.table[Self::place(seq)] = Some(Flight {
            seq,
            attempt,
            revoked: false,
            disputed: false,
            withdrawn: false,
            cargo: Some(cargo),
        });
        self.on_their_way += 1;
        if is_control {
            self.controls += 1;
            if self.controls_by.is_none() {
                self.limit_controls();
            }
        }
        if let Err(broken) = sent {
            self.condemn(Instant::now(), Cause::Protocol(broken.to_string()));
        }
    }

    /// Has the child killed at `at`; the earliest time stands.
    pub(super) fn condemn(&mut self, at: Instant, cause: Cause) {
        match &mut self.kill {
            Some((known, why)) => {
                *known = (*known).min(at);
                // The message that it is stopped for may be over in time; the others stand.
                if *why == Cause::Stopped {
                    *why = cause;
                }
            }
            None => self.kill = Some((at, cause)),
        }
    }

    /// Has the child end after what it has, and another one started.
    pub(super) fn retire(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Up) {
            self.phase = Phase::Retiring;
            self.tell_to_end(now + END_LIMIT);
        }
    }

    pub(super) fn tell_to_end(&mut self, by: Instant) {
        if let Some(link) = &self.link {
            let mut frame = Vec::new();
            frame::encode_quit(&mut frame);
            // If it cannot be told, it is killed.
            let _ = link.tell(&frame);
            link.flush();
            link.wake();
            self.ends_by = Some(by);
        }
    }
}
