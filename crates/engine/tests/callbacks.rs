//! Callbacks of replies are somebody's code, on the worker's thread.

mod common;

use common::{Gate, LONG, ask, bounded, occupy, pool, worker};
use pytoweb_engine::{StopMode, Ticket};

#[test]
fn one_that_panics_harms_nobody() {
    bounded(|| {
        let pool = pool(1);
        let worker = worker(&pool, "w");
        let gate = occupy(&worker);
        let first = ask(&worker, || 1);
        let told = Gate::new();
        first
            .0
            .state()
            .on_done(|| panic!("in a callback, as it should"));
        first.0.state().on_done({
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
