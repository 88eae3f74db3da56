//! Handlers that wait for replies: cycles are errors, and a pool whose threads all wait goes on.

mod common;

use std::convert::Infallible;
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::time::Duration;

use common::{LIMIT, assert_settled, block_on, get, wait_stopped};
use pytoweb_workers::{AskError, IdleError, Reply, Worker, WorkerPool, blocking, current_worker};

/// Workers of a pool of one thread, each of which asks the next and waits.
fn chain(pool: &WorkerPool, names: &[&str]) -> Vec<Worker> {
    let workers: Vec<_> = names
        .iter()
        .map(|name| pool.create_worker(name).expect("the name is free"))
        .collect();
    for (index, worker) in workers.iter().enumerate() {
        let pool = pool.clone();
        let next = names[(index + 1) % names.len()].to_owned();
        worker.on_message("ask", move |hops: u32| {
            if hops == 0 {
                return Ok(0);
            }
            let next = pool.get_worker(&next).expect("it is there");
            let reply = next
                .ask::<u32, u32>("ask", hops - 1)
                .expect("it is accepted");
            reply.wait().map(|hops| hops + 1)
        });
        worker.start().expect("it starts");
    }
    workers
}

/// The cycle that an ask failed with, however many handlers passed the error on.
fn cycle(error: AskError) -> Vec<String> {
    match error {
        AskError::Cycle(names) => names,
        AskError::Failed(inner) => {
            cycle(*inner.downcast::<AskError>().expect("an ask failed in it"))
        }
        other => panic!("no cycle: {other}"),
    }
}

#[test]
fn a_worker_that_asks_itself_gets_an_error() {
    let pool = WorkerPool::new(1);
    let workers = chain(&pool, &["selfish"]);
    let error = get(workers[0]
        .ask::<u32, u32>("ask", 1)
        .expect("it is accepted"))
    .expect_err("a cycle");
    assert_eq!(cycle(error), ["selfish"]);
    pool.shutdown();
    assert_settled(&workers[0]);
}

#[test]
fn a_circle_of_three_names_its_members() {
    for size in [1, 2] {
        let pool = WorkerPool::new(size);
        let workers = chain(&pool, &["a", "b", "c"]);
        assert_eq!(
            get(workers[0]
                .ask::<u32, u32>("ask", 2)
                .expect("it is accepted"))
            .expect("no cycle yet"),
            2
        );
        let error = get(workers[0]
            .ask::<u32, u32>("ask", 3)
            .expect("it is accepted"))
        .expect_err("a cycle");
        let mut names = cycle(error);
        names.sort();
        assert_eq!(names, ["a", "b", "c"]);
        pool.shutdown();
        for worker in &workers {
            assert_settled(worker);
        }
    }
}

#[test]
fn a_pool_whose_threads_all_wait_goes_on() {
    for size in [1, 2] {
        let pool = WorkerPool::new(size);
        let names: Vec<String> = (0..10).map(|number| format!("worker {number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let workers = chain(&pool, &names);
        assert_eq!(
            get(workers[0]
                .ask::<u32, u32>("ask", 9)
                .expect("it is accepted"))
            .expect("a reply"),
            9
        );
        pool.shutdown();
        assert_eq!(pool.stats().threads, 0);
        assert_eq!(pool.stats().counters.completed, 10);
    }
}

#[test]
fn a_handler_that_blocks_on_futures_lends_its_thread_where_it_says_so() {
    let pool = WorkerPool::new(1);
    let inner = pool.clone();
    pool.on_message("descend", move |left: u32| {
        if left == 0 {
            return Ok::<_, Infallible>(0);
        }
        let reply = inner
            .ask::<u32, u32>("descend", left - 1)
            .expect("it is accepted");
        let below = blocking(|| block_on(reply)).expect("a thread for others");
        Ok(1 + below.expect("a reply"))
    });
    assert_eq!(
        get(pool.ask::<u32, u32>("descend", 5).expect("it is accepted")).expect("a reply"),
        5
    );
    assert_eq!(blocking(|| 3).expect("outside of a handler"), 3);
    pool.shutdown();
    assert_eq!(pool.stats().threads, 0);
}

#[test]
fn a_function_of_a_pool_and_a_worker_that_wait_for_each_other_get_an_error() {
    for size in [1, 2] {
        let pool = WorkerPool::builder().size(size).name("pool").build();
        let worker = pool.create_worker("worker").expect("the name is free");
        let (own, reply) = mpsc::channel::<Reply<Result<u32, AskError>>>();
        let reply = Mutex::new(reply);
        worker.on_message("wait", move |(): ()| {
            let reply = reply.lock().expect("not poisoned");
            let submitted = reply.recv_timeout(LIMIT).expect("it was submitted");
            submitted.wait()?
        });
        worker.start().expect("it starts");
        let (told, seen) = mpsc::channel();
        let asked = worker.clone();
        let submitted = pool
            .submit(move || {
                let reply = asked.ask::<(), u32>("wait", ()).expect("it is accepted");
                let result = reply.wait();
                let _ = told.send(result.as_ref().is_err());
                result
            })
            .expect("it is accepted");
        own.send(submitted).expect("the worker listens");
        // The one that closes the circle is told, and the error goes round.
        assert_eq!(seen.recv_timeout(LIMIT), Ok(true));
        pool.shutdown();
        assert_settled(&worker);
    }
}

#[test]
fn messages_of_the_pool_itself_may_wait_for_each_other() {
    for size in [1, 2] {
        let pool = WorkerPool::new(size);
        let inner = pool.clone();
        pool.on_message("sum", move |to: u32| -> Result<u32, AskError> {
            if to == 0 {
                return Ok(0);
            }
            let rest = inner
                .ask::<u32, u32>("sum", to - 1)
                .expect("it is accepted");
            rest.wait().map(|rest| rest + to)
        });
        assert_eq!(
            get(pool.ask::<u32, u32>("sum", 20).expect("it is accepted")).expect("a reply"),
            210
        );
        pool.shutdown();
    }
}

#[test]
fn all_threads_of_a_pool_run_at_the_same_time() {
    let pool = WorkerPool::new(3);
    let barrier = Arc::new(Barrier::new(3));
    let replies: Vec<_> = (0..3)
        .filter_map(|_| {
            let barrier = barrier.clone();
            pool.submit(move || barrier.wait().is_leader()).ok()
        })
        .collect();
    let leaders = replies
        .into_iter()
        .filter(|_| true)
        .map(|reply| get(reply).expect("they met"));
    assert_eq!(leaders.filter(|leader| *leader).count(), 1);
    pool.shutdown();
}

#[test]
fn a_handler_cannot_wait_until_its_own_worker_is_idle() {
    let worker = Worker::new("impatient");
    worker.on_message("wait", |()| {
        let me = current_worker().expect("the test holds a handle");
        Ok::<_, Infallible>(matches!(me.run_until_idle(Duration::MAX), Err(IdleError::Cycle(names)) if names == ["impatient"]))
    });
    worker.start().expect("it starts");
    assert!(get(worker.ask::<(), bool>("wait", ()).expect("it is accepted")).expect("a reply"));
    wait_stopped(&worker);
}

#[test]
fn an_idle_wait_that_runs_out_says_so() {
    let worker = Worker::new("not started");
    worker.post_message("job", ()).expect("it is accepted");
    assert!(matches!(
        worker.run_until_idle(Duration::from_millis(1)),
        Err(IdleError::TimedOut)
    ));
}
