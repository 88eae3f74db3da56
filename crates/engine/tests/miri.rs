//! The unsafe code, which is the reply slot's, in small programs for miri. They run as plain tests as well.
//!
//! | what happens | read in place (`Shared`) | moved out (`Single`) |
//! |---|---|---|
//! | settled, published, read | `shared_replies_are_read_in_place` | `single_replies_move_out_once` |
//! | read before it stands | the same | the same |
//! | published out of turn | `a_reply_is_published_after_it_was_settled_and_once` | |
//! | settled and never read | `an_unread_reply_is_dropped_once` | the same |
//! | failed before, while and after it is settled | `a_failure_and_a_result_do_not_meet` | the same |
//! | several threads | `a_thread_that_publishes_while_another_settles_shows_no_half_written_reply`, `threads_share_one_reply` | `threads_compete_for_one_reply` |
//! | through a worker | `a_worker_answers` | |

mod common;

use std::sync::Arc;
use std::thread;

use common::{LONG, ask, pool, worker};
use pytoweb_engine::{Failure, Shared, Single, Slot, StopMode, contained};

#[test]
fn shared_replies_are_read_in_place() {
    let slot = Slot::<String, Shared>::new();
    assert!(slot.get().is_none());
    assert!(slot.state().claim());
    assert!(slot.settle(Ok("reply".to_owned())));
    assert!(slot.get().is_none(), "settled is not published");
    assert!(!slot.publish());
    let (first, second) = (slot.get(), slot.get());
    assert_eq!(first, Some(&Ok("reply".to_owned())));
    assert_eq!(first, second);
}

#[test]
fn single_replies_move_out_once() {
    let slot = Slot::<Box<u64>, Single>::new();
    assert!(slot.take().is_none());
    assert!(slot.state().claim());
    assert!(slot.settle(Ok(Box::new(7))));
    assert!(slot.take().is_none(), "settled is not published");
    assert!(!slot.publish());
    assert_eq!(slot.take(), Some(Ok(Box::new(7))));
    assert_eq!(slot.take(), None);
}

#[test]
fn an_unread_reply_is_dropped_once() {
    let value = Arc::new(());
    let shared = Slot::<Arc<()>, Shared>::new();
    let single = Slot::<Arc<()>, Single>::new();
    for claimed in [shared.state().claim(), single.state().claim()] {
        assert!(claimed);
    }
    assert!(shared.settle(Ok(value.clone())) && single.settle(Ok(value.clone())));
    shared.publish();
    // The other one is dropped settled and unpublished.
    assert_eq!(Arc::strong_count(&value), 3);
    drop((shared, single));
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn a_failure_and_a_result_do_not_meet() {
    let value = Arc::new(());
    let slot = Slot::<Arc<()>, Shared>::new();
    assert!(!slot.fail(false, Failure::Expired), "it is queued");
    assert!(slot.state().claim());
    assert!(!slot.fail(true, Failure::Expired), "it is not any more");
    assert!(slot.fail(false, Failure::Expired));
    assert!(!slot.settle(Ok(value.clone())), "and the value is dropped");
    assert_eq!(Arc::strong_count(&value), 1);
    assert_eq!(slot.get(), Some(&Err(Failure::Expired)));
    let slot = Slot::<Arc<()>, Single>::new();
    assert!(slot.fail(true, Failure::Stopped));
    assert!(!slot.state().claim());
    assert_eq!(slot.take(), Some(Err(Failure::Stopped)));
}

#[test]
fn a_reply_is_published_after_it_was_settled_and_once() {
    let slot = Slot::<String, Shared>::new();
    assert!(contained(|| slot.publish()).is_err(), "it is queued");
    assert!(slot.state().claim());
    assert!(contained(|| slot.publish()).is_err(), "it runs");
    assert!(slot.settle(Ok("reply".to_owned())));
    slot.publish();
    assert!(contained(|| slot.publish()).is_err(), "it stands");
    assert_eq!(slot.get(), Some(&Ok("reply".to_owned())));
}

#[test]
fn a_thread_that_publishes_while_another_settles_shows_no_half_written_reply() {
    for _ in 0..20 {
        let slot = Slot::<String, Shared>::new();
        assert!(slot.state().claim());
        thread::scope(|scope| {
            let early = scope.spawn(|| {
                let published = contained(|| slot.publish()).is_ok();
                (published, slot.get())
            });
            assert!(slot.settle(Ok("reply".to_owned())));
            let (published, seen) = early.join().expect("no panic");
            assert_eq!(seen.is_some(), published);
            assert!(seen.is_none_or(|reply| *reply == Ok("reply".to_owned())));
        });
    }
}

#[test]
fn threads_share_one_reply() {
    let slot = Slot::<String, Shared>::new();
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    assert!(slot.state().wait(Some(LONG)));
                    slot.get().expect("it stands")
                })
            })
            .collect();
        let failing = scope.spawn(|| slot.fail(false, Failure::Cancelled));
        assert!(slot.state().claim());
        let settled = slot.settle(Ok("reply".to_owned()));
        if settled && slot.publish() {
            slot.state().wake_threads();
        }
        assert_eq!(failing.join().expect("no panic"), !settled);
        for reader in readers {
            assert_eq!(reader.join().expect("no panic").is_ok(), settled);
        }
    });
}

#[test]
fn threads_compete_for_one_reply() {
    let slot = Slot::<Box<u64>, Single>::new();
    assert!(slot.state().claim());
    let taken: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    assert!(slot.state().wait(Some(LONG)));
                    usize::from(slot.take().is_some())
                })
            })
            .collect();
        assert!(slot.settle(Ok(Box::new(7))));
        if slot.publish() {
            slot.state().wake_threads();
        }
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .sum()
    });
    assert_eq!(taken, 1);
}

#[test]
fn a_worker_answers() {
    let pool = pool(2);
    let worker = worker(&pool, "w");
    let asked: Vec<_> = (0..5).map(|n| ask(&worker, move || n)).collect();
    for (asked, n) in asked.iter().zip(0..) {
        assert_eq!(asked.reply(), Ok(n));
    }
    worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
    drop(worker);
    pool.shutdown();
    pool.join();
}
