//! Messages that a handler gets several at a time, and that are tried again each for itself.

mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::{LIMIT, Log, assert_settled, get};
use pytoweb_workers::{
    AskError, Batch, HandClock, Reply, Retry, Worker, WorkerBuilder, current_message,
};

const SECOND: Duration = Duration::from_secs(1);

/// The attempt of the first message, and the numbers.
type Batches = Log<(u32, Vec<u64>)>;

fn attempt() -> u32 {
    current_message().expect("inside a handler").attempt()
}

/// A worker with a clock whose handler of `job` notes its batches, and fails each number so often as `fails` says.
fn trying(
    builder: WorkerBuilder,
    retry: Retry<String>,
    fails: impl Fn(u64) -> usize + Send + 'static,
) -> (Worker, HandClock, Batches) {
    let clock = HandClock::new();
    let worker = builder.clock(&clock).build();
    let log = Batches::new();
    let seen = log.clone();
    let mut tried = Vec::new();
    worker.on_batch_retry("job", Batch::new(4), retry, move |numbers: &[&u64]| {
        let numbers: Vec<u64> = numbers.iter().map(|number| **number).collect();
        seen.push((attempt(), numbers.clone()));
        let results = numbers.into_iter().map(|number| {
            tried.push(number);
            let before = tried.iter().filter(|tried| **tried == number).count();
            if before <= fails(number) {
                return Err(format!("{number} failed"));
            }
            Ok(number)
        });
        results.collect::<Vec<_>>()
    });
    worker.on_error(|_| ());
    (worker, clock, log)
}

fn steady(attempts: u32) -> Retry<String> {
    Retry::new(attempts)
        .backoff(SECOND)
        .max_backoff(SECOND)
        .jitter(0.0)
}

fn ask(worker: &Worker, number: u64) -> Reply<u64> {
    worker.ask("job", number).expect("sent")
}

/// Waits until so many batches have run and nothing runs.
fn wait_made(worker: &Worker, log: &Batches, made: usize) {
    let until = Instant::now() + LIMIT;
    while log.items().len() < made || worker.stats().counters.running > 0 {
        assert!(Instant::now() < until, "{:?}", log.items());
        thread::yield_now();
    }
    assert_eq!(log.items().len(), made);
}

#[test]
fn those_that_fail_come_back_together_and_the_others_are_done() {
    let builder = Worker::builder("w");
    let (worker, clock, log) = trying(builder, steady(3), |number| (number % 2) as usize);
    let replies: Vec<_> = (0..4).map(|number| ask(&worker, number)).collect();
    worker.post_message("job", 5_u64).expect("sent");
    worker.start().expect("it starts");
    wait_made(&worker, &log, 2);
    assert!(replies[0].is_done() && !replies[1].is_done());
    assert_eq!(worker.stats().counters.queued, 3);
    clock.advance(SECOND);
    let made = [(1, vec![0, 1, 2, 3]), (1, vec![5]), (2, vec![1, 3, 5])];
    wait_made(&worker, &log, 3);
    assert_eq!(log.items(), made);
    for (reply, number) in replies.into_iter().zip(0..) {
        assert_eq!(get(reply).expect("it is done"), number);
    }
    let counters = assert_settled(&worker);
    assert_eq!(
        (counters.completed, counters.retried, counters.failed),
        (5, 3, 0)
    );
    assert!(worker.dead_letters().is_empty());
}

#[test]
fn each_of_a_batch_is_tried_as_often_as_its_sender_says() {
    let (worker, clock, log) = trying(Worker::builder("w"), steady(2), |_| 9);
    let ask = |number: u64, attempts| {
        let retry = Retry::new(attempts)
            .backoff(SECOND)
            .max_backoff(SECOND)
            .jitter(0.0);
        worker.message("job", number).retry(retry).ask::<u64>()
    };
    let replies = [ask(1, 1), worker.ask("job", 2_u64), ask(3, 3)];
    worker.start().expect("it starts");
    let made = [(1, vec![1, 2, 3]), (2, vec![2, 3]), (3, vec![3])];
    for count in 1..=3 {
        wait_made(&worker, &log, count);
        clock.advance(SECOND);
    }
    assert_eq!(log.items(), made);
    for reply in replies {
        assert!(get(reply.expect("sent")).is_err());
    }
}

#[test]
fn each_that_fails_for_good_is_a_dead_letter_with_all_its_errors() {
    let (worker, clock, log) = trying(Worker::builder("w"), steady(2), |number| number as usize);
    let replies: Vec<_> = (0..3).map(|number| ask(&worker, number)).collect();
    worker.start().expect("it starts");
    wait_made(&worker, &log, 1);
    clock.advance(SECOND);
    wait_made(&worker, &log, 2);
    let [zero, one, two] = replies.try_into().expect("three");
    assert_eq!((get(zero).expect("done"), get(one).expect("done")), (0, 1));
    assert_eq!(
        get(two).expect_err("it failed twice").to_string(),
        "the handler failed: 2 failed"
    );
    let letters = worker.dead_letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].errors().len(), 2);
    assert_eq!(letters[0].take::<u64>(), Some(2));
    let counters = assert_settled(&worker);
    assert_eq!(
        (counters.completed, counters.retried, counters.failed),
        (2, 2, 1)
    );
}

#[test]
fn those_of_a_key_keep_their_places() {
    let fails = |number| usize::from(number == 1 || number == 2);
    let (worker, clock, log) = trying(Worker::builder("w"), steady(3), fails);
    for number in 0..7_u64 {
        let message = worker.message("job", number).key("k");
        message.post().expect("sent");
    }
    worker.start().expect("it starts");
    wait_made(&worker, &log, 1);
    clock.advance(SECOND);
    wait_made(&worker, &log, 3);
    let made = [(1, vec![0, 1, 2, 3]), (2, vec![1, 2, 4, 5]), (1, vec![6])];
    assert_eq!(log.items(), made);
    assert_settled(&worker);
}

#[test]
fn a_panic_is_an_attempt_of_all_and_a_wrong_number_of_results_is_the_end() {
    let worker = Worker::new("w");
    let retry = Retry::new(2).backoff(Duration::ZERO);
    worker.on_batch_retry("panics", Batch::new(2), retry, |numbers: &[&u64]| {
        assert!(attempt() > 1, "on purpose");
        numbers
            .iter()
            .map(|number| Ok::<_, String>(**number))
            .collect::<Vec<_>>()
    });
    let retry = Retry::new(9).backoff(Duration::ZERO);
    worker.on_batch_retry("miscounts", Batch::new(2), retry, |_: &[&u64]| {
        [Ok::<u64, String>(1)]
    });
    worker.on_error(|_| ());
    let panics = [1_u64, 2].map(|number| worker.ask::<u64, u64>("panics", number).expect("sent"));
    let miscounts =
        [1_u64, 2].map(|number| worker.ask::<u64, u64>("miscounts", number).expect("sent"));
    worker.start().expect("it starts");
    assert_eq!(
        panics.map(|reply| get(reply).expect("the second time")),
        [1, 2]
    );
    for reply in miscounts {
        let error = get(reply).expect_err("one is missing");
        assert!(
            error.to_string().contains("1 results for a batch of 2"),
            "{error}"
        );
    }
    assert_eq!(worker.stats().counters.retried, 2);
    assert_eq!(worker.dead_letters().len(), 2);
}

#[test]
fn a_stop_makes_no_more_attempts() {
    let (worker, _, log) = trying(Worker::builder("w"), steady(9), |_| 9);
    let replies = [1, 2].map(|number| ask(&worker, number));
    worker.start().expect("it starts");
    wait_made(&worker, &log, 1);
    worker.stop();
    for reply in replies {
        let error = get(reply).expect_err("no attempt is left");
        assert!(matches!(error, AskError::Failed(_)), "{error}");
    }
    assert_eq!(worker.dead_letters().len(), 2);
    assert_settled(&worker);
}

#[test]
fn batches_that_run_beside_each_other_are_tried_again_too() {
    let worker = Worker::builder("w").concurrency(4).build();
    let retry = Retry::new(3).backoff(Duration::ZERO);
    worker
        .concurrent()
        .on_batch_retry("parse", Batch::new(8), retry, |texts: &[&String]| {
            texts
                .iter()
                .map(|text| text.parse::<u64>())
                .collect::<Vec<_>>()
        });
    worker.on_error(|_| ());
    let texts = (0..100).map(|n| {
        if n % 10 == 0 {
            "no".to_owned()
        } else {
            n.to_string()
        }
    });
    let replies: Vec<Reply<u64>> = texts
        .map(|text| worker.ask("parse", text).expect("sent"))
        .collect();
    worker.start().expect("it starts");
    for (reply, number) in replies.into_iter().zip(0_u64..) {
        assert_eq!(get(reply).ok(), (number % 10 != 0).then_some(number));
    }
    let counters = assert_settled(&worker);
    assert_eq!((counters.retried, counters.failed), (20, 10));
}
