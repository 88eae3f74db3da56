//! The registry: pools and workers are found as long as they are there, whatever their messages are.

mod common;

use std::sync::Arc;
use std::thread;

use common::{Closures, HandClock, ask, bounded, occupy, post};
use pytoweb_engine::{Pool, PoolOptions, Registry, Worker, WorkerOptions, WorkerState};

fn pool(registry: &Registry, name: &str) -> Pool {
    Pool::new(PoolOptions {
        name: name.to_owned(),
        registry: registry.clone(),
        ..PoolOptions::new(1)
    })
}

fn worker(pool: &Pool, name: &str) -> Worker<Closures> {
    Worker::new(name, Closures, WorkerOptions::default(), pool)
}

fn pools(registry: &Registry) -> Vec<String> {
    let pools = registry.pools();
    pools.iter().map(|pool| pool.name().to_owned()).collect()
}

fn workers(pool: &Pool) -> Vec<String> {
    let workers = pool.workers();
    workers.iter().map(|one| one.name().to_owned()).collect()
}

#[test]
fn pools_are_there_from_their_making_to_their_last_handle() {
    let registry = Registry::default();
    assert!(registry.pools().is_empty());
    let first = pool(&registry, "first");
    let second = pool(&registry, "second");
    assert_eq!(pools(&registry), ["first", "second"]);
    let again = first.clone();
    drop(first);
    assert_eq!(pools(&registry), ["first", "second"]);
    drop(again);
    assert_eq!(pools(&registry), ["second"]);
    let found = &registry.pools()[0];
    assert_eq!(
        (found.name(), found.size(), found.threads()),
        ("second", 1, 0)
    );
    drop(second);
}

#[test]
fn a_pool_is_in_the_registry_of_the_program_unless_told_otherwise() {
    let own = Pool::new(PoolOptions {
        name: "only in this test".to_owned(),
        ..PoolOptions::new(1)
    });
    let program = pools(&Registry::of_program());
    assert_eq!(
        program.iter().filter(|name| **name == *own.name()).count(),
        1
    );
}

#[test]
fn workers_are_in_the_order_of_their_making_with_the_pools_own_mailbox() {
    let pool = pool(&Registry::default(), "pool");
    let own = Worker::shared("pool", Closures, WorkerOptions::default(), &pool);
    let one = worker(&pool, "one");
    let another_one = worker(&pool, "one");
    let hidden = Worker::hidden("hidden", Closures, WorkerOptions::default(), &pool);
    let found = pool.workers();
    let seen: Vec<_> = found
        .iter()
        .map(|one| (one.name(), one.is_pool()))
        .collect();
    assert_eq!(seen, [("pool", true), ("one", false), ("one", false)]);
    assert_eq!(found[1], one.address());
    assert!(found[1].id() < found[2].id());
    assert_eq!(found[2].id(), another_one.address().id());
    drop((hidden, found, one));
    assert_eq!(workers(&pool), ["pool", "one"]);
    drop((own, another_one));
    assert!(workers(&pool).is_empty());
}

#[test]
fn a_worker_that_was_dropped_is_there_until_it_has_ended() {
    bounded(|| {
        let pool = pool(&Registry::default(), "pool");
        let one = worker(&pool, "one");
        one.start().expect("a thread");
        let gate = occupy(&one);
        drop(one);
        let found = pool.workers();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].state(), WorkerState::Stopping);
        drop(found);
        gate.open();
        pool.shutdown();
        pool.join();
        assert!(pool.workers().is_empty());
    });
}

#[test]
fn the_numbers_of_a_worker_are_read_without_its_type() {
    bounded(|| {
        let registry = Registry::default();
        let clock = Arc::new(HandClock::default());
        let pool = Pool::new(PoolOptions {
            clock,
            registry: registry.clone(),
            ..PoolOptions::new(1)
        });
        let one = worker(&pool, "one");
        one.start().expect("a thread");
        assert_eq!(ask(&one, || 7).reply(), Ok(7));
        let gate = occupy(&one);
        post(&one, || {});
        let found = &registry.pools()[0].workers()[0];
        let stats = found.stats();
        assert_eq!(stats.name, "one");
        assert_eq!(stats.state, found.state());
        let counters = stats.counters;
        assert_eq!(
            (counters.completed, counters.running, counters.queued),
            (1, 1, 1)
        );
        gate.open();
    });
}

#[test]
fn threads_may_look_while_others_make_and_drop() {
    bounded(|| {
        let registry = Registry::default();
        let makers = 3;
        thread::scope(|scope| {
            for maker in 0..makers {
                let registry = &registry;
                scope.spawn(move || {
                    for _ in 0..30 {
                        let pool = pool(registry, &maker.to_string());
                        let made: Vec<_> = (0..70).map(|_| worker(&pool, "one")).collect();
                        assert_eq!(pool.workers().len(), made.len());
                    }
                });
            }
            for _ in 0..200 {
                for pool in registry.pools() {
                    assert!(pool.workers().len() <= 70);
                }
            }
        });
        assert!(registry.pools().is_empty());
    });
}
