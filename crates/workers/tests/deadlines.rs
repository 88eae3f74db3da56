//! Deadlines, queued and running.

mod common;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use common::{Gate, LIMIT, assert_settled, get, wait_stopped};
use pytoweb_workers::{AskError, Worker, WorkerPool, WorkerState};

const SOON: Duration = Duration::from_millis(5);

#[test]
fn a_message_that_expires_in_the_queue_never_runs() {
    let worker = Worker::new("late");
    worker.on_message("job", |_: Arc<()>| -> Result<(), Infallible> {
        panic!("it must not run")
    });
    let payload = Arc::new(());
    let reply = worker
        .ask_timeout::<Arc<()>, ()>("job", payload.clone(), SOON)
        .expect("it is accepted");
    assert!(matches!(get(reply), Err(AskError::Expired)));
    worker.start().expect("it starts");
    wait_stopped(&worker);
    assert_eq!(assert_settled(&worker).expired, 1);
    assert_eq!(Arc::strong_count(&payload), 1);
}

#[test]
fn one_that_expires_while_it_runs_fails_and_leaves_the_worker_stuck_until_it_returns() {
    let worker = Worker::new("late");
    let gate = Gate::new(&worker);
    worker.start().expect("it starts");
    let reply = worker
        .ask_timeout::<(), bool>(gate.kind, (), SOON)
        .expect("it is accepted");
    gate.wait_entered();
    assert!(matches!(get(reply), Err(AskError::Expired)));
    assert_eq!(worker.state(), WorkerState::Stuck);
    assert!(worker.is_alive());
    gate.open();
    worker.run_until_idle(LIMIT).expect("it becomes idle");
    assert_eq!(worker.state(), WorkerState::Running);
    let counters = assert_settled(&worker);
    assert_eq!((counters.expired, counters.completed), (1, 0));
}

#[test]
fn a_reply_in_time_is_a_reply() {
    let pool = WorkerPool::new(1);
    pool.on_message("double", |x: u64| Ok::<_, Infallible>(2 * x));
    let replies: Vec<_> = (0..3_000)
        .map(|x| {
            pool.ask_timeout::<u64, u64>("double", x, LIMIT)
                .expect("it is accepted")
        })
        .collect();
    for (x, reply) in (0..).zip(replies) {
        assert_eq!(get(reply).expect("in time"), 2 * x);
    }
    pool.shutdown();
    assert_eq!(pool.stats().counters.expired, 0);
}

#[test]
fn no_time_at_all_expires() {
    let worker = Worker::new("late");
    let reply = worker
        .ask_timeout::<(), ()>("job", (), Duration::ZERO)
        .expect("it is accepted");
    assert!(matches!(get(reply), Err(AskError::Expired)));
    let reply = worker
        .ask_timeout::<(), ()>("job", (), Duration::MAX)
        .expect("it is accepted");
    assert!(!reply.is_done());
}
