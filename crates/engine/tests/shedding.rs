//! A mailbox that refuses messages because those that are queued have waited too long.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Closures, Job, LONG, bounded, occupy, pool_with_clock};
use pytoweb_engine::{Meter, Plan, PostError, Rate, Shed, StopMode, Worker, WorkerOptions};

#[test]
fn a_mailbox_that_is_late_for_a_whole_window_refuses_until_it_keeps_up() {
    bounded(|| {
        for planned in [false, true] {
            let (pool, clock) = pool_with_clock(1);
            let options = WorkerOptions {
                shed: Some(Shed {
                    target: Duration::from_millis(50),
                    window: Duration::from_secs(1),
                }),
                ..WorkerOptions::default()
            };
            let worker = Worker::new("w", Closures, options, &pool);
            assert!(worker.start().expect("a thread"));
            let send = || {
                let job = Job::post(|| ());
                let plan = Plan::default();
                worker.try_post(if planned { job.planned(plan) } else { job })
            };
            let gate = occupy(&worker);
            send().expect("nothing waits");
            clock.advance(Duration::from_millis(60));
            send().expect("late for a moment: a burst");
            clock.advance(Duration::from_millis(999));
            send().expect("not for the whole window");
            clock.advance(Duration::from_millis(1));
            assert!(matches!(send(), Err(PostError::Shed(_))));
            let mut many = (0..3).map(|_| Job::post(|| ())).collect();
            let refused = worker.try_post_many(&mut many);
            assert!(matches!(refused, Err((0, PostError::Shed(())))));
            gate.open();
            assert!(worker.wait_idle(Some(LONG)).expect("no cycle"));
            send().expect("it keeps up");
            assert!(worker.wait_idle(Some(LONG)).expect("no cycle"));
            let counters = worker.stats().counters;
            assert_eq!(
                (counters.shed, counters.rejected, counters.posted),
                (2, 0, 5)
            );
        }
    });
}

#[test]
fn messages_that_wait_for_a_rate_are_late_too() {
    // That of the worker, and that of their type.
    for of_type in [false, true] {
        bounded(move || {
            let (pool, clock) = pool_with_clock(1);
            let rate = Rate::new(1, Duration::from_secs(3600), 1).expect("a rate");
            let options = WorkerOptions {
                shed: Some(Shed {
                    target: Duration::from_millis(50),
                    window: Duration::from_secs(1),
                }),
                rate: (!of_type).then_some(rate),
                ..WorkerOptions::default()
            };
            let worker = Worker::new("w", Closures, options, &pool);
            assert!(worker.start().expect("a thread"));
            let meter = Arc::new(Meter::new(rate));
            // Each is looked at before the next one comes, or finds the worker idle.
            let send = || {
                let mut plan = Plan::default();
                plan.more_mut().meter = of_type.then(|| meter.clone());
                let sent = worker.try_post(Job::post(|| ()).planned(plan));
                let _ = worker.wait_idle(Some(Duration::from_millis(5)));
                sent
            };
            for _ in 0..3 {
                send().expect("the first runs, the others wait");
            }
            clock.advance(Duration::from_millis(60));
            send().expect("late for a moment: a burst");
            clock.advance(Duration::from_millis(500));
            send().expect("not for the whole window");
            clock.advance(Duration::from_millis(500));
            assert!(matches!(send(), Err(PostError::Shed(_))));
            worker
                .stop(StopMode::FinishRunning, Some(LONG))
                .expect("in time");
            assert_eq!(worker.stats().counters.shed, 1);
        });
    }
}
