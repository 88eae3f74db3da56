//! Waiting inside handlers: spare threads, and circles that are found instead of waited for.

mod common;

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use common::{
    Asked, Gate, LONG, Out, TestWorker, ask, ask_out, bounded, bounded_worker, occupy, pool, post,
    worker,
};
use pytoweb_engine::{Overflow, PostError, StopMode, WaitError, Worker, WorkerOptions, wait};

/// Waits for `asked` as a handler does.
fn wait_for(target: &TestWorker, asked: &Asked) -> Result<u64, WaitError> {
    assert!(
        wait(&target.address(), &asked.ticket(), Some(LONG))?,
        "no reply in time"
    );
    Ok(asked.reply().expect("the other handler succeeds"))
}

/// 1 if the wait ended as a circle.
fn is_cycle<R>(result: Result<R, WaitError>) -> u64 {
    u64::from(matches!(result, Err(WaitError::Cycle(_))))
}

fn names_of<R: std::fmt::Debug>(result: Result<R, WaitError>) -> Vec<String> {
    match result {
        Err(WaitError::Cycle(names)) => names,
        other => panic!("no circle: {other:?}"),
    }
}

#[test]
fn a_pool_of_one_thread_runs_nested_waits() {
    bounded(|| {
        const DEPTH: usize = 20;
        fn descend(workers: &Arc<Vec<TestWorker>>, depth: usize) -> u64 {
            let Some(next) = workers.get(depth) else {
                return 0;
            };
            let below = workers.clone();
            let asked = ask(next, move || descend(&below, depth + 1));
            wait_for(next, &asked).expect("no circle") + 1
        }
        let pool = pool(1);
        let workers: Arc<Vec<_>> = Arc::new(
            (0..DEPTH)
                .map(|number| worker(&pool, &format!("w{number}")))
                .collect(),
        );
        let inner = workers.clone();
        let first = ask(&workers[0], move || descend(&inner, 1));
        assert_eq!(first.reply(), Ok(DEPTH as u64 - 1));
        assert!(pool.threads() <= DEPTH + 1);
        pool.shutdown();
        pool.join();
        assert_eq!(pool.threads(), 0);
    });
}

#[test]
fn the_pools_own_mailbox_waits_for_itself_on_other_threads() {
    bounded(|| {
        let pool = pool(1);
        let shared = Arc::new(Worker::shared(
            "pool",
            common::Closures,
            WorkerOptions::default(),
            &pool,
        ));
        fn fibonacci(shared: &Arc<TestWorker>, n: u64) -> u64 {
            if n < 2 {
                return n;
            }
            let asked: Vec<_> = [n - 1, n - 2]
                .into_iter()
                .map(|n| {
                    let inner = shared.clone();
                    ask(shared, move || fibonacci(&inner, n))
                })
                .collect();
            asked
                .iter()
                .map(|asked| wait_for(shared, asked).expect("no circle"))
                .sum()
        }
        assert_eq!(fibonacci(&shared, 9), 34);
        let counters = shared.stats().counters;
        assert_eq!(counters.completed, counters.posted);
        drop(shared);
        pool.shutdown();
        pool.join();
    });
}

#[test]
fn a_worker_that_waits_for_itself_is_told() {
    bounded(|| {
        let pool = pool(2);
        let own = Arc::new(worker(&pool, "own"));
        let inner = own.clone();
        let (names, seen) = mpsc::channel();
        let first = ask(&own, move || {
            let second = ask(&inner, || 5);
            names
                .send(names_of(wait_for(&inner, &second)))
                .expect("the test listens");
            1
        });
        assert_eq!(first.reply(), Ok(1));
        assert_eq!(seen.recv_timeout(LONG), Ok(vec!["own".to_owned()]));
    });
}

/// Makes `count` workers, each of which asks and waits for the next; the last one for the first. Returns how many
/// were told of the circle.
fn circle(names: &[&str], threads: usize) -> u64 {
    let pool = pool(threads);
    let workers: Arc<Vec<_>> = Arc::new(names.iter().map(|name| worker(&pool, name)).collect());
    let everyone = Arc::new(std::sync::Barrier::new(names.len()));
    let asked: Vec<_> = (0..names.len())
        .map(|index| {
            let (workers, everyone) = (workers.clone(), everyone.clone());
            ask(&workers.clone()[index], move || {
                everyone.wait();
                let next = &workers[(index + 1) % workers.len()];
                let inner = ask(next, || 0);
                is_cycle(wait_for(next, &inner))
            })
        })
        .collect();
    asked
        .iter()
        .map(|asked| asked.reply().expect("a value"))
        .sum()
}

#[test]
fn a_circle_of_workers_is_found_by_at_least_one() {
    bounded(|| {
        for count in 2..=4 {
            let names = &["a", "b", "c", "d"][..count];
            for _ in 0..50 {
                assert!(circle(names, count) >= 1);
            }
        }
    });
}

#[test]
fn a_circle_through_workers_of_one_name_is_found() {
    // Names are for people: two pools, or two workers of a Rust program, may use the same one.
    bounded(|| assert!(circle(&["a", "x", "x"], 3) >= 1));
}

#[test]
fn waiting_for_the_end_of_a_worker_that_waits_for_the_caller_is_a_circle() {
    bounded(|| {
        let pool = pool(2);
        let (first, second) = (
            Arc::new(worker(&pool, "first")),
            Arc::new(worker(&pool, "second")),
        );
        let (asker, target) = (second.clone(), first.clone());
        let go = Gate::new();
        let up = go.clone();
        let stopper = second.clone();
        let stopped = ask(&first, move || {
            up.pass();
            is_cycle(stopper.wait_ended(Some(LONG)))
        });
        let waited = ask(&asker.clone(), move || {
            let inner = ask(&target, || 0);
            go.open();
            is_cycle(wait_for(&target, &inner))
        });
        // So that there is an end to wait for, once the other one has been told.
        second.close(StopMode::Drain);
        assert!(stopped.reply().expect("a value") + waited.reply().expect("a value") >= 1);
    });
}

#[test]
fn two_workers_that_post_into_each_others_full_mailboxes_do_not_wait_for_ever() {
    bounded(|| {
        let pool = pool(2);
        let workers = Arc::new([
            bounded_worker(&pool, 1, Overflow::Block),
            bounded_worker(&pool, 1, Overflow::Block),
        ]);
        let (both, full) = (
            Arc::new(std::sync::Barrier::new(3)),
            Arc::new(std::sync::Barrier::new(3)),
        );
        let told = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        for index in 0..2 {
            let (workers, both, full, told) =
                (workers.clone(), both.clone(), full.clone(), told.clone());
            post(&workers.clone()[index], move || {
                both.wait();
                full.wait();
                let other = &workers[1 - index];
                match other.post(common::Job::post(|| ()), Some(LONG / 2)) {
                    Ok(()) => {}
                    Err(PostError::WouldDeadlock(_)) => {
                        told.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                    Err(error) => panic!("waited in vain: {error:?}"),
                }
            });
        }
        both.wait();
        for worker in &*workers {
            post(worker, || ());
        }
        full.wait();
        for worker in &*workers {
            assert!(worker.wait_idle(Some(LONG)).expect("not inside"));
        }
        assert!(told.load(std::sync::atomic::Ordering::Relaxed) >= 1);
    });
}

#[test]
fn a_reply_that_stands_is_no_edge() {
    bounded(|| {
        // `first` waits for `second`, which asks `first` after that and does not wait: there is no circle.
        let pool = pool(2);
        let (first, second) = (
            Arc::new(worker(&pool, "first")),
            Arc::new(worker(&pool, "second")),
        );
        for round in 0..500 {
            let (target, back) = (second.clone(), first.clone());
            let outer = ask(&first, move || {
                let inner = ask(&target, move || {
                    ask(&back, || 0);
                    round
                });
                wait_for(&target, &inner).expect("no circle")
            });
            assert_eq!(outer.reply(), Ok(round));
            // And the other way round, at once: the edge of the round before must be gone.
            let target = first.clone();
            let outer = ask(&second, move || {
                let inner = ask(&target, move || round);
                wait_for(&target, &inner).expect("no circle")
            });
            assert_eq!(outer.reply(), Ok(round));
        }
    });
}

#[test]
fn a_wait_inside_a_handler_ends_at_its_limit() {
    bounded(|| {
        let pool = pool(2);
        let (asker, target) = (worker(&pool, "asker"), Arc::new(worker(&pool, "target")));
        let gate = occupy(&target);
        let slow = target.clone();
        let asked = ask(&asker, move || {
            let inner = ask(&slow, || 0);
            let limit = Some(Duration::from_millis(1));
            u64::from(wait(&slow.address(), &inner.ticket(), limit).expect("no circle"))
        });
        assert_eq!(asked.reply(), Ok(0), "it did not stand in time");
        gate.open();
    });
}

#[test]
fn stopping_a_worker_from_a_worker_that_it_waits_for_returns() {
    bounded(|| {
        let pool = pool(2);
        let (first, second) = (
            Arc::new(worker(&pool, "first")),
            Arc::new(worker(&pool, "second")),
        );
        let (target, up) = (first.clone(), Gate::new());
        let waiting = up.clone();
        let outer = ask_out(&second, move || {
            let (job, inner) = common::Job::ask(|| Out::Value(7));
            target.post(job, None).expect("room");
            waiting.open();
            match wait_for(&target, &inner) {
                Ok(value) => Out::Value(value),
                Err(_) => Out::Value(8),
            }
        });
        up.pass();
        let stopped = second.clone();
        let inner = ask(&first, move || {
            u64::from(stopped.stop(StopMode::Drain, Some(LONG)).is_ok())
        });
        assert!(inner.reply().is_ok());
        assert!(outer.reply().is_ok());
    });
}

/// The mailbox of a pool, which runs several messages at the same time.
fn shared_mailbox(pool: &pytoweb_engine::Pool) -> Arc<TestWorker> {
    let options = WorkerOptions::default();
    Arc::new(Worker::shared("pool", common::Closures, options, pool))
}

/// Asks `from` to wait for the reply that `reply` hands over once the ask that it is of was posted.
fn ask_to_wait(from: &TestWorker, target: &Arc<TestWorker>, reply: mpsc::Receiver<Asked>) -> Asked {
    let target = target.clone();
    ask(from, move || {
        let asked = reply.recv_timeout(LONG).expect("the ask was posted");
        is_cycle(wait_for(&target, &asked))
    })
}

#[test]
fn a_message_of_a_pool_that_waits_for_itself_is_told() {
    bounded(|| {
        for threads in 1..=2 {
            let pool = pool(threads);
            let shared = shared_mailbox(&pool);
            let (own, reply) = mpsc::channel();
            let asked = ask_to_wait(&shared, &shared, reply);
            let result = asked.clone();
            own.send(asked).expect("it listens");
            assert_eq!(result.reply(), Ok(1));
        }
    });
}

#[test]
fn a_circle_through_a_message_of_a_pool_is_found() {
    bounded(|| {
        for threads in 1..=3 {
            for _ in 0..20 {
                let pool = pool(threads);
                let shared = shared_mailbox(&pool);
                let middle = Arc::new(worker(&pool, "middle"));
                let (of_first, first_reply) = mpsc::channel();
                // The first waits for the worker, which waits for the second, which waits for the first.
                let second = ask_to_wait(&shared, &shared, first_reply);
                let (of_second, second_reply) = mpsc::channel();
                let third = ask_to_wait(&middle, &shared, second_reply);
                let (of_third, third_reply) = mpsc::channel();
                let first = ask_to_wait(&shared, &middle, third_reply);
                of_first.send(first.clone()).expect("it listens");
                of_second.send(second.clone()).expect("it listens");
                of_third.send(third.clone()).expect("it listens");
                let told = [first, second, third].map(|asked| asked.reply().expect("a value"));
                assert!(told.iter().sum::<u64>() >= 1);
            }
        }
    });
}

#[test]
fn waiting_for_other_messages_of_a_pool_is_no_circle() {
    bounded(|| {
        let pool = pool(2);
        let shared = shared_mailbox(&pool);
        let middle = Arc::new(worker(&pool, "middle"));
        for round in 0..200 {
            // The one waits for the worker, whose handler waits for another message of the same mailbox.
            let (target, inner) = (middle.clone(), shared.clone());
            let outer = ask(&shared, move || {
                let asked = ask(&target, move || {
                    let last = ask(&inner, move || round);
                    wait_for(&inner, &last).expect("no circle")
                });
                wait_for(&target, &asked).expect("no circle")
            });
            assert_eq!(outer.reply(), Ok(round));
        }
    });
}

#[test]
fn waiting_for_a_pool_to_be_idle_from_a_worker_that_one_of_its_messages_waits_for_is_a_circle() {
    bounded(|| {
        let pool = pool(2);
        let shared = shared_mailbox(&pool);
        let waiter = Arc::new(worker(&pool, "waiter"));
        let (target, back) = (waiter.clone(), shared.clone());
        let outer = ask(&shared, move || {
            let idle = ask(&target, move || is_cycle(back.wait_idle(Some(LONG))));
            match wait_for(&target, &idle) {
                Ok(told) => told,
                Err(WaitError::Cycle(_)) => 1,
                Err(error) => panic!("another error: {error}"),
            }
        });
        assert_eq!(outer.reply(), Ok(1));
    });
}

#[test]
fn room_in_the_mailbox_of_a_pool_comes_though_its_messages_wait_for_the_sender() {
    bounded(|| {
        let pool = pool(1);
        let options = WorkerOptions {
            capacity: 1,
            ..WorkerOptions::default()
        };
        let shared = Arc::new(Worker::shared("pool", common::Closures, options, &pool));
        let sender = Arc::new(worker(&pool, "sender"));
        let (target, back) = (sender.clone(), shared.clone());
        let outer = ask(&shared, move || {
            let posted = ask(&target, move || {
                (0..10_u64)
                    .filter(|_| back.post(common::Job::post(|| ()), Some(LONG)).is_ok())
                    .count() as u64
            });
            wait_for(&target, &posted).expect("no circle")
        });
        assert_eq!(outer.reply(), Ok(10));
    });
}

/// Lets a handler wait in a way that the engine does not know, with its thread lent.
fn wait_for_signal(signal: &mpsc::Receiver<()>) -> u64 {
    let waited = pytoweb_engine::lend(|| signal.recv_timeout(LONG)).expect("a thread for others");
    u64::from(waited.is_ok())
}

#[test]
fn a_handler_that_waits_in_its_own_way_lends_its_thread() {
    bounded(|| {
        let pool = pool(1);
        let (waiting, other) = (worker(&pool, "waiting"), worker(&pool, "other"));
        for _ in 0..50 {
            let (tell, told) = mpsc::channel();
            let waited = ask(&waiting, move || wait_for_signal(&told));
            // On the thread that stands in.
            post(&other, move || tell.send(()).expect("it waits"));
            assert_eq!(waited.reply(), Ok(1));
        }
        let shared = shared_mailbox(&pool);
        let (tell, told) = mpsc::channel();
        let waited = ask(&shared, move || wait_for_signal(&told));
        post(&shared, move || tell.send(()).expect("it waits"));
        assert_eq!(waited.reply(), Ok(1));
    });
}

#[test]
fn a_wait_within_a_lent_wait_lends_nothing_more() {
    bounded(|| {
        let pool = pool(1);
        let (outer, inner) = (worker(&pool, "outer"), Arc::new(worker(&pool, "inner")));
        for round in 0..50 {
            let target = inner.clone();
            let asked = ask(&outer, move || {
                let waited = pytoweb_engine::lend(|| {
                    let again =
                        pytoweb_engine::lend(|| wait_for(&target, &ask(&target, move || round)));
                    again.expect("lent already").expect("no circle")
                });
                waited.expect("a thread for others")
            });
            assert_eq!(asked.reply(), Ok(round));
        }
        // As many threads at once as before: none was counted twice.
        let all = Arc::new(std::sync::Barrier::new(2));
        let met = all.clone();
        post(&outer, move || {
            let _ = pytoweb_engine::lend(|| met.wait());
        });
        post(&inner, move || {
            all.wait();
        });
        assert!(outer.wait_idle(Some(LONG)).expect("not inside"));
        assert!(inner.wait_idle(Some(LONG)).expect("not inside"));
        pool.shutdown();
        pool.join();
        assert_eq!(pool.threads(), 0);
    });
}

#[test]
fn a_thread_that_is_still_lent_after_its_turn_comes_back() {
    bounded(|| {
        let pool = pool(1);
        let (one, other) = (worker(&pool, "one"), Arc::new(worker(&pool, "other")));
        let (keep, kept) = mpsc::channel();
        for _ in 0..20 {
            let keep = keep.clone();
            post(&one, move || {
                let guard = pytoweb_engine::Blocking::enter().expect("a thread for others");
                keep.send(guard).expect("the test listens");
            });
        }
        let guards: Vec<_> = (0..20)
            .map(|_| kept.recv_timeout(LONG).expect("sent"))
            .collect();
        assert!(one.wait_idle(Some(LONG)).expect("not inside"));
        drop(guards);
        // The pool of one runs one at a time again.
        let running = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let asked: Vec<_> = [&one, &*other]
            .iter()
            .cycle()
            .take(200)
            .map(|worker| {
                let running = running.clone();
                ask(worker, move || {
                    let before = running.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    std::thread::yield_now();
                    running.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    before as u64
                })
            })
            .collect();
        for asked in asked {
            assert_eq!(asked.reply(), Ok(0));
        }
        pool.shutdown();
        pool.join();
        assert_eq!(pool.threads(), 0);
    });
}

#[test]
fn a_wait_beyond_the_limit_of_threads_is_refused_and_nothing_hangs() {
    bounded(|| {
        fn descend(shared: &Arc<TestWorker>, level: u64) -> u64 {
            let inner = shared.clone();
            let below = ask(shared, move || descend(&inner, level + 1));
            match wait(&shared.address(), &below.ticket(), Some(LONG)) {
                Ok(_) => below.reply().expect("a value"),
                Err(WaitError::ThreadLimit(limit)) => {
                    assert_eq!((&*limit.pool, limit.max_spare_threads), ("limited", 7));
                    level
                }
                Err(error) => panic!("another error: {error}"),
            }
        }
        for size in 1..=3 {
            let pool = pytoweb_engine::Pool::new(pytoweb_engine::PoolOptions {
                name: "limited".to_owned(),
                max_spare_threads: 7,
                ..pytoweb_engine::PoolOptions::new(size)
            });
            let shared = shared_mailbox(&pool);
            let inner = shared.clone();
            // Each level asks for one more than is allowed to wait.
            let first = ask(&shared, move || descend(&inner, 0));
            let refused = first.reply().expect("a value");
            // Where several run, lower levels may wait before this one does.
            let expected = if size == 1 { 7..=7 } else { 0..=7 };
            assert!(expected.contains(&refused), "{refused} of {size}");
            assert!(shared.close(StopMode::CancelQueued) <= 1);
            assert!(shared.wait_ended(Some(LONG)).expect("not inside"));
            assert!(pool.threads() <= size + 7);
            pool.shutdown();
            pool.join();
            assert_eq!(pool.threads(), 0);
        }
    });
}
