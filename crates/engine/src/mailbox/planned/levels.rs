//! What can run now, of each priority: its units, in the order of their turns.
//!
//! A unit is one message or a lane. Messages lie in a queue of their own beside the units of their priority, which are small,
//! so a message moves once as it comes and once as it goes: see `queue.rs`.

use std::collections::VecDeque;

use super::STEP;
use super::lanes::LaneId;
use crate::clock::Timestamp;
use crate::mailbox::entry::Entry;
use crate::mailbox::queue::{Queue, Tray};
use crate::plan::Priority;

/// The turn of a priority without a unit.
const NEVER: u64 = u64::MAX;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// The message that is the first of those of its priority that are one each.
    One,
    Lane(LaneId),
}

#[derive(Clone, Copy)]
pub(super) struct Ready {
    number: u64,
    pub(super) unit: Unit,
}

struct Level<M> {
    units: VecDeque<Ready>,
    /// Those of them that are one message each.
    ones: Queue<M>,
}

pub(super) struct Levels<M> {
    levels: [Level<M>; Priority::LEVELS],
    /// Of each of them, at which turn its first unit is next; [`NEVER`] where it has none.
    turns: [u64; Priority::LEVELS],
    units: usize,
    placed: u64,
}

/// A place among the units.
#[derive(Clone, Copy)]
pub(super) struct Rank {
    level: usize,
    turn: u64,
}

impl<M> Levels<M> {
    pub(super) fn new() -> Self {
        let level = |_| Level {
            units: VecDeque::new(),
            ones: Queue::new(),
        };
        Self {
            levels: std::array::from_fn(level),
            turns: [NEVER; Priority::LEVELS],
            units: 0,
            placed: 0,
        }
    }

    /// How many units could run.
    #[inline]
    pub(super) const fn units(&self) -> usize {
        self.units
    }

    /// How many were placed since the first one of that level.
    pub(super) fn placed_since_first(&self, level: usize) -> u64 {
        let first = self.levels[level].units.front();
        first.map_or(0, |first| self.placed.saturating_sub(first.number))
    }

    /// Places the message in `tray` behind the others of its priority.
    #[inline]
    pub(super) fn add_one(&mut self, priority: Priority, tray: &mut Tray<M>) {
        let ones = &mut self.levels[priority.level()].ones;
        ones.push_from(&mut tray.message, tray.posted_at);
        self.add(priority, Unit::One);
    }

    pub(super) fn add_lane(&mut self, priority: Priority, id: LaneId) {
        self.add(priority, Unit::Lane(id));
    }

    #[inline]
    fn add(&mut self, priority: Priority, unit: Unit) {
        let number = self.placed;
        self.placed += 1;
        self.units += 1;
        let level = priority.level();
        self.levels[level].units.push_back(Ready { number, unit });
        if self.turns[level] == NEVER {
            self.turns[level] = turn(level, number);
        }
    }

    /// Puts a message before all others of its priority.
    pub(super) fn add_one_first(&mut self, priority: Priority, entry: Entry<M>) {
        self.levels[priority.level()].ones.push_front(entry);
        self.add_first(priority, Unit::One);
    }

    /// The same with a lane.
    pub(super) fn add_lane_first(&mut self, priority: Priority, id: LaneId) {
        self.add_first(priority, Unit::Lane(id));
    }

    fn add_first(&mut self, priority: Priority, unit: Unit) {
        let level = priority.level();
        let units = &mut self.levels[level].units;
        let number = units.front().map_or(self.placed, |first| first.number);
        units.push_front(Ready { number, unit });
        self.units += 1;
        self.turns[level] = turn(level, number);
    }

    /// The unit that is next, and its level; the higher one where two have the same turn.
    #[inline]
    pub(super) fn next(&self) -> Option<(usize, Unit)> {
        let turns = self.turns.iter().enumerate().rev();
        let (level, _) = turns.min_by_key(|(_, turn)| **turn)?;
        self.first(level).map(|unit| (level, unit))
    }

    pub(super) fn first(&self, level: usize) -> Option<Unit> {
        self.levels[level].units.front().map(|ready| ready.unit)
    }

    /// The first message of that level that is a unit.
    #[inline]
    pub(super) fn first_one(&self, level: usize) -> Option<&M> {
        self.levels[level].ones.front().map(|(message, _)| message)
    }

    /// Takes the first unit of that level out; of one message no more than the unit.
    #[inline]
    fn take(&mut self, level: usize) -> Option<Unit> {
        let units = &mut self.levels[level].units;
        let ready = units.pop_front()?;
        self.turns[level] = match units.front() {
            Some(first) => turn(level, first.number),
            None => NEVER,
        };
        self.units -= 1;
        Some(ready.unit)
    }

    /// Takes the first unit of that level out, which is a lane.
    #[inline]
    pub(super) fn take_lane(&mut self, level: usize) {
        self.take(level);
    }

    /// Takes the first unit of that level out, which is a message, into `next`, which is empty.
    #[inline]
    pub(super) fn take_one(&mut self, level: usize, next: &mut Tray<M>) {
        self.take(level);
        self.levels[level].ones.pop_into(next);
    }

    /// The first of the first `seen` units of that level for which `is_it` says so.
    pub(super) fn position(
        &self,
        level: usize,
        seen: usize,
        is_it: impl Fn(Unit) -> bool,
    ) -> Option<usize> {
        let mut units = self.levels[level].units.iter().take(seen);
        units.position(|ready| is_it(ready.unit))
    }

    /// Brings the unit of that level at `index` to the front: a lane, or the first that is a message.
    pub(super) fn bring_forward(&mut self, level: usize, index: usize) {
        let units = &mut self.levels[level].units;
        if let Some(unit) = units.remove(index) {
            units.push_front(unit);
        }
    }

    /// The first unit of each level that has one, and when that was posted, where it is a message.
    pub(super) fn firsts(&self) -> impl Iterator<Item = (Unit, Option<Timestamp>)> + '_ {
        self.levels.iter().filter_map(|level| {
            let unit = level.units.front()?.unit;
            let posted = match unit {
                Unit::One => level.ones.front()?.1,
                Unit::Lane(_) => None,
            };
            Some((unit, posted))
        })
    }

    /// The messages that are units, when each was posted, and where it stands.
    pub(super) fn ones(&self) -> impl Iterator<Item = (&M, Option<Timestamp>, Rank)> + '_ {
        self.levels.iter().enumerate().flat_map(|(level, units)| {
            let is_one = |ready: &&Ready| ready.unit == Unit::One;
            let places = units.units.iter().filter(is_one).map(move |ready| Rank {
                level,
                turn: turn(level, ready.number),
            });
            let messages = units.ones.iter();
            messages
                .zip(places)
                .map(|((message, at), place)| (message, at, place))
        })
    }

    /// Where a lane stands, if it does.
    pub(super) fn of_lane(&self, id: LaneId) -> Option<Rank> {
        let mut levels = self.levels.iter().enumerate();
        levels.find_map(|(level, units)| {
            let is_it = |ready: &&Ready| ready.unit == Unit::Lane(id);
            let ready = units.units.iter().find(is_it)?;
            Some(Rank {
                level,
                turn: turn(level, ready.number),
            })
        })
    }

    /// How many units go before that place. A lane counts as one message, since it has one turn.
    pub(super) fn before(&self, place: Rank) -> usize {
        let levels = self.levels.iter().enumerate();
        let count = levels.map(|(other, level)| {
            let goes_before = |ready: &&Ready| {
                let own = turn(other, ready.number);
                own < place.turn || own == place.turn && other > place.level
            };
            level.units.iter().filter(goes_before).count()
        });
        count.sum()
    }

    /// Takes out all messages that are units and for which `is_gone` says so, and hands them to `gone`.
    pub(super) fn sweep(&mut self, mut is_gone: impl FnMut(&M) -> bool, mut gone: impl FnMut(M)) {
        for (index, level) in self.levels.iter_mut().enumerate() {
            let mut ones = std::mem::replace(&mut level.ones, Queue::new());
            for ready in std::mem::take(&mut level.units) {
                if ready.unit == Unit::One
                    && let Some(entry) = ones.pop_front()
                {
                    if is_gone(&entry.message) {
                        self.units -= 1;
                        gone(entry.message);
                        continue;
                    }
                    level.ones.push_back(entry);
                }
                level.units.push_back(ready);
            }
            let first = level.units.front();
            self.turns[index] = first.map_or(NEVER, |first| turn(index, first.number));
        }
    }

    /// Entries that the buffers have room for.
    pub(super) fn capacity(&self) -> usize {
        let levels = self.levels.iter();
        levels.map(|level| level.units.capacity()).sum()
    }

    /// Gives buffers for more than `keep` entries back that are empty.
    pub(super) fn shrink(&mut self, keep: usize) {
        for level in &mut self.levels {
            if level.units.is_empty() && level.units.capacity() > keep {
                level.units = VecDeque::new();
                level.ones = Queue::new();
            }
        }
    }
}

/// The turn of a unit of that level and number.
const fn turn(level: usize, number: u64) -> u64 {
    number + (Priority::LEVELS - 1 - level) as u64 * STEP
}
