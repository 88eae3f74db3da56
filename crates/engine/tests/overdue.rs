//! Messages whose deadline passed in the queue, and of which the deadline thread has not come by.

mod common;

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::{
    Asked, Closures, Gate, Job, LONG, TestWorker, ask, assert_adds_up, bounded, bounded_worker,
    is_full, occupy, park, pool_with_clock, pool_with_late, post, worker,
};
use pytoweb_engine::{
    Failure, Overflow, Pool, PostError, StopMode, Worker, WorkerOptions, WorkerState,
};

/// No deadline thread sleeps less.
const FAR: Duration = Duration::from_secs(10_000);

/// The threads that watch deadlines.
const TIMERS: &str = "pytoweb-timers";

/// A message that expires after `limit`, and notes `number` in `runs` if it runs.
fn ask_for(
    worker: &TestWorker,
    limit: Duration,
    number: u64,
    runs: &Arc<Mutex<Vec<u64>>>,
) -> Asked {
    let runs = runs.clone();
    let asked = ask(worker, move || {
        runs.lock().expect("not poisoned").push(number);
        number
    });
    let ticket = asked.ticket();
    worker.set_deadline(&ticket, limit).expect("a thread");
    asked
}

#[test]
fn none_of_them_runs_and_each_expires() {
    bounded(|| {
        let (pool, clock) = pool_with_late(TIMERS);
        let worker = worker(&pool, "w");
        let gate = occupy(&worker);
        let runs = Arc::default();
        // More than one turn handles.
        let asked: Vec<_> = (0..200)
            .map(|number| ask_for(&worker, FAR, number, &runs))
            .collect();
        clock.advance(FAR);
        gate.open();
        for asked in &asked {
            assert_eq!(asked.reply(), Err(Failure::Expired));
            assert!(!asked.ticket().state().is_cancel_requested());
            assert_adds_up(&worker.stats().counters);
        }
        assert!(worker.wait_idle(Some(LONG)).expect("not inside"));
        assert!(runs.lock().expect("not poisoned").is_empty());
        assert_eq!(worker.state(), WorkerState::Running, "nothing was stuck");
        let counters = worker.stats().counters;
        assert_adds_up(&counters);
        assert_eq!((counters.expired, counters.completed), (200, 1));
        pool.expire_due();
        assert_eq!(worker.stats().counters, counters, "once");
        assert_eq!(ask(&worker, || 7).reply(), Ok(7));
    });
}

#[test]
fn the_others_run_in_order() {
    bounded(|| {
        let (pool, clock) = pool_with_late(TIMERS);
        let worker = worker(&pool, "w");
        let gate = occupy(&worker);
        let runs: Arc<Mutex<Vec<u64>>> = Arc::default();
        let asked: Vec<_> = (0..90)
            .map(|number| {
                let limit = if number % 3 == 0 { FAR } else { FAR * 2 };
                ask_for(&worker, limit, number, &runs)
            })
            .collect();
        for number in (1..90).step_by(9) {
            assert!(worker.address().cancel(&asked[number].ticket()));
        }
        clock.advance(FAR);
        gate.open();
        worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
        let expected: Vec<u64> = (0..90).filter(|n| n % 3 != 0 && n % 9 != 1).collect();
        assert_eq!(*runs.lock().expect("not poisoned"), expected);
        let counters = worker.stats().counters;
        assert_adds_up(&counters);
        assert_eq!((counters.expired, counters.cancelled), (30, 10));
    });
}

#[test]
fn the_first_deadline_counts() {
    bounded(|| {
        let (pool, clock) = pool_with_late(TIMERS);
        let worker = worker(&pool, "w");
        let gate = occupy(&worker);
        let runs = Arc::default();
        let asked = ask_for(&worker, FAR, 0, &runs);
        worker
            .set_deadline(&asked.ticket(), FAR * 2)
            .expect("a thread");
        clock.advance(FAR);
        gate.open();
        assert_eq!(asked.reply(), Err(Failure::Expired));
        assert!(runs.lock().expect("not poisoned").is_empty());
    });
}

#[test]
fn they_make_room_for_everybody_who_waits_for_it() {
    bounded(|| {
        let (pool, clock) = pool_with_late(TIMERS);
        let worker = bounded_worker(&pool, 4, Overflow::Block);
        let gate = occupy(&worker);
        let runs = Arc::default();
        for number in 0..4 {
            ask_for(&worker, FAR, number, &runs);
        }
        assert!(is_full(&worker.try_post(Job::post(|| {}))));
        let (parked, told) = park(&worker, Job::post(|| {}));
        thread::scope(|scope| {
            let senders: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| worker.post(Job::post(|| {}), Some(LONG)).is_ok()))
                .collect();
            clock.advance(FAR);
            gate.open();
            for sender in senders {
                assert!(sender.join().expect("no panic"));
            }
        });
        assert!(worker.wait_idle(Some(LONG)).expect("not inside"));
        assert!(told.is_open() && parked.finish().is_ok());
        let counters = worker.stats().counters;
        assert_adds_up(&counters);
        assert_eq!((counters.expired, counters.completed), (4, 6));
    });
}

#[test]
fn a_worker_that_starts_late_runs_none_of_them() {
    bounded(|| {
        let (pool, clock) = pool_with_late(TIMERS);
        let worker = Worker::new("w", Closures, WorkerOptions::default(), &pool);
        let runs = Arc::default();
        let asked = ask_for(&worker, FAR, 0, &runs);
        clock.advance(FAR);
        assert!(worker.start().expect("a thread"));
        assert_eq!(asked.reply(), Err(Failure::Expired));
        assert!(worker.wait_idle(Some(LONG)).expect("not inside"));
        assert!(runs.lock().expect("not poisoned").is_empty());
    });
}

/// Posts to `worker` from two threads while the clock runs and deadlines are looked at; returns what was asked.
fn flood(worker: &TestWorker, pool: &Pool, tick: &(dyn Fn() + Sync)) -> Vec<Asked> {
    let over = Gate::new();
    thread::scope(|scope| {
        let senders: Vec<_> = (0..2_u32)
            .map(|sender| {
                scope.spawn(move || {
                    (0..2_000_u32)
                        .map(|n| {
                            let asked = ask(worker, || 1);
                            let limit = FAR * ((n * 7 + sender) % 5);
                            let ticket = asked.ticket();
                            worker.set_deadline(&ticket, limit).expect("a thread");
                            asked
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        let stop = over.clone();
        scope.spawn(move || {
            while !stop.is_open() {
                tick();
                pool.expire_due();
                assert_adds_up(&worker.stats().counters);
                thread::yield_now();
            }
        });
        let asked = senders
            .into_iter()
            .flat_map(|sender| sender.join().expect("no panic"))
            .collect();
        over.open();
        asked
    })
}

#[test]
fn each_has_one_fate_when_all_meet() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(2);
        let options = WorkerOptions {
            capacity: 64,
            ..WorkerOptions::default()
        };
        let worker = Worker::shared("own", Closures, options, &pool);
        let asked = flood(&worker, &pool, &|| clock.advance(FAR / 3));
        worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
        let expired = asked.iter().filter(|asked| {
            let reply = asked.reply();
            assert!(reply == Ok(1) || reply == Err(Failure::Expired));
            reply.is_err()
        });
        let expired = expired.count() as u64;
        let counters = worker.stats().counters;
        assert_adds_up(&counters);
        assert_eq!(counters.posted, 4_000);
        assert_eq!(
            (counters.expired, counters.completed),
            (expired, 4_000 - expired)
        );
    });
}

#[test]
fn what_is_refused_later_is_not_held_up() {
    // A mailbox that was full of them takes messages again once its worker has come by.
    bounded(|| {
        let (pool, clock) = pool_with_late(TIMERS);
        let worker = bounded_worker(&pool, 2, Overflow::Reject);
        let gate = occupy(&worker);
        let runs = Arc::default();
        let asked = [0, 1].map(|number| ask_for(&worker, FAR, number, &runs));
        assert!(matches!(
            worker.try_post(Job::post(|| {})),
            Err(PostError::Full(_))
        ));
        clock.advance(FAR);
        gate.open();
        for asked in asked {
            assert_eq!(asked.reply(), Err(Failure::Expired));
        }
        post(&worker, || {});
        post(&worker, || {});
        worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
        assert_eq!(worker.stats().counters.completed, 3);
    });
}
