//! Random steps of a sender, a child and the thread that stops them, against a plain queue and what is on its way.
//!
//! Long because every step has its two halves here, what the model does and what the worker is asked to do.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;
use pytoweb_engine::testing::cases;
use pytoweb_engine::{
    Counters, DropReason, Failure, Outcome, Overflow, PostError, StopMode, Worker,
};

use crate::child::{Asked, Child, Note, Recalling, asked_note, counters, fresh, note, recall};
use crate::common::{HandClock, bounded, pool_with_clock};

const DROPPED_OLDEST: Failure = Failure::Dropped(DropReason::Oldest);
const DROPPED_NEWEST: Failure = Failure::Dropped(DropReason::Newest);

#[derive(Clone, Debug)]
enum Step {
    Start,
    /// With a reply or without; with a deadline or without.
    Post {
        asked: bool,
        deadline: Option<u64>,
    },
    PostMany(usize),
    Begin,
    Finish {
        completes: bool,
    },
    /// A thread looks for a message that is not there.
    Recall,
    /// Another thread does, and pauses between taking messages from the child and putting them back.
    Pull,
    PutBack,
    /// The child drops what it has not begun, but for the first.
    DropAhead,
    /// The child gives nothing back, or does again.
    Deaf(bool),
    /// Any message that was asked, wherever it is.
    Cancel(usize),
    Advance(u64),
    Close(StopMode),
    Terminate,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Start),
        12 => (any::<bool>(), proptest::option::of(1..6_u64))
            .prop_map(|(asked, deadline)| Step::Post { asked, deadline }),
        3 => (0..6_usize).prop_map(Step::PostMany),
        10 => Just(Step::Begin),
        8 => any::<bool>().prop_map(|completes| Step::Finish { completes }),
        3 => Just(Step::Recall),
        2 => Just(Step::Pull),
        3 => Just(Step::PutBack),
        1 => Just(Step::DropAhead),
        2 => any::<bool>().prop_map(Step::Deaf),
        4 => any::<usize>().prop_map(Step::Cancel),
        3 => (1..3_u64).prop_map(Step::Advance),
    ]
}

fn close() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Close(StopMode::Drain)),
        Just(Step::Close(StopMode::FinishRunning)),
        Just(Step::Close(StopMode::CancelQueued)),
        Just(Step::Terminate),
    ]
}

/// Steps, most of them between a start and an end.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let before = proptest::collection::vec(step(), 0..8);
    let between = proptest::collection::vec(step(), 0..60);
    let after = proptest::collection::vec(step(), 0..12);
    let last = proptest::collection::vec(step(), 0..6);
    (before, between, close(), after, close(), last).prop_map(
        |(before, between, close, after, again, last)| {
            let parts = [
                before,
                vec![Step::Start],
                between,
                vec![close],
                after,
                vec![again],
                last,
            ];
            parts.into_iter().flatten().collect()
        },
    )
}

/// A message, and what must have become of its reply, if it has one.
struct Fate {
    asked: Option<Asked>,
    deadline: Option<u64>,
    reply: Option<Result<u64, Failure>>,
}

/// What a worker and its child are: a queue, what is on its way, and the counters.
struct Model {
    window: usize,
    capacity: usize,
    overflow: Overflow,
    started: bool,
    closed: bool,
    /// What happens to queued messages, now that it is closed.
    failing: Option<Failure>,
    queue: VecDeque<u64>,
    /// What the child has of the present batch, and whether it has begun the first.
    way: VecDeque<u64>,
    begun: bool,
    /// What another thread has of it, that takes messages back.
    pulled: VecDeque<u64>,
    /// A thread takes messages back, so none are handed over.
    held: bool,
    /// A batch is on its way, or about to be.
    active: bool,
    deaf: bool,
    now: u64,
    fates: Vec<Fate>,
    /// Without those that are queued or running.
    counters: Counters,
}

impl Model {
    fn fate(&mut self, number: u64) -> &mut Fate {
        &mut self.fates[usize::try_from(number).expect("small")]
    }

    fn claimed(&self) -> usize {
        self.way.len() + self.pulled.len()
    }

    fn counters(&self) -> Counters {
        let running = self.claimed().min(1);
        let mut counters = self.counters;
        counters.running = running as u64;
        counters.queued = (self.queue.len() + self.claimed() - running) as u64;
        counters
    }

    /// One message has ended without a result.
    fn fail(&mut self, number: u64, failure: Failure) {
        let counters = &mut self.counters;
        match failure {
            Failure::Cancelled => counters.cancelled += 1,
            Failure::Expired => counters.expired += 1,
            DROPPED_OLDEST => counters.dropped_oldest += 1,
            DROPPED_NEWEST => counters.dropped_newest += 1,
            _ => counters.failed += 1,
        }
        self.settle(number, Err(failure));
    }

    fn settle(&mut self, number: u64, reply: Result<u64, Failure>) {
        let fate = self.fate(number);
        if fate.asked.is_some() {
            fate.reply.get_or_insert(reply);
        }
    }

    /// Another thread was first with the reply of a message that is on its way: why.
    fn given_up(&mut self, number: u64) -> Option<Failure> {
        match self.fate(number).reply {
            Some(Err(failure)) => Some(failure),
            _ => None,
        }
    }

    fn hand_over(&mut self, most: usize) {
        if !self.held {
            let count = most.min(self.queue.len());
            self.way.extend(self.queue.drain(..count));
        }
    }

    /// Hands over a batch, if none is on its way.
    fn dispatch(&mut self) {
        self.active |= self.started && !self.queue.is_empty();
        if self.active && self.claimed() == 0 {
            self.hand_over(self.window);
            self.active = self.held || !self.way.is_empty();
        }
    }

    /// A message of the batch has ended, or is elsewhere.
    fn leave(&mut self) {
        let left = self.claimed();
        if left == 0 {
            self.dispatch();
        } else if left <= self.window / 2 {
            self.hand_over(self.window - left);
        }
    }

    /// Says whether it went in; `Err` when it is closed.
    fn offer(&mut self, number: u64) -> Result<bool, ()> {
        if self.closed {
            return Err(());
        }
        let counters = self.counters();
        if counters.queued >= self.capacity as u64 {
            match self.overflow {
                Overflow::Block => return Ok(false),
                Overflow::Reject => {
                    self.counters.rejected += 1;
                    return Ok(false);
                }
                Overflow::DropNewest => {
                    self.counters.posted += 1;
                    self.fail(number, DROPPED_NEWEST);
                    return Ok(true);
                }
                Overflow::DropOldest => {
                    self.recall();
                    let oldest = self.queue.pop_front().expect("the child gives all back");
                    self.fail(oldest, DROPPED_OLDEST);
                }
            }
        }
        self.counters.posted += 1;
        self.queue.push_back(number);
        Ok(true)
    }

    fn put_back(&mut self, numbers: VecDeque<u64>) {
        for number in numbers.into_iter().rev() {
            match self.given_up(number).or(self.failing) {
                Some(failure) => self.fail(number, failure),
                None => self.queue.push_front(number),
            }
        }
    }

    /// What the child gives back.
    fn ahead(&mut self) -> VecDeque<u64> {
        if self.deaf || self.way.is_empty() {
            VecDeque::new()
        } else {
            self.way.split_off(1)
        }
    }

    fn recall(&mut self) {
        let ahead = self.ahead();
        self.put_back(ahead);
    }

    fn drop_ahead(&mut self) {
        if self.way.len() > 1 {
            self.pulled = self.way.split_off(1);
            while let Some(number) = self.pulled.pop_front() {
                self.counters.failed += 1;
                self.settle(number, Err(Failure::Stopped));
                self.leave();
            }
        }
    }

    /// The message that the child begins.
    fn begin(&mut self) -> Option<u64> {
        if self.begun {
            return None;
        }
        loop {
            let first = *self.way.front()?;
            let Some(failure) = self.given_up(first) else {
                self.begun = true;
                return Some(first);
            };
            self.way.pop_front();
            self.fail(first, failure);
            self.leave();
        }
    }

    /// The message that the child ends.
    fn finish(&mut self, completes: bool) -> Option<u64> {
        if !self.begun {
            return None;
        }
        let number = self.way.pop_front()?;
        self.begun = false;
        match self.given_up(number) {
            Some(failure) => self.fail(number, failure),
            None if completes => {
                self.counters.completed += 1;
                self.settle(number, Ok(number));
            }
            None => self.fail(number, Failure::Stopped),
        }
        self.leave();
        Some(number)
    }

    fn remove(&mut self, number: u64, failure: Failure) -> bool {
        let before = self.queue.len();
        self.queue.retain(|queued| *queued != number);
        let removed = self.queue.len() < before;
        if removed {
            self.fail(number, failure);
        }
        removed
    }

    fn is_claimed(&self, number: u64) -> bool {
        self.way.contains(&number) || self.pulled.contains(&number)
    }

    fn cancel(&mut self, number: u64) -> bool {
        if self.fate(number).reply.is_some() {
            return false;
        }
        if self.is_claimed(number) {
            self.recall();
        }
        if self.fate(number).reply.is_some() {
            // It failed as it came back: the worker was closed.
            return false;
        }
        if !self.remove(number, Failure::Cancelled) {
            // It runs, or cannot be had: it is counted at its end.
            self.settle(number, Err(Failure::Cancelled));
        }
        true
    }

    /// The messages that expire.
    fn advance(&mut self, seconds: u64) -> Vec<u64> {
        self.now += seconds;
        let due: Vec<u64> = (0..)
            .zip(&self.fates)
            .filter(|(_, fate)| {
                fate.reply.is_none() && fate.deadline.is_some_and(|at| at <= self.now)
            })
            .map(|(number, _)| number)
            .collect();
        if due.iter().any(|number| self.is_claimed(*number)) {
            self.recall();
        }
        for number in &due {
            if self.fate(*number).reply.is_some() {
                continue;
            }
            if !self.remove(*number, Failure::Expired) {
                self.settle(*number, Err(Failure::Expired));
            }
        }
        due
    }

    /// How many messages fail for it.
    fn close(&mut self, failure: Option<Failure>) -> usize {
        self.closed = true;
        let failure = failure.or((!self.started).then_some(Failure::Stopped));
        let Some(failure) = failure else {
            return 0;
        };
        self.failing = Some(failure);
        let queue = std::mem::take(&mut self.queue);
        for number in &queue {
            self.fail(*number, failure);
        }
        queue.len()
    }

    fn terminate(&mut self) {
        self.recall();
        self.close(Some(Failure::Stopped));
        let claimed: Vec<u64> = self.way.iter().chain(&self.pulled).copied().collect();
        for number in claimed {
            self.settle(number, Err(Failure::Stopped));
        }
    }
}

/// The worker beside its model.
struct Bench {
    worker: Worker<Child>,
    clock: std::sync::Arc<HandClock>,
    recalling: Option<Recalling>,
    model: Model,
}

impl Bench {
    fn child(&self) -> &Child {
        self.worker.handler()
    }

    /// A message that is about to be posted, and its number.
    fn next(&mut self, asked: bool) -> (u64, Note) {
        let number = self.model.fates.len() as u64;
        let (message, asked) = if asked {
            let (message, asked) = asked_note(number);
            (message, Some(asked))
        } else {
            (note(number), None)
        };
        self.model.fates.push(Fate {
            asked,
            deadline: None,
            reply: None,
        });
        (number, message)
    }

    /// A refused message is its sender's: it is not cancelled here.
    fn forget(&mut self, number: u64) {
        self.model.fate(number).asked = None;
    }

    fn post(&mut self, asked: bool, deadline: Option<u64>) {
        let (number, message) = self.next(asked);
        let expected = self.model.offer(number);
        match self.worker.try_post(message) {
            Ok(()) => assert_eq!(expected, Ok(true)),
            Err(PostError::Full(_)) => assert_eq!(expected, Ok(false)),
            Err(error) => assert_eq!(expected, Err(()), "{error:?}"),
        }
        if expected != Ok(true) {
            self.forget(number);
        }
        self.model.dispatch();
        let now = self.model.now;
        let fate = self.model.fate(number);
        if let (Some(asked), Some(deadline), None) = (&fate.asked, deadline, fate.reply) {
            self.worker
                .set_deadline(&asked.ticket(), Duration::from_secs(deadline))
                .expect("a thread");
            fate.deadline = Some(now + deadline);
        }
    }

    fn post_many(&mut self, count: usize) {
        let mut batch = VecDeque::new();
        let mut refused = None;
        let mut accepted = 0;
        for _ in 0..count {
            let (number, message) = self.next(true);
            batch.push_back(message);
            if refused.is_none() {
                match self.model.offer(number) {
                    Ok(true) => {
                        let dropped = self.model.given_up(number) == Some(DROPPED_NEWEST);
                        accepted += usize::from(!dropped);
                        continue;
                    }
                    other => refused = Some(other),
                }
            }
            self.forget(number);
        }
        match self.worker.try_post_many(&mut batch) {
            Ok(went_in) => assert_eq!((went_in, refused), (accepted, None)),
            Err((went_in, error)) => {
                assert_eq!(went_in, accepted);
                let full = matches!(error, PostError::Full(()));
                assert_eq!(refused, Some(if full { Ok(false) } else { Err(()) }));
            }
        }
        self.model.dispatch();
    }

    fn cancel(&mut self, pick: usize) {
        let asked: Vec<(u64, Asked)> = (0..)
            .zip(&self.model.fates)
            .filter_map(|(number, fate)| Some((number, fate.asked.clone()?)))
            .collect();
        if let Some((number, asked)) = asked.get(pick % asked.len().max(1)) {
            let expected = self.model.cancel(*number);
            let cancelled = self.worker.address().cancel(&asked.ticket());
            assert_eq!(cancelled, expected, "message {number}");
        }
    }

    fn close(&mut self, mode: StopMode) {
        let failure = match mode {
            StopMode::Drain => None,
            StopMode::FinishRunning => Some(Failure::Stopped),
            StopMode::CancelQueued => Some(Failure::Cancelled),
        };
        if failure.is_some() {
            self.model.recall();
        }
        let failed = self.model.close(failure);
        assert!(self.worker.close(mode) >= failed);
    }

    fn take(&mut self, step: &Step) {
        // Where the child keeps messages, the oldest may be none that can be dropped.
        let keeps = self.model.overflow != Overflow::DropOldest;
        match step {
            Step::Start => {
                let starts = self.worker.start().expect("a thread");
                assert_eq!(starts, !self.model.closed);
                self.model.started |= starts;
                self.model.dispatch();
            }
            Step::Post { asked, deadline } => self.post(*asked, *deadline),
            Step::PostMany(count) => self.post_many(*count),
            Step::Begin => assert_eq!(self.child().begin(), self.model.begin()),
            Step::Finish { completes } => {
                if let Some(number) = self.model.finish(*completes) {
                    let outcome = if *completes {
                        Outcome::Completed
                    } else {
                        Outcome::Failed
                    };
                    self.child().finish(number, outcome);
                }
            }
            Step::Recall => {
                self.model.recall();
                recall(&self.worker);
            }
            Step::Pull if keeps => {
                if self.recalling.is_none() {
                    self.model.pulled = self.model.ahead();
                    self.model.held = true;
                    self.recalling = Some(Recalling::start(&self.worker));
                }
            }
            Step::Deaf(deaf) if keeps => {
                self.model.deaf = *deaf;
                self.child().set_deaf(*deaf);
            }
            Step::Pull | Step::Deaf(_) => {}
            Step::PutBack => {
                let pulled = std::mem::take(&mut self.model.pulled);
                self.model.put_back(pulled);
                self.model.held = false;
                self.model.dispatch();
                self.recalling = None;
            }
            Step::DropAhead => {
                self.model.drop_ahead();
                drop(self.child().pull());
            }
            Step::Cancel(pick) => self.cancel(*pick),
            Step::Advance(seconds) => {
                let due = self.model.advance(*seconds);
                self.clock.advance(Duration::from_secs(*seconds));
                self.worker.pool().expire_due();
                // The deadlines' own thread may be at it; the first of the two settles when all else is done.
                for number in due {
                    let fate = self.model.fate(number);
                    let asked = fate.asked.as_ref().expect("it has a deadline");
                    assert_eq!(Some(asked.reply()), fate.reply);
                }
            }
            Step::Close(mode) => self.close(*mode),
            Step::Terminate => {
                self.model.terminate();
                self.worker.terminate();
            }
        }
        self.check();
    }

    fn check(&self) {
        let model = &self.model;
        assert_eq!(counters(&self.worker), model.counters());
        assert_eq!(model.way, self.child().on_its_way());
        let idle = model.queue.is_empty() && !model.active;
        assert_eq!(self.worker.is_idle(), idle);
        for (number, fate) in model.fates.iter().enumerate() {
            if let Some(asked) = &fate.asked {
                assert_eq!(asked.now(), fate.reply, "message {number}");
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn agrees_with_a_model(
        window in 1..5_usize,
        capacity in 1..6_usize,
        overflow in proptest::sample::select(&Overflow::ALL[..]),
        steps in steps(),
    ) {
        bounded(move || {
            let (pool, clock) = pool_with_clock(1);
            let worker = fresh(&pool, window, capacity, overflow);
            let mut bench = Bench {
                worker,
                clock,
                recalling: None,
                model: Model {
                    window,
                    capacity,
                    overflow,
                    started: false,
                    closed: false,
                    failing: None,
                    queue: VecDeque::new(),
                    way: VecDeque::new(),
                    begun: false,
                    pulled: VecDeque::new(),
                    held: false,
                    active: false,
                    deaf: false,
                    now: 0,
                    fates: Vec::new(),
                    counters: Counters::default(),
                },
            };
            for step in &steps {
                bench.take(step);
            }
            for step in [Step::PutBack, Step::Close(StopMode::Drain)] {
                bench.take(&step);
            }
            while bench.model.claimed() > 0 {
                bench.take(&Step::Begin);
                bench.take(&Step::Finish { completes: true });
            }
            assert_eq!(bench.model.counters().queued, 0);
            pool.shutdown();
            pool.join();
        });
    }
}
