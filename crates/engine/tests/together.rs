//! Many deadlines that pass together.

mod common;

use std::time::Duration;

use common::{
    Asked, Closures, LONG, TestWorker, ask, assert_adds_up, bounded, occupy, pool_with_clock,
};
use pytoweb_engine::{Failure, StopMode, Worker, WorkerOptions};

/// No deadline thread sleeps less: the clock is the test's, the thread's pauses are not.
const FAR: Duration = Duration::from_secs(10_000);

fn ask_with_deadline(worker: &TestWorker, limit: Duration) -> Asked {
    let asked = ask(worker, || 1);
    worker
        .set_deadline(&asked.ticket(), limit)
        .expect("a thread");
    asked
}

#[test]
fn each_is_looked_at_a_few_times_however_many_they_are() {
    // Comparing each with each takes minutes; the bound of all tests is the one that shows it.
    const MANY: usize = 200_000;
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let options = WorkerOptions {
            capacity: MANY + 1,
            ..WorkerOptions::default()
        };
        let worker = Worker::new("w", Closures, options, &pool);
        assert!(worker.start().expect("a thread"));
        let gate = occupy(&worker);
        let asked: Vec<_> = (0..MANY).map(|_| ask_with_deadline(&worker, FAR)).collect();
        let before: usize = asked.iter().map(Asked::looks).sum();
        clock.advance(FAR);
        pool.expire_due();
        for asked in &asked {
            assert_eq!(asked.reply(), Err(Failure::Expired));
        }
        let looks = asked.iter().map(Asked::looks).sum::<usize>() - before;
        assert!(looks <= MANY * 16, "{looks} looks at {MANY} messages");
        let counters = worker.stats().counters;
        assert_adds_up(&counters);
        assert_eq!(counters.expired, MANY as u64);
        gate.open();
        worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
    });
}
