//! Deliveries: what is handed over, in what batches, and how it is counted meanwhile.
//!
//! The handler hands everything over to a child (`deliveries/child.rs`) that does nothing by itself: it begins and ends
//! a message when the test says so, on the test's own thread or on two others.

mod common;

#[path = "deliveries/cancel.rs"]
mod cancel;
#[path = "deliveries/child.rs"]
mod child;
#[path = "deliveries/deadlines.rs"]
mod deadlines;
#[path = "deliveries/ends.rs"]
mod ends;
#[path = "deliveries/mixes.rs"]
mod mixes;
#[path = "deliveries/model.rs"]
mod model;
#[path = "deliveries/put_back.rs"]
mod put_back;

use std::collections::VecDeque;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use pytoweb_engine::{Outcome, Overflow, PostError, StopMode, Worker, WorkerState};

use child::{
    Asked, Child, Note, RAN, asked_note, assert_settled, counters, fresh, load, note, post, roomy,
    shared, start,
};
use common::{LONG, bounded, is_full, pool, pool_with_clock};

#[test]
fn batches_keep_the_order_and_one_is_on_its_way_at_a_time() {
    bounded(|| {
        let pool = pool(2);
        let worker = roomy(&pool, 4);
        for number in 0..10 {
            post(&worker, number);
        }
        assert!(worker.handler().batches().is_empty(), "not started");
        start(&worker);
        let mut batches = vec![vec![0, 1, 2, 3]];
        for number in 0..10 {
            assert_eq!(worker.handler().batches(), batches);
            assert_eq!(load(&worker), (9 - number, 1));
            assert_eq!(worker.handler().run_one(), Some(number));
            match number {
                // Half of the window is left.
                1 => batches.push(vec![4, 5]),
                3 => batches.push(vec![6, 7]),
                5 => batches.push(vec![8, 9]),
                _ => {}
            }
        }
        assert_eq!(worker.handler().batches(), batches);
        assert_eq!(counters(&worker).completed, 10);
        assert_settled(&worker);
    });
}

#[test]
fn a_post_hands_over_if_nothing_is_on_its_way() {
    bounded(|| {
        let pool = pool(1);
        let worker = roomy(&pool, 3);
        start(&worker);
        for number in 0..6 {
            post(&worker, number);
        }
        assert_eq!(worker.handler().batches(), [vec![0]]);
        assert_eq!(load(&worker), (5, 1));
        assert_eq!(worker.handler().run_all(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(
            worker.handler().batches(),
            [vec![0], vec![1, 2, 3], vec![4, 5]]
        );
        post(&worker, 6);
        assert_eq!(worker.handler().on_its_way(), [6], "idle again");
        assert_eq!(worker.handler().run_all(), [6]);
        assert_settled(&worker);
    });
}

#[test]
fn a_pools_own_mailbox_has_as_many_on_their_way_as_the_pool_has_threads() {
    bounded(|| {
        let pool = pool(3);
        let worker = shared(&pool, 1, 100, Overflow::Reject);
        for number in 0..8 {
            post(&worker, number);
            assert_eq!(
                load(&worker),
                ((number + 1).saturating_sub(3), (number + 1).min(3))
            );
        }
        let child = worker.handler();
        let begun: Vec<_> = std::iter::from_fn(|| child.begin()).collect();
        assert_eq!(begun, [0, 1, 2], "three batches, one of each begun");
        child.finish(1, Outcome::Completed);
        assert_eq!(child.on_its_way(), [0, 2, 3]);
        assert_eq!(load(&worker), (4, 3));
        child.finish(0, Outcome::Completed);
        child.finish(2, Outcome::Completed);
        assert_eq!(child.run_all(), [3, 4, 5, 6, 7]);
        assert_eq!(counters(&worker).completed, 8);
        assert_settled(&worker);
    });
}

#[test]
fn the_batches_of_a_pools_own_mailbox_end_in_any_order() {
    bounded(|| {
        let pool = pool(2);
        let worker = shared(&pool, 3, 100, Overflow::Reject);
        let mut batch: VecDeque<Note> = (0..8).map(note).collect();
        assert_eq!(worker.try_post_many(&mut batch).expect("room"), 8);
        let child = worker.handler();
        assert_eq!(child.batches(), [vec![0, 1, 2], vec![3, 4, 5]]);
        assert_eq!(load(&worker), (6, 2));
        assert_eq!((child.begin(), child.begin()), (Some(0), Some(3)));
        assert_eq!(child.begin(), None);
        for number in 3..6 {
            child.finish(number, Outcome::Completed);
            if number < 5 {
                assert_eq!(child.begin(), Some(number + 1));
                assert_eq!(load(&worker).1, 2);
            }
        }
        assert_eq!(child.batches()[2..], [vec![6, 7]]);
        child.finish(0, Outcome::Completed);
        assert_eq!(child.run_all(), [1, 2, 6, 7]);
        assert_eq!(counters(&worker).completed, 8);
        assert_settled(&worker);
    });
}

#[test]
fn the_capacity_is_exact_with_messages_ahead() {
    bounded(|| {
        for window in 1..=6 {
            let pool = pool(1);
            let worker = fresh(&pool, window, 5, Overflow::Reject);
            let mut next = 0;
            let mut fill = |expected: usize| {
                let mut accepted = 0;
                while worker.try_post(note(next)).is_ok() {
                    next += 1;
                    accepted += 1;
                }
                assert_eq!(accepted, expected, "window {window}");
            };
            fill(5);
            start(&worker);
            assert_eq!(load(&worker), (4, 1));
            for _ in 0..20 {
                fill(1);
                assert_eq!(load(&worker), (5, 1));
                worker.handler().run_one().expect("one is on its way");
            }
            assert_eq!(worker.handler().run_all().len(), 5);
            let counters = counters(&worker);
            assert_eq!((counters.posted, counters.completed), (25, 25));
            assert_eq!(counters.rejected, 21);
            assert_settled(&worker);
        }
    });
}

const PRODUCERS: u64 = 3;
const EACH: u64 = 1_500;

/// Posts from three threads to two that play the child; returns how many posts were refused, and what was asked.
fn flood(worker: &Worker<Child>) -> (u64, Vec<Asked>) {
    // What came back after it had moved up has a place again, and what the child has begun before its end of the one
    // before was counted cannot be dropped: one message of each batch.
    let above = match worker.overflow() {
        Overflow::DropOldest if worker.is_exclusive() => 1,
        Overflow::DropOldest => worker.pool().size(),
        _ => 0,
    };
    let most = (worker.capacity() + above) as u64;
    let refused = AtomicUsize::new(0);
    let barrier = Barrier::new(PRODUCERS.try_into().expect("small"));
    let asked = thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| worker.handler().serve());
        }
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|producer| {
                let (refused, barrier) = (&refused, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    let mut kept = Vec::new();
                    for number in producer * EACH..(producer + 1) * EACH {
                        let (message, asked) = asked_note(number);
                        match worker.post(message, Some(LONG)) {
                            Ok(()) => kept.push(asked),
                            Err(PostError::Full(_)) => {
                                refused.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(error) => panic!("{error:?}"),
                        }
                        let queued = counters(worker).queued;
                        assert!(queued <= most, "{queued} queued, {most} at most");
                    }
                    kept
                })
            })
            .collect();
        let asked = producers
            .into_iter()
            .flat_map(|thread| thread.join().expect("no panic"))
            .collect();
        worker.close(StopMode::Drain);
        assert!(worker.wait_ended(Some(LONG)).expect("not inside"));
        worker.handler().end();
        asked
    });
    (refused.into_inner() as u64, asked)
}

#[test]
fn every_policy_accounts_for_every_message_when_threads_meet() {
    bounded(|| {
        for overflow in Overflow::ALL {
            for (own, window) in [(false, 1), (false, 4), (true, 1), (true, 3)] {
                let pool = pool(2);
                let worker = if own {
                    shared(&pool, window, 16, overflow)
                } else {
                    let worker = fresh(&pool, window, 16, overflow);
                    start(&worker);
                    worker
                };
                let (refused, asked) = flood(&worker);
                assert_settled(&worker);
                let counters = counters(&worker);
                let offered = PRODUCERS * EACH;
                assert_eq!(counters.posted + counters.rejected, offered);
                assert_eq!(counters.rejected, refused);
                assert_eq!(counters.posted, asked.len() as u64);
                assert_eq!(counters.completed + counters.dropped(), counters.posted);
                let completed = asked.iter().filter(|asked| asked.reply().is_ok()).count();
                assert_eq!(counters.completed, completed as u64);
                match overflow {
                    Overflow::Block => assert_eq!(counters.completed, offered),
                    Overflow::Reject => assert_eq!(counters.dropped(), 0),
                    Overflow::DropNewest => assert_eq!(counters.dropped_oldest, 0),
                    Overflow::DropOldest => assert_eq!(counters.dropped_newest, 0),
                }
                let begun = worker.handler().way().begun.clone();
                assert_eq!(begun.len(), completed);
                // The batches of a pool's own mailbox run at the same time.
                for producer in (0..PRODUCERS).filter(|_| !own) {
                    let mine: Vec<_> = begun.iter().filter(|n| *n / EACH == producer).collect();
                    assert!(mine.is_sorted(), "the order of one sender");
                }
            }
        }
    });
}

#[test]
fn a_blocked_sender_gets_the_place_of_one_that_moves_up() {
    bounded(|| {
        let pool = pool(1);
        let worker = fresh(&pool, 3, 3, Overflow::Block);
        for number in 0..3 {
            post(&worker, number);
        }
        start(&worker);
        post(&worker, 3);
        assert!(is_full(&worker.try_post(note(4))));
        thread::scope(|scope| {
            let sender = scope.spawn(|| worker.post(note(4), Some(LONG)).is_ok());
            // Message 1 moves up, and leaves its place to the sender.
            assert_eq!(worker.handler().run_one(), Some(0));
            assert!(sender.join().expect("no panic"));
        });
        assert_eq!(load(&worker), (3, 1));
        assert_eq!(worker.handler().run_all(), [1, 2, 3, 4]);
        assert_settled(&worker);
    });
}

#[test]
fn the_child_says_how_long_a_message_took() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let worker = roomy(&pool, 4);
        for number in 0..3 {
            post(&worker, number);
        }
        start(&worker);
        clock.advance(RAN * 5);
        assert_eq!(worker.handler().run_all().len(), 3);
        let stats = worker.stats();
        assert_eq!(stats.busy, RAN * 3);
        let within = |seen: Option<Duration>, real: Duration| {
            let seen = seen.expect("timed");
            assert!(seen.abs_diff(real) * 8 <= real, "{seen:?} for {real:?}");
        };
        within(stats.timings.run_p50, RAN);
        within(stats.timings.wait_p50, RAN * 4);
    });
}

#[test]
fn a_wait_for_the_end_waits_for_what_is_on_its_way() {
    bounded(|| {
        let pool = pool(1);
        let worker = roomy(&pool, 2);
        for number in 0..3 {
            post(&worker, number);
        }
        start(&worker);
        let none = Some(Duration::ZERO);
        assert!(!worker.wait_idle(none).expect("not inside"));
        worker.close(StopMode::Drain);
        pool.shutdown();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let joins = scope.spawn(|| {
                pool.join();
                over.load(Ordering::SeqCst)
            });
            let ends = scope.spawn(|| {
                let ended = worker.wait_ended(Some(LONG)).expect("not inside");
                ended && over.load(Ordering::SeqCst)
            });
            for number in 0..3 {
                assert!(!worker.is_idle());
                assert!(!worker.wait_ended(none).expect("not inside"));
                assert_eq!(pool.threads(), 1);
                assert_eq!(worker.handler().begin(), Some(number));
                over.store(number == 2, Ordering::SeqCst);
                worker.handler().finish(number, Outcome::Completed);
            }
            assert!(ends.join().expect("no panic"), "ended with messages left");
            assert!(joins.join().expect("no panic"), "joined with messages left");
        });
        assert!(worker.wait_idle(none).expect("not inside"));
        assert_eq!(worker.state(), WorkerState::Stopped);
        assert_eq!(pool.threads(), 0);
    });
}
