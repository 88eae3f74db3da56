//! The last message of a worker: it runs on the worker's thread when all others are over, and counts as nothing.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::{Closures, Gate, Job, LONG, Out, assert_adds_up, bounded, pool, pool_with_clock};
use pytoweb_engine::{
    Failure, Handled, Handler, Meter, Outcome, Plan, Pool, Rate, StopMode, Suspension, Wake,
    Worker, WorkerOptions, WorkerState,
};

/// Runs closures, and one at the end.
struct Ending {
    last: Mutex<Option<Job>>,
    abandoned: AtomicUsize,
}

impl Handler for Ending {
    type Message = Job;

    fn handle(&self, message: &mut Job) -> Handled<Self> {
        match Closures.handle(message) {
            Handled::Done(outcome) => Handled::Done(outcome),
            Handled::Suspend(_) => Handled::Suspend(Box::new(|suspension: Suspension<Self>| {
                thread::spawn(move || suspension.finish(Outcome::Completed));
            })),
        }
    }

    fn finish(&self, message: Job) -> Wake {
        Closures.finish(message)
    }

    fn abandon(&self, message: Job, failure: Failure) {
        self.abandoned.fetch_add(1, Ordering::Relaxed);
        Closures.abandon(message, failure);
    }

    fn last(&self) -> Option<Job> {
        self.last.lock().expect("not poisoned").take()
    }
}

fn ending(last: Job) -> Ending {
    Ending {
        last: Mutex::new(Some(last)),
        abandoned: AtomicUsize::new(0),
    }
}

fn worker(pool: &Pool, last: Job) -> Worker<Ending> {
    let worker = Worker::new("w", ending(last), WorkerOptions::default(), pool);
    assert!(worker.start().expect("a thread"));
    worker
}

fn post(worker: &Worker<Ending>, body: impl FnOnce() + Send + 'static) {
    worker.try_post(Job::post(body)).expect("there is room");
}

/// Posts a message that runs until the gate opens.
fn occupy(worker: &Worker<Ending>) -> Gate {
    let (gate, running) = (Gate::new(), Gate::new());
    let (inside, entered) = (gate.clone(), running.clone());
    post(worker, move || {
        entered.open();
        inside.pass();
    });
    running.pass();
    gate
}

/// A list that jobs write to.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<&'static str>>>);

impl Notes {
    fn job(&self, note: &'static str) -> Job {
        let own = self.clone();
        Job::post(move || own.add(note))
    }

    fn add(&self, note: &'static str) {
        self.0.lock().expect("not poisoned").push(note);
    }

    fn all(&self) -> Vec<&'static str> {
        self.0.lock().expect("not poisoned").clone()
    }
}

#[test]
fn it_runs_after_what_is_queued_and_counts_as_nothing() {
    bounded(|| {
        let pool = pool(2);
        let notes = Notes::default();
        let worker = worker(&pool, notes.job("last"));
        let gate = occupy(&worker);
        for _ in 0..2 {
            worker.try_post(notes.job("queued")).expect("there is room");
        }
        worker.close(StopMode::Drain);
        gate.open();
        assert!(worker.wait_ended(Some(LONG)).expect("not inside"));
        assert_eq!(notes.all(), ["queued", "queued", "last"]);
        let counters = worker.stats().counters;
        assert_adds_up(&counters);
        assert_eq!((counters.posted, counters.completed), (3, 3));
    });
}

/// How the message is lost for which a worker waits that ends.
#[derive(Clone, Copy, Debug)]
enum Lost {
    Cancelled,
    Expired,
    Failed,
}

#[test]
fn it_runs_as_soon_as_what_waits_for_a_rate_is_gone() {
    for lost in [Lost::Cancelled, Lost::Expired, Lost::Failed] {
        bounded(move || {
            let (pool, clock) = pool_with_clock(1);
            let notes = Notes::default();
            let worker = worker(&pool, notes.job("last"));
            let rate = Rate::new(1, Duration::from_secs(3600), 1).expect("a rate");
            let meter = Arc::new(Meter::new(rate));
            let rare = || {
                let (job, asked) = Job::ask(|| Out::Value(0));
                let mut plan = Plan::default();
                plan.more_mut().meter = Some(meter.clone());
                worker.try_post(job.planned(plan)).expect("there is room");
                asked
            };
            assert_eq!(rare().reply(), Ok(0));
            let waits = rare();
            worker
                .set_deadline(&waits.ticket(), Duration::from_secs(1))
                .expect("watched");
            worker.close(StopMode::Drain);
            assert!(
                !worker
                    .wait_ended(Some(Duration::from_millis(20)))
                    .expect("not inside"),
                "it is still to be handled"
            );
            match lost {
                Lost::Cancelled => assert!(worker.address().cancel(&waits.ticket())),
                Lost::Expired => {
                    clock.advance(Duration::from_secs(2));
                    pool.clock_moved();
                }
                Lost::Failed => assert_eq!(worker.fail_queued(), 1),
            }
            assert!(waits.reply().is_err(), "{lost:?}");
            assert!(
                worker.wait_ended(Some(LONG)).expect("not inside"),
                "{lost:?}"
            );
            assert_eq!(notes.all(), ["last"]);
            assert_adds_up(&worker.stats().counters);
        });
    }
}

#[test]
fn it_runs_on_a_thread_of_the_pool_where_the_worker_was_idle() {
    bounded(|| {
        let pool = pool(1);
        let here = thread::current().id();
        let ran = Gate::new();
        let tell = ran.clone();
        let worker = worker(
            &pool,
            Job::post(move || {
                assert_ne!(thread::current().id(), here);
                tell.open();
            }),
        );
        worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
        assert!(ran.is_open(), "the end waits for it");
        assert_eq!(worker.state(), WorkerState::Stopped);
        assert_eq!(worker.stats().counters.posted, 0);
    });
}

#[test]
fn it_runs_after_a_stop_that_fails_what_is_queued_and_after_a_terminate() {
    bounded(|| {
        let pool = pool(2);
        for terminates in [false, true] {
            let notes = Notes::default();
            let worker = worker(&pool, notes.job("last"));
            let gate = occupy(&worker);
            worker.try_post(notes.job("queued")).expect("there is room");
            if terminates {
                worker.terminate();
            } else {
                worker.close(StopMode::FinishRunning);
            }
            assert!(notes.all().is_empty(), "another one runs");
            gate.open();
            assert!(worker.wait_ended(Some(LONG)).expect("not inside"));
            assert_eq!(notes.all(), ["last"]);
            assert_eq!(worker.stats().counters.failed, 1);
        }
    });
}

#[test]
fn that_of_a_pools_own_mailbox_waits_for_all_that_run() {
    bounded(|| {
        let pool = pool(3);
        let notes = Notes::default();
        let worker = Worker::shared(
            "p",
            ending(notes.job("last")),
            WorkerOptions::default(),
            &pool,
        );
        let gates = [occupy(&worker), occupy(&worker)];
        worker.close(StopMode::Drain);
        for gate in gates {
            assert!(notes.all().is_empty(), "another one runs");
            gate.open();
        }
        assert!(worker.wait_ended(Some(LONG)).expect("not inside"));
        assert_eq!(notes.all(), ["last"]);
    });
}

#[test]
fn it_may_go_on_elsewhere_or_panic() {
    bounded(|| {
        let pool = pool(1);
        let (suspends, _) = Job::ask(|| Out::Suspend(Box::new(|_| {})));
        for last in [suspends, Job::post(|| panic!("at the end, as it should"))] {
            let worker = worker(&pool, last);
            post(&worker, || {});
            worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
            let counters = worker.stats().counters;
            assert_adds_up(&counters);
            assert_eq!((counters.posted, counters.completed), (1, 1));
        }
    });
}

#[test]
fn it_is_abandoned_where_the_worker_was_never_started() {
    bounded(|| {
        let pool = pool(1);
        let notes = Notes::default();
        let worker = Worker::new(
            "w",
            ending(notes.job("last")),
            WorkerOptions::default(),
            &pool,
        );
        post(&worker, || {});
        assert_eq!(worker.close(StopMode::Drain), 1);
        assert_eq!(worker.handler().abandoned.load(Ordering::Relaxed), 2);
        assert!(notes.all().is_empty());
        assert_eq!(worker.state(), WorkerState::Stopped);
    });
}

#[test]
fn it_runs_for_a_worker_whose_handle_is_dropped() {
    bounded(|| {
        let pool = pool(1);
        let ran = Gate::new();
        let tell = ran.clone();
        drop(worker(&pool, Job::post(move || tell.open())));
        ran.pass();
        pool.shutdown();
        pool.join();
    });
}

#[test]
fn it_runs_once_however_often_the_worker_is_closed() {
    bounded(|| {
        let pool = pool(2);
        let notes = Notes::default();
        let worker = worker(&pool, notes.job("last"));
        thread::scope(|scope| {
            for mode in [
                StopMode::Drain,
                StopMode::FinishRunning,
                StopMode::CancelQueued,
            ] {
                let worker = &worker;
                scope.spawn(move || worker.stop(mode, Some(LONG)).expect("in time"));
            }
        });
        worker.terminate();
        assert_eq!(notes.all(), ["last"]);
    });
}
