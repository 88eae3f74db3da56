//! What the tests share: a handler whose messages are closures, a clock moved by hand, and a bound on time.

// Each test file is a crate of its own and uses a part of this.
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "no file uses all of it, so `expect` would be wrong in some"
)]

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use pytoweb_engine::{
    Clock, Counters, Failure, Handled, Handler, Message, Outcome, Overflow, ParkedPost, Plan, Pool,
    PoolOptions, PostError, ReplyState, Shared, Slot, Suspension, Ticket, Timestamp, Wake, Worker,
    WorkerOptions,
};

/// Longer than any wait of a test that passes, on one slow core.
pub(crate) const LONG: Duration = Duration::from_secs(40);

/// Parks a post; the gate opens once it is in or refused.
pub(crate) fn park<H: Handler>(worker: &Worker<H>, message: H::Message) -> (ParkedPost<H>, Gate) {
    let Ok(Some(parked)) = worker.park(message, None) else {
        panic!("it is not full");
    };
    let told = Gate::new();
    let tell = told.clone();
    parked.on_settled(move || tell.open());
    (parked, told)
}

/// Fails, with the test's own panic, when `body` takes longer than [`LONG`].
pub(crate) fn bounded<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, over) = mpsc::channel();
    let thread = thread::spawn(move || {
        let result = body();
        let _ = done.send(());
        result
    });
    match over.recv_timeout(LONG) {
        Err(RecvTimeoutError::Timeout) => panic!("still busy after {LONG:?}: something hangs"),
        Ok(()) | Err(RecvTimeoutError::Disconnected) => match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        },
    }
}

/// How the closure of a [`Job`] ends.
pub(crate) enum Out {
    Value(u64),
    Error,
    /// The message goes on with whoever gets its suspension.
    Suspend(Box<dyn FnOnce(Suspension<Closures>) + Send>),
}

type Body = Box<dyn FnOnce() -> Out + Send>;

/// The reply of an asked [`Job`].
#[derive(Default)]
pub(crate) struct Call {
    slot: Slot<u64, Shared>,
    pub(crate) interrupts: AtomicUsize,
    /// How often the engine asked for its state.
    looks: AtomicUsize,
}

impl Call {
    pub(crate) fn reply(&self) -> Option<&Result<u64, Failure>> {
        self.slot.get()
    }

    pub(crate) fn publish(&self) -> bool {
        self.slot.publish()
    }
}

impl Ticket for Call {
    fn state(&self) -> &ReplyState {
        self.looks.fetch_add(1, Ordering::Relaxed);
        self.slot.state()
    }

    fn fail(&self, queued: bool, failure: Failure) -> bool {
        self.slot.fail(queued, failure)
    }

    fn interrupt(&self) {
        self.interrupts.fetch_add(1, Ordering::Relaxed);
    }
}

/// A message: a closure, with a reply or without.
pub(crate) struct Job {
    body: Option<Body>,
    call: Option<Arc<Call>>,
    settled: bool,
    plan: Option<Box<Plan>>,
    bytes: usize,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("asked", &self.call.is_some())
            .finish_non_exhaustive()
    }
}

impl Job {
    pub(crate) fn post(body: impl FnOnce() + Send + 'static) -> Self {
        Self {
            body: Some(Box::new(|| {
                body();
                Out::Value(0)
            })),
            call: None,
            settled: false,
            plan: None,
            bytes: 0,
        }
    }

    pub(crate) fn ask(body: impl FnOnce() -> Out + Send + 'static) -> (Self, Asked) {
        let call = Arc::new(Call::default());
        let job = Self {
            body: Some(Box::new(body)),
            call: Some(call.clone()),
            settled: false,
            plan: None,
            bytes: 0,
        };
        (job, Asked(call))
    }

    /// What is to run the next time.
    pub(crate) fn set_body(&mut self, body: impl FnOnce() -> Out + Send + 'static) {
        self.body = Some(Box::new(body));
    }

    pub(crate) fn of_bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    pub(crate) fn planned(mut self, plan: Plan) -> Self {
        self.plan = Some(Box::new(plan));
        self
    }

    /// Runs the closure, which gives a value.
    pub(crate) fn value(&mut self) -> u64 {
        let body = self.body.take().expect("a message is handled once");
        match body() {
            Out::Value(value) => value,
            Out::Error | Out::Suspend(_) => panic!("no value"),
        }
    }

    pub(crate) fn publish(self) -> Wake {
        match self.call {
            Some(call) if self.settled && call.slot.publish() => Wake::threads_of(call),
            _ => Wake::nobody(),
        }
    }

    pub(crate) fn abandon(self, failure: Failure) {
        if let Some(call) = self.call {
            let _ = call.slot.fail(true, failure) || call.slot.fail(false, failure);
        }
    }

    pub(crate) const fn call(&self) -> Option<&Arc<Call>> {
        self.call.as_ref()
    }

    /// Settles the reply, unless a deadline, a cancel or a stop was first; says how the message ended.
    pub(crate) fn settle(&mut self, value: u64) -> Outcome {
        let Some(call) = &self.call else {
            return Outcome::Completed;
        };
        self.settled = call.slot.settle(Ok(value));
        if self.settled {
            return Outcome::Completed;
        }
        // Whoever was first may be between settling and publishing.
        while call.reply().is_none() {
            thread::yield_now();
        }
        if matches!(call.reply(), Some(Err(Failure::Expired))) {
            Outcome::Expired
        } else {
            Outcome::Failed
        }
    }
}

impl Message for Job {
    fn ticket(&self) -> Option<Arc<dyn Ticket>> {
        self.call
            .as_ref()
            .map(|call| -> Arc<dyn Ticket> { call.clone() })
    }

    fn state(&self) -> Option<&ReplyState> {
        self.call.as_ref().map(|call| call.state())
    }

    fn plan(&self) -> Option<&Plan> {
        self.plan.as_deref()
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Waits for a [`Job`].
#[derive(Clone)]
pub(crate) struct Asked(pub(crate) Arc<Call>);

impl Asked {
    pub(crate) fn ticket(&self) -> Arc<dyn Ticket> {
        self.0.clone()
    }

    /// The reply; panics when it takes longer than [`LONG`].
    pub(crate) fn reply(&self) -> Result<u64, Failure> {
        assert!(self.0.state().wait(Some(LONG)), "no reply in time");
        self.now().expect("the reply stands")
    }

    pub(crate) fn looks(&self) -> usize {
        self.0.looks.load(Ordering::Relaxed)
    }

    pub(crate) fn now(&self) -> Option<Result<u64, Failure>> {
        self.0.reply().copied()
    }
}

/// Runs [`Job`]s.
#[derive(Debug, Default)]
pub(crate) struct Closures;

impl Handler for Closures {
    type Message = Job;

    fn handle(&self, message: &mut Job) -> Handled<Self> {
        let body = message.body.take().expect("a message is handled once");
        match body() {
            Out::Value(value) => {
                let outcome = message.settle(value);
                Handled::Done(outcome)
            }
            Out::Error => {
                if let Some(call) = &message.call {
                    message.settled = call.slot.settle(Err(Failure::Stopped));
                }
                Handled::Done(Outcome::Failed)
            }
            Out::Suspend(take) => Handled::Suspend(take),
        }
    }

    fn finish(&self, message: Job) -> Wake {
        message.publish()
    }

    fn abandon(&self, message: Job, failure: Failure) {
        message.abandon(failure);
    }
}

pub(crate) type TestWorker = Worker<Closures>;

pub(crate) fn pool(size: usize) -> Pool {
    Pool::new(PoolOptions::new(size))
}

/// A started worker.
pub(crate) fn worker(pool: &Pool, name: &str) -> TestWorker {
    with(pool, name, WorkerOptions::default())
}

/// A started worker with a mailbox of `capacity`.
pub(crate) fn bounded_worker(pool: &Pool, capacity: usize, overflow: Overflow) -> TestWorker {
    with(
        pool,
        "bounded",
        WorkerOptions {
            capacity,
            overflow,
            ..WorkerOptions::default()
        },
    )
}

fn with(pool: &Pool, name: &str, options: WorkerOptions) -> TestWorker {
    let worker = Worker::new(name, Closures, options, pool);
    assert!(worker.start().expect("a thread"));
    worker
}

pub(crate) fn post(worker: &TestWorker, body: impl FnOnce() + Send + 'static) {
    worker.post(Job::post(body), Some(LONG)).expect("posted");
}

pub(crate) fn ask(worker: &TestWorker, body: impl FnOnce() -> u64 + Send + 'static) -> Asked {
    ask_out(worker, || Out::Value(body()))
}

pub(crate) fn ask_out(worker: &TestWorker, body: impl FnOnce() -> Out + Send + 'static) -> Asked {
    let (job, asked) = Job::ask(body);
    worker.post(job, Some(LONG)).expect("posted");
    asked
}

/// Posts a job that keeps the worker busy, and returns once it runs.
pub(crate) fn occupy(worker: &TestWorker) -> Gate {
    let gate = Gate::new();
    let (inside, running) = (gate.clone(), Gate::new());
    let entered = running.clone();
    post(worker, move || {
        entered.open();
        inside.pass();
    });
    running.pass();
    gate
}

/// Posts for the batch call.
pub(crate) fn post_all(worker: &TestWorker, jobs: impl IntoIterator<Item = Job>) -> VecDeque<Job> {
    let mut jobs: VecDeque<Job> = jobs.into_iter().collect();
    let _ = worker.try_post_many(&mut jobs);
    jobs
}

/// The counters add up, whenever they are read.
pub(crate) fn assert_adds_up(counters: &Counters) {
    assert_eq!(
        counters.posted,
        counters.completed
            + counters.failed
            + counters.dropped()
            + counters.cancelled
            + counters.expired
            + counters.queued
            + counters.running,
        "{counters:?}"
    );
}

pub(crate) fn is_full<M>(result: &Result<(), PostError<M>>) -> bool {
    matches!(result, Err(PostError::Full(_)))
}

/// Closed at first; once open, it stays open.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn open(&self) {
        *self.0.0.lock().expect("not poisoned") = true;
        self.0.1.notify_all();
    }

    /// Waits until it is open; panics when that takes longer than [`LONG`].
    pub(crate) fn pass(&self) {
        assert!(self.opens_within(LONG), "the gate stayed closed");
    }

    pub(crate) fn opens_within(&self, limit: Duration) -> bool {
        let open = self.0.0.lock().expect("not poisoned");
        let (open, _) = self
            .0
            .1
            .wait_timeout_while(open, limit, |open| !*open)
            .expect("not poisoned");
        *open
    }

    pub(crate) fn is_open(&self) -> bool {
        *self.0.0.lock().expect("not poisoned")
    }
}

/// A clock that only a test moves.
#[derive(Debug, Default)]
pub(crate) struct HandClock(AtomicU64);

impl HandClock {
    pub(crate) fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).expect("fits");
        self.0.fetch_add(nanos, Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// A pool of `size` threads with a clock that stands still.
pub(crate) fn pool_with_clock(size: usize) -> (Pool, Arc<HandClock>) {
    let clock = Arc::new(HandClock::default());
    let pool = Pool::new(PoolOptions {
        clock: clock.clone(),
        ..PoolOptions::new(size)
    });
    (pool, clock)
}

/// A clock that only a test moves, and that stands still for some threads: for a deadline thread that is late.
#[derive(Debug)]
pub(crate) struct LateClock {
    hand: HandClock,
    late: &'static str,
}

impl LateClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.hand.advance(by);
    }
}

impl Clock for LateClock {
    fn now(&self) -> Timestamp {
        match thread::current().name() {
            Some(name) if name.starts_with(self.late) => Timestamp::from_nanos(0),
            _ => self.hand.now(),
        }
    }
}

/// A pool of one thread whose clock stands still for the threads with names that begin with `late`.
pub(crate) fn pool_with_late(late: &'static str) -> (Pool, Arc<LateClock>) {
    let clock = Arc::new(LateClock {
        hand: HandClock::default(),
        late,
    });
    let pool = Pool::new(PoolOptions {
        clock: clock.clone(),
        ..PoolOptions::new(1)
    });
    (pool, clock)
}
