//! Messages that were claimed as they left an order, to be run.

use std::sync::Arc;

use super::entry::{Entry, Spot};
use crate::message::{Message, Ticket};

/// What a worker that wants to run a message finds.
pub(super) enum Popped<M> {
    /// A message, claimed, and those that run with it.
    Message(Entry<M>, Others<M>),
    /// One whose deadline has passed, among the leftovers.
    Expired,
    Nothing,
}

/// Messages that run together with the one they were taken with, claimed.
pub(super) struct Others<M> {
    pub(super) entries: Vec<Entry<M>>,
    /// So many have expired instead, and are among the leftovers.
    pub(super) expired: usize,
    /// Where the message before them of their key ran.
    pub(super) spot: Option<Spot>,
}

impl<M> Others<M> {
    pub(super) const fn none() -> Self {
        Self {
            entries: Vec::new(),
            expired: 0,
            spot: None,
        }
    }
}

/// Claims a message that has no deadline and was not cancelled, and returns its ticket.
#[inline]
pub(super) fn claim_plainly<M: Message>(message: &M) -> Option<Option<Arc<dyn Ticket>>> {
    match message.state() {
        None => Some(None),
        Some(state) if state.claim_unlimited() => Some(message.ticket()),
        Some(_) => None,
    }
}
