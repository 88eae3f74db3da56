//! Workers that refuse messages because those that are queued have waited too long.

mod common;

use std::convert::Infallible;
use std::time::Duration;

use common::{LIMIT, assert_adds_up, join};
use pytoweb_workers::{HandClock, Overflow, SendError, Shed, Worker, WorkerOptions, WorkerPool};

const TARGET: Duration = Duration::from_millis(50);
const WINDOW: Duration = Duration::from_secs(1);
const SHED: Shed = Shed {
    target: TARGET,
    window: WINDOW,
};

/// Posts until the oldest message has waited too long for too long, on a worker that is not started.
fn overload(worker: &Worker, clock: &HandClock) {
    worker.post_message("note", 1_u64).expect("the first");
    clock.advance(TARGET);
    worker.post_message("note", 2_u64).expect("a burst");
    clock.advance(WINDOW - Duration::from_nanos(1));
    worker.post_message("note", 3_u64).expect("a long burst");
    clock.advance(Duration::from_nanos(1));
}

#[test]
fn what_comes_while_others_wait_too_long_comes_back() {
    for overflow in [Overflow::Block, Overflow::Reject, Overflow::DropOldest] {
        let clock = HandClock::new();
        let builder = Worker::builder("web").shed(SHED).overflow(overflow);
        let worker = builder.clock(&clock).build();
        worker.on_message("note", |n: u64| Ok::<_, Infallible>(n));
        overload(&worker, &clock);
        let refused = worker.post_message("note", 4_u64);
        assert!(matches!(refused, Err(SendError::Overloaded(4))));
        let refused = worker.ask::<u64, u64>("note", 5);
        assert!(matches!(refused, Err(SendError::Overloaded(5))));
        let refused = worker.post_messages("note", [6_u64, 7]);
        assert!(matches!(refused, Err(SendError::Overloaded(rest)) if rest == [6, 7]));
        assert_adds_up(&worker.stats().counters);
        assert_eq!(worker.stats().counters.queued, 3);
        assert!(worker.stats().counters.shed >= 3);

        worker.start().expect("it starts");
        worker.run_until_idle(LIMIT).expect("in time");
        worker
            .post_message("note", 8_u64)
            .expect("it keeps up again");
        let stopping = worker.clone();
        join(move || stopping.stop());
        assert_eq!(worker.stats().counters.completed, 4);
    }
}

#[test]
fn a_pool_and_its_workers_shed_each_for_itself() {
    let clock = HandClock::new();
    let pool = WorkerPool::builder()
        .size(1)
        .shed(SHED)
        .clock(&clock)
        .build();
    let options = WorkerOptions {
        shed: Some(SHED),
        ..WorkerOptions::default()
    };
    let worker = pool.create_worker_with("web", options).expect("a new name");
    overload(&worker, &clock);
    let refused = worker.post_message("note", 4_u64);
    assert!(matches!(refused, Err(SendError::Overloaded(4))));
    pool.submit(|| ()).expect("the pool's own is empty");
    assert_eq!(pool.stats().own.counters.shed, 0);
    assert_eq!(pool.stats().counters.shed, 1);

    // Its own mailbox, whose only thread is busy.
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (say, entered) = std::sync::mpsc::channel();
    pool.on_message("note", |n: u64| Ok::<_, Infallible>(n));
    let busy = pool.submit(move || {
        say.send(()).expect("the test listens");
        wait.recv_timeout(LIMIT).expect("the test lets go")
    });
    entered.recv_timeout(LIMIT).expect("it runs");
    pool.post_message("note", 1_u64).expect("the first");
    clock.advance(TARGET);
    pool.post_message("note", 2_u64).expect("a burst");
    clock.advance(WINDOW);
    let refused = pool.post_message("note", 3_u64);
    assert!(matches!(refused, Err(SendError::Overloaded(3))));
    go.send(()).expect("it is there");
    busy.expect("sent")
        .wait_timeout(LIMIT)
        .expect("in time")
        .expect("it returns");
}
