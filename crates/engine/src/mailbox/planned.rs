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
//! A lane is here while it has messages, or one of them runs.

use std::collections::hash_map::Entry as Place;
use std::collections::{BTreeMap, HashMap, VecDeque};

use super::entry::{Entry, Leftover, Punctual, buried};
use super::order::Popped;
use crate::clock::Timestamp;
use crate::key::{ByKey, Key};
use crate::message::Message;
use crate::plan::{Meter, Plan, Priority};
use crate::reply::ReplyState;

/// Places in the sleepers' list that one time can have.
type Bed = (Timestamp, u64);

enum Unit<M> {
    One(Entry<M>),
    Lane(Key),
}

struct Ready<M> {
    number: u64,
    unit: Unit<M>,
}

enum Sleeper<M> {
    Message(Entry<M>),
    Lane(Key),
}

struct Lane<M> {
    /// The first message: most lanes never have another, and need no buffer.
    first: Option<Entry<M>>,
    rest: VecDeque<Entry<M>>,
    running: usize,
    /// Its messages may run at the same time: they have no key, and wait for a meter.
    shared: bool,
    /// It is among the units or asleep.
    placed: bool,
    /// Its first message has its place with the meter.
    reserved: bool,
    /// It is asleep because its first message is to be tried again at a time.
    tries_again: bool,
    /// Where those of its messages sleep that may be replaced.
    replaceable: Vec<Bed>,
}

impl<M> Lane<M> {
    const fn new(shared: bool) -> Self {
        Self {
            first: None,
            rest: VecDeque::new(),
            running: 0,
            shared,
            placed: false,
            reserved: false,
            tries_again: false,
            replaceable: Vec::new(),
        }
    }

    fn push(&mut self, entry: Entry<M>) {
        if self.first.is_none() {
            self.first = Some(entry);
        } else {
            self.rest.push_back(entry);
        }
    }

    fn push_front(&mut self, entry: Entry<M>) {
        if let Some(second) = self.first.replace(entry) {
            self.rest.push_front(second);
        }
    }

    fn pop(&mut self) -> Option<Entry<M>> {
        self.tries_again = false;
        let first = self.first.take();
        self.first = self.rest.pop_front();
        first
    }

    /// Takes out the message at `index`, which there is.
    fn remove(&mut self, index: usize) -> Option<Entry<M>> {
        match index.checked_sub(1) {
            None => self.pop(),
            Some(index) => self.rest.remove(index),
        }
    }

    const fn is_over(&self) -> bool {
        self.first.is_none() && self.running == 0 && self.replaceable.is_empty()
    }

    const fn can_be_placed(&self) -> bool {
        self.first.is_some() && !self.placed && (self.shared || self.running == 0)
    }
}

pub(super) struct Planned<M> {
    ready: [VecDeque<Ready<M>>; Priority::LEVELS],
    units: usize,
    placed: u64,
    lanes: HashMap<Key, Lane<M>, ByKey>,
    asleep: BTreeMap<Bed, Sleeper<M>>,
    laid_down: u64,
    /// Messages here, those that are gone included.
    len: usize,
    /// What every message is counted against.
    meter: Option<Meter>,
}

impl<M: Message> Planned<M> {
    pub(super) fn new(meter: Option<Meter>) -> Self {
        Self {
            ready: [const { VecDeque::new() }; Priority::LEVELS],
            units: 0,
            placed: 0,
            lanes: HashMap::default(),
            asleep: BTreeMap::new(),
            laid_down: 0,
            len: 0,
            meter,
        }
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
        match entry.message.plan().and_then(|plan| plan.not_before) {
            Some(at) => self.lay_down(at, entry),
            None => self.place(entry),
        }
    }

    fn lay_down(&mut self, at: Timestamp, entry: Entry<M>) {
        let bed = self.bed(at);
        if let Some(plan) = entry.message.plan()
            && plan.replaces.is_some()
            && let Some(key) = plan.lane()
        {
            let lane = self.lanes.entry(key.clone());
            let lane = lane.or_insert_with(|| Lane::new(plan.key.is_none()));
            lane.replaceable.push(bed);
        }
        self.asleep.insert(bed, Sleeper::Message(entry));
    }

    const fn bed(&mut self, at: Timestamp) -> Bed {
        self.laid_down += 1;
        (at, self.laid_down)
    }

    /// Gives a message its place among those that can run.
    fn place(&mut self, entry: Entry<M>) {
        let plan = entry.message.plan();
        let priority = plan.map(|plan| plan.priority).unwrap_or_default();
        let Some((key, shared)) = plan.and_then(lane_of) else {
            self.add(priority, Unit::One(entry));
            return;
        };
        let lane = match self.lanes.entry(key.clone()) {
            Place::Occupied(known) => known.into_mut(),
            Place::Vacant(free) => free.insert(Lane::new(shared)),
        };
        lane.push(entry);
        self.place_lane(&key);
    }

    fn add(&mut self, priority: Priority, unit: Unit<M>) {
        let number = self.placed;
        self.placed += 1;
        self.units += 1;
        self.ready[priority.level()].push_back(Ready { number, unit });
    }

    /// Places a lane at the back, if it has something to run and is not placed.
    fn place_lane(&mut self, key: &Key) {
        let Some(lane) = self.lanes.get_mut(key).filter(|lane| lane.can_be_placed()) else {
            return;
        };
        lane.placed = true;
        let priority = lane.first.as_ref().map(priority_of).unwrap_or_default();
        self.add(priority, Unit::Lane(key.clone()));
    }

    /// Puts a unit before all others of its priority.
    fn add_first(&mut self, priority: Priority, unit: Unit<M>) {
        let level = &mut self.ready[priority.level()];
        let number = level.front().map_or(self.placed, |first| first.number);
        level.push_front(Ready { number, unit });
        self.units += 1;
    }

    /// The priority whose first unit is next.
    fn next_level(&self) -> Option<usize> {
        let turn = |level: usize| {
            let first = self.ready[level].front()?;
            let below = (Priority::LEVELS - 1 - level) as u64;
            Some((first.number + below * Priority::STEP, level))
        };
        // The higher one where two have the same.
        let turns = (0..Priority::LEVELS).rev().filter_map(turn);
        turns.min_by_key(|(turn, _)| *turn).map(|(_, level)| level)
    }

    fn take_unit(&mut self, level: usize) -> Option<Unit<M>> {
        let ready = self.ready[level].pop_front()?;
        self.units -= 1;
        Some(ready.unit)
    }

    /// Takes the next message to run it, claimed.
    pub(super) fn pop_to_run(
        &mut self,
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
            let key = match self.ready[level].front() {
                Some(Ready {
                    unit: Unit::Lane(key),
                    ..
                }) => key.clone(),
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
                        return self.begins(entry, punctual);
                    }
                    *tombstones -= 1;
                    leftovers.push(buried(entry.message));
                    continue;
                }
            };
            let Some(lane) = self.lanes.get_mut(&key) else {
                self.take_unit(level);
                continue;
            };
            let Some(first) = &lane.first else {
                lane.placed = false;
                if lane.is_over() {
                    self.lanes.remove(&key);
                }
                self.take_unit(level);
                continue;
            };
            if punctual.expires(&first.message) {
                self.len -= 1;
                leftovers.extend(lane.pop().map(|entry| buried(entry.message)));
                return Popped::Expired;
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
                    self.asleep.insert(bed, Sleeper::Lane(key));
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
            lane.reserved = false;
            lane.running += 1;
            lane.placed = false;
            self.take_unit(level);
            self.place_lane(&key);
            return self.begins(entry, punctual);
        }
        Popped::Nothing
    }

    fn begins(&self, entry: Entry<M>, punctual: &mut Punctual<'_>) -> Popped<M> {
        if let Some(meter) = &self.meter {
            meter.reserve(punctual.now());
        }
        Popped::Message(entry)
    }

    /// A message of the lane `key` that ran is over: the next one may run.
    pub(super) fn ended(&mut self, key: &Key) {
        let Some(lane) = self.lanes.get_mut(key) else {
            return;
        };
        lane.running -= 1;
        if lane.is_over() && !lane.placed {
            self.lanes.remove(key);
        } else {
            self.place_lane(key);
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
        let lane = self.lanes.entry(key.clone());
        let lane = lane.or_insert_with(|| Lane::new(shared));
        lane.running = lane.running.saturating_sub(1);
        // It has begun once already, as far as the meter goes.
        lane.reserved = meter_of(&entry).is_some();
        lane.push_front(entry);
        if lane.can_be_placed() {
            lane.placed = true;
            self.add_first(priority, Unit::Lane(key));
        }
    }

    /// Takes a message back that ran, to be tried again at `at`. One with a key keeps its place: those behind it wait.
    pub(super) fn again(&mut self, entry: Entry<M>, at: Timestamp) {
        self.len += 1;
        let plan = entry.message.plan();
        let has_key = plan.is_some_and(|plan| plan.key.is_some());
        let Some(key) = plan.and_then(Plan::lane).cloned() else {
            self.lay_down(at, entry);
            return;
        };
        let Some(lane) = self.lanes.get_mut(&key) else {
            self.lay_down(at, entry);
            return;
        };
        lane.running -= 1;
        if !has_key || lane.placed {
            self.lay_down(at, entry);
            self.place_lane(&key);
            return;
        }
        lane.push_front(entry);
        lane.placed = true;
        lane.tries_again = true;
        let bed = self.bed(at);
        self.asleep.insert(bed, Sleeper::Lane(key));
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
                Sleeper::Message(entry) => {
                    self.gets_up(&entry, bed);
                    self.place(entry);
                }
                Sleeper::Lane(key) => {
                    self.gets_up_lane(&key);
                }
            }
        }
        self.units - before
    }

    fn gets_up_lane(&mut self, key: &Key) {
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.placed = false;
            lane.tries_again = false;
        }
        self.place_lane(key);
        self.forget_if_over(key);
    }

    /// A message that slept is no longer where it may be replaced.
    fn gets_up(&mut self, entry: &Entry<M>, bed: Bed) {
        if let Some(plan) = entry.message.plan()
            && plan.replaces.is_some()
            && let Some(lane) = plan.lane().and_then(|key| self.lanes.get_mut(key))
        {
            lane.replaceable.retain(|known| *known != bed);
        }
    }

    fn forget_if_over(&mut self, key: &Key) {
        if self
            .lanes
            .get(key)
            .is_some_and(|lane| lane.is_over() && !lane.placed)
        {
            self.lanes.remove(key);
        }
    }

    /// When the message was posted that has waited longest of those that are first among their priority.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        let posted = |ready: &Ready<M>| match &ready.unit {
            Unit::One(entry) => entry.posted_at,
            Unit::Lane(key) => self.lanes.get(key)?.first.as_ref()?.posted_at,
        };
        self.ready
            .iter()
            .filter_map(|level| posted(level.front()?))
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
        let Some(key) = plan.and_then(Plan::lane).cloned() else {
            return Err(entry);
        };
        let Some(lane) = self.lanes.get_mut(&key) else {
            return Err(entry);
        };
        let replaces = plan.and_then(|plan| plan.replaces.clone());
        let is_same = |known: &Entry<M>| {
            let plan = known.message.plan();
            plan.is_some_and(|plan| plan.replaces == replaces)
                && fits(&known.message)
                && known.message.claim()
        };
        for &bed in &lane.replaceable {
            let found = match self.asleep.get(&bed) {
                Some(Sleeper::Message(known)) => is_same(known),
                _ => false,
            };
            if found && let Some(Sleeper::Message(old)) = self.asleep.remove(&bed) {
                lane.replaceable.retain(|known| *known != bed);
                self.len -= 1;
                self.push(entry);
                self.forget_if_over(&key);
                return Ok(old);
            }
        }
        let is_delayed = plan.is_some_and(|plan| plan.not_before.is_some());
        let mut queued = lane.first.iter_mut().chain(&mut lane.rest);
        let Some(index) = queued.position(|known| is_same(known)) else {
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
        match index.checked_sub(1).map(|index| lane.rest.get_mut(index)) {
            Some(Some(place)) => Ok(std::mem::replace(place, entry)),
            _ => lane
                .first
                .replace(entry)
                .ok_or_else(|| unreachable!("it was found there")),
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
                let Unit::Lane(key) = &ready.unit else {
                    return match self.take_unit(level) {
                        Some(Unit::One(entry)) => Some(entry),
                        _ => None,
                    };
                };
                let key = key.clone();
                let lane = self.lanes.get_mut(&key);
                if let Some(entry) = lane.and_then(Lane::pop) {
                    return Some(entry);
                }
                self.take_unit(level);
                if let Some(lane) = self.lanes.get_mut(&key) {
                    lane.placed = false;
                }
                self.forget_if_over(&key);
            }
        }
        // Those of lanes that are busy, or wait for a meter.
        if let Some(lane) = self.lanes.values_mut().find(|lane| lane.first.is_some()) {
            return lane.pop();
        }
        while let Some((bed, sleeper)) = self.asleep.pop_first() {
            match sleeper {
                Sleeper::Message(entry) => {
                    self.gets_up(&entry, bed);
                    if let Some(key) = entry.message.plan().and_then(Plan::lane).cloned() {
                        self.forget_if_over(&key);
                    }
                    return Some(entry);
                }
                Sleeper::Lane(key) => {
                    if let Some(lane) = self.lanes.get_mut(&key) {
                        lane.placed = false;
                    }
                    self.forget_if_over(&key);
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
        let mut taken = Vec::new();
        for (bed, sleeper) in std::mem::take(&mut self.asleep) {
            let entry = match sleeper {
                Sleeper::Message(entry) => {
                    self.gets_up(&entry, bed);
                    if let Some(key) = entry.message.plan().and_then(Plan::lane).cloned() {
                        self.forget_if_over(&key);
                    }
                    entry
                }
                Sleeper::Lane(key) => {
                    let lane = self.lanes.get_mut(&key).filter(|lane| lane.tries_again);
                    let Some(entry) = lane.and_then(Lane::pop) else {
                        self.asleep.insert(bed, Sleeper::Lane(key));
                        continue;
                    };
                    self.gets_up_lane(&key);
                    entry
                }
            };
            self.len -= 1;
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
            self.lanes = HashMap::default();
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
        for level in &mut self.ready {
            for ready in std::mem::take(level) {
                match ready.unit {
                    Unit::One(entry) if is_gone(&entry) => {
                        self.units -= 1;
                        leftovers.push(buried(entry.message));
                    }
                    _ => level.push_back(ready),
                }
            }
        }
        for lane in self.lanes.values_mut() {
            // What comes up in the place of one that was to be tried again is not delayed.
            lane.tries_again &= !lane.first.as_ref().is_some_and(is_removed);
            for entry in lane
                .first
                .take()
                .into_iter()
                .chain(std::mem::take(&mut lane.rest))
            {
                if is_gone(&entry) {
                    leftovers.push(buried(entry.message));
                } else {
                    lane.push(entry);
                }
            }
        }
        for (bed, sleeper) in std::mem::take(&mut self.asleep) {
            match sleeper {
                Sleeper::Message(entry) if is_gone(&entry) => {
                    self.gets_up(&entry, bed);
                    leftovers.push(buried(entry.message));
                }
                _ => {
                    self.asleep.insert(bed, sleeper);
                }
            }
        }
        self.len -= swept;
        self.lanes.retain(|_, lane| lane.placed || !lane.is_over());
    }
}

/// Whether a message was removed in place.
fn is_removed<M: Message>(entry: &Entry<M>) -> bool {
    let state = entry.message.state();
    state.is_some_and(|state| !state.is_queued())
}

/// The lane in which a message waits, and whether its messages may run at the same time.
fn lane_of(plan: &Plan) -> Option<(Key, bool)> {
    plan.lane().map(|key| (key.clone(), plan.key.is_none()))
}

fn priority_of<M: Message>(entry: &Entry<M>) -> Priority {
    let plan = entry.message.plan();
    plan.map(|plan| plan.priority).unwrap_or_default()
}

fn meter_of<M: Message>(entry: &Entry<M>) -> Option<&Meter> {
    entry.message.plan()?.meter.as_deref()
}

#[cfg(all(test, not(pytoweb_loom)))]
#[path = "planned/tests.rs"]
mod tests;
