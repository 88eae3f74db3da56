//! Deadlines of messages that are handed over.

use std::sync::Arc;
use std::time::Duration;

use pytoweb_engine::{Failure, Outcome, Overflow, Worker};

use crate::child::{
    Asked, Child, ask, ask_all, assert_settled, counters, fresh, load, note, post, roomy, start,
};
use crate::common::{bounded, is_full, park, pool_with_late};

/// No deadline thread sleeps less.
const FAR: Duration = Duration::from_secs(10_000);

/// The threads that watch deadlines.
const TIMERS: &str = "pytoweb-timers";

#[test]
fn deadlines_that_pass_together_are_dealt_with_together() {
    // Whatever is done for all of a worker's messages at once costs as much for one: it takes back what is ahead.
    bounded(|| {
        let (pool, clock) = pool_with_late(TIMERS);
        let workers = [roomy(&pool, 4), roomy(&pool, 4)];
        let asked: Vec<_> = workers
            .iter()
            .map(|worker| {
                let asked = ask_all(worker, 0..100);
                start(worker);
                asked
            })
            .collect();
        for place in 0..100 {
            // In turns, as when several workers were asked the same.
            for (worker, asked) in workers.iter().zip(&asked) {
                let ticket = asked[place].ticket();
                worker.set_deadline(&ticket, FAR).expect("a thread");
                clock.advance(Duration::from_nanos(1));
            }
        }
        clock.advance(FAR);
        pool.expire_due();
        for (worker, asked) in workers.iter().zip(&asked) {
            for asked in asked {
                assert_eq!(asked.reply(), Err(Failure::Expired));
            }
            assert_eq!(worker.handler().way().unbegun, 1);
            worker.handler().run_all();
            assert_eq!(counters(worker).expired, 100);
            assert_settled(worker);
        }
    });
}

fn ask_for(worker: &Worker<Child>, number: u64, limit: Duration) -> Asked {
    let asked = ask(worker, number);
    worker
        .set_deadline(&asked.ticket(), limit)
        .expect("a thread");
    asked
}

#[test]
fn what_is_overdue_is_not_handed_over() {
    // Only the thread that takes the messages comes by the deadlines: with a first batch, and to top one up.
    bounded(|| {
        let (pool, clock) = pool_with_late(TIMERS);
        let worker = roomy(&pool, 4);
        let late: Vec<_> = (0..3).map(|n| ask_for(&worker, n, FAR)).collect();
        let next: Vec<_> = (3..7).map(|n| ask_for(&worker, n, FAR * 2)).collect();
        let last: Vec<_> = (7..9).map(|n| ask_for(&worker, n, FAR * 2)).collect();
        post(&worker, 9);
        clock.advance(FAR);
        start(&worker);
        assert_eq!(worker.handler().batches(), [vec![3, 4, 5, 6]]);
        for asked in &late {
            assert_eq!(asked.now(), Some(Err(Failure::Expired)));
        }
        assert_eq!(counters(&worker).expired, 3);
        assert_eq!(load(&worker), (6, 1));
        assert_eq!(worker.handler().begin(), Some(3));
        clock.advance(FAR);
        worker.handler().finish(3, Outcome::Completed);
        assert_eq!(worker.handler().begin(), Some(4));
        worker.handler().finish(4, Outcome::Completed);
        assert_eq!(worker.handler().batches()[1..], [vec![9]]);
        for asked in &last {
            assert_eq!(asked.now(), Some(Err(Failure::Expired)));
        }
        assert_eq!(counters(&worker).expired, 5);
        assert!(next[2].now().is_none(), "it is on its way");
        assert_eq!(worker.handler().run_all(), [5, 6, 9]);
        assert_eq!(counters(&worker).completed, 5);
        assert_settled(&worker);
    });
}

#[test]
fn a_mailbox_of_overdue_messages_settles_and_has_room() {
    bounded(|| {
        let (pool, clock) = pool_with_late(TIMERS);
        let worker = fresh(&pool, 2, 3, Overflow::Block);
        let asked: Vec<_> = (0..3).map(|n| ask_for(&worker, n, FAR)).collect();
        assert!(is_full(&worker.try_post(note(3))));
        let parked = [10, 11].map(|number| park(&worker, note(number)));
        clock.advance(FAR);
        start(&worker);
        assert_eq!(worker.handler().batches(), [vec![10, 11]]);
        for (parked, told) in parked {
            assert!(told.is_open());
            assert!(parked.finish().is_ok());
        }
        for asked in &asked {
            assert_eq!(asked.now(), Some(Err(Failure::Expired)));
        }
        assert_eq!(counters(&worker).expired, 3);
        assert_eq!(worker.handler().run_all(), [10, 11]);
        assert_settled(&worker);
        post(&worker, 3);
        assert_eq!(worker.handler().run_all(), [3]);
        assert_settled(&worker);
    });
}

#[test]
fn room_is_told_of_once_messages_are_handed_over() {
    // The sender that is told may look through the mailbox, for which nothing is between the mailbox and the child.
    bounded(|| {
        let (pool, clock) = pool_with_late(TIMERS);
        let worker = Arc::new(fresh(&pool, 2, 3, Overflow::Block));
        for number in 0..2 {
            ask_for(&worker, number, FAR);
        }
        let kept = ask(&worker, 2);
        let (address, ticket) = (worker.address(), kept.ticket());
        let parked = worker.park(note(3), None).expect("it stays open");
        let parked = parked.expect("it is full");
        parked.on_settled(move || assert!(address.cancel(&ticket)));
        clock.advance(FAR);
        start(&worker);
        assert_eq!(kept.now(), Some(Err(Failure::Cancelled)));
        worker.handler().run_all();
        let counters = counters(&worker);
        assert_eq!((counters.expired, counters.cancelled), (2, 1));
        assert_settled(&worker);
    });
}
