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
//! A message that is still queued has no edges, and needs none. A worker's node stands for its queue too. A mailbox that
//! runs many comes to it, because its messages that wait do not hold its places: one that blocks its thread lends its
//! place to another, and one that awaits does so while some handler waits for this mailbox. Otherwise a coroutine keeps
//! its place, so that the mailbox bounds how many of them there are.

use std::fmt;
use std::sync::Arc;

use crate::address::{Address, AnyCell, Edge, MailboxWaits};
use crate::message::Ticket;
use crate::wait_error::WaitError;

/// Who waits: a worker; or one of the messages that a mailbox runs at the same time.
#[derive(Clone)]
pub struct WaitNode {
    cell: Arc<dyn AnyCell>,
    /// `None` for a worker, and for a message without a ticket: no reply of it is waited for.
    message: Option<Arc<dyn Ticket>>,
}

impl fmt::Debug for WaitNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WaitNode").field(&self.cell.name()).finish()
    }
}

impl WaitNode {
    /// The handler of `message` at `address`. Which message it is counts where several run at the same time.
    #[must_use]
    pub fn new(address: &Address, message: Option<Arc<dyn Ticket>>) -> Self {
        Self {
            cell: address.0.clone(),
            message: message.filter(|_| !address.0.is_exclusive()),
        }
    }
}

fn change(cell: &dyn AnyCell, change: impl FnOnce(&mut MailboxWaits)) {
    let mut waits = cell.edges().lock();
    change(&mut waits);
    let places = waits.settle(cell);
    drop(waits);
    cell.activate_places(places);
}

/// While it lives, a handler waits for something of a mailbox that runs several messages.
pub(crate) struct Want(Arc<dyn AnyCell>);

impl Want {
    /// `None` for a worker.
    pub(crate) fn of(target: &Address) -> Option<Self> {
        if target.is_exclusive() {
            return None;
        }
        change(&*target.0, |waits| waits.wanted += 1);
        Some(Self(target.0.clone()))
    }
}

impl Drop for Want {
    fn drop(&mut self) {
        change(&*self.0, |waits| waits.wanted -= 1);
    }
}

/// Keeps an edge up; dropping takes it down.
pub struct EdgeGuard {
    waiter: Arc<dyn AnyCell>,
    /// There until the drop.
    own: Option<Arc<Edge>>,
    /// The message that awaits, where it has a place that can be lent.
    awaits: Option<usize>,
    _want: Option<Want>,
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
        // `own` may be the last reference to its target, and goes after the lock.
        change(&*self.waiter, |waits| {
            waits.edges.retain(|edge| !Arc::ptr_eq(edge, &own));
            if let Some(message) = self.awaits
                && let Some(count) = waits.awaiting.get_mut(&message)
            {
                *count -= 1;
                if *count == 0 {
                    waits.awaiting.remove(&message);
                }
            }
        });
    }
}

/// A way along edges: at which mailbox each is up.
type Path = Vec<(Arc<dyn AnyCell>, Arc<Edge>)>;

/// Goes on from the end of `path` until an edge leads to the node `home`.
fn leads_home(path: &mut Path, seen: &mut Vec<(u64, usize)>, home: &WaitNode) -> bool {
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
    let edges = next.edges().lock().edges.clone();
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

/// Puts up an edge. `awaits`: the wait blocks no thread.
pub(crate) fn put_up(
    waiter: &WaitNode,
    target: &Address,
    ticket: Option<&Arc<dyn Ticket>>,
    awaits: bool,
) -> Result<EdgeGuard, WaitError> {
    let own = Arc::new(Edge {
        message: waiter.message.clone(),
        target: target.0.clone(),
        ticket: ticket.cloned(),
    });
    let message = waiter.message.as_ref().filter(|_| awaits);
    let awaits = message.map(|message| Arc::as_ptr(message).addr());
    change(&*waiter.cell, |waits| {
        waits.edges.push(own.clone());
        if let Some(message) = awaits {
            *waits.awaiting.entry(message).or_default() += 1;
        }
    });
    let guard = EdgeGuard {
        waiter: waiter.cell.clone(),
        own: Some(own.clone()),
        awaits,
        _want: Want::of(target),
    };
    let mut path = vec![(waiter.cell.clone(), own)];
    if !leads_home(&mut path, &mut Vec::new(), waiter) {
        return Ok(guard);
    }
    // They were seen one after the other. Only if all still stand did they stand at the same time.
    let stands = path.iter().all(|(cell, edge)| {
        edge.is_open()
            && cell
                .edges()
                .lock()
                .edges
                .iter()
                .any(|now| Arc::ptr_eq(now, edge))
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

/// Puts up an edge from `waiter` to `target`, for a wait that does not block a thread (an `await`, say). Where that is a
/// mailbox that runs several messages at the same time, it comes to the one that is waited for, however many of those
/// before wait themselves.
///
/// # Errors
/// [`WaitError::Cycle`] when the wait could never end.
pub fn edge(
    waiter: &WaitNode,
    target: &Address,
    ticket: Option<&Arc<dyn Ticket>>,
) -> Result<EdgeGuard, WaitError> {
    put_up(waiter, target, ticket, true)
}
