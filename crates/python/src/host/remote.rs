//! Messages of workers whose handlers run in child processes: from the engine to a fleet and back.
//!
//! A [`Route`] says where the messages of one endpoint go. The thread that reads a child's replies runs no code of
//! users: errors, callbacks and replies to the owner need Python, and become *jobs* on the pool's threads, in order.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use pytoweb_engine::{
    Carrier, Delivery, Failure, Handled, Handler, Message, Outcome, Pool, ReplyState, Ticket, Wake,
    Worker, WorkerOptions,
};
use pytoweb_process::{Answer, Cargo, Crash, Fleet, Flight, Payload, Verdict, is_taking_in};

use crate::error::Named;
use crate::host::failure;
use crate::host::handler::PyHandler;
use crate::host::hook::Hook;
use crate::host::message::PyMessage;
use crate::host::task::{Remote, Task, Value};
use crate::interpreter::context;

/// A batch is as many messages as are handled in this time: what one slow message may make others wait for, and much
/// longer than the way to the child and back.
const BATCH_TIME: u64 = 1_000_000;
/// Handlers that take less than this, in nanoseconds, get the next message before they are through. Of slower ones the
/// gap between two is lost in the noise, and what is sent ahead could wait for long.
const AHEAD_BELOW: u64 = 10_000_000;
/// And at most this many: at half a microsecond each, as much as hides the way there and back.
const BATCH_MESSAGES: u64 = 256;

/// Jobs that wait for a thread before those who make more of them run them themselves.
const MOST_JOBS: usize = 128;

/// The numbers by which a child tells workers apart.
static NUMBERS: AtomicU32 = AtomicU32::new(1);

/// Where the messages of one endpoint go.
pub(crate) struct Route {
    pub(crate) fleet: Arc<Fleet<Load>>,
    /// The lane of a named worker; `None`: whichever has the least to do.
    pub(crate) lane: Option<usize>,
    pub(crate) worker: u32,
    config: Mutex<(u32, Arc<Payload>)>,
    config_version: AtomicU32,
    /// What the handlers took lately, in nanoseconds; 0 before the first.
    average_run: AtomicU64,
    /// One message after the other: some handler is a coroutine.
    one_by_one: AtomicBool,
    /// Whether children may be started: asked once, before the first message of a pool.
    may_start: AtomicBool,
    jobs: Worker<Jobs>,
    waiting_jobs: Arc<AtomicUsize>,
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("worker", &self.worker)
            .finish_non_exhaustive()
    }
}

impl Route {
    pub(crate) fn new(
        name: &str,
        fleet: Arc<Fleet<Load>>,
        lane: Option<usize>,
        pool: &Pool,
    ) -> Self {
        let options = WorkerOptions {
            capacity: usize::MAX,
            ..WorkerOptions::default()
        };
        let jobs = Worker::new(name, Jobs, options, pool);
        Self {
            fleet,
            lane,
            // ORDERING: Relaxed, only uniqueness matters.
            worker: NUMBERS.fetch_add(1, Ordering::Relaxed),
            config: Mutex::new((0, Arc::new(Payload::empty()))),
            config_version: AtomicU32::new(0),
            average_run: AtomicU64::new(0),
            one_by_one: AtomicBool::new(false),
            may_start: AtomicBool::new(false),
            jobs,
            waiting_jobs: Arc::default(),
        }
    }

    /// Whether it was found that children may be started.
    pub(crate) fn may_start(&self) -> bool {
        // ORDERING: Relaxed, written and read under the interpreter lock.
        self.may_start.load(Ordering::Relaxed)
    }

    pub(crate) fn allow_start(&self) {
        // ORDERING: Relaxed, see `may_start`.
        self.may_start.store(true, Ordering::Relaxed);
    }

    /// Has the child told of new handlers before the next message.
    pub(crate) fn configure(&self, payload: Payload, one_by_one: bool) {
        let mut config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        *config = (config.0 + 1, Arc::new(payload));
        // ORDERING: Relaxed, the version is looked up again under the lock when it matters.
        self.config_version.store(config.0, Ordering::Relaxed);
        self.one_by_one.store(one_by_one, Ordering::Relaxed);
    }

    /// Has a child started before the first message.
    pub(crate) fn want(&self) {
        if let Some(lane) = self.lane {
            self.fleet.want(lane);
        }
    }

    fn lanes(&self) -> std::ops::Range<usize> {
        match self.lane {
            Some(lane) => lane..lane + 1,
            None => 0..self.fleet.used(),
        }
    }

    /// Why nothing is run at the moment, if so, and how long until that is tried again.
    pub(crate) fn failure(&self) -> Option<(Arc<Crash>, Duration)> {
        self.fleet.failure(self.lane)
    }

    /// Children that run its messages and are there now, and how many were started in the place of another one.
    pub(crate) fn census(&self) -> (usize, u64) {
        self.fleet.census(self.lanes())
    }

    fn note_run(&self, ran: Duration) {
        let nanos = u64::try_from(ran.as_nanos()).unwrap_or(u64::MAX).max(1);
        // ORDERING: Relaxed, a hint; a lost update is one sample less.
        let known = self.average_run.load(Ordering::Relaxed);
        let next = if known == 0 {
            nanos
        } else {
            (known / 8 * 7 + nanos / 8).max(1)
        };
        self.average_run.store(next, Ordering::Relaxed);
    }

    /// The lane of a message, as far as it is known.
    fn lane_of(&self, task: &Task) -> Option<usize> {
        self.lane.or_else(|| {
            // ORDERING: Relaxed, a hint: a message that is not sent yet has none.
            let lane = task.lane.load(Ordering::Relaxed).checked_sub(1)?;
            usize::try_from(lane).ok()
        })
    }

    /// Has the reply of `task` read soon: a caller waits for it in another way than [`Route::help`].
    pub(crate) fn call(&self, task: &Task) {
        match self.lane_of(task) {
            Some(lane) => self.fleet.call(lane),
            None => self.lanes().for_each(|lane| self.fleet.call(lane)),
        }
    }

    /// Reads replies on this thread until that of `task` stands, at most for `limit`. May return early.
    pub(crate) fn help(&self, task: &Task, limit: Duration) -> bool {
        let state = task.slot.state();
        let done = match self.lane_of(task) {
            Some(lane) => self.fleet.help(lane, &|| state.is_done(), limit),
            None => state.wait_briefly(),
        };
        if !done {
            self.call(task);
        }
        done
    }

    /// As [`Route::job`]; here and now where many wait and this thread may: the thread that makes them is slowed down.
    pub(crate) fn job_or_now(&self, job: impl FnOnce(Python<'_>) + Send + 'static) {
        // ORDERING: Relaxed, a hint.
        if self.waiting_jobs.load(Ordering::Relaxed) < MOST_JOBS || is_taking_in() {
            self.job(job);
        } else {
            Python::attach(job);
        }
    }

    /// Has `job` run on one of the pool's threads, after those before it.
    pub(crate) fn job(&self, job: impl FnOnce(Python<'_>) + Send + 'static) {
        // Closed only with the route itself; a thread is there since the worker was started.
        let _ = self.jobs.start();
        let waiting = self.waiting_jobs.clone();
        // ORDERING: Relaxed, a hint.
        waiting.fetch_add(1, Ordering::Relaxed);
        let _ = self.jobs.try_post(Job(Some(Box::new(move |py| {
            waiting.fetch_sub(1, Ordering::Relaxed);
            job(py);
        }))));
    }
}

impl Carrier<PyHandler> for Route {
    fn window(&self) -> usize {
        // ORDERING: Relaxed, hints.
        let average = self.average_run.load(Ordering::Relaxed);
        if average == 0 || !self.fleet.runs_ahead() || self.one_by_one.load(Ordering::Relaxed) {
            return 1;
        }
        // One at least is there when the one before ends: its child would be idle until this process gets a core.
        let least = if average < AHEAD_BELOW { 2 } else { 1 };
        usize::try_from((BATCH_TIME / average).clamp(least, BATCH_MESSAGES)).unwrap_or(1)
    }

    fn carry(&self, deliveries: Vec<Delivery<PyHandler>>) {
        let lane = self.lane.unwrap_or_else(|| {
            let lane = self.fleet.quietest();
            let number = u32::try_from(lane + 1).unwrap_or(0);
            for task in deliveries
                .iter()
                .filter_map(|delivery| delivery.message()?.task.as_ref())
            {
                // ORDERING: Relaxed, a hint.
                task.lane.store(number, Ordering::Relaxed);
            }
            lane
        });
        // ORDERING: Relaxed, see `configure`.
        let config_version = self.config_version.load(Ordering::Relaxed);
        let flights = deliveries.into_iter().filter_map(|delivery| {
            Some(Flight {
                request: delivery.message()?.request()?.clone(),
                attempt: 1,
                worker: self.worker,
                config_version,
                may_go_elsewhere: self.lane.is_none(),
                batch: Some(delivery.batch()),
                cargo: Load(delivery),
            })
        });
        self.fleet.hand(lane, flights.collect());
    }

    fn recall(&self) {
        self.fleet.recall(self.lanes(), self.worker);
    }

    fn ended_unbegun(&self) {
        self.fleet.watch(self.lanes());
    }

    fn withdraw(&self, failure: Failure) -> usize {
        let found = self.fleet.withdraw(self.lanes(), self.worker);
        let count = found.len();
        for load in found {
            load.0.abandon(failure);
        }
        count
    }

    fn stop(&self, ticket: Option<&Arc<dyn Ticket>>) {
        match ticket {
            None => self.fleet.terminate(self.lanes(), self.worker),
            Some(ticket) => {
                let wanted: *const ReplyState = ticket.state();
                let is_it = |load: &Load| {
                    load.state()
                        .is_some_and(|state| std::ptr::eq(state, wanted))
                };
                self.fleet.stop(self.lanes(), &is_it);
            }
        }
    }
}

type Work = Box<dyn FnOnce(Python<'_>) + Send>;

/// Something to do with Python.
pub(crate) struct Job(Option<Work>);

impl Message for Job {
    fn ticket(&self) -> Option<Arc<dyn Ticket>> {
        None
    }

    fn state(&self) -> Option<&ReplyState> {
        None
    }
}

/// Runs jobs.
#[derive(Debug)]
pub(crate) struct Jobs;

impl Handler for Jobs {
    type Message = Job;

    fn handle(&self, message: &mut Job) -> Handled<Self> {
        if let Some(job) = message.0.take() {
            Python::attach(job);
        }
        Handled::Done(Outcome::Completed)
    }

    fn finish(&self, message: Job) -> Wake {
        drop(message);
        Wake::nobody()
    }

    fn abandon(&self, mut message: Job, _failure: Failure) {
        // Never dropped unrun: a message may hang on it.
        if let Some(job) = message.0.take() {
            Python::attach(job);
        }
    }
}

/// What a fleet carries for Python.
#[derive(Debug)]
pub(crate) struct Load(Delivery<PyHandler>);

impl Load {
    fn state(&self) -> Option<&ReplyState> {
        self.0.message().and_then(Message::state)
    }
}

impl Cargo for Load {
    fn configuration(&self) -> (u32, Arc<Payload>) {
        match &self.0.handler().route {
            Some(route) => route
                .config
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            None => (0, Arc::new(Payload::empty())),
        }
    }

    fn is_wanted(&self) -> bool {
        self.state().is_none_or(|state| !state.is_done())
    }

    fn is_overdue(&self) -> bool {
        self.0.is_overdue()
    }

    fn put_back(all: Vec<Self>) {
        Delivery::put_back(all.into_iter().map(|load| load.0).collect());
    }

    fn answered(self, answer: Answer) {
        answered(self.0, answer);
    }

    fn expired(self) {
        let delivery = self.0;
        let Some(route) = delivery.handler().route.clone() else {
            return;
        };
        route.job(move |py| {
            let settled = delivery
                .message()
                .and_then(|message| message.task.as_ref())
                .is_some_and(|task| task.expire());
            let outcome = if settled {
                expired(py, &delivery)
            } else {
                given_up(py, &delivery)
            };
            delivery.finish(outcome, None);
        });
    }

    fn crashed(self, crash: &Arc<Crash>) {
        let delivery = self.0;
        let Some(route) = delivery.handler().route.clone() else {
            return;
        };
        let crash = crash.clone();
        route.job(move |py| {
            fail(py, delivery, |message, by| {
                failure::crashed(py, &crash, message, Some(by), None)
            })
        });
    }
}

fn answered(mut delivery: Delivery<PyHandler>, answer: Answer) {
    let Some(route) = delivery.handler().route.clone() else {
        return;
    };
    let ran = answer.ran;
    match answer.verdict {
        Verdict::Completed => {
            route.note_run(ran);
            let task = delivery.message().and_then(|message| message.task.clone());
            let Some(task) = task else {
                return delivery.finish(Outcome::Completed, Some(ran));
            };
            let settled = task.settle(Value::Remote(Remote::new(false, answer)));
            if settled
                && !delivery
                    .message_mut()
                    .is_some_and(|message| message.has_id())
            {
                return delivery.finish(Outcome::Completed, Some(ran));
            }
            route.job(move |py| {
                let outcome = if settled {
                    Outcome::Completed
                } else {
                    given_up(py, &delivery)
                };
                delivery.finish(outcome, Some(ran));
            });
        }
        Verdict::Failed => {
            route.note_run(ran);
            let remote = Remote::new(true, answer);
            route.job(move |py| {
                let raised = match remote.get(py) {
                    Ok(Ok(value) | Err(value)) => PyErr::from_value(value.bind(py).clone()),
                    Err(raised) => raised,
                };
                fail(py, delivery, |_, _| raised);
            });
        }
        Verdict::Skipped => route.job(move |py| {
            let outcome = given_up(py, &delivery);
            delivery.finish(outcome, None);
        }),
    }
}

/// Ends a message with an error: the error handler is told, as for one of a thread, and then the future.
fn fail(
    py: Python<'_>,
    delivery: Delivery<PyHandler>,
    raised: impl FnOnce(Option<&PyMessage>, Named<'_>) -> PyErr,
) {
    let shared = delivery.handler().shared.clone();
    let Some(message) = delivery.message() else {
        return;
    };
    if message.state().is_some_and(ReplyState::is_done) {
        let outcome = given_up(py, &delivery);
        return delivery.finish(outcome, None);
    }
    let error = raised(Some(message), shared.named());
    match tell(py, &delivery, message, &error) {
        None => end(py, delivery, error),
        Some(hook) => hook.run(py, &shared, move |py| end(py, delivery, error)),
    }
}

fn end(py: Python<'_>, delivery: Delivery<PyHandler>, error: PyErr) {
    let task = delivery.message().and_then(|message| message.task.as_ref());
    let outcome = match task {
        Some(task) if !task.settle(Value::Here(Err(error.into_value(py).into_any()))) => {
            given_up(py, &delivery)
        }
        _ => Outcome::Failed,
    };
    delivery.finish(outcome, None);
}

/// Tells the error handler, which finds the message as the current one, and its context. Returns its coroutine, if it
/// is one.
fn tell(
    py: Python<'_>,
    delivery: &Delivery<PyHandler>,
    message: &PyMessage,
    error: &PyErr,
) -> Option<Hook> {
    let shared = &delivery.handler().shared;
    let context = message.context().map(|context| context.bind(py));
    delivery.with_current(|| {
        crate::host::running::with(message, shared, || match context::enter(py, context) {
            Ok(_entered) => shared.tell(py, message, error),
            Err(error) => {
                error.write_unraisable(py, None);
                None
            }
        })
    })
}

/// What a message counts as whose deadline has passed; the error handler learns of it.
fn expired(py: Python<'_>, delivery: &Delivery<PyHandler>) -> Outcome {
    if let Some(message) = delivery.message() {
        let shared = &delivery.handler().shared;
        let error = failure::failure(Failure::Expired, shared.named(), message.task.as_deref());
        if let Some(hook) = tell(py, delivery, message, &error) {
            hook.run(py, shared, |_| {});
        }
    }
    Outcome::Expired
}

/// What a message counts as whose reply was settled before its handler ended; the error handler learns of deadlines.
fn given_up(py: Python<'_>, delivery: &Delivery<PyHandler>) -> Outcome {
    let Some(message) = delivery.message() else {
        return Outcome::Failed;
    };
    let failure = message
        .task
        .as_ref()
        .and_then(|task| task.slot.get())
        .and_then(|reply| reply.as_ref().err().copied());
    match failure {
        Some(Failure::Expired) => expired(py, delivery),
        Some(Failure::Cancelled) => Outcome::Cancelled,
        _ => Outcome::Failed,
    }
}
