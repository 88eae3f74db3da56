//! Many workers, many messages.

mod common;

use std::convert::Infallible;

use common::{LIMIT, assert_adds_up, assert_settled, get, join};
use pytoweb_workers::{Worker, WorkerPool};

#[test]
fn ten_thousand_workers_in_a_pool_of_two() {
    const WORKERS: usize = 10_000;
    let pool = WorkerPool::new(2);
    let workers: Vec<_> = (0..WORKERS)
        .map(|number| {
            let worker = pool
                .create_worker(&format!("worker {number}"))
                .expect("the name is free");
            let mut sum = 0;
            worker.on_message("add", move |x: usize| {
                sum += x;
                Ok::<_, Infallible>(sum + number)
            });
            worker.start().expect("it starts");
            worker
        })
        .collect();
    for worker in &workers {
        worker
            .post_messages("add", 1_usize..10)
            .expect("they are accepted");
    }
    let replies: Vec<_> = workers
        .iter()
        .map(|worker| {
            worker
                .ask::<usize, usize>("add", 10)
                .expect("it is accepted")
        })
        .collect();
    for (number, reply) in replies.into_iter().enumerate() {
        assert_eq!(get(reply).expect("a reply"), 55 + number);
    }
    let stats = pool.stats();
    assert_adds_up(&stats.counters);
    assert_eq!(
        (stats.counters.completed, stats.workers.len()),
        (10 * WORKERS as u64, WORKERS)
    );
    assert!(stats.threads <= 2);
    join(move || pool.shutdown());
}

#[test]
fn a_million_queued_messages() {
    const MESSAGES: u64 = 1_000_000;
    let worker = Worker::builder("large").capacity(1_000_000).build();
    let mut next = 0;
    worker.on_message("count", move |number: u64| {
        let ordered = number == next;
        next += 1;
        if ordered {
            Ok(next)
        } else {
            Err("out of order")
        }
    });
    assert_eq!(
        worker
            .post_messages("count", 0..MESSAGES - 1)
            .expect("they fit"),
        999_999
    );
    let last = worker
        .ask::<u64, u64>("count", MESSAGES - 1)
        .expect("it fits");
    assert_eq!(worker.stats().counters.queued, MESSAGES);
    assert!(worker.try_post_message("count", MESSAGES).is_err());
    worker.start().expect("it starts");
    assert_eq!(get(last).expect("all in order"), MESSAGES);
    worker.run_until_idle(LIMIT).expect("it becomes idle");
    let counters = assert_settled(&worker);
    assert_eq!((counters.completed, counters.rejected), (MESSAGES, 1));
}
