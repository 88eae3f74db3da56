//! Handlers that get several messages at once.

mod common;

use std::convert::Infallible;
use std::iter;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::{LIMIT, Log, assert_settled, get, wait_stopped};
use pytoweb_workers::{
    AskError, Batch, HandClock, Rate, Reply, Retry, Worker, WorkerPool, current_message,
};

const SECOND: Duration = Duration::from_secs(1);

type Batches = Log<Vec<u64>>;

/// A worker whose handler of `job` notes its batches, doubles the even numbers and fails the odd ones.
fn doubling(worker: &Worker, batch: Batch) -> Batches {
    let log = Log::new();
    let seen = log.clone();
    worker.on_batch("job", batch, move |numbers: Vec<u64>| {
        seen.push(numbers.clone());
        let double = |n: u64| {
            if n.is_multiple_of(2) {
                Ok(2 * n)
            } else {
                Err(format!("{n} is odd"))
            }
        };
        numbers.into_iter().map(double)
    });
    worker.on_error(|_| ());
    log
}

fn ask(worker: &Worker, number: u64) -> Reply<u64> {
    worker.ask("job", number).expect("sent")
}

fn assert_doubled(number: u64, result: Result<u64, AskError>) {
    match result {
        Ok(doubled) => assert_eq!((number % 2, doubled), (0, 2 * number)),
        Err(error) => {
            let text = format!("the handler failed: {number} is odd");
            assert_eq!((number % 2, error.to_string()), (1, text));
        }
    }
}

/// Waits until nothing runs and so much is queued.
fn wait_queued(worker: &Worker, queued: u64) {
    let until = Instant::now() + LIMIT;
    loop {
        let counters = worker.stats().counters;
        if (counters.running, counters.queued) == (0, queued) {
            return;
        }
        assert!(Instant::now() < until, "{counters:?}");
        thread::yield_now();
    }
}

#[test]
fn each_message_has_its_own_result() {
    let worker = Worker::new("w");
    let log = doubling(&worker, Batch::new(4));
    let replies: Vec<_> = (0..10).map(|n| (n, ask(&worker, n))).collect();
    worker.post_message("job", 10_u64).expect("sent");
    worker.post_messages("job", [11_u64, 12]).expect("sent");
    worker.start().expect("it starts");
    for (number, reply) in replies {
        assert_doubled(number, get(reply));
    }
    wait_stopped(&worker);
    assert_eq!(log.items().concat(), (0..13).collect::<Vec<_>>());
    let sizes: Vec<_> = log.items().iter().map(Vec::len).collect();
    assert_eq!(sizes, [4, 4, 4, 1]);
    let counters = assert_settled(&worker);
    assert_eq!((counters.completed, counters.failed), (7, 6));
}

#[test]
fn the_first_waits_for_others_as_long_as_it_may() {
    let clock = HandClock::new();
    let worker = Worker::builder("w").clock(&clock).build();
    let log = doubling(&worker, Batch::new(3).max_wait(SECOND));
    worker.on_message("other", |(): ()| Ok::<_, Infallible>(()));
    worker.start().expect("it starts");
    let first = ask(&worker, 2);
    clock.advance(SECOND / 2);
    let second = ask(&worker, 4);
    // Another kind is not held up.
    get(worker.ask::<(), ()>("other", ()).expect("sent")).expect("handled");
    clock.advance(SECOND / 2 - Duration::from_nanos(1));
    wait_queued(&worker, 2);
    assert!(log.items().is_empty());
    clock.advance(Duration::from_nanos(1));
    assert_eq!((get(first).ok(), get(second).ok()), (Some(4), Some(8)));
    // It goes at once when there are enough, and when the worker stops.
    let full = [6, 8, 10].map(|number| ask(&worker, number));
    assert_eq!(full.map(|reply| get(reply).ok()), [12, 16, 20].map(Some));
    let last = ask(&worker, 12);
    wait_stopped(&worker);
    assert_eq!(get(last).ok(), Some(24));
    assert_eq!(log.items(), [vec![2, 4], vec![6, 8, 10], vec![12]]);
    assert_settled(&worker);
}

#[test]
fn another_number_of_results_and_a_panic_fail_all_of_a_batch() {
    let worker = Worker::new("w");
    let told = Log::new();
    let log = told.clone();
    worker.on_error(move |error| log.push(error.kind().to_owned()));
    worker.on_batch("few", Batch::new(2), |_: Vec<u64>| {
        [Ok::<u64, Infallible>(1)]
    });
    worker.on_batch("many", Batch::new(2), |numbers: Vec<u64>| {
        iter::repeat_n(Ok::<u64, Infallible>(1), numbers.len() + 1)
    });
    worker.on_batch(
        "panic",
        Batch::new(2),
        |_: Vec<u64>| -> Vec<Result<u64, Infallible>> { panic!("on purpose") },
    );
    worker.on_batch("late panic", Batch::new(2), |numbers: Vec<u64>| {
        let fail = |n| {
            if n == 2 {
                panic!("on purpose")
            } else {
                Ok::<u64, Infallible>(n)
            }
        };
        numbers.into_iter().map(fail)
    });
    let kinds = ["few", "many", "panic", "late panic"];
    let replies =
        kinds.map(|kind| [1, 2].map(|number| worker.ask::<u64, u64>(kind, number).expect("sent")));
    worker.start().expect("it starts");
    for (kind, [first, second]) in kinds.into_iter().zip(replies) {
        let texts = [first, second].map(|reply| get(reply).expect_err("it fails").to_string());
        let expected = match kind {
            "few" => {
                "the handler failed: the handler of `few` returned 1 results for a batch of 2 messages"
            }
            "many" => {
                "the handler failed: the handler of `many` returned 3 results for a batch of 2 messages"
            }
            _ => "the handler panicked: on purpose",
        };
        assert_eq!(texts, [expected; 2]);
    }
    assert_eq!(told.items().len(), 8);
    wait_stopped(&worker);
    assert_eq!(assert_settled(&worker).failed, 8);
}

#[test]
fn what_was_cancelled_or_has_expired_is_not_in_a_batch() {
    let clock = HandClock::new();
    let worker = Worker::builder("w").clock(&clock).build();
    let log = doubling(&worker, Batch::new(8));
    let kept = ask(&worker, 2);
    let cancelled = ask(&worker, 4);
    let expired = worker.ask_timeout::<u64, u64>("job", 6, SECOND);
    let last = ask(&worker, 8);
    assert!(cancelled.cancel());
    clock.advance(SECOND);
    worker.start().expect("it starts");
    assert_eq!((get(kept).ok(), get(last).ok()), (Some(4), Some(16)));
    assert!(matches!(get(cancelled), Err(AskError::Cancelled)));
    assert!(matches!(
        get(expired.expect("sent")),
        Err(AskError::Expired)
    ));
    assert_eq!(log.items(), [vec![2, 8]]);
}

/// A handler of batches that says which it got, and stays until it is let go.
fn gated(worker: &Worker, size: usize) -> (Receiver<usize>, Sender<()>) {
    let (say, entered) = channel();
    let (go, wait) = channel::<()>();
    worker.on_batch("gate", Batch::new(size), move |all: Vec<()>| {
        say.send(all.len()).expect("the test listens");
        wait.recv_timeout(LIMIT).expect("the test lets go");
        let message = current_message().expect("inside a handler");
        assert_eq!((message.kind(), message.attempt()), ("gate", 1));
        let cancelled = message.is_cancelled();
        all.into_iter()
            .map(move |()| Ok::<_, Infallible>(cancelled))
    });
    (entered, go)
}

#[test]
fn a_batch_is_cancelled_once_all_of_it_is() {
    for (cancels, posts) in [(0, 0), (1, 0), (2, 0), (2, 1)] {
        let worker = Worker::new("w");
        let (entered, go) = gated(&worker, 8);
        let replies = [(); 2].map(|()| worker.ask::<(), bool>("gate", ()).expect("sent"));
        for _ in 0..posts {
            worker.post_message("gate", ()).expect("sent");
        }
        worker.start().expect("it starts");
        let size = entered.recv_timeout(LIMIT).expect("it runs");
        assert_eq!(size, 2 + posts);
        for reply in &replies[..cancels] {
            assert!(!reply.cancel(), "it runs");
        }
        go.send(()).expect("it is there");
        for reply in replies {
            assert_eq!(get(reply).ok(), Some(cancels == 2 && posts == 0));
        }
    }
}

#[test]
fn a_deadline_that_passes_meanwhile_costs_its_own_message() {
    let clock = HandClock::new();
    let worker = Worker::builder("w").clock(&clock).build();
    let (entered, go) = gated(&worker, 8);
    let early = worker.ask::<(), bool>("gate", ()).expect("sent");
    let late = worker.ask_timeout::<(), bool>("gate", (), SECOND);
    let after = worker.ask::<(), bool>("gate", ()).expect("sent");
    worker.start().expect("it starts");
    assert_eq!(entered.recv_timeout(LIMIT), Ok(3));
    clock.advance(SECOND);
    assert!(matches!(get(late.expect("sent")), Err(AskError::Expired)));
    go.send(()).expect("it is there");
    assert_eq!(
        (get(early).ok(), get(after).ok()),
        (Some(false), Some(false))
    );
    wait_stopped(&worker);
    let counters = assert_settled(&worker);
    assert_eq!((counters.completed, counters.expired), (2, 1));
}

#[test]
fn batches_keep_order_by_kind_and_by_key() {
    let worker = Worker::new("w");
    let log = doubling(&worker, Batch::new(8));
    for (number, key) in [(2_u64, "a"), (4, "b"), (6, "a"), (8, "b")] {
        worker.message("job", number).key(key).post().expect("sent");
    }
    worker.start().expect("it starts");
    wait_stopped(&worker);
    assert_eq!(log.items(), [vec![2, 6], vec![4, 8]]);
}

#[test]
fn a_rate_lets_no_more_into_a_batch_than_may_begin() {
    let clock = HandClock::new();
    let worker = Worker::builder("w").clock(&clock).build();
    let log = doubling(&worker, Batch::new(8));
    worker.set_rate("job", Rate::new(1, SECOND, 2));
    worker.post_messages("job", [2_u64, 4, 6]).expect("sent");
    worker.start().expect("it starts");
    wait_queued(&worker, 1);
    clock.advance(SECOND);
    wait_queued(&worker, 0);
    assert_eq!(log.items(), [vec![2, 4], vec![6]]);
}

#[test]
fn a_handler_may_be_replaced_by_one_of_another_sort() {
    let worker = Worker::new("w");
    let early = ask(&worker, 2); // sent before there was a handler
    let batches = doubling(&worker, Batch::new(8));
    let together = [4, 6].map(|number| ask(&worker, number));
    let singles = Log::new();
    let log = singles.clone();
    let single = move |number: u64| {
        log.push(number);
        Ok::<_, Infallible>(10 * number)
    };
    worker.on_message("job", single);
    let alone = [8, 10].map(|number| ask(&worker, number));
    worker.start().expect("it starts");
    let replies = iter::once(early).chain(together).chain(alone);
    let replies: Vec<_> = replies.map(|reply| get(reply).ok()).collect();
    assert_eq!(replies, [20, 40, 60, 80, 100].map(Some));
    assert_eq!((singles.items().len(), batches.items().len()), (5, 0));

    let batches = doubling(&worker, Batch::new(8));
    assert_eq!(get(ask(&worker, 12)).ok(), Some(24));
    worker.on_message_retry("job", Retry::new(1), |n: &u64| Ok::<_, Infallible>(*n));
    assert_eq!(get(ask(&worker, 14)).ok(), Some(14));
    assert_eq!(batches.items(), [vec![12]]);
    wait_stopped(&worker);
    assert_settled(&worker);
}

#[test]
fn a_message_of_another_type_fails_alone() {
    let worker = Worker::new("w");
    worker.on_batch("job", Batch::new(8), |texts: Vec<String>| {
        texts
            .into_iter()
            .map(|text| Ok::<_, Infallible>(text.len()))
    });
    let text = worker.ask::<String, usize>("job", "text".to_owned());
    let log = doubling(&worker, Batch::new(8));
    let numbers = [2, 4].map(|number| ask(&worker, number));
    worker.start().expect("it starts");
    assert!(matches!(
        get(text.expect("sent")),
        Err(AskError::WrongType(_))
    ));
    assert_eq!(numbers.map(|reply| get(reply).ok()), [Some(4), Some(8)]);
    assert_eq!(log.items().concat(), [2, 4]);
}

#[test]
fn payloads_and_results_are_dropped_once() {
    struct Sore(#[expect(dead_code, reason = "held")] Arc<()>);
    impl Drop for Sore {
        fn drop(&mut self) {
            panic!("it is sore");
        }
    }
    let held = Arc::new(());
    let worker = Worker::new("w");
    worker.on_error(|_| ());
    type Large = (Arc<()>, [u64; 8]);
    worker.on_batch("large", Batch::new(8), |all: Vec<Large>| {
        all.into_iter()
            .map(|(held, _)| Ok::<_, Infallible>(Sore(held)))
    });
    worker.on_batch("lost", Batch::new(8), |_: Vec<Arc<()>>| {
        Vec::<Result<(), Infallible>>::new()
    });
    for _ in 0..3 {
        worker
            .post_message("large", (held.clone(), [0_u64; 8]))
            .expect("sent");
        worker.post_message("lost", held.clone()).expect("sent");
    }
    drop(
        worker
            .ask::<Large, Sore>("large", (held.clone(), [0_u64; 8]))
            .expect("sent"),
    );
    worker.start().expect("it starts");
    wait_stopped(&worker);
    let counters = assert_settled(&worker);
    assert_eq!((counters.completed, counters.failed), (4, 3));
    assert_eq!(Arc::strong_count(&held), 1);
}

#[test]
fn a_callback_of_a_reply_may_register_the_handler_anew() {
    let worker = Worker::new("w");
    let log = doubling(&worker, Batch::new(8));
    let (done, result) = channel();
    let own = worker.downgrade();
    let replies = [2, 4].map(|number| ask(&worker, number));
    for reply in replies {
        let (own, done) = (own.clone(), done.clone());
        reply.on_done(move |result| {
            let own = own.upgrade().expect("held by the test");
            own.on_batch("job", Batch::new(8), |all: Vec<u64>| {
                all.into_iter().map(|n| Ok::<_, Infallible>(n + 1))
            });
            done.send(result.ok()).expect("the test listens");
        });
    }
    worker.start().expect("it starts");
    for _ in 0..2 {
        assert!(result.recv_timeout(LIMIT).expect("in time").is_some());
    }
    assert_eq!(get(ask(&worker, 7)).ok(), Some(8));
    assert_eq!(log.items(), [vec![2, 4]]);
}

#[test]
fn batches_of_a_pool_and_of_several_at_the_same_time() {
    const MESSAGES: u64 = 1_000;
    let pool = WorkerPool::new(3);
    let several = Worker::builder("w").concurrency(3).build();
    let most: Arc<Mutex<usize>> = Arc::default();
    let handler = |most: &Arc<Mutex<usize>>| {
        let most = most.clone();
        move |numbers: Vec<u64>| {
            let mut most = most.lock().expect("not poisoned");
            *most = numbers.len().max(*most);
            drop(most);
            numbers.into_iter().map(|n| Ok::<_, Infallible>(n + 1))
        }
    };
    pool.on_batch("job", Batch::new(16), handler(&most));
    several
        .concurrent()
        .on_batch("job", Batch::new(16), handler(&most));
    let of_worker: Vec<_> = (0..MESSAGES).map(|n| (n, ask(&several, n))).collect();
    several.start().expect("it starts");
    let of_pool: Vec<_> = (0..MESSAGES)
        .map(|n| (n, pool.ask::<u64, u64>("job", n).expect("sent")))
        .collect();
    for (number, reply) in of_worker.into_iter().chain(of_pool) {
        assert_eq!(get(reply).ok(), Some(number + 1));
    }
    assert_eq!(*most.lock().expect("not poisoned"), 16);
    wait_stopped(&several);
    assert_eq!(assert_settled(&several).completed, MESSAGES);
}

#[test]
#[should_panic(expected = "a batch has from 1 to 65536 messages")]
fn an_empty_batch_is_refused() {
    let _ = Batch::new(0);
}

#[test]
#[should_panic(expected = "its handlers are registered with `concurrent()`")]
fn a_handler_of_batches_that_owns_its_state_is_refused_among_several() {
    let worker = Worker::builder("w").concurrency(2).build();
    doubling(&worker, Batch::new(2));
}
