//! Our side: one named worker, typed payloads, blocking waits.

use std::convert::Infallible;
use std::hint::black_box;

use pytoweb_workers::{Worker, WorkerPool};

use crate::rounds::rate;

/// How our mailbox differs from the peers' unbounded ones.
pub(crate) const CAPACITY_NOTE: &str =
    "ours: the default mailbox of 16 384 messages, a full one makes the asking thread wait";

/// The worker ends before the pool that runs it.
struct Bench {
    worker: Worker,
    _pool: WorkerPool,
}

impl Bench {
    fn new(threads: usize) -> Self {
        let pool = WorkerPool::new(threads);
        let worker = pool.create_worker("bench").expect("the name is free");
        worker.on_message("inc", |number: u64| -> Result<u64, Infallible> {
            Ok(number + 1)
        });
        worker.start().expect("a new worker starts");
        Self {
            worker,
            _pool: pool,
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.worker.stop();
    }
}

/// Asks all, then waits for all replies.
pub(crate) fn ask_all(threads: usize) -> impl FnMut(usize) -> f64 {
    let bench = Bench::new(threads);
    move |count| {
        rate(count, || {
            let replies: Vec<_> = (0..count as u64)
                .map(|number| {
                    bench
                        .worker
                        .ask::<u64, u64>("inc", number)
                        .expect("the mailbox is open")
                })
                .collect();
            for reply in replies {
                black_box(reply.wait().expect("the handler replies"));
            }
        })
    }
}

/// Asks and waits, once per call.
pub(crate) fn ask_one() -> impl FnMut(u64) {
    let bench = Bench::new(1);
    move |number| {
        let reply = bench
            .worker
            .ask::<u64, u64>("inc", number)
            .expect("the mailbox is open");
        black_box(reply.wait().expect("the handler replies"));
    }
}
