//! The graph of waits, and the circles in it.
//!
//! A node is what cannot go on while it waits: a worker, which handles one message at a time; or, where a mailbox runs
//! many messages at once (a pool's own), each of these messages. It has an *edge* to the node that owes it something. An
//! edge counts as long as its reply is open. A handler that is about to wait first puts up its own edge and then follows the
//! edges from its target; if they lead back, no node on the way can ever answer. Of the waits that close a circle the last to
//! put up its edge sees all the others, so a circle is always found. Edges are seen one after the other, so before a
//! circle is reported each is looked at again: one that was taken down, or whose reply stands by then, was no part of
//! it, and none is invented.
//!
//! A message that is still queued has no edges, and needs none. A worker's node stands for its queue too; and a mailbox
//! that runs many comes to it, because each of its messages that waits lends its place to another.

use std::fmt;
use std::sync::Arc;

use super::WaitError;
use crate::cell::{Address, AnyCell};
use crate::message::Ticket;
use crate::sync::Mutex;

/// Who waits: a worker; or one of the messages that a mailbox runs at the same time.
#[derive(Clone)]
pub struct Waiter {
    cell: Arc<dyn AnyCell>,
    /// `None` for a worker, and for a message without a ticket: no reply of it is waited for.
    message: Option<Arc<dyn Ticket>>,
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Waiter").field(&self.cell.name()).finish()
    }
}

impl Waiter {
    /// The handler of `message` at `address`. Which message it is counts where several run at the same time.
    #[must_use]
    pub fn new(address: &Address, message: Option<Arc<dyn Ticket>>) -> Self {
        Self {
            cell: address.0.clone(),
            message: message.filter(|_| !address.0.is_exclusive()),
        }
    }
}

/// One wait.
pub(crate) struct Edge {
    /// See [`Waiter::message`].
    message: Option<Arc<dyn Ticket>>,
    target: Arc<dyn AnyCell>,
    /// `None`: the end of all that the target runs, or room in its mailbox, which comes once its handler returns.
    ticket: Option<Arc<dyn Ticket>>,
}

fn are_same(one: &Arc<dyn Ticket>, other: &Arc<dyn Ticket>) -> bool {
    std::ptr::addr_eq(Arc::as_ptr(one), Arc::as_ptr(other))
}

impl Edge {
    fn is_open(&self) -> bool {
        self.ticket
            .as_ref()
            .is_none_or(|ticket| !ticket.state().is_done())
    }

    /// Whether the node of `message` at the target is the one that this edge leads to, or one of those.
    fn leads_to(&self, message: Option<&Arc<dyn Ticket>>) -> bool {
        match (&self.ticket, message) {
            _ if self.target.is_exclusive() => true,
            (None, _) => true,
            (Some(ticket), Some(message)) => are_same(ticket, message),
            (Some(_), None) => false,
        }
    }

    /// Tells the nodes that edges lead to from each other.
    fn node(&self) -> (u64, usize) {
        let message = match &self.ticket {
            Some(ticket) if !self.target.is_exclusive() => Arc::as_ptr(ticket).addr(),
            _ => 0,
        };
        (self.target.id(), message)
    }
}

/// The waits of one mailbox's handlers: several at once, where a handler is a coroutine or where many run.
pub(crate) type Edges = Mutex<Vec<Arc<Edge>>>;

/// Keeps an edge up; dropping takes it down.
pub struct EdgeGuard {
    waiter: Arc<dyn AnyCell>,
    /// There until the drop.
    own: Option<Arc<Edge>>,
    /// The waiter's place in its mailbox is lent while one of its edges is up.
    lends: bool,
}

impl fmt::Debug for EdgeGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EdgeGuard")
            .field(&self.waiter.name())
            .finish()
    }
}

impl Drop for EdgeGuard {
    fn drop(&mut self) {
        let Some(own) = self.own.take() else { return };
        let mut edges = self.waiter.edges().lock();
        edges.retain(|edge| !Arc::ptr_eq(edge, &own));
        let last = self.lends && !is_waiting(&edges, own.message.as_ref());
        // The lock goes before `own`, which may be the last reference to its target.
        drop(edges);
        if last {
            self.waiter.lend(false);
        }
    }
}

/// Whether `message` has an edge among `edges`.
fn is_waiting(edges: &[Arc<Edge>], message: Option<&Arc<dyn Ticket>>) -> bool {
    message.is_some_and(|message| {
        edges
            .iter()
            .filter_map(|edge| edge.message.as_ref())
            .any(|waits| are_same(waits, message))
    })
}

/// A way along edges: at which mailbox each is up.
type Path = Vec<(Arc<dyn AnyCell>, Arc<Edge>)>;

/// Goes on from the end of `path` until an edge leads to the node `home`.
fn leads_home(path: &mut Path, seen: &mut Vec<(u64, usize)>, home: &Waiter) -> bool {
    let Some((_, last)) = path.last() else {
        return false;
    };
    let last = last.clone();
    let next = &last.target;
    if next.id() == home.cell.id() && last.leads_to(home.message.as_ref()) {
        return true;
    }
    if seen.contains(&last.node()) {
        // Looked at already; a circle that this node only leads into is found by its own members.
        return false;
    }
    seen.push(last.node());
    let edges = next.edges().lock().clone();
    for edge in edges {
        if !edge.is_open() || !last.leads_to(edge.message.as_ref()) {
            continue;
        }
        path.push((next.clone(), edge));
        if leads_home(path, seen, home) {
            return true;
        }
        path.pop();
    }
    false
}

/// Puts up an edge. `lends`: the waiter's place in its mailbox is for another message meanwhile.
pub(crate) fn put_up(
    waiter: &Waiter,
    target: &Address,
    ticket: Option<&Arc<dyn Ticket>>,
    lends: bool,
) -> Result<EdgeGuard, WaitError> {
    let own = Arc::new(Edge {
        message: waiter.message.clone(),
        target: target.0.clone(),
        ticket: ticket.cloned(),
    });
    let lends = lends && waiter.message.is_some();
    let mut edges = waiter.cell.edges().lock();
    let first = lends && !is_waiting(&edges, waiter.message.as_ref());
    edges.push(own.clone());
    drop(edges);
    if first {
        waiter.cell.lend(true);
    }
    let guard = EdgeGuard {
        waiter: waiter.cell.clone(),
        own: Some(own.clone()),
        lends,
    };
    let mut path = vec![(waiter.cell.clone(), own)];
    if !leads_home(&mut path, &mut Vec::new(), waiter) {
        return Ok(guard);
    }
    // They were seen one after the other. Only if all still stand did they stand at the same time.
    let stands = path.iter().all(|(cell, edge)| {
        edge.is_open() && cell.edges().lock().iter().any(|now| Arc::ptr_eq(now, edge))
    });
    if !stands {
        return Ok(guard);
    }
    Err(WaitError::Cycle(
        path.iter()
            .map(|(cell, _)| cell.name().to_owned())
            .collect(),
    ))
}

/// Puts up an edge from `waiter` to `target`, for a wait that does not block a thread (an `await`, say). A mailbox that
/// runs several messages at the same time runs another one meanwhile: the waiter may wait for one that is queued there.
///
/// # Errors
/// [`WaitError::Cycle`] when the wait could never end.
pub fn edge(
    waiter: &Waiter,
    target: &Address,
    ticket: Option<&Arc<dyn Ticket>>,
) -> Result<EdgeGuard, WaitError> {
    put_up(waiter, target, ticket, true)
}
