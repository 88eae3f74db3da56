//! Runs that are stuck: what health says of them, and what their handler is told, once.

mod common;

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use common::{Closures, Gate, Job, LONG, Out, ask_out, bounded, occupy, pool_with_clock, post};
use pytoweb_engine::{
    Failure, Handled, Handler, HealthState, Overrun, Pool, Stuck, Suspension, Wake, Worker,
    WorkerOptions,
};

const SECOND: Duration = Duration::from_secs(1);

fn after(seconds: u32) -> WorkerOptions {
    WorkerOptions {
        stuck_after: Some(seconds * SECOND),
        ..WorkerOptions::default()
    }
}

/// Runs jobs, and tells of those that are stuck.
struct Telling(Sender<Stuck>);

impl Handler for Telling {
    type Message = Job;

    fn handle(&self, message: &mut Job) -> Handled<Self> {
        let value = message.value();
        Handled::Done(message.settle(value))
    }

    fn finish(&self, message: Job) -> Wake {
        message.publish()
    }

    fn name_of(&self, _message: &Job) -> Option<String> {
        Some("job".to_owned())
    }

    fn stuck(&self, stuck: Stuck) {
        self.0.send(stuck).expect("the test listens");
    }

    fn abandon(&self, message: Job, failure: Failure) {
        message.abandon(failure);
    }
}

fn telling(pool: &Pool, options: WorkerOptions) -> (Worker<Telling>, Receiver<Stuck>) {
    let (tell, told) = channel();
    let worker = Worker::new("one", Telling(tell), options, pool);
    assert!(worker.start().expect("a thread"));
    (worker, told)
}

/// A job that runs until the gate is opened; the second one opens as it begins.
fn standing() -> (impl FnOnce() -> Out + Send + 'static, Gate, Gate) {
    let (gate, entered) = (Gate::new(), Gate::new());
    let (inside, enter) = (gate.clone(), entered.clone());
    let body = move || {
        enter.open();
        inside.pass();
        Out::Value(1)
    };
    (body, gate, entered)
}

#[test]
fn a_run_beyond_its_limit_is_stuck_until_it_ends_and_told_once() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let (worker, told) = telling(&pool, after(30));
        let (body, gate, entered) = standing();
        let (job, asked) = Job::ask(body);
        worker.post(job, Some(LONG)).expect("posted");
        entered.pass();
        clock.advance(29 * SECOND);
        pool.expire_due();
        assert_eq!(worker.health().state, HealthState::Busy);
        assert!(told.try_recv().is_err());
        clock.advance(3 * SECOND);
        let health = worker.health();
        assert_eq!(
            (health.state, health.lasted),
            (HealthState::Stuck, 2 * SECOND)
        );
        assert_eq!(
            health.reason,
            "a handler has run for 32.0 s: stuck_after is 30 s"
        );
        pool.expire_due();
        let stuck = told.recv_timeout(LONG).expect("told");
        assert_eq!(stuck.why, Overrun::Limit(30 * SECOND));
        assert_eq!(
            (stuck.lasted, stuck.name.as_deref()),
            (32 * SECOND, Some("job"))
        );
        assert!(stuck.ticket.is_some());
        assert_ne!(stuck.thread, Some(thread::current().id()));
        clock.advance(100 * SECOND);
        pool.expire_due();
        gate.open();
        assert_eq!(asked.reply(), Ok(1));
        assert!(worker.wait_idle(Some(LONG)).expect("no circle"));
        assert_eq!(worker.health().state, HealthState::Ok);
        clock.advance(100 * SECOND);
        pool.expire_due();
        assert!(told.try_recv().is_err(), "once");
    });
}

#[test]
fn the_next_run_has_a_time_of_its_own() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let (worker, told) = telling(&pool, after(10));
        for _ in 0..3 {
            let (body, gate, entered) = standing();
            let (job, asked) = Job::ask(body);
            worker.post(job, Some(LONG)).expect("posted");
            entered.pass();
            clock.advance(6 * SECOND);
            pool.expire_due();
            assert_eq!(worker.health().state, HealthState::Busy);
            gate.open();
            assert_eq!(asked.reply(), Ok(1));
        }
        assert!(told.try_recv().is_err());
    });
}

#[test]
fn a_suspended_message_runs_on() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let worker = Worker::new("one", Closures, after(10), &pool);
        assert!(worker.start().expect("a thread"));
        let (give, given) = channel::<Suspension<Closures>>();
        let asked = ask_out(&worker, move || {
            Out::Suspend(Box::new(move |suspension| {
                give.send(suspension).expect("the test waits");
            }))
        });
        let mut suspension = given.recv_timeout(LONG).expect("suspended");
        clock.advance(11 * SECOND);
        assert_eq!(worker.health().state, HealthState::Stuck);
        let outcome = suspension.message_mut().map(|job| job.settle(7));
        suspension.finish(outcome.expect("its message"));
        assert_eq!(asked.reply(), Ok(7));
        assert!(worker.wait_idle(Some(LONG)).expect("no circle"));
        assert_eq!(worker.health().state, HealthState::Ok);
    });
}

#[test]
fn a_run_that_panics_is_over() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let worker = Worker::new("one", Closures, after(10), &pool);
        assert!(worker.start().expect("a thread"));
        post(&worker, || panic!("on purpose"));
        assert!(worker.wait_idle(Some(LONG)).expect("no circle"));
        clock.advance(11 * SECOND);
        assert_eq!(worker.health().state, HealthState::Ok);
    });
}

#[test]
fn without_a_limit_a_run_may_take_as_long_as_it_takes() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let worker = Worker::new("one", Closures, WorkerOptions::default(), &pool);
        assert!(worker.start().expect("a thread"));
        let gate = occupy(&worker);
        clock.advance(100_000 * SECOND);
        assert_eq!(worker.health().state, HealthState::Busy);
        gate.open();
    });
}

#[test]
fn a_run_past_its_deadline_is_told_half_a_second_later() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let (worker, told) = telling(&pool, WorkerOptions::default());
        let (body, gate, entered) = standing();
        let (job, asked) = Job::ask(body);
        worker.post(job, Some(LONG)).expect("posted");
        worker
            .set_deadline(&asked.ticket(), SECOND)
            .expect("a thread");
        entered.pass();
        clock.advance(SECOND);
        pool.expire_due();
        assert_eq!(asked.reply(), Err(Failure::Expired));
        assert!(told.try_recv().is_err(), "it may end by itself");
        clock.advance(SECOND / 2);
        pool.expire_due();
        let stuck = told.recv_timeout(LONG).expect("told");
        assert_eq!((stuck.why, stuck.lasted), (Overrun::Deadline, SECOND / 2));
        gate.open();
        assert!(worker.wait_idle(Some(LONG)).expect("no circle"));
    });
}
