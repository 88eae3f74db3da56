//! Numbers: how old the oldest message is, how busy a worker was, and what handlers are told for tallies by type.

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Closures, HandClock, Job, LONG, ask, bounded, occupy, pool_with_clock, post, worker};
use pytoweb_engine::{
    Failure, Handled, Handler, Message, Outcome, Plan, Priority, ReplyState, RunPlace, Span,
    StopMode, Suspension, Ticket, Wake, Worker, WorkerOptions,
};

const SECOND: Duration = Duration::from_secs(1);

fn age(worker: &Worker<Closures>) -> Option<Duration> {
    worker.stats().oldest_age
}

/// Quick messages, so that most of those after them are not timed.
fn hurry(worker: &Worker<Closures>) {
    for _ in 0..200 {
        post(worker, || {});
    }
    assert_eq!(ask(worker, || 1).reply(), Ok(1));
    assert!(worker.wait_idle(Some(LONG)).expect("no circle"));
}

#[test]
fn the_age_is_that_of_the_oldest_message_also_where_few_are_timed() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let one = worker(&pool, "one");
        for _ in 0..20 {
            // A handler that stood still in the round before counts as a slow one for the first of them.
            for _ in 0..3 {
                hurry(&one);
            }
            assert_eq!(age(&one), None);
            let gate = occupy(&one);
            assert_eq!(age(&one), None);
            for passed in 0..5 {
                post(&one, || {});
                assert_eq!(age(&one), Some(SECOND * passed));
                clock.advance(SECOND);
            }
            gate.open();
            assert!(one.wait_idle(Some(LONG)).expect("no circle"));
        }
    });
}

#[test]
fn a_cancelled_message_has_no_age() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let one = worker(&pool, "one");
        let gate = occupy(&one);
        let first = ask(&one, || 1);
        clock.advance(SECOND);
        post(&one, || {});
        clock.advance(SECOND);
        assert_eq!(age(&one), Some(2 * SECOND));
        assert!(one.address().cancel(&first.ticket()));
        // The entry is still there; the message is not.
        assert!(age(&one) <= Some(2 * SECOND) && age(&one) >= Some(SECOND));
        gate.open();
    });
}

#[test]
fn a_turn_counts_while_it_goes_on() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let one = worker(&pool, "one");
        clock.advance(100 * SECOND);
        let gate = occupy(&one);
        clock.advance(5 * SECOND);
        let stats = one.stats();
        assert_eq!(stats.busy, 5 * SECOND);
        let recently = stats.recently;
        assert_eq!(
            [recently.last_1s, recently.last_10s, recently.last_60s],
            [SECOND, 5 * SECOND, 5 * SECOND]
        );
        let shares = stats.utilisation();
        assert!((shares[0] - 1.0).abs() < 1e-9 && (shares[1] - 0.5).abs() < 1e-9);
        gate.open();
        assert!(one.wait_idle(Some(LONG)).expect("no circle"));
    });
}

#[test]
fn turns_of_a_pools_own_mailbox_count_each() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(3);
        let own = Worker::shared("pool", Closures, WorkerOptions::default(), &pool);
        clock.advance(10 * SECOND);
        let first = occupy(&own);
        clock.advance(SECOND);
        let second = occupy(&own);
        clock.advance(SECOND);
        let numbers = own.address().numbers();
        assert_eq!(numbers.busy, 3 * SECOND);
        assert_eq!(numbers.recently.last_1s, 2 * SECOND);
        assert!((numbers.utilisation()[0] - 2.0 / 3.0).abs() < 1e-9);
        first.open();
        second.open();
    });
}

/// Whether the messages say how they are to be queued, as two orders take the next one.
fn times_behind_others(is_planned: bool) {
    let (pool, clock) = pool_with_clock(1);
    let one = worker(&pool, "one");
    let gate = occupy(&one);
    for number in 0..20 {
        let clock = clock.clone();
        let micros = if number == 10 { 50 } else { 10 };
        let job = Job::post(move || clock.advance(Duration::from_micros(micros)));
        let mut plan = Plan::default();
        plan.priority = Priority::new(9).expect("a priority");
        let job = if is_planned { job.planned(plan) } else { job };
        one.post(job, Some(LONG)).expect("posted");
    }
    gate.open();
    assert!(one.wait_idle(Some(LONG)).expect("no circle"));
    let timings = one.stats().timings;
    assert_eq!(timings.run_max, Some(Duration::from_micros(50)));
    assert!(timings.run_p50 >= Some(Duration::from_micros(9)));
}

#[test]
fn a_message_with_others_behind_it_is_timed() {
    bounded(|| times_behind_others(false));
    bounded(|| times_behind_others(true));
}

/// What a handler was told of its messages.
#[derive(Default)]
struct Reports {
    ended: Mutex<Vec<(u8, Outcome)>>,
    timed: Mutex<Vec<(u8, Span)>>,
}

/// Works for 20 ms on each message; those of type 1 go on for another 30 ms elsewhere, and fail. Those of type 9 take no time.
struct Telling {
    reports: Arc<Reports>,
    clock: Arc<HandClock>,
}

#[derive(Debug)]
struct Typed(u8);

impl Message for Typed {
    fn ticket(&self) -> Option<Arc<dyn Ticket>> {
        None
    }

    fn state(&self) -> Option<&ReplyState> {
        None
    }
}

impl Handler for Telling {
    type Message = Typed;

    fn handle(&self, message: &mut Typed) -> Handled<Self> {
        if message.0 == 9 {
            return Handled::Done(Outcome::Completed);
        }
        self.clock.advance(Duration::from_millis(20));
        if message.0 != 1 {
            return Handled::Done(Outcome::Completed);
        }
        Handled::Suspend(Box::new(|suspension: Suspension<Self>| {
            suspension
                .handler()
                .clock
                .advance(Duration::from_millis(30));
            suspension.finish(Outcome::Failed);
        }))
    }

    fn finish(&self, _: Typed) -> Wake {
        Wake::none()
    }

    fn ended(&self, message: &Typed, outcome: Outcome) {
        let mut ended = self.reports.ended.lock().expect("not poisoned");
        ended.push((message.0, outcome));
    }

    fn timed(&self, message: &Typed, span: &Span) {
        let mut timed = self.reports.timed.lock().expect("not poisoned");
        timed.push((message.0, *span));
    }

    fn abandon(&self, _: Typed, _: Failure) {}
}

#[test]
fn a_handler_is_told_of_times_and_of_what_ends_elsewhere() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let reports = Arc::<Reports>::default();
        let handler = Telling {
            reports: reports.clone(),
            clock: clock.clone(),
        };
        let one = Worker::new("one", handler, WorkerOptions::default(), &pool);
        for kind in [0, 1, 2] {
            one.try_post(Typed(kind)).expect("room");
        }
        clock.advance(SECOND);
        assert!(one.start().expect("a thread"));
        assert_eq!(one.stop(StopMode::Drain, Some(LONG)), Ok(()));
        assert_eq!(
            *reports.ended.lock().expect("not poisoned"),
            [(1, Outcome::Failed)]
        );
        let millis = Duration::from_millis;
        let span = |wait, run, outcome, place| Span {
            wait,
            run: millis(run),
            outcome,
            place,
        };
        let (done, failed) = (Outcome::Completed, Outcome::Failed);
        assert_eq!(
            *reports.timed.lock().expect("not poisoned"),
            [
                (0, span(SECOND, 20, done, RunPlace::Turn)),
                (
                    1,
                    span(SECOND + millis(20), 50, failed, RunPlace::Suspended)
                ),
                (2, span(SECOND + millis(70), 20, done, RunPlace::Turn)),
            ]
        );
        let timings = one.stats().timings;
        assert_eq!(timings.run_max, Some(millis(50)));
        assert_eq!(timings.wait_max, Some(SECOND + millis(70)));
    });
}

#[test]
fn all_messages_are_timed_while_that_is_asked_for() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let reports = Arc::<Reports>::default();
        let handler = Telling {
            reports: reports.clone(),
            clock,
        };
        let one = Worker::new("one", handler, WorkerOptions::default(), &pool);
        assert!(one.start().expect("a thread"));
        let hundred_timed = || {
            reports.timed.lock().expect("not poisoned").clear();
            for _ in 0..100 {
                one.try_post(Typed(9)).expect("room");
            }
            assert!(one.wait_idle(Some(LONG)).expect("no circle"));
            reports.timed.lock().expect("not poisoned").len()
        };
        // Until the average of the run times says that they are quick.
        while hundred_timed() == 100 {}
        one.address().time_all(true);
        assert_eq!(hundred_timed(), 100);
        assert_eq!(hundred_timed(), 100);
        one.address().time_all(false);
        while hundred_timed() == 100 {}
    });
}
