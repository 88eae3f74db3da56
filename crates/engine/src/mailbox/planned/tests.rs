//! Random mixes of plans against what an order by plans promises, and against a plain list of what is in it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::Planned;
use super::looks::LOOKS;
use crate::clock::{Clock, Timestamp};
use crate::key::Key;
use crate::mailbox::claimed::Popped;
use crate::mailbox::door::InboxDoor;
use crate::mailbox::entry::{Entry, Finished, Punctual, Times};
use crate::mailbox::queue::Queue;
use crate::mailbox::{Gate, Limits, Mailbox, Rest, TakeResult, Tray, Whence};
use crate::message::{Message, Ticket};
use crate::outcome::{Failure, Outcome};
use crate::plan::{Group, Meter, MorePlan, Plan, Priority, Rate};
use crate::policy::Overflow;
use crate::reply::{ReplyState, Shared, Slot};
use crate::testing::cases;

#[derive(Debug, Default)]
struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

#[derive(Default)]
struct Call(Slot<(), Shared>);

impl Ticket for Call {
    fn state(&self) -> &ReplyState {
        self.0.state()
    }

    fn fail(&self, queued: bool, failure: Failure) -> bool {
        self.0.fail(queued, failure)
    }
}

struct Note {
    id: usize,
    call: Arc<Call>,
    plan: Option<Plan>,
}

impl Message for Note {
    fn ticket(&self) -> Option<Arc<dyn Ticket>> {
        Some(self.call.clone())
    }

    fn state(&self) -> Option<&ReplyState> {
        Some(self.call.0.state())
    }

    fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()
    }
}

/// What senders have pushed, and the worker looks at as a mailbox has it look.
struct Outside {
    queue: Queue<Note>,
    door: InboxDoor,
}

impl Outside {
    /// That of `order`.
    fn of(order: &mut Planned<Note>) -> Self {
        let door = InboxDoor::new();
        order.answer(door.knock());
        Self {
            queue: Queue::new(),
            door,
        }
    }

    fn push(&mut self, entry: Entry<Note>) {
        self.door.comes(entry.message.plan());
        self.queue.push_back(entry);
    }

    /// Before a message is taken.
    fn look(&mut self, order: &mut Planned<Note>, clock: &Hand) {
        if order.is_quiet() && order.has_enough(true) {
            return;
        }
        if !order.has_fetched_enough() {
            let is_even = self.door.opens(order.len() > 0);
            order.fetch(&mut self.queue, is_even);
            order.take_in();
            order.wake(|| clock.now());
        }
    }

    /// Before anything else is done.
    fn bring_in(&mut self, order: &mut Planned<Note>) {
        order.fetch(&mut self.queue, false);
        order.take_all_in();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push {
        priority: Option<u8>,
        key: Option<u8>,
        delay: Option<u64>,
        latest: bool,
        metered: bool,
        /// It waits so long for company.
        grouped: Option<u64>,
    },
    Pop,
    /// One of those that run ends.
    End(usize),
    /// One of those that run goes back.
    PutBack(usize),
    /// One of those that run is to be tried again, in so long.
    Again(usize, u64),
    Tick(u64),
    /// One of those that wait is cancelled.
    Cancel(usize),
    Oldest,
    Sweep,
    TakeDelayed,
}

/// How many messages of the group run together.
const SIZE: usize = 3;

/// The key of which some messages wait for a meter, and others behind those.
const METERED: Option<u8> = Some(3);

fn step() -> impl Strategy<Value = Step> {
    let push = (
        proptest::option::of(0..10_u8),
        proptest::option::of(0..4_u8),
        proptest::option::weighted(0.3, 0..6_u64),
        any::<bool>(),
        proptest::bool::weighted(0.2),
        proptest::option::weighted(0.3, 0..4_u64),
    );
    prop_oneof![
        12 => push.prop_map(|(priority, key, delay, latest, metered, grouped)| Step::Push {
            priority,
            key,
            delay,
            latest: latest && key.is_some() && key != METERED,
            metered: metered && (key.is_none() || key == METERED),
            grouped: grouped.filter(|_| key.is_none() && !metered),
        }),
        10 => Just(Step::Pop),
        8 => any::<usize>().prop_map(Step::End),
        1 => any::<usize>().prop_map(Step::PutBack),
        3 => (any::<usize>(), 0..5_u64).prop_map(|(pick, wait)| Step::Again(pick, wait)),
        4 => (0..4_u64).prop_map(Step::Tick),
        2 => any::<usize>().prop_map(Step::Cancel),
        1 => Just(Step::Oldest),
        1 => Just(Step::Sweep),
        1 => proptest::bool::weighted(0.1).prop_map(|delayed| if delayed { Step::TakeDelayed } else { Step::Pop }),
    ]
}

/// What is known of a message that is in.
struct Known {
    call: Arc<Call>,
    key: Option<u8>,
    latest: bool,
    metered: bool,
    grouped: bool,
    due: Option<u64>,
    level: usize,
    /// It was put back, and has got another number.
    moved: bool,
}

struct Run {
    order: Planned<Note>,
    outside: Outside,
    clock: Hand,
    meter: Arc<Meter>,
    group: Arc<Group>,
    inside: BTreeMap<usize, Known>,
    buried: BTreeSet<usize>,
    running: Vec<(Entry<Note>, Option<u8>)>,
    /// Of the messages without a delay of each key: the last one that was begun.
    begun: BTreeMap<u8, usize>,
    /// The message of each key that is to be tried again, and goes before all others of it.
    again: BTreeMap<u8, (usize, u64)>,
    /// The same of the group.
    begun_of_group: Option<usize>,
    /// Some of the group went back, in any order.
    shuffled: bool,
    tombstones: usize,
    next_id: usize,
}

impl Run {
    fn new() -> Self {
        let rate = Rate::new(1, Duration::from_nanos(3), 2).expect("a rate");
        let mut order = Planned::new(None);
        Self {
            outside: Outside::of(&mut order),
            order,
            clock: Hand::default(),
            meter: Arc::new(Meter::new(rate)),
            group: Arc::new(Group::new(SIZE, Duration::ZERO)),
            inside: BTreeMap::new(),
            buried: BTreeSet::new(),
            running: Vec::new(),
            begun: BTreeMap::new(),
            again: BTreeMap::new(),
            begun_of_group: None,
            shuffled: false,
            tombstones: 0,
            next_id: 0,
        }
    }

    fn now(&self) -> u64 {
        self.clock.0.load(Ordering::Relaxed)
    }

    fn push(&mut self, step: &Step) {
        let Step::Push {
            priority,
            key,
            delay,
            latest,
            metered,
            grouped,
        } = *step
        else {
            unreachable!("a push");
        };
        let id = self.next_id;
        self.next_id += 1;
        let due = delay.map(|delay| self.now() + delay);
        let priority = priority.and_then(Priority::new);
        let mut plan = Plan::default();
        plan.priority = priority.unwrap_or_default();
        plan.key = key.map(|key| Key::new(&[key]));
        *plan.more_mut() = MorePlan {
            not_before: due.map(Timestamp::from_nanos),
            replaces: latest.then(|| Key::new(&[key.unwrap_or_default(), 1])),
            meter: metered.then(|| self.meter.clone()),
            group: grouped.map(|_| self.group.clone()),
            alone_at: grouped.map(|wait| Timestamp::from_nanos(due.unwrap_or(self.now()) + wait)),
        };
        let level = plan.priority.level();
        let is_plain = priority.is_none() && key.is_none() && due.is_none() && !metered;
        let is_plain = is_plain && grouped.is_none();
        let call = Arc::new(Call::default());
        let note = Note {
            id,
            call: call.clone(),
            plan: (!is_plain).then_some(plan),
        };
        let entry = Entry {
            message: note,
            posted_at: None,
        };
        let known = Known {
            call,
            key,
            latest,
            metered,
            grouped: grouped.is_some(),
            due,
            level,
            moved: false,
        };
        if !latest {
            self.inside.insert(id, known);
            self.outside.push(entry);
            return;
        }
        let mut others = self.inside.iter();
        let other = others
            .find(|(_, other)| other.latest && other.key == key)
            .map(|(id, _)| *id);
        self.outside.bring_in(&mut self.order);
        match self.order.replace(entry, &|_| true) {
            Ok(old) => {
                assert_eq!(Some(old.message.id), other, "the one with the same key");
                self.inside.remove(&old.message.id);
            }
            Err(entry) => {
                assert_eq!(other, None, "it is replaced");
                self.outside.push(entry);
            }
        }
        self.inside.insert(id, known);
    }

    fn leftovers(&mut self, leftovers: Vec<(Note, Failure)>) {
        for (note, _) in leftovers {
            assert!(self.buried.remove(&note.id), "one that was cancelled");
        }
    }

    fn pop(&mut self) {
        let popped = self.popped();
        let now = self.now();
        let busy: Vec<u8> = self.running.iter().filter_map(|(_, key)| *key).collect();
        match popped {
            Popped::Expired => unreachable!("no deadlines"),
            Popped::Nothing => {
                let of_group =
                    |known: &&Known| known.grouped && known.due.is_none_or(|due| due <= now);
                let together = self.inside.values().filter(of_group).count();
                assert!(together < SIZE, "they have company");
                for known in self.inside.values() {
                    let waits = known.due.is_some_and(|due| due > now)
                        || known.metered
                        || known.grouped
                        || known.key == METERED
                        || known.key.is_some_and(|key| {
                            // Also behind one that was cancelled meanwhile.
                            let behind = self.again.get(&key);
                            busy.contains(&key) || behind.is_some_and(|(_, due)| *due > now)
                        });
                    assert!(waits, "it could run");
                }
            }
            Popped::Message(entry, others) => {
                assert_eq!(others.expired, 0, "no deadlines");
                let known = self.inside.remove(&entry.message.id).expect("it is in");
                assert!(known.due.is_none_or(|due| due <= now), "too early");
                if let Some(key) = known.key {
                    assert!(!busy.contains(&key), "two of a key");
                    let first = self.again.get(&key);
                    let first = first.filter(|(id, _)| self.inside.contains_key(id));
                    assert!(first.is_none(), "one goes before it");
                    self.again.remove(&key);
                    if known.due.is_none() && !known.latest {
                        let before = self.begun.insert(key, entry.message.id);
                        assert!(before < Some(entry.message.id), "out of order");
                    }
                }
                // Nothing of a higher level that could have run was passed, unless it came too late for that.
                let is_one = known.key.is_none() && !known.metered && !known.grouped;
                if is_one && known.due.is_none() && !known.moved {
                    let passed = self.inside.iter().any(|(id, other)| {
                        let step = usize::try_from(super::STEP).expect("small");
                        other.level > known.level
                            && other.key.is_none()
                            && !other.metered
                            && !other.grouped
                            && other.due.is_none()
                            && !other.moved
                            && *id < entry.message.id + (other.level - known.level) * step
                            && *id < entry.message.id
                    });
                    assert!(!passed, "a more urgent one that was there before");
                }
                let grouped = known.grouped;
                assert!(grouped || others.entries.is_empty(), "it is of no group");
                assert!(others.entries.len() < SIZE, "too many");
                if grouped && known.due.is_none() {
                    self.begins_of_group(entry.message.id);
                }
                self.running.push((entry, known.key));
                for other in others.entries {
                    let known = self.inside.remove(&other.message.id).expect("it is in");
                    assert!(known.grouped && known.due.is_none_or(|due| due <= now));
                    if known.due.is_none() {
                        self.begins_of_group(other.message.id);
                    }
                    self.running.push((other, None));
                }
            }
        }
    }

    /// The next message, as a mailbox takes it.
    fn popped(&mut self) -> Popped<Note> {
        loop {
            self.outside.look(&mut self.order, &self.clock);
            let mut leftovers = Vec::new();
            let mut punctual = Punctual::new(&self.clock);
            let popped =
                self.order
                    .pop_to_run(None, &mut punctual, &mut self.tombstones, &mut leftovers);
            self.leftovers(leftovers);
            if !matches!(popped, Popped::Nothing) || self.outside.queue.is_empty() {
                return popped;
            }
        }
    }

    fn begins_of_group(&mut self, id: usize) {
        let before = self.begun_of_group.replace(id);
        assert!(self.shuffled || before < Some(id), "out of order");
    }

    fn take(&mut self, at: usize) -> Option<(Entry<Note>, Option<u8>)> {
        (!self.running.is_empty()).then(|| self.running.swap_remove(at % self.running.len()))
    }

    fn do_step(&mut self, step: &Step) {
        match step {
            Step::Push { .. } => self.push(step),
            Step::Pop => self.pop(),
            Step::End(at) => {
                if let Some((entry, _)) = self.take(*at)
                    && let Some(key) = entry.message.plan.as_ref().and_then(Plan::lane)
                {
                    self.order.ended(key, None);
                }
            }
            Step::PutBack(at) => {
                if let Some((entry, key)) = self.take(*at) {
                    assert!(entry.message.call.state().unclaim());
                    let plan = entry.message.plan.as_ref();
                    let known = Known {
                        call: entry.message.call.clone(),
                        key,
                        latest: plan.is_some_and(|plan| plan.more().replaces.is_some()),
                        metered: plan.is_some_and(|plan| plan.more().meter.is_some()),
                        grouped: plan.is_some_and(|plan| plan.more().group.is_some()),
                        // It has slept, if it was to.
                        due: plan.and_then(|plan| plan.more().not_before).map(|_| 0),
                        level: plan.map(|plan| plan.priority).unwrap_or_default().level(),
                        moved: true,
                    };
                    if let Some(key) = key {
                        self.begun.remove(&key);
                    }
                    self.shuffled |= known.grouped;
                    // Two of the latest may be in now, which is no concern of this test.
                    if !known.latest {
                        self.inside.insert(entry.message.id, known);
                        self.order.put_back(entry);
                    } else if let Some(key) = plan.and_then(Plan::lane) {
                        self.order.ended(key, None);
                    }
                }
            }
            Step::Again(at, wait) => {
                if let Some((entry, key)) = self.take(*at) {
                    assert!(entry.message.call.state().unclaim());
                    let plan = entry.message.plan.as_ref();
                    let due = self.now() + wait;
                    let known = Known {
                        call: entry.message.call.clone(),
                        key,
                        latest: plan.is_some_and(|plan| plan.more().replaces.is_some()),
                        metered: plan.is_some_and(|plan| plan.more().meter.is_some()),
                        grouped: plan.is_some_and(|plan| plan.more().group.is_some()),
                        due: Some(due),
                        level: plan.map(|plan| plan.priority).unwrap_or_default().level(),
                        moved: true,
                    };
                    // As of `PutBack`.
                    if known.latest {
                        if let Some(key) = plan.and_then(Plan::lane) {
                            self.order.ended(key, None);
                        }
                        return;
                    }
                    if let Some(key) = key {
                        self.begun.remove(&key);
                        self.again.insert(key, (entry.message.id, due));
                    }
                    self.shuffled |= known.grouped;
                    self.inside.insert(entry.message.id, known);
                    self.order.again(entry, Timestamp::from_nanos(due), true);
                }
            }
            Step::Tick(by) => {
                self.clock.0.fetch_add(*by, Ordering::Relaxed);
            }
            Step::Cancel(pick) => {
                let waiting = self.inside.keys().copied().collect::<Vec<_>>();
                if !waiting.is_empty() {
                    let id = waiting[pick % waiting.len()];
                    let known = self.inside.remove(&id).expect("it is in");
                    assert!(known.call.state().claim_removed(false));
                    self.buried.insert(id);
                    self.tombstones += 1;
                }
            }
            Step::Oldest => {
                self.outside.bring_in(&mut self.order);
                let mut leftovers = Vec::new();
                let oldest = self.order.pop_oldest(&mut self.tombstones, &mut leftovers);
                self.leftovers(leftovers);
                match oldest {
                    Some(entry) => assert!(self.inside.remove(&entry.message.id).is_some()),
                    None => assert!(self.inside.is_empty()),
                }
            }
            Step::Sweep => {
                self.outside.bring_in(&mut self.order);
                let mut leftovers = Vec::new();
                self.order.sweep(&mut leftovers);
                self.leftovers(leftovers);
                assert!(self.buried.is_empty(), "all that are gone");
                self.tombstones = 0;
            }
            Step::TakeDelayed => {
                self.outside.bring_in(&mut self.order);
                let mut leftovers = Vec::new();
                for entry in self
                    .order
                    .take_delayed(&mut self.tombstones, &mut leftovers)
                {
                    let known = self.inside.remove(&entry.message.id).expect("it is in");
                    assert!(known.due.is_some(), "it was delayed");
                }
                self.leftovers(leftovers);
            }
        }
        let len = self.order.len() + self.outside.queue.len();
        assert_eq!(len, self.inside.len() + self.buried.len());
        assert_eq!(self.tombstones, self.buried.len());
    }
}

#[test]
fn one_message_in_64_is_timed_as_in_the_other_order_until_a_turn_was_slow() {
    let mailbox = Mailbox::new(1_000, Overflow::Block, 1, Gate::Open, Limits::default());
    let clock = Hand::default();
    let post = |id| {
        let note = Note {
            id,
            call: Arc::default(),
            plan: Some(Plan::default()),
        };
        assert!(mailbox.try_post(note, &clock).is_ok());
    };
    // Each one is over at once, so handlers are quick.
    let quick = Times::default();
    let mut last: Option<Entry<Note>> = None;
    let mut take_is_timed = || {
        let finished = last.as_ref().map(|entry| Finished {
            message: &entry.message,
            outcome: Outcome::Completed,
            timed: entry.posted_at.map(|_| &quick),
        });
        let mut next = Tray::empty();
        drop(mailbox.take(finished.as_ref(), true, &mut next, &clock));
        last = next.take();
        last.as_ref().expect("a message").posted_at.is_some()
    };
    for id in 0..20 {
        post(id);
        take_is_timed();
    }
    (20..660).for_each(post);
    let timed = (20..660).filter(|_| take_is_timed());
    assert_eq!(timed.count(), 10);
    let later = Timestamp::from_nanos(64 * 10_000 - 1);
    clock.0.store(later.nanos(), Ordering::Relaxed);
    mailbox.end_turn(Timestamp::from_nanos(0), 64, &clock);
    (0..64).for_each(post);
    let timed = (0..64).filter(|_| take_is_timed());
    assert_eq!(timed.count(), 1);
    clock.0.store(later.nanos() + 1, Ordering::Relaxed);
    mailbox.end_turn(Timestamp::from_nanos(0), 64, &clock);
    // It is seen as the next ones are taken in.
    post(0);
    take_is_timed();
    (0..64).for_each(post);
    let timed = (0..64).filter(|_| take_is_timed());
    assert_eq!(timed.count(), 64);
}

/// A mailbox whose messages are over at once.
struct Quick {
    mailbox: Mailbox<Note>,
    clock: Hand,
    last: Option<Entry<Note>>,
    /// What the messages take that are timed.
    timed: Option<Times>,
}

impl Quick {
    fn new() -> Self {
        Self {
            mailbox: Mailbox::new(10_000, Overflow::Block, 1, Gate::Open, Limits::default()),
            clock: Hand::default(),
            last: None,
            timed: None,
        }
    }

    fn post(&self, id: usize, change: impl FnOnce(&mut Plan)) {
        let mut plan = Plan::default();
        change(&mut plan);
        let note = Note {
            id,
            call: Arc::default(),
            plan: Some(plan),
        };
        assert!(self.mailbox.try_post(note, &self.clock).is_ok());
    }

    fn take(&mut self) -> usize {
        let finished = self.last.as_ref().map(|entry| Finished {
            message: &entry.message,
            outcome: Outcome::Completed,
            timed: self.timed.as_ref().filter(|_| entry.posted_at.is_some()),
        });
        let mut next = Tray::empty();
        let clock = &self.clock;
        drop(self.mailbox.take(finished.as_ref(), true, &mut next, clock));
        self.last = next.take();
        self.last.as_ref().expect("a message").message.id
    }
}

#[test]
fn an_urgent_message_goes_next_and_behind_a_few_quick_ones_where_they_keep_coming() {
    let mut quick = Quick::new();
    let another = |quick: &Quick| quick.post(0, |plan| plan.priority = Priority::LOWEST);
    // How many less urgent ones go before it; there are always 20, and none of them is old.
    let behind = |quick: &mut Quick, id| {
        quick.post(id, |plan| plan.priority = Priority::HIGHEST);
        let passed = (0..).take_while(|_| quick.take() != id).count();
        (0..passed).for_each(|_| another(quick));
        passed
    };
    let rest = |quick: &mut Quick, times| {
        for _ in 0..times {
            assert_eq!(quick.take(), 0);
            another(quick);
        }
    };
    (0..20).for_each(|_| another(&quick));
    rest(&mut quick, 1);
    for id in 1..=usize::try_from(LOOKS).expect("few") {
        assert_eq!(behind(&mut quick, id), 0);
        rest(&mut quick, 2);
    }
    let late = (100..200).map(|id| behind(&mut quick, id)).max();
    assert!(late > Some(0) && late <= Some(16), "{late:?}");
    // The worker looks again after a calm.
    rest(&mut quick, 64);
    assert_eq!(behind(&mut quick, 200), 0);
}

#[test]
fn a_key_is_as_urgent_as_its_first_message() {
    let mut quick = Quick::new();
    let of_key = |quick: &Quick, id, priority| {
        quick.post(id, |plan| {
            plan.key = Some(Key::from("k"));
            plan.priority = priority;
        });
    };
    of_key(&quick, 0, Priority::HIGHEST);
    of_key(&quick, 1, Priority::LOWEST);
    of_key(&quick, 2, Priority::HIGHEST);
    (3..5).for_each(|id| quick.post(id, |_| {}));
    let taken: Vec<_> = (0..5).map(|_| quick.take()).collect();
    assert_eq!(taken, [0, 3, 4, 1, 2]);
}

#[test]
fn a_close_has_what_is_behind_a_message_that_rests_run_at_once() {
    let mut quick = Quick::new();
    quick.post(0, |plan| plan.key = Some(Key::from("k")));
    assert_eq!(quick.take(), 0);
    let entry = quick.last.take().expect("it runs");
    let later = Timestamp::from_nanos(1_000_000_000);
    let told = quick.mailbox.again(entry, later, Whence::Turn);
    assert!(told.is_ok());
    let rests = |quick: &Quick| {
        let take = quick
            .mailbox
            .take(None, true, &mut Tray::empty(), &quick.clock);
        assert_eq!(take.found, TakeResult::Idle, "the token was given back");
    };
    rests(&quick);
    quick.post(1, |plan| plan.key = Some(Key::from("k")));
    rests(&quick);
    let swept = quick.mailbox.close(Rest::Run, None, true);
    assert_eq!((swept.leftovers.len(), swept.activate), (1, 1));
    assert_eq!(quick.take(), 1);
}

#[test]
fn a_key_is_as_urgent_as_what_is_left_of_it() {
    let fill = || {
        let quick = Quick::new();
        for (id, priority) in [(0, Priority::LOWEST), (1, Priority::HIGHEST)] {
            quick.post(id, |plan| {
                plan.key = Some(Key::from("k"));
                plan.priority = priority;
            });
        }
        (2..4).for_each(|id| quick.post(id, |plan| plan.priority = Priority::of::<1>()));
        quick
    };
    // The oldest of the least urgent goes where one must: that of the key, and then those without one.
    let quick = fill();
    let mut outbox = quick.mailbox.outbox.0.lock();
    let mut inbox = quick.mailbox.inbox.0.lock();
    let oldest = std::iter::from_fn(|| outbox.order.pop_oldest(&mut inbox.queue, &mut Vec::new()));
    let oldest: Vec<_> = oldest.map(|entry| entry.message.id).collect();
    assert_eq!(oldest, [0, 2, 3, 1]);
}

#[test]
fn keys_are_served_in_turns_also_where_not_all_is_taken_in_at_once() {
    let mut quick = Quick::new();
    // Many of one key before one each of others.
    for id in 0..1_100 {
        let key = if id < 1_000 { 0 } else { id };
        quick.post(id, |plan| plan.key = Some(Key::from(key as u64)));
    }
    let taken = (0..202).map(|_| quick.take());
    assert_eq!(taken.filter(|id| *id >= 1_000).count(), 100);
}

#[test]
fn a_key_with_many_messages_does_not_hold_up_one_that_comes_after_many_keys() {
    let mut quick = Quick::new();
    let of_key =
        |quick: &Quick, id, key: u64| quick.post(id, |plan| plan.key = Some(Key::from(key)));
    // More keys than are taken in at once, and enough of each.
    (0..80).for_each(|id| of_key(&quick, id, id as u64 / 10));
    (80..720).for_each(|id| of_key(&quick, id, 8));
    of_key(&quick, 720, 9);
    let before = (0..).take_while(|_| quick.take() != 720).count();
    assert!(before <= 60, "{before} went before it");
}

#[test]
fn of_many_that_are_queued_before_the_first_has_run_few_are_timed() {
    let clock = Hand::default();
    let queue = |gate| {
        let mailbox = Mailbox::new(10_000, Overflow::Block, 1, gate, Limits::default());
        for id in 0..64 + 64 * 10 {
            let note = Note {
                id,
                call: Arc::default(),
                plan: None,
            };
            assert!(mailbox.try_post(note, &clock).is_ok());
        }
        let _ = mailbox.open();
        let mut batch = Vec::new();
        drop(mailbox.take_many((704, None), &mut batch, &clock));
        let timed = batch
            .iter()
            .filter(|bundle| bundle.first.posted_at.is_some());
        timed.count()
    };
    assert_eq!((queue(Gate::Paused), queue(Gate::Open)), (74, 74));
}

#[test]
fn a_batch_is_as_quick_as_each_of_its_messages() {
    let mut quick = Quick::new();
    let times = |micros| Times {
        run: Duration::from_micros(micros),
        together: 64,
        ..Times::default()
    };
    let mut timed_of = |times: Times| {
        quick.timed = Some(times);
        // As many as it takes for the average, and for what comes in then to be timed by that.
        for id in 0..256 {
            quick.post(id, |_| {});
            quick.take();
        }
        (0..64).for_each(|id| quick.post(id, |_| {}));
        let timed = (0..64).filter(|_| {
            quick.take();
            quick
                .last
                .as_ref()
                .is_some_and(|last| last.posted_at.is_some())
        });
        timed.count()
    };
    assert_eq!(timed_of(times(64 * 9)), 1);
    assert_eq!(timed_of(times(64 * 11)), 64);
}

#[test]
fn messages_that_run_elsewhere_are_all_timed_while_they_are_slow() {
    let mailbox = Mailbox::new(1_000, Overflow::Block, 1, Gate::Open, Limits::default());
    let clock = Hand::default();
    let timed = |ran| {
        let run = |id| {
            let note = Note {
                id,
                call: Arc::default(),
                plan: None,
            };
            assert!(mailbox.try_post(note, &clock).is_ok());
            let mut batch = Vec::new();
            drop(mailbox.take_many((1, None), &mut batch, &clock));
            mailbox.handed_over();
            let bundle = batch.pop().expect("a message");
            let finished = Finished {
                message: &bundle.first.message,
                outcome: Outcome::Completed,
                timed: None,
            };
            drop(mailbox.finish_delivery(&finished, (ran, 1, None), false, None, &clock));
            bundle.first.posted_at.is_some()
        };
        (0..640).filter(|id| run(*id)).count()
    };
    assert_eq!(timed(Duration::from_millis(20)), 640);
    // Until the average is below the bound.
    let quick = timed(Duration::from_micros(1));
    assert!((10..=60).contains(&quick), "{quick}");
    // And until that is seen: with the next one that is taken in.
    let slow = timed(Duration::from_millis(20));
    assert!(slow >= 600, "{slow}");
}

proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn any_mix_of_plans_keeps_what_it_promises(steps in proptest::collection::vec(step(), 0..200)) {
        let mut run = Run::new();
        for step in &steps {
            run.do_step(step);
        }
        // All that is left comes out, and nothing is kept for it.
        for _ in 0..10_000 {
            if run.inside.is_empty() && run.running.is_empty() {
                break;
            }
            run.do_step(&Step::Pop);
            run.do_step(&Step::End(0));
            run.do_step(&Step::Tick(1));
        }
        run.do_step(&Step::Pop);
        run.do_step(&Step::Sweep);
        run.do_step(&Step::Tick(1_000_000));
        run.do_step(&Step::Pop);
        prop_assert!(run.inside.is_empty());
        prop_assert_eq!(run.order.units(), 0);
        prop_assert!(run.order.lanes.is_empty());
        prop_assert!(run.order.asleep.is_empty());
    }
}

#[path = "tests/keyed.rs"]
mod keyed;
