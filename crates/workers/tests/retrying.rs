//! Messages that are tried again, and those that have failed for good.
//!
//! Past 600 lines, because every way to send has both ends here.

mod common;

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::{Gate, LIMIT, Log, assert_settled, get, join, wait_stopped};
use pytoweb_workers::{
    AskError, DEAD_LETTERS, HandClock, Priority, Reply, Retry, SendError, StopOptions, Worker,
    WorkerPool, current_message,
};

const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug, PartialEq)]
enum Trouble {
    Busy,
    Broken,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Trouble {}

/// Tried so often, a second after the first failure, and always after the same wait.
fn steady<E>(attempts: u32) -> Retry<E> {
    Retry::new(attempts)
        .backoff(SECOND)
        .max_backoff(SECOND)
        .jitter(0.0)
}

fn attempt() -> u32 {
    current_message().expect("inside a handler").attempt()
}

/// A worker with a clock, and what its handler of `job` saw: the number and the attempt. It fails as `fails` says.
fn trying(
    retry: Retry<Trouble>,
    fails: impl Fn(u64, u32) -> Option<Trouble> + Send + 'static,
) -> (Worker, HandClock, Log<(u64, u32)>) {
    let clock = HandClock::new();
    let worker = Worker::builder("shop").clock(&clock).build();
    let log = Log::new();
    let seen = log.clone();
    worker.on_message_retry("job", retry, move |number: &u64| {
        seen.push((*number, attempt()));
        fails(*number, attempt()).map_or(Ok(*number), Err)
    });
    worker.on_error(|_| ());
    (worker, clock, log)
}

/// Waits until so many attempts of `log` have ended, and their messages wait for the next one or are over.
fn wait_made(worker: &Worker, log: &Log<(u64, u32)>, made: usize) {
    let until = Instant::now() + LIMIT;
    while log.items().len() < made || worker.stats().counters.running > 0 {
        assert!(Instant::now() < until, "{:?}", log.items());
        thread::yield_now();
    }
    assert_eq!(log.items().len(), made);
}

#[test]
fn each_wait_is_twice_the_one_before() {
    let retry = Retry::new(5)
        .backoff(SECOND)
        .max_backoff(3 * SECOND)
        .jitter(0.0);
    let (worker, clock, log) = trying(retry, |_, attempt| (attempt < 5).then_some(Trouble::Busy));
    worker.start().expect("it starts");
    let reply = worker.ask::<u64, u64>("job", 7).expect("sent");
    wait_made(&worker, &log, 1);
    for (made, wait) in [(2, 1), (3, 2), (4, 3), (5, 3)] {
        clock.advance(wait * SECOND - Duration::from_nanos(1));
        wait_made(&worker, &log, made - 1);
        let counters = worker.stats().counters;
        assert_eq!((counters.queued, counters.running), (1, 0));
        assert!(!reply.is_done());
        clock.advance(Duration::from_nanos(1));
        wait_made(&worker, &log, made);
    }
    assert_eq!(get(reply).expect("the fifth attempt"), 7);
    assert_eq!(log.items(), [1, 2, 3, 4, 5].map(|attempt| (7, attempt)));
    let counters = assert_settled(&worker);
    assert_eq!((counters.posted, counters.completed), (1, 1));
    assert_eq!((counters.retried, counters.failed), (4, 0));
    assert!(worker.dead_letters().is_empty());
}

#[test]
fn an_error_that_is_not_asked_for_fails_the_message_at_once() {
    let retry = Retry::new(9).on(|trouble: &Trouble| *trouble == Trouble::Busy);
    let (worker, _, log) = trying(retry, |_, _| Some(Trouble::Broken));
    worker.start().expect("it starts");
    let reply = worker.ask::<u64, u64>("job", 1).expect("sent");
    let error = get(reply).expect_err("it is broken");
    assert_eq!(error.downcast_ref(), Some(&Trouble::Broken));
    assert_eq!(log.items(), [(1, 1)]);
    let letters = worker.dead_letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(
        letters[0].errors()[0].to_string(),
        "the handler failed: Broken"
    );
    assert_eq!(letters[0].take::<u64>(), Some(1));
}

#[test]
fn a_panic_is_tried_again_unless_told_otherwise() {
    for again in [true, false] {
        let worker = Worker::new("w");
        let retry = Retry::new(2).backoff(Duration::ZERO).on_panic(again);
        worker.on_message_retry("job", retry, |(): &()| {
            assert!(attempt() > 1, "on purpose");
            Ok::<_, Infallible>(attempt())
        });
        worker.start().expect("it starts");
        let result = get(worker.ask::<(), u32>("job", ()).expect("sent"));
        match result {
            Ok(attempt) => assert_eq!((again, attempt), (true, 2)),
            Err(AskError::Panicked(_)) => assert!(!again),
            Err(other) => panic!("{other:?}"),
        }
        assert_eq!(worker.dead_letters().len(), usize::from(!again));
    }
}

#[test]
fn a_predicate_that_panics_asks_for_no_other_attempt() {
    let retry = Retry::new(9).on(|_: &Trouble| panic!("on purpose"));
    let (worker, _, log) = trying(retry, |_, _| Some(Trouble::Busy));
    worker.start().expect("it starts");
    let reply = worker.ask::<u64, u64>("job", 1).expect("sent");
    let error = get(reply).expect_err("it fails");
    assert_eq!(error.downcast_ref(), Some(&Trouble::Busy));
    assert_eq!(log.items(), [(1, 1)]);
}

/// Neither `Clone` nor small.
struct Order {
    number: u64,
    held: Arc<()>,
    _large: [u64; 8],
}

#[test]
fn a_payload_is_lent_to_each_attempt_and_dropped_once() {
    let held = Arc::new(());
    let worker = Worker::new("w");
    let seen = Log::new();
    let log = seen.clone();
    let retry = || Retry::new(3).backoff(Duration::ZERO);
    worker.on_message_retry("large", retry(), move |order: &Order| {
        log.push((order.number, attempt()));
        if attempt() < 3 {
            Err("not yet")
        } else {
            Ok(())
        }
    });
    worker.on_message_retry("small", retry(), |held: &Arc<()>| {
        assert!(Arc::strong_count(held) > 1);
        if attempt() < 3 {
            Err("not yet")
        } else {
            Ok(())
        }
    });
    worker.start().expect("it starts");
    let order = |number| Order {
        number,
        held: held.clone(),
        _large: [0; 8],
    };
    worker.post_message("large", order(1)).expect("sent");
    let reply = worker.ask::<Order, ()>("large", order(2)).expect("sent");
    worker.post_message("small", held.clone()).expect("sent");
    let small = worker.ask::<Arc<()>, ()>("small", held.clone());
    worker
        .message("small", held.clone())
        .key("a")
        .post()
        .expect("sent");
    get(reply).expect("the third attempt");
    get(small.expect("sent")).expect("the third attempt");
    wait_stopped(&worker);
    let counters = assert_settled(&worker);
    assert_eq!((counters.completed, counters.retried), (5, 10));
    assert_eq!(Arc::strong_count(&held), 1);
    let of = |number| seen.items().into_iter().filter(move |(n, _)| *n == number);
    for number in [1, 2] {
        assert_eq!(
            of(number).map(|(_, attempt)| attempt).collect::<Vec<_>>(),
            [1, 2, 3]
        );
    }
    let _ = &order(3).held;
}

#[test]
fn a_message_keeps_its_place_by_key_and_others_go_past_it() {
    let (worker, clock, log) = trying(steady(3), |number, attempt| {
        (number == 1 && attempt < 3).then_some(Trouble::Busy)
    });
    for (number, key) in [(1_u64, "a"), (2, "a"), (3, "b"), (4, "a")] {
        worker.message("job", number).key(key).post().expect("sent");
    }
    worker.post_message("job", 5_u64).expect("sent");
    worker.start().expect("it starts");
    wait_made(&worker, &log, 3);
    assert_eq!(log.items(), [(1, 1), (3, 1), (5, 1)]);
    clock.advance(SECOND);
    wait_made(&worker, &log, 4);
    clock.advance(SECOND);
    wait_made(&worker, &log, 7);
    assert_eq!(log.items()[3..], [(1, 2), (1, 3), (2, 1), (4, 1)]);
}

#[test]
fn a_small_message_is_as_urgent_in_the_next_attempt() {
    let (worker, clock, log) = trying(steady(2), |number, attempt| {
        (number == 1 && attempt < 2).then_some(Trouble::Busy)
    });
    let gate = Gate::new(&worker);
    worker.start().expect("it starts");
    let urgent = worker.message("job", 1_u64).priority(Priority::HIGHEST);
    urgent.post().expect("sent");
    wait_made(&worker, &log, 1);
    worker.post_message(gate.kind, ()).expect("sent");
    gate.wait_entered();
    worker.post_message("job", 2_u64).expect("sent");
    clock.advance(SECOND);
    gate.open();
    wait_made(&worker, &log, 3);
    assert_eq!(log.items(), [(1, 1), (1, 2), (2, 1)]);
}

#[test]
fn the_reply_and_on_error_hear_of_the_last_failure_alone() {
    let worker = Worker::new("w");
    let told = Log::new();
    let log = told.clone();
    worker.on_error(move |error| log.push(error.cause().to_string()));
    let retry = Retry::new(3).backoff(Duration::ZERO);
    worker.on_message_retry("job", retry, |(): &()| {
        Err::<(), _>(format!("attempt {}", attempt()))
    });
    worker.start().expect("it starts");
    let error = get(worker.ask::<(), ()>("job", ()).expect("sent")).expect_err("it fails");
    assert_eq!(error.to_string(), "the handler failed: attempt 3");
    worker.post_message("job", ()).expect("sent");
    worker.run_until_idle(LIMIT).expect("in time");
    assert_eq!(told.items(), ["the handler failed: attempt 3"; 2]);
    for letter in worker.dead_letters() {
        let texts: Vec<_> = letter.errors().iter().map(ToString::to_string).collect();
        let attempts = [1, 2, 3].map(|made| format!("the handler failed: attempt {made}"));
        assert_eq!(texts, attempts);
        assert_eq!((letter.worker(), letter.kind()), ("w", "job"));
    }
    assert_eq!(worker.dead_letters().len(), 2);
}

#[test]
fn the_letter_of_a_post_has_each_error_itself() {
    let (worker, clock, log) = trying(steady(2), |_, _| Some(Trouble::Busy));
    worker.start().expect("it starts");
    worker.post_message("job", 1_u64).expect("sent");
    wait_made(&worker, &log, 1);
    clock.advance(SECOND);
    wait_made(&worker, &log, 2);
    let letter = worker.dead_letters().remove(0);
    for error in letter.errors() {
        assert_eq!(error.downcast_ref(), Some(&Trouble::Busy));
    }
    assert_eq!(letter.inspect(|number: &u64| *number), Some(1));
    assert_eq!(letter.inspect(|text: &String| text.len()), None);
    assert_eq!(
        (letter.take::<String>(), letter.take::<u64>()),
        (None, Some(1))
    );
    assert_eq!(
        (letter.take::<u64>(), letter.inspect(|n: &u64| *n)),
        (None, None)
    );
    assert!(!worker.post_again(&letter).expect("it has no payload"));
}

/// An ask whose first attempt has failed, and which waits for the next one.
fn waiting(worker: &Worker, log: &Log<(u64, u32)>, limit: Option<Duration>) -> Reply<u64> {
    let reply = match limit {
        Some(limit) => worker.ask_timeout("job", 1_u64, limit),
        None => worker.ask("job", 1_u64),
    };
    worker.start().expect("it starts");
    wait_made(worker, log, 1);
    reply.expect("sent")
}

#[test]
fn a_deadline_and_a_cancel_are_for_all_attempts_together() {
    let fails = |_, _| Some(Trouble::Busy);
    let (worker, clock, log) = trying(steady(9).backoff(60 * SECOND), fails);
    let reply = waiting(&worker, &log, Some(SECOND / 2));
    clock.advance(SECOND / 2);
    assert!(matches!(get(reply), Err(AskError::Expired)));
    clock.advance(60 * SECOND);
    assert_eq!(assert_settled(&worker).expired, 1);
    assert!(worker.dead_letters().is_empty());

    let (worker, clock, log) = trying(steady(9), fails);
    let reply = waiting(&worker, &log, None);
    assert!(reply.cancel());
    assert!(matches!(get(reply), Err(AskError::Cancelled)));
    clock.advance(60 * SECOND);
    assert_eq!(assert_settled(&worker).cancelled, 1);
    assert_eq!(log.items(), [(1, 1)]);
    assert!(worker.dead_letters().is_empty());
}

#[test]
fn a_message_that_was_cancelled_while_it_ran_is_not_tried_again() {
    let worker = Worker::new("w");
    let (say, entered) = channel();
    let (go, wait) = channel::<()>();
    let retry = Retry::new(9).backoff(Duration::ZERO);
    worker.on_message_retry("job", retry, move |(): &()| {
        say.send(attempt()).expect("the test listens");
        wait.recv_timeout(LIMIT).expect("the test lets go");
        Err::<(), _>("too late")
    });
    worker.start().expect("it starts");
    let reply = worker.ask::<(), ()>("job", ()).expect("sent");
    entered.recv_timeout(LIMIT).expect("it runs");
    assert!(!reply.cancel());
    go.send(()).expect("it is there");
    let error = get(reply).expect_err("it fails");
    assert_eq!(error.to_string(), "the handler failed: too late");
    wait_stopped(&worker);
    assert!(entered.try_recv().is_err());
    assert!(worker.dead_letters().is_empty());
}

#[test]
fn a_stop_makes_no_more_attempts() {
    type Stop = fn(&Worker);
    let ways: [Stop; 2] = [wait_stopped, Worker::terminate];
    for stop in ways {
        let (worker, _, log) = trying(steady(9), |_, _| Some(Trouble::Busy));
        let (told, letters) = (Log::new(), Log::new());
        let (tell, keep) = (told.clone(), letters.clone());
        worker.on_error(move |error| tell.push(error.kind().to_owned()));
        worker.on_dead_letter(move |letter| keep.push(letter.clone()));
        let reply = waiting(&worker, &log, None);
        worker.post_message("job", 2_u64).expect("sent");
        wait_made(&worker, &log, 2);
        stop(&worker);
        let error = get(reply).expect_err("it failed before");
        assert_eq!(error.downcast_ref(), Some(&Trouble::Busy), "{error:?}");
        assert_eq!(told.items(), ["job", "job"]);
        assert_eq!(letters.items().len(), 2);
        let numbers = worker.dead_letters();
        let numbers: Vec<_> = numbers.iter().filter_map(|l| l.take::<u64>()).collect();
        assert_eq!(numbers, [1, 2]);
        assert_eq!(log.items(), [(1, 1), (2, 1)]);
        let stopping = worker.clone();
        join(move || stopping.stop());
        common::assert_adds_up(&worker.stats().counters);
    }
}

#[test]
fn a_stop_runs_what_is_behind_a_message_that_would_be_tried_again() {
    let (clock, log) = (HandClock::new(), Log::new());
    let pool = WorkerPool::builder().size(2).clock(&clock).build();
    let seen = log.clone();
    pool.on_message_retry("job", steady(2), move |number: &u64| {
        seen.push((*number, attempt()));
        if *number == 0 {
            Err(Trouble::Busy)
        } else {
            Ok(*number)
        }
    });
    pool.on_error(|_| ());
    let ask = |number: u64| {
        pool.message("job", number)
            .key("k")
            .ask::<u64>()
            .expect("sent")
    };
    let first = ask(0);
    let until = Instant::now() + LIMIT;
    while pool.stats().own.counters.retried == 0 {
        assert!(Instant::now() < until, "{:?}", log.items());
        thread::yield_now();
    }
    let behind = [ask(1), ask(2)];
    // The clock stands: no time wakes them.
    let options = StopOptions {
        timeout: Some(LIMIT),
        ..StopOptions::default()
    };
    pool.shutdown_with(options).expect("in time");
    assert!(get(first).is_err());
    assert_eq!(behind.map(|reply| get(reply).expect("handled")), [1, 2]);
    assert_eq!(log.items(), [(0, 1), (1, 1), (2, 1)]);
}

#[test]
fn what_runs_when_the_worker_stops_has_had_its_last_attempt() {
    let worker = Worker::new("w");
    worker.on_error(|_| ());
    let (say, entered) = channel();
    let (go, wait) = channel::<()>();
    worker.on_message_retry("job", Retry::new(9), move |n: &u64| {
        say.send(()).expect("the test listens");
        wait.recv_timeout(LIMIT).expect("the test lets go");
        Err::<u64, _>(format!("attempt {} of {n}", attempt()))
    });
    worker.start().expect("it starts");
    let reply = worker.ask::<u64, u64>("job", 1).expect("sent");
    entered.recv_timeout(LIMIT).expect("it runs");
    let stopping = worker.clone();
    let stop = thread::spawn(move || stopping.stop());
    let until = Instant::now() + LIMIT;
    while worker.post_message("job", 2_u64).is_ok() {
        go.send(()).expect("it is there");
        assert!(Instant::now() < until);
        thread::yield_now();
    }
    go.send(()).expect("it is there");
    // Each that was posted meanwhile has an attempt as well.
    while !stop.is_finished() {
        let _ = go.send(());
        thread::yield_now();
        assert!(Instant::now() < until);
    }
    stop.join().expect("it does not panic");
    let error = get(reply).expect_err("it fails");
    assert!(error.to_string().contains("of 1"), "{error}");
    assert!(!worker.dead_letters().is_empty());
    assert_settled(&worker);
}

#[test]
fn the_last_thousand_letters_are_kept() {
    let worker = Worker::new("w");
    worker.on_error(|_| ());
    let retry = Retry::new(1);
    worker.on_message_retry("job", retry, |number: &usize| {
        Err::<(), _>(number.to_string())
    });
    worker.start().expect("it starts");
    let more = 5;
    let numbers = 0..DEAD_LETTERS + more;
    worker.post_messages("job", numbers).expect("sent");
    wait_stopped(&worker);
    let letters = worker.dead_letters();
    assert_eq!(letters.len(), DEAD_LETTERS);
    let numbers: Vec<_> = letters.iter().filter_map(|l| l.take::<usize>()).collect();
    assert_eq!(numbers, (more..DEAD_LETTERS + more).collect::<Vec<_>>());
}

#[test]
fn a_letter_is_posted_again_as_a_new_message() {
    let (worker, _, log) = trying(Retry::new(1), |_, _| Some(Trouble::Broken));
    worker.start().expect("it starts");
    drop(worker.ask::<u64, u64>("job", 1).expect("sent"));
    worker.post_message("job", 2_u64).expect("sent");
    worker.run_until_idle(LIMIT).expect("in time");
    let letters = worker.dead_letters();
    let kept = letters[1].clone();
    for letter in letters {
        assert!(worker.post_again(&letter).expect("there is room"));
        assert!(!worker.post_again(&letter).expect("it was posted"));
    }
    worker.run_until_idle(LIMIT).expect("in time");
    // They failed again, in the first attempt of each.
    assert_eq!(log.items(), [(1, 1), (2, 1), (1, 1), (2, 1)]);
    let letters = worker.dead_letters();
    assert_eq!(letters.len(), 2);
    assert_eq!(kept.take::<u64>(), None, "it went to the new message");

    wait_stopped(&worker);
    let refused = worker.post_again(&letters[0]);
    assert!(matches!(refused, Err(SendError::Stopped(()))));
    assert_eq!(worker.dead_letters().len(), 2);
    // Another worker may be given it.
    let other = Worker::new("other");
    let seen = Log::new();
    let log = seen.clone();
    other.on_message("job", move |number: u64| {
        log.push(number);
        Ok::<_, Infallible>(())
    });
    assert!(other.post_again(&letters[0]).expect("there is room"));
    other.start().expect("it starts");
    wait_stopped(&other);
    assert_eq!(seen.items(), [1]);
}

#[test]
fn a_letter_whose_handler_panics_and_a_payload_that_is_large_or_shared_stay_whole() {
    let held = Arc::new(());
    let worker = Worker::new("w");
    worker.on_error(|_| ());
    worker.on_dead_letter(|_| panic!("on purpose"));
    worker.on_message_retry("job", Retry::new(1), |_: &Order| Err::<(), _>("no"));
    worker.start().expect("it starts");
    let order = Order {
        number: 1,
        held: held.clone(),
        _large: [1; 8],
    };
    let reply = worker.ask::<Order, ()>("job", order).expect("sent");
    assert!(matches!(get(reply), Err(AskError::Failed(_))));
    assert_eq!(Arc::strong_count(&held), 2);
    let letter = worker.dead_letters().remove(0);
    let order = letter.take::<Order>().expect("it is there");
    assert_eq!(order.number, 1);
    drop(order);
    assert_eq!(Arc::strong_count(&held), 1);
}

#[test]
fn a_handler_that_is_registered_between_two_attempts_gets_the_message() {
    let (worker, clock, log) = trying(steady(9), |_, _| Some(Trouble::Busy));
    let reply = waiting(&worker, &log, None);
    worker.post_message("job", 2_u64).expect("sent");
    wait_made(&worker, &log, 2);
    let seen = Log::new();
    let other = seen.clone();
    worker.on_message("job", move |number: u64| {
        other.push((number, attempt()));
        Ok::<_, Infallible>(10 * number)
    });
    clock.advance(SECOND);
    assert_eq!(get(reply).expect("handled"), 10);
    worker.run_until_idle(LIMIT).expect("in time");
    let mut seen = seen.items();
    seen.sort_unstable();
    assert_eq!(seen, [(1, 2), (2, 2)]);
}

#[test]
fn a_message_that_was_sent_before_its_handler_is_tried_again_too() {
    let worker = Worker::new("w");
    let early = worker.ask::<u64, u64>("job", 1).expect("sent");
    worker.post_message("job", 2_u64).expect("sent");
    let wrong = worker
        .ask::<String, u64>("job", String::new())
        .expect("sent");
    worker.on_error(|_| ());
    let retry = Retry::new(2).backoff(Duration::ZERO);
    worker.on_message_retry("job", retry, |number: &u64| {
        if attempt() == 1 {
            Err("not yet")
        } else {
            Ok(*number)
        }
    });
    worker.start().expect("it starts");
    assert_eq!(get(early).expect("the second attempt"), 1);
    assert!(matches!(get(wrong), Err(AskError::WrongType(_))));
    wait_stopped(&worker);
    assert_eq!(assert_settled(&worker).retried, 2);
}

#[test]
fn several_at_the_same_time_are_tried_again_each_for_itself() {
    const MESSAGES: u64 = 300;
    let pool = WorkerPool::new(3);
    let several = Worker::builder("w").concurrency(3).build();
    let seen: Arc<Mutex<HashMap<u64, Vec<u32>>>> = Arc::default();
    let handler = |seen: &Arc<Mutex<HashMap<u64, Vec<u32>>>>| {
        let seen = seen.clone();
        move |number: &u64| {
            let mut seen = seen.lock().expect("not poisoned");
            seen.entry(*number).or_default().push(attempt());
            drop(seen);
            let needed = u32::try_from(number % 3).expect("small") + 1;
            if attempt() < needed {
                Err("not yet")
            } else {
                Ok(*number)
            }
        }
    };
    let retry = || Retry::new(3).backoff(Duration::ZERO);
    pool.on_message_retry("job", retry(), handler(&seen));
    several
        .concurrent()
        .on_message_retry("job", retry(), handler(&seen));
    several.start().expect("it starts");
    let (low, high) = (0..MESSAGES, MESSAGES..2 * MESSAGES);
    let of_pool: Vec<_> = low.map(|n| (n, pool.ask::<u64, u64>("job", n))).collect();
    let of_worker: Vec<_> = high
        .map(|n| (n, several.ask::<u64, u64>("job", n)))
        .collect();
    for (number, reply) in of_pool.into_iter().chain(of_worker) {
        assert_eq!(get(reply.expect("sent")).expect("handled"), number);
    }
    let seen = seen.lock().expect("not poisoned");
    for (number, attempts) in seen.iter() {
        let needed = u32::try_from(number % 3).expect("small") + 1;
        assert_eq!(*attempts, (1..=needed).collect::<Vec<_>>());
    }
    assert_eq!(pool.stats().own.counters.retried, MESSAGES);
    wait_stopped(&several);
    assert_eq!(assert_settled(&several).retried, MESSAGES);
}

#[test]
fn a_message_that_says_how_often_it_is_tried_goes_by_that_alone() {
    let (worker, clock, log) = trying(steady(3), |number, attempt| match number {
        4 if attempt == 1 => panic!("once"),
        1..5 => Some(Trouble::Broken),
        _ => Some(Trouble::Busy),
    });
    let if_busy = |retry: Retry<Box<dyn std::error::Error + Send + Sync>>| {
        retry.on(|error| error.downcast_ref() == Some(&Trouble::Busy))
    };
    // The first posted, the others asked; what lies in its envelope and what does not.
    worker
        .message("job", 0_u64)
        .retry(Retry::new(1))
        .post()
        .expect("sent");
    let ask = |number: u64, retry| worker.message("job", number).retry(retry).ask::<u64>();
    let replies = [
        ask(1, if_busy(steady(2))),
        ask(2, steady(2)),
        ask(5, if_busy(steady(2))),
        ask(4, steady(9).on_panic(false)),
        worker.ask("job", 6),
    ];
    worker.start().expect("it starts");
    for made in [6, 9, 10] {
        wait_made(&worker, &log, made);
        clock.advance(SECOND);
    }
    for reply in replies {
        assert!(get(reply.expect("sent")).is_err());
    }
    let mut tried = log.items();
    tried.sort_unstable();
    let tried_once = [(0, 1), (1, 1), (2, 1), (2, 2), (4, 1)];
    assert_eq!(
        tried,
        [&tried_once[..], &[(5, 1), (5, 2), (6, 1), (6, 2), (6, 3)]].concat()
    );
    assert_eq!(assert_settled(&worker).retried, 4);
    assert_eq!(worker.dead_letters().len(), 6);
}

#[test]
fn a_message_to_be_tried_again_is_refused_where_its_handler_keeps_none() {
    let (worker, ..) = trying(steady(3), |_, _| None);
    worker.on_message("once", |number: u64| Ok::<_, Infallible>(number));
    worker.on_stream("items", |_: u64, items| items.send(1_u64));
    let message = |kind| worker.message(kind, 7_u64).retry(Retry::new(2));
    assert!(matches!(
        message("once").post(),
        Err(SendError::NotRetried(7))
    ));
    assert!(matches!(
        message("once").ask::<u64>(),
        Err(SendError::NotRetried(7))
    ));
    assert!(matches!(
        message("items").stream::<u64>(1),
        Err(SendError::NotRetried(7))
    ));
    let refused = message("once").try_post().expect_err("refused");
    assert!(
        refused.to_string().contains("on_message_retry"),
        "{refused}"
    );
    assert_eq!(worker.stats().counters.posted, 0);
    // A handler that comes later may take it once.
    message("later").post().expect("sent");
    worker.on_message("later", |_: u64| Err::<(), _>(Trouble::Busy));
    worker.start().expect("it starts");
    worker.run_until_idle(LIMIT).expect("in time");
    let counters = worker.stats().counters;
    assert_eq!((counters.failed, counters.retried), (1, 0));
}

#[test]
#[should_panic(expected = "a message is tried at least once")]
fn no_attempts_are_refused() {
    let _ = Retry::<Trouble>::new(0);
}

#[test]
#[should_panic(expected = "a share from 0 to 1, not -0.5")]
fn a_negative_jitter_is_refused() {
    let _ = Retry::<Trouble>::new(2).jitter(-0.5);
}

#[test]
#[should_panic(expected = "a share from 0 to 1, not NaN")]
fn a_jitter_that_is_no_number_is_refused() {
    let _ = Retry::<Trouble>::new(2).jitter(f64::NAN);
}
