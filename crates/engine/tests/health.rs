//! Health: what is said of a worker in each state, why, and for how long.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{
    Closures, HandClock, Job, LONG, TestWorker, ask, bounded, occupy, park, pool_with_clock, post,
};
use pytoweb_engine::{
    Failure, Health, HealthState, Overflow, Pool, PostError, Shed, StopMode, Worker, WorkerOptions,
};

const SECOND: Duration = Duration::from_secs(1);

fn made(pool: &Pool, options: WorkerOptions) -> TestWorker {
    Worker::new("one", Closures, options, pool)
}

fn started(pool: &Pool, options: WorkerOptions) -> TestWorker {
    let worker = made(pool, options);
    assert!(worker.start().expect("a thread"));
    worker
}

fn small(overflow: Overflow) -> WorkerOptions {
    WorkerOptions {
        capacity: 4,
        overflow,
        ..WorkerOptions::default()
    }
}

fn parts(health: &Health) -> (HealthState, &str, u64) {
    (health.state, &health.reason, health.lasted.as_secs())
}

fn wait_idle(worker: &TestWorker) {
    assert!(worker.wait_idle(Some(LONG)).expect("no circle"));
}

/// A worker that has something to do, and four messages queued, and was found full; with the clock of its pool.
fn full(overflow: Overflow) -> (TestWorker, common::Gate, Arc<HandClock>) {
    let (pool, clock) = pool_with_clock(1);
    let worker = started(&pool, small(overflow));
    let gate = occupy(&worker);
    for _ in 0..4 {
        post(&worker, || {});
    }
    clock.advance(10 * SECOND);
    assert_eq!(
        worker.health().state,
        HealthState::Busy,
        "no post found it full"
    );
    (worker, gate, clock)
}

fn assert_overloaded_until_half_empty(worker: &TestWorker, gate: &common::Gate, clock: &HandClock) {
    clock.advance(SECOND - Duration::from_millis(1));
    assert_eq!(worker.health().state, HealthState::Busy);
    clock.advance(2 * SECOND);
    let health = worker.health();
    assert_eq!(
        (health.state, health.lasted.as_secs()),
        (HealthState::Overloaded, 2)
    );
    assert!(
        health.reason.contains("of 4 messages are queued"),
        "{}",
        health.reason
    );
    gate.open();
    wait_idle(worker);
    assert_eq!(worker.health().state, HealthState::Ok);
    clock.advance(100 * SECOND);
    assert_eq!(
        parts(&worker.health()),
        (HealthState::Ok, "nothing to do", 100)
    );
}

#[test]
fn every_age_of_a_worker_has_its_words() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let one = made(&pool, WorkerOptions::default());
        clock.advance(2 * SECOND);
        assert_eq!(
            parts(&one.health()),
            (HealthState::Stopped, "not started", 2)
        );
        assert!(one.start().expect("a thread"));
        clock.advance(3 * SECOND);
        assert_eq!(parts(&one.health()), (HealthState::Ok, "nothing to do", 3));
        let gate = occupy(&one);
        clock.advance(4 * SECOND);
        post(&one, || {});
        let busy = (HealthState::Busy, "1 running, 1 queued", 4);
        assert_eq!(parts(&one.health()), busy);
        one.close(StopMode::Drain);
        clock.advance(5 * SECOND);
        let stopping = (HealthState::Stopped, "stopping, 2 left", 5);
        assert_eq!(parts(&one.health()), stopping);
        gate.open();
        assert!(one.wait_ended(Some(LONG)).expect("no circle"));
        assert_eq!(parts(&one.health()), (HealthState::Stopped, "stopped", 5));
        let address = one.address();
        assert_eq!(address.health(), one.health());

        let other = made(&pool, WorkerOptions::default());
        other.terminate();
        assert_eq!(
            parts(&other.health()),
            (HealthState::Stopped, "terminated", 0)
        );
    });
}

#[test]
fn a_mailbox_that_rejects_is_overloaded_until_it_is_half_empty() {
    bounded(|| {
        let (worker, gate, clock) = full(Overflow::Reject);
        let refused = worker.try_post(Job::post(|| {}));
        assert!(matches!(refused, Err(PostError::Full(_))));
        assert_overloaded_until_half_empty(&worker, &gate, &clock);
    });
}

#[test]
fn one_that_drops_is_overloaded_likewise() {
    bounded(|| {
        for overflow in [Overflow::DropOldest, Overflow::DropNewest] {
            let (worker, gate, clock) = full(overflow);
            worker.try_post(Job::post(|| {})).expect("it drops");
            assert_overloaded_until_half_empty(&worker, &gate, &clock);
        }
    });
}

#[test]
fn one_before_which_a_sender_waits_is_overloaded_likewise() {
    bounded(|| {
        let (worker, gate, clock) = full(Overflow::Block);
        let (parked, told) = park(&worker, Job::post(|| {}));
        assert_overloaded_until_half_empty(&worker, &gate, &clock);
        told.pass();
        drop(parked);
    });
}

#[test]
fn a_worker_that_sheds_is_overloaded() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let shed = Shed {
            target: SECOND,
            window: SECOND,
        };
        let worker = started(
            &pool,
            WorkerOptions {
                shed: Some(shed),
                ..WorkerOptions::default()
            },
        );
        let gate = occupy(&worker);
        post(&worker, || {});
        clock.advance(2 * SECOND);
        post(&worker, || {});
        clock.advance(4 * SECOND);
        assert_eq!(
            parts(&worker.health()),
            (
                HealthState::Overloaded,
                "new messages are refused: the oldest of 2 has waited for 6.0 s",
                3
            )
        );
        gate.open();
        wait_idle(&worker);
        assert_eq!(worker.health().state, HealthState::Ok);
    });
}

#[test]
fn a_worker_is_stuck_from_the_deadline_to_the_end_of_the_handler() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let worker = started(&pool, WorkerOptions::default());
        let gate = common::Gate::new();
        let (inside, running) = (gate.clone(), common::Gate::new());
        let entered = running.clone();
        let asked = ask(&worker, move || {
            entered.open();
            inside.pass();
            1
        });
        running.pass();
        worker
            .set_deadline(&asked.ticket(), SECOND)
            .expect("a thread");
        clock.advance(SECOND);
        pool.expire_due();
        assert_eq!(asked.reply(), Err(Failure::Expired));
        clock.advance(7 * SECOND);
        assert_eq!(
            parts(&worker.health()),
            (
                HealthState::Stuck,
                "a handler runs past the deadline of its message",
                7
            )
        );
        gate.open();
        wait_idle(&worker);
        assert_eq!(worker.health().state, HealthState::Ok);
    });
}
