//! Messages whose handlers go on outside the pool's threads.

mod common;

use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;

use common::{
    Asked, Closures, LONG, Out, TestWorker, ask, ask_out, assert_adds_up, bounded, pool, post,
    worker,
};
use pytoweb_engine::{
    Failure, Outcome, Pool, PoolOptions, StopMode, Suspension, Worker, WorkerOptions, WorkerState,
};

fn suspend(worker: &TestWorker) -> (Asked, Receiver<Suspension<Closures>>) {
    let (give, taken) = mpsc::channel();
    let asked = ask_out(worker, || {
        Out::Suspend(Box::new(move |suspension| {
            let _ = give.send(suspension);
        }))
    });
    (asked, taken)
}

fn finish(mut suspension: Suspension<Closures>, value: u64) {
    let outcome = suspension
        .message_mut()
        .expect("not finished")
        .settle(value);
    suspension.finish(outcome);
}

#[test]
fn the_worker_takes_no_other_message_before_it_ends() {
    bounded(|| {
        let pool = pool(1);
        let worker = worker(&pool, "w");
        let (first, taken) = suspend(&worker);
        let suspension = taken.recv_timeout(LONG).expect("suspended");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let inner = seen.clone();
        let second = ask(&worker, move || {
            inner.lock().expect("not poisoned").push(2);
            2
        });
        // The pool's thread is free meanwhile.
        let other = common::worker(&pool, "other");
        assert_eq!(ask(&other, || 3).reply(), Ok(3));
        assert!(second.now().is_none());
        let counters = worker.stats().counters;
        assert_adds_up(&counters);
        assert_eq!((counters.running, counters.queued), (1, 1));
        seen.lock().expect("not poisoned").push(1);
        thread::spawn(move || finish(suspension, 1))
            .join()
            .expect("no panic");
        assert_eq!((first.reply(), second.reply()), (Ok(1), Ok(2)));
        assert_eq!(*seen.lock().expect("not poisoned"), [1, 2]);
    });
}

#[test]
fn a_dropped_suspension_fails_its_message_and_frees_the_worker() {
    bounded(|| {
        let pool = pool(1);
        let worker = worker(&pool, "w");
        let (first, taken) = suspend(&worker);
        let second = ask(&worker, || 2);
        drop(taken.recv_timeout(LONG).expect("suspended"));
        assert_eq!(first.reply(), Err(Failure::Stopped));
        assert_eq!(second.reply(), Ok(2));
        // And one that was never taken.
        let (third, taken) = suspend(&worker);
        drop(taken);
        assert_eq!(third.reply(), Err(Failure::Stopped));
        worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
        let counters = worker.stats().counters;
        assert_adds_up(&counters);
        assert_eq!((counters.completed, counters.failed), (1, 2));
    });
}

#[test]
fn terminate_fails_it_at_once() {
    bounded(|| {
        let pool = pool(1);
        let worker = worker(&pool, "w");
        let (asked, taken) = suspend(&worker);
        let mut suspension = taken.recv_timeout(LONG).expect("suspended");
        worker.terminate();
        assert_eq!(asked.now(), Some(Err(Failure::Stopped)));
        assert_eq!(worker.state(), WorkerState::Stopping);
        let outcome = suspension.message_mut().expect("not finished").settle(1);
        assert_eq!(outcome, Outcome::Failed);
        suspension.finish(outcome);
        assert!(worker.wait_ended(Some(LONG)).expect("not inside"));
        assert_eq!(worker.stats().counters.failed, 1);
    });
}

#[test]
fn a_pool_that_shuts_down_waits_for_it() {
    bounded(|| {
        for _ in 0..200 {
            let pool = pool(2);
            let worker = worker(&pool, "w");
            let (first, taken) = suspend(&worker);
            let second = ask(&worker, || 2);
            let suspension = taken.recv_timeout(LONG).expect("suspended");
            drop(worker);
            pool.shutdown();
            let outside = thread::spawn(move || finish(suspension, 1));
            pool.join();
            outside.join().expect("no panic");
            assert_eq!((first.now(), second.now()), (Some(Ok(1)), Some(Ok(2))));
        }
    });
}

#[test]
fn one_that_ends_before_its_handler_returns_is_handled_once() {
    bounded(|| {
        let pool = pool(2);
        let worker = worker(&pool, "w");
        let asked: Vec<_> = (0..1_000)
            .map(|n| {
                ask_out(&worker, move || {
                    Out::Suspend(Box::new(move |suspension| {
                        thread::scope(|scope| {
                            scope.spawn(|| finish(suspension, n));
                        });
                    }))
                })
            })
            .collect();
        for (n, asked) in asked.iter().enumerate() {
            assert_eq!(asked.reply(), Ok(n as u64));
        }
        worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
        let counters = worker.stats().counters;
        assert_adds_up(&counters);
        assert_eq!(counters.completed, 1_000);
    });
}

#[test]
fn the_pools_own_mailbox_suspends_as_many_as_it_runs() {
    bounded(|| {
        let pool = Pool::new(PoolOptions::new(2));
        let shared = Worker::shared("pool", Closures, WorkerOptions::default(), &pool);
        let held: Vec<_> = (0..2).map(|_| suspend(&shared)).collect();
        let suspensions: Vec<_> = held
            .iter()
            .map(|(_, taken)| taken.recv_timeout(LONG).expect("suspended"))
            .collect();
        let next = ask(&shared, || 5);
        post(&worker(&pool, "other"), || ());
        assert!(
            next.now().is_none(),
            "as many as the pool has threads are running"
        );
        for suspension in suspensions {
            finish(suspension, 4);
        }
        assert_eq!(next.reply(), Ok(5));
        for (asked, _) in held {
            assert_eq!(asked.reply(), Ok(4));
        }
    });
}
