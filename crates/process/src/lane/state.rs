//! The table of a lane: what is held, what is on its way, and what is sent next.

use std::sync::Arc;
use std::time::Instant;

use super::{Aboard, Phase, State, TrackedRequest};
use crate::cargo::Cargo;
use crate::claims::SLOTS;
use crate::crash::Cause;
use crate::flight::{Flight, area};
use crate::frame::{self, Request, control, encode_request};
use crate::link::{Broken, HostLink};
use crate::options::END_LIMIT;
use crate::payload::Payload;

/// What is to be done for messages that were sent, once the lane's lock is released.
#[must_use]
pub(super) struct AfterSend<C> {
    link: Arc<dyn HostLink>,
    /// Those that were not: their deadline has passed.
    late: Vec<C>,
    /// And those whose streams are not read any more.
    unread: Vec<C>,
}

impl<C: Cargo> AfterSend<C> {
    pub(super) fn conclude(self) {
        self.link.flush();
        for cargo in self.late {
            cargo.expired();
        }
        for cargo in self.unread {
            cargo.unread();
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
            .map(|tracked| tracked.seq)
            .collect();
        numbers.sort_unstable();
        numbers
    }

    pub(super) fn take(&mut self, seq: u64) -> Option<TrackedRequest<C>> {
        let place = self.table.get_mut(Self::place(seq))?;
        if place.as_ref()?.seq != seq {
            return None;
        }
        let tracked = place.take()?;
        self.on_their_way -= 1;
        if tracked.is_control() {
            self.controls -= 1;
            self.limit_controls();
        }
        Some(tracked)
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
                    .any(|tracked| !tracked.revoked && link.has_begun(tracked.seq))
            })
    }

    /// Whether a message that could run elsewhere waits behind another one.
    pub(super) fn is_ahead(&self) -> bool {
        if self.on_their_way - self.controls + self.held.len() < 2 {
            return false;
        }
        let sent = || {
            let each = self.table.iter().flatten();
            each.filter_map(|tracked| Some((tracked.seq, tracked.flight()?)))
        };
        let front = sent().map(|(seq, _)| seq).min();
        let mut held = self.held.iter().skip(usize::from(front.is_none()));
        sent().any(|(seq, flight)| flight.may_go_elsewhere && Some(seq) != front)
            || held.any(|flight| flight.may_go_elsewhere && flight.attempt == 1)
    }

    /// Whether a message that was asked to stop still runs.
    pub(super) fn has_stopping(&self) -> bool {
        self.table.iter().flatten().any(|tracked| tracked.stopped)
    }

    /// Sends what is held, as far as there is place.
    pub(super) fn send_held(&mut self) -> Option<AfterSend<C>> {
        if !matches!(self.phase, Phase::Up) || self.held.is_empty() {
            return None;
        }
        let link = self.link.clone()?;
        let (mut late, mut unread) = (Vec::new(), Vec::new());
        while self.on_their_way < SLOTS - 1
            && let Some(flight) = self.held.pop_front()
        {
            if flight.cargo.is_overdue() {
                late.push(flight.cargo);
                continue;
            }
            // The thread that closed it looked here before it came.
            if flight.cargo.is_unread() {
                unread.push(flight.cargo);
                continue;
            }
            if self.send_need(&link, &flight) {
                // There may be no place left for the message itself.
                self.held.push_front(flight);
                continue;
            }
            if let Some(quota) = &mut self.quota {
                if *quota <= 0 {
                    self.held.push_front(flight);
                    if self.on_their_way == 0 {
                        self.retire(Instant::now());
                    }
                    break;
                }
                *quota -= flight.count();
            }
            self.send(&link, flight);
        }
        Some(AfterSend { link, late, unread })
    }

    /// A message was taken back that the child had not begun: it may handle another one for it.
    pub(super) fn has_unsent(&mut self, flight: &Flight<C>) {
        if let Some(quota) = &mut self.quota {
            *quota += flight.count();
        }
    }

    /// Ends a child that has handled as many messages as it may.
    pub(super) fn retire_if_used_up(&mut self) {
        if self.quota.is_some_and(|quota| quota <= 0) && self.on_their_way == 0 {
            self.retire(Instant::now());
        }
    }

    /// Sends what the child must have before `flight`, a configuration or a definition. False: it has all.
    fn send_need(&mut self, link: &Arc<dyn HostLink>, flight: &Flight<C>) -> bool {
        if !self.configured.has(flight.worker, flight.config_version) {
            let (version, payload) = flight.cargo.configuration();
            let version = version.max(flight.config_version);
            self.configured.add(flight.worker, version);
            self.send_control(link, flight.worker, control::CONFIGURE, payload);
            return true;
        }
        match &flight.request.definition {
            Some(definition) if !self.defined.has(definition.number) => {
                let anew = self.defined.add(definition.number, definition.bytes);
                let flags = control::DEFINE | if anew { control::ANEW } else { 0 };
                self.send_control(link, definition.number, flags, definition.payload.clone());
                true
            }
            _ => false,
        }
    }

    fn send(&mut self, link: &Arc<dyn HostLink>, flight: Flight<C>) {
        let seq = self.free_seq();
        let numbers = (seq, flight.worker, flight.attempt);
        let encoded = flight.request.encode(numbers, &mut self.frame);
        // A text of 4 GiB was refused when the message was packed.
        debug_assert!(encoded.is_ok());
        let sent = link.offer(seq, &self.frame, area(&flight.request.payload));
        self.track(seq, Aboard::Message(flight), sent);
    }

    /// Sends something that is no message: see [`control`]. `number` is that of a worker, or of a definition.
    pub(super) fn send_control(
        &mut self,
        link: &Arc<dyn HostLink>,
        number: u32,
        flags: u32,
        payload: Arc<Payload>,
    ) {
        let seq = self.free_seq();
        let request = Request {
            seq,
            worker: number,
            attempt: 1,
            flags,
            kind: "",
            id: None,
            context: &[],
            payload: &*payload,
        };
        let encoded = encode_request(&request, &mut self.frame);
        debug_assert!(encoded.is_ok());
        let sent = link.offer(seq, &self.frame, area(&payload));
        let control = Aboard::Control {
            // A definition is no worker's.
            worker: if flags & control::DEFINE == 0 {
                number
            } else {
                0
            },
            _payload: payload,
        };
        self.track(seq, control, sent);
        self.controls += 1;
        if self.controls_by.is_none() {
            self.limit_controls();
        }
    }

    /// The next number whose place in the table is free.
    fn free_seq(&mut self) -> u64 {
        if self.table.is_empty() {
            self.table.resize_with(SLOTS, || None);
        }
        while self.table[Self::place(self.next_seq)].is_some() {
            self.next_seq += 1;
        }
        self.next_seq += 1;
        self.next_seq - 1
    }

    #[inline]
    fn track(&mut self, seq: u64, what: Aboard<C>, sent: Result<(), Broken>) {
        self.table[Self::place(seq)] = Some(TrackedRequest {
            seq,
            revoked: false,
            disputed: false,
            withdrawn: false,
            stopped: false,
            what,
        });
        self.on_their_way += 1;
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
            // One that was told before is to end as it was told then.
            self.ends_by = Some(self.ends_by.map_or(by, |before| before.min(by)));
        }
    }
}
