//! The hook of the program for failures that nothing else is told of. A file of its own: the hook is for the process.

mod common;

use std::sync::mpsc::{self, Receiver};
use std::sync::{Mutex, OnceLock};

use common::LIMIT;
use pytoweb_workers::{Worker, WorkerPool, set_error_hook};

/// The tests share the hook.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// What the hook is told, by worker and kind.
fn told() -> Receiver<String> {
    let (tell, told) = mpsc::channel();
    set_error_hook(move |error| {
        let _ = tell.send(format!("{} {}", error.worker(), error.kind()));
    });
    told
}

fn fail(_: u32) -> Result<u32, String> {
    Err("it fails".to_owned())
}

#[test]
fn the_hook_is_told_of_posts_that_nothing_else_is_told_of() {
    let _alone = ONE_AT_A_TIME.lock();
    let told = told();
    let worker = Worker::new("quiet");
    worker.on_message("fail", fail);
    worker.start().expect("it starts");
    let asked = worker.ask::<u32, u32>("fail", 1).expect("it is accepted");
    assert!(asked.wait().is_err(), "the reply tells");
    worker.post_message("fail", 2_u32).expect("it is accepted");
    assert_eq!(told.recv_timeout(LIMIT).as_deref(), Ok("quiet fail"));
    worker.on_error(|_| ());
    worker.post_message("fail", 3_u32).expect("it is accepted");
    worker.stop();
    assert!(told.try_recv().is_err(), "on_error is told");
}

#[test]
fn a_hook_that_panics_changes_nothing() {
    static SEEN: OnceLock<()> = OnceLock::new();

    let _alone = ONE_AT_A_TIME.lock();
    set_error_hook(|_| {
        let _ = SEEN.set(());
        std::panic::resume_unwind(Box::new("of the hook"));
    });
    let worker = Worker::new("goes on");
    worker.on_message("fail", fail);
    worker.on_message("work", Ok::<u32, String>);
    worker.start().expect("it starts");
    worker.post_message("fail", 2_u32).expect("it is accepted");
    let reply = worker.ask::<u32, u32>("work", 4).expect("it is accepted");
    assert!(matches!(reply.wait(), Ok(4)));
    assert!(SEEN.get().is_some());
    worker.stop();
    assert_eq!(worker.stats().counters.failed, 1);
}

#[test]
fn a_pool_is_told_of_its_workers_that_tell_no_handler() {
    let _alone = ONE_AT_A_TIME.lock();
    let hook = told();
    let pool = WorkerPool::builder().size(2).name("pool").build();
    let (tell, told) = mpsc::channel();
    let quiet = pool.create_worker("quiet").expect("the name is free");
    quiet.on_message("fail", fail);
    quiet.start().expect("it starts");
    quiet.post_message("fail", 1_u32).expect("it is accepted");
    assert_eq!(hook.recv_timeout(LIMIT).as_deref(), Ok("quiet fail"));

    pool.on_error(move |error| {
        let _ = tell.send(format!("{} {}", error.worker(), error.kind()));
    });
    quiet.post_message("fail", 2_u32).expect("it is accepted");
    assert_eq!(told.recv_timeout(LIMIT).as_deref(), Ok("quiet fail"));
    let asked = quiet.ask::<u32, u32>("fail", 3).expect("it is accepted");
    assert!(asked.wait().is_err());
    assert_eq!(
        told.recv_timeout(LIMIT).as_deref(),
        Ok("quiet fail"),
        "as `Worker::on_error`"
    );
    pool.post_message("unknown", ()).expect("it is accepted");
    assert_eq!(told.recv_timeout(LIMIT).as_deref(), Ok("pool unknown"));

    let (own, own_told) = mpsc::channel();
    quiet.on_error(move |error| {
        let _ = own.send(error.kind().to_owned());
    });
    quiet.post_message("fail", 4_u32).expect("it is accepted");
    assert_eq!(own_told.recv_timeout(LIMIT).as_deref(), Ok("fail"));
    pool.shutdown();
    assert!(told.try_recv().is_err() && hook.try_recv().is_err());
}

#[test]
fn the_thread_of_a_worker_of_its_own_has_its_name() {
    let worker = Worker::new("thumbs");
    worker.on_message("name", |(): ()| {
        Ok::<_, String>(std::thread::current().name().map(str::to_owned))
    });
    worker.start().expect("it starts");
    let name = worker
        .ask::<(), Option<String>>("name", ())
        .expect("it is accepted");
    assert!(matches!(name.wait(), Ok(Some(name)) if name == "thumbs-1"));
    worker.stop();
}
