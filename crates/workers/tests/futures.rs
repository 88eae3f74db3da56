//! A reply as a future, and callbacks.

mod common;

use std::pin::Pin;
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Waker};

use common::{Gate, LIMIT, block_on, get, wait_stopped};
use pytoweb_workers::{AskError, Reply, Worker};

fn squares() -> Worker {
    let worker = Worker::new("squares");
    worker.on_message("square", |x: u64| x.checked_mul(x).ok_or("too large"));
    worker
}

#[test]
fn a_reply_can_be_awaited() {
    let worker = squares();
    worker.start().expect("it starts");
    let total = block_on(async {
        let mut total = 0;
        for x in 0..1_000 {
            total += worker
                .ask::<u64, u64>("square", x)
                .expect("it is accepted")
                .await
                .expect("a reply");
        }
        total
    });
    assert_eq!(total, (0..1_000).map(|x| x * x).sum());
    let failed = block_on(
        worker
            .ask::<u64, u64>("square", u64::MAX)
            .expect("it is accepted"),
    );
    assert!(matches!(failed, Err(AskError::Failed(_))));
}

#[test]
fn many_are_in_flight_at_the_same_time() {
    let worker = squares();
    let replies: Vec<Reply<u64>> = (0..100_u64)
        .map(|x| worker.ask("square", x).expect("it is accepted"))
        .collect();
    let starting = worker.clone();
    let results = block_on(async move {
        starting.start().expect("it starts");
        let mut results = Vec::new();
        for reply in replies {
            results.push(reply.await.expect("a reply"));
        }
        results
    });
    assert!(results.into_iter().eq((0..100).map(|x| x * x)));
}

#[test]
fn a_reply_that_stands_is_ready_at_once_and_a_dropped_one_changes_nothing() {
    let worker = squares();
    let gate = Gate::new(&worker);
    let mut reply = worker
        .ask::<(), bool>(gate.kind, ())
        .expect("it is accepted");
    let dropped = worker.ask::<u64, u64>("square", 2).expect("it is accepted");
    let mut context = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut reply).poll(&mut context).is_pending());
    drop(dropped);
    worker.start().expect("it starts");
    gate.wait_entered();
    gate.open();
    wait_stopped(&worker);
    assert!(matches!(
        Pin::new(&mut reply).poll(&mut context),
        Poll::Ready(Ok(false))
    ));
    assert_eq!(worker.stats().counters.completed, 2);
}

#[test]
fn callbacks_get_the_reply_whenever_it_comes() {
    let worker = squares();
    let (sender, results) = channel();
    let tell = |sender: &std::sync::mpsc::Sender<_>| {
        let sender = sender.clone();
        move |result: Result<u64, AskError>| sender.send(result.ok()).expect("the test listens")
    };
    worker
        .ask::<u64, u64>("square", 2)
        .expect("it is accepted")
        .on_done(tell(&sender));
    worker
        .ask::<u64, u64>("square", u64::MAX)
        .expect("it is accepted")
        .on_done(tell(&sender));
    worker
        .ask::<u64, u64>("square", 1)
        .expect("it is accepted")
        .on_done(|_| panic!("on purpose"));
    let last = worker.ask::<u64, u64>("square", 3).expect("it is accepted");
    worker.start().expect("it starts");
    worker.run_until_idle(LIMIT).expect("it becomes idle");
    last.on_done(tell(&sender));
    let results: Vec<_> = (0..3)
        .map(|_| results.recv_timeout(LIMIT).expect("a call"))
        .collect();
    assert_eq!(results, [Some(4), None, Some(9)]);
    assert_eq!(
        get(worker.ask::<u64, u64>("square", 4).expect("it is accepted")).expect("it lives"),
        16
    );
}

#[test]
fn a_message_that_will_not_be_handled_wakes_the_task_that_awaits_it() {
    let worker = squares();
    let reply = worker.ask::<u64, u64>("square", 2).expect("it is accepted");
    let stopping = worker.clone();
    let thread = std::thread::spawn(move || stopping.stop());
    assert!(matches!(block_on(reply), Err(AskError::Stopped)));
    thread.join().expect("no panic");
}
