//! Deliveries. The threads of a model play the sender, the child, and the one that takes messages back.

use std::collections::VecDeque;
use std::sync::Arc;

use loom::thread;

use crate::address::AnyCell;
use crate::clock::{Clock, MonotonicClock, Timestamp};
use crate::handler::{Carrier, Cell, Delivery, Handled, Handler, Role};
use crate::mailbox::{Parking, Posted, Refused, Rest, Settled};
use crate::message::{Message, Ticket};
use crate::models::{Call, Note, model};
use crate::options::WorkerOptions;
use crate::outcome::{Failure, Outcome};
use crate::policy::Overflow;
use crate::pool::{Pool, PoolOptions};
use crate::reply::ReplyState;
use crate::stats::Counters;
use crate::sync::Mutex;
use crate::wake::Wake;

/// Time is not what is modelled.
#[derive(Debug)]
struct NoClock;

impl Clock for NoClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(0)
    }
}

struct Letter {
    note: Note,
    settled: bool,
}

impl Message for Letter {
    fn ticket(&self) -> Option<Arc<dyn Ticket>> {
        self.note.ticket()
    }

    fn state(&self) -> Option<&ReplyState> {
        self.note.state()
    }
}

fn letter(number: usize) -> Letter {
    let note = Note { number, call: None };
    Letter {
        note,
        settled: false,
    }
}

fn asked(number: usize) -> (Letter, Arc<Call>) {
    let call = Call::asked();
    let mut letter = letter(number);
    letter.note.call = Some(call.clone());
    (letter, call)
}

/// Keeps what it was handed over until the model ends it.
struct Child {
    window: usize,
    way: Mutex<Vec<Delivery<Self>>>,
}

impl Child {
    /// Begins the oldest message, and ends it. `None`: there is none.
    fn run_one(&self) -> Option<usize> {
        let first = {
            let mut way = self.way.lock();
            (!way.is_empty()).then(|| way.remove(0))
        };
        first.map(end)
    }

    fn run_all(&self) -> Vec<usize> {
        std::iter::from_fn(|| self.run_one()).collect()
    }

    fn pull_last(&self) -> Option<Delivery<Self>> {
        self.way.lock().pop()
    }

    /// Takes out what is ahead.
    fn pull(&self) -> Vec<Delivery<Self>> {
        let mut way = self.way.lock();
        let ahead = way.len().min(1);
        way.split_off(ahead)
    }
}

/// Ends a message whose reply may stand already; returns its number.
fn end(mut delivery: Delivery<Child>) -> usize {
    let letter = delivery.message_mut().expect("there until it ends");
    let number = letter.note.number;
    let mut outcome = Outcome::Completed;
    if let Some(call) = letter.note.call.clone() {
        call.runs.add();
        letter.settled = call.slot.settle(Ok(1));
        if !letter.settled {
            outcome = if call.slot.state().is_expired() {
                Outcome::Expired
            } else {
                Outcome::Cancelled
            };
        }
    }
    delivery.finish(outcome, None);
    number
}

impl Handler for Child {
    type Message = Letter;

    fn handle(&self, _message: &mut Letter) -> Handled<Self> {
        unreachable!("everything is handed over")
    }

    fn finish(&self, message: Letter) -> Wake {
        match message.note.call {
            Some(call) if message.settled && call.slot.publish() => Wake::threads_of(call),
            _ => Wake::none(),
        }
    }

    fn carrier(&self) -> Option<&dyn Carrier<Self>> {
        Some(self)
    }

    fn abandon(&self, message: Letter, failure: Failure) {
        if let Some(call) = message.note.call {
            let _ = call.slot.fail(true, failure) || call.slot.fail(false, failure);
        }
    }
}

impl Carrier<Self> for Child {
    fn window(&self) -> usize {
        self.window
    }

    fn carry(&self, deliveries: Vec<Delivery<Self>>) {
        self.way.lock().extend(deliveries);
    }

    fn recall(&self) {
        Delivery::put_back(self.pull());
    }
}

/// A started worker.
fn worker(window: usize, capacity: usize) -> Arc<Cell<Child>> {
    shared(window, capacity, 1)
}

/// A pool's own mailbox, with `limit` batches on their way.
fn shared(window: usize, capacity: usize, limit: usize) -> Arc<Cell<Child>> {
    let pool = Pool::new(PoolOptions::new(limit));
    let child = Child {
        window,
        way: Mutex::default(),
    };
    let options = WorkerOptions {
        capacity,
        overflow: Overflow::Block,
        rate: None,
        shed: None,
        concurrency: 1,
        stuck_after: None,
        bytes: None,
    };
    Cell::new("w", child, options, &pool, Role::Own)
}

impl Cell<Child> {
    fn accept(self: &Arc<Self>, posted: Posted<Letter>) {
        self.activate(posted.activate);
        self.abandon_all(posted.leftovers);
    }

    fn post(self: &Arc<Self>, letter: Letter) {
        let letter = match self.mailbox.try_post(letter, &NoClock) {
            Ok(posted) => return self.accept(posted),
            Err(Refused::Full(letter)) => letter,
            Err(_) => unreachable!("it stays open, and has no other limits"),
        };
        match self.mailbox.park(letter, None, &NoClock) {
            Parking::Posted(tokens) => self.activate(tokens),
            Parking::Parked(place) => assert!(place.wait(None)),
            Parking::Closed(_) => unreachable!("it stays open"),
        }
    }

    /// Posts them all before the first is handed over.
    fn post_batch(self: &Arc<Self>, letters: impl IntoIterator<Item = Letter>) {
        let mut batch: VecDeque<Letter> = letters.into_iter().collect();
        let (posted, refused) = self.mailbox.try_post_many(&mut batch, &NoClock);
        assert!(refused.is_none());
        self.accept(posted);
    }

    /// The counters, once nothing is queued and nothing is on its way.
    fn counters_at_the_end(&self) -> Counters {
        assert!(self.handler.way.lock().is_empty(), "left with the child");
        let counters = self.mailbox.snapshot(&MonotonicClock::new(), true).counters;
        assert_eq!((counters.queued, counters.running), (0, 0));
        assert_eq!(
            counters.posted,
            counters.completed + counters.failed + counters.cancelled + counters.expired
        );
        assert!(self.mailbox.is_settled(Settled::Idle));
        counters
    }
}

/// Runs `other` on a thread of its own and `own` here; returns when both have ended.
fn race(
    worker: &Arc<Cell<Child>>,
    other: impl FnOnce(&Arc<Cell<Child>>) + Send + 'static,
    own: impl FnOnce(&Arc<Cell<Child>>),
) {
    let thread = {
        let worker = worker.clone();
        thread::spawn(move || other(&worker))
    };
    own(worker);
    thread.join().expect("no panic");
}

/// Takes back what is ahead, as a cancel does, for a message that is not there.
fn recall(worker: &Cell<Child>) {
    let call = Call::asked();
    assert!(call.slot.state().claim());
    cancel(worker, &call);
}

fn cancel(worker: &Cell<Child>, call: &Arc<Call>) -> bool {
    let ticket: Arc<dyn Ticket> = call.clone();
    AnyCell::cancel(worker, &ticket)
}

#[test]
fn a_post_that_meets_the_end_of_the_last_delivery_is_handed_over() {
    model(|| {
        let worker = worker(2, 4);
        worker.post(letter(0));
        race(
            &worker,
            |worker| assert_eq!(worker.handler.run_one(), Some(0)),
            |worker| {
                worker.post(letter(1));
                worker.post(letter(2));
            },
        );
        assert_eq!(worker.handler.run_all(), [1, 2]);
        assert_eq!(worker.counters_at_the_end().completed, 3);
    });
}

#[test]
fn two_posts_to_an_idle_worker_hand_over_once() {
    model(|| {
        let worker = worker(2, 4);
        race(
            &worker,
            |worker| worker.post(letter(0)),
            |worker| worker.post(letter(1)),
        );
        {
            let way = worker.handler.way.lock();
            let together = way
                .windows(2)
                .all(|pair| pair[0].is_of_same_batch(&pair[1]));
            assert!(together, "one batch at a time");
        }
        assert_eq!(worker.handler.run_all().len(), 2);
        assert_eq!(worker.counters_at_the_end().completed, 2);
    });
}

#[test]
fn the_ends_of_a_batch_hand_over_the_next_one_once() {
    model(|| {
        let worker = worker(2, 4);
        worker.post_batch((0..4).map(letter));
        race(
            &worker,
            |worker| assert!(worker.handler.run_one().is_some_and(|number| number < 2)),
            |worker| assert!(worker.handler.run_one().is_some_and(|number| number < 2)),
        );
        assert!(worker.handler.way.lock().len() <= 2, "the window");
        assert_eq!(worker.handler.run_all(), [2, 3]);
        assert_eq!(worker.counters_at_the_end().completed, 4);
    });
}

#[test]
fn the_ends_of_one_batch_leave_another_ones_counts_alone() {
    model(|| {
        let worker = shared(2, 4, 2);
        worker.post_batch((0..2).map(letter));
        worker.post(letter(2));
        worker.post(letter(3));
        race(
            &worker,
            |worker| assert!(worker.handler.run_one().is_some_and(|number| number < 2)),
            |worker| assert!(worker.handler.run_one().is_some_and(|number| number < 2)),
        );
        assert_eq!(worker.handler.pull_last().map(end), Some(3));
        assert_eq!(
            worker
                .mailbox
                .snapshot(&MonotonicClock::new(), true)
                .counters
                .running,
            1
        );
        assert_eq!(worker.handler.run_all(), [2]);
        assert_eq!(worker.counters_at_the_end().completed, 4);
    });
}

#[test]
fn what_is_handed_over_while_messages_come_back_keeps_the_order() {
    model(|| {
        let worker = worker(4, 8);
        worker.post_batch((0..4).map(letter));
        assert_eq!(worker.handler.run_one(), Some(0));
        worker.post(letter(4));
        race(
            &worker,
            // Half of the window is left: the next one is taken for it.
            |worker| assert_eq!(worker.handler.run_one(), Some(1)),
            |worker| recall(worker),
        );
        assert_eq!(worker.handler.run_all(), [2, 3, 4]);
        assert_eq!(worker.counters_at_the_end().completed, 5);
    });
}

#[test]
fn what_is_put_back_while_the_first_one_ends_goes_on_in_order() {
    model(|| {
        let worker = worker(3, 4);
        worker.post_batch((0..3).map(letter));
        let pulled = worker.handler.pull();
        assert_eq!(pulled.len(), 2);
        race(
            &worker,
            |worker| assert_eq!(worker.handler.run_one(), Some(0)),
            |_| Delivery::put_back(pulled),
        );
        assert_eq!(worker.handler.run_all(), [1, 2]);
        assert_eq!(worker.counters_at_the_end().completed, 3);
    });
}

#[test]
fn a_recall_a_post_and_the_end_of_the_first_lose_nothing() {
    model(|| {
        let worker = worker(2, 4);
        worker.post_batch((0..2).map(letter));
        let ends = {
            let worker = worker.clone();
            thread::spawn(move || assert!(worker.handler.run_one().is_some()))
        };
        race(
            &worker,
            |worker| recall(worker),
            |worker| worker.post(letter(2)),
        );
        ends.join().expect("no panic");
        assert_eq!(worker.handler.run_all(), [1, 2]);
        assert_eq!(worker.counters_at_the_end().completed, 3);
    });
}

#[test]
fn a_cancel_and_the_child_agree_on_who_has_a_message() {
    model(|| {
        let worker = worker(2, 4);
        let (second, call) = asked(1);
        worker.post_batch([letter(0), second]);
        let cancelled = {
            let (worker, call) = (worker.clone(), call.clone());
            thread::spawn(move || cancel(&worker, &call))
        };
        assert_eq!(worker.handler.run_one(), Some(0));
        worker.handler.run_one();
        let cancelled = cancelled.join().expect("no panic");
        worker.handler.run_all();
        let counters = worker.counters_at_the_end();
        assert_eq!(counters.cancelled, u64::from(cancelled));
        assert_eq!(counters.completed, 2 - u64::from(cancelled));
        let reply = call.slot.get().copied();
        assert_eq!(reply == Some(Err(Failure::Cancelled)), cancelled);
    });
}

#[test]
fn a_cancel_finds_a_message_that_another_thread_takes_back() {
    model(|| {
        let worker = worker(2, 4);
        let (second, call) = asked(1);
        worker.post_batch([letter(0), second]);
        race(
            &worker,
            |worker| recall(worker),
            |worker| assert!(cancel(worker, &call), "no thread has begun it"),
        );
        assert_eq!(call.slot.get(), Some(&Err(Failure::Cancelled)));
        assert_eq!(worker.handler.run_one(), Some(0));
        assert_eq!(worker.handler.run_one(), None);
        let counters = worker.counters_at_the_end();
        assert_eq!((counters.completed, counters.cancelled), (1, 1));
    });
}

#[test]
fn two_that_cancel_the_same_message_cancel_it_once() {
    model(|| {
        let worker = worker(2, 4);
        let (second, call) = asked(1);
        worker.post_batch([letter(0), second]);
        let other = {
            let (worker, call) = (worker.clone(), call.clone());
            thread::spawn(move || cancel(&worker, &call))
        };
        let own = cancel(&worker, &call);
        let other = other.join().expect("no panic");
        assert!(own || other, "no thread has begun it");
        assert_eq!(call.slot.get(), Some(&Err(Failure::Cancelled)));
        assert_eq!(worker.handler.run_one(), Some(0));
        worker.handler.run_all();
        assert_eq!(worker.counters_at_the_end().cancelled, 1);
    });
}

#[test]
fn a_queued_message_that_is_cancelled_and_expires_counts_as_its_reply_says() {
    model(|| {
        let worker = worker(2, 4);
        worker.post(letter(0));
        let (second, call) = asked(1);
        worker.post(second);
        let ticket: Arc<dyn Ticket> = call.clone();
        let expires = {
            let worker = worker.clone();
            thread::spawn(move || AnyCell::expire(&*worker, vec![ticket]))
        };
        let cancelled = cancel(&worker, &call);
        expires.join().expect("no panic");
        let reply = call.slot.get().copied();
        assert_eq!(reply == Some(Err(Failure::Cancelled)), cancelled);
        assert_eq!(worker.handler.run_all(), [0]);
        let counters = worker.counters_at_the_end();
        assert_eq!(counters.cancelled, u64::from(cancelled));
        assert_eq!(counters.expired, u64::from(!cancelled));
    });
}

#[test]
fn a_deadline_finds_a_message_that_another_thread_takes_back() {
    model(|| {
        let worker = worker(2, 4);
        let (second, call) = asked(1);
        worker.post_batch([letter(0), second]);
        let ticket: Arc<dyn Ticket> = call.clone();
        race(
            &worker,
            |worker| recall(worker),
            |worker| AnyCell::expire(&**worker, vec![ticket]),
        );
        assert_eq!(call.slot.get(), Some(&Err(Failure::Expired)));
        assert_eq!(worker.handler.run_one(), Some(0));
        assert_eq!(worker.handler.run_one(), None);
        let counters = worker.counters_at_the_end();
        assert_eq!((counters.completed, counters.expired), (1, 1));
    });
}

#[test]
fn a_stop_fails_what_is_ahead_though_the_first_one_ends_meanwhile() {
    model(|| {
        let worker = worker(2, 4);
        worker.post_batch((0..4).map(letter));
        let ends = {
            let worker = worker.clone();
            thread::spawn(move || assert_eq!(worker.handler.run_one(), Some(0)))
        };
        let failed = worker
            .recalled(|mailbox| mailbox.close(Rest::Fail(Failure::Stopped), None, true))
            .leftovers
            .len();
        ends.join().expect("no panic");
        // One runs, or is about to.
        assert!(worker.handler.run_all().len() <= 1);
        let counters = worker.counters_at_the_end();
        assert_eq!(counters.failed, u64::try_from(failed).expect("small"));
        assert!(failed >= 2, "{failed}");
    });
}

#[test]
fn a_blocked_sender_gets_the_place_of_one_that_moves_up() {
    model(|| {
        let worker = worker(2, 2);
        worker.post_batch((0..2).map(letter));
        worker.post(letter(2));
        race(
            &worker,
            |worker| worker.post(letter(3)),
            |worker| assert_eq!(worker.handler.run_one(), Some(0)),
        );
        assert_eq!(worker.handler.run_all(), [1, 2, 3]);
        assert_eq!(worker.counters_at_the_end().completed, 4);
    });
}

#[test]
fn a_blocked_sender_gets_the_place_of_an_abandoned_one() {
    model(|| {
        let worker = worker(2, 2);
        let (second, call) = asked(1);
        worker.post_batch([letter(0), second]);
        worker.post(letter(2));
        let pulled = worker.handler.pull();
        assert!(cancel(&worker, &call));
        race(
            &worker,
            |worker| worker.post(letter(3)),
            |_| Delivery::put_back(pulled),
        );
        assert_eq!(worker.handler.run_all(), [0, 2, 3]);
        assert_eq!(worker.counters_at_the_end().cancelled, 1);
    });
}

#[test]
fn a_thread_that_waits_for_a_worker_to_settle_finds_the_replies_standing() {
    model(|| {
        let worker = worker(2, 2);
        let (message, call) = asked(0);
        worker.post(message);
        race(
            &worker,
            |worker| assert_eq!(worker.handler.run_one(), Some(0)),
            |worker| {
                assert!(worker.mailbox.wait_settled(Settled::Idle, None));
                assert_eq!(call.slot.get(), Some(&Ok(1)));
                assert_eq!(worker.counters_at_the_end().completed, 1);
            },
        );
    });
}
