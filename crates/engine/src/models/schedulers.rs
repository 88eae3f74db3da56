//! The run queue and the parking of threads. A job is a number; loom threads stand for the pool's.

use std::sync::Arc;

use loom::sync::{Condvar, Mutex};
use loom::thread::{self, JoinHandle};

use crate::models::{Count, model};
use crate::scheduler::{Rouse, Scheduler, Work};

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    Plain,
    /// Counted, for the thread that waits for it.
    Open,
    /// Counted, and waits on its thread until as many are.
    Join(usize),
    /// Waits, as a handler does, until an `Open` has run.
    WaitForOpen,
}

struct Pool {
    scheduler: Scheduler<Job>,
    done: Count,
    /// Threads that were started; of the standard library, as it is never held across a step of the model.
    threads: std::sync::Mutex<Vec<JoinHandle<()>>>,
    started: Count,
    open: Mutex<usize>,
    opened: Condvar,
}

impl Pool {
    fn new(size: usize) -> Arc<Self> {
        Arc::new(Self {
            scheduler: Scheduler::new(size, usize::MAX),
            done: Count::default(),
            threads: std::sync::Mutex::default(),
            started: Count::default(),
            open: Mutex::new(0),
            opened: Condvar::new(),
        })
    }

    fn rouse(self: &Arc<Self>, rouse: Rouse) {
        if self.scheduler.notify(rouse) {
            self.started.add();
            let pool = self.clone();
            let thread = thread::spawn(move || {
                let rouse = pool.scheduler.enter();
                pool.rouse(rouse);
                pool.work();
            });
            self.threads.lock().expect("not poisoned").push(thread);
        }
    }

    fn push(self: &Arc<Self>, job: Job) {
        let rouse = self.scheduler.push(job);
        self.rouse(rouse);
    }

    fn work(self: &Arc<Self>) {
        let mut found = None;
        loop {
            let (job, rouse) = match found
                .map(|(job, rouse)| Work::Run(job, rouse))
                .unwrap_or_else(|| self.scheduler.next())
            {
                Work::Run(job, rouse) => (job, rouse),
                Work::Exit => return,
            };
            self.rouse(rouse);
            match job {
                Job::Plain => {}
                Job::Open => {
                    *self.open.lock().expect("not poisoned") += 1;
                    self.opened.notify_all();
                }
                Job::Join(count) => {
                    *self.open.lock().expect("not poisoned") += 1;
                    self.opened.notify_all();
                    self.wait_opened(count);
                }
                Job::WaitForOpen => {
                    let rouse = self.scheduler.block().expect("no limit");
                    self.rouse(rouse);
                    self.wait_opened(1);
                    self.scheduler.unblock();
                }
            }
            self.done.add();
            found = self.scheduler.finish(None);
        }
    }

    /// Waits until `count` jobs have opened. Nothing but the pool's own wake-ups may be needed for it: a shutdown
    /// wakes everybody and would hide a wake-up that was lost.
    fn wait_opened(&self, count: usize) {
        let mut open = self.open.lock().expect("not poisoned");
        while *open < count {
            open = self.opened.wait(open).expect("not poisoned");
        }
    }

    fn shutdown_and_join(&self) {
        self.scheduler.shutdown();
        self.join();
    }

    fn join(&self) {
        loop {
            let Some(thread) = self.threads.lock().expect("not poisoned").pop() else {
                break;
            };
            thread.join().expect("no panic");
        }
        assert_eq!(self.scheduler.threads(), 0);
    }
}

#[test]
fn a_push_wakes_a_thread_that_parks() {
    model(|| {
        let pool = Pool::new(1);
        for count in 1..=3 {
            pool.push(Job::Open);
            // From the second on, the one thread parks about now.
            pool.wait_opened(count);
        }
        assert_eq!(pool.started.get(), 1);
        pool.shutdown_and_join();
    });
}

#[test]
fn two_threads_take_what_two_others_push() {
    model(|| {
        let pool = Pool::new(2);
        let other = {
            let pool = pool.clone();
            thread::spawn(move || {
                pool.push(Job::Open);
                pool.push(Job::Open);
            })
        };
        pool.push(Job::Open);
        pool.wait_opened(3);
        other.join().expect("no panic");
        assert!(pool.started.get() <= 2);
        pool.shutdown_and_join();
        assert_eq!(pool.done.get(), 3);
    });
}

#[test]
fn two_jobs_that_need_each_other_get_two_threads() {
    model(|| {
        let pool = Pool::new(2);
        pool.push(Job::WaitForOpen);
        pool.push(Job::Open);
        pool.wait_opened(1);
        pool.shutdown_and_join();
        assert_eq!(pool.done.get(), 2);
    });
}

#[test]
fn a_parked_thread_wakes_the_next() {
    // Both jobs are pushed before a thread wakes, so one wake-up is called for, and the thread that takes the first
    // job has to call for the second: that job ends only after the other.
    model(|| {
        let pool = Pool::new(2);
        for count in [2, 4] {
            pool.push(Job::Join(count));
            pool.push(Job::Join(count));
            pool.wait_opened(count);
        }
        pool.shutdown_and_join();
        assert_eq!(pool.done.get(), 4);
    });
}

#[test]
fn a_blocked_thread_is_made_up_for() {
    model(|| {
        let pool = Pool::new(1);
        pool.push(Job::WaitForOpen);
        pool.push(Job::Open);
        pool.wait_opened(1);
        pool.shutdown_and_join();
        assert_eq!(pool.done.get(), 2);
        assert!(pool.started.get() <= 2);
    });
}

#[test]
fn a_thread_that_comes_back_and_its_spare_leave_no_job() {
    model(|| {
        let pool = Pool::new(1);
        pool.push(Job::WaitForOpen);
        pool.push(Job::Open);
        pool.push(Job::Open);
        pool.wait_opened(2);
        pool.push(Job::Open);
        pool.wait_opened(3);
        pool.shutdown_and_join();
        assert_eq!(pool.done.get(), 4);
    });
}

#[test]
fn shutting_down_wakes_every_parked_thread() {
    model(|| {
        let pool = Pool::new(2);
        let other = {
            let pool = pool.clone();
            thread::spawn(move || pool.scheduler.shutdown())
        };
        pool.push(Job::Plain);
        other.join().expect("no panic");
        pool.join();
        assert_eq!(pool.done.get(), 1);
    });
}

#[test]
fn a_suspended_turn_keeps_the_threads_until_it_is_back() {
    model(|| {
        let pool = Pool::new(1);
        pool.scheduler.suspended(true);
        pool.push(Job::Plain);
        let outside = {
            let pool = pool.clone();
            thread::spawn(move || {
                // As `Suspension::finish` does.
                pool.push(Job::Plain);
                pool.scheduler.suspended(false);
            })
        };
        pool.scheduler.shutdown();
        outside.join().expect("no panic");
        pool.join();
        assert_eq!(pool.done.get(), 2);
    });
}

#[test]
fn a_thread_that_cannot_be_started_is_asked_for_again() {
    model(|| {
        let pool = Pool::new(1);
        let other = {
            let pool = pool.clone();
            thread::spawn(move || {
                let rouse = pool.scheduler.first_thread();
                if pool.scheduler.notify(rouse) {
                    pool.scheduler.start_failed();
                }
            })
        };
        other.join().expect("no panic");
        let rouse = pool.scheduler.first_thread();
        assert_eq!(rouse, Rouse::NewThread);
        pool.rouse(rouse);
        pool.push(Job::Plain);
        pool.scheduler.shutdown();
        pool.join();
        assert_eq!(pool.done.get(), 1);
    });
}
