//! The mailbox, one thread, against a model that is a plain queue and a few numbers.
//!
//! Past 600 lines, because the model, the operations and what each of them promises are read together.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::{
    Entered, Finished, Gate, Leftover, Limits, LinePlace, Mailbox, Parking, Refused, Rest, Settled,
    TakeResult, Told, Tray,
};
use crate::clock::{Clock, MonotonicClock, Timestamp};
use crate::message::{Message, Ticket};
use crate::outcome::{DropReason, Failure, Outcome};
use crate::policy::Overflow;
use crate::reply::{ReplyState, Shared, Slot};
use crate::stats::Counters;
use crate::testing::cases;

/// Says what it is told.
#[derive(Debug, Default)]
struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// No code is to look at it.
#[derive(Debug)]
struct Hidden;

impl Clock for Hidden {
    fn now(&self) -> Timestamp {
        panic!("some code looked at the clock")
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
    call: Option<Arc<Call>>,
}

impl Message for Note {
    fn ticket(&self) -> Option<Arc<dyn Ticket>> {
        self.call
            .as_ref()
            .map(|call| -> Arc<dyn Ticket> { call.clone() })
    }

    fn state(&self) -> Option<&ReplyState> {
        self.call.as_ref().map(|call| call.0.state())
    }
}

#[derive(Clone, Debug)]
enum Step {
    Open,
    Post {
        asked: bool,
    },
    /// One that expires when the clock has ticked so often.
    PostFor {
        ticks: u64,
    },
    /// Only the thread that takes messages comes by the deadlines.
    Tick,
    PostMany {
        count: usize,
    },
    /// A sender that waits.
    Park,
    /// One that waits no longer.
    Withdraw {
        pick: usize,
    },
    /// A turn takes its next message, after the one it has ended.
    Take {
        turn: usize,
        completes: bool,
    },
    /// A turn looks, with its budget used up.
    Look {
        turn: usize,
    },
    /// Some of the asked messages, by their numbers, wherever they are.
    Remove {
        picks: Vec<usize>,
        expired: bool,
    },
    Lend(bool),
    Close(Option<Failure>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => Just(Step::Open),
        10 => any::<bool>().prop_map(|asked| Step::Post { asked }),
        4 => (0..4_u64).prop_map(|ticks| Step::PostFor { ticks }),
        2 => Just(Step::Tick),
        4 => (0..6_usize).prop_map(|count| Step::PostMany { count }),
        6 => Just(Step::Park),
        2 => any::<usize>().prop_map(|pick| Step::Withdraw { pick }),
        12 => (any::<usize>(), any::<bool>())
            .prop_map(|(turn, completes)| Step::Take { turn, completes }),
        2 => any::<usize>().prop_map(|turn| Step::Look { turn }),
        4 => (proptest::collection::vec(any::<usize>(), 1..4), any::<bool>())
            .prop_map(|(picks, expired)| Step::Remove { picks, expired }),
        1 => any::<bool>().prop_map(Step::Lend),
    ]
}

fn close() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Close(None)),
        Just(Step::Close(Some(Failure::Stopped))),
        Just(Step::Close(Some(Failure::Cancelled))),
    ]
}

/// Steps, most of them before the mailbox closes.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let before = proptest::collection::vec(step(), 0..120);
    let after = proptest::collection::vec(step(), 0..20);
    (before, close(), after).prop_map(|(mut steps, close, after)| {
        steps.push(close);
        steps.extend(after);
        steps
    })
}

/// What a mailbox is: a queue, who runs, and the counters.
struct Model {
    capacity: usize,
    overflow: Overflow,
    gate: Gate,
    limit: usize,
    lent: usize,
    queue: VecDeque<usize>,
    /// Before it.
    line: VecDeque<usize>,
    deadlines: BTreeMap<usize, u64>,
    counters: Counters,
    /// Removed in place, and not come back as leftovers yet.
    buried: BTreeMap<usize, Failure>,
    fates: BTreeSet<usize>,
}

struct Run {
    mailbox: Mailbox<Note>,
    model: Model,
    calls: Vec<(usize, Arc<Call>)>,
    parked: BTreeMap<usize, Arc<LinePlace<Note>>>,
    /// The message that each turn runs; one turn for each token.
    turns: Vec<Option<Note>>,
    next_id: Cell<usize>,
    clock: Hand,
}

impl Run {
    fn new(capacity: usize, overflow: Overflow, limit: usize) -> Self {
        Self {
            mailbox: Mailbox::new(capacity, overflow, limit, Gate::Paused, Limits::default()),
            model: Model {
                capacity,
                overflow,
                gate: Gate::Paused,
                limit,
                lent: 0,
                queue: VecDeque::new(),
                line: VecDeque::new(),
                deadlines: BTreeMap::new(),
                counters: Counters::default(),
                buried: BTreeMap::new(),
                fates: BTreeSet::new(),
            },
            calls: Vec::new(),
            parked: BTreeMap::new(),
            turns: Vec::new(),
            next_id: Cell::new(0),
            clock: Hand::default(),
        }
    }

    fn note(&mut self, asked: bool) -> Note {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        let call = asked.then(Arc::<Call>::default);
        if let Some(call) = &call {
            self.calls.push((id, call.clone()));
        }
        Note { id, call }
    }

    fn tokens(&mut self, count: usize) {
        for _ in 0..count {
            self.turns.push(None);
        }
        // There may be more when a lent one has not been given back yet; but none is added to them.
        assert!(count == 0 || self.turns.len() <= self.model.limit);
    }

    /// Every leftover was removed before, or is in `expected`, in that order.
    fn leftovers(&mut self, leftovers: Vec<Leftover<Note>>, expected: &[(usize, Failure)]) {
        let mut expected = expected.iter();
        for (message, failure) in leftovers {
            if let Some(buried) = self.model.buried.remove(&message.id) {
                assert_eq!(failure, buried);
            } else {
                assert_eq!(Some(&(message.id, failure)), expected.next());
                assert!(self.model.fates.insert(message.id), "two fates");
                if let Some(call) = &message.call {
                    assert!(call.0.fail(false, failure), "its mailbox has claimed it");
                }
            }
        }
        assert_eq!(expected.next(), None);
    }

    /// What the model does with one post: whether it is refused, and what is dropped.
    fn model_post(&mut self, id: usize) -> (bool, Option<(usize, Failure)>) {
        let model = &mut self.model;
        if model.gate == Gate::Closed {
            return (false, None);
        }
        let mut dropped = None;
        if model.queue.len() == model.capacity {
            match model.overflow {
                Overflow::Block => return (false, None),
                Overflow::Reject => {
                    model.counters.rejected += 1;
                    return (false, None);
                }
                Overflow::DropNewest => {
                    model.counters.posted += 1;
                    model.counters.dropped_newest += 1;
                    return (true, Some((id, Failure::Dropped(DropReason::Newest))));
                }
                Overflow::DropOldest => {
                    model.counters.dropped_oldest += 1;
                    dropped = model
                        .queue
                        .pop_front()
                        .map(|oldest| (oldest, Failure::Dropped(DropReason::Oldest)));
                }
            }
        }
        model.queue.push_back(id);
        model.counters.posted += 1;
        (true, dropped)
    }

    fn now(&self) -> u64 {
        self.clock.0.load(Ordering::Relaxed)
    }

    fn post(&mut self, asked: bool, ticks: Option<u64>) {
        let note = self.note(asked);
        let id = note.id;
        if let Some((call, ticks)) = note.call.as_ref().zip(ticks) {
            let at = self.now() + ticks;
            call.state().set_deadline(Timestamp::from_nanos(at));
            self.model.deadlines.insert(id, at);
        }
        let (accepted, dropped) = self.model_post(id);
        match self.mailbox.try_post(note, &self.clock) {
            Ok(posted) => {
                assert!(accepted);
                self.leftovers(posted.leftovers, dropped.as_slice());
                self.tokens(posted.activate);
            }
            Err(Refused::Full(message)) => {
                assert!(!accepted && self.model.gate != Gate::Closed);
                assert_eq!(message.id, id);
                self.forget(id);
            }
            Err(Refused::TooLarge(_) | Refused::Shed(_)) => unreachable!("it has no such limits"),
            Err(Refused::Closed(message)) => {
                assert!(!accepted && self.model.gate == Gate::Closed);
                assert_eq!(message.id, id);
                self.forget(id);
            }
        }
    }

    /// A refused message is its sender's: the model does not cancel it.
    fn forget(&mut self, id: usize) {
        self.calls.retain(|(known, _)| *known != id);
    }

    fn post_many(&mut self, count: usize) {
        let mut notes: VecDeque<Note> = (0..count).map(|_| self.note(true)).collect();
        let mut dropped = Vec::new();
        let mut accepted = 0;
        for note in &notes {
            let (in_it, out) = self.model_post(note.id);
            dropped.extend(out);
            if !in_it {
                break;
            }
            accepted += 1;
        }
        let (posted, refused) = self.mailbox.try_post_many(&mut notes, &self.clock);
        assert_eq!(notes.len(), count - accepted);
        assert_eq!(
            refused,
            (accepted < count).then_some(if self.model.gate == Gate::Closed {
                Refused::Closed(())
            } else {
                Refused::Full(())
            })
        );
        for note in &notes {
            self.forget(note.id);
        }
        self.leftovers(posted.leftovers, &dropped);
        self.tokens(posted.activate);
    }

    fn park(&mut self) {
        let note = self.note(false);
        let id = note.id;
        let model = &mut self.model;
        let full = model.queue.len() >= model.capacity;
        match self.mailbox.park(note, None, &self.clock) {
            Parking::Closed(message) => {
                assert_eq!((message.id, model.gate), (id, Gate::Closed));
            }
            Parking::Posted(tokens) => {
                assert!(!full && model.gate != Gate::Closed);
                model.queue.push_back(id);
                model.counters.posted += 1;
                self.tokens(tokens);
            }
            Parking::Parked(place) => {
                assert!(full && model.gate != Gate::Closed);
                model.line.push_back(id);
                self.parked.insert(id, place);
            }
        }
    }

    fn withdraw(&mut self, pick: usize) {
        if self.parked.is_empty() {
            return;
        }
        let id = *self
            .parked
            .keys()
            .nth(pick % self.parked.len())
            .expect("one of them");
        let place = self.parked.remove(&id).expect("one of them");
        let place_in_line = self.model.line.iter().position(|known| *known == id);
        let (message, _) = self.mailbox.withdraw(&place);
        assert_eq!(message.map(|message| message.id), place_in_line.map(|_| id));
        if let Some(index) = place_in_line {
            self.model.line.remove(index);
        }
    }

    /// Those that may go in are in, in order, and their senders are told; the others wait.
    fn told(&mut self, told: Told<Note>) {
        let model = &mut self.model;
        if model.gate == Gate::Closed {
            for id in model.line.drain(..) {
                let place = self.parked.remove(&id).expect("it was parked");
                let Entered::Refused(Some(message)) = place.entered() else {
                    panic!("it is not refused");
                };
                assert_eq!(message.id, id);
            }
        }
        while model.queue.len() < model.capacity
            && let Some(id) = model.line.pop_front()
        {
            model.queue.push_back(id);
            model.counters.posted += 1;
            let place = self.parked.remove(&id).expect("it was parked");
            assert!(matches!(place.entered(), Entered::In));
            assert!(place.wait(None));
        }
        for id in &model.line {
            assert!(matches!(self.parked[id].entered(), Entered::Waits));
        }
        if let Some(news) = told.news() {
            let tokens = news.activate;
            news.tell();
            self.tokens(tokens);
        }
    }

    fn take(&mut self, turn: usize, completes: bool, may_run: bool) {
        if self.turns.is_empty() {
            return;
        }
        let turn = turn % self.turns.len();
        let ended = self.turns[turn].take();
        let outcome = if completes {
            Outcome::Completed
        } else {
            Outcome::Failed
        };
        if let Some(message) = &ended {
            assert!(self.model.fates.insert(message.id), "two fates");
            self.model.counters.running -= 1;
            self.model.counters.count(outcome);
            if let Some(call) = &message.call {
                assert!(call.0.settle(Ok(())));
                call.0.publish();
            }
        }
        let finished = ended.as_ref().map(|message| Finished {
            message,
            outcome,
            timed: None,
        });
        let mut next = Tray::empty();
        let take = self
            .mailbox
            .take(finished.as_ref(), may_run, &mut next, &self.clock);
        let now = self.now();
        let late = self
            .model
            .queue
            .front()
            .copied()
            .filter(|id| may_run && self.model.deadlines.get(id).is_some_and(|at| *at <= now));
        // A token beyond those that may run takes only what is in the outbox already.
        let expected = late
            .filter(|_| take.found == TakeResult::Expired || self.turns.len() <= self.model.limit);
        assert_eq!(take.found == TakeResult::Expired, expected.is_some());
        if let Some(id) = expected {
            self.model.queue.pop_front();
            self.model.counters.expired += 1;
            self.leftovers(take.leftovers, &[(id, Failure::Expired)]);
        } else {
            self.leftovers(take.leftovers, &[]);
        }
        match take.found {
            TakeResult::Next => {
                let entry = next.take().expect("it was found");
                assert!(may_run);
                assert_eq!(Some(entry.message.id), self.model.queue.pop_front());
                self.model.counters.running += 1;
                self.turns[turn] = Some(entry.message);
            }
            TakeResult::Last => unreachable!("there is none"),
            TakeResult::More => assert!(!may_run),
            TakeResult::Expired => assert!(next.message.is_none()),
            TakeResult::Idle => {
                assert!(
                    self.model.queue.is_empty() || self.turns.len() > self.model.limit,
                    "{:?} wait",
                    self.model.queue
                );
                if take.publishing {
                    assert!(!self.mailbox.is_settled(Settled::Idle));
                    self.mailbox.published();
                }
                self.turns.swap_remove(turn);
            }
        }
        self.told(take.told);
    }

    fn remove(&mut self, picks: &[usize], expired: bool) {
        if self.calls.is_empty() {
            return;
        }
        let picked: BTreeMap<usize, Arc<Call>> = picks
            .iter()
            .map(|pick| self.calls[pick % self.calls.len()].clone())
            .collect();
        let tickets: Vec<Arc<dyn Ticket>> = picked
            .values()
            .map(|call| call.clone() as Arc<dyn Ticket>)
            .collect();
        let removal = self.mailbox.remove(tickets, expired);
        let failure = if expired {
            Failure::Expired
        } else {
            Failure::Cancelled
        };
        let mut removed = 0;
        for (id, call) in &picked {
            let Some(place) = self.model.queue.iter().position(|queued| queued == id) else {
                continue;
            };
            self.model.queue.remove(place);
            assert!(self.model.fates.insert(*id), "two fates");
            self.model.buried.insert(*id, failure);
            if expired {
                self.model.counters.expired += 1;
            } else {
                self.model.counters.cancelled += 1;
            }
            assert!(call.0.fail(false, failure));
            removed += 1;
        }
        assert_eq!(removal.removed.len(), removed);
        assert_eq!(removal.elsewhere.len(), picked.len() - removed);
        self.leftovers(removal.leftovers, &[]);
        self.told(removal.told);
    }

    fn lend(&mut self, more: bool) {
        if more {
            let before = self.turns.len();
            self.model.limit += 1;
            self.model.lent += 1;
            let tokens = self.mailbox.lend(true);
            self.tokens(tokens);
            let may = self.model.gate != Gate::Paused && before < self.model.limit;
            assert!(may || tokens == 0);
            // A removed message may still have an entry, and get a token, which is given back.
            assert!(!may || tokens > 0 || self.model.queue.is_empty());
        } else if self.model.lent > 0 {
            assert_eq!(self.mailbox.lend(false), 0);
            self.model.limit -= 1;
            self.model.lent -= 1;
        }
    }

    fn close(&mut self, failure: Option<Failure>) {
        let failure = match failure {
            None if self.model.gate == Gate::Paused => Some(Failure::Stopped),
            other => other,
        };
        self.model.gate = Gate::Closed;
        let mut expected = Vec::new();
        if let Some(failure) = failure {
            for id in self.model.queue.drain(..) {
                expected.push((id, failure));
                if failure == Failure::Cancelled {
                    self.model.counters.cancelled += 1;
                } else {
                    self.model.counters.failed += 1;
                }
            }
        }
        let swept = self
            .mailbox
            .close(failure.map_or(Rest::Run, Rest::Fail), None, true);
        self.leftovers(swept.leftovers, &expected);
        self.told(swept.told);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Open => {
                let tokens = self.mailbox.open();
                assert_eq!(tokens.is_none(), self.model.gate == Gate::Closed);
                if self.model.gate == Gate::Paused {
                    self.model.gate = Gate::Open;
                }
                self.tokens(tokens.unwrap_or(0));
            }
            Step::Post { asked } => self.post(*asked, None),
            Step::PostFor { ticks } => self.post(true, Some(*ticks)),
            Step::Tick => {
                self.clock.0.fetch_add(1, Ordering::Relaxed);
            }
            Step::PostMany { count } => self.post_many(*count),
            Step::Take { turn, completes } => self.take(*turn, *completes, true),
            Step::Look { turn } => self.take(*turn, true, false),
            Step::Park if self.model.overflow == Overflow::Block => self.park(),
            Step::Park => {}
            Step::Withdraw { pick } => self.withdraw(*pick),
            Step::Remove { picks, expired } => self.remove(picks, *expired),
            Step::Lend(more) => self.lend(*more),
            Step::Close(failure) => self.close(*failure),
        }
        self.check();
    }

    fn check(&self) {
        let model = &self.model;
        let counters = self.mailbox.snapshot(&MonotonicClock::new(), true).counters;
        let queued = model.queue.len() as u64;
        assert_eq!(
            counters,
            Counters {
                queued,
                ..model.counters
            }
        );
        assert_eq!(
            counters.posted,
            counters.completed
                + counters.failed
                + counters.dropped()
                + counters.cancelled
                + counters.expired
                + counters.queued
                + counters.running
        );
        assert!(model.queue.len() <= model.capacity);
        if model.gate != Gate::Paused && !model.queue.is_empty() {
            assert!(!self.turns.is_empty(), "messages, and no turn to run them");
        }
        if self.turns.is_empty() {
            assert_eq!(
                self.mailbox.is_settled(Settled::Idle),
                model.queue.is_empty()
            );
        } else {
            assert!(!self.mailbox.is_settled(Settled::Idle));
        }
    }

    /// Runs what is left. Every message that was let in has had one fate.
    fn end(&mut self) {
        while !self.turns.is_empty() {
            self.take(0, true, true);
            self.check();
        }
        assert!(self.mailbox.is_settled(Settled::Ended));
        assert_eq!(self.mailbox.gate(), (Gate::Closed, true));
        assert!(
            self.model.buried.is_empty(),
            "forgotten: {:?}",
            self.model.buried
        );
        let counters = self.mailbox.snapshot(&MonotonicClock::new(), true).counters;
        assert_eq!(counters.posted, self.model.fates.len() as u64);
        for (id, call) in &self.calls {
            assert!(call.0.state().is_done(), "message {id} was never settled");
        }
    }
}

fn policies() -> impl Strategy<Value = Overflow> {
    proptest::sample::select(Overflow::ALL.as_slice())
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn it_does_what_a_plain_queue_does(
        capacity in 1..6_usize,
        overflow in policies(),
        limit in 1..4_usize,
        steps in steps(),
    ) {
        let mut run = Run::new(capacity, overflow, limit);
        for step in &steps {
            run.step(step);
        }
        run.end();
    }
}

#[test]
fn a_message_without_a_deadline_costs_no_look_at_the_clock() {
    // But for one for each batch that is handed over.
    let mut run = Run::new(10, Overflow::Reject, 1);
    run.step(&Step::Open);
    for asked in [true, false, true] {
        run.step(&Step::Post { asked });
    }
    let mut next = Tray::empty();
    assert_eq!(
        run.mailbox.take(None, true, &mut next, &Hidden).found,
        TakeResult::Next
    );
    let mut batch = Vec::new();
    assert_eq!(
        run.mailbox
            .take_many((1, None), &mut batch, &Hand::default())
            .found,
        TakeResult::Next
    );
    let mut behind = Vec::new();
    drop(run.mailbox.take_ahead((1, None), &mut behind, &Hidden));
    assert_eq!((batch.len(), behind.len()), (1, 1));
}
