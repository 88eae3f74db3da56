//! Strict order, one message at a time, and turns that are shared out fairly.

mod common;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use common::{
    Gate, Job, LONG, TestWorker, bounded, bounded_worker, pool, pool_with_clock, post, post_all,
    worker,
};
use pytoweb_engine::{Overflow, PostError, StopMode, Worker, WorkerOptions};

#[test]
fn each_producers_messages_run_in_its_order_and_one_at_a_time() {
    bounded(|| {
        const PRODUCERS: usize = 4;
        const EACH: usize = 5_000;
        let pool = pool(4);
        // A mailbox smaller than the load, so that producers block as well.
        let worker = Arc::new(bounded_worker(&pool, 64, Overflow::Block));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let inside = Arc::new(AtomicBool::new(false));
        let start = Barrier::new(PRODUCERS);
        thread::scope(|scope| {
            for producer in 0..PRODUCERS {
                let (worker, seen, inside, start) = (&worker, &seen, &inside, &start);
                scope.spawn(move || {
                    start.wait();
                    let job = |number: usize| {
                        let (seen, inside) = (seen.clone(), inside.clone());
                        Job::post(move || {
                            assert!(!inside.swap(true, Ordering::Relaxed), "two at a time");
                            seen.lock().expect("not poisoned").push((producer, number));
                            inside.store(false, Ordering::Relaxed);
                        })
                    };
                    let mut number = 0;
                    while number < EACH {
                        if number % 100 == 0 {
                            // A batch now and then: what does not fit goes one by one.
                            let mut rest = post_all(worker, (number..number + 10).map(job));
                            number += 10;
                            while let Some(job) = rest.pop_front() {
                                worker.post(job, Some(LONG)).expect("posted");
                            }
                        } else {
                            worker.post(job(number), Some(LONG)).expect("posted");
                            number += 1;
                        }
                    }
                });
            }
        });
        worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
        let mut next = [0; PRODUCERS];
        for (producer, number) in seen.lock().expect("not poisoned").iter() {
            assert_eq!(*number, next[*producer]);
            next[*producer] += 1;
        }
        assert_eq!(next, [EACH; PRODUCERS]);
    });
}

#[test]
fn a_worker_sees_what_its_last_message_wrote_on_another_thread() {
    bounded(|| {
        let pool = pool(4);
        let others: Vec<_> = (0..3).map(|n| worker(&pool, &format!("o{n}"))).collect();
        let moving = worker(&pool, "moving");
        // A plain cell would do, were closures allowed to share one: the turn order is what orders the accesses.
        let value = Arc::new(AtomicUsize::new(0));
        for round in 0..2_000 {
            let value = value.clone();
            post(&moving, move || {
                let before = value.load(Ordering::Relaxed);
                value.store(before + 1, Ordering::Relaxed);
            });
            post(&others[round % 3], || ());
        }
        moving.stop(StopMode::Drain, Some(LONG)).expect("in time");
        assert_eq!(value.load(Ordering::Relaxed), 2_000);
    });
}

#[test]
fn no_ready_worker_waits_behind_more_than_one_budget_of_each_other_one() {
    bounded(|| {
        const GREEDY: usize = 8;
        const BUDGET: usize = 64;
        // The clock stands still, so only the number of messages ends a turn.
        let (pool, _clock) = pool_with_clock(1);
        let handled = Arc::new(AtomicUsize::new(0));
        let quiet = Arc::new(worker(&pool, "quiet"));
        let greedy: Vec<TestWorker> = (0..GREEDY)
            .map(|n| worker(&pool, &format!("g{n}")))
            .collect();
        let gate = common::occupy(&greedy[0]);
        for worker in &greedy {
            for _ in 0..10 * BUDGET {
                let handled = handled.clone();
                post(worker, move || {
                    handled.fetch_add(1, Ordering::Relaxed);
                });
            }
        }
        for _ in 0..5 {
            let (done, at) = (Gate::new(), Arc::new(AtomicUsize::new(0)));
            let (tell, handled_then, seen) = (done.clone(), handled.clone(), at.clone());
            post(&quiet, move || {
                seen.store(handled_then.load(Ordering::Relaxed), Ordering::Relaxed);
                tell.open();
            });
            let posted = handled.load(Ordering::Relaxed);
            gate.open();
            done.pass();
            // From the post on: what is left of the turn that runs, and one of each other greedy worker.
            let waited = at.load(Ordering::Relaxed).saturating_sub(posted);
            assert!(
                waited <= GREEDY * BUDGET,
                "{waited} messages of others ran first"
            );
        }
    });
}

#[test]
fn slow_handlers_give_way_after_their_time() {
    bounded(|| {
        let (pool, clock) = pool_with_clock(1);
        let (greedy, quiet) = (worker(&pool, "greedy"), worker(&pool, "quiet"));
        let gate = common::occupy(&greedy);
        let handled = Arc::new(AtomicUsize::new(0));
        for _ in 0..64 {
            let (clock, handled) = (clock.clone(), handled.clone());
            post(&greedy, move || {
                clock.advance(Duration::from_millis(2));
                handled.fetch_add(1, Ordering::Relaxed);
            });
        }
        let seen = Arc::new(AtomicUsize::new(usize::MAX));
        let (at, count) = (seen.clone(), handled.clone());
        post(&quiet, move || {
            at.store(count.load(Ordering::Relaxed), Ordering::Relaxed);
        });
        gate.open();
        assert!(quiet.wait_idle(Some(LONG)).expect("not inside"));
        assert!(
            seen.load(Ordering::Relaxed) <= 1,
            "one slow message is a turn, {} ran first",
            seen.load(Ordering::Relaxed)
        );
    });
}

#[test]
fn at_most_size_handlers_run_at_once_and_the_pools_own_mailbox_uses_them_all() {
    bounded(|| {
        const SIZE: usize = 4;
        let pool = pool(SIZE);
        let shared = Worker::shared("pool", common::Closures, WorkerOptions::default(), &pool);
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let all_in = Arc::new(Barrier::new(SIZE));
        for _ in 0..25 * SIZE {
            let (now, most, all_in) = (now.clone(), most.clone(), all_in.clone());
            post(&shared, move || {
                let running = now.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(running, Ordering::SeqCst);
                // Passes only because as many as the pool has threads run at once.
                all_in.wait();
                now.fetch_sub(1, Ordering::SeqCst);
            });
        }
        assert!(shared.wait_idle(Some(LONG)).expect("not inside"));
        assert_eq!(most.load(Ordering::SeqCst), SIZE);
        assert_eq!(pool.threads(), SIZE);
    });
}

#[test]
fn a_batch_says_how_much_of_it_went_in() {
    bounded(|| {
        let pool = pool(1);
        for (overflow, accepted, left) in [
            (Overflow::Block, 3, 2),
            (Overflow::Reject, 3, 2),
            (Overflow::DropNewest, 3, 0),
            (Overflow::DropOldest, 5, 0),
        ] {
            let worker = bounded_worker(&pool, 3, overflow);
            let gate = common::occupy(&worker);
            let mut jobs: VecDeque<Job> = (0..5).map(|_| Job::post(|| ())).collect();
            match worker.try_post_many(&mut jobs) {
                Ok(count) => assert_eq!((count, left), (accepted, 0)),
                Err((count, PostError::Full(()))) => assert_eq!(count, accepted),
                Err(error) => panic!("{error:?}"),
            }
            assert_eq!(jobs.len(), left);
            gate.open();
            worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
        }
    });
}
