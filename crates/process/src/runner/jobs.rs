//! What the end of a message has to do that a thread which reads replies must not: it runs on the pool's threads.
//!
//! The mailbox of jobs has no capacity: a thread that reads replies can neither wait for room nor run a job itself.
//! Whatever makes jobs bounds them:
//!
//! - The end of a message (it failed, was stopped, expired, or its child crashed) is one job, which holds the delivery.
//!   Until it has run, the message is in flight: it has its place in its worker's mailbox, and no other one is sent in
//!   its place. So these jobs are at most as many as messages are in flight, and posts wait for the rest.
//! - An abandoned message is a job while fewer than [`MOST_WAITING`] wait. Beyond that the thread that abandons it runs
//!   it, unless that is one that takes replies in; such a thread abandons messages that are in flight.
//! - A callback that a caller has added to a future is a job once the reply stands. The message is no longer in flight
//!   then: these are as many as callers have added to futures whose replies have come, and slow ones make the line long.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pytoweb_engine::{
    Failure, Handled, Handler, Message, Outcome, Pool, ReplyState, Ticket, Wake, Worker,
    WorkerOptions,
};

use crate::lane::reading::is_taking_in;

/// Jobs that wait for a thread before a thread that makes more of them runs them itself.
const MOST_WAITING: usize = 128;

/// Jobs, which run one after the other.
pub(super) struct Jobs {
    worker: Worker<JobHandler>,
    waiting: Arc<AtomicUsize>,
}

impl fmt::Debug for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jobs").finish_non_exhaustive()
    }
}

impl Jobs {
    pub(super) fn new(name: &str, pool: &Pool) -> Self {
        let options = WorkerOptions {
            capacity: usize::MAX,
            ..WorkerOptions::default()
        };
        Self {
            worker: Worker::hidden(name, JobHandler, options, pool),
            waiting: Arc::default(),
        }
    }

    /// Jobs that wait for a thread.
    pub(super) fn waiting(&self) -> usize {
        // ORDERING: Relaxed, a number of one moment.
        self.waiting.load(Ordering::Relaxed)
    }

    /// Has `job` run after those before it.
    pub(super) fn add(&self, job: impl FnOnce() + Send + 'static) {
        // Closed only with its runner; a thread is there since the worker was started whose messages end.
        let _ = self.worker.start();
        let waiting = self.waiting.clone();
        // ORDERING: Relaxed, a hint.
        waiting.fetch_add(1, Ordering::Relaxed);
        let _ = self.worker.try_post(Job(Some(Box::new(move || {
            waiting.fetch_sub(1, Ordering::Relaxed);
            job();
        }))));
    }

    /// The same; here and now where many wait and this thread may run it: the thread that makes them is slowed down.
    pub(super) fn add_or_run(&self, job: impl FnOnce() + Send + 'static) {
        if self.waiting() < MOST_WAITING || is_taking_in() {
            self.add(job);
        } else {
            job();
        }
    }
}

struct Job(Option<Box<dyn FnOnce() + Send>>);

impl Job {
    fn run(&mut self) {
        if let Some(job) = self.0.take() {
            job();
        }
    }
}

impl Message for Job {
    fn ticket(&self) -> Option<Arc<dyn Ticket>> {
        None
    }

    fn state(&self) -> Option<&ReplyState> {
        None
    }
}

struct JobHandler;

impl Handler for JobHandler {
    type Message = Job;

    fn handle(&self, job: &mut Job) -> Handled<Self> {
        job.run();
        Handled::Done(Outcome::Completed)
    }

    fn finish(&self, job: Job) -> Wake {
        drop(job);
        Wake::none()
    }

    fn abandon(&self, mut job: Job, _failure: Failure) {
        // Never dropped unrun: a message may hang on it.
        job.run();
    }
}
