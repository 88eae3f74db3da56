//! Cancelling queued and running messages.

mod common;

use std::sync::Arc;

use common::{Gate, assert_settled, get, wait_stopped};
use pytoweb_workers::{AskError, Worker};

#[test]
fn a_queued_message_is_taken_out() {
    let worker = Worker::new("cancelling");
    let payload = Arc::new(());
    let first = worker
        .ask::<Arc<()>, ()>("job", payload.clone())
        .expect("it is accepted");
    let second = worker
        .ask::<Arc<()>, ()>("job", payload.clone())
        .expect("it is accepted");
    assert!(first.cancel());
    assert!(!first.cancel(), "it is over");
    assert!(first.is_done() && !second.is_done());
    assert_eq!(Arc::strong_count(&payload), 2, "its payload is let go");
    assert!(matches!(get(first), Err(AskError::Cancelled)));
    assert_eq!(worker.stats().counters.queued, 1);
    drop(second);
    wait_stopped(&worker);
    let counters = assert_settled(&worker);
    assert_eq!((counters.cancelled, counters.failed), (1, 1));
}

#[test]
fn a_running_message_is_asked_to_stop() {
    let worker = Worker::new("cancelling");
    let gate = Gate::new(&worker);
    worker.start().expect("it starts");
    let reply = worker
        .ask::<(), bool>(gate.kind, ())
        .expect("it is accepted");
    gate.wait_entered();
    assert!(!reply.cancel());
    gate.open();
    assert!(get(reply).expect("a reply"), "the handler saw the request");
    wait_stopped(&worker);
    assert_eq!(assert_settled(&worker).completed, 1);
}

#[test]
fn every_second_of_many_is_cancelled_and_the_others_keep_their_order() {
    let worker = Worker::new("cancelling");
    let mut last = 0;
    worker.on_message("job", move |number: u32| {
        let ordered = last < number;
        last = number;
        if ordered {
            Ok(number)
        } else {
            Err("out of order")
        }
    });
    let replies: Vec<_> = (1..=2_000)
        .map(|number| {
            worker
                .ask::<u32, u32>("job", number)
                .expect("it is accepted")
        })
        .collect();
    for reply in replies.iter().step_by(2) {
        assert!(reply.cancel());
    }
    worker.start().expect("it starts");
    for (number, reply) in (1..).zip(replies) {
        match get(reply) {
            Ok(done) => assert_eq!((done, done % 2), (number, 0)),
            Err(error) => assert!(matches!(error, AskError::Cancelled) && number % 2 == 1),
        }
    }
    wait_stopped(&worker);
    let counters = assert_settled(&worker);
    assert_eq!((counters.cancelled, counters.completed), (1_000, 1_000));
}
