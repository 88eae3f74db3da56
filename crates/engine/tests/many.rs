//! Ten thousand workers on two threads, one of them greedy.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Asked, LONG, TestWorker, ask, bounded, occupy, pool, post, worker};
use pytoweb_engine::{StopMode, WorkerState};

const WORKERS: usize = 10_000;

#[test]
fn ten_thousand_workers_start_answer_and_stop() {
    bounded(|| {
        let pool = pool(2);
        let begun = Instant::now();
        let workers: Vec<TestWorker> = (0..WORKERS)
            .map(|n| worker(&pool, &format!("w{n}")))
            .collect();
        let asked: Vec<Asked> = workers
            .iter()
            .zip(0..)
            .map(|(worker, n)| ask(worker, move || n))
            .collect();
        for (asked, n) in asked.iter().zip(0..) {
            assert_eq!(asked.reply(), Ok(n));
        }
        for worker in &workers {
            worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
            assert_eq!(worker.state(), WorkerState::Stopped);
        }
        assert!(
            begun.elapsed() <= Duration::from_secs(5),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!(pool.threads(), 2);
        pool.shutdown();
        pool.join();
    });
}

#[test]
fn a_greedy_one_delays_ten_thousand_quiet_ones_by_one_budget() {
    bounded(|| {
        const BUDGET: usize = 64;
        let pool = pool(1);
        let greedy = worker(&pool, "greedy");
        let quiet: Vec<TestWorker> = (0..WORKERS)
            .map(|n| worker(&pool, &format!("w{n}")))
            .collect();
        let gate = occupy(&greedy);
        let handled = Arc::new(AtomicUsize::new(0));
        for _ in 0..8_000 {
            let handled = handled.clone();
            post(&greedy, move || {
                handled.fetch_add(1, Ordering::Relaxed);
            });
        }
        let asked: Vec<Asked> = quiet
            .iter()
            .map(|worker| {
                let handled = handled.clone();
                ask(worker, move || handled.load(Ordering::Relaxed) as u64)
            })
            .collect();
        gate.open();
        for asked in &asked {
            let before = asked.reply().expect("a value");
            assert!(
                before < BUDGET as u64,
                "{before} greedy messages came first"
            );
        }
        greedy.stop(StopMode::Drain, Some(LONG)).expect("in time");
        assert_eq!(handled.load(Ordering::Relaxed), 8_000);
    });
}
