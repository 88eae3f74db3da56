//! Random mixes of keyed messages that run together and come back, against a plain list for each key.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::super::Planned;
use super::{Call, Hand, Note, Outside};
use crate::clock::Timestamp;
use crate::key::Key;
use crate::mailbox::claimed::Popped;
use crate::mailbox::entry::{Entry, Punctual, Spot};
use crate::plan::{Group, Plan};
use crate::testing::cases;

/// How many messages of the group run together.
const SIZE: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Push {
        key: u8,
        grouped: bool,
    },
    /// One is wanted that runs here.
    Pop(Option<Spot>),
    /// Those of a key that run are over, each for good or to be tried again in so long; the first one ends last in a turn.
    End {
        pick: usize,
        waits: [Option<u64>; SIZE],
        turn: bool,
    },
    Tick(u64),
    Cancel(usize),
    Oldest,
    Sweep,
    TakeDelayed,
}

fn step() -> impl Strategy<Value = Step> {
    let waits = proptest::array::uniform3(proptest::option::weighted(0.6, 0..4_u64));
    prop_oneof![
        8 => (0..3_u8, proptest::bool::weighted(0.8)).prop_map(|(key, grouped)| Step::Push { key, grouped }),
        8 => proptest::option::of(0..2_u32).prop_map(Step::Pop),
        6 => (any::<usize>(), waits, any::<bool>())
            .prop_map(|(pick, waits, turn)| Step::End { pick, waits, turn }),
        4 => (0..3_u64).prop_map(Step::Tick),
        2 => any::<usize>().prop_map(Step::Cancel),
        1 => Just(Step::Oldest),
        1 => Just(Step::Sweep),
        1 => proptest::bool::weighted(0.1).prop_map(|delayed| if delayed { Step::TakeDelayed } else { Step::Pop(None) }),
    ]
}

/// A message that waits, and when it may be tried again.
#[derive(Clone)]
struct Waits {
    id: usize,
    grouped: bool,
    call: Arc<Call>,
    due: u64,
}

struct Run {
    order: Planned<Note>,
    outside: Outside,
    clock: Hand,
    group: Arc<Group>,
    lists: BTreeMap<u8, Vec<Waits>>,
    running: BTreeMap<u8, Vec<Entry<Note>>>,
    /// Until when the lane of a key may sleep for one that is gone.
    sleeps: BTreeMap<u8, u64>,
    buried: usize,
    tombstones: usize,
    next_id: usize,
}

impl Run {
    fn now(&self) -> u64 {
        self.clock.0.load(Ordering::Relaxed)
    }

    fn pop(&mut self, spot: Option<Spot>) {
        self.outside.look(&mut self.order, &self.clock);
        let gone = self.buried > 0;
        let mut leftovers = Vec::new();
        let mut punctual = Punctual::new(&self.clock);
        let popped =
            self.order
                .pop_to_run(spot, &mut punctual, &mut self.tombstones, &mut leftovers);
        self.buried -= leftovers.len();
        let now = self.now();
        let Popped::Message(first, others) = popped else {
            if !self.outside.queue.is_empty() {
                self.pop(spot);
                return;
            }
            for (key, list) in &self.lists {
                let asleep = self.sleeps.get(key).is_some_and(|due| *due > now);
                let rests = asleep || list.first().is_none_or(|first| first.due > now);
                assert!(rests || self.running.contains_key(key), "it could run");
            }
            return;
        };
        let key = key_of(&first);
        assert!(!self.running.contains_key(&key), "two of a key");
        let popped: Vec<_> = std::iter::once(first).chain(others.entries).collect();
        let list = self.lists.get_mut(&key).expect("some wait");
        let due = list.iter().take_while(|waits| waits.due <= now);
        let together = due.clone().take_while(|waits| waits.grouped).take(SIZE);
        let expected = match list.first() {
            Some(first) if first.grouped => together.map(|waits| waits.id).collect::<Vec<_>>(),
            _ => due.take(1).map(|waits| waits.id).collect(),
        };
        let ids: Vec<_> = popped.iter().map(|entry| entry.message.id).collect();
        assert!(
            expected.starts_with(&ids),
            "those that are due, in their order: {ids:?} of {expected:?}"
        );
        // One of another kind that is gone may have stood between them.
        assert!(gone || ids == expected, "all of them");
        list.drain(..ids.len());
        self.running.insert(key, popped);
    }

    fn end(&mut self, pick: usize, waits: [Option<u64>; SIZE], turn: bool) {
        let keys: Vec<u8> = self.running.keys().copied().collect();
        if keys.is_empty() {
            return;
        }
        let key = keys[pick % keys.len()];
        let now = self.now();
        let ran = self.running.remove(&key).expect("it runs");
        let mut ends: Vec<_> = ran.into_iter().zip(waits).zip(0_usize..).collect();
        let back = ends.iter().filter_map(|((entry, wait), _)| {
            Some(Waits {
                id: entry.message.id,
                grouped: entry
                    .message
                    .plan
                    .as_ref()
                    .is_some_and(|plan| plan.more().group.is_some()),
                call: entry.message.call.clone(),
                due: now + (*wait)?,
            })
        });
        self.lists
            .entry(key)
            .or_default()
            .splice(..0, back.collect::<Vec<_>>());
        if turn {
            ends.rotate_left(1);
        }
        for ((entry, wait), index) in ends {
            match wait {
                Some(wait) => {
                    assert!(entry.message.call.0.state().unclaim());
                    let at = Timestamp::from_nanos(now + wait);
                    self.order.again(entry, at, turn && index == 0);
                }
                None => self.order.ended(&Key::new(&[key]), Some(u32::from(turn))),
            }
        }
    }

    fn forget(&mut self, id: usize) -> Option<Waits> {
        self.lists.iter_mut().find_map(|(key, list)| {
            let index = list.iter().position(|waits| waits.id == id)?;
            let waits = list.remove(index);
            let sleeps = self.sleeps.entry(*key).or_default();
            *sleeps = waits.due.max(*sleeps);
            Some(waits)
        })
    }

    fn do_step(&mut self, step: &Step) {
        match *step {
            Step::Push { key, grouped } => {
                let call = Arc::new(Call::default());
                let mut plan = Plan::default();
                plan.key = Some(Key::new(&[key]));
                plan.more_mut().group = grouped.then(|| self.group.clone());
                self.lists.entry(key).or_default().push(Waits {
                    id: self.next_id,
                    grouped,
                    call: call.clone(),
                    due: 0,
                });
                let message = Note {
                    id: self.next_id,
                    call,
                    plan: Some(plan),
                };
                self.next_id += 1;
                self.outside.push(Entry {
                    message,
                    posted_at: None,
                });
            }
            Step::Pop(spot) => self.pop(spot),
            Step::End { pick, waits, turn } => self.end(pick, waits, turn),
            Step::Tick(by) => {
                self.clock.0.fetch_add(by, Ordering::Relaxed);
            }
            Step::Cancel(pick) => {
                let all: Vec<_> = self
                    .lists
                    .values()
                    .flatten()
                    .map(|waits| waits.id)
                    .collect();
                if !all.is_empty()
                    && let Some(waits) = self.forget(all[pick % all.len()])
                {
                    assert!(waits.call.0.state().claim_removed(false));
                    self.buried += 1;
                    self.tombstones += 1;
                }
            }
            Step::Oldest => {
                self.outside.bring_in(&mut self.order);
                let mut leftovers = Vec::new();
                let oldest = self.order.pop_oldest(&mut self.tombstones, &mut leftovers);
                self.buried -= leftovers.len();
                if let Some(oldest) = oldest {
                    assert!(self.forget(oldest.message.id).is_some(), "it waits");
                }
            }
            Step::Sweep => {
                self.outside.bring_in(&mut self.order);
                let mut leftovers = Vec::new();
                self.order.sweep(&mut leftovers);
                assert_eq!(leftovers.len(), self.buried);
                (self.buried, self.tombstones) = (0, 0);
            }
            Step::TakeDelayed => {
                self.outside.bring_in(&mut self.order);
                let mut leftovers = Vec::new();
                let taken = self
                    .order
                    .take_delayed(&mut self.tombstones, &mut leftovers);
                self.buried -= leftovers.len();
                for entry in taken {
                    let waits = self.forget(entry.message.id).expect("it waits");
                    assert!(waits.due > 0, "it was to be tried again");
                }
                let now = self.now();
                let left = self.lists.values().flatten();
                assert!(left.clone().all(|waits| waits.due <= now), "none rests");
            }
        }
        let waiting = self.lists.values().map(Vec::len).sum::<usize>();
        let len = self.order.len() + self.outside.queue.len();
        assert_eq!(len, waiting + self.buried);
        assert_eq!(self.tombstones, self.buried);
    }
}

fn key_of(entry: &Entry<Note>) -> u8 {
    let key = entry
        .message
        .plan
        .as_ref()
        .and_then(|plan| plan.key.clone());
    (0..3)
        .find(|number| key == Some(Key::new(&[*number])))
        .expect("it has one of the keys")
}

/// An order with so many messages of each key, by its number.
fn filled(counts: &[usize]) -> Planned<Note> {
    let mut order = Planned::new(None);
    for (key, count) in (0..).zip(counts) {
        for id in 0..*count {
            let mut plan = Plan::default();
            plan.key = Some(Key::new(&[key]));
            let message = Note {
                id,
                call: Arc::default(),
                plan: Some(plan),
            };
            order.push_entry(Entry {
                message,
                posted_at: None,
            });
        }
    }
    order
}

/// Runs the next message at `spot`. Returns its key.
fn run_at(order: &mut Planned<Note>, spot: Spot) -> u8 {
    let clock = Hand(AtomicU64::new(1));
    let popped = order.pop_to_run(
        Some(spot),
        &mut Punctual::new(&clock),
        &mut 0,
        &mut Vec::new(),
    );
    let Popped::Message(entry, _) = popped else {
        panic!("there is one");
    };
    let key = key_of(&entry);
    order.ended(&Key::new(&[key]), Some(spot));
    key
}

#[test]
fn a_key_goes_on_where_it_ran() {
    let mut order = filled(&[9, 9]);
    assert_eq!((run_at(&mut order, 1), run_at(&mut order, 2)), (0, 1));
    for _ in 0..6 {
        // In turns one of them would get what the other one had.
        assert_eq!((run_at(&mut order, 2), run_at(&mut order, 1)), (1, 0));
    }
}

#[test]
fn a_key_is_passed_for_those_that_ran_there_for_a_bounded_time() {
    let mut order = filled(&[50, 50, 50]);
    assert_eq!(run_at(&mut order, 1), 0);
    // Only this spot goes on.
    let ran = (0..20).map(|_| run_at(&mut order, 2)).collect::<Vec<_>>();
    let passed = ran.iter().take_while(|key| **key != 0).count();
    assert!((2..=9).contains(&passed), "{ran:?}");
    // It belongs there now, and is served in its turn.
    let own = ran[passed..].iter().filter(|key| **key == 0).count();
    assert!(own >= (20 - passed) / 3, "{ran:?}");
}

proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn messages_of_a_key_that_ran_together_come_back_in_their_order(
        steps in proptest::collection::vec(step(), 0..120)
    ) {
        let mut order = Planned::new(None);
        let mut run = Run {
            outside: Outside::of(&mut order),
            order,
            clock: Hand(AtomicU64::new(1)),
            group: Arc::new(Group::new(SIZE, std::time::Duration::ZERO)),
            lists: BTreeMap::new(),
            sleeps: BTreeMap::new(),
            running: BTreeMap::new(),
            buried: 0,
            tombstones: 0,
            next_id: 0,
        };
        for step in &steps {
            run.do_step(step);
        }
        for _ in 0..1_000 {
            run.do_step(&Step::Pop(None));
            run.do_step(&Step::End { pick: 0, waits: [None; SIZE], turn: false });
            run.do_step(&Step::Tick(1));
        }
        run.do_step(&Step::Sweep);
        prop_assert!(run.lists.values().all(Vec::is_empty));
        prop_assert!(run.order.lanes.is_empty());
        prop_assert!(run.order.asleep.is_empty());
    }
}
