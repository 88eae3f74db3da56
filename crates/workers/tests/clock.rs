//! A clock that the test moves.

mod common;

use std::convert::Infallible;
use std::time::Duration;

use common::{LIMIT, assert_settled, get};
use pytoweb_workers::{AskError, HandClock, Rate, Worker, WorkerPool};

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_delay_is_over_when_the_clock_says_so_in_a_worker_and_in_a_pool() {
    let clock = HandClock::new();
    let pool = WorkerPool::builder().size(1).clock(&clock).build();
    pool.on_message("double", |n: u64| Ok::<_, Infallible>(2 * n));
    let of_pool = pool.create_worker("of the pool").expect("a new name");
    let alone = Worker::builder("alone").clock(&clock).build();
    for worker in [&of_pool, &alone] {
        worker.on_message("double", |n: u64| Ok::<_, Infallible>(2 * n));
        worker.start().expect("it starts");
    }
    let replies = [
        pool.message("double", 1_u64).delay(HOUR).ask::<u64>(),
        of_pool.message("double", 2_u64).delay(HOUR).ask::<u64>(),
        alone.message("double", 3_u64).delay(HOUR).ask::<u64>(),
    ]
    .map(|reply| reply.expect("sent"));
    clock.advance(HOUR - Duration::from_nanos(1));
    let counters = alone.stats().counters;
    assert_eq!((counters.queued, counters.completed), (1, 0));
    assert!(replies.iter().all(|reply| !reply.is_done()));
    clock.advance(Duration::from_nanos(1));
    let replies = replies.map(|reply| get(reply).expect("it is handled"));
    assert_eq!(replies, [2, 4, 6]);
    assert_eq!(clock.now(), HOUR);
}

#[test]
fn a_deadline_that_the_clock_has_passed_fails_its_message_before_the_move_returns() {
    let clock = HandClock::new();
    let worker = Worker::builder("w").clock(&clock).build();
    let reply = worker.ask_timeout::<(), ()>("job", (), HOUR).expect("sent");
    clock.advance(HOUR * 2);
    assert!(reply.is_done());
    assert!(matches!(get(reply), Err(AskError::Expired)));
    assert_eq!(assert_settled(&worker).expired, 1);
}

#[test]
fn a_rate_counts_by_the_clock() {
    let clock = HandClock::new();
    let rate = Rate::new(1, HOUR, 1).expect("a rate");
    let worker = Worker::builder("w").rate(rate).clock(&clock).build();
    worker.on_message("note", |n: u64| Ok::<_, Infallible>(n));
    let replies = [1, 2, 3].map(|n| worker.ask::<u64, u64>("note", n).expect("sent"));
    worker.start().expect("it starts");
    for (number, reply) in (1..).zip(replies) {
        assert_eq!(get(reply).expect("it is handled"), number);
        let counters = worker.stats().counters;
        assert_eq!(counters.posted - counters.queued, number);
        clock.advance(HOUR);
    }
    worker.run_until_idle(LIMIT).expect("in time");
}

#[test]
fn a_clock_outlives_its_workers() {
    let clock = HandClock::new();
    let worker = Worker::builder("w").clock(&clock).build();
    worker.start().expect("it starts");
    worker.stop();
    clock.advance(HOUR);
    drop(worker);
    clock.advance(HOUR);
    assert_eq!(clock.now(), 2 * HOUR);
}
