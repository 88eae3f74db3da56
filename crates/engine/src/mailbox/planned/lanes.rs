//! The lanes of a mailbox that keeps order by plans, each found by its key or by its place.
//!
//! A key is looked up twice for a message: as it comes, and as it is over. In between a lane is known by its place.

use std::collections::{HashMap, VecDeque};

use super::Bed;
use crate::key::{ByKey, Key};
use crate::mailbox::entry::Entry;

/// The place of a lane, as long as it is there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct LaneId(usize);

/// The queued messages with one key.
pub(super) struct Lane<M> {
    key: Key,
    /// The first message: most lanes never have another, and need no buffer.
    pub(super) first: Option<Entry<M>>,
    pub(super) rest: VecDeque<Entry<M>>,
    pub(super) running: usize,
    /// Its messages may run at the same time: they have no key, and wait for a meter.
    shared: bool,
    /// It is among the units or asleep.
    pub(super) placed: bool,
    /// Its first message has its place with the meter.
    pub(super) reserved: bool,
    /// It is asleep because its first message is to be tried again at a time.
    pub(super) tries_again: bool,
    /// Where those of its messages sleep that may be replaced.
    pub(super) replaceable: Vec<Bed>,
    /// Where it sleeps, if it does because its first message waits for company.
    pub(super) waiting: Option<Bed>,
}

impl<M> Lane<M> {
    const fn new(key: Key, shared: bool) -> Self {
        Self {
            key,
            first: None,
            rest: VecDeque::new(),
            running: 0,
            shared,
            placed: false,
            reserved: false,
            tries_again: false,
            replaceable: Vec::new(),
            waiting: None,
        }
    }

    pub(super) fn push(&mut self, entry: Entry<M>) {
        if self.first.is_none() {
            self.first = Some(entry);
        } else {
            self.rest.push_back(entry);
        }
    }

    pub(super) fn push_front(&mut self, entry: Entry<M>) {
        if let Some(second) = self.first.replace(entry) {
            self.rest.push_front(second);
        }
    }

    pub(super) fn pop(&mut self) -> Option<Entry<M>> {
        self.tries_again = false;
        let first = self.first.take();
        self.first = self.rest.pop_front();
        first
    }

    /// Takes out the message at `index`, which there is.
    pub(super) fn remove(&mut self, index: usize) -> Option<Entry<M>> {
        match index.checked_sub(1) {
            None => self.pop(),
            Some(index) => self.rest.remove(index),
        }
    }

    /// Messages here, those that are gone included.
    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    const fn is_over(&self) -> bool {
        self.first.is_none() && self.running == 0 && self.replaceable.is_empty() && !self.placed
    }

    pub(super) const fn can_be_placed(&self) -> bool {
        self.first.is_some() && !self.placed && (self.shared || self.running == 0)
    }
}

/// A lane is here while it has messages, or one of them runs, or it is placed.
pub(super) struct Lanes<M> {
    by_key: HashMap<Key, LaneId, ByKey>,
    places: Vec<Option<Lane<M>>>,
    free: Vec<LaneId>,
}

impl<M> Lanes<M> {
    pub(super) fn new() -> Self {
        Self {
            by_key: HashMap::default(),
            places: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    pub(super) fn find(&self, key: &Key) -> Option<LaneId> {
        self.by_key.get(key).copied()
    }

    pub(super) fn get(&self, id: LaneId) -> Option<&Lane<M>> {
        self.places.get(id.0)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: LaneId) -> Option<&mut Lane<M>> {
        self.places.get_mut(id.0)?.as_mut()
    }

    /// The lane of that key, made if there is none. `shared`: see there.
    pub(super) fn find_or_make(&mut self, key: &Key, shared: bool) -> LaneId {
        if let Some(known) = self.find(key) {
            return known;
        }
        let lane = Some(Lane::new(key.clone(), shared));
        let id = match self.free.pop() {
            Some(id) => {
                self.places[id.0] = lane;
                id
            }
            None => {
                self.places.push(lane);
                LaneId(self.places.len() - 1)
            }
        };
        self.by_key.insert(key.clone(), id);
        id
    }

    /// A message of the lane of `key` that ran is over. Returns the lane, unless it is over as well.
    pub(super) fn end(&mut self, key: &Key) -> Option<LaneId> {
        let id = self.find(key)?;
        let lane = self.get_mut(id)?;
        lane.running -= 1;
        if !lane.is_over() {
            return Some(id);
        }
        self.forget_if_over(id);
        None
    }

    pub(super) fn forget_if_over(&mut self, id: LaneId) {
        let place = &mut self.places[id.0];
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
            self.forget_if_over(LaneId(index));
        }
    }

    /// The lanes whose first message waits for company, and where they sleep.
    pub(super) fn waiting(&self) -> Vec<(LaneId, Bed)> {
        let lanes = self.places.iter().enumerate();
        let waiting = lanes.filter_map(|(index, lane)| {
            let bed = lane.as_ref()?.waiting?;
            Some((LaneId(index), bed))
        });
        waiting.collect()
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Lane<M>> {
        self.places.iter_mut().flatten()
    }

    /// Lanes that there is room for.
    pub(super) const fn capacity(&self) -> usize {
        self.places.capacity()
    }
}
