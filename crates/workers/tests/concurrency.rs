//! Workers that handle several messages at the same time.

mod common;

use std::collections::HashMap;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;

use common::{LIMIT, assert_settled, get, wait_stopped};
use pytoweb_workers::{
    AskError, Reply, Worker, WorkerOptions, WorkerPool, current_message, current_worker,
};

/// The text of the panic of `body`.
fn panic_of(body: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(body)).expect_err("it panics");
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .expect("a text")
}

/// Handlers that wait until so many of them run, and say how many ran at most.
fn meet(worker: &Worker, messages: usize) -> Vec<Reply<usize>> {
    let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (say, entered) = channel();
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    worker.concurrent().on_message("meet", move |(): ()| {
        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let _ = say.send(()); // the test counts the first ones
        let received = wait.lock().expect("not poisoned").recv_timeout(LIMIT);
        received.expect("the test lets go");
        inside.fetch_sub(1, Ordering::SeqCst);
        Ok::<_, Infallible>(most.load(Ordering::SeqCst))
    });
    worker.start().expect("it starts");
    let ask = |_| worker.ask::<(), usize>("meet", ()).expect("sent");
    let replies = (0..2 * messages).map(ask).collect();
    for _ in 0..messages {
        entered.recv_timeout(LIMIT).expect("they run side by side");
    }
    assert_eq!(worker.stats().counters.running, messages as u64);
    for _ in 0..2 * messages {
        go.send(()).expect("the handlers are there");
    }
    replies
}

#[test]
fn as_many_run_as_were_asked_for_and_no_more() {
    let pool = WorkerPool::new(6);
    let options = WorkerOptions {
        concurrency: 3,
        ..WorkerOptions::default()
    };
    let of_pool = pool.create_worker_with("of the pool", options);
    let of_pool = of_pool.expect("a new name");
    let alone = Worker::builder("alone").concurrency(3).build();
    for worker in [alone, of_pool] {
        for reply in meet(&worker, 3) {
            assert!(get(reply).expect("it is handled") <= 3);
        }
        wait_stopped(&worker);
        assert_eq!(assert_settled(&worker).completed, 6);
    }
}

#[test]
fn those_of_a_key_run_one_at_a_time_and_in_order() {
    const KEYS: u64 = 4;
    const EACH: u64 = 500;
    let worker = Worker::builder("w").concurrency(4).build();
    let busy: Arc<[AtomicBool]> = (0..KEYS).map(|_| AtomicBool::new(false)).collect();
    let seen: Arc<Mutex<HashMap<u64, Vec<u64>>>> = Arc::default();
    let handled = seen.clone();
    worker
        .concurrent()
        .on_message("book", move |(key, number): (u64, u64)| {
            let busy = &busy[usize::try_from(key).expect("small")];
            assert!(!busy.swap(true, Ordering::SeqCst), "two of one key");
            thread::yield_now();
            let mut seen = handled.lock().expect("not poisoned");
            seen.entry(key).or_default().push(number);
            drop(seen);
            busy.store(false, Ordering::SeqCst);
            Ok::<_, Infallible>(())
        });
    worker.start().expect("it starts");
    for number in 0..KEYS * EACH {
        let key = number % KEYS;
        worker
            .message("book", (key, number))
            .key(key)
            .post_timeout(LIMIT)
            .expect("there is room in time");
    }
    worker.run_until_idle(LIMIT).expect("in time");
    let counters = assert_settled(&worker);
    assert_eq!((counters.completed, counters.failed), (KEYS * EACH, 0));
    let seen = seen.lock().expect("not poisoned");
    assert_eq!(seen.len() as u64, KEYS);
    assert!(seen.values().all(|numbers| numbers.is_sorted()));
}

#[test]
fn a_handler_that_owns_its_state_is_refused_there() {
    let worker = Worker::builder("w").concurrency(2).build();
    let text = panic_of(|| {
        let mut total = 0;
        worker.on_message("add", move |n: u64| {
            total += n;
            Ok::<_, Infallible>(total)
        });
    });
    assert!(text.starts_with("worker `w` handles up to 2 messages at the same time"));
    assert!(text.contains("`concurrent()`"), "{text}");
    let text = panic_of(|| {
        let _ = Worker::builder("w").concurrency(0);
    });
    assert!(text.contains("at least one message at a time"), "{text}");
}

#[test]
fn a_worker_of_one_at_a_time_takes_such_a_handler_in_the_place_of_another_one() {
    let worker = Worker::new("w");
    worker.on_message("say", |(): ()| Ok::<_, Infallible>(1));
    let say = |number| move |(): ()| Ok::<i32, Infallible>(number);
    worker.concurrent().on_message("say", say(2));
    worker.start().expect("it starts");
    let ask = || get(worker.ask::<(), i32>("say", ()).expect("sent")).expect("handled");
    assert_eq!(ask(), 2);
    worker.on_message("say", |(): ()| Ok::<_, Infallible>(3));
    assert_eq!(ask(), 3);
}

#[test]
fn each_handler_knows_its_own_message_and_its_worker() {
    let worker = Worker::builder("w").concurrency(2).build();
    let look = |(): ()| {
        let kind = current_message().expect("inside").kind().to_owned();
        let name = current_worker()
            .expect("held by the test")
            .name()
            .to_owned();
        Ok::<_, Infallible>(format!("{kind} of {name}"))
    };
    worker
        .concurrent()
        .on_message("left", look)
        .on_message("right", look);
    worker.start().expect("it starts");
    for kind in ["left", "right", "left"] {
        let reply = worker.ask::<(), String>(kind, ()).expect("sent");
        assert_eq!(get(reply).expect("handled"), format!("{kind} of w"));
    }
}

#[test]
fn a_handler_that_waits_for_its_own_worker_lends_its_place() {
    let worker = Worker::builder("w").concurrency(1 + 1).build();
    worker.concurrent().on_message("down", |depth: u64| {
        let own = current_worker().expect("held by the test");
        if depth == 0 {
            return Ok::<u64, AskError>(0);
        }
        let below = own.ask::<u64, u64>("down", depth - 1).expect("sent");
        Ok(below.wait()? + 1)
    });
    worker.start().expect("it starts");
    let reply = worker.ask::<u64, u64>("down", 5).expect("sent");
    assert_eq!(get(reply).expect("handled"), 5);
}

#[test]
fn a_panic_fails_its_own_message() {
    let worker = Worker::builder("w").concurrency(2).build();
    worker.concurrent().on_message("check", |n: u64| {
        assert!(n.is_multiple_of(2), "odd");
        Ok::<_, Infallible>(n)
    });
    worker.start().expect("it starts");
    let replies: Vec<_> = (0..10)
        .map(|n| worker.ask::<u64, u64>("check", n).expect("sent"))
        .collect();
    for (number, reply) in (0..).zip(replies) {
        match get(reply) {
            Ok(even) => assert_eq!(even, number),
            Err(AskError::Panicked(_)) => assert_eq!(number % 2, 1),
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(assert_settled(&worker).failed, 5);
}
