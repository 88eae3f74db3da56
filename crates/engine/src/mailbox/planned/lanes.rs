//! The lanes of a mailbox that keeps order by plans, each found by its key or by its place.
//!
//! A key is looked up twice for a message: as it comes, and as it is over. In between a lane is known by its place.

use std::collections::{HashMap, VecDeque};

use super::{Bed, priority_of};
use crate::clock::Timestamp;
use crate::key::{ByKey, Key};
use crate::mailbox::entry::{Entry, Spot};
use crate::message::Message;
use crate::plan::{Plan, Priority};

/// The place of a lane, as long as it is there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct LaneId(u32);

impl LaneId {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a lane takes more than a byte of memory"
    )]
    const fn at(index: usize) -> Self {
        Self(index as u32)
    }
}

/// The queued messages with one key.
pub(super) struct KeyLane<M> {
    key: Key,
    /// The first message, if it came while there was no other: most lanes never have two, and need no buffer.
    alone: Option<Entry<M>>,
    more: Option<Box<More<M>>>,
    pub(super) running: usize,
    /// Its messages may run at the same time: they have no key, and wait for a meter.
    shared: bool,
    /// It is among the units or asleep.
    pub(super) placed: bool,
    /// Its first message has its place with the meter.
    pub(super) reserved: bool,
    /// The priority of its messages, while all have the same; and whether one of them waits for more than its turn. So they
    /// need not be looked at for it, which have left the cache since they came.
    common: Option<Priority>,
    pub(super) waits: bool,
    /// Where it sleeps, if it does because its first message waits for company.
    pub(super) waiting: Option<Bed>,
    /// Where the last of its messages ran.
    pub(super) spot: Option<Spot>,
}

/// The part of a lane that most never have.
struct More<M> {
    /// The messages behind the one that came alone.
    rest: VecDeque<Entry<M>>,
    /// Where those sleep that may be replaced.
    replaceable: Vec<Bed>,
    /// Of the messages at the front that were taken before: when each that ran may be tried again, unless that is over.
    rests: VecDeque<Option<Timestamp>>,
    /// Of these, those at the front that came back since messages of the lane began to run.
    back: usize,
}

impl<M> Default for More<M> {
    fn default() -> Self {
        Self {
            rest: VecDeque::new(),
            replaceable: Vec::new(),
            rests: VecDeque::new(),
            back: 0,
        }
    }
}

impl<M> More<M> {
    /// The message at `index` leaves.
    fn leaves(&mut self, index: usize) {
        if index < self.rests.len() {
            self.rests.remove(index);
            self.back -= usize::from(index < self.back);
        }
    }
}

impl<M> KeyLane<M> {
    const fn new(key: Key, shared: bool) -> Self {
        Self {
            key,
            alone: None,
            more: None,
            running: 0,
            shared,
            placed: false,
            reserved: false,
            common: None,
            waits: false,
            waiting: None,
            spot: None,
        }
    }

    pub(super) fn pop(&mut self) -> Option<Entry<M>> {
        let alone = self.alone.take();
        let Some(more) = &mut self.more else {
            return alone;
        };
        more.leaves(0);
        alone.or_else(|| more.rest.pop_front())
    }

    /// Takes out the message at `index`, which there is.
    pub(super) fn remove(&mut self, index: usize) -> Option<Entry<M>> {
        let Some(behind) = index.checked_sub(usize::from(self.alone.is_some())) else {
            return self.pop();
        };
        let more = self.more.as_mut()?;
        more.leaves(index);
        more.rest.remove(behind)
    }

    /// So many of its messages begin to run.
    pub(super) fn begin(&mut self, count: usize) {
        self.running += count;
        self.placed = false;
        if let Some(more) = &mut self.more {
            more.back = 0;
        }
    }

    /// Whether its first message was taken before.
    pub(super) fn was_tried(&self) -> bool {
        let more = self.more.as_ref();
        more.is_some_and(|more| !more.rests.is_empty())
    }

    /// Until when its first message rests before it is tried again.
    pub(super) fn rests_until(&self) -> Option<Timestamp> {
        *self.more.as_ref()?.rests.front()?
    }

    /// It is `now`: the rest of the first message may be over.
    pub(super) fn look_at_rest(&mut self, now: Timestamp) {
        if let Some(first) = self.more.as_mut().and_then(|more| more.rests.front_mut())
            && first.is_some_and(|at| at <= now)
        {
            *first = None;
        }
    }

    /// Takes out a message that rests before it is tried again, if there is one.
    pub(super) fn pop_resting(&mut self) -> Option<Entry<M>> {
        let rests = &self.more.as_ref()?.rests;
        let index = rests.iter().position(Option::is_some)?;
        self.remove(index)
    }

    /// Messages here, those that are gone included.
    pub(super) fn len(&self) -> usize {
        let rest = self.more.as_ref().map_or(0, |more| more.rest.len());
        usize::from(self.alone.is_some()) + rest
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first().is_none()
    }

    /// The first message.
    #[inline]
    pub(super) fn first(&self) -> Option<&Entry<M>> {
        let rest = || self.more.as_ref()?.rest.front();
        self.alone.as_ref().or_else(rest)
    }

    /// The last message.
    pub(super) fn last(&self) -> Option<&Entry<M>> {
        let rest = self.more.as_ref().and_then(|more| more.rest.back());
        rest.or(self.alone.as_ref())
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Entry<M>> {
        let rest = self.more.iter_mut().flat_map(|more| &mut more.rest);
        self.alone.iter_mut().chain(rest)
    }

    fn take_all(&mut self) -> impl Iterator<Item = Entry<M>> + use<M> {
        let more = self.more.as_mut();
        let rest = more.map(|more| std::mem::take(&mut more.rest));
        let alone = self.alone.take();
        alone.into_iter().chain(rest.into_iter().flatten())
    }

    pub(super) fn may_be_replaced_in(&mut self, bed: Bed) {
        self.more.get_or_insert_default().replaceable.push(bed);
    }

    pub(super) fn replaceable(&self) -> impl Iterator<Item = Bed> + '_ {
        let more = self.more.iter();
        more.flat_map(|more| more.replaceable.iter().copied())
    }

    /// None of its messages sleeps there any more.
    pub(super) fn gets_up(&mut self, bed: Bed) {
        if let Some(more) = &mut self.more {
            more.replaceable.retain(|known| *known != bed);
        }
    }

    /// When its first message was posted, where that waits for nothing but its meter.
    pub(super) fn waits_for_its_rate(&self) -> Option<Timestamp> {
        let for_rate = self.reserved && self.rests_until().is_none() && self.waiting.is_none();
        self.first().filter(|_| for_rate)?.posted_at
    }

    fn is_over(&self) -> bool {
        let none_sleeps = || {
            self.more
                .as_ref()
                .is_none_or(|more| more.replaceable.is_empty())
        };
        self.is_empty() && self.running == 0 && !self.placed && none_sleeps()
    }

    pub(super) fn can_be_placed(&self) -> bool {
        !self.is_empty() && !self.placed && (self.shared || self.running == 0)
    }
}

impl<M: Message> KeyLane<M> {
    /// Notes what the message asks for that comes in.
    pub(super) fn note(&mut self, entry: &Entry<M>) {
        let plan = entry.message.plan();
        let priority = plan.map(|plan| plan.priority).unwrap_or_default();
        let waits = plan.is_some_and(Plan::waits_in_lane);
        if self.is_empty() {
            (self.common, self.waits) = (Some(priority), waits);
            return;
        }
        self.common = self.common.filter(|common| *common == priority);
        self.waits |= waits;
    }

    /// The priority of its first message.
    pub(super) fn priority(&self) -> Priority {
        let of_first = || self.first().map(priority_of).unwrap_or_default();
        self.common.unwrap_or_else(of_first)
    }

    pub(super) fn push(&mut self, entry: Entry<M>) {
        self.note(&entry);
        match &mut self.more {
            Some(more) if self.alone.is_some() || !more.rest.is_empty() => {
                more.rest.push_back(entry);
            }
            None if self.alone.is_some() => {
                self.more.insert(Box::default()).rest.push_back(entry);
            }
            _ => self.alone = Some(entry),
        }
    }

    /// Takes a message back that was taken and not begun. One of a group has waited for company already.
    pub(super) fn push_front(&mut self, entry: Entry<M>, is_grouped: bool) {
        let marked = |more: &More<M>| !more.rests.is_empty();
        if is_grouped || self.more.as_deref().is_some_and(marked) {
            self.more.get_or_insert_default().rests.push_front(None);
        }
        self.insert(0, entry);
    }

    fn insert(&mut self, index: usize, entry: Entry<M>) {
        self.note(&entry);
        if self.is_empty() {
            self.alone = Some(entry);
            return;
        }
        let rest = &mut self.more.get_or_insert_default().rest;
        match index.checked_sub(usize::from(self.alone.is_some())) {
            Some(behind) => rest.insert(behind, entry),
            None => {
                if let Some(second) = self.alone.replace(entry) {
                    rest.push_front(second);
                }
            }
        }
    }

    /// Takes a message back that ran, to be tried again at `at`: behind those that are back already of them that ran with it,
    /// or before them if it `leads` them.
    pub(super) fn push_again(&mut self, entry: Entry<M>, at: Timestamp, leads: bool) {
        let more = self.more.get_or_insert_default();
        let index = if leads { 0 } else { more.back };
        more.back += 1;
        more.rests.insert(index, Some(at));
        self.insert(index, entry);
    }

    /// Takes in a message whose rest is over, behind others of these.
    pub(super) fn push_tried(&mut self, entry: Entry<M>) {
        let more = self.more.get_or_insert_default();
        let index = more.rests.len();
        more.rests.push_back(None);
        self.insert(index, entry);
    }

    /// Takes out all that are gone.
    pub(super) fn sweep(&mut self, mut is_gone: impl FnMut(&Entry<M>) -> bool) -> Vec<Entry<M>> {
        let mut gone = Vec::new();
        let mut left = 0;
        for entry in self.take_all() {
            if !is_gone(&entry) {
                self.push(entry);
                left += 1;
                continue;
            }
            if let Some(more) = &mut self.more {
                more.leaves(left);
            }
            gone.push(entry);
        }
        gone
    }
}

/// A lane is here while it has messages, or one of them runs, or it is placed.
pub(super) struct Lanes<M> {
    by_key: HashMap<Key, LaneId, ByKey>,
    places: Vec<Option<KeyLane<M>>>,
    free: Vec<LaneId>,
    /// The one whose message was taken last: mostly it is the next to be over.
    last: LaneId,
}

impl<M> Lanes<M> {
    pub(super) fn new() -> Self {
        Self {
            by_key: HashMap::default(),
            places: Vec::new(),
            free: Vec::new(),
            last: LaneId(0),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    pub(super) fn find(&self, key: &Key) -> Option<LaneId> {
        self.by_key.get(key).copied()
    }

    pub(super) fn get(&self, id: LaneId) -> Option<&KeyLane<M>> {
        self.places.get(id.0 as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: LaneId) -> Option<&mut KeyLane<M>> {
        self.places.get_mut(id.0 as usize)?.as_mut()
    }

    /// The lane of that key, made if there is none. `shared`: see there.
    pub(super) fn find_or_make(&mut self, key: &Key, shared: bool) -> LaneId {
        if let Some(known) = self.find(key) {
            return known;
        }
        let lane = Some(KeyLane::new(key.clone(), shared));
        let id = match self.free.pop() {
            Some(id) => {
                self.places[id.0 as usize] = lane;
                id
            }
            None => {
                self.places.push(lane);
                LaneId::at(self.places.len() - 1)
            }
        };
        self.by_key.insert(key.clone(), id);
        id
    }

    /// A message of the lane of `key` that ran is over, at `spot` where that is known. Returns the lane, unless it is over as
    /// well.
    pub(super) fn end(&mut self, key: &Key, spot: Option<Spot>) -> Option<LaneId> {
        let is_it = |lane: &KeyLane<M>| lane.key == *key;
        let id = if self.get(self.last).is_some_and(is_it) {
            self.last
        } else {
            self.find(key)?
        };
        let lane = self.get_mut(id)?;
        lane.running -= 1;
        lane.spot = spot.or(lane.spot);
        if !lane.is_over() {
            return Some(id);
        }
        self.forget_if_over(id);
        None
    }

    /// A message of that lane was taken to run.
    pub(super) const fn note_taken(&mut self, id: LaneId) {
        self.last = id;
    }

    pub(super) fn forget_if_over(&mut self, id: LaneId) {
        let place = &mut self.places[id.0 as usize];
        if let Some(lane) = place
            && lane.is_over()
        {
            self.by_key.remove(&lane.key);
            *place = None;
            self.free.push(id);
        }
    }

    pub(super) fn forget_all_that_are_over(&mut self) {
        for index in 0..self.places.len() {
            self.forget_if_over(LaneId::at(index));
        }
    }

    /// The lanes whose first message waits for company, and where they sleep.
    pub(super) fn waiting(&self) -> Vec<(LaneId, Bed)> {
        let lanes = self.places.iter().enumerate();
        let waiting = lanes.filter_map(|(index, lane)| {
            let bed = lane.as_ref()?.waiting?;
            Some((LaneId::at(index), bed))
        });
        waiting.collect()
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut KeyLane<M>> {
        self.places.iter_mut().flatten()
    }

    /// Lanes that there is room for.
    pub(super) const fn capacity(&self) -> usize {
        self.places.capacity()
    }
}

impl<M> KeyLane<M> {
    pub(super) const fn key(&self) -> &Key {
        &self.key
    }

    /// Its messages may run at the same time.
    pub(super) const fn is_shared(&self) -> bool {
        self.shared
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Entry<M>> {
        let rest = self.more.iter().flat_map(|more| &more.rest);
        self.alone.iter().chain(rest)
    }
}

impl<M> Lanes<M> {
    pub(super) fn all(&self) -> impl Iterator<Item = (LaneId, &KeyLane<M>)> {
        let places = self.places.iter().enumerate();
        places.filter_map(|(index, lane)| Some((LaneId::at(index), lane.as_ref()?)))
    }
}
