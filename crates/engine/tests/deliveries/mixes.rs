//! Random mixes of all that a message can ask for, with messages ahead: handed over, recalled, handed back, tried again and
//! lost with their child; against a list of what each message asked for and what became of it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use pytoweb_engine::testing::cases;
use pytoweb_engine::{
    Carrier, Clock, Delivery, DropReason, Failure, Group, Handled, Handler, Key, Message, Meter,
    Outcome, Overflow, Plan, PostError, Priority, Rate, ReplyState, Shared, Slot, StopMode, Ticket,
    Wake, Worker, WorkerOptions,
};

use crate::common::{HandClock, LONG, assert_adds_up, bounded, pool_with_clock};

/// How many messages of the group run together.
const SIZE: usize = 3;

/// The key of which some messages wait for a meter; others do so without a key.
const METERED: Option<u8> = Some(2);

/// So many messages begin against the meter at once, and then one in so many seconds.
const BURST: u32 = 2;
const INTERVAL: u64 = 3;

/// What becomes of a message that has run.
#[derive(Clone, Copy, Debug)]
enum End {
    Completes,
    Fails,
    /// It is tried again after so many seconds.
    Again(u64),
}

#[derive(Clone, Debug)]
enum Step {
    Post(Wishes),
    /// Any of those that were handed over begins.
    Begin(usize),
    /// Any of those that have begun ends, and those that run with it.
    Finish(usize, [End; SIZE]),
    /// A cancel looks for a message that is not there.
    Recall,
    /// The child ends: what it has not begun goes back, but for what the next one is sent, and what it has begun ends so.
    Crash(End),
    Cancel(usize),
    Advance(u64),
}

/// What a message asks for.
#[derive(Clone, Debug)]
struct Wishes {
    priority: Option<u8>,
    key: Option<u8>,
    delay: Option<u64>,
    deadline: Option<u64>,
    /// It runs with others, and waits so long for them.
    grouped: Option<u64>,
    /// It replaces the queued one of its key that says so.
    latest: bool,
    /// It is counted against the meter.
    metered: bool,
}

impl Wishes {
    /// Whether a message that waits for the meter may go before it.
    const fn is_behind_metered(&self) -> bool {
        match self.key {
            None => self.metered,
            Some(key) => matches!(METERED, Some(metered) if metered == key),
        }
    }
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        3 => Just(End::Completes),
        1 => Just(End::Fails),
        2 => (0..4_u64).prop_map(End::Again),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let wishes = (
        proptest::option::weighted(0.3, 0..10_u8),
        proptest::option::weighted(0.6, 0..3_u8),
        proptest::option::weighted(0.2, 0..5_u64),
        proptest::option::weighted(0.2, 1..8_u64),
        proptest::option::weighted(0.3, 0..3_u64),
        proptest::bool::weighted(0.3),
        proptest::bool::weighted(0.2),
    );
    let post = wishes.prop_map(
        |(priority, key, delay, deadline, grouped, latest, metered)| {
            Step::Post(Wishes {
                priority,
                key,
                delay,
                deadline,
                grouped,
                latest: latest && key.is_some() && key != METERED,
                metered: metered && (key.is_none() || key == METERED),
            })
        },
    );
    prop_oneof![
        12 => post,
        10 => any::<usize>().prop_map(Step::Begin),
        10 => (any::<usize>(), proptest::array::uniform3(end()))
            .prop_map(|(pick, ends)| Step::Finish(pick, ends)),
        3 => Just(Step::Recall),
        1 => end().prop_map(Step::Crash),
        3 => any::<usize>().prop_map(Step::Cancel),
        4 => (0..3_u64).prop_map(Step::Advance),
    ]
}

#[derive(Debug, Default)]
struct Reply(Slot<(), Shared>);

impl Ticket for Reply {
    fn state(&self) -> &ReplyState {
        self.0.state()
    }

    fn fail(&self, queued: bool, failure: Failure) -> bool {
        self.0.fail(queued, failure)
    }
}

#[derive(Debug)]
struct Note {
    number: usize,
    reply: Arc<Reply>,
    plan: Option<Plan>,
    settled: bool,
}

impl Message for Note {
    fn ticket(&self) -> Option<Arc<dyn Ticket>> {
        Some(self.reply.clone())
    }

    fn state(&self) -> Option<&ReplyState> {
        Some(self.reply.state())
    }

    fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()
    }
}

struct Flight {
    begun: bool,
    delivery: Delivery<Played>,
}

/// Hands everything over to children that the test plays: what they have is one list, and any of it may begin next.
struct Played {
    window: usize,
    flights: Mutex<Vec<Flight>>,
}

impl Played {
    fn flights(&self) -> MutexGuard<'_, Vec<Flight>> {
        self.flights.lock().expect("not poisoned")
    }

    /// Takes out what was not begun, but for the first of each batch.
    fn pull(&self) -> Vec<Delivery<Self>> {
        let mut flights = self.flights();
        let mut pulled = Vec::new();
        for flight in std::mem::take(&mut *flights) {
            let is_first = !flights
                .iter()
                .any(|kept: &Flight| kept.delivery.is_of_same_batch(&flight.delivery));
            if flight.begun || is_first {
                flights.push(flight);
            } else {
                pulled.push(flight.delivery);
            }
        }
        pulled
    }
}

impl Handler for Played {
    type Message = Note;

    fn handle(&self, _: &mut Note) -> Handled<Self> {
        unreachable!("everything is handed over")
    }

    fn finish(&self, message: Note) -> Wake {
        if message.settled && message.reply.0.publish() {
            return Wake::threads_of(message.reply);
        }
        Wake::none()
    }

    fn carrier(&self) -> Option<&dyn Carrier<Self>> {
        Some(self)
    }

    fn abandon(&self, message: Note, failure: Failure) {
        let _ = message.reply.fail(true, failure) || message.reply.fail(false, failure);
    }
}

impl Carrier<Self> for Played {
    fn window(&self) -> usize {
        self.window
    }

    fn carry(&self, deliveries: Vec<Delivery<Self>>) {
        let flights = deliveries.into_iter().map(|mut delivery| {
            // Three places, as it comes.
            let number = delivery.message().map_or(0, |message| message.number);
            delivery.set_spot(u32::try_from(number % 3).expect("small"));
            Flight {
                begun: false,
                delivery,
            }
        });
        self.flights().extend(flights);
    }

    fn recall(&self) {
        Delivery::put_back(self.pull());
    }

    fn stop(&self, _: Option<&Arc<dyn Ticket>>) {}
}

/// What is known of a message.
struct Known {
    reply: Arc<Reply>,
    wishes: Wishes,
    /// Before this it is not to begin.
    due: u64,
    alone_at: u64,
}

impl Known {
    fn is_done(&self) -> bool {
        self.reply.state().is_done()
    }
}

struct Bench {
    worker: Worker<Played>,
    clock: Arc<HandClock>,
    now: u64,
    group: Arc<Group>,
    meter: Arc<Meter>,
    all: Vec<Known>,
    concurrency: usize,
    completed: u64,
    retried: u64,
    replaced: u64,
    /// Messages that began against the meter.
    metered: u64,
}

impl Bench {
    fn child(&self) -> &Played {
        self.worker.handler()
    }

    fn post(&mut self, wishes: &Wishes) {
        let at = |seconds| self.clock.now().after(Duration::from_secs(seconds));
        let priority = wishes.priority.and_then(Priority::new);
        let mut plan = Plan::default();
        plan.priority = priority.unwrap_or_default();
        plan.key = wishes.key.map(|key| Key::new(&[key]));
        plan.more_mut().not_before = wishes.delay.map(at);
        plan.more_mut().group = wishes.grouped.map(|_| self.group.clone());
        let alone = wishes.grouped.map(|wait| wishes.delay.unwrap_or(0) + wait);
        plan.more_mut().alone_at = alone.map(at);
        let of_latest = wishes.key.filter(|_| wishes.latest);
        plan.more_mut().replaces = of_latest.map(|key| Key::new(&[key, 1]));
        plan.more_mut().meter = wishes.metered.then(|| self.meter.clone());
        let is_plain = priority.is_none()
            && wishes.key.is_none()
            && wishes.delay.is_none()
            && wishes.grouped.is_none()
            && !wishes.metered;
        let replaceable = self.replaceable(wishes);
        let reply = Arc::new(Reply::default());
        let note = Note {
            number: self.all.len(),
            reply: reply.clone(),
            plan: (!is_plain).then_some(plan),
            settled: false,
        };
        match self.worker.try_post(note) {
            Ok(()) => {}
            Err(PostError::Full(_)) => return,
            Err(error) => panic!("{error:?}"),
        }
        self.all.push(Known {
            reply: reply.clone(),
            wishes: wishes.clone(),
            due: self.now + wishes.delay.unwrap_or(0),
            alone_at: self.now + alone.unwrap_or(0),
        });
        // One that came back from the child may wait beside another: one goes.
        let is_gone = |number: &&usize| self.all[**number].is_done();
        let gone = replaceable.iter().filter(is_gone).count();
        assert_eq!(
            gone,
            usize::from(!replaceable.is_empty()),
            "of {replaceable:?}"
        );
        self.replaced += gone as u64;
        if let Some(deadline) = wishes.deadline {
            let ticket: Arc<dyn Ticket> = reply;
            let limit = Duration::from_secs(deadline);
            self.worker.set_deadline(&ticket, limit).expect("a thread");
        }
    }

    /// The messages that wait in the mailbox and that one with these wishes would replace.
    fn replaceable(&self, wishes: &Wishes) -> Vec<usize> {
        let flights = self.child().flights();
        let handed = flights.iter().flat_map(|flight| each(&flight.delivery));
        let handed: BTreeSet<usize> = handed.map(|note| note.number).collect();
        let is_one = |(number, known): &(usize, &Known)| {
            wishes.latest
                && known.wishes.latest
                && known.wishes.key == wishes.key
                && !known.is_done()
                && !handed.contains(number)
        };
        let all = self.all.iter().enumerate().filter(is_one);
        all.map(|(number, _)| number).collect()
    }

    fn begin(&mut self, pick: usize) {
        let mut flights = self.child().flights();
        let unbegun = flights
            .iter()
            .enumerate()
            .filter(|(_, flight)| !flight.begun);
        let unbegun: Vec<usize> = unbegun.map(|(index, _)| index).collect();
        if unbegun.is_empty() {
            return;
        }
        let flight = &mut flights[unbegun[pick % unbegun.len()]];
        if each(&flight.delivery).all(|note| note.reply.state().is_done()) {
            // A child passes those that no caller waits for.
            let index = unbegun[pick % unbegun.len()];
            let skipped = flights.remove(index).delivery;
            drop(flights);
            self.end(skipped, [End::Fails; SIZE]);
            return;
        }
        flight.begun = true;
        let numbers: Vec<usize> = each(&flight.delivery).map(|note| note.number).collect();
        drop(flights);
        for number in &numbers {
            let known = &self.all[*number];
            assert!(known.due <= self.now, "message {number} is too early");
            let is_before = |other: &(usize, &Known)| {
                other.1.wishes.key == known.wishes.key
                    && other.1.wishes.delay.is_none()
                    && !other.1.is_done()
                    && !numbers.contains(&other.0)
            };
            self.metered += u64::from(known.wishes.metered);
            // The latest one has the place of the one before.
            let in_order = known.wishes.delay.is_none() && !known.wishes.latest;
            if known.wishes.key.is_some() && in_order {
                let before = self.all[..*number].iter().enumerate();
                let mut before = before.filter(is_before).map(|(number, _)| number);
                assert_eq!(before.next(), None, "before {number}, of its key");
            }
        }
        let most = u64::from(BURST) + self.now / INTERVAL;
        assert!(self.metered <= most, "{} began, not {most}", self.metered);
    }

    fn finish(&mut self, pick: usize, ends: [End; SIZE]) {
        let mut flights = self.child().flights();
        let begun = flights
            .iter()
            .enumerate()
            .filter(|(_, flight)| flight.begun);
        let begun: Vec<usize> = begun.map(|(index, _)| index).collect();
        if begun.is_empty() {
            return;
        }
        let delivery = flights.remove(begun[pick % begun.len()]).delivery;
        drop(flights);
        self.end(delivery, ends);
    }

    fn end(&mut self, mut delivery: Delivery<Played>, ends: [End; SIZE]) {
        let companions = delivery.take_companions();
        for (delivery, how) in std::iter::once(delivery).chain(companions).zip(ends) {
            self.end_one(delivery, how);
        }
    }

    fn end_one(&mut self, delivery: Delivery<Played>, how: End) {
        let mut delivery = delivery;
        let number = delivery.message().expect("there").number;
        if let End::Again(wait) = how {
            match delivery.again(Duration::from_secs(wait)) {
                None => {
                    self.retried += 1;
                    self.all[number].due = self.now + wait;
                    // It waits for no company again.
                    self.all[number].alone_at = 0;
                    return;
                }
                Some(back) => delivery = back,
            }
        }
        let note = delivery.message_mut().expect("there");
        let reply = match how {
            End::Completes => Ok(()),
            _ => Err(Failure::Stopped),
        };
        note.settled = note.reply.0.settle(reply);
        let outcome = if note.settled {
            match how {
                End::Completes => Outcome::Completed,
                _ => Outcome::Failed,
            }
        } else {
            assert!(
                note.reply.state().wait(Some(LONG)),
                "settled, not published"
            );
            match note.reply.0.get() {
                Some(Err(Failure::Cancelled)) => Outcome::Cancelled,
                Some(Err(Failure::Expired)) => Outcome::Expired,
                _ => Outcome::Failed,
            }
        };
        self.completed += u64::from(outcome == Outcome::Completed);
        delivery.finish(outcome, Some(Duration::from_millis(1)));
    }

    fn cancel(&mut self, pick: usize) {
        let Some(number) = pick.checked_rem(self.all.len()) else {
            return;
        };
        let known = &self.all[number];
        let was_done = known.is_done();
        let ticket: Arc<dyn Ticket> = known.reply.clone();
        let cancelled = self.worker.address().cancel(&ticket);
        assert_eq!(cancelled, !was_done, "message {number}");
        let is_cancelled = matches!(known.reply.0.get(), Some(Err(Failure::Cancelled)));
        assert!(!cancelled || is_cancelled);
    }

    fn do_step(&mut self, step: &Step) {
        match step {
            Step::Post(wishes) => self.post(wishes),
            Step::Begin(pick) => self.begin(*pick),
            Step::Finish(pick, ends) => self.finish(*pick, *ends),
            Step::Recall => {
                let other = Arc::new(Reply::default());
                assert!(other.state().claim());
                let ticket: Arc<dyn Ticket> = other;
                let _ = self.worker.address().cancel(&ticket);
            }
            Step::Crash(end) => {
                Delivery::put_back(self.child().pull());
                loop {
                    let mut flights = self.child().flights();
                    let Some(index) = flights.iter().position(|flight| flight.begun) else {
                        break;
                    };
                    let lost = flights.remove(index).delivery;
                    drop(flights);
                    self.end(lost, [*end; SIZE]);
                }
            }
            Step::Cancel(pick) => self.cancel(*pick),
            Step::Advance(seconds) => {
                self.now += seconds;
                self.clock.advance(Duration::from_secs(*seconds));
                self.worker.pool().expire_due();
            }
        }
    }

    /// What is wrong now, if anything is. The thread of the timers may be at it, and then it is over in a moment.
    fn wrong(&self) -> Option<String> {
        let counters = self.worker.stats().counters;
        let flights = self.child().flights();
        let handed: BTreeSet<usize> = flights
            .iter()
            .flat_map(|flight| each(&flight.delivery))
            .map(|note| note.number)
            .collect();
        let is_in = |(number, known): &(usize, &Known)| !known.is_done() || handed.contains(number);
        let inside = self.all.iter().enumerate().filter(is_in).count() as u64;
        let counts = (counters.posted, counters.queued + counters.running);
        if counts != (self.all.len() as u64, inside) {
            return Some(format!(
                "{inside} are in, of {}: {counters:?}",
                self.all.len()
            ));
        }
        let made = (counters.completed, counters.retried, counters.replaced);
        let known = (self.completed, self.retried, self.replaced);
        if made != known {
            return Some(format!("{known:?}: {counters:?}"));
        }
        if counters.running > self.concurrency as u64 && flights.iter().all(|flight| !flight.begun)
        {
            return Some(format!("more run than may: {counters:?}"));
        }
        let mut keys = BTreeSet::new();
        for flight in &*flights {
            let first = flight.delivery.message().map(|note| note.number);
            let key = first.and_then(|number| self.all[number].wishes.key);
            if key.is_some_and(|key| !keys.insert(key)) {
                return Some(format!("two of the key {key:?} are on their way"));
            }
        }
        if flights.is_empty() {
            let waits = |known: &Known| {
                // Also behind one that is gone, until its time.
                let behind = self.all.iter().any(|other| {
                    let is_before = if known.wishes.key.is_some() {
                        other.wishes.key == known.wishes.key
                    } else {
                        let of_group =
                            |one: &Known| one.wishes.key.is_none() && one.wishes.grouped.is_some();
                        of_group(known) && of_group(other)
                    };
                    is_before && (other.due > self.now || other.alone_at > self.now)
                });
                let for_meter = known.wishes.is_behind_metered();
                known.due > self.now || known.alone_at > self.now || behind || for_meter
            };
            let ready = |(_, known): &(usize, &Known)| !known.is_done() && !waits(known);
            if let Some((number, _)) = self.all.iter().enumerate().find(ready) {
                let known = &self.all[number];
                return Some(format!(
                    "message {number} could run at {}: {:?}, {} {}; {counters:?}",
                    self.now, known.wishes, known.due, known.alone_at
                ));
            }
        }
        None
    }

    fn check(&self) {
        let until = Instant::now() + Duration::from_secs(2);
        while let Some(wrong) = self.wrong() {
            assert!(Instant::now() < until, "{wrong}");
            thread::yield_now();
        }
        assert_adds_up(&self.worker.stats().counters);
    }

    /// Every reply stands, and the counters say the same.
    fn check_end(&self) {
        let counters = self.worker.stats().counters;
        let count = |wanted: Option<Failure>| {
            let replies = self.all.iter().map(|known| known.reply.0.get());
            let of = replies.filter(|reply| reply.expect("it stands").err() == wanted);
            of.count() as u64
        };
        assert_eq!(counters.completed, count(None));
        assert_eq!(counters.cancelled, count(Some(Failure::Cancelled)));
        assert_eq!(counters.expired, count(Some(Failure::Expired)));
        assert_eq!(counters.failed, count(Some(Failure::Stopped)));
        let replaced = Failure::Dropped(DropReason::Replaced);
        assert_eq!(counters.replaced, count(Some(replaced)));
        assert_eq!((counters.queued, counters.running), (0, 0));
    }
}

/// The messages of a delivery and of those that run with it.
fn each(delivery: &Delivery<Played>) -> impl Iterator<Item = &Note> {
    let all = std::iter::once(delivery).chain(delivery.companions());
    all.filter_map(Delivery::message)
}

proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn any_mix_with_messages_ahead_keeps_what_it_promises(
        window in 1..5_usize,
        concurrency in 1..4_usize,
        capacity in 4..20_usize,
        steps in proptest::collection::vec(step(), 0..80),
    ) {
        bounded(move || {
            let (pool, clock) = pool_with_clock(1);
            let options = WorkerOptions {
                capacity,
                concurrency,
                overflow: Overflow::Reject,
                ..WorkerOptions::default()
            };
            let played = Played { window, flights: Mutex::default() };
            let worker = Worker::new("w", played, options, &pool);
            assert!(worker.start().expect("a thread"));
            let rate = Rate::new(1, Duration::from_secs(INTERVAL), BURST).expect("a rate");
            let mut bench = Bench {
                worker,
                clock,
                now: 0,
                group: Arc::new(Group::new(SIZE, Duration::ZERO)),
                meter: Arc::new(Meter::new(rate)),
                all: Vec::new(),
                concurrency,
                completed: 0,
                retried: 0,
                replaced: 0,
                metered: 0,
            };
            for step in &steps {
                bench.do_step(step);
                bench.check();
            }
            // What waits for a time of its own fails, and the rest runs.
            bench.worker.close(StopMode::Drain);
            let until = Instant::now() + LONG;
            while bench.all.iter().any(|known| !known.is_done()) || !bench.child().flights().is_empty() {
                assert!(Instant::now() < until, "{:?}", bench.worker.stats().counters);
                bench.do_step(&Step::Begin(0));
                bench.do_step(&Step::Finish(0, [End::Completes; SIZE]));
                bench.do_step(&Step::Advance(1));
            }
            bench.worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
            bench.check_end();
            pool.shutdown();
            pool.join();
        });
    }
}
