//! Deadlines, with a clock that only the test moves.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use common::{
    Asked, Closures, Gate, HandClock, LONG, Out, TestWorker, ask, ask_out, assert_adds_up, bounded,
    occupy, pool, pool_with_clock, worker,
};
use pytoweb_engine::{
    Failure, Host, Outcome, Pool, PoolOptions, ReplyState, Shared, Slot, StopMode, Ticket, Worker,
    WorkerOptions, WorkerState,
};

const SECOND: Duration = Duration::from_secs(1);

fn ask_held(worker: &TestWorker) -> (Asked, Gate) {
    let (inside, entered) = (Gate::new(), Gate::new());
    let (wait, tell) = (inside.clone(), entered.clone());
    let asked = ask(worker, move || {
        tell.open();
        wait.pass();
        1
    });
    entered.pass();
    (asked, inside)
}

#[test]
fn a_queued_message_expires_and_never_runs() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let worker = worker(&pool, "w");
        let gate = occupy(&worker);
        let runs = Arc::new(AtomicUsize::new(0));
        let asked: Vec<_> = (1..=10_u32)
            .map(|n| {
                let runs = runs.clone();
                let asked = ask(&worker, move || {
                    runs.fetch_add(1, Ordering::Relaxed);
                    u64::from(n)
                });
                worker
                    .set_deadline(&asked.ticket(), SECOND * n)
                    .expect("a thread");
                asked
            })
            .collect();
        clock.advance(SECOND * 4);
        pool.expire_due();
        // The deadline thread may be at it as well; the first of the two settles before it returns.
        for asked in &asked[..4] {
            assert_eq!(asked.reply(), Err(Failure::Expired));
        }
        assert!(asked[4].now().is_none());
        assert_eq!(
            worker.state(),
            WorkerState::Running,
            "a queued one is no reason to be stuck"
        );
        let counters = worker.stats().counters;
        assert_adds_up(&counters);
        assert_eq!((counters.expired, counters.queued), (4, 6));
        gate.open();
        worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
        assert_eq!(runs.load(Ordering::Relaxed), 6);
        for (asked, n) in asked[4..].iter().zip(5..) {
            assert_eq!(asked.now(), Some(Ok(n)));
        }
    });
}

#[test]
fn a_running_message_expires_and_its_worker_is_stuck_until_it_returns() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let worker = worker(&pool, "w");
        let (asked, gate) = ask_held(&worker);
        worker
            .set_deadline(&asked.ticket(), SECOND)
            .expect("a thread");
        clock.advance(SECOND);
        pool.expire_due();
        assert_eq!(asked.reply(), Err(Failure::Expired));
        assert_eq!(worker.state(), WorkerState::Stuck);
        assert!(asked.ticket().state().is_cancel_requested());
        assert_eq!(worker.stats().counters.running, 1);
        gate.open();
        assert!(worker.wait_idle(Some(LONG)).expect("not inside"));
        assert_eq!(worker.state(), WorkerState::Running);
        assert_eq!(asked.interrupts(), 1);
        let counters = worker.stats().counters;
        assert_adds_up(&counters);
        assert_eq!((counters.expired, counters.completed), (1, 0));
    });
}

#[test]
fn a_suspended_message_expires_and_its_worker_is_stuck_until_it_ends() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let worker = worker(&pool, "w");
        let (hand_over, taken) = mpsc::channel();
        let asked = ask_out(&worker, || {
            Out::Suspend(Box::new(move |suspension| {
                hand_over.send(suspension).expect("the test listens");
            }))
        });
        let suspension = taken.recv_timeout(LONG).expect("suspended");
        worker
            .set_deadline(&asked.ticket(), SECOND)
            .expect("a thread");
        clock.advance(SECOND);
        pool.expire_due();
        assert_eq!(asked.reply(), Err(Failure::Expired));
        assert_eq!(worker.state(), WorkerState::Stuck);
        suspension.finish(Outcome::Expired);
        assert!(worker.wait_idle(Some(LONG)).expect("not inside"));
        assert_eq!(worker.state(), WorkerState::Running);
        assert_eq!(worker.stats().counters.expired, 1);
    });
}

#[test]
fn a_deadline_after_the_reply_changes_nothing() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let worker = worker(&pool, "w");
        let asked = ask(&worker, || 3);
        worker
            .set_deadline(&asked.ticket(), SECOND)
            .expect("a thread");
        assert_eq!(asked.reply(), Ok(3));
        clock.advance(SECOND * 2);
        pool.expire_due();
        assert_eq!(asked.now(), Some(Ok(3)));
        assert_eq!(worker.state(), WorkerState::Running);
        assert_eq!(worker.stats().counters.expired, 0);
    });
}

#[test]
fn the_machines_clock_expires_without_help() {
    bounded(|| {
        let pool = pool(1);
        let worker = worker(&pool, "w");
        let (running, gate) = ask_held(&worker);
        let queued = ask(&worker, || 1);
        let late = ask(&worker, || 2);
        for (asked, limit) in [
            (&late, LONG * 100),
            (&running, Duration::from_millis(2)),
            (&queued, Duration::from_millis(1)),
        ] {
            worker
                .set_deadline(&asked.ticket(), limit)
                .expect("a thread");
        }
        assert_eq!(running.reply(), Err(Failure::Expired));
        assert_eq!(queued.reply(), Err(Failure::Expired));
        gate.open();
        assert_eq!(late.reply(), Ok(2));
        drop(worker);
        pool.shutdown();
        pool.join();
    });
}

#[test]
fn deadlines_hold_while_a_pool_shuts_down() {
    // A handler that never looks up must not keep its caller past the deadline.
    bounded(|| {
        let pool = pool(1);
        let worker = worker(&pool, "w");
        let (asked, gate) = ask_held(&worker);
        worker.close(StopMode::Drain);
        pool.shutdown();
        worker
            .set_deadline(&asked.ticket(), Duration::from_millis(5))
            .expect("a thread");
        assert_eq!(asked.reply(), Err(Failure::Expired));
        gate.open();
        pool.join();
    });
}

#[test]
fn deadlines_set_before_the_shutdown_hold_too_and_do_not_delay_it() {
    bounded(|| {
        let pool = pool(1);
        let worker = worker(&pool, "w");
        let (asked, gate) = ask_held(&worker);
        let far = ask(&worker, || 1);
        worker
            .set_deadline(&asked.ticket(), Duration::from_millis(5))
            .expect("a thread");
        worker
            .set_deadline(&far.ticket(), LONG * 100)
            .expect("a thread");
        pool.shutdown();
        assert_eq!(asked.reply(), Err(Failure::Expired));
        gate.open();
        assert_eq!(far.reply(), Ok(1));
        pool.join();
        assert_eq!(pool.threads(), 0);
    });
}

#[test]
fn a_hundred_thousand_deadlines_that_are_met_cost_no_memory_for_long() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let worker = worker(&pool, "w");
        for n in 0..100_000_u64 {
            let asked = ask(&worker, move || n);
            worker
                .set_deadline(&asked.ticket(), SECOND)
                .expect("a thread");
            if n % 100 == 0 {
                assert_eq!(asked.reply(), Ok(n));
            }
        }
        // The clock moves only once every message was handled: what is still queued then would rightly expire.
        assert!(worker.wait_idle(Some(LONG)).expect("not inside"));
        clock.advance(SECOND * 2);
        pool.expire_due();
        let counters = worker.stats().counters;
        assert_adds_up(&counters);
        assert_eq!(counters.completed, 100_000);
    });
}

/// A ticket whose every look at it lets go of a worker: the moment at which another thread may do so.
#[derive(Default)]
struct LetsGo {
    slot: Slot<(), Shared>,
    worker: Mutex<Option<TestWorker>>,
    fails: AtomicUsize,
}

impl Ticket for LetsGo {
    fn state(&self) -> &ReplyState {
        let worker = self.worker.lock().expect("not poisoned").take();
        drop(worker);
        self.slot.state()
    }

    fn fail(&self, _queued: bool, _failure: Failure) -> bool {
        self.fails.fetch_add(1, Ordering::Relaxed);
        false
    }
}

/// Tells when nothing of its pool is left.
struct Last(mpsc::Sender<()>);

impl Host for Last {}

impl Drop for Last {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[test]
fn the_deadline_thread_may_hold_the_last_reference_to_a_pool() {
    bounded(|| {
        let (gone, over) = mpsc::channel();
        let clock = Arc::new(HandClock::default());
        let pool = Pool::new(PoolOptions {
            clock: clock.clone(),
            host: Arc::new(Last(gone)),
            ..PoolOptions::new(1)
        });
        // Not started: the deadline thread is the only one.
        let worker = Worker::new("w", Closures, WorkerOptions::default(), &pool);
        drop(pool);
        let ticket = Arc::new(LetsGo::default());
        assert!(ticket.slot.fail(true, Failure::Stopped));
        let as_ticket: Arc<dyn Ticket> = ticket.clone();
        // Long enough for the next two lines, and real time to the thread.
        let limit = Duration::from_millis(50);
        worker.set_deadline(&as_ticket, limit).expect("a thread");
        *ticket.worker.lock().expect("not poisoned") = Some(worker);
        clock.advance(limit);
        over.recv_timeout(LONG).expect("the pool ended");
    });
}

#[test]
fn a_message_that_another_thread_took_out_does_not_make_its_worker_stuck() {
    // Claimed by the thread that drops or cancels it, and not settled yet.
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let worker = worker(&pool, "w");
        let ticket = Arc::new(LetsGo::default());
        assert!(ticket.state().claim());
        let as_ticket: Arc<dyn Ticket> = ticket.clone();
        worker.set_deadline(&as_ticket, SECOND).expect("a thread");
        clock.advance(SECOND);
        pool.expire_due();
        assert_eq!(worker.state(), WorkerState::Running);
        assert_eq!(ticket.fails.load(Ordering::Relaxed), 0);
    });
}
