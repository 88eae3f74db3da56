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
#[path = "planned/levels.rs"]
mod levels;
#[path = "planned/looks.rs"]
mod looks;

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use lanes::{KeyLane, LaneId, Lanes};
use levels::{Levels, Unit};
use looks::Looks;

use super::claimed::{Others, Popped, claim_plainly};
use super::door::Knock;
use super::entry::{Entry, Leftover, Punctual, Spot, buried};
use super::queue::{Queue, Tray};
use crate::clock::Timestamp;
use crate::key::Key;
use crate::message::{Message, Ticket};
use crate::plan::{Meter, Plan, Priority};
use crate::reply::ReplyState;

/// Messages that one level is worth. Few in the random lives of the tests, which are short and are to see messages age.
const STEP: u64 = if cfg!(test) { 8 } else { Priority::STEP };

/// How many sleepers are looked at for the one that has waited longest: a post waits for that.
const SLEEPERS_SEEN: usize = 16;

/// How many units are looked at for one that ran where the next one is to.
const UNITS_SEEN: usize = 16;

/// How many turns of all others a unit may be passed for one that ran there.
const PATIENCE: u64 = 2;

/// What was fetched is taken in until there are so many units, if it may be: an order of few fits into a cache.
const ENOUGH: usize = if cfg!(test) { 2 } else { 256 };

/// So many are taken in at most for one that leaves.
const AT_ONCE: usize = 64;

/// Places in the sleepers' list that one time can have.
type Bed = (Timestamp, u64);

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
    ready: Levels<M>,
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
    looks: Looks,
    /// What was fetched from the senders, and is to be taken in: see [`Planned::fetch`].
    fetched: Queue<M>,
    /// It need not all be taken in at once.
    is_even: bool,
}

impl<M: Message> Planned<M> {
    pub(super) fn new(meter: Option<Meter>) -> Self {
        Self {
            ready: Levels::new(),
            lanes: Lanes::new(),
            asleep: BTreeMap::new(),
            laid_down: 0,
            len: 0,
            meter,
            hurries: false,
            is_full: false,
            waiting: 0,
            looks: Looks::new(),
            fetched: Queue::new(),
            is_even: false,
        }
    }

    /// Looks at what senders have pushed when they `knock`.
    pub(super) fn answer(&mut self, knock: Knock) {
        self.looks.answer(knock);
    }

    /// While it [is quiet](Self::is_quiet): whether the next one is known without a look at what senders have pushed since.
    #[inline]
    pub(super) fn has_enough(&mut self, are_quick: bool) -> bool {
        self.has_fetched_enough() || are_quick && self.ready.units() >= 2 && self.looks.may_wait()
    }

    /// The same, because not all of what was fetched has been taken in.
    #[inline]
    pub(super) fn has_fetched_enough(&self) -> bool {
        !self.fetched.is_empty() && self.is_quiet() && !self.looks.is_knocked()
    }

    /// Messages here, those that are gone included.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Units that could run, as far as is known: of what is to be taken in, each message may be one.
    pub(super) const fn units(&self) -> usize {
        self.ready.units() + self.fetched.len()
    }

    /// Fetches what senders have pushed, which is taken in next. `is_even`: none of these messages waits for a time, all have
    /// one priority, and none here has a lower one. Then there is no need to take in all at once: once there are [`ENOUGH`]
    /// units, one unit more is taken in for each message that leaves, and with it what goes behind units that are here. So a
    /// message is a unit as soon as all that were posted before it have run, at the latest; and a key with many messages does
    /// not hold up those behind them.
    pub(super) fn fetch(&mut self, queue: &mut Queue<M>, is_even: bool) {
        self.take_all_in();
        self.len += queue.len();
        mem::swap(&mut self.fetched, queue);
        self.is_even = is_even;
    }

    /// Takes in what was fetched, or as much of it as is needed.
    pub(super) fn take_in(&mut self) {
        self.take_in_while(|planned, _| !planned.is_even || planned.ready.units() < ENOUGH);
        // Each unit has its turn once.
        self.looks.note(self.ready.units());
    }

    /// The same before a message leaves.
    #[inline]
    fn take_more_in(&mut self) {
        if self.fetched.is_empty() {
            return;
        }
        let before = self.ready.units();
        self.take_in_while(|planned, taken| {
            let units = planned.ready.units();
            units < ENOUGH || units == before && taken < AT_ONCE
        });
    }

    /// Takes in all that was fetched; the door does not know of it, so the next message is not taken without a look there.
    pub(super) fn take_all_in(&mut self) {
        self.looks.note(0);
        self.take_in_while(|_, _| true);
    }

    fn take_in_while(&mut self, goes_on: impl Fn(&Self, usize) -> bool) {
        let mut next = Tray::empty();
        let mut taken = 0;
        while !self.fetched.is_empty() && goes_on(self, taken) {
            self.fetched.pop_into(&mut next);
            self.push(&mut next);
            taken += 1;
        }
    }

    /// Takes in the message in `tray`, which was posted. One with a delay sleeps, be it over or not, until [`Planned::wake`].
    fn push(&mut self, tray: &mut Tray<M>) {
        let plan = tray.message.as_ref().and_then(M::plan);
        if let Some(at) = plan.and_then(|plan| plan.more().not_before) {
            if let Some(entry) = tray.take() {
                self.lay_down(at, entry, Tried::Never);
            }
        } else if plan.is_some_and(|plan| plan.lane().is_some()) {
            if let Some(entry) = tray.take() {
                self.place(entry, Tried::Never);
            }
        } else {
            let priority = plan.map(|plan| plan.priority).unwrap_or_default();
            self.ready.add_one(priority, tray);
        }
    }

    /// Takes in one that comes otherwise.
    pub(super) fn push_entry(&mut self, entry: Entry<M>) {
        self.take_all_in();
        self.len += 1;
        self.push(&mut Tray::of(entry));
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
            self.ready.add_one(priority, &mut Tray::of(entry));
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
        let before = self.ready.units();
        for (id, bed) in self.lanes.waiting() {
            self.asleep.remove(&bed);
            self.gets_up_lane(id);
        }
        self.ready.units() - before
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
        let priority = lane.priority();
        self.ready.add_lane(priority, id);
    }

    /// The first message of the lane is gone that is the first unit of `level`: the next one may be of another priority.
    fn place_anew(&mut self, level: usize, id: LaneId) {
        let lane = self.lanes.get_mut(id);
        let moves = |lane: &&mut KeyLane<M>| !lane.is_empty() && lane.priority().level() != level;
        if let Some(lane) = lane.filter(moves) {
            lane.placed = false;
            self.ready.take_lane(level);
            self.place_lane(id);
        }
    }

    /// Whether nothing sleeps, and nothing is counted against a rate of the worker.
    pub(super) fn is_quiet(&self) -> bool {
        self.asleep.is_empty() && self.meter.is_none()
    }

    /// Takes the next message to run it, with its ticket, where that is all there is to do: it has no deadline, was not
    /// cancelled, and is counted against no rate. In a mailbox that [is quiet](Self::is_quiet).
    pub(super) fn pop_plainly(&mut self, next: &mut Tray<M>) -> Option<Option<Arc<dyn Ticket>>> {
        self.take_more_in();
        let (level, unit) = self.ready.next()?;
        let ticket = match unit {
            Unit::One => {
                let ticket = claim_plainly(self.ready.first_one(level)?)?;
                self.ready.take_one(level, next);
                ticket
            }
            Unit::Lane(id) => {
                let lane = self.lanes.get_mut(id)?;
                let first = lane.first()?;
                if lane.waits || lane.rests_until().is_some() {
                    return None;
                }
                let ticket = claim_plainly(&first.message)?;
                *next = Tray::of(lane.pop()?);
                lane.begin(1);
                self.lanes.note_taken(id);
                self.ready.take_lane(level);
                self.place_lane(id);
                ticket
            }
        };
        self.len -= 1;
        Some(ticket)
    }

    /// Brings a unit of `level` to its front that ran at `spot`, or at none, if the first one ran elsewhere.
    fn bring_forward(&mut self, level: usize, spot: Spot) {
        let belongs_elsewhere = |unit: Unit| match unit {
            Unit::One => false,
            Unit::Lane(id) => {
                let lane = self.lanes.get(id);
                lane.is_some_and(|lane| lane.spot.is_some_and(|own| own != spot))
            }
        };
        if !self.ready.first(level).is_some_and(belongs_elsewhere) {
            return;
        }
        let was_passed = self.ready.placed_since_first(level);
        if was_passed > PATIENCE * self.ready.units() as u64 {
            return;
        }
        let stays = |unit| !belongs_elsewhere(unit);
        if let Some(index) = self.ready.position(level, UNITS_SEEN, stays) {
            self.ready.bring_forward(level, index);
        }
    }

    /// The level of the unit that is next. Those that were here may all have gone, or fallen asleep.
    fn next_level(&mut self) -> Option<usize> {
        if self.ready.units() == 0 {
            self.take_more_in();
        }
        self.ready.next().map(|(level, _)| level)
    }

    /// Takes the next message to run it, claimed; at `spot`, if it is to run there.
    pub(super) fn pop_to_run(
        &mut self,
        spot: Option<Spot>,
        punctual: &mut Punctual<'_>,
        tombstones: &mut usize,
        leftovers: &mut Vec<Leftover<M>>,
    ) -> Popped<M> {
        self.take_more_in();
        if let Some(meter) = &self.meter
            && self.ready.units() > 0
            && meter.next(punctual.now()) > punctual.now()
        {
            return Popped::Nothing;
        }
        while let Some(level) = self.next_level() {
            if let Some(spot) = spot {
                self.bring_forward(level, spot);
            }
            let id = match self.ready.first(level) {
                Some(Unit::Lane(id)) => id,
                _ => {
                    let mut next = Tray::empty();
                    self.ready.take_one(level, &mut next);
                    let Some(entry) = next.take() else {
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
                self.ready.take_lane(level);
                continue;
            };
            let Some(first) = lane.first() else {
                lane.placed = false;
                self.lanes.forget_if_over(id);
                self.ready.take_lane(level);
                continue;
            };
            if punctual.expires(&first.message) {
                self.len -= 1;
                leftovers.extend(lane.pop().map(|entry| buried(entry.message)));
                self.place_anew(level, id);
                return Popped::Expired;
            }
            if let Some(at) = lane.rests_until() {
                if at <= punctual.now() {
                    lane.look_at_rest(at);
                } else if is_queued(&first.message) {
                    self.ready.take_lane(level);
                    let bed = self.bed(at);
                    self.asleep.insert(bed, Sleeper::Lane(id));
                    continue;
                }
            }
            let Some(first) = lane.first() else {
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
                self.ready.take_lane(level);
                self.asleep.insert(bed, Sleeper::Lane(id));
                continue;
            }
            if let Some(meter) = meter_of(first)
                && !lane.reserved
                && first.message.state().is_none_or(ReplyState::is_queued)
            {
                let at = meter.reserve(punctual.now());
                lane.reserved = true;
                if at > punctual.now() {
                    self.ready.take_lane(level);
                    let bed = self.bed(at);
                    self.asleep.insert(bed, Sleeper::Lane(id));
                    continue;
                }
            }
            self.len -= 1;
            let Some(entry) = lane.pop() else { continue };
            if !entry.message.claim() {
                *tombstones -= 1;
                leftovers.push(buried(entry.message));
                self.place_anew(level, id);
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
            self.ready.take_lane(level);
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
            self.ready.add_one_first(priority, entry);
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
            self.ready.add_lane_first(priority, id);
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
        let now = now();
        if !self.looks_up(now) {
            return 0;
        }
        // What slept goes behind all that are here.
        self.take_all_in();
        let before = self.ready.units();
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
        self.ready.units() - before
    }

    /// Whether something has slept long enough.
    fn looks_up(&self, now: Timestamp) -> bool {
        let first = self.asleep.first_key_value();
        first.is_some_and(|(bed, _)| bed.0 <= now)
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
        let of_lane = |id| self.lanes.get(id)?.first()?.posted_at;
        let asleep = self.asleep.values().take(SLEEPERS_SEEN);
        let asleep = asleep.filter_map(|sleeper| match sleeper {
            &Sleeper::Lane(id) => self.lanes.get(id)?.waits_for_its_rate(),
            Sleeper::Message(..) => None,
        });
        let firsts = self.ready.firsts();
        firsts
            .filter_map(|(unit, posted)| match unit {
                Unit::One => posted,
                Unit::Lane(id) => of_lane(id),
            })
            .chain(self.fetched.front().and_then(|(_, posted)| posted))
            .chain(asleep)
            .min()
    }

    /// Whether something sleeps, or waits for the worker's meter.
    pub(super) fn has_sleepers(&self) -> bool {
        !self.asleep.is_empty() || self.meter.is_some() && self.units() > 0
    }

    /// When to look again, if nothing can run now.
    pub(super) fn look_at(&self, now: impl FnOnce() -> Timestamp) -> Option<Timestamp> {
        let sleeper = self.asleep.first_key_value().map(|(bed, _)| bed.0);
        let meter = self.meter.as_ref().filter(|_| self.units() > 0);
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
        self.take_all_in();
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
            self.push_entry(entry);
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
            self.push_entry(entry);
            return Ok(old);
        }
        lane.note(&entry);
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
        self.take_all_in();
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
            while let Some(unit) = self.ready.first(level) {
                let Unit::Lane(id) = unit else {
                    let mut oldest = Tray::empty();
                    self.ready.take_one(level, &mut oldest);
                    return oldest.take();
                };
                if let Some(entry) = self.lanes.get_mut(id).and_then(KeyLane::pop) {
                    self.place_anew(level, id);
                    return Some(entry);
                }
                self.ready.take_lane(level);
                if let Some(lane) = self.lanes.get_mut(id) {
                    lane.placed = false;
                }
                self.lanes.forget_if_over(id);
            }
        }
        // Those of lanes that are busy, or wait for a meter.
        if let Some(lane) = self.lanes.all_mut().find(|lane| lane.first().is_some()) {
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
        self.take_all_in();
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
        self.ready.capacity() + self.lanes.capacity() + self.fetched.capacity()
    }

    /// Gives buffers for more than `keep` entries back that are empty.
    pub(super) fn shrink(&mut self, keep: usize) {
        self.ready.shrink(keep);
        if self.lanes.is_empty() && self.lanes.capacity() > keep {
            self.lanes = Lanes::new();
        }
        if self.fetched.is_empty() && self.fetched.capacity() > keep {
            self.fetched = Queue::new();
        }
    }

    /// Takes out all messages that are gone.
    pub(super) fn sweep(&mut self, leftovers: &mut Vec<Leftover<M>>) {
        self.take_all_in();
        let mut swept = 0;
        let mut is_gone = |message: &M| {
            let gone = !is_queued(message);
            swept += usize::from(gone);
            gone
        };
        self.ready
            .sweep(&mut is_gone, |message| leftovers.push(buried(message)));
        for lane in self.lanes.all_mut() {
            let gone = lane.sweep(|entry| is_gone(&entry.message));
            leftovers.extend(gone.into_iter().map(|entry| buried(entry.message)));
        }
        for (bed, sleeper) in std::mem::take(&mut self.asleep) {
            match sleeper {
                Sleeper::Message(entry, _) if is_gone(&entry.message) => {
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

/// Whether a message was not removed in place.
fn is_queued<M: Message>(message: &M) -> bool {
    message.state().is_none_or(ReplyState::is_queued)
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
