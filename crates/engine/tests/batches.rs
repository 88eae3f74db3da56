//! Messages of a group, which run together.

mod common;

use std::mem;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::{
    Asked, Gate, HandClock, Job, LONG, Out, assert_adds_up, bounded, occupy, pool, pool_with_clock,
    worker,
};
use pytoweb_engine::{
    Clock, Companions, Failure, Group, Handled, Handler, Key, Meter, Outcome, Plan, Pool, Rate,
    StopMode, Suspension, Wake, Worker, WorkerOptions,
};

/// What [`Together`] does with messages that run together.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Way {
    #[default]
    Finish,
    Forget,
    Panic,
    Suspend,
}

type Suspended = Arc<Mutex<Vec<(Suspension<Together>, Companions<Together>)>>>;

/// Runs groups as one: the numbers that their messages' closures give are written down as one list, and are the replies.
#[derive(Default)]
struct Together {
    seen: Arc<Mutex<Vec<Vec<u64>>>>,
    way: Way,
    suspended: Suspended,
    entered: Gate,
}

impl Together {
    fn run(&self, jobs: Vec<&mut Job>) -> Vec<Outcome> {
        let values = jobs.into_iter().map(|job| (job.value(), job));
        let (values, outcomes): (Vec<_>, Vec<_>) = values
            .map(|(value, job)| (value, job.settle(value)))
            .unzip();
        self.seen.lock().expect("not poisoned").push(values);
        outcomes
    }
}

impl Handler for Together {
    type Message = Job;

    fn handle(&self, message: &mut Job) -> Handled<Self> {
        let outcomes = self.run(vec![message]);
        Handled::Done(outcomes[0])
    }

    fn handle_together(
        &self,
        message: &mut Job,
        mut companions: Companions<Self>,
    ) -> Handled<Self> {
        match self.way {
            Way::Finish => {
                let jobs = std::iter::once(message).chain(companions.messages_mut());
                let outcomes = self.run(jobs.collect());
                companions.finish(&outcomes[1..]);
                Handled::Done(outcomes[0])
            }
            Way::Forget => {
                drop(companions);
                Handled::Done(message.settle(7))
            }
            Way::Panic => panic!("on purpose"),
            Way::Suspend => {
                let suspended = self.suspended.clone();
                let entered = self.entered.clone();
                Handled::Suspend(Box::new(move |suspension| {
                    let mut suspended = suspended.lock().expect("not poisoned");
                    suspended.push((suspension, companions));
                    entered.open();
                }))
            }
        }
    }

    fn finish(&self, message: Job) -> Wake {
        message.publish()
    }

    fn abandon(&self, message: Job, failure: Failure) {
        message.abandon(failure);
    }
}

type Grouped = Worker<Together>;

fn started(pool: &Pool, handler: Together) -> Grouped {
    let worker = Worker::new("w", handler, WorkerOptions::default(), pool);
    assert!(worker.start().expect("a thread"));
    worker
}

fn group(size: usize) -> Arc<Group> {
    Arc::new(Group::new(size, Duration::ZERO))
}

fn of(group: &Arc<Group>) -> Plan {
    let mut plan = Plan::default();
    plan.more_mut().group = Some(group.clone());
    plan
}

/// The plan of a message that waits for company, from now on.
fn waiting(group: &Arc<Group>, clock: &HandClock) -> Plan {
    let mut plan = of(group);
    plan.more_mut().alone_at = Some(clock.now().after(group.max_wait()));
    plan
}

fn ask<H: Handler<Message = Job>>(worker: &Worker<H>, number: u64, plan: Option<Plan>) -> Asked {
    let (job, asked) = Job::ask(move || Out::Value(number));
    let job = match plan {
        Some(plan) => job.planned(plan),
        None => job,
    };
    worker.post(job, Some(LONG)).expect("posted");
    asked
}

/// Posts a job on which the worker waits, and returns once it does.
fn busy(worker: &Grouped) -> Gate {
    let (gate, entered) = (Gate::new(), Gate::new());
    let (inside, enters) = (gate.clone(), entered.clone());
    let job = Job::ask(move || {
        enters.open();
        inside.pass();
        Out::Value(0)
    });
    worker.post(job.0, Some(LONG)).expect("posted");
    entered.pass();
    gate
}

/// What ran together, apart from the first message of [`busy`].
fn seen(worker: &Grouped) -> Vec<Vec<u64>> {
    let seen = mem::take(&mut *worker.handler().seen.lock().expect("not poisoned"));
    seen.into_iter().filter(|values| values != &[0]).collect()
}

fn drained(worker: &Grouped) -> Vec<Vec<u64>> {
    worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
    assert_adds_up(&worker.stats().counters);
    seen(worker)
}

#[test]
fn queued_messages_of_a_group_run_together_and_others_keep_their_order() {
    bounded(|| {
        let pool = pool(1);
        let worker = started(&pool, Together::default());
        let group = group(3);
        let gate = busy(&worker);
        let asked: Vec<Asked> = (1..=10)
            .map(|number| ask(&worker, number, (number % 2 == 1).then(|| of(&group))))
            .collect();
        gate.open();
        for (asked, number) in asked.iter().zip(1..) {
            assert_eq!(asked.reply(), Ok(number));
        }
        assert_eq!(
            drained(&worker),
            [
                vec![1, 3, 5],
                vec![2],
                vec![4],
                vec![6],
                vec![8],
                vec![10],
                vec![7, 9]
            ]
        );
    });
}

#[test]
fn a_group_larger_than_its_mailbox_runs_once_that_is_full() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let options = WorkerOptions {
            capacity: 4,
            ..WorkerOptions::default()
        };
        let worker = Worker::new("w", Together::default(), options, &pool);
        worker.start().expect("a thread");
        let group = Arc::new(Group::new(9, LONG));
        let asked: Vec<Asked> = (1..=4)
            .map(|number| ask(&worker, number, Some(waiting(&group, &clock))))
            .collect();
        for (asked, number) in asked.iter().zip(1..) {
            assert_eq!(asked.reply(), Ok(number));
        }
        // There is room again, so the next one waits.
        let next = ask(&worker, 5, Some(waiting(&group, &clock)));
        assert_eq!(next.now(), None);
        assert_eq!(drained(&worker), [vec![1, 2, 3, 4], vec![5]]);
        assert_eq!(next.reply(), Ok(5));
    });
}

#[test]
fn a_handler_without_groups_runs_them_one_by_one_in_order() {
    bounded(|| {
        let pool = pool(1);
        let worker = worker(&pool, "w");
        let gate = occupy(&worker);
        let group = group(4);
        let order = Arc::new(Mutex::new(Vec::new()));
        for number in 0..20 {
            let order = order.clone();
            let job = Job::ask(move || {
                order.lock().expect("not poisoned").push(number);
                Out::Value(number)
            });
            worker
                .post(job.0.planned(of(&group)), Some(LONG))
                .expect("posted");
        }
        gate.open();
        worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
        let order = order.lock().expect("not poisoned");
        assert_eq!(*order, (0..20).collect::<Vec<u64>>());
        let counters = worker.stats().counters;
        assert_eq!((counters.completed, counters.running), (21, 0));
        assert_adds_up(&counters);
    });
}

#[test]
fn the_first_one_waits_for_company_until_there_is_enough_or_its_time_has_come() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let worker = started(&pool, Together::default());
        let group = Arc::new(Group::new(3, Duration::from_secs(10)));
        let first = ask(&worker, 1, Some(waiting(&group, &clock)));
        // Others are not held up, and the worker has looked at the first one when they are over.
        assert_eq!(ask(&worker, 100, None).reply(), Ok(100));
        let second = ask(&worker, 2, Some(waiting(&group, &clock)));
        assert_eq!(ask(&worker, 101, None).reply(), Ok(101));
        assert_eq!((first.now(), second.now()), (None, None));
        assert_eq!(worker.stats().counters.queued, 2);
        let third = ask(&worker, 3, Some(waiting(&group, &clock)));
        assert_eq!(third.reply(), Ok(3));
        assert_eq!(first.reply(), Ok(1));
        let late = ask(&worker, 4, Some(waiting(&group, &clock)));
        assert_eq!(ask(&worker, 102, None).reply(), Ok(102));
        assert_eq!(late.now(), None);
        clock.advance(Duration::from_secs(10));
        pool.clock_moved();
        assert_eq!(late.reply(), Ok(4));
        let expected = [vec![100], vec![101], vec![1, 2, 3], vec![102], vec![4]];
        assert_eq!(drained(&worker), expected);
    });
}

#[test]
fn a_stop_waits_for_no_company() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let worker = started(&pool, Together::default());
        let group = Arc::new(Group::new(3, Duration::from_secs(10)));
        let asked = ask(&worker, 1, Some(waiting(&group, &clock)));
        assert_eq!(ask(&worker, 100, None).reply(), Ok(100));
        assert_eq!(drained(&worker), [vec![100], vec![1]]);
        assert_eq!(asked.reply(), Ok(1));
    });
}

#[test]
fn a_cancelled_or_expired_one_is_not_among_those_that_run() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let worker = started(&pool, Together::default());
        let group = group(8);
        let gate = busy(&worker);
        let asked: Vec<Asked> = (1..=6)
            .map(|number| ask(&worker, number, Some(of(&group))))
            .collect();
        assert!(worker.address().cancel(&asked[0].ticket()));
        assert!(worker.address().cancel(&asked[3].ticket()));
        for late in [1, 4] {
            worker
                .set_deadline(&asked[late].ticket(), Duration::from_secs(1))
                .expect("watched");
        }
        // Not told of the time: the worker finds the deadlines passed.
        clock.advance(Duration::from_secs(2));
        gate.open();
        assert_eq!(drained(&worker), [vec![3, 6]]);
        let replies: Vec<_> = asked.iter().map(Asked::reply).collect();
        let (cancelled, expired) = (Err(Failure::Cancelled), Err(Failure::Expired));
        assert_eq!(
            replies,
            [cancelled, expired, Ok(3), cancelled, expired, Ok(6)]
        );
        let counters = worker.stats().counters;
        assert_eq!((counters.cancelled, counters.expired), (2, 2));
    });
}

#[test]
fn companions_that_are_forgotten_or_whose_handler_panics_fail() {
    for (way, first, others) in [
        (Way::Forget, Ok(7), Err(Failure::Stopped)),
        (Way::Panic, Err(Failure::Panicked), Err(Failure::Panicked)),
    ] {
        bounded(move || {
            let pool = pool(1);
            let handler = Together {
                way,
                ..Together::default()
            };
            let worker = started(&pool, handler);
            let gate = busy(&worker);
            let group = group(3);
            let asked: Vec<Asked> = (1..=3)
                .map(|number| ask(&worker, number, Some(of(&group))))
                .collect();
            gate.open();
            assert_eq!(asked[0].reply(), first);
            assert_eq!((asked[1].reply(), asked[2].reply()), (others, others));
            assert_eq!(ask(&worker, 5, None).reply(), Ok(5));
            assert!(worker.wait_idle(Some(LONG)).expect("no cycle"));
            let counters = worker.stats().counters;
            assert_eq!(counters.running, 0);
            assert_adds_up(&counters);
        });
    }
}

#[test]
fn a_group_that_is_suspended_keeps_the_worker_until_it_ends() {
    bounded(|| {
        let pool = pool(1);
        let handler = Together {
            way: Way::Suspend,
            ..Together::default()
        };
        let worker = started(&pool, handler);
        let gate = busy(&worker);
        let group = group(3);
        let asked: Vec<Asked> = (1..=3)
            .map(|number| ask(&worker, number, Some(of(&group))))
            .collect();
        let after = ask(&worker, 9, None);
        gate.open();
        worker.handler().entered.pass();
        let suspended = worker.handler().suspended.clone();
        let (mut suspension, mut companions) = suspended
            .lock()
            .expect("not poisoned")
            .pop()
            .expect("it is there");
        let counters = worker.stats().counters;
        assert_eq!((counters.running, counters.queued), (3, 1));
        // One that runs can be asked to stop.
        assert!(!worker.address().cancel(&asked[1].ticket()));
        let outcomes: Vec<_> = companions.messages_mut().map(|job| job.settle(8)).collect();
        companions.finish(&outcomes);
        assert_eq!((asked[1].reply(), asked[2].reply()), (Ok(8), Ok(8)));
        assert_eq!((asked[0].now(), after.now()), (None, None));
        let outcome = suspension.message_mut().expect("it is there").settle(8);
        suspension.finish(outcome);
        assert_eq!((asked[0].reply(), after.reply()), (Ok(8), Ok(9)));
        drained(&worker);
    });
}

#[test]
fn a_key_has_groups_of_its_own_and_runs_one_at_a_time() {
    bounded(|| {
        let pool = pool(1);
        let worker = started(&pool, Together::default());
        let group = group(10);
        let gate = busy(&worker);
        for (number, key) in [(1, 0), (2, 1), (3, 0), (4, 1), (5, 0)] {
            let mut plan = of(&group);
            plan.key = Some(Key::new(&[key]));
            ask(&worker, number, Some(plan));
        }
        // One without a group breaks off what runs together: the key's order counts.
        let mut other = Plan::default();
        other.key = Some(Key::new(&[0]));
        ask(&worker, 6, Some(other));
        let mut plan = of(&group);
        plan.key = Some(Key::new(&[0]));
        ask(&worker, 7, Some(plan));
        gate.open();
        assert_eq!(
            drained(&worker),
            [vec![1, 3, 5], vec![2, 4], vec![6], vec![7]]
        );
    });
}

#[test]
fn a_rate_lets_no_more_run_together_than_it_allows() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let worker = started(&pool, Together::default());
        let group = group(10);
        let rate = Rate::new(1, Duration::from_secs(1), 3).expect("a rate");
        let meter = Arc::new(Meter::new(rate));
        let gate = busy(&worker);
        let asked: Vec<Asked> = (1..=5)
            .map(|number| {
                let mut plan = of(&group);
                plan.more_mut().meter = Some(meter.clone());
                ask(&worker, number, Some(plan))
            })
            .collect();
        gate.open();
        assert_eq!(asked[2].reply(), Ok(3));
        for late in [3, 4] {
            assert_eq!(ask(&worker, 100, None).reply(), Ok(100));
            assert_eq!(asked[late].now(), None);
            clock.advance(Duration::from_secs(1));
            pool.clock_moved();
            assert!(asked[late].reply().is_ok());
        }
        let together: Vec<_> = drained(&worker)
            .into_iter()
            .filter(|values| values != &[100])
            .collect();
        assert_eq!(together, [vec![1, 2, 3], vec![4], vec![5]]);
    });
}

#[test]
fn every_message_of_many_senders_runs_once_and_those_of_a_group_in_order() {
    bounded(|| {
        const SENDERS: u64 = 4;
        const EACH: u64 = 2_000;
        let pool = pool(3);
        let worker = Arc::new(started(&pool, Together::default()));
        let groups = [group(7), group(64)];
        let asked = thread::scope(|scope| {
            let threads: Vec<_> = (0..SENDERS)
                .map(|sender| {
                    let (worker, groups) = (&worker, &groups);
                    scope.spawn(move || {
                        (0..EACH)
                            .map(|number| {
                                let group = usize::try_from(number % 3).expect("small");
                                let plan = groups.get(group).map(of);
                                ask(worker, 1 + sender * EACH + number, plan)
                            })
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            let asked = threads
                .into_iter()
                .map(|thread| thread.join().expect("no panic"));
            asked.collect::<Vec<_>>()
        });
        let all = drained(&worker);
        for asked in asked.iter().flatten() {
            assert!(asked.reply().is_ok());
        }
        let flat: Vec<u64> = all.iter().flatten().copied().collect();
        assert_eq!(flat.len() as u64, SENDERS * EACH);
        for sender in 0..SENDERS {
            for kind in 0..3 {
                let own: Vec<u64> = flat
                    .iter()
                    .map(|number| number - 1)
                    .filter(|number| number / EACH == sender && number % EACH % 3 == kind)
                    .collect();
                assert!(own.is_sorted());
            }
        }
        for together in all {
            let kinds: Vec<u64> = together
                .iter()
                .map(|number| (number - 1) % EACH % 3)
                .collect();
            assert!(kinds.iter().all(|kind| *kind == kinds[0]), "one group");
            assert!(together.len() <= [7, 64, 1][usize::try_from(kinds[0]).expect("small")]);
        }
    });
}
