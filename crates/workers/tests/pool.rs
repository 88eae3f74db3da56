//! The pool as a home of workers and as an address.

mod common;

use std::convert::Infallible;
use std::thread;
use std::time::Duration;

use common::{Gate, LIMIT, Log, assert_adds_up, get, join};
use pytoweb_workers::{
    AskError, CreateError, IdleError, SendError, StopOptions, WorkerPool, WorkerState,
    current_message, current_worker,
};

#[test]
fn names_are_unique_until_their_worker_is_stopped() {
    let pool = WorkerPool::new(1);
    let first = pool.create_worker("name").expect("the name is free");
    assert_eq!(
        pool.create_worker("name"),
        Err(CreateError::NameTaken("name".to_owned()))
    );
    assert_eq!(pool.create_worker(""), Err(CreateError::EmptyName));
    assert_eq!(pool.get_worker("name"), Some(first.clone()));
    assert_eq!(pool.get_worker("other"), None);
    first.stop();
    let second = pool.create_worker("name").expect("the name is free again");
    assert_ne!(first, second);
    pool.create_worker("another").expect("the name is free");
    let names: Vec<_> = pool
        .workers()
        .iter()
        .map(|worker| worker.name().to_owned())
        .collect();
    assert_eq!(names, ["another", "name"]);
    let removed = pool.remove_worker("name").expect("it is there");
    assert_eq!(
        (removed.state(), pool.get_worker("name")),
        (WorkerState::Stopped, None)
    );
    assert_eq!(pool.remove_worker("name"), None);
}

#[test]
fn the_pool_holds_its_workers() {
    let pool = WorkerPool::new(1);
    drop(pool.create_worker("held").expect("the name is free"));
    let worker = pool.get_worker("held").expect("it is there");
    worker.on_message("double", |x: u64| Ok::<_, Infallible>(2 * x));
    worker.start().expect("it starts");
    assert_eq!(
        get(worker.ask::<u64, u64>("double", 4).expect("it is accepted")).expect("a reply"),
        8
    );
}

#[test]
fn the_pool_is_an_address_too() {
    let pool = WorkerPool::builder().size(2).name("address").build();
    let told = Log::new();
    let log = told.clone();
    pool.on_error(move |error| log.push(error.to_string()));
    pool.on_message("square", |x: u64| Ok::<_, Infallible>(x * x));
    pool.on_message("where", |()| {
        let kind = current_message().map(|message| message.kind().to_owned());
        Ok::<_, Infallible>((kind, current_worker().is_none()))
    });
    assert_eq!(
        get(pool.ask::<u64, u64>("square", 5).expect("it is accepted")).expect("a reply"),
        25
    );
    let place = get(pool
        .ask::<(), (Option<String>, bool)>("where", ())
        .expect("it is accepted"))
    .expect("a reply");
    assert_eq!(place, (Some("where".to_owned()), true));
    assert_eq!(
        pool.post_messages("square", 0_u64..100)
            .expect("they are accepted"),
        100
    );
    pool.post_message("nothing", ()).expect("it is accepted");
    pool.run_until_idle(LIMIT).expect("it becomes idle");
    assert_eq!(
        told.items(),
        ["worker `address`, message `nothing`: no handler is registered for `nothing`"]
    );
    pool.on_message("square", |x: u64| Ok::<_, Infallible>(x * x * x));
    assert_eq!(
        get(pool.ask::<u64, u64>("square", 5).expect("it is accepted")).expect("a reply"),
        125
    );
    let own = pool.stats().own.counters;
    assert_adds_up(&own);
    assert_eq!((own.posted, own.completed, own.failed), (104, 103, 1));
}

#[test]
fn closures_reply_and_panics_are_told_to_their_caller_alone() {
    let pool = WorkerPool::new(2);
    let told = Log::new();
    let log = told.clone();
    pool.on_error(move |error| log.push(error.to_string()));
    let text = String::from("moved");
    let Ok(reply) = pool.submit(move || text.len()) else {
        panic!("it is accepted")
    };
    assert_eq!(get(reply).expect("a reply"), 5);
    let Ok(reply) = pool.submit(|| -> () { panic!("on purpose") }) else {
        panic!("it is accepted")
    };
    assert!(matches!(get(reply), Err(AskError::Panicked(text)) if text == "on purpose"));
    assert!(told.items().is_empty());
    let Ok(reply) = pool.submit(|| current_message().map(|message| message.kind().to_owned()))
    else {
        panic!("it is accepted")
    };
    assert_eq!(get(reply).expect("a reply").as_deref(), Some("submit"));
}

#[test]
fn stop_all_stops_the_workers_and_leaves_the_pool_open() {
    let pool = WorkerPool::new(2);
    let workers: Vec<_> = (0..5)
        .map(|number| {
            pool.create_worker(&number.to_string())
                .expect("the name is free")
        })
        .collect();
    for worker in &workers {
        worker.on_message("job", |_: u32| Ok::<_, Infallible>(()));
        worker
            .post_messages("job", 0_u32..500)
            .expect("they are accepted");
        worker.start().expect("it starts");
    }
    let stopping = pool.clone();
    join(move || stopping.stop_all());
    assert!(
        workers
            .iter()
            .all(|worker| worker.state() == WorkerState::Stopped)
    );
    assert_eq!(pool.stats().counters.completed, 2_500);
    assert!(pool.submit(|| ()).is_ok());
    assert!(pool.create_worker("new").is_ok());
}

#[test]
fn shutdown_finishes_everything_and_refuses_the_rest() {
    let pool = WorkerPool::new(2);
    let worker = pool.create_worker("last").expect("the name is free");
    worker.on_message("job", |_: u32| Ok::<_, Infallible>(()));
    worker.start().expect("it starts");
    worker
        .post_messages("job", 0_u32..500)
        .expect("they are accepted");
    let replies: Vec<_> = (0..500)
        .filter_map(|number| pool.submit(move || number).ok())
        .collect();
    let stopping = pool.clone();
    join(move || stopping.shutdown());
    assert!(pool.is_shut_down());
    assert!(replies.iter().all(pytoweb_workers::Reply::is_done));
    assert!(matches!(pool.submit(|| 7), Err(SendError::Stopped(closure)) if closure() == 7));
    assert!(matches!(
        pool.post_message("job", 1),
        Err(SendError::Stopped(1))
    ));
    assert_eq!(pool.create_worker("new"), Err(CreateError::Stopped));
    let stats = pool.stats();
    assert_eq!((stats.counters.completed, stats.threads), (1_000, 0));
    join(move || pool.shutdown());
}

#[test]
fn shutdown_with_a_timeout_gives_up_on_a_handler_that_does_not_return() {
    let pool = WorkerPool::new(1);
    let worker = pool.create_worker("slow").expect("the name is free");
    let gate = Gate::new(&worker);
    worker.start().expect("it starts");
    worker.post_message(gate.kind, ()).expect("it is accepted");
    gate.wait_entered();
    worker.post_message(gate.kind, ()).expect("it is accepted");
    let queued = pool.submit(|| ());
    let options = StopOptions {
        timeout: Some(Duration::from_millis(1)),
        ..StopOptions::default()
    };
    let late = pool.shutdown_with(options).expect_err("a handler runs");
    assert_eq!(late.failed, 2);
    assert!(queued.is_ok_and(|reply| matches!(get(reply), Err(AskError::Stopped))));
    gate.open();
    pool.run_until_idle(LIMIT).expect("it becomes idle");
    assert_adds_up(&pool.stats().counters);
}

#[test]
fn shutdown_from_inside_a_handler_does_not_wait_for_itself() {
    let pool = WorkerPool::new(1);
    let inner = pool.clone();
    let worker = pool.create_worker("suicidal").expect("the name is free");
    worker.on_message("stop", move |()| {
        inner.shutdown();
        Ok::<_, Infallible>(())
    });
    worker.start().expect("it starts");
    get(worker.ask::<(), ()>("stop", ()).expect("it is accepted")).expect("a reply");
    join(move || pool.shutdown());
}

#[test]
fn idle_means_all_workers_and_what_they_send_each_other() {
    let pool = WorkerPool::new(2);
    for (name, next) in [("a", "b"), ("b", "a")] {
        let worker = pool.create_worker(name).expect("the name is free");
        let pool = pool.clone();
        worker.on_message("pass", move |left: u32| {
            if left > 0 {
                let next = pool.get_worker(next).expect("it is there");
                next.post_message("pass", left - 1).expect("it is accepted");
            }
            Ok::<_, Infallible>(())
        });
        worker.start().expect("it starts");
    }
    let first = pool.get_worker("a").expect("it is there");
    first
        .post_message("pass", 1_000_u32)
        .expect("it is accepted");
    pool.run_until_idle(LIMIT).expect("it becomes idle");
    assert_eq!(pool.stats().counters.completed, 1_001);
    pool.create_worker("not started")
        .expect("the name is free")
        .post_message("job", ())
        .expect("it is accepted");
    assert!(matches!(
        pool.run_until_idle(Duration::from_millis(1)),
        Err(IdleError::TimedOut)
    ));
}

#[test]
fn threads_carry_the_pools_name() {
    let pool = WorkerPool::builder().size(1).name("named").build();
    let Ok(reply) = pool.submit(|| thread::current().name().map(str::to_owned)) else {
        panic!("it is accepted")
    };
    assert_eq!(get(reply).expect("a reply").as_deref(), Some("named-1"));
}
