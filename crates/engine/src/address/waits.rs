//! The waits of one mailbox's handlers: its part of the graph of waits (`wait/edges.rs`).

use std::collections::HashMap;
use std::sync::Arc;

use super::AnyCell;
use crate::message::Ticket;
use crate::sync::Mutex;

/// One wait.
pub(crate) struct Edge {
    /// See [`WaitNode`](crate::WaitNode).
    pub(crate) message: Option<Arc<dyn Ticket>>,
    pub(crate) target: Arc<dyn AnyCell>,
    /// `None`: the end of all that the target runs, or room in its mailbox, which comes once its handler returns.
    pub(crate) ticket: Option<Arc<dyn Ticket>>,
}

fn are_same(one: &Arc<dyn Ticket>, other: &Arc<dyn Ticket>) -> bool {
    std::ptr::addr_eq(Arc::as_ptr(one), Arc::as_ptr(other))
}

impl Edge {
    pub(crate) fn is_open(&self) -> bool {
        self.ticket
            .as_ref()
            .is_none_or(|ticket| !ticket.state().is_done())
    }

    /// Whether the node of `message` at the target is the one that this edge leads to, or one of those.
    pub(crate) fn leads_to(&self, message: Option<&Arc<dyn Ticket>>) -> bool {
        match (&self.ticket, message) {
            _ if self.target.is_exclusive() => true,
            (None, _) => true,
            (Some(ticket), Some(message)) => are_same(ticket, message),
            (Some(_), None) => false,
        }
    }

    /// Tells the nodes that edges lead to from each other.
    pub(crate) fn node(&self) -> (u64, usize) {
        let message = match &self.ticket {
            Some(ticket) if !self.target.is_exclusive() => Arc::as_ptr(ticket).addr(),
            _ => 0,
        };
        (self.target.id(), message)
    }
}

/// The waits of one mailbox's handlers, and what other handlers wait for there.
#[derive(Default)]
pub(crate) struct MailboxWaits {
    /// Several at once, where a handler is a coroutine or where many run.
    pub(crate) edges: Vec<Arc<Edge>>,
    /// The messages that await, by their address, with the number of their edges.
    pub(crate) awaiting: HashMap<usize, usize>,
    /// Waits of handlers for this mailbox, where it runs several messages.
    pub(crate) wanted: usize,
    /// Places of messages that await, lent to others.
    lent: usize,
}

pub(crate) type Edges = Mutex<MailboxWaits>;

impl MailboxWaits {
    /// Lends as many places as are to be lent. Returns what is to be activated once the lock is released.
    pub(crate) fn settle(&mut self, cell: &dyn AnyCell) -> usize {
        let due = if self.wanted > 0 {
            self.awaiting.len()
        } else {
            0
        };
        let mut places = 0;
        while self.lent < due {
            places += cell.lend_place(true);
            self.lent += 1;
        }
        while self.lent > due {
            cell.lend_place(false);
            self.lent -= 1;
        }
        places
    }
}
