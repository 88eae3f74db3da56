//! Who waits for whom: of the waits that close a circle at least one is told, and no other wait is.

use std::sync::Arc;

use loom::thread;

use crate::address::Address;
use crate::handler::{Handled, Handler};
use crate::message::Ticket;
use crate::models::{Call, Note, model};
use crate::options::WorkerOptions;
use crate::outcome::{Failure, Outcome};
use crate::pool::{Pool, PoolOptions};
use crate::wait::{EdgeGuard, WaitNode};
use crate::wait_error::WaitError;
use crate::wake::Wake;
use crate::worker::Worker;

/// Nothing is handled: the workers are only waited for.
struct Nothing;

impl Handler for Nothing {
    type Message = Note;

    fn handle(&self, _message: &mut Note) -> Handled<Self> {
        Handled::Done(Outcome::Completed)
    }

    fn finish(&self, _message: Note) -> Wake {
        Wake::none()
    }

    fn abandon(&self, _message: Note, _failure: Failure) {}
}

fn workers<const N: usize>(names: [&str; N]) -> [Worker<Nothing>; N] {
    let pool = Pool::new(PoolOptions::new(1));
    names.map(|name| Worker::new(name, Nothing, WorkerOptions::default(), &pool))
}

fn ticket() -> (Arc<Call>, Arc<dyn Ticket>) {
    let call = Call::asked();
    let ticket: Arc<dyn Ticket> = call.clone();
    (call, ticket)
}

/// The wait of a worker.
fn edge(
    waiter: &Address,
    target: &Address,
    ticket: Option<&Arc<dyn Ticket>>,
) -> Result<EdgeGuard, WaitError> {
    crate::wait::edge(&WaitNode::new(waiter, None), target, ticket)
}

/// A worker's wait, on a thread of its own. It stays up until it is joined.
fn wait_on_thread(
    waiter: Address,
    target: Address,
    ticket: Option<Arc<dyn Ticket>>,
) -> thread::JoinHandle<Result<EdgeGuard, WaitError>> {
    thread::spawn(move || edge(&waiter, &target, ticket.as_ref()))
}

fn reply(call: &Call) {
    let _ = call.slot.state().claim();
    assert!(call.settle_and_publish(1));
}

#[test]
fn of_two_that_wait_for_each_other_one_is_told() {
    model(|| {
        let [a, b] = workers(["a", "b"]);
        let (_first, of_b) = ticket();
        let other = wait_on_thread(a.address(), b.address(), Some(of_b));
        // The end of a worker, or room in its mailbox, is waited for without a ticket.
        let own = edge(&b.address(), &a.address(), None);
        let other = other.join().expect("no panic");
        assert!(own.is_err() || other.is_err());
    });
}

#[test]
fn of_three_in_a_circle_one_is_told() {
    model(|| {
        let [a, b, c] = workers(["a", "b", "c"]);
        let tickets: Vec<_> = (0..3).map(|_| ticket().1).collect();
        let first = wait_on_thread(a.address(), b.address(), Some(tickets[0].clone()));
        let second = wait_on_thread(b.address(), c.address(), Some(tickets[1].clone()));
        let third = edge(&c.address(), &a.address(), Some(&tickets[2]));
        let results = [
            first.join().expect("no panic"),
            second.join().expect("no panic"),
            third,
        ];
        assert!(results.iter().any(Result::is_err));
    });
}

#[test]
fn a_worker_that_has_replied_may_wait_for_its_caller() {
    model(|| {
        let [a, b] = workers(["a", "b"]);
        let (call, of_b) = ticket();
        let other = wait_on_thread(a.address(), b.address(), Some(of_b));
        // `b` replies to `a`, and handles its next message, which asks `a` in turn.
        reply(&call);
        let (_call, of_a) = ticket();
        let own = edge(&b.address(), &a.address(), Some(&of_a));
        let other = other.join().expect("no panic");
        assert!(own.is_ok() && other.is_ok());
    });
}

#[test]
fn waits_that_never_were_at_the_same_time_are_no_circle() {
    model(|| {
        let [a, b, c] = workers(["a", "b", "c"]);
        let (call, of_c) = ticket();
        let (_open, of_b) = ticket();
        // `b` waits for `c`; `a` is about to wait for `b`.
        let up = edge(&b.address(), &c.address(), Some(&of_c)).expect("no circle yet");
        let waits = wait_on_thread(a.address(), b.address(), Some(of_b));
        // `c` replies, and only then waits for `a`: `b` goes on, and `a` will get its reply.
        reply(&call);
        let (_call, of_a) = ticket();
        let own = edge(&c.address(), &a.address(), Some(&of_a));
        let waits = waits.join().expect("no panic");
        assert!(own.is_ok() && waits.is_ok());
        drop(up);
    });
}

#[test]
fn a_wait_that_was_over_is_no_part_of_a_circle() {
    model(|| {
        let [a, b, c] = workers(["a", "b", "c"]);
        let (_open, of_b) = ticket();
        // The same with a wait for room, which has no ticket to look at.
        let up = edge(&b.address(), &c.address(), None).expect("no circle yet");
        let waits = wait_on_thread(a.address(), b.address(), Some(of_b));
        drop(up);
        let (_call, of_a) = ticket();
        let own = edge(&c.address(), &a.address(), Some(&of_a));
        let waits = waits.join().expect("no panic");
        assert!(own.is_ok() && waits.is_ok());
    });
}

/// A mailbox that runs several messages at the same time, and a worker.
fn pool_and_worker() -> (Worker<Nothing>, Worker<Nothing>) {
    let pool = Pool::new(PoolOptions::new(1));
    let options = WorkerOptions::default;
    (
        Worker::shared("pool", Nothing, options(), &pool),
        Worker::new("worker", Nothing, options(), &pool),
    )
}

/// The wait of the message that `message` is the ticket of.
fn message_waits(
    (shared, message): (&Worker<Nothing>, &Arc<dyn Ticket>),
    target: &Worker<Nothing>,
    ticket: Option<&Arc<dyn Ticket>>,
) -> Result<EdgeGuard, WaitError> {
    let waiter = WaitNode::new(&shared.address(), Some(message.clone()));
    crate::wait::edge(&waiter, &target.address(), ticket)
}

#[test]
fn of_two_messages_of_one_mailbox_that_wait_for_each_other_one_is_told() {
    model(|| {
        let (shared, _) = pool_and_worker();
        let [(_first, one), (_second, two)] = [ticket(), ticket()];
        let shared = Arc::new(shared);
        let other = {
            let (shared, one, two) = (shared.clone(), one.clone(), two.clone());
            thread::spawn(move || message_waits((&shared, &one), &shared, Some(&two)))
        };
        let own = message_waits((&shared, &two), &shared, Some(&one));
        let other = other.join().expect("no panic");
        assert!(own.is_err() || other.is_err());
    });
}

#[test]
fn of_a_message_and_a_worker_that_wait_for_each_other_one_is_told() {
    for waits_for_all in [false, true] {
        model(move || {
            let (shared, worker) = pool_and_worker();
            let [(_message, of_message), (_call, of_worker)] = [ticket(), ticket()];
            // The worker waits for the message, or for the end of all that its mailbox runs.
            let reply = (!waits_for_all).then(|| of_message.clone());
            let other = wait_on_thread(worker.address(), shared.address(), reply);
            let own = message_waits((&shared, &of_message), &worker, Some(&of_worker));
            let other = other.join().expect("no panic");
            assert!(own.is_err() || other.is_err());
        });
    }
}

#[test]
fn a_worker_may_wait_for_another_message_of_a_mailbox_than_the_one_that_waits_for_it() {
    model(|| {
        let (shared, worker) = pool_and_worker();
        let [
            (_message, of_message),
            (other_message, of_other),
            (_call, of_worker),
        ] = [ticket(), ticket(), ticket()];
        let up = wait_on_thread(worker.address(), shared.address(), Some(of_other.clone()));
        let own = message_waits((&shared, &of_message), &worker, Some(&of_worker));
        // The other one replies, and its handler ends with a wait for the first: nothing waits for that.
        reply(&other_message);
        let late = message_waits((&shared, &of_other), &shared, Some(&of_message));
        let up = up.join().expect("no panic");
        assert!(up.is_ok() && own.is_ok() && late.is_ok());
    });
}
