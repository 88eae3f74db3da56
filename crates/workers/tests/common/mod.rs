//! What the tests share. Every wait here ends, with a panic if what it waits for does not come.

#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test uses a part of it, so `expect` would be wrong in some"
)]

use std::convert::Infallible;
use std::fmt::Debug;
use std::future::Future;
use std::pin::pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use pytoweb_workers::{AskError, Counters, Reply, Worker, WorkerState, current_message};

/// Longer than anything here takes, shorter than a reader of the tests waits.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The reply, within the limit.
pub(crate) fn get<R: Send + 'static>(reply: Reply<R>) -> Result<R, AskError> {
    reply.wait_timeout(LIMIT).expect("a reply in time")
}

/// Every message is in one counter.
pub(crate) fn assert_adds_up(counters: &Counters) {
    let ends = counters.completed + counters.failed + counters.cancelled + counters.expired;
    assert_eq!(
        counters.posted,
        ends + counters.dropped() + counters.queued + counters.running,
        "{counters:?}"
    );
}

/// The same of a worker that has nothing left to do.
pub(crate) fn assert_settled(worker: &Worker) -> Counters {
    let counters = worker.stats().counters;
    assert_adds_up(&counters);
    assert_eq!((counters.queued, counters.running), (0, 0), "{counters:?}");
    counters
}

/// A handler that says when it is entered, and stays until it is let go.
pub(crate) struct Gate {
    pub(crate) kind: &'static str,
    entered: Receiver<()>,
    go: Sender<()>,
}

impl Gate {
    /// Registers the handler; it takes `()` and replies whether it was asked to stop.
    pub(crate) fn new(worker: &Worker) -> Self {
        let kind = "gate";
        let (say, entered) = channel();
        let (go, wait) = channel();
        worker.on_message(kind, move |()| {
            say.send(()).expect("the test listens");
            wait.recv_timeout(LIMIT).expect("the test lets go");
            let message = current_message().expect("inside a handler");
            Ok::<_, Infallible>(message.is_cancelled())
        });
        Self { kind, entered, go }
    }

    /// Waits until the handler runs.
    pub(crate) fn wait_entered(&self) {
        self.entered
            .recv_timeout(LIMIT)
            .expect("the handler is entered");
    }

    /// Lets one message through.
    pub(crate) fn open(&self) {
        self.go.send(()).expect("the handler is there");
    }
}

/// Collects what handlers saw.
pub(crate) struct Log<T>(Arc<Mutex<Vec<T>>>);

impl<T> Clone for Log<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Clone + Debug> Log<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Vec::new())))
    }

    pub(crate) fn push(&self, item: T) {
        self.0.lock().expect("no test panics here").push(item);
    }

    pub(crate) fn items(&self) -> Vec<T> {
        self.0.lock().expect("no test panics here").clone()
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The smallest executor there is.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let until = Instant::now() + LIMIT;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        let left = until.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "the future is not ready in time");
        thread::park_timeout(left);
    }
}

/// Joins, within the limit.
pub(crate) fn join<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = channel();
    thread::spawn(move || done.send(body()));
    result.recv_timeout(LIMIT).expect("the thread ends in time")
}

/// Stops a worker, within the limit.
pub(crate) fn wait_stopped(worker: &Worker) {
    let waiting = worker.clone();
    join(move || waiting.stop());
    assert_eq!(worker.state(), WorkerState::Stopped);
}
