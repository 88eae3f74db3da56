//! What comes back from the child: where it goes, what it counts as, and what became of it meanwhile.

use std::collections::VecDeque;
use std::time::Duration;

use pytoweb_engine::{Delivery, DropReason, Failure, Overflow};

use crate::child::{
    Note, Recalling, ask_all, assert_settled, counters, fresh, load, note, post, recall, roomy,
    shared, start,
};
use crate::common::{bounded, is_full, park, pool, pool_with_clock};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_deadline_that_comes_before_the_message_is_put_back_counts_it_as_expired() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let worker = roomy(&pool, 3);
        let asked = ask_all(&worker, 0..3);
        start(&worker);
        worker
            .set_deadline(&asked[1].ticket(), SECOND)
            .expect("a thread");
        let recalling = Recalling::start(&worker);
        assert_eq!(worker.handler().on_its_way(), [0]);
        clock.advance(SECOND);
        pool.expire_due();
        assert_eq!(asked[1].reply(), Err(Failure::Expired));
        assert_eq!(load(&worker), (2, 1), "still in the other thread's hands");
        drop(recalling);
        assert_eq!(load(&worker), (1, 1));
        let now = counters(&worker);
        assert_eq!((now.expired, now.cancelled), (1, 0));
        assert_eq!(worker.handler().run_all(), [0, 2]);
        assert_settled(&worker);
    });
}

#[test]
fn a_message_put_back_that_was_cancelled_meanwhile_does_not_run() {
    bounded(|| {
        let pool = pool(1);
        let worker = roomy(&pool, 3);
        let asked = ask_all(&worker, 0..3);
        start(&worker);
        let recalling = Recalling::start(&worker);
        assert!(worker.address().cancel(&asked[2].ticket()));
        assert_eq!(asked[2].now(), Some(Err(Failure::Cancelled)));
        drop(recalling);
        assert_eq!(load(&worker), (1, 1));
        assert_eq!(counters(&worker).cancelled, 1);
        assert_eq!(worker.handler().run_all(), [0, 1]);
        assert_settled(&worker);
    });
}

#[test]
fn a_message_put_back_and_abandoned_makes_room() {
    bounded(|| {
        let pool = pool(1);
        let worker = fresh(&pool, 3, 3, Overflow::Block);
        let asked = ask_all(&worker, 0..3);
        start(&worker);
        post(&worker, 3);
        assert!(is_full(&worker.try_post(note(4))));
        let (parked, told) = park(&worker, note(4));
        let recalling = Recalling::start(&worker);
        assert!(worker.address().cancel(&asked[1].ticket()));
        assert!(!told.is_open(), "it has its place until it is put back");
        drop(recalling);
        assert!(told.is_open());
        assert!(parked.finish().is_ok());
        assert_eq!(worker.handler().run_all(), [0, 2, 3, 4]);
        assert_settled(&worker);
    });
}

#[test]
fn what_moved_up_is_put_back_over_the_capacity_and_nothing_else_gets_in() {
    bounded(|| {
        let pool = pool(1);
        let worker = fresh(&pool, 2, 2, Overflow::Reject);
        post(&worker, 0);
        post(&worker, 1);
        start(&worker);
        post(&worker, 2);
        let recalling = Recalling::start(&worker);
        assert_eq!(worker.handler().run_all(), [0]);
        assert_eq!(load(&worker), (1, 1), "message 1 counts as running");
        post(&worker, 3);
        assert!(is_full(&worker.try_post(note(9))));
        drop(recalling);
        // The batch is over with that, and the next one begins with what was put back.
        assert_eq!(worker.handler().on_its_way(), [1, 2]);
        assert_eq!(load(&worker), (2, 1));
        assert!(is_full(&worker.try_post(note(9))));
        assert_eq!(worker.handler().run_all(), [1, 2, 3]);
        assert_settled(&worker);
    });
}

#[test]
fn a_whole_batch_put_back_is_handed_over_anew() {
    bounded(|| {
        let pool = pool(1);
        let worker = roomy(&pool, 3);
        let asked = ask_all(&worker, 0..5);
        start(&worker);
        assert_eq!(worker.handler().run_one(), Some(0));
        for _ in 0..3 {
            Delivery::put_back(worker.handler().pull_all());
            assert_eq!(worker.handler().on_its_way(), [1, 2, 3]);
            assert_eq!(load(&worker), (3, 1));
        }
        assert_eq!(worker.handler().run_all(), [1, 2, 3, 4]);
        assert!(asked.iter().all(|asked| asked.now().is_some()));
        assert_settled(&worker);
    });
}

#[test]
fn several_batches_are_put_back_in_order() {
    bounded(|| {
        let pool = pool(2);
        let worker = shared(&pool, 3, 10, Overflow::Reject);
        let mut batch: VecDeque<Note> = (0..7).map(note).collect();
        assert_eq!(worker.try_post_many(&mut batch).expect("room"), 7);
        let child = worker.handler();
        assert_eq!(child.batches(), [vec![0, 1, 2], vec![3, 4, 5]]);
        recall(&worker);
        assert_eq!(child.on_its_way(), [0, 3]);
        assert_eq!(load(&worker), (5, 2));
        assert_eq!(child.run_one(), Some(0));
        assert_eq!(child.on_its_way(), [3, 1, 2, 4]);
        assert_eq!(child.run_all(), [3, 1, 2, 4, 5, 6]);
        assert_settled(&worker);
    });
}

#[test]
fn drop_oldest_drops_the_first_one_ahead() {
    bounded(|| {
        let pool = pool(1);
        let worker = fresh(&pool, 4, 3, Overflow::DropOldest);
        let asked = ask_all(&worker, 0..3);
        start(&worker);
        post(&worker, 3);
        assert_eq!(worker.handler().on_its_way(), [0, 1, 2]);
        assert_eq!(load(&worker), (3, 1));
        post(&worker, 4);
        let dropped = Failure::Dropped(DropReason::Oldest);
        assert_eq!(asked[1].now(), Some(Err(dropped)));
        assert_eq!(worker.handler().way().abandoned, [(1, dropped)]);
        assert_eq!(load(&worker), (3, 1));
        assert_eq!(worker.handler().run_all(), [0, 2, 3, 4]);
        let counters = counters(&worker);
        assert_eq!((counters.dropped_oldest, counters.completed), (1, 4));
        assert_settled(&worker);
    });
}

#[test]
fn drop_oldest_drops_what_is_ahead_for_a_batch_of_posts_too() {
    bounded(|| {
        let pool = pool(1);
        let worker = fresh(&pool, 4, 3, Overflow::DropOldest);
        let asked = ask_all(&worker, 0..3);
        start(&worker);
        let mut batch: VecDeque<Note> = (3..6).map(note).collect();
        assert_eq!(worker.try_post_many(&mut batch).expect("room"), 3);
        assert_eq!(load(&worker), (3, 1));
        let dropped = Some(Err(Failure::Dropped(DropReason::Oldest)));
        assert_eq!((asked[1].now(), asked[2].now()), (dropped, dropped));
        assert_eq!(worker.handler().run_all(), [0, 3, 4, 5]);
        assert_eq!(counters(&worker).dropped_oldest, 2);
        assert_settled(&worker);
    });
}
