//! How messages ask to be queued: priority, key, delay, replacement, rate and size.

mod common;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::{Gate, LIMIT, Log, assert_settled, block_on, get, join};
use pytoweb_workers::{
    AskError, DropReason, Key, Overflow, Part, Priority, Rate, Reply, SendError, StopOptions,
    Worker, WorkerPool, current_message,
};

const HOUR: Duration = Duration::from_secs(3600);

/// A worker that writes down the numbers it gets, not started.
fn noting() -> (Worker, Log<u64>) {
    let worker = Worker::new("w");
    let log = Log::new();
    let seen = log.clone();
    worker.on_message("note", move |number: u64| {
        seen.push(number);
        Ok::<_, Infallible>(number)
    });
    (worker, log)
}

fn finish(worker: &Worker) {
    worker.start().expect("it starts");
    let stopping = worker.clone();
    join(move || stopping.stop());
}

#[test]
fn the_more_urgent_go_first_posts_and_asks() {
    let (worker, log) = noting();
    for (number, level) in (0_u64..).zip([4, 0, 9, 4, 9]) {
        let priority = Priority::new(level).expect("a priority");
        let message = worker.message("note", number).priority(priority);
        if number == 2 {
            drop(message.ask::<u64>().expect("sent"));
        } else {
            message.post().expect("sent");
        }
    }
    worker.post_message("note", 5_u64).expect("sent");
    finish(&worker);
    assert_eq!(log.items(), [2, 4, 0, 3, 5, 1]);
    assert_settled(&worker);
}

#[test]
fn there_is_no_priority_above_nine() {
    assert_eq!(Priority::new(10), None);
    assert_eq!(Priority::new(9), Some(Priority::HIGHEST));
    assert_eq!(Priority::of::<0>(), Priority::LOWEST);
}

#[test]
fn a_key_of_a_pool_runs_one_at_a_time_and_in_order() {
    const PRODUCERS: u64 = 8;
    const KEYS: u64 = 5;
    const EACH: u64 = 1_000;
    let pool = WorkerPool::builder().size(4).capacity(256).build();
    let busy: Arc<[AtomicBool]> = (0..KEYS).map(|_| AtomicBool::new(false)).collect();
    type Numbers = HashMap<(u64, u64), Vec<u64>>;
    let seen: Arc<Mutex<Numbers>> = Arc::default();
    let handled = seen.clone();
    pool.on_message("book", move |(producer, key, number): (u64, u64, u64)| {
        let busy = &busy[usize::try_from(key).expect("small")];
        assert!(!busy.swap(true, Ordering::SeqCst), "two of one key");
        let mut seen = handled.lock().expect("not poisoned");
        seen.entry((producer, key)).or_default().push(number);
        drop(seen);
        thread::yield_now();
        busy.store(false, Ordering::SeqCst);
        Ok::<_, Infallible>(())
    });
    thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let pool = &pool;
            scope.spawn(move || {
                for number in 0..EACH {
                    let key = number % KEYS;
                    let message = pool.message("book", (producer, key, number)).key(key);
                    message.post_timeout(LIMIT).expect("there is room in time");
                }
            });
        }
    });
    pool.run_until_idle(LIMIT).expect("in time");
    let counters = pool.stats().counters;
    assert_eq!((counters.completed, counters.failed), (PRODUCERS * EACH, 0));
    let seen = seen.lock().expect("not poisoned");
    assert!(seen.values().all(|numbers| numbers.is_sorted()));
    assert_eq!(seen.len() as u64, PRODUCERS * KEYS);
}

#[test]
fn a_key_is_free_again_after_a_panic_and_after_a_deadline() {
    let worker = Worker::new("w");
    worker.on_error(|_| ());
    let gate = Gate::new(&worker);
    worker.on_message("fail", |(): ()| -> Result<(), Infallible> {
        panic!("on purpose")
    });
    worker.start().expect("it starts");
    let failed = worker.message("fail", ()).key("a").ask::<()>();
    assert!(matches!(
        get(failed.expect("sent")),
        Err(AskError::Panicked(_))
    ));
    let limit = Duration::from_millis(1);
    worker.message("gate", ()).key("a").post().expect("sent");
    let late = worker
        .message("gate", ())
        .key("a")
        .ask_timeout::<bool>(limit);
    let after = worker.message("gate", ()).key("a").ask::<bool>();
    gate.wait_entered();
    assert!(matches!(get(late.expect("sent")), Err(AskError::Expired)));
    gate.open();
    gate.wait_entered();
    gate.open();
    assert!(!get(after.expect("sent")).expect("it is handled"));
}

#[test]
fn the_deadline_of_a_message_with_a_plan_reaches_its_handler() {
    let worker = Worker::new("w");
    worker.on_message("spin", |(): ()| {
        let message = current_message().expect("inside a handler");
        let until = Instant::now() + LIMIT;
        while !message.is_cancelled() && Instant::now() < until {
            thread::yield_now();
        }
        Ok::<_, Infallible>(message.is_cancelled())
    });
    worker.start().expect("it starts");
    let limit = Duration::from_millis(20);
    let spun = worker
        .message("spin", ())
        .key("a")
        .ask_timeout::<bool>(limit);
    assert!(matches!(get(spun.expect("sent")), Err(AskError::Expired)));
    worker
        .run_until_idle(LIMIT)
        .expect("the handler has seen it");
    assert_eq!(assert_settled(&worker).expired, 1);
}

#[test]
fn a_delayed_message_waits_and_others_do_not_wait_for_it() {
    let (worker, log) = noting();
    worker.start().expect("it starts");
    let begin = Instant::now();
    let delay = Duration::from_millis(30);
    let late = worker.message("note", 1_u64).delay(delay).ask::<u64>();
    let at = worker
        .message("note", 2_u64)
        .not_before(begin + delay)
        .ask::<u64>();
    let soon = worker.message("note", 3_u64).not_before(begin).ask::<u64>();
    assert_eq!(get(soon.expect("sent")).expect("handled"), 3);
    assert_eq!(get(late.expect("sent")).expect("handled"), 1);
    assert!(begin.elapsed() >= delay);
    assert_eq!(get(at.expect("sent")).expect("handled"), 2);
    assert_eq!(log.items()[0], 3);
}

#[test]
fn a_stop_does_not_wait_for_a_delay() {
    let (worker, log) = noting();
    let never = worker.message("note", 1_u64).delay(HOUR).ask::<u64>();
    let ever = worker
        .message("note", 2_u64)
        .delay(Duration::MAX)
        .ask::<u64>();
    finish(&worker);
    for reply in [never, ever] {
        assert!(matches!(get(reply.expect("sent")), Err(AskError::Stopped)));
    }
    assert!(log.items().is_empty());
}

#[test]
fn the_latest_takes_the_place_of_the_one_before() {
    let (worker, log) = noting();
    worker.on_message("other", |number: u64| Ok::<_, Infallible>(number));
    let latest = |kind, number: u64| -> Reply<u64> {
        let message = worker.message(kind, number).keep_latest("a");
        message.ask().expect("sent")
    };
    let first = latest("note", 1);
    let other = latest("other", 2);
    let second = latest("note", 3);
    let third = latest("note", 4);
    for old in [first, second] {
        let error = get(old).expect_err("a newer one came");
        assert!(matches!(error, AskError::Dropped(DropReason::Replaced)));
        assert_eq!(
            error.to_string(),
            "a newer message took the place of this one"
        );
    }
    finish(&worker);
    assert_eq!(get(other).expect("of another kind"), 2);
    assert_eq!(get(third).expect("the latest"), 4);
    assert_eq!(log.items(), [4]);
    let counters = assert_settled(&worker);
    assert_eq!((counters.replaced, counters.completed), (2, 2));
}

#[test]
fn a_payload_with_a_plan_is_dropped_once_and_comes_back_whole() {
    let held = Arc::new(());
    let worker = Worker::builder("w")
        .capacity(1)
        .overflow(Overflow::Reject)
        .build();
    worker.on_message("hold", |_: Arc<()>| Ok::<_, Infallible>(()));
    let message = worker.message("hold", held.clone()).keep_latest("a");
    message.post().expect("room");
    let message = worker.message("hold", held.clone()).keep_latest("a");
    message.post().expect("in the place of the other");
    assert_eq!(Arc::strong_count(&held), 2);
    let refused = worker.message("hold", held.clone()).key("a").post();
    assert!(matches!(refused, Err(SendError::Full(_))));
    drop(refused);
    let large = worker.message("none", [7_u64; 9]).key("a").post();
    assert_eq!(large.expect_err("full").into_inner(), [7; 9]);
    let asked = worker.message("hold", held.clone()).key("a").ask::<()>();
    assert!(Arc::ptr_eq(&asked.expect_err("full").into_inner(), &held));
    finish(&worker);
    assert_eq!(Arc::strong_count(&held), 1);
}

#[test]
fn types_are_checked_with_a_plan_too() {
    let (worker, _) = noting();
    let wrong = worker.message("note", "text").key("a").post();
    let Err(SendError::WrongType("text", mismatch)) = wrong else {
        panic!("it takes a number");
    };
    assert_eq!(mismatch.part(), Part::Payload);
    let wrong = worker.message("note", 1_u64).key("a").ask::<String>();
    assert!(matches!(wrong, Err(SendError::WrongType(1, _))));
    // Registered after it was sent, so that it is found out by the worker.
    worker.on_error(|_| ());
    let late = worker
        .message("late", 1_u64)
        .key("a")
        .ask::<u64>()
        .expect("sent");
    worker.on_message("late", |_: String| Ok::<_, Infallible>(()));
    worker.start().expect("it starts");
    assert!(matches!(get(late), Err(AskError::WrongType(_))));
}

#[test]
fn an_ask_with_a_plan_can_be_awaited() {
    let (worker, _) = noting();
    worker.start().expect("it starts");
    let sent = worker.message("note", 1_u64).key(Key::from(7)).ask::<u64>();
    assert_eq!(block_on(sent.expect("sent")).expect("handled"), 1);
    let sent = worker
        .message("note", 2_u64)
        .delay(HOUR)
        .ask::<u64>()
        .expect("sent");
    assert!(sent.cancel());
    assert!(matches!(block_on(sent), Err(AskError::Cancelled)));
}

/// `burst` at once, and the next one in an hour.
fn hourly(burst: u32) -> Rate {
    Rate::new(1, HOUR, burst).expect("a rate")
}

#[test]
fn a_worker_with_a_rate_begins_no_more() {
    let worker = Worker::builder("w").rate(hourly(2)).build();
    let (tell, told) = channel();
    worker.on_message("say", move |number: u64| tell.send(number));
    worker.start().expect("it starts");
    assert_eq!(worker.post_messages("say", 0..5_u64).expect("room"), 5);
    for number in 0..2 {
        assert_eq!(told.recv_timeout(LIMIT), Ok(number));
    }
    let options = StopOptions {
        drain: false,
        timeout: Some(LIMIT),
    };
    worker.stop_with(options).expect("in time");
    assert_eq!(told.try_iter().count(), 0);
    let counters = assert_settled(&worker);
    assert_eq!((counters.completed, counters.failed), (2, 3));
}

#[test]
fn a_rate_holds_for_its_kind_alone() {
    let (worker, log) = noting();
    worker.on_message("mail", |number: u64| Ok::<_, Infallible>(number));
    worker.set_rate("mail", hourly(1));
    worker.post_messages("mail", [1_u64, 2]).expect("room");
    let third = worker.message("mail", 3_u64).ask::<u64>().expect("room");
    worker.post_message("note", 4_u64).expect("room");
    worker.start().expect("it starts");
    assert_eq!(
        get(worker.ask("note", 5_u64).expect("room")).ok(),
        Some(5_u64)
    );
    let counters = worker.stats().counters;
    assert_eq!((counters.completed, counters.queued), (3, 2));
    assert_eq!(log.items(), [4, 5]);
    worker.set_rate("mail", None);
    let free = worker.ask::<u64, u64>("mail", 6).expect("room");
    assert_eq!(get(free).ok(), Some(6));
    worker.terminate();
    assert!(matches!(get(third), Err(AskError::Stopped)));
}

#[test]
fn a_rate_of_a_pool_holds_for_all_its_threads() {
    let pool = WorkerPool::new(4);
    let (tell, told) = channel();
    pool.on_message("say", move |number: u64| tell.send(number));
    pool.set_rate("say", hourly(3));
    pool.post_messages("say", 0..20_u64).expect("room");
    for _ in 0..3 {
        told.recv_timeout(LIMIT).expect("it begins");
    }
    pool.submit(|| ())
        .expect("open")
        .wait()
        .expect("not limited");
    let options = StopOptions {
        drain: false,
        timeout: Some(LIMIT),
    };
    pool.shutdown_with(options).expect("in time");
    assert_eq!(told.try_iter().count(), 0);
}

/// A worker that holds 100 bytes, not started.
fn bounded(overflow: Overflow) -> Worker {
    Worker::builder("w").bytes(100).overflow(overflow).build()
}

fn used(worker: &Worker) -> u64 {
    worker.stats().counters.bytes
}

#[test]
fn a_message_has_the_bytes_of_its_type_or_those_it_says() {
    let worker = bounded(Overflow::Reject);
    worker.post_message("none", 1_u64).expect("room");
    assert_eq!(used(&worker), 8);
    drop(worker.ask::<[u64; 5], ()>("none", [1; 5]).expect("room"));
    assert_eq!(used(&worker), 48);
    worker
        .message("none", 1_u64)
        .priority(Priority::HIGHEST)
        .post()
        .expect("room");
    assert_eq!(used(&worker), 56);
    worker
        .message("none", vec![1; 999])
        .key("a")
        .post()
        .expect("room");
    assert_eq!(used(&worker), 80);
    worker
        .message("none", vec![1; 5])
        .bytes(20)
        .post()
        .expect("room");
    assert_eq!(used(&worker), 100);
    assert!(matches!(
        worker.post_message("none", 1_u8),
        Err(SendError::Full(1))
    ));
    worker.on_error(|_| ());
    finish(&worker);
    assert_eq!(used(&worker), 0);
}

#[test]
fn bytes_are_limited_by_each_policy() {
    let sized = |worker: &Worker, number: u64, bytes| {
        let message = worker.message("note", number).bytes(bytes);
        message.post_timeout(Duration::from_millis(1))
    };
    for overflow in Overflow::ALL {
        let worker = bounded(overflow);
        sized(&worker, 1, 60).expect("room");
        let large = sized(&worker, 2, 101);
        assert!(matches!(large, Err(SendError::TooLarge(2))), "{overflow}");
        let second = sized(&worker, 3, 60);
        let counters = worker.stats().counters;
        let dropped = (counters.dropped_newest, counters.dropped_oldest);
        match overflow {
            Overflow::Block | Overflow::Reject => {
                assert!(matches!(second, Err(SendError::Full(3))), "{overflow}");
                assert_eq!(dropped, (0, 0));
            }
            Overflow::DropNewest => assert_eq!((second.is_ok(), dropped), (true, (1, 0))),
            Overflow::DropOldest => assert_eq!((second.is_ok(), dropped), (true, (0, 1))),
        }
        assert_eq!(used(&worker), 60, "{overflow}");
        worker.terminate();
    }
}

#[test]
fn a_sender_that_waits_for_bytes_goes_on_when_they_are_free() {
    let (worker, log) = (bounded(Overflow::Block), Log::new());
    let seen = log.clone();
    worker.on_message("note", move |number: u64| {
        seen.push(number);
        Ok::<_, Infallible>(())
    });
    worker
        .message("note", 1_u64)
        .bytes(60)
        .post()
        .expect("room");
    let sender = worker.clone();
    let waiting = thread::spawn(move || {
        let message = sender.message("note", 2_u64).bytes(60);
        message.post_timeout(LIMIT).is_ok()
    });
    worker.start().expect("it starts");
    assert!(join(move || waiting.join().expect("it does not panic")));
    finish(&worker);
    assert_eq!(log.items(), [1, 2]);
}
