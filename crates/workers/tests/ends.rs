//! The end of a worker: end hooks, and what a worker that has ended lets go of.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, ThreadId};
use std::time::Duration;

use pytoweb_workers::{StopOptions, Worker, WorkerPool, current_message, current_worker};

const LONG: Duration = Duration::from_secs(40);

/// Tells which thread drops it.
struct DropReport(mpsc::Sender<ThreadId>);

impl Drop for DropReport {
    fn drop(&mut self) {
        let _ = self.0.send(thread::current().id());
    }
}

fn options() -> StopOptions {
    StopOptions {
        timeout: Some(LONG),
        ..StopOptions::default()
    }
}

#[test]
fn what_handlers_hold_is_dropped_on_the_workers_thread_at_its_end() {
    let worker = Worker::new("w");
    let (tell, told) = mpsc::channel();
    let kept = DropReport(tell);
    worker.on_message("thread", move |(): ()| {
        let _ = &kept;
        Ok::<_, Infallible>(thread::current().id())
    });
    worker.start().expect("a thread");
    let of_worker: ThreadId = worker
        .ask("thread", ())
        .expect("it is open")
        .wait()
        .expect("a reply");
    assert!(told.try_recv().is_err());
    worker.stop_with(options()).expect("in time");
    assert_eq!(told.try_recv().expect("it was dropped"), of_worker);
    assert_eq!(worker.stats().counters.posted, 1);
}

#[test]
fn a_worker_that_was_never_started_lets_go_as_well() {
    for starts in [false, true] {
        let pool = WorkerPool::new(1);
        let worker = pool.create_worker("w").expect("the name is free");
        let kept = Arc::new(());
        for owner in [Some(&worker), None] {
            let held = kept.clone();
            let handler = move |(): ()| {
                let _ = &held;
                Ok::<_, Infallible>(())
            };
            match owner {
                Some(worker) => worker.on_message("kind", handler),
                None => {
                    pool.on_message("kind", handler);
                    &worker
                }
            };
        }
        let hooks = Arc::new(AtomicUsize::new(0));
        let count = hooks.clone();
        worker.on_stop(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        if starts {
            worker.start().expect("a thread");
        }
        pool.shutdown_with(options()).expect("in time");
        assert_eq!(Arc::strong_count(&kept), 1);
        assert_eq!(hooks.load(Ordering::Relaxed), usize::from(starts));
    }
}

#[test]
fn workers_that_hold_each_other_are_freed_once_they_are_stopped() {
    let kept = Arc::new(());
    let workers = [Worker::new("a"), Worker::new("b")];
    let [a, b] = &workers;
    for (worker, other) in [(a, b), (b, a)] {
        let (other, kept) = (other.clone(), kept.clone());
        worker.on_message("pass", move |n: u32| {
            let _ = &kept;
            if n > 0 {
                let _ = other.post_message("pass", n - 1);
            }
            Ok::<_, Infallible>(())
        });
        worker.start().expect("a thread");
    }
    a.post_message("pass", 3_u32).expect("it is open");
    let weak = [a.downgrade(), b.downgrade()];
    for worker in &workers {
        worker.stop_with(options()).expect("in time");
    }
    drop(workers);
    assert_eq!(Arc::strong_count(&kept), 1);
    assert!(weak.iter().all(|weak| weak.upgrade().is_none()));
}

#[test]
fn hooks_run_in_turn_after_the_last_message_and_one_may_panic() {
    let worker = Worker::new("w");
    let order = Arc::new(Mutex::new(Vec::new()));
    let note = |text: &'static str| {
        let order = order.clone();
        move || order.lock().expect("not poisoned").push(text)
    };
    let handled = note("handled");
    worker.on_message("note", move |(): ()| {
        handled();
        Ok::<_, Infallible>(())
    });
    worker.on_stop(note("registered first"));
    worker.on_stop(|| panic!("in a hook, as it should"));
    let last = note("registered last");
    worker.on_stop(move || {
        last();
        assert_eq!(current_worker().expect("inside").name(), "w");
        assert_eq!(current_message().expect("inside").kind(), "stop");
    });
    worker.start().expect("a thread");
    worker.post_message("note", ()).expect("it is open");
    worker.stop_with(options()).expect("in time");
    assert_eq!(
        *order.lock().expect("not poisoned"),
        ["handled", "registered last", "registered first"]
    );
}

#[test]
fn hooks_run_after_a_terminate_and_for_a_dropped_handle() {
    for drops in [false, true] {
        let worker = Worker::new("w");
        let (tell, told) = mpsc::channel();
        worker.on_stop(move || tell.send(()).expect("the test listens"));
        worker.start().expect("a thread");
        if drops {
            drop(worker);
        } else {
            worker.terminate();
        }
        told.recv_timeout(LONG).expect("in time");
    }
}

#[test]
fn a_pool_is_told_of_workers_that_end_after_its_own_mailbox() {
    let pool = WorkerPool::new(2);
    let told = Arc::new(AtomicUsize::new(0));
    let count = told.clone();
    pool.on_error(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    pool.submit(|| ())
        .expect("it is open")
        .wait()
        .expect("it runs");
    let worker = pool.create_worker("w").expect("the name is free");
    let (open, gate) = mpsc::channel::<()>();
    worker.on_message("gate", move |(): ()| {
        gate.recv_timeout(LONG).map_err(|_| "no news in time")
    });
    worker.on_message("fail", |(): ()| Err::<(), _>("as it should"));
    worker.start().expect("a thread");
    worker.post_message("gate", ()).expect("it is open");
    for _ in 0..5 {
        worker.post_message("fail", ()).expect("it is open");
    }
    // The pool's own mailbox has ended long before the worker goes on.
    thread::scope(|scope| {
        let ending = scope.spawn(|| pool.shutdown_with(options()).expect("in time"));
        while !pool.is_shut_down() {
            thread::yield_now();
        }
        open.send(()).expect("it waits");
        ending.join().expect("no panic");
    });
    assert_eq!(told.load(Ordering::Relaxed), 5);
}
