//! The order of a mailbox whose messages have plans: priorities, keys, delays and rates.
//!
//! What can run is a list of *units* for each priority. A unit is one message, or a *lane*: the queued messages with one
//! key, of which one runs at a time. A lane that was served goes to the back, so lanes are served in turns, however much is
//! in each. What cannot run yet is *asleep* until a time: a message that is delayed, or a lane whose first message has a
//! place with its meter in the future.
//!
//! **Aging.** A unit gets the number of its turn when it is placed. The unit goes next whose number plus
//! [`Priority::STEP`] for each level that it is below the highest one is the least; so a unit of a higher priority passes
//! another one only if it was placed among the next few.
//!
//! **Groups.** Messages of a group wait in a lane of their own, or in that of their key or meter. The first of them takes
//! those along that follow it, and may wait for them before: then its lane sleeps, until there are enough.
//!
//! **Spots.** A carrier may run messages in several places, and a lane remembers the last one. A carrier that asks for what is
//! next at a spot gets the first unit that ran there, or nowhere yet, of the first few; but none is passed for longer than all
//! others take to have two turns.
//!
//! Priorities are looked at only where they have a unit, and lanes are known by their place.
//!
//! Past 600 lines, because each operation moves messages between the units, the lanes and what sleeps, and keeps their counts
//! right: what the parts have of their own is in `planned/`.

#[path = "planned/found.rs"]
mod found;
#[path = "planned/groups.rs"]
mod groups;
#[path = "planned/lanes.rs"]
mod lanes;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use lanes::{Lane, LaneId, Lanes};

use super::claimed::{Others, Popped, claim_plainly};
use super::door::{Knock, is_knocked};
use super::entry::{Entry, Leftover, Punctual, Spot, buried};
use super::queue::Tray;
use crate::clock::Timestamp;
use crate::key::Key;
use crate::message::{Message, Ticket};
use crate::plan::{Meter, Plan, Priority};
use crate::reply::ReplyState;

/// Messages that one level is worth. Few in the random lives of the tests, which are short and are to see messages age.
const STEP: u64 = if cfg!(test) { 8 } else { Priority::STEP };

/// The turn of a priority without a unit.
const NEVER: u64 = u64::MAX;

/// How many sleepers are looked at for the one that has waited longest: a post waits for that.
const SLEEPERS_SEEN: usize = 16;

/// How many units are looked at for one that ran where the next one is to.
const UNITS_SEEN: usize = 16;

/// How many turns of all others a unit may be passed for one that ran there.
const PATIENCE: u64 = 2;

/// Places in the sleepers' list that one time can have.
type Bed = (Timestamp, u64);

enum Unit<M> {
    One(Entry<M>),
    Lane(LaneId),
}

struct Ready<M> {
    number: u64,
    unit: Unit<M>,
}

enum Sleeper<M> {
    /// Whether it is to be tried again.
    Message(Entry<M>, Tried),
    Lane(LaneId),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tried {
    Never,
    Before,
}

pub(super) struct Planned<M> {
    ready: [VecDeque<Ready<M>>; Priority::LEVELS],
    /// Of each of them, at which turn its first unit is next; [`NEVER`] where it has none.
    turns: [u64; Priority::LEVELS],
    units: usize,
    placed: u64,
    lanes: Lanes<M>,
    asleep: BTreeMap<Bed, Sleeper<M>>,
    laid_down: u64,
    /// Messages here, those that are gone included.
    len: usize,
    /// What every message is counted against.
    meter: Option<Meter>,
    /// No message waits for company any more: none will come.
    hurries: bool,
    /// None waits for now: the mailbox is full, and none can come.
    is_full: bool,
    /// Lanes that sleep because their first message waits for company.
    waiting: usize,
    /// Set by senders whose message may go before one that is here.
    knock: Option<Knock>,
    /// How many units are to have their turn before the next look at what senders have pushed.
    until_look: usize,
    /// The lowest level of the messages that came since there was none.
    lowest: usize,
}

impl<M: Message> Planned<M> {
    pub(super) fn new(meter: Option<Meter>) -> Self {
        Self {
            ready: [const { VecDeque::new() }; Priority::LEVELS],
            turns: [NEVER; Priority::LEVELS],
            units: 0,
            placed: 0,
            lanes: Lanes::new(),
            asleep: BTreeMap::new(),
            laid_down: 0,
            len: 0,
            meter,
            hurries: false,
            is_full: false,
            waiting: 0,
            knock: None,
            until_look: 0,
            lowest: Priority::HIGHEST.level(),
        }
    }

    /// Looks at what senders have pushed when they `knock`.
    pub(super) fn answer(&mut self, knock: Knock) {
        self.knock = Some(knock);
    }

    /// While it [is quiet](Self::is_quiet): whether the next one is known without a look at what senders have pushed since.
    /// Each unit has had its turn once before it is not.
    #[inline]
    pub(super) fn has_enough(&mut self) -> bool {
        if self.until_look == 0 || self.units < 2 || self.knock.as_deref().is_none_or(is_knocked) {
            return false;
        }
        self.until_look -= 1;
        true
    }

    /// All that was pushed was taken in. Returns the lowest level of the messages here, or a lower one.
    pub(super) fn has_looked(&mut self) -> usize {
        self.until_look = self.units;
        if self.len == 0 {
            self.lowest = Priority::HIGHEST.level();
        }
        self.lowest
    }

    /// Messages here, those that are gone included.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Units that could run.
    pub(super) const fn units(&self) -> usize {
        self.units
    }

    /// Takes in a message that was posted. One with a delay sleeps, be it over or not, until [`Planned::wake`].
    pub(super) fn push(&mut self, entry: Entry<M>) {
        self.len += 1;
        let plan = entry.message.plan();
        let priority = plan.map(|plan| plan.priority).unwrap_or_default();
        self.lowest = self.lowest.min(priority.level());
        match plan.and_then(|plan| plan.more().not_before) {
            Some(at) => self.lay_down(at, entry, Tried::Never),
            None => self.place(entry, Tried::Never),
        }
    }

    fn lay_down(&mut self, at: Timestamp, entry: Entry<M>, tried: Tried) {
        let bed = self.bed(at);
        if let Some(plan) = entry.message.plan()
            && plan.more().replaces.is_some()
            && let Some(key) = plan.lane()
        {
            let id = self.lanes.find_or_make(key, plan.key.is_none());
            if let Some(lane) = self.lanes.get_mut(id) {
                lane.may_be_replaced_in(bed);
            }
        }
        self.asleep.insert(bed, Sleeper::Message(entry, tried));
    }

    const fn bed(&mut self, at: Timestamp) -> Bed {
        self.laid_down += 1;
        (at, self.laid_down)
    }

    /// Gives a message its place among those that can run: the first one of its group, if it was tried before.
    fn place(&mut self, entry: Entry<M>, tried: Tried) {
        let plan = entry.message.plan();
        let priority = plan.map(|plan| plan.priority).unwrap_or_default();
        let goes_first =
            tried == Tried::Before && plan.is_some_and(|plan| plan.more().group.is_some());
        let Some((key, shared)) = plan.and_then(lane_of) else {
            self.add(priority, Unit::One(entry));
            return;
        };
        let id = self.lanes.find_or_make(key, shared);
        let Some(lane) = self.lanes.get_mut(id) else {
            return;
        };
        if goes_first {
            lane.push_tried(entry);
        } else {
            lane.push(entry);
        }
        if let Some(bed) = lane.waiting
            && lane.is_complete()
        {
            self.asleep.remove(&bed);
            self.gets_up_lane(id);
        }
        self.place_lane(id);
    }

    /// Has no message wait for company any more. Returns how many units there are more.
    pub(super) fn hurry(&mut self) -> usize {
        self.hurries = true;
        self.wait_no_more()
    }

    /// Whether the mailbox is full: then no message waits for company. Returns how many units there are more.
    pub(super) fn set_full(&mut self, is_full: bool) -> usize {
        self.is_full = is_full;
        if is_full { self.wait_no_more() } else { 0 }
    }

    fn wait_no_more(&mut self) -> usize {
        if self.waiting == 0 {
            return 0;
        }
        let before = self.units;
        for (id, bed) in self.lanes.waiting() {
            self.asleep.remove(&bed);
            self.gets_up_lane(id);
        }
        self.units - before
    }

    fn add(&mut self, priority: Priority, unit: Unit<M>) {
        let number = self.placed;
        self.placed += 1;
        self.units += 1;
        let level = priority.level();
        self.ready[level].push_back(Ready { number, unit });
        if self.turns[level] == NEVER {
            self.turns[level] = turn(level, number);
        }
    }

    /// Places a lane at the back, if it has something to run and is not placed. One whose first message rests sleeps.
    fn place_lane(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get_mut(id).filter(|lane| lane.can_be_placed()) else {
            return;
        };
        lane.placed = true;
        if let Some(at) = lane.rests_until() {
            let bed = self.bed(at);
            self.asleep.insert(bed, Sleeper::Lane(id));
            return;
        }
        let priority = lane.first.as_ref().map(priority_of).unwrap_or_default();
        self.add(priority, Unit::Lane(id));
    }

    /// Puts a unit before all others of its priority.
    fn add_first(&mut self, priority: Priority, unit: Unit<M>) {
        let level = priority.level();
        let units = &mut self.ready[level];
        let number = units.front().map_or(self.placed, |first| first.number);
        units.push_front(Ready { number, unit });
        self.units += 1;
        self.turns[level] = turn(level, number);
    }

    /// The priority whose first unit is next; the higher one where two have the same turn.
    fn next_level(&self) -> Option<usize> {
        if self.units == 0 {
            return None;
        }
        let turns = self.turns.iter().enumerate().rev();
        turns.min_by_key(|(_, turn)| **turn).map(|(level, _)| level)
    }

    fn take_unit(&mut self, level: usize) -> Option<Unit<M>> {
        let units = &mut self.ready[level];
        let ready = units.pop_front()?;
        self.turns[level] = first_turn(level, units);
        self.units -= 1;
        Some(ready.unit)
    }

    /// Whether nothing sleeps, and nothing is counted against a rate of the worker.
    pub(super) fn is_quiet(&self) -> bool {
        self.asleep.is_empty() && self.meter.is_none()
    }

    /// Takes the next message to run it, with its ticket, where that is all there is to do: it has no deadline, was not
    /// cancelled, and is counted against no rate. In a mailbox that [is quiet](Self::is_quiet).
    pub(super) fn pop_plainly(&mut self, next: &mut Tray<M>) -> Option<Option<Arc<dyn Ticket>>> {
        let level = self.next_level()?;
        match &self.ready[level].front()?.unit {
            Unit::One(entry) => {
                let ticket = claim_plainly(&entry.message)?;
                let Some(Unit::One(entry)) = self.take_unit(level) else {
                    return None;
                };
                self.len -= 1;
                *next = Tray::of(entry);
                Some(ticket)
            }
            &Unit::Lane(id) => {
                let lane = self.lanes.get_mut(id)?;
                let first = lane.first.as_ref()?;
                if first.message.plan().is_some_and(Plan::waits_in_lane)
                    || lane.rests_until().is_some()
                {
                    return None;
                }
                let ticket = claim_plainly(&first.message)?;
                *next = Tray::of(lane.pop()?);
                lane.begin(1);
                self.take_unit(level);
                self.place_lane(id);
                self.len -= 1;
                Some(ticket)
            }
        }
    }

    /// Brings a unit of `level` to its front that ran at `spot`, or at none, if the first one ran elsewhere.
    fn bring_forward(&mut self, level: usize, spot: Spot) {
        let belongs_elsewhere = |ready: &Ready<M>| match ready.unit {
            Unit::One(_) => false,
            Unit::Lane(id) => {
                let lane = self.lanes.get(id);
                lane.is_some_and(|lane| lane.spot.is_some_and(|own| own != spot))
            }
        };
        let units = &self.ready[level];
        let Some(first) = units.front().filter(|first| belongs_elsewhere(first)) else {
            return;
        };
        let was_passed = self.placed.saturating_sub(first.number);
        if was_passed > PATIENCE * self.units as u64 {
            return;
        }
        let mut seen = units.iter().take(UNITS_SEEN);
        if let Some(index) = seen.position(|ready| !belongs_elsewhere(ready))
            && let Some(unit) = self.ready[level].remove(index)
        {
            self.ready[level].push_front(unit);
        }
    }

    /// Takes the next message to run it, claimed; at `spot`, if it is to run there.
    pub(super) fn pop_to_run(
        &mut self,
        spot: Option<Spot>,
        punctual: &mut Punctual<'_>,
        tombstones: &mut usize,
        leftovers: &mut Vec<Leftover<M>>,
    ) -> Popped<M> {
        if let Some(meter) = &self.meter
            && self.units > 0
            && meter.next(punctual.now()) > punctual.now()
        {
            return Popped::Nothing;
        }
        while let Some(level) = self.next_level() {
            if let Some(spot) = spot {
                self.bring_forward(level, spot);
            }
            let id = match self.ready[level].front() {
                Some(Ready {
                    unit: Unit::Lane(id),
                    ..
                }) => *id,
                _ => {
                    let Some(Unit::One(entry)) = self.take_unit(level) else {
                        break;
                    };
                    self.len -= 1;
                    if punctual.expires(&entry.message) {
                        leftovers.push(buried(entry.message));
                        return Popped::Expired;
                    }
                    if entry.message.claim() {
                        if let Some(meter) = &self.meter {
                            meter.reserve(punctual.now());
                        }
                        return Popped::Message(entry, Others::none());
                    }
                    *tombstones -= 1;
                    leftovers.push(buried(entry.message));
                    continue;
                }
            };
            let Some(lane) = self.lanes.get_mut(id) else {
                self.take_unit(level);
                continue;
            };
            let Some(first) = &lane.first else {
                lane.placed = false;
                self.lanes.forget_if_over(id);
                self.take_unit(level);
                continue;
            };
            if punctual.expires(&first.message) {
                self.len -= 1;
                leftovers.extend(lane.pop().map(|entry| buried(entry.message)));
                return Popped::Expired;
            }
            if let Some(at) = lane.rests_until() {
                if at <= punctual.now() {
                    lane.look_at_rest(at);
                } else if is_queued(first) {
                    self.take_unit(level);
                    let bed = self.bed(at);
                    self.asleep.insert(bed, Sleeper::Lane(id));
                    continue;
                }
            }
            let Some(first) = &lane.first else {
                continue;
            };
            if !self.hurries
                && !self.is_full
                && let Some(until) = lane.waits_until()
                && until > punctual.now()
            {
                self.laid_down += 1;
                let bed = (until, self.laid_down);
                lane.waiting = Some(bed);
                self.waiting += 1;
                self.take_unit(level);
                self.asleep.insert(bed, Sleeper::Lane(id));
                continue;
            }
            if let Some(meter) = meter_of(first)
                && !lane.reserved
                && first.message.state().is_none_or(ReplyState::is_queued)
            {
                lane.reserved = true;
                let at = meter.reserve(punctual.now());
                if at > punctual.now() {
                    self.take_unit(level);
                    let bed = self.bed(at);
                    self.asleep.insert(bed, Sleeper::Lane(id));
                    continue;
                }
            }
            let claimed = first.message.claim();
            self.len -= 1;
            let Some(entry) = lane.pop() else { continue };
            if !claimed {
                *tombstones -= 1;
                leftovers.push(buried(entry.message));
                continue;
            }
            if let Some(meter) = &self.meter {
                meter.reserve(punctual.now());
            }
            let before = lane.len();
            let of_worker = self.meter.as_ref();
            let mut others = lane.pop_others(&entry, of_worker, punctual, tombstones, leftovers);
            others.spot = lane.spot;
            self.len -= before - lane.len();
            lane.reserved = false;
            lane.begin(1 + others.entries.len());
            self.take_unit(level);
            self.place_lane(id);
            return Popped::Message(entry, others);
        }
        Popped::Nothing
    }

    /// A message of the lane `key` that ran is over, at `spot` where that is known: the next one may run.
    pub(super) fn ended(&mut self, key: &Key, spot: Option<Spot>) {
        if let Some(id) = self.lanes.end(key, spot) {
            self.place_lane(id);
        }
    }

    /// Puts a message back that was taken to run, before all others of its priority, and of its lane.
    pub(super) fn put_back(&mut self, entry: Entry<M>) {
        self.len += 1;
        let priority = priority_of(&entry);
        let Some((key, shared)) = entry.message.plan().and_then(lane_of) else {
            self.add_first(priority, Unit::One(entry));
            return;
        };
        let id = self.lanes.find_or_make(key, shared);
        // It has begun once already, as far as the meter goes.
        let reserved = meter_of(&entry).is_some();
        let Some(lane) = self.lanes.get_mut(id) else {
            return;
        };
        lane.running = lane.running.saturating_sub(1);
        lane.reserved = reserved;
        let is_grouped = entry
            .message
            .plan()
            .is_some_and(|plan| plan.more().group.is_some());
        lane.push_front(entry, is_grouped);
        if let Some(bed) = lane.waiting.take() {
            self.waiting -= 1;
            // It has waited already, or has company now.
            self.asleep.remove(&bed);
            lane.placed = false;
        }
        if lane.can_be_placed() {
            lane.placed = true;
            self.add_first(priority, Unit::Lane(id));
        }
    }

    /// Takes a message back that ran, to be tried again at `at`. One with a key keeps its place: those behind it wait. Of
    /// messages that ran together, those that come back keep their order, if the first one is the first to come back, or
    /// comes as the one that `leads` them.
    pub(super) fn again(&mut self, entry: Entry<M>, at: Timestamp, leads: bool) {
        self.len += 1;
        let plan = entry.message.plan();
        let has_key = plan.is_some_and(|plan| plan.key.is_some());
        let id = plan
            .and_then(Plan::lane)
            .and_then(|key| self.lanes.find(key));
        let Some((id, lane)) = id.and_then(|id| Some((id, self.lanes.get_mut(id)?))) else {
            self.lay_down(at, entry, Tried::Before);
            return;
        };
        lane.running -= 1;
        if has_key {
            lane.push_again(entry, at, leads);
            self.place_lane(id);
        } else {
            self.lay_down(at, entry, Tried::Before);
            self.place_lane(id);
            self.lanes.forget_if_over(id);
        }
    }

    /// Places what has slept long enough. Returns how many units there are more.
    pub(super) fn wake(&mut self, now: impl FnOnce() -> Timestamp) -> usize {
        if self.asleep.is_empty() {
            return 0;
        }
        let (before, now) = (self.units, now());
        while let Some(first) = self.asleep.first_entry()
            && first.key().0 <= now
        {
            let (bed, sleeper) = first.remove_entry();
            match sleeper {
                Sleeper::Message(entry, tried) => {
                    self.gets_up(&entry, bed);
                    self.place(entry, tried);
                }
                Sleeper::Lane(id) => {
                    if let Some(lane) = self.lanes.get_mut(id) {
                        lane.look_at_rest(now);
                    }
                    self.gets_up_lane(id);
                }
            }
        }
        self.units - before
    }

    fn gets_up_lane(&mut self, id: LaneId) {
        if let Some(lane) = self.lanes.get_mut(id) {
            lane.placed = false;
            self.waiting -= usize::from(lane.waiting.take().is_some());
        }
        self.place_lane(id);
        self.lanes.forget_if_over(id);
    }

    /// A message that slept is no longer where it may be replaced.
    fn gets_up(&mut self, entry: &Entry<M>, bed: Bed) {
        if let Some(plan) = entry.message.plan()
            && plan.more().replaces.is_some()
            && let Some(id) = plan.lane().and_then(|key| self.lanes.find(key))
            && let Some(lane) = self.lanes.get_mut(id)
        {
            lane.gets_up(bed);
        }
    }

    /// A message was taken from where it slept.
    fn forget_lane_of(&mut self, entry: &Entry<M>) {
        let key = entry.message.plan().and_then(Plan::lane);
        if let Some(id) = key.and_then(|key| self.lanes.find(key)) {
            self.lanes.forget_if_over(id);
        }
    }

    /// When the message was posted that has waited longest, of those that are first among their priority or wait for a rate.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        let posted = |ready: &Ready<M>| match &ready.unit {
            Unit::One(entry) => entry.posted_at,
            &Unit::Lane(id) => self.lanes.get(id)?.first.as_ref()?.posted_at,
        };
        let asleep = self.asleep.values().take(SLEEPERS_SEEN);
        let asleep = asleep.filter_map(|sleeper| match sleeper {
            &Sleeper::Lane(id) => self.lanes.get(id)?.waits_for_its_rate(),
            Sleeper::Message(..) => None,
        });
        self.ready
            .iter()
            .filter_map(|level| posted(level.front()?))
            .chain(asleep)
            .min()
    }

    /// Whether something sleeps, or waits for the worker's meter.
    pub(super) fn has_sleepers(&self) -> bool {
        !self.asleep.is_empty() || self.meter.is_some() && self.units > 0
    }

    /// When to look again, if nothing can run now.
    pub(super) fn look_at(&self, now: impl FnOnce() -> Timestamp) -> Option<Timestamp> {
        let sleeper = self.asleep.first_key_value().map(|(bed, _)| bed.0);
        let meter = self.meter.as_ref().filter(|_| self.units > 0);
        let meter = meter.map(|meter| meter.next(now()));
        sleeper.into_iter().chain(meter).min()
    }

    /// Puts a message in the place of the queued one that it replaces, which is claimed and comes back, if the new one
    /// `fits` in the place of that. `Err`: there is none.
    pub(super) fn replace(
        &mut self,
        entry: Entry<M>,
        fits: &dyn Fn(&M) -> bool,
    ) -> Result<Entry<M>, Entry<M>> {
        let plan = entry.message.plan();
        let id = plan
            .and_then(Plan::lane)
            .and_then(|key| self.lanes.find(key));
        let Some((id, lane)) = id.and_then(|id| Some((id, self.lanes.get_mut(id)?))) else {
            return Err(entry);
        };
        let replaces = plan.and_then(|plan| plan.more().replaces.clone());
        let is_same = |known: &Entry<M>| {
            let plan = known.message.plan();
            plan.is_some_and(|plan| plan.more().replaces == replaces)
                && fits(&known.message)
                && known.message.claim()
        };
        let is_there = |bed: &Bed| match self.asleep.get(bed) {
            Some(Sleeper::Message(known, _)) => is_same(known),
            _ => false,
        };
        let found = lane.replaceable().find(is_there);
        if let Some(bed) = found
            && let Some(Sleeper::Message(old, _)) = self.asleep.remove(&bed)
        {
            lane.gets_up(bed);
            self.len -= 1;
            self.push(entry);
            self.lanes.forget_if_over(id);
            return Ok(old);
        }
        let is_delayed = plan.is_some_and(|plan| plan.more().not_before.is_some());
        let Some(index) = lane.all_mut().position(|known| is_same(known)) else {
            return Err(entry);
        };
        if is_delayed {
            // The place is given up: the delay is that of the new one.
            let Some(old) = lane.remove(index) else {
                return Err(entry);
            };
            self.len -= 1;
            self.push(entry);
            return Ok(old);
        }
        match lane.all_mut().nth(index) {
            Some(place) => Ok(std::mem::replace(place, entry)),
            None => unreachable!("it was found there"),
        }
    }

    /// Takes the message that is the first to go where one must: of the lowest priority the oldest, and those that sleep
    /// after all others. Claimed.
    pub(super) fn pop_oldest(
        &mut self,
        tombstones: &mut usize,
        leftovers: &mut Vec<Leftover<M>>,
    ) -> Option<Entry<M>> {
        loop {
            let entry = self.take_oldest()?;
            self.len -= 1;
            if entry.message.claim() {
                return Some(entry);
            }
            *tombstones -= 1;
            leftovers.push(buried(entry.message));
        }
    }

    fn take_oldest(&mut self) -> Option<Entry<M>> {
        for level in 0..Priority::LEVELS {
            while let Some(ready) = self.ready[level].front() {
                let Unit::Lane(id) = ready.unit else {
                    return match self.take_unit(level) {
                        Some(Unit::One(entry)) => Some(entry),
                        _ => None,
                    };
                };
                if let Some(entry) = self.lanes.get_mut(id).and_then(Lane::pop) {
                    return Some(entry);
                }
                self.take_unit(level);
                if let Some(lane) = self.lanes.get_mut(id) {
                    lane.placed = false;
                }
                self.lanes.forget_if_over(id);
            }
        }
        // Those of lanes that are busy, or wait for a meter.
        if let Some(lane) = self.lanes.all_mut().find(|lane| lane.first.is_some()) {
            return lane.pop();
        }
        while let Some((bed, sleeper)) = self.asleep.pop_first() {
            match sleeper {
                Sleeper::Message(entry, _) => {
                    self.gets_up(&entry, bed);
                    self.forget_lane_of(&entry);
                    return Some(entry);
                }
                Sleeper::Lane(id) => {
                    if let Some(lane) = self.lanes.get_mut(id) {
                        lane.placed = false;
                        self.waiting -= usize::from(lane.waiting.take().is_some());
                    }
                    self.lanes.forget_if_over(id);
                }
            }
        }
        None
    }

    /// Takes out the messages that sleep until a time of their own, be it their first one or to be tried again: they are not
    /// handled when their worker stops.
    pub(super) fn take_delayed(
        &mut self,
        tombstones: &mut usize,
        leftovers: &mut Vec<Leftover<M>>,
    ) -> Vec<Entry<M>> {
        let mut delayed = Vec::new();
        let mut resting = Vec::new();
        for (bed, sleeper) in std::mem::take(&mut self.asleep) {
            match sleeper {
                Sleeper::Message(entry, _) => {
                    self.gets_up(&entry, bed);
                    self.forget_lane_of(&entry);
                    delayed.push(entry);
                }
                Sleeper::Lane(id) => {
                    let lane = self.lanes.get(id);
                    if lane.is_some_and(|lane| lane.rests_until().is_some()) {
                        resting.push(id);
                    } else {
                        self.asleep.insert(bed, Sleeper::Lane(id));
                    }
                }
            }
        }
        for lane in self.lanes.all_mut() {
            delayed.extend(std::iter::from_fn(|| lane.pop_resting()));
        }
        for id in resting {
            self.gets_up_lane(id);
        }
        self.len -= delayed.len();
        let mut taken = Vec::new();
        for entry in delayed {
            if entry.message.claim() {
                taken.push(entry);
            } else {
                *tombstones -= 1;
                leftovers.push(buried(entry.message));
            }
        }
        taken
    }

    /// Entries that the buffers have room for.
    pub(super) fn capacity(&self) -> usize {
        let ready = self.ready.iter().map(VecDeque::capacity).sum::<usize>();
        ready + self.lanes.capacity()
    }

    /// Gives buffers for more than `keep` entries back that are empty.
    pub(super) fn shrink(&mut self, keep: usize) {
        for level in &mut self.ready {
            if level.is_empty() && level.capacity() > keep {
                *level = VecDeque::new();
            }
        }
        if self.lanes.is_empty() && self.lanes.capacity() > keep {
            self.lanes = Lanes::new();
        }
    }

    /// Takes out all messages that are gone.
    pub(super) fn sweep(&mut self, leftovers: &mut Vec<Leftover<M>>) {
        let mut swept = 0;
        let mut is_gone = |entry: &Entry<M>| {
            let gone = is_removed(entry);
            swept += usize::from(gone);
            gone
        };
        for (index, level) in self.ready.iter_mut().enumerate() {
            for ready in std::mem::take(level) {
                match ready.unit {
                    Unit::One(entry) if is_gone(&entry) => {
                        self.units -= 1;
                        leftovers.push(buried(entry.message));
                    }
                    _ => level.push_back(ready),
                }
            }
            self.turns[index] = first_turn(index, level);
        }
        for lane in self.lanes.all_mut() {
            let gone = lane.sweep(&mut is_gone);
            leftovers.extend(gone.into_iter().map(|entry| buried(entry.message)));
        }
        for (bed, sleeper) in std::mem::take(&mut self.asleep) {
            match sleeper {
                Sleeper::Message(entry, _) if is_gone(&entry) => {
                    self.gets_up(&entry, bed);
                    leftovers.push(buried(entry.message));
                }
                _ => {
                    self.asleep.insert(bed, sleeper);
                }
            }
        }
        self.len -= swept;
        self.lanes.forget_all_that_are_over();
    }
}

/// Whether a message was removed in place.
fn is_removed<M: Message>(entry: &Entry<M>) -> bool {
    !is_queued(entry)
}

fn is_queued<M: Message>(entry: &Entry<M>) -> bool {
    entry.message.state().is_none_or(ReplyState::is_queued)
}

/// The turn of a unit of that level and number.
const fn turn(level: usize, number: u64) -> u64 {
    number + (Priority::LEVELS - 1 - level) as u64 * STEP
}

fn first_turn<M>(level: usize, units: &VecDeque<Ready<M>>) -> u64 {
    units
        .front()
        .map_or(NEVER, |first| turn(level, first.number))
}

/// The lane in which a message waits, and whether its messages may run at the same time.
fn lane_of(plan: &Plan) -> Option<(&Key, bool)> {
    plan.lane().map(|key| (key, plan.key.is_none()))
}

fn priority_of<M: Message>(entry: &Entry<M>) -> Priority {
    let plan = entry.message.plan();
    plan.map(|plan| plan.priority).unwrap_or_default()
}

fn meter_of<M: Message>(entry: &Entry<M>) -> Option<&Meter> {
    entry.message.plan()?.more().meter.as_deref()
}

#[cfg(all(test, not(pytoweb_loom)))]
#[path = "planned/tests.rs"]
mod tests;
