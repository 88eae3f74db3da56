//! Handles that go while there is work.

mod common;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::mpsc::channel;

use common::{LIMIT, get};
use pytoweb_workers::{AskError, Worker, WorkerPool, current_worker};

#[test]
fn the_last_handle_lets_the_queue_be_finished() {
    for pooled in [false, true] {
        let pool = WorkerPool::new(1);
        let worker = if pooled {
            pool.create_worker("dropped").expect("the name is free")
        } else {
            Worker::new("dropped")
        };
        let (say, said) = channel();
        worker.on_message("say", move |number: u32| {
            say.send((number, current_worker().is_some()))
                .expect("the test listens");
            Ok::<_, Infallible>(number)
        });
        worker.start().expect("it starts");
        worker
            .post_messages("say", 0_u32..1_000)
            .expect("they are accepted");
        let reply = worker
            .ask::<u32, u32>("say", 1_000)
            .expect("it is accepted");
        drop(worker.clone());
        drop(worker);
        drop(pool);
        for number in 0..=1_000 {
            assert_eq!(said.recv_timeout(LIMIT).expect("it is handled").0, number);
        }
        assert_eq!(get(reply).expect("a reply"), 1_000);
        assert!(
            said.recv_timeout(LIMIT).is_err(),
            "the handlers are dropped"
        );
    }
}

#[test]
fn a_reply_keeps_no_worker_and_outlives_it() {
    let token = Arc::new(());
    let held = token.clone();
    let worker = Worker::new("short-lived");
    worker.on_message("job", move |number: u32| {
        let _held = &held;
        Ok::<_, Infallible>(number)
    });
    let [queued, another] = [1, 2].map(|number| {
        worker
            .ask::<u32, u32>("job", number)
            .expect("it is accepted")
    });
    // It was never started: its queue fails at once, and nothing else holds it.
    drop(worker);
    assert_eq!(Arc::strong_count(&token), 1);
    assert!(!queued.cancel());
    assert!(matches!(get(queued), Err(AskError::Stopped)));
    // Within a handler, where a wait looks for circles first.
    let other = Worker::new("other");
    let left = std::sync::Mutex::new(Some(another));
    other.on_message("wait", move |()| {
        let reply = left.lock().expect("unpoisoned").take();
        let result = reply.expect("it is asked once").wait();
        Ok::<_, Infallible>(matches!(result, Err(AskError::Stopped)))
    });
    other.start().expect("it starts");
    let waited = other.ask::<(), bool>("wait", ()).expect("it is accepted");
    assert!(get(waited).expect("a reply"));
}

#[test]
fn a_worker_that_never_started_fails_its_queue_when_it_is_dropped() {
    let worker = Worker::new("dropped");
    let reply = worker.ask::<(), ()>("job", ()).expect("it is accepted");
    drop(worker);
    assert!(matches!(get(reply), Err(AskError::Stopped)));
}

#[test]
fn a_pool_finishes_its_own_queue_when_it_is_dropped() {
    let pool = WorkerPool::new(2);
    let replies: Vec<_> = (0..1_000)
        .filter_map(|number| pool.submit(move || number).ok())
        .collect();
    drop(pool);
    for (number, reply) in (0..).zip(replies) {
        assert_eq!(get(reply).expect("a reply"), number);
    }
}

#[test]
fn a_worker_may_drop_its_own_last_handle() {
    let worker = Worker::new("dropped");
    let token = Arc::new(());
    let (held, slot) = (
        token.clone(),
        Arc::new(std::sync::Mutex::new(Some(worker.clone()))),
    );
    worker.on_message("let go", move |()| {
        let _held = &held;
        drop(slot.lock().expect("no panic here").take());
        Ok::<_, Infallible>(())
    });
    worker.start().expect("it starts");
    let reply = worker.ask::<(), ()>("let go", ()).expect("it is accepted");
    drop(worker);
    get(reply).expect("a reply");
}

#[test]
fn payloads_that_are_not_handled_are_dropped() {
    let token = Arc::new(());
    let worker = Worker::builder("dropped").capacity(4).build();
    for _ in 0..4 {
        worker
            .post_message("job", token.clone())
            .expect("it is accepted");
    }
    let refused = worker.try_post_message("job", token.clone());
    assert_eq!(Arc::strong_count(&token), 6);
    drop((worker, refused));
    assert_eq!(Arc::strong_count(&token), 1);
}
