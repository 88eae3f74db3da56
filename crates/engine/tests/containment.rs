//! Code that panics where nothing of its own catches it: on a pool's threads it costs the message that it ran for, and
//! no other.

mod common;

use std::any::Any;
use std::panic::panic_any;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use common::{
    Asked, Gate, Job, LONG, Out, TestWorker, ask, ask_out, assert_adds_up, bounded, occupy, pool,
    pool_with_clock, post, worker,
};
use pytoweb_engine::{
    Carrier, Delivery, Failure, Handled, Handler, Host, Overflow, Pool, PoolOptions, StopMode,
    Unpark, Wake, Worker, WorkerOptions, WorkerState,
};

/// Panics when it is dropped, with itself for as often as it says.
struct Bomb(u32);

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.0 > 0 {
            panic_any(Self(self.0 - 1));
        }
    }
}

/// Panics in all the ways there are: with a text, with something else, and with what panics when it is dropped.
fn explode(how: usize) {
    let payload: Box<dyn Any + Send> = match how % 4 {
        0 => Box::new("as it should"),
        1 => Box::new(String::from("as it should")),
        2 => Box::new(how),
        _ => Box::new(Bomb(3)),
    };
    std::panic::resume_unwind(payload)
}

/// A pool of one thread, a worker to do harm to, and another that must not notice.
fn two_workers() -> (Pool, TestWorker, TestWorker) {
    let pool = pool(1);
    let (harmed, other) = (worker(&pool, "harmed"), worker(&pool, "other"));
    (pool, harmed, other)
}

/// Both answer; the one that was harmed handled `completed` messages before and failed `failed`, and ends.
fn assert_unharmed(
    (pool, harmed, other): (Pool, TestWorker, TestWorker),
    completed: u64,
    failed: u64,
) {
    assert_eq!(ask(&other, || 2).reply(), Ok(2));
    assert_eq!(ask(&harmed, || 1).reply(), Ok(1));
    assert_eq!(harmed.state(), WorkerState::Running);
    for worker in [&harmed, &other] {
        worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
        assert_eq!(worker.state(), WorkerState::Stopped);
        assert_adds_up(&worker.stats().counters);
    }
    let counters = harmed.stats().counters;
    assert_eq!(
        (counters.completed, counters.failed),
        (completed + 1, failed)
    );
    assert_eq!((counters.queued, counters.running), (0, 0));
    pool.shutdown();
    pool.join();
}

#[test]
fn a_handler_that_unwinds_fails_its_message_only() {
    bounded(|| {
        let workers = two_workers();
        let gate = occupy(&workers.1);
        let asked: Vec<Asked> = (0..200)
            .map(|n| {
                ask(&workers.1, move || {
                    if n % 2 == 1 {
                        explode(n as usize / 2);
                    }
                    n
                })
            })
            .collect();
        for how in 0..4 {
            post(&workers.1, move || explode(how));
        }
        gate.open();
        for (n, asked) in (0..).zip(asked) {
            let expected = if n % 2 == 1 {
                Err(Failure::Panicked)
            } else {
                Ok(n)
            };
            assert_eq!(asked.reply(), expected);
        }
        assert_unharmed(workers, 101, 104);
    });
}

#[test]
fn a_worker_alone_goes_on_and_ends() {
    bounded(|| {
        for how in 0..4 {
            let pool = pool(1);
            let worker = worker(&pool, "w");
            assert_eq!(
                ask(&worker, move || {
                    explode(how);
                    0
                })
                .reply(),
                Err(Failure::Panicked)
            );
            assert_eq!(ask(&worker, || 1).reply(), Ok(1));
            post(&worker, move || explode(how));
            worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
            let counters = worker.stats().counters;
            assert_adds_up(&counters);
            assert_eq!((counters.completed, counters.failed), (1, 2));
            pool.shutdown();
            pool.join();
        }
    });
}

#[test]
fn messages_of_the_pools_own_mailbox_fail_one_by_one() {
    bounded(|| {
        let pool = pool(2);
        let options = WorkerOptions::default();
        let shared = Worker::shared("pool", common::Closures, options, &pool);
        let asked: Vec<Asked> = (0..400)
            .map(|n| {
                ask(&shared, move || {
                    if n % 2 == 1 {
                        explode(n as usize / 2);
                    }
                    n
                })
            })
            .collect();
        for (n, asked) in (0..).zip(asked) {
            let expected = if n % 2 == 1 {
                Err(Failure::Panicked)
            } else {
                Ok(n)
            };
            assert_eq!(asked.reply(), expected);
        }
        shared.stop(StopMode::Drain, Some(LONG)).expect("in time");
        let counters = shared.stats().counters;
        assert_eq!((counters.completed, counters.failed), (200, 200));
    });
}

#[test]
fn one_that_unwinds_after_its_deadline_has_expired() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let (harmed, other) = (worker(&pool, "harmed"), worker(&pool, "other"));
        let (inside, gate) = (Gate::new(), Gate::new());
        let (enter, go) = (inside.clone(), gate.clone());
        let asked = ask(&harmed, move || {
            enter.open();
            go.pass();
            explode(3);
            0
        });
        inside.pass();
        let limit = Duration::from_secs(1);
        harmed
            .set_deadline(&asked.ticket(), limit)
            .expect("a thread");
        clock.advance(limit);
        pool.expire_due();
        assert_eq!(asked.reply(), Err(Failure::Expired));
        assert_eq!(harmed.state(), WorkerState::Stuck);
        gate.open();
        assert_eq!(ask(&harmed, || 0).reply(), Ok(0));
        assert_eq!(harmed.stats().counters.expired, 1);
        assert_unharmed((pool, harmed, other), 1, 0);
    });
}

#[test]
fn a_message_that_cannot_be_suspended_fails() {
    bounded(|| {
        let workers = two_workers();
        for how in 0..4 {
            let asked = ask_out(&workers.1, move || {
                Out::Suspend(Box::new(move |_suspension| explode(how)))
            });
            // As one whose suspension is dropped.
            assert_eq!(asked.reply(), Err(Failure::Stopped));
        }
        assert_unharmed(workers, 0, 4);
    });
}

#[test]
fn code_that_is_told_of_a_reply_may_panic() {
    struct Loud;
    impl std::task::Wake for Loud {
        fn wake(self: Arc<Self>) {
            explode(3);
        }
    }
    impl Unpark for Loud {
        fn unpark(&self) {
            explode(3);
        }
    }
    bounded(|| {
        let workers = two_workers();
        let gate = occupy(&workers.1);
        let asked = ask(&workers.1, || 1);
        let state = asked.ticket();
        assert!(!state.state().poll_done(&Waker::from(Arc::new(Loud))));
        assert!(state.state().park_with(Arc::new(Loud)));
        let told = Gate::new();
        state.state().on_done(|| explode(3));
        let bomb = Bomb(3);
        state.state().on_done(move || drop(bomb));
        state.state().on_done({
            let told = told.clone();
            move || told.open()
        });
        gate.open();
        assert_eq!(asked.reply(), Ok(1));
        told.pass();
        assert_unharmed(workers, 2, 0);
    });
}

#[test]
fn a_sender_that_is_told_may_panic() {
    bounded(|| {
        let pool = pool(1);
        let small = common::bounded_worker(&pool, 1, Overflow::Block);
        let other = worker(&pool, "other");
        let gate = occupy(&small);
        let asked = ask(&small, || 1);
        let parked = small.park(Job::post(|| ()), None).expect("it stays open");
        let parked = parked.expect("it is full");
        parked.on_settled(|| explode(3));
        let (next, told) = common::park(&small, Job::post(|| ()));
        gate.open();
        told.pass();
        assert_eq!(asked.reply(), Ok(1));
        assert!(parked.finish().is_ok() && next.finish().is_ok());
        assert!(small.wait_idle(Some(LONG)).expect("not inside"));
        assert_unharmed((pool, small, other), 4, 0);
    });
}

/// Panics wherever the engine calls it, but for what runs closures.
struct Unruly;

impl Handler for Unruly {
    type Message = Job;

    fn handle(&self, message: &mut Job) -> Handled<Self> {
        Handled::Done(message.settle(1))
    }

    fn finish(&self, message: Job) -> Wake {
        drop(message.publish());
        explode(3);
        Wake::none()
    }

    fn abandon(&self, message: Job, failure: Failure) {
        message.abandon(failure);
        explode(3);
    }
}

impl Drop for Unruly {
    fn drop(&mut self) {
        explode(3);
    }
}

#[test]
fn a_handler_that_panics_as_it_publishes_and_abandons_keeps_its_worker() {
    bounded(|| {
        let pool = pool(1);
        let other = worker(&pool, "other");
        let unruly = Worker::new("unruly", Unruly, WorkerOptions::default(), &pool);
        let (jobs, asked): (Vec<Job>, Vec<Asked>) =
            (0..200).map(|_| Job::ask(|| Out::Value(1))).unzip();
        for job in jobs {
            unruly.try_post(job).expect("there is room");
        }
        assert!(unruly.start().expect("a thread"));
        for asked in asked {
            assert_eq!(asked.reply(), Ok(1));
        }
        unruly.stop(StopMode::Drain, Some(LONG)).expect("in time");
        let counters = unruly.stats().counters;
        assert_adds_up(&counters);
        assert_eq!(counters.completed, 200);
        // Queued messages that a thread of the pool gives up: on the way to the end of another one's queue.
        let gate = occupy(&other);
        let late = Worker::new("late", Unruly, WorkerOptions::default(), &pool);
        let asked: Vec<Asked> = (0..3)
            .map(|_| {
                let (job, asked) = Job::ask(|| Out::Value(1));
                late.try_post(job).expect("there is room");
                asked
            })
            .collect();
        for asked in &asked {
            assert!(late.address().cancel(&asked.ticket()));
        }
        assert!(late.start().expect("a thread"));
        late.close(StopMode::Drain);
        gate.open();
        assert_eq!(late.wait_ended(Some(LONG)).ok(), Some(true));
        // The thread may be the last to hold them, and to drop their handlers.
        let gate = occupy(&other);
        let last = Worker::new("last", Unruly, WorkerOptions::default(), &pool);
        assert!(last.start().expect("a thread"));
        let (job, asked) = Job::ask(|| Out::Value(1));
        last.try_post(job).expect("there is room");
        drop(last);
        gate.open();
        assert_eq!(asked.reply(), Ok(1));
        assert_eq!(ask(&other, || 2).reply(), Ok(2));
        // Their handlers would panic where the test drops them.
        std::mem::forget((unruly, late));
    });
}

/// Hands no message over.
struct Refuses;

impl Handler for Refuses {
    type Message = Job;

    fn handle(&self, _: &mut Job) -> Handled<Self> {
        unreachable!("everything is handed over")
    }

    fn finish(&self, _: Job) -> Wake {
        Wake::none()
    }

    fn carrier(&self) -> Option<&dyn Carrier<Self>> {
        Some(self)
    }

    fn abandon(&self, message: Job, failure: Failure) {
        message.abandon(failure);
        explode(3);
    }
}

impl Carrier<Self> for Refuses {
    fn carry(&self, deliveries: Vec<Delivery<Self>>) {
        let _goes_down = deliveries;
        explode(3);
    }
}

#[test]
fn messages_that_cannot_be_handed_over_fail_one_by_one() {
    bounded(|| {
        let pool = pool(1);
        let worker = Worker::new("refuses", Refuses, WorkerOptions::default(), &pool);
        let mut queued = Vec::new();
        for starts in [false, true] {
            for _ in 0..10 {
                let (job, asked) = Job::ask(|| Out::Value(1));
                worker.try_post(job).expect("there is room");
                queued.push(asked);
            }
            assert!(starts || worker.start().expect("a thread"));
        }
        for asked in queued {
            assert_eq!(asked.reply(), Err(Failure::Stopped));
        }
        worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
        let counters = worker.stats().counters;
        assert_adds_up(&counters);
        assert_eq!(counters.failed, 20);
    });
}

#[test]
fn a_host_that_panics_in_its_hooks_keeps_its_threads() {
    #[derive(Debug)]
    struct Loud;
    impl Host for Loud {
        fn thread(self: Arc<Self>, body: Box<dyn FnOnce() + Send>) {
            // One thread runs inside, the other without.
            if std::thread::current()
                .name()
                .is_some_and(|name| name.ends_with('1'))
            {
                body();
            }
            explode(3);
        }
        fn rests(&self) {
            explode(3);
        }
        fn blocking(&self, wait: &mut (dyn FnMut() + Send)) {
            explode(3);
            wait();
        }
        fn stack_bytes(&self) -> Option<usize> {
            explode(3);
            None
        }
        fn presence(&self) -> Box<dyn Send> {
            Box::new(Bomb(3))
        }
    }
    bounded(|| {
        let pool = Pool::new(PoolOptions {
            host: Arc::new(Loud),
            ..PoolOptions::new(2)
        });
        let (first, second) = (worker(&pool, "first"), worker(&pool, "second"));
        for n in 0..100 {
            let (gate, inside) = (Gate::new(), Gate::new());
            let (opener, enter) = (gate.clone(), inside.clone());
            let asked = ask(&first, move || {
                enter.open();
                opener.pass();
                n
            });
            inside.pass();
            assert_eq!(ask(&second, move || n).reply(), Ok(n));
            gate.open();
            assert_eq!(asked.reply(), Ok(n));
        }
        for worker in [first, second] {
            worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
            assert_eq!(worker.stats().counters.completed, 100);
        }
        pool.shutdown();
        pool.join();
        assert_eq!(pool.threads(), 0);
    });
}
