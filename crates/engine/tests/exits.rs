//! How a worker has ended, and who is told: once, whatever ends it.

mod common;

use std::sync::mpsc::{Receiver, channel};

use common::{Closures, Gate, Job, LONG, bounded, pool};
use pytoweb_engine::{Exit, Pool, StopMode, Worker, WorkerOptions};

fn worker(pool: &Pool) -> Worker<Closures> {
    Worker::new("w", Closures, WorkerOptions::default(), pool)
}

fn told(worker: &Worker<Closures>) -> Receiver<Exit> {
    let (tell, told) = channel();
    worker.on_exit(move |exit| {
        let _ = tell.send(exit);
    });
    told
}

/// Posts a message that runs until the gate opens.
fn occupy(worker: &Worker<Closures>) -> Gate {
    let (gate, running) = (Gate::new(), Gate::new());
    let (inside, entered) = (gate.clone(), running.clone());
    let job = Job::post(move || {
        entered.open();
        inside.pass();
    });
    worker.try_post(job).expect("there is room");
    running.pass();
    gate
}

#[test]
fn each_way_to_stop_says_so_once() {
    bounded(|| {
        // `None`: it is abandoned.
        let ways = [
            (Some(StopMode::Drain), Exit::Drained),
            (Some(StopMode::FinishRunning), Exit::Stopped),
            (Some(StopMode::CancelQueued), Exit::Stopped),
            (None, Exit::Terminated),
        ];
        for (mode, expected) in ways {
            let pool = pool(1);
            let worker = worker(&pool);
            assert!(worker.start().expect("a thread"));
            let told = told(&worker);
            let gate = occupy(&worker);
            match mode {
                Some(mode) => assert_eq!(worker.close(mode), 0, "nothing is queued"),
                None => worker.terminate(),
            }
            assert_eq!(worker.exit(), None, "it still runs a handler");
            assert!(told.try_recv().is_err());
            gate.open();
            assert_eq!(told.recv_timeout(LONG), Ok(expected));
            assert!(matches!(worker.wait_ended(Some(LONG)), Ok(true)));
            // Once, and what is called after the end changes nothing.
            worker.terminate();
            assert_eq!(worker.exit(), Some(expected));
            assert!(told.recv().is_err(), "the callback is gone");
        }
    });
}

#[test]
fn one_that_has_ended_tells_at_once() {
    bounded(|| {
        let pool = pool(1);
        let worker = worker(&pool);
        assert!(worker.start().expect("a thread"));
        worker
            .stop(StopMode::Drain, Some(LONG))
            .expect("it is idle");
        assert_eq!(told(&worker).try_recv(), Ok(Exit::Drained));
    });
}

#[test]
fn one_that_was_never_started_has_handled_nothing() {
    bounded(|| {
        let pool = pool(1);
        let worker = worker(&pool);
        let told = told(&worker);
        worker.try_post(Job::post(|| ())).expect("there is room");
        worker.close(StopMode::Drain);
        assert_eq!(told.try_recv(), Ok(Exit::Stopped));
    });
}

#[test]
fn the_stronger_of_two_stops_counts() {
    bounded(|| {
        let pool = pool(1);
        let worker = worker(&pool);
        assert!(worker.start().expect("a thread"));
        let told = told(&worker);
        let gate = occupy(&worker);
        worker.close(StopMode::Drain);
        worker.terminate();
        worker.close(StopMode::Drain);
        gate.open();
        assert_eq!(told.recv_timeout(LONG), Ok(Exit::Terminated));
    });
}

#[test]
fn a_dropped_handle_tells_when_the_queue_is_done() {
    bounded(|| {
        let pool = pool(1);
        let worker = worker(&pool);
        assert!(worker.start().expect("a thread"));
        let told = told(&worker);
        let gate = occupy(&worker);
        drop(worker);
        assert!(told.try_recv().is_err());
        gate.open();
        assert_eq!(told.recv_timeout(LONG), Ok(Exit::Drained));
    });
}

#[test]
fn a_callback_that_panics_costs_the_others_nothing() {
    bounded(|| {
        let pool = pool(1);
        let worker = worker(&pool);
        assert!(worker.start().expect("a thread"));
        worker.on_exit(|_| panic!("on purpose"));
        let told = told(&worker);
        worker.close(StopMode::Drain);
        assert_eq!(told.recv_timeout(LONG), Ok(Exit::Drained));
    });
}
