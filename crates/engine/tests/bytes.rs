//! A mailbox that is bounded by bytes beside messages.

mod common;

use std::sync::Arc;
use std::thread;

use common::{
    Closures, Gate, Job, LONG, Out, TestWorker, assert_adds_up, bounded, occupy, park, pool,
};
use proptest::prelude::*;
use pytoweb_engine::{
    DropReason, Failure, Overflow, Plan, Pool, PostError, Priority, StopMode, Worker, WorkerOptions,
};

fn worker(pool: &Pool, bytes: u64, overflow: Overflow) -> TestWorker {
    let options = WorkerOptions {
        capacity: 1_000,
        overflow,
        bytes: Some(bytes),
        ..WorkerOptions::default()
    };
    let worker = Worker::new("w", Closures, options, pool);
    assert!(worker.start().expect("a thread"));
    worker
}

fn of(bytes: usize) -> Job {
    Job::post(|| ()).of_bytes(bytes)
}

fn used(worker: &TestWorker) -> u64 {
    worker.stats().counters.bytes
}

#[test]
fn bytes_are_used_until_a_message_is_over() {
    bounded(|| {
        let pool = pool(1);
        let worker = worker(&pool, 100, Overflow::Reject);
        let (inside, running) = (Gate::new(), Gate::new());
        let (passes, runs) = (inside.clone(), running.clone());
        let job = Job::post(move || {
            runs.open();
            passes.pass();
        });
        worker.try_post(job.of_bytes(60)).expect("room");
        running.pass();
        // It runs, and takes no place, but its bytes.
        assert_eq!((worker.stats().counters.queued, used(&worker)), (0, 60));
        worker.try_post(of(40)).expect("room");
        assert!(matches!(worker.try_post(of(1)), Err(PostError::Full(_))));
        worker.try_post(of(0)).expect("it has no bytes");
        inside.open();
        assert!(worker.wait_idle(Some(LONG)).expect("no cycle"));
        assert_eq!(used(&worker), 0);
        worker.try_post(of(100)).expect("room");
    });
}

#[test]
fn one_that_never_fits_is_refused_for_good_by_each_policy() {
    bounded(|| {
        for overflow in Overflow::ALL {
            let pool = pool(1);
            let worker = worker(&pool, 100, overflow);
            assert!(matches!(
                worker.post(of(101), Some(LONG)),
                Err(PostError::TooLarge(_))
            ));
            let mut many = [of(10), of(101), of(10)].into();
            let refused = worker.try_post_many(&mut many);
            assert!(matches!(refused, Err((1, PostError::TooLarge(())))));
            assert_eq!(many.len(), 2);
            assert!(worker.wait_idle(Some(LONG)).expect("no cycle"));
            let counters = worker.stats().counters;
            assert_eq!((counters.posted, counters.rejected), (1, 2));
        }
    });
}

#[test]
fn the_oldest_make_room_by_their_bytes() {
    bounded(|| {
        let pool = pool(1);
        let worker = worker(&pool, 100, Overflow::DropOldest);
        let gate = occupy(&worker);
        let asked: Vec<_> = [30, 30, 30]
            .into_iter()
            .map(|bytes| {
                let (job, asked) = Job::ask(|| Out::Value(1));
                worker.try_post(job.of_bytes(bytes)).expect("room");
                asked
            })
            .collect();
        worker.try_post(of(50)).expect("room is made");
        let dropped = Err(Failure::Dropped(DropReason::Oldest));
        assert_eq!(asked[0].reply(), dropped);
        assert_eq!(asked[1].reply(), dropped);
        assert_eq!(used(&worker), 80);
        gate.open();
        assert_eq!(asked[2].reply(), Ok(1));
        worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
        assert_eq!(worker.stats().counters.dropped_oldest, 2);
    });
}

#[test]
fn the_newest_goes_where_the_one_that_runs_takes_the_room() {
    bounded(|| {
        let pool = pool(1);
        let worker = worker(&pool, 100, Overflow::DropOldest);
        let (inside, running) = (Gate::new(), Gate::new());
        let (passes, runs) = (inside.clone(), running.clone());
        let job = Job::post(move || {
            runs.open();
            passes.pass();
        });
        worker.try_post(job.of_bytes(80)).expect("room");
        running.pass();
        worker.try_post(of(20)).expect("room");
        // To drop the other one would not help.
        worker.try_post(of(30)).expect("it is dropped");
        let counters = worker.stats().counters;
        assert_eq!((counters.dropped_newest, counters.queued), (1, 1));
        inside.open();
        assert!(worker.wait_idle(Some(LONG)).expect("no cycle"));
        assert_eq!(used(&worker), 0);
    });
}

#[test]
fn senders_wait_for_bytes_in_their_order() {
    bounded(|| {
        let pool = pool(1);
        let worker = worker(&pool, 100, Overflow::Block);
        let gate = occupy(&worker);
        worker.try_post(of(60)).expect("room");
        let (large, large_in) = park(&worker, of(70));
        // It would fit, and does not go before the other.
        let (small, small_in) = park(&worker, of(10));
        assert!(!small_in.is_open());
        // Nor does one that is posted now.
        assert!(matches!(worker.try_post(of(10)), Err(PostError::Full(_))));
        gate.open();
        large_in.pass();
        small_in.pass();
        assert!(large.finish().is_ok());
        assert!(small.finish().is_ok());
        assert!(worker.wait_idle(Some(LONG)).expect("no cycle"));
        assert_eq!(used(&worker), 0);
    });
}

#[test]
fn a_sender_that_gives_up_lets_those_behind_it_in() {
    bounded(|| {
        let pool = pool(1);
        let worker = worker(&pool, 100, Overflow::Block);
        let gate = occupy(&worker);
        worker.try_post(of(60)).expect("room");
        let (large, _) = park(&worker, of(70));
        let (small, small_in) = park(&worker, of(10));
        drop(large);
        small_in.pass();
        assert!(small.finish().is_ok());
        worker.try_post(of(30)).expect("no sender waits");
        gate.open();
        assert!(worker.wait_idle(Some(LONG)).expect("no cycle"));
    });
}

#[test]
fn a_sender_that_waits_for_bytes_is_let_in_when_the_last_message_ends() {
    bounded(|| {
        let pool = pool(1);
        let worker = worker(&pool, 100, Overflow::Block);
        let (inside, running) = (Gate::new(), Gate::new());
        let (passes, runs) = (inside.clone(), running.clone());
        let job = Job::post(move || {
            runs.open();
            passes.pass();
        });
        worker.try_post(job.of_bytes(100)).expect("room");
        running.pass();
        // Nothing is queued: the end of the one that runs is what frees the bytes.
        let (waits, is_in) = park(&worker, of(50));
        inside.open();
        is_in.pass();
        assert!(waits.finish().is_ok());
        assert!(worker.wait_idle(Some(LONG)).expect("no cycle"));
        assert_eq!(worker.stats().counters.completed, 2);
    });
}

#[test]
fn what_leaves_in_any_way_gives_its_bytes_back() {
    bounded(|| {
        let pool = pool(1);
        let worker = worker(&pool, 100, Overflow::Reject);
        let gate = occupy(&worker);
        let (job, cancelled) = Job::ask(|| Out::Value(1));
        worker.try_post(job.of_bytes(50)).expect("room");
        assert!(worker.address().cancel(&cancelled.ticket()));
        gate.open();
        assert!(worker.wait_idle(Some(LONG)).expect("no cycle"));
        let panics: fn() = || panic!("on purpose");
        worker
            .try_post(Job::post(panics).of_bytes(50))
            .expect("room");
        assert!(worker.wait_idle(Some(LONG)).expect("no cycle"));
        assert_eq!(used(&worker), 0);
        let mut latest = Plan::default();
        latest.key = Some(pytoweb_engine::Key::new(b"a"));
        latest.more_mut().replaces = latest.key.clone();
        let gate = occupy(&worker);
        for bytes in [90, 20, 100] {
            worker
                .try_post(of(bytes).planned(latest.clone()))
                .expect("it replaces the one before");
        }
        assert_eq!(used(&worker), 100);
        // A larger one would fit only in the place of more.
        worker.try_post(of(0)).expect("room");
        worker.close(StopMode::FinishRunning);
        gate.open();
        assert!(worker.wait_ended(Some(LONG)).expect("no cycle"));
        assert_eq!(used(&worker), 0);
        assert_adds_up(&worker.stats().counters);
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_limit_holds_at_every_moment_and_nothing_is_lost(
        sizes in proptest::collection::vec((0..60_usize, 0..10_u8), 1..200),
        overflow in proptest::sample::select(Overflow::ALL.as_slice()),
    ) {
        bounded(move || {
            const LIMIT: u64 = 100;
            let pool = pool(2);
            let worker = Arc::new(worker(&pool, LIMIT, overflow));
            let sizes = Arc::new(sizes);
            thread::scope(|scope| {
                for sender in 0..3 {
                    let (worker, sizes) = (&worker, &sizes);
                    scope.spawn(move || {
                        for (bytes, level) in sizes.iter().copied() {
                            let mut job = of(bytes);
                            if sender == 1 {
                                let mut plan = Plan::default();
                                plan.priority = Priority::new(level).expect("a priority");
                                job = job.planned(plan);
                            }
                            match worker.post(job, Some(LONG)) {
                                Ok(()) | Err(PostError::Full(_)) => {}
                                Err(error) => panic!("{error:?}"),
                            }
                            assert!(worker.stats().counters.bytes <= LIMIT + 60 * 3);
                        }
                    });
                }
            });
            assert!(worker.wait_idle(Some(LONG)).expect("no cycle"));
            let counters = worker.stats().counters;
            assert_eq!((counters.bytes, counters.queued), (0, 0));
            assert_eq!(counters.posted + counters.rejected, 3 * sizes.len() as u64);
            if overflow == Overflow::Block {
                assert_eq!(counters.completed, 3 * sizes.len() as u64);
            }
            assert_adds_up(&counters);
        });
    }
}
