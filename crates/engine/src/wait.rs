//! Waiting inside a handler: cycles are found, and the pool goes on with another thread.
//!
//! A worker that waits for a reply has an *edge* to the worker that owes it. An edge counts as long as its reply is
//! open. Whoever is about to wait first puts up its own edge and then follows the edges from its target; if they
//! lead back, nobody on the way can ever answer. Of the waits that close a circle the last to put up its edge sees
//! all the others, so a cycle is always found. Edges are seen one after the other, so before a cycle is reported each is
//! looked at again: one that was taken down, or whose reply stands by then, was no part of it, and none is invented.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::cell::{Address, AnyCell};
use crate::message::Ticket;
use crate::sync::Mutex;

thread_local! {
    /// The worker whose turn this thread runs.
    static CURRENT: RefCell<Option<Arc<dyn AnyCell>>> = const { RefCell::new(None) };
}

/// The worker whose handler runs on this thread.
#[must_use]
pub fn current() -> Option<Address> {
    CURRENT
        .with(|current| current.borrow().clone())
        .map(Address)
}

/// Marks `cell` as the one whose turn this thread runs, until the guard is dropped.
pub(crate) fn enter_turn(cell: Arc<dyn AnyCell>) -> TurnGuard {
    CURRENT.with(|current| *current.borrow_mut() = Some(cell));
    TurnGuard(())
}

/// Runs `f` with `cell` as the one whose turn this thread runs, in the place of the present one.
pub(crate) fn instead<R>(cell: Arc<dyn AnyCell>, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Arc<dyn AnyCell>>);

    impl Drop for Restore {
        fn drop(&mut self) {
            let before = self.0.take();
            // Dropped outside the borrow: see `TurnGuard`.
            let instead =
                CURRENT.with(|current| std::mem::replace(&mut *current.borrow_mut(), before));
            drop(instead);
        }
    }

    let _restore = Restore(CURRENT.with(|current| current.borrow_mut().replace(cell)));
    f()
}

pub(crate) struct TurnGuard(());

impl Drop for TurnGuard {
    fn drop(&mut self) {
        // Taken out first: dropping the last reference to a worker runs destructors, which may look at `CURRENT`.
        let cell = CURRENT.with(|current| current.borrow_mut().take());
        drop(cell);
    }
}

/// Waiting would never end, or cannot be made safe.
#[derive(Debug)]
#[non_exhaustive]
pub enum WaitError {
    /// The workers named wait for each other, the first for the second and the last for the first.
    Cycle(Vec<String>),
    /// All threads of the pool wait, and another one could not be started.
    NoThread(io::Error),
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cycle(names) => {
                write!(f, "workers wait for each other: {}", names.join(" -> "))?;
                if let Some(first) = names.first() {
                    write!(f, " -> {first}")?;
                }
                f.write_str("; post without waiting, or answer from a worker that is not part of the circle")
            }
            Self::NoThread(error) => {
                write!(
                    f,
                    "all threads of the pool wait for replies, and another could not be started: {error}"
                )
            }
        }
    }
}

impl std::error::Error for WaitError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Cycle(_) => None,
            Self::NoThread(error) => Some(error),
        }
    }
}

/// What a worker waits for.
pub(crate) struct Edge {
    target: Arc<dyn AnyCell>,
    /// `None`: the target's end, or room in its mailbox, which only come once its handler returns.
    ticket: Option<Arc<dyn Ticket>>,
}

impl Edge {
    fn is_open(&self) -> bool {
        self.ticket
            .as_ref()
            .is_none_or(|ticket| !ticket.state().is_done())
    }
}

/// What one worker waits for: several things at once, where its handler is a coroutine.
pub(crate) type Edges = Mutex<Vec<Arc<Edge>>>;

/// Keeps an edge up; dropping takes it down.
pub struct EdgeGuard(Option<(Address, Arc<Edge>)>);

impl fmt::Debug for EdgeGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EdgeGuard").field(&self.0.is_some()).finish()
    }
}

impl Drop for EdgeGuard {
    fn drop(&mut self) {
        if let Some((waiter, own)) = self.0.take() {
            let mut edges = waiter.0.edges().lock();
            edges.retain(|edge| !Arc::ptr_eq(edge, &own));
            // The lock goes before `own`, which may be the last reference to its target.
            drop(edges);
        }
    }
}

/// A way along edges: who waits, and for what.
type Path = Vec<(Arc<dyn AnyCell>, Arc<Edge>)>;

/// Goes on from the end of `path` until an edge leads to the worker `home`.
fn leads_home(path: &mut Path, seen: &mut Vec<u64>, home: u64) -> bool {
    let Some((_, last)) = path.last() else {
        return false;
    };
    let next = last.target.clone();
    if next.id() == home {
        return true;
    }
    if seen.contains(&next.id()) {
        // Looked at already; a circle that this worker only leads into is found by its own members.
        return false;
    }
    seen.push(next.id());
    let edges = next.edges().lock().clone();
    for edge in edges.into_iter().filter(|edge| edge.is_open()) {
        path.push((next.clone(), edge));
        if leads_home(path, seen, home) {
            return true;
        }
        path.pop();
    }
    false
}

/// Puts up an edge from `waiter` to `target`, for a wait that does not block a thread (an `await`, say).
///
/// # Errors
/// [`WaitError::Cycle`] when the wait could never end.
pub fn edge(
    waiter: &Address,
    target: &Address,
    ticket: Option<&Arc<dyn Ticket>>,
) -> Result<EdgeGuard, WaitError> {
    if !waiter.0.is_exclusive() || !target.0.is_exclusive() {
        // The pool's own mailbox runs another message meanwhile.
        return Ok(EdgeGuard(None));
    }
    let own = Arc::new(Edge {
        target: target.0.clone(),
        ticket: ticket.cloned(),
    });
    waiter.0.edges().lock().push(own.clone());
    let guard = EdgeGuard(Some((waiter.clone(), own.clone())));
    let mut path = vec![(waiter.0.clone(), own)];
    if !leads_home(&mut path, &mut Vec::new(), waiter.0.id()) {
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

/// Another thread may run in the place of this one, which is about to wait inside a handler.
pub(crate) struct Blocking(Option<Arc<dyn AnyCell>>);

impl Blocking {
    pub(crate) fn enter() -> Result<Self, WaitError> {
        let cell = CURRENT.with(|current| current.borrow().clone());
        if let Some(cell) = &cell {
            let pool = cell.pool();
            let rouse = pool.scheduler.block();
            if let Err(error) = pool.rouse(rouse)
                && pool.scheduler.is_stalled()
            {
                pool.scheduler.unblock();
                return Err(WaitError::NoThread(error));
            }
            cell.lend(true);
        }
        Ok(Self(cell))
    }
}

impl Drop for Blocking {
    fn drop(&mut self) {
        if let Some(cell) = self.0.take() {
            cell.lend(false);
            cell.pool().scheduler.unblock();
        }
    }
}

/// Runs `wait`, which blocks this thread. Inside a handler another thread of the pool runs meanwhile.
///
/// # Errors
/// [`WaitError::NoThread`] when the pool would stand still; `wait` did not run.
pub fn lend<R>(wait: impl FnOnce() -> R) -> Result<R, WaitError> {
    let _blocking = Blocking::enter()?;
    Ok(wait())
}

/// Blocks until the reply of `ticket`, which `target` owes, stands; at most for `limit`. Says whether it stands.
///
/// Inside a handler another thread of the pool runs meanwhile, so a pool whose threads all wait goes on.
///
/// # Errors
/// [`WaitError::Cycle`] when the wait could never end, [`WaitError::NoThread`] when the pool would stand still.
pub fn wait(
    target: &Address,
    ticket: &Arc<dyn Ticket>,
    limit: Option<Duration>,
) -> Result<bool, WaitError> {
    if ticket.state().is_done() {
        return Ok(true);
    }
    let Some(waiter) = current() else {
        return Ok(ticket.state().wait(limit));
    };
    let _edge = edge(&waiter, target, Some(ticket))?;
    let _blocking = Blocking::enter()?;
    Ok(ticket.state().wait(limit))
}
