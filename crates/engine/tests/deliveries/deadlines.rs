//! Deadlines of messages that are handed over.

use std::time::Duration;

use pytoweb_engine::Failure;

use crate::child::{ask_all, assert_settled, counters, roomy, start};
use crate::common::{bounded, pool_with_clock};

/// No deadline thread sleeps less: the clock is the test's, the thread's pauses are not.
const FAR: Duration = Duration::from_secs(10_000);

#[test]
fn deadlines_that_pass_together_are_dealt_with_together() {
    // Whatever is done for all of a worker's messages at once costs as much for one: it takes back what is ahead.
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let workers = [roomy(&pool, 4), roomy(&pool, 4)];
        let asked: Vec<_> = workers
            .iter()
            .map(|worker| {
                let asked = ask_all(worker, 0..100);
                start(worker);
                asked
            })
            .collect();
        for place in 0..100 {
            // In turns, as when several workers were asked the same.
            for (worker, asked) in workers.iter().zip(&asked) {
                let ticket = asked[place].ticket();
                worker.set_deadline(&ticket, FAR).expect("a thread");
                clock.advance(Duration::from_nanos(1));
            }
        }
        clock.advance(FAR);
        pool.expire_due();
        for (worker, asked) in workers.iter().zip(&asked) {
            for asked in asked {
                assert_eq!(asked.reply(), Err(Failure::Expired));
            }
            assert_eq!(worker.handler().way().unbegun, 1);
            worker.handler().run_all();
            assert_eq!(counters(worker).expired, 100);
            assert_settled(worker);
        }
    });
}
