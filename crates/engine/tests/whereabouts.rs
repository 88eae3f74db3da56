//! Where a message is, and why it waits there.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{
    Asked, Closures, HandClock, Job, LONG, Out, TestWorker, ask, bounded, occupy, pool_with_clock,
};
use pytoweb_engine::{
    Key, Message, Plan, Pool, Priority, Rate, Ticket, Waits, Whereabouts, Worker, WorkerOptions,
};

const SECOND: Duration = Duration::from_secs(1);

fn started(options: WorkerOptions) -> (TestWorker, Pool, Arc<HandClock>) {
    let (pool, clock) = pool_with_clock(2);
    let worker = Worker::new("one", Closures, options, &pool);
    assert!(worker.start().expect("a thread"));
    (worker, pool, clock)
}

fn ask_with(worker: &TestWorker, plan: Plan) -> Asked {
    let (job, asked) = Job::ask(|| Out::Value(1));
    worker.post(job.planned(plan), Some(LONG)).expect("posted");
    asked
}

fn find(worker: &TestWorker, asked: &Asked) -> Option<Whereabouts> {
    let wanted = asked.ticket();
    let is_it = |ticket: &Arc<dyn Ticket>| Arc::ptr_eq(ticket, &wanted);
    worker.whereabouts(
        &|job: &Job| job.ticket().as_ref().is_some_and(is_it),
        &is_it,
        &|_, _| true,
    )
}

/// How many are before a queued message, and why it waits.
fn waits(worker: &TestWorker, asked: &Asked) -> (usize, Waits) {
    match find(worker, asked) {
        Some(Whereabouts::Queued { ahead, why, .. }) => (ahead, why),
        other => panic!("it is queued, not {other:?}"),
    }
}

#[test]
fn a_message_waits_behind_those_that_live() {
    bounded(|| {
        let (worker, _pool, _) = started(WorkerOptions::default());
        let gate = occupy(&worker);
        let asked: Vec<_> = (0..4).map(|number| ask(&worker, move || number)).collect();
        assert_eq!(waits(&worker, &asked[3]), (3, Waits::Turn));
        assert!(worker.address().cancel(&asked[1].ticket()));
        assert_eq!(waits(&worker, &asked[3]), (2, Waits::Turn));
        assert!(matches!(find(&worker, &asked[1]), Some(Whereabouts::Gone)));
        gate.open();
        assert_eq!(asked[3].reply(), Ok(3));
        assert!(worker.wait_idle(Some(LONG)).expect("no circle"));
        assert!(find(&worker, &asked[3]).is_none());
    });
}

#[test]
fn a_worker_that_is_not_started_is_waited_for() {
    bounded(|| {
        let (pool, _) = pool_with_clock(1);
        let worker = Worker::new("one", Closures, WorkerOptions::default(), &pool);
        let asked = ask(&worker, || 1);
        assert_eq!(waits(&worker, &asked), (0, Waits::Start));
    });
}

#[test]
fn delays_keys_and_rates_say_what_is_waited_for() {
    bounded(|| {
        let options = WorkerOptions {
            rate: Rate::new(1, 10 * SECOND, 1),
            ..WorkerOptions::default()
        };
        let (worker, pool, clock) = started(options);
        assert_eq!(ask(&worker, || 1).reply(), Ok(1));
        let first = ask(&worker, || 1);
        let second = ask(&worker, || 1);
        clock.advance(4 * SECOND);
        assert_eq!(waits(&worker, &first), (0, Waits::Rate(6 * SECOND)));
        assert_eq!(waits(&worker, &second), (1, Waits::Rate(16 * SECOND)));

        let other = Worker::new("other", Closures, WorkerOptions::default(), &pool);
        assert!(other.start().expect("a thread"));
        let mut later = Plan::default();
        later.more_mut().not_before = Some(pool.clock().now().after(9 * SECOND));
        let later = ask_with(&other, later);
        assert!(other.wait_idle(Some(Duration::ZERO)).is_ok());
        assert_eq!(waits(&other, &later), (0, Waits::Delay(9 * SECOND)));
        clock.advance(2 * SECOND);
        assert_eq!(waits(&other, &later), (0, Waits::Delay(7 * SECOND)));
    });
}

#[test]
fn a_key_and_a_priority_change_who_is_before_it() {
    bounded(|| {
        let options = WorkerOptions {
            concurrency: 2,
            ..WorkerOptions::default()
        };
        let (worker, _pool, _) = started(options);
        let key = || Some(Key::from("k"));
        let (job, running) = {
            let (begun, go_on) = (common::Gate::new(), common::Gate::new());
            let (enter, inside) = (begun.clone(), go_on.clone());
            let (job, asked) = Job::ask(move || {
                enter.open();
                inside.pass();
                Out::Value(1)
            });
            let mut plan = Plan::default();
            plan.key = key();
            worker.post(job.planned(plan), Some(LONG)).expect("posted");
            begun.pass();
            (go_on, asked)
        };
        let mut same = Plan::default();
        same.key = key();
        let behind = ask_with(&worker, same);
        let Some(Whereabouts::Queued {
            ahead, why, behind, ..
        }) = find(&worker, &behind)
        else {
            panic!("its key is busy");
        };
        assert_eq!((ahead, why), (0, Waits::Key));
        assert!(behind.is_some_and(|ticket| Arc::ptr_eq(&ticket, &running.ticket())));
        assert!(matches!(
            find(&worker, &running),
            Some(Whereabouts::Running)
        ));
        let gate = occupy(&worker);
        let low = ask(&worker, || 1);
        let mut urgent = Plan::default();
        urgent.priority = Priority::HIGHEST;
        let urgent = ask_with(&worker, urgent);
        assert_eq!(waits(&worker, &urgent), (0, Waits::Turn));
        assert_eq!(waits(&worker, &low), (1, Waits::Turn));
        gate.open();
        job.open();
        assert_eq!(low.reply(), Ok(1));
    });
}
