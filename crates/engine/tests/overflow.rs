//! Full mailboxes: every policy, counted to the message.

mod common;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use common::{
    Asked, Job, LONG, Out, ask, assert_adds_up, bounded, bounded_worker, is_full, occupy, park,
    pool, post,
};
use pytoweb_engine::{DropReason, Failure, Overflow, PostError, StopMode};

const PRODUCERS: usize = 8;
const EACH: usize = 2_000;
const CAPACITY: usize = 16;

/// Eight producers post at once. Returns how many posts were refused.
fn flood(overflow: Overflow) -> (u64, Vec<Asked>, pytoweb_engine::Counters, u64) {
    let pool = pool(2);
    let worker = Arc::new(bounded_worker(&pool, CAPACITY, overflow));
    let (runs, refused) = (Arc::new(AtomicU64::new(0)), AtomicU64::new(0));
    let start = Barrier::new(PRODUCERS);
    let asked = thread::scope(|scope| {
        let threads: Vec<_> = (0..PRODUCERS)
            .map(|_| {
                let (worker, runs, refused, start) = (&worker, &runs, &refused, &start);
                scope.spawn(move || {
                    start.wait();
                    let mut kept = Vec::new();
                    for _ in 0..EACH {
                        let runs = runs.clone();
                        let (job, asked) = Job::ask(move || {
                            runs.fetch_add(1, Ordering::Relaxed);
                            Out::Value(1)
                        });
                        match worker.post(job, Some(LONG)) {
                            Ok(()) => kept.push(asked),
                            Err(PostError::Full(_)) => {
                                refused.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(error) => panic!("{error:?}"),
                        }
                        let counters = worker.stats().counters;
                        assert_adds_up(&counters);
                        assert!(counters.queued <= CAPACITY as u64);
                    }
                    kept
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("no panic"))
            .collect()
    });
    worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
    let counters = worker.stats().counters;
    assert_adds_up(&counters);
    assert_eq!((counters.queued, counters.running), (0, 0));
    assert_eq!(counters.completed, runs.load(Ordering::Relaxed));
    assert_eq!(
        counters.posted + counters.rejected,
        (PRODUCERS * EACH) as u64
    );
    assert_eq!(counters.rejected, refused.load(Ordering::Relaxed));
    (
        refused.load(Ordering::Relaxed),
        asked,
        counters,
        runs.load(Ordering::Relaxed),
    )
}

fn replies(asked: &[Asked], reply: Result<u64, Failure>) -> u64 {
    asked
        .iter()
        .filter(|asked| asked.reply() == reply)
        .count()
        .try_into()
        .expect("fits")
}

#[test]
fn block_loses_nothing() {
    bounded(|| {
        let (refused, asked, counters, runs) = flood(Overflow::Block);
        assert_eq!(refused, 0);
        assert_eq!(runs, (PRODUCERS * EACH) as u64);
        assert_eq!(replies(&asked, Ok(1)), counters.completed);
    });
}

#[test]
fn reject_counts_what_it_refused() {
    bounded(|| {
        let (refused, asked, counters, runs) = flood(Overflow::Reject);
        assert_eq!(runs + refused, (PRODUCERS * EACH) as u64);
        assert_eq!(replies(&asked, Ok(1)), counters.completed);
    });
}

#[test]
fn drop_newest_tells_the_newest() {
    bounded(|| {
        let (refused, asked, counters, runs) = flood(Overflow::DropNewest);
        assert_eq!(refused, 0);
        assert_eq!(counters.dropped_newest, counters.dropped());
        assert_eq!(runs + counters.dropped(), (PRODUCERS * EACH) as u64);
        let dropped = Err(Failure::Dropped(DropReason::Newest));
        assert_eq!(replies(&asked, dropped), counters.dropped());
        assert_eq!(replies(&asked, Ok(1)), counters.completed);
    });
}

#[test]
fn drop_oldest_tells_the_oldest() {
    bounded(|| {
        let (refused, asked, counters, runs) = flood(Overflow::DropOldest);
        assert_eq!(refused, 0);
        assert_eq!(counters.dropped_oldest, counters.dropped());
        assert_eq!(runs + counters.dropped(), (PRODUCERS * EACH) as u64);
        let dropped = Err(Failure::Dropped(DropReason::Oldest));
        assert_eq!(replies(&asked, dropped), counters.dropped());
        assert_eq!(replies(&asked, Ok(1)), counters.completed);
    });
}

#[test]
fn each_policy_keeps_what_it_says() {
    bounded(|| {
        for (overflow, kept) in [
            (Overflow::Reject, [0, 1, 2]),
            (Overflow::DropNewest, [0, 1, 2]),
            (Overflow::DropOldest, [2, 3, 4]),
        ] {
            let pool = pool(1);
            let worker = bounded_worker(&pool, 3, overflow);
            let gate = occupy(&worker);
            let asked: Vec<_> = (0..5)
                .map(|n| {
                    let (job, asked) = Job::ask(move || Out::Value(n));
                    let full = is_full(&worker.post(job, None));
                    assert_eq!(full, overflow == Overflow::Reject && n > 2);
                    asked
                })
                .collect();
            gate.open();
            worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
            let handled: Vec<u64> = asked.iter().filter_map(|asked| asked.now()?.ok()).collect();
            assert_eq!(handled, kept, "{overflow}");
        }
    });
}

#[test]
fn a_hundred_thousand_blocked_posts_all_wake() {
    bounded(|| {
        // One place and four senders: nearly every post blocks, and every wake-up is needed.
        const SENDERS: usize = 4;
        const POSTS: usize = 100_000 / SENDERS;
        let pool = pool(1);
        let worker = bounded_worker(&pool, 1, Overflow::Block);
        let handled = Arc::new(AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..SENDERS {
                scope.spawn(|| {
                    for _ in 0..POSTS {
                        let handled = handled.clone();
                        let job = Job::post(move || {
                            handled.fetch_add(1, Ordering::Relaxed);
                        });
                        // Without a limit: a lost wake-up hangs, and `bounded` says so.
                        worker.post(job, None).expect("posted");
                    }
                });
            }
        });
        worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
        assert_eq!(handled.load(Ordering::Relaxed), SENDERS * POSTS);
        assert_eq!(worker.stats().counters.rejected, 0);
    });
}

#[test]
fn blocked_senders_with_limits_of_all_kinds_lose_no_wake_up() {
    bounded(|| {
        let pool = pool(1);
        let worker = bounded_worker(&pool, 2, Overflow::Block);
        let (accepted, refused) = (AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            for sender in 0..4_u64 {
                let (worker, accepted, refused) = (&worker, &accepted, &refused);
                scope.spawn(move || {
                    for n in 0..2_000_u64 {
                        let limit = match (sender + n) % 3 {
                            0 => Some(Duration::ZERO),
                            1 => Some(Duration::from_micros(20)),
                            _ => None,
                        };
                        match worker.post(Job::post(|| ()), limit) {
                            Ok(()) => accepted.fetch_add(1, Ordering::Relaxed),
                            Err(PostError::Full(_)) => refused.fetch_add(1, Ordering::Relaxed),
                            Err(error) => panic!("{error:?}"),
                        };
                    }
                });
            }
        });
        worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
        let counters = worker.stats().counters;
        assert_eq!(counters.completed, accepted.load(Ordering::Relaxed));
        assert_eq!(counters.rejected, refused.load(Ordering::Relaxed));
        assert_eq!(counters.posted + counters.rejected, 8_000);
    });
}

#[test]
fn a_post_that_finds_no_room_in_time_gives_the_message_back() {
    bounded(|| {
        let pool = pool(1);
        let worker = bounded_worker(&pool, 1, Overflow::Block);
        let gate = occupy(&worker);
        post(&worker, || ());
        assert!(is_full(&worker.try_post(Job::post(|| ()))));
        assert_eq!(worker.stats().counters.rejected, 0);
        let (job, asked) = Job::ask(|| Out::Value(4));
        let Err(PostError::Full(job)) = worker.post(job, Some(Duration::from_millis(1))) else {
            panic!("there was no room");
        };
        assert_eq!(worker.stats().counters.rejected, 1);
        gate.open();
        worker.post(job, Some(LONG)).expect("room by now");
        assert_eq!(asked.reply(), Ok(4));
    });
}

#[test]
fn a_blocked_sender_is_told_when_the_worker_stops() {
    bounded(|| {
        for stop in [StopMode::Drain, StopMode::FinishRunning] {
            let pool = pool(1);
            let worker = bounded_worker(&pool, 1, Overflow::Block);
            let gate = occupy(&worker);
            post(&worker, || ());
            thread::scope(|scope| {
                let blocked: Vec<_> = (0..4)
                    .map(|_| scope.spawn(|| worker.post(Job::post(|| ()), None)))
                    .collect();
                let (parked, told) = park(&worker, Job::post(|| ()));
                worker.close(stop);
                told.pass();
                assert!(matches!(parked.finish(), Err(PostError::Stopped(_))));
                for blocked in blocked {
                    assert!(matches!(
                        blocked.join().expect("no panic"),
                        Err(PostError::Stopped(_))
                    ));
                }
            });
            gate.open();
            worker.stop(stop, Some(LONG)).expect("in time");
        }
    });
}

#[test]
fn a_parked_post_goes_in_when_a_place_is_free() {
    bounded(|| {
        let pool = pool(1);
        let worker = bounded_worker(&pool, 1, Overflow::Block);
        let at_once = worker.park(Job::post(|| ()), None);
        assert!(matches!(at_once, Ok(None)), "there is room");
        let gate = occupy(&worker);
        let queued = ask(&worker, || 1);
        let (first, first_in) = park(&worker, Job::post(|| ()));
        let (second, second_in) = park(&worker, Job::post(|| ()));
        assert!(!first_in.is_open());
        assert!(worker.address().cancel(&queued.ticket()));
        assert!(first_in.is_open(), "a cancelled message makes room at once");
        assert!(!second_in.is_open());
        assert!(
            is_full(&worker.try_post(Job::post(|| ()))),
            "a later sender does not overtake the line"
        );
        gate.open();
        second_in.pass();
        assert!(first.finish().is_ok() && second.finish().is_ok());
    });
}

#[test]
fn parked_posts_run_in_the_order_in_which_they_were_parked() {
    bounded(|| {
        let pool = pool(1);
        let worker = bounded_worker(&pool, 2, Overflow::Block);
        let gate = occupy(&worker);
        let order = Arc::new(Mutex::new(Vec::new()));
        let job = |number: usize| {
            let order = order.clone();
            Job::post(move || order.lock().expect("not poisoned").push(number))
        };
        let parked: Vec<_> = (0..100)
            .filter_map(|number| worker.park(job(number), None).expect("it stays open"))
            .collect();
        assert_eq!(parked.len(), 98);
        assert_eq!(
            worker.stats().counters.posted,
            3,
            "those in line are not in"
        );
        gate.open();
        for parked in parked {
            assert!(parked.wait(Some(LONG)).expect("not inside"));
            assert!(parked.finish().is_ok());
        }
        assert!(worker.wait_idle(Some(LONG)).expect("not inside"));
        assert_eq!(
            *order.lock().expect("not poisoned"),
            (0..100).collect::<Vec<_>>()
        );
        assert_adds_up(&worker.stats().counters);
    });
}

#[test]
fn a_withdrawn_post_holds_up_no_other() {
    bounded(|| {
        let pool = pool(1);
        let worker = bounded_worker(&pool, 1, Overflow::Block);
        let gate = occupy(&worker);
        post(&worker, || ());
        let ran = Arc::new(AtomicUsize::new(0));
        let parked: Vec<_> = (0..1000)
            .map(|_| {
                let ran = ran.clone();
                let job = Job::post(move || {
                    ran.fetch_add(1, Ordering::Relaxed);
                });
                park(&worker, job).0
            })
            .collect();
        let mut kept = Vec::new();
        for (index, parked) in parked.into_iter().enumerate() {
            match index % 3 {
                0 => drop(parked),
                1 => assert!(matches!(parked.finish(), Err(PostError::Full(_)))),
                _ => kept.push(parked),
            }
        }
        gate.open();
        for parked in kept {
            assert!(parked.wait(Some(LONG)).expect("not inside"));
        }
        assert!(worker.wait_idle(Some(LONG)).expect("not inside"));
        assert_eq!(ran.load(Ordering::Relaxed), 333);
        let counters = worker.stats().counters;
        assert_eq!((counters.posted, counters.rejected), (335, 0));
    });
}

#[test]
fn the_deadline_of_a_parked_post_counts_from_its_parking() {
    bounded(|| {
        let pool = pool(1);
        let worker = bounded_worker(&pool, 1, Overflow::Block);
        let gate = occupy(&worker);
        let queued = ask(&worker, || 1);
        let (job, asked) = Job::ask(|| Out::Value(2));
        let limit = Duration::from_millis(20);
        let parked = worker.park(job, Some(limit)).expect("it stays open");
        assert!(parked.is_some());
        assert!(asked.now().is_none(), "not watched before it is in");
        assert!(worker.address().cancel(&queued.ticket()));
        assert_eq!(asked.reply(), Err(Failure::Expired));
        gate.open();
        assert!(worker.wait_idle(Some(LONG)).expect("not inside"));
        assert_eq!(worker.stats().counters.expired, 1);
    });
}

#[test]
fn a_handler_does_not_wait_for_room_in_its_own_mailbox() {
    bounded(|| {
        let pool = pool(2);
        let worker = Arc::new(bounded_worker(&pool, 1, Overflow::Block));
        let inner = worker.clone();
        let asked = ask(&worker, move || {
            // One fills it (or the test's own post did), the next finds it full.
            let results = [
                inner.post(Job::post(|| ()), Some(LONG)),
                inner.post(Job::post(|| ()), Some(LONG)),
            ];
            results
                .iter()
                .filter(|result| matches!(result, Err(PostError::WouldDeadlock(_))))
                .count() as u64
        });
        assert!(asked.reply().expect("a value") >= 1);
    });
}
