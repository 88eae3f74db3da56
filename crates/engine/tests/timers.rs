//! One thread watches the deadlines of all pools of a program. Tests that count threads have a process each.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::{
    Gate, HandClock, Job, LONG, Out, ask, bounded, occupy, pool, pool_with_clock, worker,
};
use pytoweb_engine::{Clock, Failure, Pool, PoolOptions, Timer, Timers, Timestamp};

const SHORT: Duration = Duration::from_millis(5);

/// Timers of its own, so that the tests do not meet.
fn pool_with(timers: &Timers) -> Pool {
    Pool::new(PoolOptions {
        timers: timers.clone(),
        ..PoolOptions::new(1)
    })
}

#[test]
fn deadlines_of_many_pools_pass() {
    bounded(|| {
        let timers = Timers::default();
        for _ in 0..3 {
            let pools: Vec<_> = (0..20).map(|_| pool_with(&timers)).collect();
            let workers: Vec<_> = pools.iter().map(|pool| worker(pool, "w")).collect();
            let gates: Vec<_> = workers.iter().map(occupy).collect();
            let late: Vec<_> = workers
                .iter()
                .map(|worker| {
                    let asked = ask(worker, || 1);
                    worker
                        .set_deadline(&asked.ticket(), SHORT)
                        .expect("a thread");
                    asked
                })
                .collect();
            for asked in late {
                assert_eq!(asked.reply(), Err(Failure::Expired));
            }
            gates.iter().for_each(|gate| gate.open());
            for pool in pools {
                pool.shutdown();
                pool.join();
            }
        }
    });
}

/// A clock that only a test moves, and that counts its readings by the thread that watches deadlines.
#[derive(Debug, Default)]
struct CountingClock {
    hand: HandClock,
    readings: AtomicUsize,
}

impl Clock for CountingClock {
    fn now(&self) -> Timestamp {
        if thread::current().name() == Some("pytoweb-timers") {
            self.readings.fetch_add(1, Ordering::Relaxed);
        }
        self.hand.now()
    }
}

#[test]
fn a_clock_that_stands_just_before_a_deadline_keeps_no_core_busy() {
    bounded(|| {
        let clock = Arc::new(CountingClock::default());
        let pool = Pool::new(PoolOptions {
            timers: Timers::default(),
            clock: clock.clone(),
            ..PoolOptions::new(1)
        });
        let worker = worker(&pool, "w");
        let gate = occupy(&worker);
        let asked = ask(&worker, || 1);
        worker
            .set_deadline(&asked.ticket(), SHORT)
            .expect("a thread");
        clock
            .hand
            .advance(SHORT.checked_sub(Duration::from_nanos(1)).expect("longer"));
        let start = Instant::now();
        let before = clock.readings.load(Ordering::Relaxed);
        // Each look reads the clock a few times, and there is a pause after it.
        let readings = 60;
        while clock.readings.load(Ordering::Relaxed) < before + readings {
            thread::yield_now();
        }
        assert!(start.elapsed() >= Duration::from_millis(readings as u64 / 6));
        for _ in 0..1_000 {
            // A caller who looks itself has its turn, each time.
            pool.expire_due();
        }
        clock.hand.advance(Duration::from_nanos(1));
        assert_eq!(asked.reply(), Err(Failure::Expired));
        gate.open();
    });
}

#[test]
fn a_callback_that_blocks_makes_no_deadline_of_another_pool_late() {
    bounded(|| {
        // It blocks once before the other pool has its first deadline, and once after that.
        for first in [true, false] {
            let timers = Timers::default();
            let (one, other) = (pool_with(&timers), pool_with(&timers));
            let (blocked, free) = (worker(&one, "blocked"), worker(&other, "free"));
            let gates = [occupy(&blocked), occupy(&free)];
            let (inside, entered) = mpsc::channel();
            let (go, gone) = mpsc::channel::<()>();
            let slow = ask(&blocked, || 1);
            slow.ticket().state().on_done(move || {
                let _ = inside.send(());
                let _ = gone.recv_timeout(LONG);
            });
            let expires = || {
                let asked = ask(&free, || 1);
                free.set_deadline(&asked.ticket(), SHORT).expect("a thread");
                assert_eq!(asked.reply(), Err(Failure::Expired));
            };
            if first {
                expires();
            }
            blocked
                .set_deadline(&slow.ticket(), SHORT)
                .expect("a thread");
            entered.recv_timeout(LONG).expect("the deadline passes");
            expires();
            go.send(()).expect("it waits");
            // And it is watched as before.
            let again = ask(&blocked, || 1);
            blocked
                .set_deadline(&again.ticket(), SHORT)
                .expect("a thread");
            assert_eq!(again.reply(), Err(Failure::Expired));
            expires();
            gates.iter().for_each(|gate| gate.open());
        }
    });
}

#[test]
fn a_pool_is_joined_once_its_deadlines_are_dealt_with() {
    bounded(|| {
        for _ in 0..50 {
            let timers = Timers::default();
            let pool = pool_with(&timers);
            let one = worker(&pool, "one");
            let gate = occupy(&one);
            let late = ask(&one, || 1);
            let ended = Arc::new(std::sync::atomic::AtomicBool::new(false));
            let (inside, entered) = mpsc::channel();
            let told = ended.clone();
            late.ticket().state().on_done(move || {
                let _ = inside.send(());
                std::thread::yield_now();
                told.store(true, std::sync::atomic::Ordering::SeqCst);
            });
            one.set_deadline(&late.ticket(), Duration::from_millis(1))
                .expect("a thread");
            entered.recv_timeout(LONG).expect("the deadline passes");
            gate.open();
            drop(one);
            pool.shutdown();
            pool.join();
            assert!(ended.load(std::sync::atomic::Ordering::SeqCst));
        }
    });
}

#[test]
fn a_callback_may_join_its_own_pool() {
    bounded(|| {
        let pool = pool(1);
        let one = worker(&pool, "one");
        // Not started: the pool has no thread besides.
        let (job, late) = Job::ask(|| Out::Value(1));
        one.post(job, None).expect("room");
        let (tell, told) = mpsc::channel();
        let own = pool.clone();
        let gate = Gate::new();
        let up = gate.clone();
        late.ticket().state().on_done(move || {
            up.pass();
            own.shutdown();
            own.join();
            let _ = tell.send(());
        });
        one.set_deadline(&late.ticket(), SHORT).expect("a thread");
        gate.open();
        assert!(told.recv_timeout(LONG).is_ok());
    });
}

#[cfg(target_os = "linux")]
mod counted {
    use super::*;

    /// Names of the threads of this process.
    fn threads() -> Vec<String> {
        let tasks = std::fs::read_dir("/proc/self/task").expect("Linux has it");
        tasks
            .flatten()
            .filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok())
            .map(|name| name.trim().to_owned())
            .collect()
    }

    fn timers() -> usize {
        threads()
            .iter()
            .filter(|name| *name == "pytoweb-timers")
            .count()
    }

    /// The child of the test below: alone in its process.
    #[test]
    #[ignore = "started by `fifty_pools_with_deadlines_have_one_thread_more`"]
    fn child_that_counts() {
        bounded(|| {
            let before = threads().len();
            let pools: Vec<_> = (0..50).map(|_| pool(1)).collect();
            let workers: Vec<_> = pools.iter().map(|pool| worker(pool, "w")).collect();
            let everyone = Arc::new(Barrier::new(51));
            let asked: Vec<_> = workers
                .iter()
                .map(|worker| {
                    let everyone = everyone.clone();
                    let asked = ask(worker, move || {
                        everyone.wait();
                        everyone.wait();
                        1
                    });
                    worker
                        .set_deadline(&asked.ticket(), LONG)
                        .expect("a thread");
                    asked
                })
                .collect();
            everyone.wait();
            let now = threads();
            assert!(now.len() <= before + 51, "{now:?}");
            assert_eq!(timers(), 1);
            everyone.wait();
            for asked in asked {
                assert_eq!(asked.reply(), Ok(1));
            }
            for pool in pools {
                pool.shutdown();
                pool.join();
            }
            while timers() > 0 {
                std::thread::yield_now();
            }
        });
    }

    #[test]
    fn fifty_pools_with_deadlines_have_one_thread_more() {
        let own = std::env::current_exe().expect("this test");
        let child = std::process::Command::new(own)
            .args([
                "--exact",
                "counted::child_that_counts",
                "--ignored",
                "--test-threads=1",
            ])
            .output()
            .expect("it starts");
        assert!(child.status.success(), "{child:?}");
    }
}

/// Notes its name each time, and sets itself again as often as it has times left.
struct Chime {
    name: &'static str,
    pool: Pool,
    clock: Arc<HandClock>,
    again: Mutex<Vec<Duration>>,
    noted: mpsc::Sender<(&'static str, Duration)>,
}

impl Timer for Chime {
    fn elapsed(self: Arc<Self>) {
        let now = self.clock.now();
        let _ = self.noted.send((self.name, now.since(START)));
        if let Some(wait) = self.again.lock().expect("not poisoned").pop() {
            let timer: Arc<dyn Timer> = self.clone();
            self.pool
                .set_timer(now.after(wait), &timer)
                .expect("a thread");
        }
    }
}

const START: Timestamp = Timestamp::from_nanos(0);
/// Too long for the thread that watches to come by itself.
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn timers_are_told_in_order_while_they_exist() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let (noted, told) = mpsc::channel();
        let chime = |name, again| -> Arc<dyn Timer> {
            Arc::new(Chime {
                name,
                pool: pool.clone(),
                clock: clock.clone(),
                again: Mutex::new(again),
                noted: noted.clone(),
            })
        };
        let (late, early) = (chime("late", vec![]), chime("early", vec![HOUR]));
        let gone = chime("gone", vec![]);
        for (timer, at) in [(&late, 3), (&gone, 1), (&early, 2)] {
            pool.set_timer(START.after(HOUR * at), timer)
                .expect("a thread");
        }
        drop(gone);
        let mut seen = Vec::new();
        for _ in 0..4 {
            clock.advance(HOUR);
            pool.expire_due();
            seen.extend(told.try_iter());
        }
        let hours = |n| HOUR * n;
        assert_eq!(
            seen,
            [("early", hours(2)), ("late", hours(3)), ("early", hours(3))]
        );
        pool.shutdown();
        pool.join();
    });
}

#[test]
fn a_timer_is_told_by_the_thread_that_watches() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let (noted, told) = mpsc::channel();
        let timer: Arc<dyn Timer> = Arc::new(Chime {
            name: "one",
            pool: pool.clone(),
            clock: clock.clone(),
            again: Mutex::default(),
            noted,
        });
        pool.set_timer(START.after(LONG * 10), &timer)
            .expect("a thread");
        assert!(told.try_recv().is_err());
        clock.advance(LONG * 10);
        pool.clock_moved();
        assert_eq!(told.recv_timeout(LONG), Ok(("one", LONG * 10)));
        pool.shutdown();
        pool.join();
    });
}

#[test]
fn timers_that_are_gone_do_not_pile_up() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let (noted, told) = mpsc::channel();
        let kept: Vec<Arc<dyn Timer>> = (0..5_000)
            .filter_map(|number| {
                let timer: Arc<dyn Timer> = Arc::new(Chime {
                    name: "kept",
                    pool: pool.clone(),
                    clock: clock.clone(),
                    again: Mutex::default(),
                    noted: noted.clone(),
                });
                pool.set_timer(START.after(HOUR), &timer).expect("a thread");
                (number % 100 == 0).then_some(timer)
            })
            .collect();
        clock.advance(HOUR);
        pool.expire_due();
        assert_eq!(told.try_iter().count(), kept.len());
        pool.shutdown();
        pool.join();
    });
}
