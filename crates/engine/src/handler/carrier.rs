//! A carrier: what runs the messages of one mailbox somewhere else, in another process say.
//!
//! A worker has a handler that runs its messages on the pool's threads, or one with a carrier, which gets them in batches:
//! see `delivery.rs`. The handler still publishes the replies ([`Handler::finish`]) and is told of messages that will not be
//! run ([`Handler::abandon`]).

use std::sync::Arc;

use super::Handler;
use super::delivery::Delivery;
use crate::health::Condition;
use crate::message::Ticket;
use crate::outcome::Failure;

/// Runs messages elsewhere. No method blocks, and none runs the user's code.
pub trait Carrier<H: Handler>: Send + Sync {
    /// How many messages to carry at once.
    fn window(&self) -> usize {
        1
    }

    /// Takes messages to where they run, in order. Each of them ends with [`Delivery::finish`], later and from any thread.
    fn carry(&self, deliveries: Vec<Delivery<H>>);

    /// Brings back what has not begun, with [`Delivery::put_back`]: queued messages are about to be looked through.
    fn recall(&self) {}

    /// Told that messages ended before they began, cancelled or past their deadline: nothing may come to take them up any
    /// more.
    fn ended_unbegun(&self) {}

    /// Ends what has not begun, with [`Delivery::abandon`]: the worker has stopped, and its queue has failed as `failure`
    /// says. Returns how many messages that were.
    fn withdraw(&self, failure: Failure) -> usize {
        let _ = failure;
        0
    }

    /// Whether the message of `ticket` has begun, as far as that is known: one whose deadline passes before was not asked
    /// to stop.
    fn has_begun(&self, ticket: &Arc<dyn Ticket>) -> bool {
        let _ = ticket;
        true
    }

    /// The [`Delivery::run`] of each message that has begun and is not over, of those that have one.
    fn begun(&self) -> Vec<u64> {
        Vec::new()
    }

    /// How the place where the messages run fares.
    fn condition(&self) -> Condition {
        Condition::Works
    }

    /// Stops the message of `ticket`, whose reply is settled, or with `None` everything of this worker at once.
    fn stop(&self, ticket: Option<&Arc<dyn Ticket>>) {
        let _ = ticket;
    }
}
