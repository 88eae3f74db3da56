//! The four overflow policies, with exact counts, and what a refused sender gets back.

mod common;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use common::{Gate, LIMIT, assert_adds_up, assert_settled, get};
use pytoweb_workers::{AskError, DropReason, Overflow, SendError, Worker, current_worker};

const PRODUCERS: u64 = 8;
const EACH: u64 = 5_000;
const OFFERED: u64 = PRODUCERS * EACH;

/// What eight producers get rid of at a worker of capacity 16: accepted, refused.
fn flood(overflow: Overflow) -> (Worker, u64, u64) {
    let worker = Worker::builder("flooded")
        .capacity(16)
        .overflow(overflow)
        .build();
    worker.on_message("drop", |_: u64| Ok::<_, Infallible>(()));
    worker.start().expect("it starts");
    let accepted = Arc::new(AtomicU64::new(0));
    let refused = Arc::new(AtomicU64::new(0));
    thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let (worker, accepted, refused) = (&worker, &accepted, &refused);
            scope.spawn(move || {
                for number in 0..EACH {
                    match worker.post_message("drop", producer * EACH + number) {
                        Ok(()) => accepted.fetch_add(1, Ordering::Relaxed),
                        Err(SendError::Full(data)) => {
                            assert_eq!(data, producer * EACH + number);
                            refused.fetch_add(1, Ordering::Relaxed)
                        }
                        Err(error) => panic!("{error}"),
                    };
                }
            });
        }
    });
    worker.run_until_idle(LIMIT).expect("it becomes idle");
    let (accepted, refused) = (
        accepted.load(Ordering::Relaxed),
        refused.load(Ordering::Relaxed),
    );
    assert_eq!(accepted + refused, OFFERED);
    (worker, accepted, refused)
}

#[test]
fn block_loses_nothing() {
    let (worker, accepted, _) = flood(Overflow::Block);
    let counters = assert_settled(&worker);
    assert_eq!(
        (accepted, counters.posted, counters.completed),
        (OFFERED, OFFERED, OFFERED)
    );
    assert_eq!((counters.dropped(), counters.rejected), (0, 0));
}

#[test]
fn reject_gives_every_refused_message_back() {
    let (worker, accepted, refused) = flood(Overflow::Reject);
    let counters = assert_settled(&worker);
    assert_eq!(
        (counters.posted, counters.completed, counters.rejected),
        (accepted, accepted, refused)
    );
}

#[test]
fn drop_newest_and_drop_oldest_count_what_they_drop() {
    for overflow in [Overflow::DropNewest, Overflow::DropOldest] {
        let (worker, accepted, _) = flood(overflow);
        let counters = assert_settled(&worker);
        assert_eq!((accepted, counters.posted), (OFFERED, OFFERED));
        assert_eq!(counters.completed + counters.dropped(), OFFERED);
        let other = if overflow == Overflow::DropNewest {
            counters.dropped_oldest
        } else {
            counters.dropped_newest
        };
        assert_eq!((other, counters.rejected), (0, 0));
    }
}

#[test]
fn a_dropped_message_fails_its_reply() {
    for (overflow, lost, reason) in [
        (Overflow::DropNewest, 1, DropReason::Newest),
        (Overflow::DropOldest, 0, DropReason::Oldest),
    ] {
        let worker = Worker::builder("small")
            .capacity(1)
            .overflow(overflow)
            .build();
        worker.on_message("echo", |x: usize| Ok::<_, Infallible>(x));
        let mut replies: Vec<_> = (0..2)
            .map(|x| {
                worker
                    .ask::<usize, usize>("echo", x)
                    .expect("it is accepted")
            })
            .collect();
        let kept = replies.remove(1 - lost);
        let lost = replies.remove(0);
        assert!(matches!(get(lost), Err(AskError::Dropped(why)) if why == reason));
        worker.start().expect("it starts");
        get(kept).expect("a reply");
    }
}

#[test]
fn a_batch_says_what_was_accepted_and_gives_the_rest_back() {
    let make = |overflow| {
        Worker::builder("small")
            .capacity(10)
            .overflow(overflow)
            .build()
    };
    let rejecting = make(Overflow::Reject);
    let Err(SendError::Full(rest)) = rejecting.post_messages("job", 0..4_000) else {
        panic!("they do not fit");
    };
    assert!(rest.into_iter().eq(10..4_000));
    assert_eq!(
        (
            rejecting.stats().counters.posted,
            rejecting.stats().counters.rejected
        ),
        (10, 3_990)
    );
    let newest = make(Overflow::DropNewest);
    assert_eq!(
        newest
            .post_messages("job", 0..4_000)
            .expect("none is refused"),
        10
    );
    assert_eq!(newest.stats().counters.dropped_newest, 3_990);
    let oldest = make(Overflow::DropOldest);
    assert_eq!(
        oldest
            .post_messages("job", 0..4_000)
            .expect("none is refused"),
        4_000
    );
    assert_eq!(oldest.stats().counters.dropped_oldest, 3_990);
    let blocking = make(Overflow::Block);
    blocking.on_message("job", |_: i32| Ok::<_, Infallible>(()));
    blocking.start().expect("it starts");
    assert_eq!(
        blocking.post_messages("job", 0..4_000).expect("they go in"),
        4_000
    );
    blocking.run_until_idle(LIMIT).expect("it becomes idle");
    for worker in [rejecting, newest, oldest, blocking] {
        assert_adds_up(&worker.stats().counters);
    }
}

#[test]
fn a_sender_that_does_not_wait_is_counted_as_rejected() {
    let worker = Worker::builder("small").capacity(1).build();
    worker.try_post_message("job", 1).expect("it fits");
    assert!(matches!(
        worker.try_post_message("job", 2),
        Err(SendError::Full(2))
    ));
    let limit = Duration::from_millis(1);
    assert!(matches!(
        worker.post_message_timeout("job", 3, limit),
        Err(SendError::Full(3))
    ));
    assert!(matches!(
        worker.ask_timeout::<i32, ()>("job", 4, limit),
        Err(SendError::Full(4))
    ));
    assert_eq!(
        (
            worker.stats().counters.posted,
            worker.stats().counters.rejected
        ),
        (1, 3)
    );
}

#[test]
fn a_waiting_sender_goes_on_when_there_is_room_or_the_worker_stops() {
    let worker = Worker::builder("small").capacity(1).build();
    let gate = Gate::new(&worker);
    worker.start().expect("it starts");
    let running = worker
        .ask::<(), bool>(gate.kind, ())
        .expect("it is accepted");
    gate.wait_entered();
    worker.post_message(gate.kind, ()).expect("it fits");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| worker.post_message_timeout(gate.kind, (), LIMIT));
        gate.open();
        get(running).expect("a reply");
        waiting.join().expect("no panic").expect("there is room");
        gate.wait_entered();
        let refused = scope.spawn(|| worker.post_message_timeout(gate.kind, (), LIMIT));
        worker.terminate();
        assert!(matches!(
            refused.join().expect("no panic"),
            Err(SendError::Stopped(()))
        ));
    });
    gate.open();
    common::wait_stopped(&worker);
    assert_settled(&worker);
}

#[test]
fn a_handler_does_not_wait_for_room_in_its_own_mailbox() {
    let worker = Worker::builder("small").capacity(1).build();
    worker.on_message("fill", |()| {
        let me = current_worker().expect("the test holds a handle");
        me.post_message("nothing", 1).expect("it fits");
        let second = me.post_message("nothing", 2);
        let batch = me.post_messages("nothing", [3, 4]);
        Ok::<_, Infallible>(
            matches!(second, Err(SendError::WouldDeadlock(2)))
                && matches!(batch, Err(SendError::WouldDeadlock(rest)) if rest == [3, 4]),
        )
    });
    worker.on_message("nothing", |_: i32| Ok::<_, Infallible>(()));
    worker.start().expect("it starts");
    assert!(get(worker.ask::<(), bool>("fill", ()).expect("it is accepted")).expect("a reply"));
    worker.run_until_idle(LIMIT).expect("it becomes idle");
    assert_eq!(assert_settled(&worker).rejected, 3);
}
