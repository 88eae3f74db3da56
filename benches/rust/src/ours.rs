//! Our side: one named worker, typed payloads, blocking waits.

use std::convert::Infallible;
use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use pytoweb_workers::{MessageBuilder, Priority, Worker, WorkerOptions, WorkerPool};

use crate::rounds::rate;

/// How our default mailbox differs from the peers' unbounded ones.
pub(crate) const CAPACITY_NOTE: &str =
    "ours: the default mailbox of 16 384 messages, a full one makes the asking thread wait";

/// How our mailbox compares where it holds all that is asked.
pub(crate) const UNBOUNDED_NOTE: &str =
    "ours: a mailbox that holds all messages, like the peers'; the next row has the default one";

/// The worker ends before the pool that runs it.
struct Bench {
    worker: Worker,
    _pool: WorkerPool,
}

impl Bench {
    fn new(threads: usize, options: WorkerOptions) -> Self {
        let pool = WorkerPool::new(threads);
        let worker = pool
            .create_worker_with("bench", options)
            .expect("the name is free");
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

/// Asks all, then waits for all replies. `capacity`: messages that the mailbox holds, or as many as by default.
pub(crate) fn ask_all(threads: usize, capacity: Option<usize>) -> impl FnMut(usize) -> f64 {
    let mut options = WorkerOptions::default();
    options.capacity = capacity.unwrap_or(options.capacity);
    let bench = Bench::new(threads, options);
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
    let bench = Bench::new(1, WorkerOptions::default());
    move |number| {
        let reply = bench
            .worker
            .ask::<u64, u64>("inc", number)
            .expect("the mailbox is open");
        black_box(reply.wait().expect("the handler replies"));
    }
}

/// Longer than any round takes.
const LONG: Duration = Duration::from_secs(60);

/// Posts from `producers` threads at once, until all are handled.
pub(crate) fn post_from_many(producers: usize) -> impl FnMut(usize) -> f64 {
    let bench = Bench::new(1, WorkerOptions::default());
    move |count| {
        rate(count, || {
            let post = || {
                for number in 0..(count / producers) as u64 {
                    bench
                        .worker
                        .post_message("inc", number)
                        .expect("the mailbox is open");
                }
            };
            if producers == 1 {
                post();
            } else {
                thread::scope(|scope| {
                    for _ in 0..producers {
                        scope.spawn(post);
                    }
                });
            }
            bench.worker.run_until_idle(LONG).expect("in time");
        })
    }
}

/// Posts to `workers` workers of a pool of one thread in turn, until all are handled; nanoseconds per message.
pub(crate) fn post_in_turn(workers: usize) -> impl FnMut(usize) -> f64 {
    let pool = WorkerPool::new(1);
    let workers: Vec<Worker> = (0..workers)
        .map(|number| {
            let worker = pool
                .create_worker(&format!("bench-{number}"))
                .expect("the name is free");
            worker.on_message("inc", |number: u64| -> Result<u64, Infallible> {
                Ok(number + 1)
            });
            worker.start().expect("a new worker starts");
            worker
        })
        .collect();
    move |count| {
        let begin = Instant::now();
        for (number, worker) in (0..count as u64).zip(workers.iter().cycle()) {
            worker
                .post_message("inc", number)
                .expect("the mailbox is open");
        }
        pool.run_until_idle(LONG).expect("in time");
        begin.elapsed().as_secs_f64() * 1e9 / count as f64
    }
}

/// Keys of the row with few of them.
const FEW_KEYS: u64 = 16;

/// Posts from one thread, until all are handled, each message with what `wish` makes of it and its number; nanoseconds per
/// message.
fn post_wishing(
    wish: impl for<'a> Fn(MessageBuilder<'a, u64>, u64) -> MessageBuilder<'a, u64>,
) -> impl FnMut(usize) -> f64 {
    let bench = Bench::new(1, WorkerOptions::default());
    move |count| {
        let begin = Instant::now();
        for number in 0..count as u64 {
            wish(bench.worker.message("inc", number), number)
                .post()
                .expect("the mailbox is open");
        }
        bench.worker.run_until_idle(LONG).expect("in time");
        begin.elapsed().as_secs_f64() * 1e9 / count as f64
    }
}

/// Posts that ask for nothing.
pub(crate) fn post_plain() -> impl FnMut(usize) -> f64 {
    let mut run = post_from_many(1);
    move |count| 1e9 / run(count)
}

/// Each of the ten priorities in turn.
pub(crate) fn post_urgent() -> impl FnMut(usize) -> f64 {
    let levels: Vec<_> = (0..10).filter_map(Priority::new).collect();
    post_wishing(move |message, number| {
        message.priority(levels[(number % levels.len() as u64) as usize])
    })
}

/// A few keys in turn, as texts.
pub(crate) fn post_with_few_keys() -> impl FnMut(usize) -> f64 {
    let keys: Vec<_> = (0..FEW_KEYS).map(|key| format!("customer-{key}")).collect();
    post_wishing(move |message, number| message.key(&*keys[(number % FEW_KEYS) as usize]))
}

/// A key for each message, of which no other one has it.
pub(crate) fn post_with_keys() -> impl FnMut(usize) -> f64 {
    post_wishing(|message, number| message.key(number))
}
