//! What the tests share beside the doubles that the crate has for all (`testing`).

// Each test file is a crate of its own and uses a part of this.
#![allow(
    dead_code,
    unused_imports,
    clippy::allow_attributes,
    reason = "no file uses all of it, so `expect` would be wrong in some"
)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use pytoweb_engine::{
    Clock, Counters, Handler, Overflow, ParkedPost, Pool, PoolOptions, PostError, Timestamp,
    Worker, WorkerOptions,
};

pub(crate) use pytoweb_engine::testing::{
    Asked, Closures, Gate, HandClock, Job, LONG, Out, bounded, pool_with_clock,
};

/// Parks a post; the gate opens once it is in or refused.
pub(crate) fn park<H: Handler>(worker: &Worker<H>, message: H::Message) -> (ParkedPost<H>, Gate) {
    let Ok(Some(parked)) = worker.park(message, None) else {
        panic!("it is not full");
    };
    let told = Gate::new();
    let tell = told.clone();
    parked.on_settled(move || tell.open());
    (parked, told)
}

pub(crate) type TestWorker = Worker<Closures>;

pub(crate) fn pool(size: usize) -> Pool {
    Pool::new(PoolOptions::new(size))
}

/// A started worker.
pub(crate) fn worker(pool: &Pool, name: &str) -> TestWorker {
    with(pool, name, WorkerOptions::default())
}

/// A started worker with a mailbox of `capacity`.
pub(crate) fn bounded_worker(pool: &Pool, capacity: usize, overflow: Overflow) -> TestWorker {
    with(
        pool,
        "bounded",
        WorkerOptions {
            capacity,
            overflow,
            ..WorkerOptions::default()
        },
    )
}

fn with(pool: &Pool, name: &str, options: WorkerOptions) -> TestWorker {
    let worker = Worker::new(name, Closures, options, pool);
    assert!(worker.start().expect("a thread"));
    worker
}

pub(crate) fn post(worker: &TestWorker, body: impl FnOnce() + Send + 'static) {
    worker.post(Job::post(body), Some(LONG)).expect("posted");
}

pub(crate) fn ask(worker: &TestWorker, body: impl FnOnce() -> u64 + Send + 'static) -> Asked {
    ask_out(worker, || Out::Value(body()))
}

pub(crate) fn ask_out(worker: &TestWorker, body: impl FnOnce() -> Out + Send + 'static) -> Asked {
    let (job, asked) = Job::ask(body);
    worker.post(job, Some(LONG)).expect("posted");
    asked
}

/// Posts a job that keeps the worker busy, and returns once it runs.
pub(crate) fn occupy(worker: &TestWorker) -> Gate {
    let gate = Gate::new();
    let (inside, running) = (gate.clone(), Gate::new());
    let entered = running.clone();
    post(worker, move || {
        entered.open();
        inside.pass();
    });
    running.pass();
    gate
}

/// Posts for the batch call.
pub(crate) fn post_all(worker: &TestWorker, jobs: impl IntoIterator<Item = Job>) -> VecDeque<Job> {
    let mut jobs: VecDeque<Job> = jobs.into_iter().collect();
    let _ = worker.try_post_many(&mut jobs);
    jobs
}

/// The counters add up, whenever they are read.
pub(crate) fn assert_adds_up(counters: &Counters) {
    assert_eq!(
        counters.posted,
        counters.completed
            + counters.failed
            + counters.dropped()
            + counters.cancelled
            + counters.expired
            + counters.queued
            + counters.running,
        "{counters:?}"
    );
}

pub(crate) fn is_full<M>(result: &Result<(), PostError<M>>) -> bool {
    matches!(result, Err(PostError::Full(_)))
}

/// A clock that only a test moves, and that stands still for some threads: for a deadline thread that is late.
#[derive(Debug)]
pub(crate) struct LateClock {
    hand: HandClock,
    late: &'static str,
}

impl LateClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.hand.advance(by);
    }
}

impl Clock for LateClock {
    fn now(&self) -> Timestamp {
        match thread::current().name() {
            Some(name) if name.starts_with(self.late) => Timestamp::from_nanos(0),
            _ => self.hand.now(),
        }
    }
}

/// A pool of one thread whose clock stands still for the threads with names that begin with `late`.
pub(crate) fn pool_with_late(late: &'static str) -> (Pool, Arc<LateClock>) {
    let clock = Arc::new(LateClock {
        hand: HandClock::default(),
        late,
    });
    let pool = Pool::new(PoolOptions {
        clock: clock.clone(),
        ..PoolOptions::new(1)
    });
    (pool, clock)
}
