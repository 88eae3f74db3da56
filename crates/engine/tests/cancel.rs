//! Cancelling: while queued it takes the message out, while running it asks the handler to stop.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use common::{
    Gate, Job, LONG, Out, ask, ask_out, assert_adds_up, bounded, bounded_worker, occupy, pool,
    worker,
};
use pytoweb_engine::{Failure, Overflow, StopMode, Worker, WorkerOptions};

#[test]
fn a_queued_message_goes_out_and_makes_room_at_once() {
    bounded(|| {
        let pool = pool(1);
        let worker = bounded_worker(&pool, 4, Overflow::Reject);
        let gate = occupy(&worker);
        for _ in 0..1_000 {
            let asked: Vec<_> = (0..4).map(|n| ask(&worker, move || n)).collect();
            assert!(worker.try_post(Job::post(|| ())).is_err(), "full");
            for asked in &asked {
                assert!(worker.address().cancel(&asked.ticket()));
                assert!(!worker.address().cancel(&asked.ticket()), "once");
                assert_eq!(asked.now(), Some(Err(Failure::Cancelled)));
            }
        }
        let counters = worker.stats().counters;
        assert_adds_up(&counters);
        assert_eq!((counters.cancelled, counters.queued), (4_000, 0));
        gate.open();
        worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
        assert_eq!(worker.stats().counters.completed, 1);
    });
}

#[test]
fn the_rest_keeps_its_order_whatever_is_cancelled() {
    bounded(|| {
        let pool = pool(1);
        let worker = worker(&pool, "w");
        for step in 2..6 {
            let gate = occupy(&worker);
            let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
            let asked: Vec<_> = (0..200)
                .map(|n| {
                    let seen = seen.clone();
                    ask(&worker, move || {
                        seen.lock().expect("not poisoned").push(n);
                        n
                    })
                })
                .collect();
            let (cancelled, kept): (Vec<_>, Vec<_>) = (0..200).partition(|n| n % step != 0);
            for n in cancelled.iter().rev() {
                let ticket = asked[usize::try_from(*n).expect("fits")].ticket();
                assert!(worker.address().cancel(&ticket));
            }
            gate.open();
            assert!(worker.wait_idle(Some(LONG)).expect("not inside"));
            assert_eq!(*seen.lock().expect("not poisoned"), kept);
        }
        assert_adds_up(&worker.stats().counters);
    });
}

#[test]
fn a_running_message_is_asked_to_stop() {
    bounded(|| {
        let pool = pool(1);
        let worker = worker(&pool, "w");
        let (entered, leave) = (Gate::new(), Gate::new());
        let (tell, wait) = (entered.clone(), leave.clone());
        let asked = ask_out(&worker, move || {
            tell.open();
            wait.pass();
            Out::Value(9)
        });
        entered.pass();
        assert!(!asked.ticket().state().is_cancel_requested());
        assert!(!worker.address().cancel(&asked.ticket()));
        assert!(asked.ticket().state().is_cancel_requested());
        assert_eq!(asked.interrupts(), 1);
        leave.open();
        assert_eq!(asked.reply(), Ok(9), "it is up to the handler to look");
        assert!(!worker.address().cancel(&asked.ticket()), "it is over");
        assert_eq!(worker.stats().counters.cancelled, 0);
    });
}

#[test]
fn a_message_of_a_worker_that_was_not_started_can_be_cancelled() {
    bounded(|| {
        let pool = pool(1);
        let worker = Worker::new("w", common::Closures, WorkerOptions::default(), &pool);
        let asked = ask(&worker, || 1);
        assert!(!worker.is_idle());
        thread::scope(|scope| {
            let idle = scope.spawn(|| worker.wait_idle(Some(LONG)).expect("not inside"));
            assert!(worker.address().cancel(&asked.ticket()));
            assert!(idle.join().expect("no panic"));
        });
        assert_adds_up(&worker.stats().counters);
    });
}

#[test]
fn cancel_and_the_worker_agree_on_who_has_a_message() {
    bounded(|| {
        const ROUNDS: usize = 5_000;
        let pool = pool(2);
        let worker = worker(&pool, "w");
        let runs = Arc::new(AtomicUsize::new(0));
        let (start, end) = (Barrier::new(2), Barrier::new(2));
        let slot = std::sync::Mutex::new(None);
        let cancelled = AtomicUsize::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    start.wait();
                    let asked: common::Asked =
                        slot.lock().expect("not poisoned").clone().expect("set");
                    if worker.address().cancel(&asked.ticket()) {
                        cancelled.fetch_add(1, Ordering::Relaxed);
                        assert_eq!(asked.now(), Some(Err(Failure::Cancelled)));
                    } else {
                        assert_eq!(asked.reply(), Ok(1));
                    }
                    end.wait();
                }
            });
            for _ in 0..ROUNDS {
                let runs = runs.clone();
                let asked = ask(&worker, move || {
                    runs.fetch_add(1, Ordering::Relaxed);
                    1
                });
                *slot.lock().expect("not poisoned") = Some(asked);
                start.wait();
                end.wait();
            }
        });
        worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
        let counters = worker.stats().counters;
        assert_adds_up(&counters);
        assert_eq!(counters.cancelled, cancelled.load(Ordering::Relaxed) as u64);
        assert_eq!(counters.completed, runs.load(Ordering::Relaxed) as u64);
        assert_eq!(counters.cancelled + counters.completed, ROUNDS as u64);
    });
}
