//! The ends of a worker: stop in every mode, terminate, dropping the handle.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use common::{
    Closures, Gate, Job, LONG, Out, ask, ask_out, assert_adds_up, bounded, occupy, pool, post,
    worker,
};
use pytoweb_engine::{
    Failure, Handled, Handler, Outcome, PostError, StopMode, StopTimedOut, Wake, Worker,
    WorkerOptions, WorkerState,
};

#[test]
fn drain_handles_what_is_queued() {
    bounded(|| {
        let pool = pool(1);
        let worker = worker(&pool, "w");
        let gate = occupy(&worker);
        let asked: Vec<_> = (0..100).map(|n| ask(&worker, move || n)).collect();
        worker.close(StopMode::Drain);
        assert_eq!(worker.state(), WorkerState::Stopping);
        assert!(matches!(
            worker.try_post(Job::post(|| ())),
            Err(PostError::Stopped(_))
        ));
        gate.open();
        worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
        assert_eq!(worker.state(), WorkerState::Stopped);
        for (n, asked) in asked.iter().enumerate() {
            assert_eq!(asked.now(), Some(Ok(n as u64)));
        }
        let counters = worker.stats().counters;
        assert_eq!((counters.posted, counters.completed), (101, 101));
        assert!(!worker.start().expect("a thread"), "over is over");
    });
}

#[test]
fn a_queue_that_fails_leaves_the_worker_open() {
    bounded(|| {
        let pool = pool(1);
        let worker = worker(&pool, "w");
        let gate = occupy(&worker);
        let queued: Vec<_> = (0..10).map(|n| ask(&worker, move || n)).collect();
        assert_eq!(worker.fail_queued(), 10);
        assert_eq!(worker.fail_queued(), 0);
        for asked in &queued {
            assert_eq!(asked.now(), Some(Err(Failure::Stopped)));
        }
        let later = ask(&worker, || 7);
        gate.open();
        assert_eq!(later.reply(), Ok(7));
        let counters = worker.stats().counters;
        assert_adds_up(&counters);
        assert_eq!((counters.completed, counters.failed), (2, 10));
    });
}

#[test]
fn the_other_modes_fail_or_cancel_what_is_queued_and_finish_what_runs() {
    bounded(|| {
        for (mode, failure) in [
            (StopMode::FinishRunning, Failure::Stopped),
            (StopMode::CancelQueued, Failure::Cancelled),
        ] {
            let pool = pool(2);
            let worker = worker(&pool, "w");
            let (inside, entered) = (Gate::new(), Gate::new());
            let (wait, tell) = (inside.clone(), entered.clone());
            let running = ask(&worker, move || {
                tell.open();
                wait.pass();
                1
            });
            entered.pass();
            let queued: Vec<_> = (0..10).map(|n| ask(&worker, move || n)).collect();
            assert_eq!(worker.close(mode), 10);
            for asked in &queued {
                assert_eq!(asked.now(), Some(Err(failure)));
            }
            inside.open();
            worker.stop(mode, Some(LONG)).expect("in time");
            assert_eq!(running.reply(), Ok(1));
            let counters = worker.stats().counters;
            assert_adds_up(&counters);
            assert_eq!(counters.completed, 1);
            assert_eq!(
                (counters.failed, counters.cancelled),
                if failure == Failure::Stopped {
                    (10, 0)
                } else {
                    (0, 10)
                }
            );
        }
    });
}

#[test]
fn a_stop_past_its_time_fails_the_rest_and_says_so() {
    bounded(|| {
        let pool = pool(1);
        let worker = worker(&pool, "w");
        let gate = occupy(&worker);
        let queued: Vec<_> = (0..3).map(|n| ask(&worker, move || n)).collect();
        assert_eq!(
            worker.stop(StopMode::Drain, Some(Duration::from_millis(1))),
            Err(StopTimedOut { failed: 3 })
        );
        for asked in &queued {
            assert_eq!(asked.now(), Some(Err(Failure::Stopped)));
        }
        assert_eq!(worker.state(), WorkerState::Stopping);
        gate.open();
        worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
        assert_adds_up(&worker.stats().counters);
    });
}

#[test]
fn a_worker_that_was_never_started_fails_what_it_holds() {
    bounded(|| {
        let pool = pool(1);
        let worker = Worker::new("w", Closures, WorkerOptions::default(), &pool);
        let asked = ask(&worker, || 1);
        assert_eq!(worker.state(), WorkerState::New);
        worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
        assert_eq!(asked.now(), Some(Err(Failure::Stopped)));
        assert_eq!(worker.state(), WorkerState::Stopped);
        assert_eq!(pool.threads(), 0);
    });
}

#[test]
fn a_stop_from_inside_returns_and_the_rest_is_handled() {
    bounded(|| {
        let pool = pool(1);
        let worker = Arc::new(worker(&pool, "w"));
        let inner = worker.clone();
        let stop = ask(&worker, move || {
            inner.stop(StopMode::Drain, None).expect("it does not wait");
            inner.stop(StopMode::Drain, None).expect("twice neither");
            5
        });
        let _ = stop.reply();
        worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
        assert_eq!(stop.now(), Some(Ok(5)));
        assert_eq!(worker.state(), WorkerState::Stopped);
    });
}

#[test]
fn a_hundred_concurrent_stops_return() {
    bounded(|| {
        let pool = pool(2);
        let worker = worker(&pool, "w");
        let gate = occupy(&worker);
        for n in 0..1000 {
            ask(&worker, move || n);
        }
        let begun = AtomicUsize::new(0);
        thread::scope(|scope| {
            for number in 0..100 {
                let (worker, begun, gate) = (&worker, &begun, &gate);
                scope.spawn(move || {
                    if begun.fetch_add(1, Ordering::Relaxed) == 50 {
                        gate.open();
                    }
                    let mode = if number == 70 {
                        StopMode::CancelQueued
                    } else {
                        StopMode::Drain
                    };
                    worker.stop(mode, Some(LONG)).expect("in time");
                    assert_eq!(worker.state(), WorkerState::Stopped);
                });
            }
        });
        let counters = worker.stats().counters;
        assert_adds_up(&counters);
        assert_eq!(
            (counters.posted, counters.queued, counters.running),
            (1001, 0, 0)
        );
    });
}

#[test]
fn terminate_abandons_at_once() {
    bounded(|| {
        let pool = pool(1);
        let worker = worker(&pool, "w");
        let (inside, entered) = (Gate::new(), Gate::new());
        let (wait, tell) = (inside.clone(), entered.clone());
        let running = ask(&worker, move || {
            tell.open();
            wait.pass();
            1
        });
        entered.pass();
        let queued: Vec<_> = (0..10).map(|n| ask(&worker, move || n)).collect();
        worker.terminate();
        worker.terminate();
        assert!(worker.address().is_terminated());
        assert_eq!(running.now(), Some(Err(Failure::Stopped)));
        assert!(running.ticket().state().is_cancel_requested());
        assert!(running.interrupts() >= 1);
        for asked in &queued {
            assert_eq!(asked.now(), Some(Err(Failure::Stopped)));
        }
        let counters = worker.stats().counters;
        assert_adds_up(&counters);
        assert_eq!((counters.failed, counters.running), (10, 1));
        inside.open();
        assert!(worker.wait_ended(Some(LONG)).expect("not inside"));
        assert_eq!(worker.stats().counters.failed, 11);
    });
}

#[test]
fn a_dropped_handle_handles_what_is_queued() {
    bounded(|| {
        let pool = pool(2);
        let dropped = worker(&pool, "dropped");
        let gate = occupy(&dropped);
        let asked: Vec<_> = (0..100).map(|n| ask(&dropped, move || n)).collect();
        drop(dropped);
        pool.shutdown();
        gate.open();
        pool.join();
        for (n, asked) in asked.iter().enumerate() {
            assert_eq!(asked.now(), Some(Ok(n as u64)));
        }
    });
}

#[test]
fn the_last_handle_of_all_may_go_on_a_pool_thread() {
    bounded(|| {
        for _ in 0..100 {
            let ended = {
                let pool = pool(2);
                let worker = Arc::new(worker(&pool, "w"));
                let inner = worker.clone();
                let (done, ended) = mpsc::channel();
                post(&worker, move || {
                    drop(inner);
                    drop(done);
                });
                ended
            };
            assert_eq!(
                ended.recv_timeout(LONG),
                Err::<(), _>(mpsc::RecvTimeoutError::Disconnected)
            );
        }
    });
}

#[test]
fn messages_are_dropped_outside_the_locks() {
    // A message's destructor may use the very worker that let go of it.
    struct Nosy(Arc<Worker<Closures>>, Arc<AtomicUsize>);
    impl Drop for Nosy {
        fn drop(&mut self) {
            self.1.fetch_add(1, Ordering::Relaxed);
            let _ = self.0.stats();
            let _ = self.0.try_post(Job::post(|| ()));
        }
    }
    bounded(|| {
        let pool = pool(1);
        let worker = Arc::new(worker(&pool, "w"));
        let gate = occupy(&worker);
        let dropped = Arc::new(AtomicUsize::new(0));
        for _ in 0..10 {
            let nosy = Nosy(worker.clone(), dropped.clone());
            post(&worker, move || drop(nosy));
        }
        let nosy = Nosy(worker.clone(), dropped.clone());
        let asked = ask_out(&worker, move || {
            drop(nosy);
            Out::Value(0)
        });
        assert!(worker.address().cancel(&asked.ticket()));
        worker.close(StopMode::FinishRunning);
        gate.open();
        assert!(worker.wait_ended(Some(LONG)).expect("not inside"));
        assert_eq!(dropped.load(Ordering::Relaxed), 11);
    });
}

/// Handles as [`Closures`] does, and publishes only when told.
struct SlowToPublish {
    publishing: Gate,
    publish: Gate,
}

impl Handler for SlowToPublish {
    type Message = Job;

    fn handle(&self, message: &mut Job) -> Handled<Self> {
        let outcome = message.settle(1);
        assert_eq!(outcome, Outcome::Completed);
        Handled::Done(outcome)
    }

    fn finish(&self, message: Job) -> Wake {
        self.publishing.open();
        self.publish.pass();
        Closures.finish(message)
    }

    fn abandon(&self, message: Job, failure: Failure) {
        Closures.abandon(message, failure);
    }
}

#[test]
fn an_ended_worker_has_published_its_last_reply() {
    // The thread that stops a worker may look at its futures right after.
    bounded(|| {
        let pool = pool(1);
        let handler = SlowToPublish {
            publishing: Gate::new(),
            publish: Gate::new(),
        };
        let worker = Worker::new("w", handler, WorkerOptions::default(), &pool);
        worker.start().expect("a thread");
        let (job, asked) = Job::ask(|| Out::Value(1));
        worker.post(job, None).expect("room");
        worker.handler().publishing.pass();
        worker.close(StopMode::Drain);
        assert!(!worker.is_idle(), "the last reply is still to be published");
        assert_eq!(worker.state(), WorkerState::Stopping);
        thread::scope(|scope| {
            let ended = scope.spawn(|| {
                assert!(worker.wait_ended(Some(LONG)).expect("not inside"));
                asked.now()
            });
            worker.handler().publish.open();
            assert_eq!(ended.join().expect("no panic"), Some(Ok(1)));
        });
    });
}
