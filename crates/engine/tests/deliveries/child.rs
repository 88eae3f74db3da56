//! A handler that hands everything over to a child which the test plays, and its messages.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use pytoweb_engine::{
    Address, Carrier, Counters, Delivery, Failure, Handled, Handler, Message, Outcome, Overflow,
    Pool, ReplyState, Shared, Slot, Ticket, Wake, Worker, WorkerOptions,
};

use crate::common::{Gate, LONG, assert_adds_up};

/// How long the child says that a message took.
pub(crate) const RAN: Duration = Duration::from_millis(3);

#[derive(Debug, Default)]
pub(crate) struct Reply(Slot<u64, Shared>);

impl Ticket for Reply {
    fn state(&self) -> &ReplyState {
        self.0.state()
    }

    fn fail(&self, queued: bool, failure: Failure) -> bool {
        self.0.fail(queued, failure)
    }
}

/// A message: a number, with a reply or without.
#[derive(Debug)]
pub(crate) struct Note {
    number: u64,
    reply: Option<Arc<Reply>>,
    settled: bool,
}

impl Message for Note {
    fn ticket(&self) -> Option<Arc<dyn Ticket>> {
        self.reply
            .as_ref()
            .map(|reply| -> Arc<dyn Ticket> { reply.clone() })
    }

    fn state(&self) -> Option<&ReplyState> {
        self.reply.as_ref().map(|reply| reply.state())
    }
}

impl Note {
    /// Settles the reply with its number or an error, unless another thread was first; says how the message ended.
    fn settle(&mut self, outcome: Outcome) -> Outcome {
        let Some(reply) = &self.reply else {
            return outcome;
        };
        self.settled = reply.0.settle(match outcome {
            Outcome::Completed => Ok(self.number),
            _ => Err(Failure::Stopped),
        });
        if self.settled {
            return outcome;
        }
        assert!(reply.state().wait(Some(LONG)), "settled, not published");
        match reply.0.get() {
            Some(Err(Failure::Cancelled)) => Outcome::Cancelled,
            Some(Err(Failure::Expired)) => Outcome::Expired,
            _ => Outcome::Failed,
        }
    }
}

#[derive(Clone)]
pub(crate) struct Asked(Arc<Reply>);

impl Asked {
    pub(crate) fn ticket(&self) -> Arc<dyn Ticket> {
        self.0.clone()
    }

    pub(crate) fn now(&self) -> Option<Result<u64, Failure>> {
        self.0.0.get().copied()
    }

    /// The reply; panics when it takes longer than [`LONG`].
    pub(crate) fn reply(&self) -> Result<u64, Failure> {
        assert!(self.0.state().wait(Some(LONG)), "no reply in time");
        self.now().expect("the reply stands")
    }
}

/// A message that the child has.
struct Flight {
    begun: bool,
    delivery: Delivery<Child>,
}

impl Flight {
    fn number(&self) -> u64 {
        self.delivery.message().expect("there until it ends").number
    }
}

/// What a child has, and what its handler was told.
#[derive(Default)]
pub(crate) struct Way {
    flights: Vec<Flight>,
    /// The numbers of each batch, as they were handed over.
    pub(crate) batches: Vec<Vec<u64>>,
    pub(crate) begun: Vec<u64>,
    pub(crate) abandoned: Vec<(u64, Failure)>,
    /// Calls of `Carrier::stop`: the ticket's state, or `None` for everything.
    pub(crate) stops: Vec<Option<Arc<dyn Ticket>>>,
    /// Calls of `Carrier::ended_unbegun`.
    pub(crate) unbegun: usize,
    /// It gives nothing back.
    deaf: bool,
    /// Where the next thread that takes messages back tells, and waits, before it puts them back.
    pause: Option<Pause>,
    over: bool,
}

#[derive(Clone, Default)]
struct Pause {
    pulled: Gate,
    go_on: Gate,
}

/// A thread that is taking messages back: out of the child, and not in the mailbox yet. Dropping lets it go on.
pub(crate) struct Recalling {
    pause: Pause,
    thread: Option<thread::JoinHandle<()>>,
}

impl Recalling {
    pub(crate) fn start(worker: &Worker<Child>) -> Self {
        let pause = Pause::default();
        worker.handler().way().pause = Some(pause.clone());
        let address = worker.address();
        let thread = thread::spawn(move || recall_from(&address));
        pause.pulled.pass();
        Self {
            pause,
            thread: Some(thread),
        }
    }
}

impl Drop for Recalling {
    fn drop(&mut self) {
        self.pause.go_on.open();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "it panicked");
        }
    }
}

/// Takes back what is ahead, as a cancel does, for a message that is not there.
pub(crate) fn recall(worker: &Worker<Child>) {
    recall_from(&worker.address());
}

fn recall_from(address: &Address) {
    let unowned = Arc::new(Reply::default());
    assert!(unowned.state().claim());
    let ticket: Arc<dyn Ticket> = unowned;
    let _ = address.cancel(&ticket);
}

/// Hands everything over to a child that a test plays.
pub(crate) struct Child {
    window: usize,
    way: Mutex<Way>,
    changed: Condvar,
}

impl Child {
    fn new(window: usize) -> Self {
        Self {
            window,
            way: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    pub(crate) fn way(&self) -> MutexGuard<'_, Way> {
        self.way.lock().expect("not poisoned")
    }

    pub(crate) fn on_its_way(&self) -> Vec<u64> {
        self.way().flights.iter().map(Flight::number).collect()
    }

    pub(crate) fn batches(&self) -> Vec<Vec<u64>> {
        self.way().batches.clone()
    }

    pub(crate) fn set_deaf(&self, deaf: bool) {
        self.way().deaf = deaf;
    }

    /// Begins the oldest message that may be begun, one of a batch at a time. Those that no caller waits for are skipped.
    pub(crate) fn begin(&self) -> Option<u64> {
        loop {
            let mut way = self.way();
            let flights = &way.flights;
            let index = flights.iter().position(|flight| {
                !flight.begun
                    && !flights
                        .iter()
                        .any(|other| other.begun && is_of_same_batch(other, flight))
            })?;
            let flight = &mut way.flights[index];
            let state = flight.delivery.message().and_then(Message::state);
            if state.is_none_or(ReplyState::is_claimed) {
                flight.begun = true;
                let number = flight.number();
                way.begun.push(number);
                return Some(number);
            }
            let skipped = way.flights.remove(index).delivery;
            drop(way);
            end(skipped, Outcome::Failed);
        }
    }

    pub(crate) fn finish(&self, number: u64, outcome: Outcome) {
        let flight = {
            let mut way = self.way();
            let index = way
                .flights
                .iter()
                .position(|flight| flight.begun && flight.number() == number)
                .expect("it was begun");
            way.flights.remove(index)
        };
        end(flight.delivery, outcome);
        // The next one of its batch may begin.
        self.changed.notify_all();
    }

    pub(crate) fn run_one(&self) -> Option<u64> {
        let number = self.begin()?;
        self.finish(number, Outcome::Completed);
        Some(number)
    }

    pub(crate) fn run_all(&self) -> Vec<u64> {
        std::iter::from_fn(|| self.run_one()).collect()
    }

    /// Runs what comes until [`Child::end`], on a thread of its own.
    pub(crate) fn serve(&self) {
        loop {
            while self.run_one().is_some() {}
            let way = self.way();
            if way.over && way.flights.is_empty() {
                return;
            }
            // Others may have begun all there is; they tell when they are through.
            let (way, waited) = self
                .changed
                .wait_timeout_while(way, LONG, |way| {
                    !(way.over && way.flights.is_empty())
                        && way.flights.iter().all(|flight| {
                            way.flights
                                .iter()
                                .any(|other| other.begun && is_of_same_batch(other, flight))
                        })
                })
                .expect("not poisoned");
            drop(way);
            assert!(!waited.timed_out(), "nothing came");
        }
    }

    pub(crate) fn end(&self) {
        self.way().over = true;
        self.changed.notify_all();
    }

    /// Takes out what was not begun, but for the first of each batch.
    pub(crate) fn pull(&self) -> Vec<Delivery<Self>> {
        let mut way = self.way();
        let mut pulled = Vec::new();
        for flight in std::mem::take(&mut way.flights) {
            let first = !way
                .flights
                .iter()
                .any(|kept| is_of_same_batch(kept, &flight));
            if flight.begun || first {
                way.flights.push(flight);
            } else {
                pulled.push(flight.delivery);
            }
        }
        pulled
    }

    /// Takes out everything.
    pub(crate) fn pull_all(&self) -> Vec<Delivery<Self>> {
        let flights = std::mem::take(&mut self.way().flights);
        flights.into_iter().map(|flight| flight.delivery).collect()
    }
}

fn is_of_same_batch(one: &Flight, other: &Flight) -> bool {
    one.delivery.is_of_same_batch(&other.delivery)
}

fn end(mut delivery: Delivery<Child>, outcome: Outcome) {
    let message = delivery.message_mut().expect("there until it ends");
    let outcome = message.settle(outcome);
    delivery.finish(outcome, Some(RAN));
}

impl Handler for Child {
    type Message = Note;

    fn handle(&self, _message: &mut Note) -> Handled<Self> {
        unreachable!("everything is handed over")
    }

    fn finish(&self, message: Note) -> Wake {
        match message.reply {
            Some(reply) if message.settled && reply.0.publish() => Wake::threads_of(reply),
            _ => Wake::none(),
        }
    }

    fn carrier(&self) -> Option<&dyn Carrier<Self>> {
        Some(self)
    }

    fn abandon(&self, message: Note, failure: Failure) {
        self.way().abandoned.push((message.number, failure));
        if let Some(reply) = message.reply {
            let _ = reply.0.fail(true, failure) || reply.0.fail(false, failure);
        }
    }
}

impl Carrier<Self> for Child {
    fn window(&self) -> usize {
        self.window
    }

    fn carry(&self, deliveries: Vec<Delivery<Self>>) {
        let mut way = self.way();
        let first = way.flights.len();
        way.flights
            .extend(deliveries.into_iter().map(|delivery| Flight {
                begun: false,
                delivery,
            }));
        let batch = way.flights[first..].iter().map(Flight::number).collect();
        way.batches.push(batch);
        drop(way);
        self.changed.notify_all();
    }

    fn recall(&self) {
        let (deaf, pause) = {
            let mut way = self.way();
            (way.deaf, way.pause.take())
        };
        let pulled = if deaf { Vec::new() } else { self.pull() };
        if let Some(pause) = pause {
            pause.pulled.open();
            pause.go_on.pass();
        }
        Delivery::put_back(pulled);
    }

    fn ended_unbegun(&self) {
        self.way().unbegun += 1;
    }

    fn stop(&self, ticket: Option<&Arc<dyn Ticket>>) {
        self.way().stops.push(ticket.cloned());
    }
}

/// A worker that is not started.
pub(crate) fn fresh(
    pool: &Pool,
    window: usize,
    capacity: usize,
    overflow: Overflow,
) -> Worker<Child> {
    let options = WorkerOptions {
        capacity,
        overflow,
        ..WorkerOptions::default()
    };
    Worker::new("w", Child::new(window), options, pool)
}

/// One with room enough.
pub(crate) fn roomy(pool: &Pool, window: usize) -> Worker<Child> {
    fresh(pool, window, 1_000, Overflow::Reject)
}

/// A pool's own mailbox.
pub(crate) fn shared(
    pool: &Pool,
    window: usize,
    capacity: usize,
    overflow: Overflow,
) -> Worker<Child> {
    let options = WorkerOptions {
        capacity,
        overflow,
        ..WorkerOptions::default()
    };
    Worker::shared("own", Child::new(window), options, pool)
}

pub(crate) fn start(worker: &Worker<Child>) {
    assert!(worker.start().expect("a thread"));
}

pub(crate) fn note(number: u64) -> Note {
    Note {
        number,
        reply: None,
        settled: false,
    }
}

pub(crate) fn asked_note(number: u64) -> (Note, Asked) {
    let reply = Arc::new(Reply::default());
    let asked = Asked(reply.clone());
    let reply = Some(reply);
    (
        Note {
            reply,
            ..note(number)
        },
        asked,
    )
}

pub(crate) fn post(worker: &Worker<Child>, number: u64) {
    worker.try_post(note(number)).expect("posted");
}

pub(crate) fn ask(worker: &Worker<Child>, number: u64) -> Asked {
    let (message, asked) = asked_note(number);
    worker.try_post(message).expect("posted");
    asked
}

pub(crate) fn ask_all(worker: &Worker<Child>, numbers: std::ops::Range<u64>) -> Vec<Asked> {
    numbers.map(|number| ask(worker, number)).collect()
}

/// The counters, which add up.
pub(crate) fn counters(worker: &Worker<Child>) -> Counters {
    let counters = worker.stats().counters;
    assert_adds_up(&counters);
    counters
}

/// Queued and running.
pub(crate) fn load(worker: &Worker<Child>) -> (u64, u64) {
    let counters = counters(worker);
    (counters.queued, counters.running)
}

pub(crate) fn assert_settled(worker: &Worker<Child>) {
    assert_eq!(load(worker), (0, 0));
    assert!(worker.is_idle());
    assert!(worker.handler().on_its_way().is_empty());
}
