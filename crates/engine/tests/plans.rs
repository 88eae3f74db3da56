//! Messages with plans: priorities, keys, delays, replacement and rates.
//!
//! Past 600 lines, because what a message asks for is tested together with the others that it meets.

mod common;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use common::{
    Closures, Gate, Job, LONG, Out, TestWorker, assert_adds_up, bounded, bounded_worker, occupy,
    pool, pool_with_clock, worker,
};
use pytoweb_engine::{
    Clock, DropReason, Failure, Key, Meter, Overflow, Plan, Pool, PostError, Priority, Rate,
    StopMode, Timestamp, Worker, WorkerOptions,
};

type Seen = Arc<Mutex<Vec<usize>>>;
type ByProducerAndKey = HashMap<(usize, usize), Vec<usize>>;

fn priority(level: u8) -> Plan {
    let mut plan = Plan::default();
    plan.priority = Priority::new(level).expect("a priority");
    plan
}

fn key(name: &str) -> Plan {
    let mut plan = Plan::default();
    plan.key = Some(Key::new(name.as_bytes()));
    plan
}

fn not_before(at: Timestamp) -> Plan {
    let mut plan = Plan::default();
    plan.more_mut().not_before = Some(at);
    plan
}

/// The latest of a key.
fn latest(name: &str) -> Plan {
    let mut plan = key(name);
    plan.more_mut().replaces = plan.key.clone();
    plan
}

/// A job that writes down its number.
fn note(seen: &Seen, number: usize) -> Job {
    let seen = seen.clone();
    Job::post(move || seen.lock().expect("not poisoned").push(number))
}

fn send(worker: &TestWorker, job: Job) {
    worker.post(job, Some(LONG)).expect("posted");
}

fn drained(worker: &TestWorker, seen: &Seen) -> Vec<usize> {
    worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
    assert_adds_up(&worker.stats().counters);
    seen.lock().expect("not poisoned").clone()
}

#[test]
fn the_more_urgent_go_first_and_equals_in_their_order() {
    bounded(|| {
        let pool = pool(1);
        let worker = worker(&pool, "w");
        let seen = Seen::default();
        let gate = occupy(&worker);
        for (number, level) in [4, 0, 9, 4, 9, 0, 5].into_iter().enumerate() {
            send(&worker, note(&seen, number).planned(priority(level)));
        }
        // One without a plan is as one of priority 4.
        send(&worker, note(&seen, 7));
        gate.open();
        assert_eq!(drained(&worker, &seen), [2, 4, 6, 0, 3, 7, 1, 5]);
    });
}

#[test]
fn the_first_urgent_message_passes_those_that_are_with_the_worker_already() {
    bounded(|| {
        let pool = pool(1);
        let worker = worker(&pool, "w");
        let seen = Seen::default();
        let first = occupy(&worker);
        let (inside, running) = (Gate::new(), Gate::new());
        let (passes, runs) = (inside.clone(), running.clone());
        send(
            &worker,
            Job::post(move || {
                runs.open();
                passes.pass();
            }),
        );
        for number in 0..10 {
            send(&worker, note(&seen, number));
        }
        // The worker has taken all of them over when the second one runs.
        first.open();
        running.pass();
        send(&worker, note(&seen, 100).planned(priority(9)));
        inside.open();
        assert_eq!(drained(&worker, &seen)[0], 100);
    });
}

#[test]
fn a_message_is_overtaken_by_no_more_than_the_documented_number() {
    bounded(|| {
        for low in [0, 3, 8] {
            let levels = usize::from(9 - low);
            let step = usize::try_from(Priority::STEP).expect("small");
            let pool = pool(1);
            let worker = worker(&pool, "w");
            let seen = Seen::default();
            let gate = occupy(&worker);
            send(&worker, note(&seen, 0).planned(priority(low)));
            for number in 1..=levels * step + 100 {
                send(&worker, note(&seen, number).planned(priority(9)));
            }
            gate.open();
            let order = drained(&worker, &seen);
            let place = order.iter().position(|number| *number == 0);
            assert_eq!(place, Some(levels * step));
        }
    });
}

#[test]
fn messages_of_one_key_run_one_at_a_time_and_in_order_and_others_beside_them() {
    bounded(|| {
        const KEYS: usize = 7;
        const PRODUCERS: usize = 8;
        const EACH: usize = 2_000;
        let pool = pool(4);
        let options = WorkerOptions {
            capacity: 512,
            ..WorkerOptions::default()
        };
        let worker = Arc::new(Worker::shared("own", Closures, options, &pool));
        let busy: Arc<Vec<AtomicBool>> =
            Arc::new((0..KEYS).map(|_| AtomicBool::new(false)).collect());
        let seen: Arc<Mutex<ByProducerAndKey>> = Arc::default();
        let start = Barrier::new(PRODUCERS);
        thread::scope(|scope| {
            for producer in 0..PRODUCERS {
                let (worker, busy, seen, start) = (&worker, &busy, &seen, &start);
                scope.spawn(move || {
                    start.wait();
                    for number in 0..EACH {
                        let (busy, seen) = (busy.clone(), seen.clone());
                        let at = number % KEYS;
                        let job = Job::post(move || {
                            assert!(!busy[at].swap(true, Ordering::SeqCst), "two of a key");
                            let mut seen = seen.lock().expect("not poisoned");
                            seen.entry((producer, at)).or_default().push(number);
                            drop(seen);
                            busy[at].store(false, Ordering::SeqCst);
                        });
                        let job = job.planned(key(&at.to_string()));
                        worker.post(job, Some(LONG)).expect("posted");
                    }
                });
            }
        });
        worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
        let counters = worker.stats().counters;
        assert_eq!(counters.completed, (PRODUCERS * EACH) as u64);
        let seen = seen.lock().expect("not poisoned");
        for ((_, at), numbers) in seen.iter() {
            let expected: Vec<_> = (0..EACH).filter(|number| number % KEYS == *at).collect();
            assert_eq!(*numbers, expected);
        }
    });
}

#[test]
fn a_busy_key_holds_up_no_other_and_no_thread() {
    bounded(|| {
        let pool = pool(2);
        let worker = Worker::shared("own", Closures, WorkerOptions::default(), &pool);
        let (inside, running) = (Gate::new(), Gate::new());
        let (passes, runs) = (inside.clone(), running.clone());
        let slow = Job::post(move || {
            runs.open();
            passes.pass();
        });
        send(&worker, slow.planned(key("a")));
        running.pass();
        let seen = Seen::default();
        for number in 0..50 {
            send(&worker, note(&seen, number).planned(key("a")));
        }
        let over = Gate::new();
        let ends = over.clone();
        send(&worker, Job::post(move || ends.open()).planned(key("b")));
        over.pass();
        let over = Gate::new();
        let ends = over.clone();
        send(&worker, Job::post(move || ends.open()));
        over.pass();
        assert!(seen.lock().expect("not poisoned").is_empty());
        inside.open();
        assert_eq!(drained(&worker, &seen), (0..50).collect::<Vec<_>>());
    });
}

#[test]
fn keys_take_turns_however_much_each_has() {
    bounded(|| {
        let pool = pool(1);
        let worker = worker(&pool, "w");
        let seen = Seen::default();
        let gate = occupy(&worker);
        for number in 0..1_000 {
            send(&worker, note(&seen, number).planned(key("greedy")));
        }
        for number in 0..3 {
            send(&worker, note(&seen, 10_000 + number).planned(key("modest")));
        }
        gate.open();
        let order = drained(&worker, &seen);
        assert_eq!(order[..7], [0, 10_000, 1, 10_001, 2, 10_002, 3]);
    });
}

/// Eight keys with three messages each; another one is sent while the third of them runs. How many others ran before it.
fn sent_while_the_third_of_many_runs(plan: Plan) -> Option<usize> {
    // The clock stands still, so the handlers are quick, and the worker looks at what was sent once a round.
    let (pool, _clock) = pool_with_clock(1);
    let worker = worker(&pool, "w");
    let seen = Seen::default();
    for number in 0..40 {
        send(&worker, note(&seen, number).planned(key("warm")));
    }
    assert!(worker.wait_idle(Some(LONG)).expect("no cycle"));
    seen.lock().expect("not poisoned").clear();
    let gate = occupy(&worker);
    let (inside, running) = (Gate::new(), Gate::new());
    let (passes, runs) = (inside.clone(), running.clone());
    let third = Job::post(move || {
        runs.open();
        passes.pass();
    });
    let mut third = Some(third);
    for number in 0..24 {
        let job = match number {
            2 => third.take().expect("it is sent once"),
            _ => note(&seen, number),
        };
        send(&worker, job.planned(key(&(number % 8).to_string())));
    }
    gate.open();
    running.pass();
    send(&worker, note(&seen, 1_000).planned(plan));
    inside.open();
    assert!(worker.wait_idle(Some(LONG)).expect("no cycle"));
    let order = drained(&worker, &seen);
    order.iter().position(|number| *number == 1_000)
}

#[test]
fn an_urgent_message_goes_next_also_where_many_keys_have_their_turns() {
    bounded(|| {
        let before = sent_while_the_third_of_many_runs(priority(5));
        assert_eq!(before, Some(2));
    });
}

#[test]
fn a_new_key_has_its_turn_after_a_round_of_the_others() {
    bounded(|| {
        let before = sent_while_the_third_of_many_runs(key("new")).expect("it ran");
        assert!((7..=17).contains(&before), "{before}");
    });
}

#[test]
fn a_handler_that_unwinds_leaves_its_key_to_the_next() {
    bounded(|| {
        let pool = pool(2);
        let worker = Worker::shared("own", Closures, WorkerOptions::default(), &pool);
        let panics: fn() = || panic!("on purpose");
        send(&worker, Job::post(panics).planned(key("a")));
        let seen = Seen::default();
        send(&worker, note(&seen, 1).planned(key("a")));
        assert_eq!(drained(&worker, &seen), [1]);
    });
}

#[test]
fn a_handler_that_goes_on_elsewhere_keeps_its_key() {
    bounded(|| {
        let pool = pool(2);
        let worker = Worker::shared("own", Closures, WorkerOptions::default(), &pool);
        let (hand, taken) = std::sync::mpsc::channel();
        let (job, asked) = Job::ask(move || {
            Out::Suspend(Box::new(move |suspension| {
                let _ = hand.send(suspension);
            }))
        });
        send(&worker, job.planned(key("a")));
        let mut suspension = taken.recv_timeout(LONG).expect("it was suspended");
        let seen = Seen::default();
        send(&worker, note(&seen, 1).planned(key("a")));
        let over = Gate::new();
        let ends = over.clone();
        send(&worker, Job::post(move || ends.open()).planned(key("b")));
        over.pass();
        assert!(seen.lock().expect("not poisoned").is_empty());
        let outcome = suspension.message_mut().expect("it is there").settle(5);
        suspension.finish(outcome);
        assert_eq!(asked.reply(), Ok(5));
        assert_eq!(drained(&worker, &seen), [1]);
    });
}

#[test]
fn a_delayed_message_takes_its_place_when_it_is_time() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let worker = worker(&pool, "w");
        let seen = Seen::default();
        let later = |seconds| clock.now().after(Duration::from_secs(seconds));
        send(&worker, note(&seen, 20).planned(not_before(later(20))));
        send(&worker, note(&seen, 10).planned(not_before(later(10))));
        send(&worker, note(&seen, 0));
        assert!(
            !worker
                .wait_idle(Some(Duration::from_millis(20)))
                .expect("no cycle")
        );
        assert_eq!(worker.stats().counters.queued, 2);
        clock.advance(Duration::from_secs(10));
        pool.clock_moved();
        let over = Gate::new();
        let ends = over.clone();
        send(&worker, Job::post(move || ends.open()));
        over.pass();
        clock.advance(Duration::from_secs(10));
        pool.clock_moved();
        assert!(worker.wait_idle(Some(LONG)).expect("no cycle"));
        assert_eq!(drained(&worker, &seen), [0, 10, 20]);
    });
}

#[test]
fn a_real_clock_wakes_what_sleeps() {
    bounded(|| {
        let pool = pool(1);
        let worker = worker(&pool, "w");
        let seen = Seen::default();
        // In descending order, so that the earliest is posted last.
        for millis in [30, 20, 10, 1] {
            let at = pool.clock().now().after(Duration::from_millis(millis));
            let number = usize::try_from(millis).expect("small");
            send(&worker, note(&seen, number).planned(not_before(at)));
        }
        assert!(worker.wait_idle(Some(LONG)).expect("no cycle"));
        assert_eq!(drained(&worker, &seen), [1, 10, 20, 30]);
    });
}

#[test]
fn a_worker_that_stops_fails_what_is_delayed_and_handles_the_rest() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let worker = worker(&pool, "w");
        let gate = occupy(&worker);
        let later = clock.now().after(Duration::from_secs(3600));
        let (delayed, asked) = Job::ask(|| Out::Value(1));
        send(&worker, delayed.planned(not_before(later)));
        let (queued, answered) = Job::ask(|| Out::Value(2));
        send(&worker, queued);
        worker.close(StopMode::Drain);
        assert_eq!(asked.reply(), Err(Failure::Stopped));
        gate.open();
        assert_eq!(answered.reply(), Ok(2));
        assert!(worker.wait_ended(Some(LONG)).expect("no cycle"));
        assert_adds_up(&worker.stats().counters);
    });
}

#[test]
fn a_delayed_message_can_be_cancelled_and_can_expire() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let worker = worker(&pool, "w");
        let later = clock.now().after(Duration::from_secs(3600));
        let (first, cancelled) = Job::ask(|| Out::Value(1));
        let (second, expires) = Job::ask(|| Out::Value(2));
        send(&worker, first.planned(not_before(later)));
        send(&worker, second.planned(not_before(later)));
        assert!(worker.address().cancel(&cancelled.ticket()));
        assert_eq!(cancelled.reply(), Err(Failure::Cancelled));
        worker
            .set_deadline(&expires.ticket(), Duration::from_secs(1))
            .expect("watched");
        clock.advance(Duration::from_secs(2));
        pool.clock_moved();
        assert_eq!(expires.reply(), Err(Failure::Expired));
        assert!(worker.wait_idle(Some(LONG)).expect("no cycle"));
        let counters = worker.stats().counters;
        assert_eq!(
            (counters.cancelled, counters.expired, counters.queued),
            (1, 1, 0)
        );
    });
}

#[test]
fn the_latest_takes_the_place_of_the_one_before() {
    bounded(|| {
        let pool = pool(1);
        let worker = bounded_worker(&pool, 3, Overflow::Reject);
        let seen = Seen::default();
        let gate = occupy(&worker);
        let (first, replaced) = Job::ask(|| Out::Value(1));
        send(&worker, first.planned(latest("a")));
        send(&worker, note(&seen, 2).planned(latest("b")));
        send(&worker, note(&seen, 3));
        assert!(matches!(
            worker.try_post(note(&seen, 4)),
            Err(PostError::Full(_))
        ));
        // In a full mailbox too: it needs no place of its own.
        send(&worker, note(&seen, 5).planned(latest("a")));
        let dropped = Failure::Dropped(DropReason::Replaced);
        assert_eq!(replaced.reply(), Err(dropped));
        send(&worker, note(&seen, 6).planned(latest("a")));
        gate.open();
        assert_eq!(drained(&worker, &seen), [6, 2, 3]);
        let counters = worker.stats().counters;
        assert_eq!((counters.replaced, counters.dropped()), (2, 2));
        assert_eq!((counters.posted, counters.rejected), (6, 1));
    });
}

#[test]
fn the_latest_of_a_batch_and_of_those_that_wait_for_a_place_is_one() {
    bounded(|| {
        let pool = pool(1);
        let worker = bounded_worker(&pool, 2, Overflow::Block);
        let seen = Seen::default();
        let gate = occupy(&worker);
        let mut jobs = (0..5)
            .map(|number| note(&seen, number).planned(latest("a")))
            .collect();
        assert_eq!(worker.try_post_many(&mut jobs).map_err(|_| ()), Ok(5));
        send(&worker, note(&seen, 10));
        // The mailbox is full: these wait, and the second replaces the first when both are in.
        let (first, first_in) = common::park(&worker, note(&seen, 20).planned(latest("b")));
        let (second, second_in) = common::park(&worker, note(&seen, 21).planned(latest("b")));
        gate.open();
        first_in.pass();
        second_in.pass();
        assert!(first.finish().is_ok());
        assert!(second.finish().is_ok());
        let order = drained(&worker, &seen);
        assert_eq!(order[..2], [4, 10]);
        assert_eq!(order.last(), Some(&21));
    });
}

#[test]
fn a_delay_starts_anew_with_the_latest() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let worker = worker(&pool, "w");
        let seen = Seen::default();
        let second = Duration::from_secs(1);
        for number in 0..5 {
            let mut plan = latest("a");
            plan.more_mut().not_before = Some(clock.now().after(second * 3));
            send(&worker, note(&seen, number).planned(plan));
            clock.advance(second);
            pool.clock_moved();
        }
        assert_eq!(worker.stats().counters.queued, 1);
        clock.advance(second * 2);
        pool.clock_moved();
        assert!(worker.wait_idle(Some(LONG)).expect("no cycle"));
        assert_eq!(drained(&worker, &seen), [4]);
    });
}

/// When each message of a worker began, by a clock that is moved in small steps until all have.
fn begun_at(
    pool: &Pool,
    clock: &common::HandClock,
    seen: &Arc<Mutex<Vec<Duration>>>,
    count: usize,
) {
    for _ in 0..100_000 {
        if seen.lock().expect("not poisoned").len() == count {
            return;
        }
        clock.advance(Duration::from_millis(1));
        pool.clock_moved();
        thread::yield_now();
    }
    panic!("not all of them began");
}

fn stamp(clock: &Arc<common::HandClock>, seen: &Arc<Mutex<Vec<Duration>>>) -> Job {
    let (clock, seen) = (clock.clone(), seen.clone());
    Job::post(move || {
        let at = clock.now().since(Timestamp::from_nanos(0));
        seen.lock().expect("not poisoned").push(at);
    })
}

#[test]
fn a_worker_begins_no_more_messages_than_its_rate_allows() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let options = WorkerOptions {
            rate: Rate::new(100, Duration::from_secs(1), 2),
            ..WorkerOptions::default()
        };
        let worker = Worker::new("w", Closures, options, &pool);
        assert!(worker.start().expect("a thread"));
        let seen = Arc::default();
        for _ in 0..20 {
            send(&worker, stamp(&clock, &seen));
        }
        begun_at(&pool, &clock, &seen, 20);
        for (number, at) in seen.lock().expect("not poisoned").iter().enumerate() {
            let earliest =
                Duration::from_millis(10) * u32::try_from(number.saturating_sub(1)).expect("small");
            assert!(*at >= earliest, "number {number} began at {at:?}");
        }
        // What is left when the worker stops keeps to the rate, and is handled.
        let last = Arc::default();
        for _ in 0..5 {
            send(&worker, stamp(&clock, &last));
        }
        worker.close(StopMode::Drain);
        begun_at(&pool, &clock, &last, 5);
        assert!(worker.wait_ended(Some(LONG)).expect("no cycle"));
    });
}

#[test]
fn a_meter_slows_its_own_messages_and_no_others() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let worker = worker(&pool, "w");
        let rate = Rate::new(10, Duration::from_secs(1), 1).expect("a rate");
        let mut metered = Plan::default();
        metered.more_mut().meter = Some(Arc::new(Meter::new(rate)));
        let (seen, others) = (Arc::default(), Seen::default());
        for _ in 0..5 {
            send(&worker, stamp(&clock, &seen).planned(metered.clone()));
        }
        let done = Arc::new(AtomicUsize::new(0));
        let over = Gate::new();
        for number in 0..100 {
            let (done, over, seen) = (done.clone(), over.clone(), others.clone());
            send(
                &worker,
                Job::post(move || {
                    seen.lock().expect("not poisoned").push(number);
                    if done.fetch_add(1, Ordering::Relaxed) == 99 {
                        over.open();
                    }
                }),
            );
        }
        over.pass();
        assert_eq!(seen.lock().expect("not poisoned").len(), 1);
        begun_at(&pool, &clock, &seen, 5);
        for (number, at) in seen.lock().expect("not poisoned").iter().enumerate() {
            let earliest = Duration::from_millis(100) * u32::try_from(number).expect("small");
            assert!(*at >= earliest, "number {number} began at {at:?}");
        }
    });
}

#[test]
fn a_full_mailbox_drops_the_oldest_of_the_least_urgent() {
    bounded(|| {
        let pool = pool(1);
        let worker = bounded_worker(&pool, 3, Overflow::DropOldest);
        let seen = Seen::default();
        let gate = occupy(&worker);
        send(&worker, note(&seen, 1).planned(priority(9)));
        send(&worker, note(&seen, 2).planned(priority(1)));
        send(&worker, note(&seen, 3).planned(priority(1)));
        send(&worker, note(&seen, 4).planned(priority(9)));
        gate.open();
        assert_eq!(drained(&worker, &seen), [1, 4, 3]);
        assert_eq!(worker.stats().counters.dropped_oldest, 1);
    });
}

#[test]
fn messages_with_plans_wait_for_the_start() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let worker = Worker::new("w", Closures, WorkerOptions::default(), &pool);
        let seen = Seen::default();
        send(&worker, note(&seen, 1).planned(priority(0)));
        send(&worker, note(&seen, 2).planned(priority(9)));
        let later = clock.now().after(Duration::from_secs(1));
        send(&worker, note(&seen, 3).planned(not_before(later)));
        assert!(worker.start().expect("a thread"));
        let over = Gate::new();
        let ends = over.clone();
        send(&worker, Job::post(move || ends.open()).planned(priority(0)));
        over.pass();
        clock.advance(Duration::from_secs(1));
        // The alarm may be set only after this, and then finds that it is time.
        pool.clock_moved();
        assert!(worker.wait_idle(Some(LONG)).expect("no cycle"));
        assert_eq!(drained(&worker, &seen), [2, 1, 3]);
    });
}

#[test]
fn a_pool_that_is_shut_down_handles_what_waits_for_a_meter() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let options = WorkerOptions {
            rate: Rate::new(10, Duration::from_secs(1), 1),
            ..WorkerOptions::default()
        };
        let worker = Worker::new("w", Closures, options, &pool);
        assert!(worker.start().expect("a thread"));
        let seen = Arc::default();
        for _ in 0..5 {
            send(&worker, stamp(&clock, &seen));
        }
        worker.close(StopMode::Drain);
        pool.shutdown();
        begun_at(&pool, &clock, &seen, 5);
        pool.join();
    });
}

/// A job that fails until its third attempt, and goes back to be tried again after `wait` each time.
fn stubborn(seen: &Seen, number: usize, wait: Duration) -> (Job, common::Asked) {
    fn attempt(seen: Seen, number: usize, wait: Duration, left: usize) -> Out {
        seen.lock().expect("not poisoned").push(number);
        if left == 0 {
            return Out::Value(7);
        }
        Out::Suspend(Box::new(move |mut suspension| {
            let message = suspension.message_mut().expect("it is there");
            message.set_body(move || attempt(seen, number, wait, left - 1));
            if let Some(mut last) = suspension.again(wait) {
                let outcome = last.message_mut().expect("it is there").settle(0);
                last.finish(outcome);
            }
        }))
    }
    let seen = seen.clone();
    Job::ask(move || attempt(seen, number, wait, 2))
}

#[test]
fn a_message_is_tried_again_behind_others_and_before_those_of_its_key() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let worker = worker(&pool, "w");
        let seen = Seen::default();
        let second = Duration::from_secs(1);
        let gate = occupy(&worker);
        let (first, asked) = stubborn(&seen, 1, second);
        send(&worker, first.planned(key("a")));
        let (other, other_asked) = stubborn(&seen, 2, second);
        send(&worker, other);
        send(&worker, note(&seen, 3).planned(key("a")));
        send(&worker, note(&seen, 4));
        gate.open();
        for round in 0..3 {
            let over = Gate::new();
            let ends = over.clone();
            send(&worker, Job::post(move || ends.open()).planned(priority(0)));
            over.pass();
            let counters = worker.stats().counters;
            assert_adds_up(&counters);
            assert_eq!(counters.retried, [2, 4, 4][round]);
            clock.advance(second);
            pool.clock_moved();
        }
        assert_eq!((asked.reply(), other_asked.reply()), (Ok(7), Ok(7)));
        let order = drained(&worker, &seen);
        let of_key: Vec<_> = order
            .iter()
            .filter(|number| [1, 3].contains(*number))
            .collect();
        assert_eq!(of_key, [&1, &1, &1, &3]);
        assert_eq!(order[..3], [1, 2, 4]);
        assert_eq!(order.iter().filter(|number| **number == 2).count(), 3);
    });
}

#[test]
fn a_stop_ends_what_is_to_be_tried_again() {
    bounded(|| {
        let (pool, _clock) = pool_with_clock(1);
        for plan in [Plan::default(), key("a")] {
            let worker = Worker::new("w", Closures, WorkerOptions::default(), &pool);
            assert!(worker.start().expect("a thread"));
            let seen = Seen::default();
            let (job, asked) = stubborn(&seen, 1, Duration::from_secs(3600));
            send(&worker, job.planned(plan));
            let over = Gate::new();
            let ends = over.clone();
            send(&worker, Job::post(move || ends.open()));
            over.pass();
            worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
            assert_eq!(asked.reply(), Err(Failure::Stopped));
            assert_adds_up(&worker.stats().counters);
        }
    });
}

#[test]
fn a_message_whose_worker_has_closed_or_whose_deadline_has_passed_is_not_tried_again() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let worker = worker(&pool, "w");
        let seen = Seen::default();
        let gate = occupy(&worker);
        let (job, asked) = stubborn(&seen, 1, Duration::ZERO);
        send(&worker, job);
        worker.close(StopMode::Drain);
        gate.open();
        // The one attempt that it got is the last.
        assert_eq!(asked.reply(), Ok(0));
        assert!(worker.wait_ended(Some(LONG)).expect("no cycle"));
        assert_eq!(seen.lock().expect("not poisoned").len(), 1);

        let worker = common::worker(&pool, "late");
        let (inside, running) = (Gate::new(), Gate::new());
        let (passes, runs) = (inside.clone(), running.clone());
        let (job, asked) = Job::ask(move || {
            runs.open();
            passes.pass();
            Out::Suspend(Box::new(|suspension| {
                let mut last = suspension.again(Duration::ZERO).expect("it is over");
                let outcome = last.message_mut().expect("it is there").settle(0);
                last.finish(outcome);
            }))
        });
        send(&worker, job);
        running.pass();
        worker
            .set_deadline(&asked.ticket(), Duration::from_secs(1))
            .expect("watched");
        clock.advance(Duration::from_secs(2));
        pool.clock_moved();
        assert_eq!(asked.reply(), Err(Failure::Expired));
        inside.open();
        assert!(worker.wait_idle(Some(LONG)).expect("no cycle"));
        assert_eq!(worker.stats().counters.expired, 1);
    });
}

#[test]
fn a_worker_whose_owner_has_let_go_handles_what_sleeps() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let options = WorkerOptions {
            rate: Rate::new(10, Duration::from_secs(1), 1),
            ..WorkerOptions::default()
        };
        let worker = Worker::new("w", Closures, options, &pool);
        assert!(worker.start().expect("a thread"));
        let seen = Arc::default();
        for _ in 0..5 {
            send(&worker, stamp(&clock, &seen));
        }
        // The first one has run, and the others sleep: a moment later no thread has the worker.
        begun_at(&pool, &clock, &seen, 1);
        assert!(
            !worker
                .wait_idle(Some(Duration::from_millis(20)))
                .expect("no cycle")
        );
        drop(worker);
        begun_at(&pool, &clock, &seen, 5);
        pool.shutdown();
        pool.join();
    });
}

/// A message of a rate of one an hour, and with a ticket.
fn rare(worker: &TestWorker, meter: &Arc<Meter>) -> common::Asked {
    let (job, asked) = Job::ask(|| Out::Value(0));
    let mut plan = Plan::default();
    plan.more_mut().meter = Some(meter.clone());
    send(worker, job.planned(plan));
    asked
}

#[test]
fn no_end_waits_for_the_rate_of_messages_that_are_gone() {
    // Before the stop; during it, alone; and during it, beside one that lives.
    for (stopped_before, beside) in [(false, false), (true, false), (true, true)] {
        bounded(move || {
            let (pool, _) = pool_with_clock(1);
            let worker = worker(&pool, "w");
            let rate = Rate::new(1, Duration::from_secs(3600), 1).expect("a rate");
            let meter = Arc::new(Meter::new(rate));
            assert_eq!(rare(&worker, &meter).reply(), Ok(0));
            let waits = rare(&worker, &meter);
            // Behind it, so it is looked at, and sleeps.
            send(&worker, Job::post(|| {}));
            assert!(!worker.wait_idle(Some(Duration::ZERO)).expect("not inside"));
            let gate = beside.then(|| occupy(&worker));
            if stopped_before {
                worker.close(StopMode::Drain);
            }
            assert!(worker.address().cancel(&waits.ticket()));
            assert_eq!(waits.reply(), Err(Failure::Cancelled));
            if let Some(gate) = gate {
                gate.open();
            }
            worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
            assert_adds_up(&worker.stats().counters);
            drop(worker);
            pool.shutdown();
            pool.join();
        });
    }
}
