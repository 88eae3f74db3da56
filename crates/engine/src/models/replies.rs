//! The reply slot.

use std::sync::Arc;
use std::task::Waker;

use loom::sync::{Condvar, Mutex};
use loom::thread;

use crate::models::{Call, Count, model};
use crate::outcome::Failure;
use crate::reply::{Single, Slot};
use crate::wake::Wake;

#[test]
fn a_waiting_thread_sees_the_reply() {
    model(|| {
        let call = Call::asked();
        let waiter = {
            let call = call.clone();
            thread::spawn(move || {
                assert!(call.slot.state().wait(None));
                assert_eq!(call.slot.get(), Some(&Ok(7)));
            })
        };
        assert!(call.slot.state().claim());
        assert!(call.settle_and_publish(7));
        waiter.join().expect("no panic");
    });
}

#[test]
fn two_waiting_threads_see_it_though_the_wake_is_put_off() {
    model(|| {
        let call = Call::asked();
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let call = call.clone();
                thread::spawn(move || {
                    assert!(call.slot.state().wait(None));
                    assert_eq!(call.slot.get(), Some(&Ok(7)));
                })
            })
            .collect();
        assert!(call.slot.state().claim());
        assert!(call.slot.settle(Ok(7)));
        let wake = if call.slot.publish() {
            Wake::threads_of(call.clone())
        } else {
            Wake::none()
        };
        assert!(call.slot.state().is_done());
        drop(wake);
        for waiter in waiters {
            waiter.join().expect("no panic");
        }
    });
}

/// What an executor of one task is: a flag and a thread that waits for it.
#[derive(Default)]
struct Executor {
    woken: Mutex<bool>,
    wakes: Condvar,
}

impl std::task::Wake for Executor {
    fn wake(self: Arc<Self>) {
        *self.woken.lock().expect("not poisoned") = true;
        self.wakes.notify_all();
    }
}

#[test]
fn a_future_is_woken() {
    model(|| {
        let call = Call::asked();
        let worker = {
            let call = call.clone();
            thread::spawn(move || {
                assert!(call.slot.state().claim());
                assert!(call.settle_and_publish(7));
            })
        };
        let executor = Arc::new(Executor::default());
        let waker = Waker::from(executor.clone());
        if !call.slot.state().poll_done(&waker) {
            let mut woken = executor.woken.lock().expect("not poisoned");
            while !*woken {
                woken = executor.wakes.wait(woken).expect("not poisoned");
            }
            drop(woken);
            assert!(call.slot.state().poll_done(&waker));
        }
        assert_eq!(call.slot.get(), Some(&Ok(7)));
        worker.join().expect("no panic");
    });
}

#[test]
fn callbacks_run_once_each_and_see_the_reply() {
    model(|| {
        let call = Call::asked();
        let runs = Arc::new(Count::default());
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (call, runs) = (call.clone(), runs.clone());
                thread::spawn(move || {
                    let seen = call.clone();
                    call.slot.state().on_done(move || {
                        assert_eq!(seen.slot.get(), Some(&Ok(7)));
                        runs.add();
                    });
                })
            })
            .collect();
        assert!(call.slot.state().claim());
        assert!(call.settle_and_publish(7));
        for thread in threads {
            thread.join().expect("no panic");
        }
        assert_eq!(runs.get(), 2);
    });
}

#[test]
fn a_thread_a_future_and_a_callback_wait_for_one_reply() {
    model(|| {
        let call = Call::asked();
        let runs = Arc::new(Count::default());
        let waiter = {
            let call = call.clone();
            thread::spawn(move || assert!(call.slot.state().wait(None)))
        };
        let worker = {
            let call = call.clone();
            thread::spawn(move || {
                assert!(call.slot.state().claim());
                assert!(call.settle_and_publish(7));
            })
        };
        let count = runs.clone();
        call.slot.state().on_done(move || count.add());
        waiter.join().expect("no panic");
        worker.join().expect("no panic");
        assert_eq!(runs.get(), 1);
    });
}

#[test]
fn of_a_result_a_cancel_and_a_deadline_exactly_one_wins() {
    model(|| {
        let call = Call::asked();
        let wins = Arc::new(Count::default());
        let canceller = {
            let (call, wins) = (call.clone(), wins.clone());
            thread::spawn(move || {
                if call.slot.state().claim_removed(false) {
                    // It was queued, so no worker has it; a deadline may still be faster.
                    wins.0.fetch_add(
                        usize::from(call.slot.fail(false, Failure::Cancelled)),
                        std::sync::atomic::Ordering::Relaxed,
                    );
                } else {
                    call.slot.state().request_cancel();
                }
            })
        };
        let deadline = {
            let (call, wins) = (call.clone(), wins.clone());
            thread::spawn(move || {
                if call.slot.fail(true, Failure::Expired) || call.slot.fail(false, Failure::Expired)
                {
                    wins.add();
                }
            })
        };
        if call.slot.state().claim() && call.settle_and_publish(7) {
            wins.add();
        }
        canceller.join().expect("no panic");
        deadline.join().expect("no panic");
        assert_eq!(wins.get(), 1);
        assert!(call.slot.state().is_done());
        assert!(call.slot.get().is_some());
    });
}

#[test]
fn a_reply_is_moved_out_once() {
    model(|| {
        let slot = Arc::new(Slot::<Box<u64>, Single>::new());
        let takers: Vec<_> = (0..2)
            .map(|_| {
                let slot = slot.clone();
                thread::spawn(move || slot.take())
            })
            .collect();
        assert!(slot.state().claim());
        assert!(slot.settle(Ok(Box::new(7))));
        slot.publish();
        let taken = takers
            .into_iter()
            .filter_map(|taker| taker.join().expect("no panic"))
            .count();
        assert_eq!(taken + usize::from(slot.take().is_some()), 1);
        assert!(slot.take().is_none());
    });
}
