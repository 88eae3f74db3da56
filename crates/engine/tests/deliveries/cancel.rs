//! Cancelling, and deadlines: of what is ahead, and of what runs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use pytoweb_engine::{Failure, Outcome, Overflow, WorkerState};

use crate::child::{
    Asked, Note, ask, ask_all, asked_note, assert_settled, counters, fresh, load, note, post,
    roomy, shared, start,
};
use crate::common::{LONG, bounded, is_full, pool, pool_with_clock};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn cancel_takes_a_message_that_is_ahead_out() {
    bounded(|| {
        let pool = pool(1);
        let worker = fresh(&pool, 4, 4, Overflow::Reject);
        let asked = ask_all(&worker, 0..4);
        start(&worker);
        post(&worker, 4);
        assert_eq!(worker.handler().begin(), Some(0));
        assert!(is_full(&worker.try_post(note(5))));
        assert!(worker.address().cancel(&asked[2].ticket()));
        assert_eq!(asked[2].now(), Some(Err(Failure::Cancelled)));
        assert!(!worker.address().cancel(&asked[2].ticket()), "once");
        assert_eq!(counters(&worker).cancelled, 1);
        assert_eq!(load(&worker), (3, 1));
        assert!(worker.try_post(note(5)).is_ok(), "it made room");
        assert!(worker.handler().way().stops.is_empty());
        worker.handler().finish(0, Outcome::Completed);
        assert_eq!(worker.handler().run_all(), [1, 3, 4, 5]);
        assert_eq!(asked[3].now(), Some(Ok(3)));
        assert_settled(&worker);
    });
}

#[test]
fn cancel_stops_the_message_that_runs() {
    bounded(|| {
        let pool = pool(1);
        let worker = roomy(&pool, 2);
        let asked = ask_all(&worker, 0..2);
        start(&worker);
        assert_eq!(worker.handler().begin(), Some(0));
        let ticket = asked[0].ticket();
        assert!(worker.address().cancel(&ticket));
        assert_eq!(asked[0].now(), Some(Err(Failure::Cancelled)));
        assert!(ticket.state().is_cancel_requested());
        assert!(!worker.address().cancel(&ticket), "once");
        {
            let way = worker.handler().way();
            let [Some(stopped)] = &way.stops[..] else {
                panic!("{} stops", way.stops.len());
            };
            assert!(Arc::ptr_eq(stopped, &ticket));
        }
        assert_eq!(counters(&worker).cancelled, 0, "it still runs");
        assert_eq!(load(&worker), (1, 1));
        worker.handler().finish(0, Outcome::Completed);
        assert_eq!(counters(&worker).cancelled, 1);
        assert_eq!(worker.handler().run_all(), [1]);
        assert_eq!(counters(&worker).completed, 1);
        assert_settled(&worker);
    });
}

#[test]
fn a_first_message_that_is_cancelled_before_it_began_is_skipped() {
    bounded(|| {
        let pool = pool(1);
        let worker = roomy(&pool, 2);
        start(&worker);
        let first = ask(&worker, 0);
        let second = ask(&worker, 1);
        assert!(worker.address().cancel(&first.ticket()));
        assert_eq!(first.now(), Some(Err(Failure::Cancelled)));
        assert_eq!(worker.handler().run_all(), [1]);
        assert_eq!(second.now(), Some(Ok(1)));
        let counters = counters(&worker);
        assert_eq!((counters.cancelled, counters.completed), (1, 1));
        assert_settled(&worker);
    });
}

#[test]
fn a_message_ahead_that_the_child_keeps_is_cancelled_all_the_same() {
    bounded(|| {
        let pool = pool(1);
        let worker = roomy(&pool, 3);
        let asked = ask_all(&worker, 0..3);
        worker.handler().set_deaf(true);
        start(&worker);
        assert!(worker.address().cancel(&asked[1].ticket()));
        assert_eq!(asked[1].now(), Some(Err(Failure::Cancelled)));
        assert_eq!(worker.handler().run_all(), [0, 2]);
        let counters = counters(&worker);
        assert_eq!((counters.cancelled, counters.completed), (1, 2));
        assert_settled(&worker);
    });
}

#[test]
fn cancel_in_a_pools_own_mailbox_takes_out_what_is_ahead() {
    bounded(|| {
        let pool = pool(3);
        let worker = shared(&pool, 3, 10, Overflow::Reject);
        let (mut batch, asked): (VecDeque<Note>, Vec<Asked>) = (0..3).map(asked_note).unzip();
        assert_eq!(worker.try_post_many(&mut batch).expect("room"), 3);
        let child = worker.handler();
        // Fewer batches than the pool has threads, and messages ahead in one.
        assert_eq!(child.batches(), [vec![0, 1, 2]]);
        assert_eq!(child.begin(), Some(0));
        assert!(worker.address().cancel(&asked[1].ticket()));
        assert_eq!(asked[1].now(), Some(Err(Failure::Cancelled)));
        assert_eq!(counters(&worker).cancelled, 1, "out at once");
        assert!(child.way().stops.is_empty(), "nothing had to be stopped");
        child.finish(0, Outcome::Completed);
        assert_eq!(child.run_all(), [2]);
        assert_settled(&worker);
    });
}

#[test]
fn cancel_and_the_child_agree_on_who_has_a_message() {
    bounded(|| {
        const ROUNDS: u64 = 1_000;
        let pool = pool(2);
        let worker = roomy(&pool, 3);
        start(&worker);
        let (mut cancelled, mut completed) = (0, 0);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| worker.handler().serve());
            }
            for round in 0..ROUNDS {
                let asked = ask_all(&worker, round * 8..(round + 1) * 8);
                // From two sides at once, which recall at the same time.
                let halves = asked.split_at(4);
                let outcomes = thread::scope(|both| {
                    let cancel = |asked: &[Asked]| -> Vec<bool> {
                        asked
                            .iter()
                            .map(|asked| worker.address().cancel(&asked.ticket()))
                            .collect()
                    };
                    let first = both.spawn(move || cancel(halves.0));
                    let second = cancel(halves.1);
                    [first.join().expect("no panic"), second].concat()
                });
                for (asked, out) in asked.iter().zip(outcomes) {
                    let reply = asked.reply();
                    assert_eq!(out, reply == Err(Failure::Cancelled), "{reply:?}");
                    cancelled += u64::from(out);
                    completed += u64::from(reply.is_ok());
                }
            }
            assert!(worker.wait_idle(Some(LONG)).expect("not inside"));
            worker.handler().end();
        });
        let counters = counters(&worker);
        assert_eq!(cancelled + completed, ROUNDS * 8);
        assert_eq!(
            (counters.cancelled, counters.completed),
            (cancelled, completed)
        );
        assert_settled(&worker);
    });
}

#[test]
fn a_deadline_takes_a_message_that_is_ahead_out() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let worker = fresh(&pool, 4, 3, Overflow::Reject);
        let asked = ask_all(&worker, 0..3);
        start(&worker);
        worker
            .set_deadline(&asked[1].ticket(), SECOND)
            .expect("a thread");
        clock.advance(SECOND);
        pool.expire_due();
        assert_eq!(asked[1].reply(), Err(Failure::Expired));
        assert_eq!(worker.state(), WorkerState::Running);
        assert_eq!(counters(&worker).expired, 1);
        assert_eq!(load(&worker), (1, 1));
        assert_eq!(worker.handler().run_all(), [0, 2]);
        assert_settled(&worker);
    });
}

#[test]
fn a_deadline_stops_the_message_that_runs() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let worker = roomy(&pool, 4);
        let asked = ask_all(&worker, 0..2);
        start(&worker);
        assert_eq!(worker.handler().begin(), Some(0));
        let ticket = asked[0].ticket();
        worker.set_deadline(&ticket, SECOND).expect("a thread");
        clock.advance(SECOND);
        pool.expire_due();
        assert_eq!(asked[0].reply(), Err(Failure::Expired));
        assert_eq!(worker.state(), WorkerState::Stuck);
        // The deadline's own thread may have been first, and is then about to say so.
        while worker.handler().way().stops.is_empty() {
            thread::yield_now();
        }
        assert!(ticket.state().is_cancel_requested());
        worker.handler().finish(0, Outcome::Completed);
        assert_eq!(worker.state(), WorkerState::Running);
        assert_eq!(worker.handler().run_all(), [1]);
        let counters = counters(&worker);
        assert_eq!((counters.expired, counters.completed), (1, 1));
        assert_settled(&worker);
    });
}
