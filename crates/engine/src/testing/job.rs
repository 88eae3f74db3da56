//! Messages that are closures, and the handler that runs them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::LONG;
use crate::handler::{Handled, Handler, Suspension};
use crate::message::{Message, Ticket};
use crate::outcome::{Failure, Outcome};
use crate::plan::Plan;
use crate::reply::{ReplyState, Shared, Slot};
use crate::wake::Wake;

/// How the closure of a [`Job`] ends.
pub enum Out {
    /// With a value, which is the reply of one that was asked.
    Value(u64),
    /// With an error: the message counts as failed, and its reply is [`Failure::Stopped`].
    Error,
    /// Not yet: the closure gets the message's suspension, and the message goes on where that goes.
    Suspend(Box<dyn FnOnce(Suspension<Closures>) + Send>),
}

impl fmt::Debug for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => f.debug_tuple("Value").field(value).finish(),
            Self::Error => f.write_str("Error"),
            Self::Suspend(_) => f.debug_tuple("Suspend").finish_non_exhaustive(),
        }
    }
}

type Body = Box<dyn FnOnce() -> Out + Send>;

/// The reply of a [`Job`] that was asked.
#[derive(Default)]
struct Call {
    slot: Slot<u64, Shared>,
    interrupts: AtomicUsize,
    looks: AtomicUsize,
}

impl Ticket for Call {
    fn state(&self) -> &ReplyState {
        // ORDERING: Relaxed, a number for a test that looks when all is over; so are the others here.
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

/// A message: a closure, with a reply or without. [`Closures`] runs it; a test's own handler may as well, with
/// [`Job::value`], [`Job::settle`], [`Job::publish`] and [`Job::abandon`].
pub struct Job {
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
    fn new(body: Body, call: Option<Arc<Call>>) -> Self {
        Self {
            body: Some(body),
            call,
            settled: false,
            plan: None,
            bytes: 0,
        }
    }

    /// A message without a reply.
    pub fn post(body: impl FnOnce() + Send + 'static) -> Self {
        let body = || {
            body();
            Out::Value(0)
        };
        Self::new(Box::new(body), None)
    }

    /// A message with a reply, and what waits for that.
    pub fn ask(body: impl FnOnce() -> Out + Send + 'static) -> (Self, Asked) {
        let call = Arc::new(Call::default());
        (Self::new(Box::new(body), Some(call.clone())), Asked(call))
    }

    /// Has `body` run the next time: for a message that goes back to the queue.
    pub fn set_body(&mut self, body: impl FnOnce() -> Out + Send + 'static) {
        self.body = Some(Box::new(body));
    }

    /// The same with a size: see [`Message::bytes`].
    #[must_use]
    pub const fn of_bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// The same with a plan: see [`Message::plan`].
    #[must_use]
    pub fn planned(mut self, plan: Plan) -> Self {
        self.plan = Some(Box::new(plan));
        self
    }

    fn run(&mut self) -> Out {
        let body = self.body.take().expect("a message is handled once");
        body()
    }

    /// Runs the closure, for a handler that knows it to give a value.
    ///
    /// # Panics
    /// When the closure ends without a value, or has run before.
    pub fn value(&mut self) -> u64 {
        match self.run() {
            Out::Value(value) => value,
            Out::Error | Out::Suspend(_) => panic!("no value"),
        }
    }

    /// Settles the reply, unless a deadline, a cancel or a stop was first; says how the message ended. Then it waits until
    /// the thread that was first has published.
    pub fn settle(&mut self, value: u64) -> Outcome {
        let Some(call) = &self.call else {
            return Outcome::Completed;
        };
        self.settled = call.slot.settle(Ok(value));
        if self.settled {
            return Outcome::Completed;
        }
        // The thread that was first may be between settling and publishing.
        while call.slot.get().is_none() {
            thread::yield_now();
        }
        if matches!(call.slot.get(), Some(Err(Failure::Expired))) {
            Outcome::Expired
        } else {
            Outcome::Failed
        }
    }

    /// Publishes the reply that [`Job::settle`] has settled: for [`Handler::finish`].
    pub fn publish(&self) -> Wake {
        match &self.call {
            Some(call) if self.settled && call.slot.publish() => Wake::threads_of(call.clone()),
            _ => Wake::none(),
        }
    }

    /// Fails the reply, unless it is settled: for [`Handler::abandon`].
    pub fn abandon(&self, failure: Failure) {
        if let Some(call) = &self.call {
            let _ = call.slot.fail(true, failure) || call.slot.fail(false, failure);
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

/// Waits for the reply of a [`Job`].
#[derive(Clone)]
pub struct Asked(Arc<Call>);

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Asked").field(&self.now()).finish()
    }
}

impl Asked {
    /// The ticket of the message.
    #[must_use]
    pub fn ticket(&self) -> Arc<dyn Ticket> {
        self.0.clone()
    }

    /// Blocks until the reply stands. Knows nothing of workers: inside a handler go through
    /// [`wait`](crate::wait()).
    ///
    /// # Errors
    /// [`Failure`] where the message was not handled, or its closure ended with [`Out::Error`].
    ///
    /// # Panics
    /// When that takes longer than [`LONG`].
    pub fn reply(&self) -> Result<u64, Failure> {
        assert!(self.0.state().wait(Some(LONG)), "no reply in time");
        self.now().expect("the reply stands")
    }

    /// The reply, if it stands.
    #[must_use]
    pub fn now(&self) -> Option<Result<u64, Failure>> {
        self.0.slot.get().copied()
    }

    /// How often the handler was asked to stop.
    #[must_use]
    pub fn interrupts(&self) -> usize {
        self.0.interrupts.load(Ordering::Relaxed)
    }

    /// How often its state was asked for: what an algorithm looked at, for tests that bound that.
    #[must_use]
    pub fn looks(&self) -> usize {
        self.0.looks.load(Ordering::Relaxed)
    }
}

/// A handler that runs [`Job`]s.
#[derive(Clone, Copy, Debug, Default)]
pub struct Closures;

impl Handler for Closures {
    type Message = Job;

    fn handle(&self, message: &mut Job) -> Handled<Self> {
        match message.run() {
            Out::Value(value) => Handled::Done(message.settle(value)),
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
