//! The ends of a worker with messages on their way, and of a delivery that is never finished.

use std::collections::VecDeque;

use pytoweb_engine::{Failure, Outcome, Overflow, PostError, StopMode, WorkerState};

use crate::child::{
    Asked, Note, Recalling, ask, ask_all, asked_note, assert_settled, counters, load, note, post,
    roomy, shared, start,
};
use crate::common::{bounded, pool};

#[test]
fn a_stop_fails_or_cancels_what_is_ahead_and_finishes_what_runs() {
    bounded(|| {
        for (mode, failure) in [
            (StopMode::FinishRunning, Failure::Stopped),
            (StopMode::CancelQueued, Failure::Cancelled),
        ] {
            let pool = pool(1);
            let worker = roomy(&pool, 3);
            let asked = ask_all(&worker, 0..5);
            start(&worker);
            assert_eq!(worker.handler().begin(), Some(0));
            assert_eq!(worker.close(mode), 4);
            for asked in &asked[1..] {
                assert_eq!(asked.now(), Some(Err(failure)));
            }
            assert_eq!(worker.state(), WorkerState::Stopping);
            assert_eq!(load(&worker), (0, 1));
            assert!(matches!(
                worker.try_post(note(9)),
                Err(PostError::Stopped(_))
            ));
            worker.handler().finish(0, Outcome::Completed);
            assert_eq!(asked[0].now(), Some(Ok(0)));
            assert_eq!(worker.state(), WorkerState::Stopped);
            let counters = counters(&worker);
            assert_eq!(counters.failed + counters.cancelled, 4);
            assert_eq!(counters.cancelled > 0, failure == Failure::Cancelled);
            assert_settled(&worker);
        }
    });
}

#[test]
fn a_stop_of_a_pools_own_mailbox_fails_what_is_ahead() {
    bounded(|| {
        let pool = pool(3);
        let worker = shared(&pool, 3, 10, Overflow::Reject);
        let (mut batch, asked): (VecDeque<Note>, Vec<Asked>) = (0..3).map(asked_note).unzip();
        assert_eq!(worker.try_post_many(&mut batch).expect("room"), 3);
        assert_eq!(worker.handler().begin(), Some(0));
        assert_eq!(worker.close(StopMode::FinishRunning), 2);
        assert_eq!(asked[1].now(), Some(Err(Failure::Stopped)));
        assert_eq!(asked[2].now(), Some(Err(Failure::Stopped)));
        worker.handler().finish(0, Outcome::Completed);
        assert_eq!(counters(&worker).failed, 2);
        assert_settled(&worker);
    });
}

#[test]
fn drain_hands_over_what_is_queued() {
    bounded(|| {
        let pool = pool(1);
        let worker = roomy(&pool, 3);
        let asked = ask_all(&worker, 0..5);
        start(&worker);
        assert_eq!(worker.close(StopMode::Drain), 0);
        assert_eq!(worker.handler().run_all(), [0, 1, 2, 3, 4]);
        assert_eq!(asked[4].now(), Some(Ok(4)));
        assert_eq!(worker.state(), WorkerState::Stopped);
        assert_settled(&worker);
    });
}

#[test]
fn what_is_put_back_after_a_stop_fails_like_the_rest() {
    bounded(|| {
        for (mode, failure) in [
            (StopMode::FinishRunning, Failure::Stopped),
            (StopMode::CancelQueued, Failure::Cancelled),
        ] {
            let pool = pool(1);
            let worker = roomy(&pool, 3);
            post(&worker, 0);
            post(&worker, 1);
            let asked = ask(&worker, 2);
            start(&worker);
            let recalling = Recalling::start(&worker);
            worker.close(mode);
            drop(recalling);
            assert_eq!(worker.handler().run_all(), [0]);
            assert_eq!(asked.now(), Some(Err(failure)));
            assert_eq!(counters(&worker).completed, 1);
            assert_settled(&worker);
        }
    });
}

#[test]
fn terminate_abandons_what_is_on_its_way() {
    bounded(|| {
        let pool = pool(1);
        let worker = roomy(&pool, 3);
        let asked = ask_all(&worker, 0..5);
        start(&worker);
        assert_eq!(worker.handler().begin(), Some(0));
        worker.terminate();
        for asked in &asked {
            assert_eq!(asked.now(), Some(Err(Failure::Stopped)));
        }
        assert!(matches!(worker.handler().way().stops[..], [None]));
        assert_eq!(load(&worker), (0, 1));
        worker.handler().finish(0, Outcome::Completed);
        assert_eq!(counters(&worker).failed, 5);
        assert_eq!(worker.state(), WorkerState::Stopped);
        assert_settled(&worker);
    });
}

#[test]
fn what_is_put_back_after_a_terminate_counts_as_failed() {
    bounded(|| {
        let pool = pool(1);
        let worker = roomy(&pool, 3);
        let asked = ask_all(&worker, 0..3);
        start(&worker);
        let recalling = Recalling::start(&worker);
        worker.terminate();
        drop(recalling);
        for asked in &asked {
            assert_eq!(asked.now(), Some(Err(Failure::Stopped)));
        }
        assert!(worker.handler().run_all().is_empty());
        let counters = counters(&worker);
        assert_eq!((counters.failed, counters.cancelled), (3, 0));
        assert_settled(&worker);
    });
}

#[test]
fn a_delivery_that_is_abandoned_ends_as_its_failure_says() {
    bounded(|| {
        let pool = pool(1);
        let worker = roomy(&pool, 2);
        let asked = ask_all(&worker, 0..3);
        start(&worker);
        for delivery in worker.handler().pull_all() {
            delivery.abandon(Failure::Cancelled);
        }
        assert_eq!(asked[0].now(), Some(Err(Failure::Cancelled)));
        assert_eq!(asked[1].now(), Some(Err(Failure::Cancelled)));
        assert_eq!(worker.handler().run_all(), [2], "the worker goes on");
        let counters = counters(&worker);
        assert_eq!((counters.cancelled, counters.completed), (2, 1));
        assert_settled(&worker);
    });
}

#[test]
fn a_dropped_delivery_fails_as_stopped_and_the_worker_goes_on() {
    bounded(|| {
        let pool = pool(1);
        let worker = roomy(&pool, 2);
        let asked = ask_all(&worker, 0..4);
        start(&worker);
        drop(worker.handler().pull());
        assert_eq!(asked[1].now(), Some(Err(Failure::Stopped)));
        assert_eq!(worker.handler().on_its_way(), [0, 2], "topped up");
        assert_eq!(load(&worker), (2, 1));
        drop(worker.handler().pull_all());
        assert_eq!(asked[0].now(), Some(Err(Failure::Stopped)));
        assert_eq!(
            worker.handler().way().abandoned,
            [1, 0, 2].map(|number| (number, Failure::Stopped))
        );
        assert_eq!(worker.handler().run_all(), [3]);
        let counters = counters(&worker);
        assert_eq!((counters.failed, counters.completed), (3, 1));
        assert_settled(&worker);
    });
}
