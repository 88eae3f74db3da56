//! Callbacks of replies are a user's code, on the worker's thread.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use common::{Gate, LONG, ask, bounded, occupy, pool, worker};
use pytoweb_engine::StopMode;

#[test]
fn one_that_panics_harms_no_other() {
    bounded(|| {
        let pool = pool(1);
        let worker = worker(&pool, "w");
        let gate = occupy(&worker);
        let first = ask(&worker, || 1);
        let told = Gate::new();
        first
            .ticket()
            .state()
            .on_done(|| panic!("in a callback, as it should"));
        first.ticket().state().on_done({
            let told = told.clone();
            move || told.open()
        });
        let second = ask(&worker, || 2);
        gate.open();
        assert_eq!(first.reply(), Ok(1));
        told.pass();
        assert_eq!(second.reply(), Ok(2));
        worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
        assert_eq!(worker.stats().counters.completed, 3);
        pool.shutdown();
        pool.join();
    });
}

struct Waked(AtomicUsize);

impl Wake for Waked {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_reply_that_is_polled_by_one_task_after_the_other_wakes_the_last() {
    bounded(|| {
        let pool = pool(1);
        let worker = worker(&pool, "w");
        let gate = occupy(&worker);
        let asked = ask(&worker, || 1);
        let tasks: Vec<_> = (0..100)
            .map(|_| Arc::new(Waked(AtomicUsize::new(0))))
            .collect();
        for task in &tasks {
            for _ in 0..2 {
                assert!(!asked.ticket().state().poll_done(&Waker::from(task.clone())));
            }
        }
        let (last, before) = tasks.split_last().expect("a hundred");
        for task in before {
            assert_eq!(Arc::strong_count(task), 1, "a waker is kept");
        }
        gate.open();
        assert_eq!(asked.reply(), Ok(1));
        worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
        assert_eq!(last.0.load(Ordering::Relaxed), 1);
        assert!(
            before
                .iter()
                .all(|task| task.0.load(Ordering::Relaxed) == 0)
        );
    });
}
