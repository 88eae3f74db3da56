//! Messages of one sender are handled one at a time, in the order of its posts, in a pool of any size.

mod common;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::{LIMIT, Log, assert_settled, get};
use pytoweb_workers::WorkerPool;

#[test]
fn each_senders_messages_stay_in_order_and_never_overlap() {
    let pool = WorkerPool::new(4);
    let worker = pool.create_worker("ordered").expect("the name is free");
    let busy = Arc::new(AtomicBool::new(false));
    let seen = Log::new();
    let log = seen.clone();
    worker.on_message("note", move |(sender, number): (usize, u32)| {
        assert!(!busy.swap(true, Ordering::SeqCst), "one at a time");
        log.push((sender, number));
        busy.store(false, Ordering::SeqCst);
        Ok::<_, Infallible>(())
    });
    worker.start().expect("it starts");
    thread::scope(|scope| {
        for sender in 0..4_usize {
            let worker = &worker;
            scope.spawn(move || {
                for number in 0..2_000_u32 {
                    worker
                        .post_message("note", (sender, number))
                        .expect("it is accepted");
                }
            });
        }
    });
    worker.run_until_idle(LIMIT).expect("it becomes idle");
    for sender in 0..4 {
        let own: Vec<_> = seen
            .items()
            .into_iter()
            .filter(|note| note.0 == sender)
            .collect();
        assert!(own.iter().map(|note| note.1).eq(0..2_000));
    }
    assert_eq!(assert_settled(&worker).completed, 8_000);
}

#[test]
fn kinds_and_batches_share_one_order() {
    let pool = WorkerPool::new(2);
    let worker = pool.create_worker("ordered").expect("the name is free");
    let seen = Log::new();
    for kind in ["a", "b"] {
        let log = seen.clone();
        worker.on_message(kind, move |number: u32| {
            log.push((kind, number));
            Ok::<_, Infallible>(number)
        });
    }
    worker.post_message("a", 0_u32).expect("it is accepted");
    assert_eq!(
        worker
            .post_messages("b", 1_u32..4)
            .expect("they are accepted"),
        3
    );
    let last = worker.ask::<u32, u32>("a", 4).expect("it is accepted");
    worker.start().expect("it starts");
    assert_eq!(get(last).expect("a reply"), 4);
    assert_eq!(
        seen.items(),
        [("a", 0), ("b", 1), ("b", 2), ("b", 3), ("a", 4)]
    );
}

#[test]
fn closures_stand_in_the_same_order() {
    let pool = WorkerPool::new(2);
    let worker = pool.create_worker("ordered").expect("the name is free");
    let seen = Log::new();
    let (first, second) = (seen.clone(), seen.clone());
    worker.on_message("note", move |number: u32| {
        first.push(number);
        Ok::<_, Infallible>(())
    });
    worker.post_message("note", 1_u32).expect("it is accepted");
    let Ok(reply) = worker.submit(move || second.push(2)) else {
        panic!("it is accepted");
    };
    worker.start().expect("it starts");
    get(reply).expect("a reply");
    assert_eq!(seen.items(), [1, 2]);
}
