//! Waiting inside a handler: circles are found, and the pool goes on with another thread.

#[path = "wait/edges.rs"]
mod edges;

use std::cell::RefCell;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::address::{Address, AnyCell};
use crate::message::Ticket;
use crate::wait_error::WaitError;

pub use edges::{EdgeGuard, WaitNode, edge};
pub(crate) use edges::{Want, put_up};

/// Whose handler a thread runs.
#[derive(Default)]
struct Current {
    /// The worker whose turn it is.
    cell: Option<Arc<dyn AnyCell>>,
    /// The message, where the mailbox runs several at the same time.
    message: Option<Arc<dyn Ticket>>,
}

thread_local! {
    static CURRENT: RefCell<Current> = RefCell::default();
}

/// Exchanges the present one. The value that comes back is to be dropped outside: the last reference to a worker runs
/// destructors, which may look at `CURRENT`.
fn exchange(next: Current) -> Current {
    CURRENT.with(|current| mem::replace(&mut *current.borrow_mut(), next))
}

fn current_cell() -> Option<Arc<dyn AnyCell>> {
    CURRENT.with(|current| current.borrow().cell.clone())
}

/// The worker whose handler runs on this thread.
#[must_use]
pub fn current() -> Option<Address> {
    current_cell().map(Address)
}

/// The side of a wait that this thread is on, inside a handler.
pub(crate) fn current_waiter() -> Option<WaitNode> {
    let (address, message) = CURRENT.with(|current| {
        let current = current.borrow();
        Some((Address(current.cell.clone()?), current.message.clone()))
    })?;
    Some(WaitNode::new(&address, message))
}

/// Marks `cell` as the one whose turn this thread runs, until the guard is dropped.
pub(crate) fn enter_turn(cell: Arc<dyn AnyCell>) -> TurnGuard {
    drop(exchange(Current {
        cell: Some(cell),
        message: None,
    }));
    TurnGuard(())
}

/// Marks the message of `ticket` as the one whose handler this thread runs, in a turn of a mailbox that runs several at
/// the same time, until the guard is dropped.
pub(crate) fn enter_message(ticket: Option<Arc<dyn Ticket>>) -> MessageGuard {
    MessageGuard::enter(ticket)
}

pub(crate) struct MessageGuard(());

impl MessageGuard {
    fn enter(ticket: Option<Arc<dyn Ticket>>) -> Self {
        Self::exchange(ticket);
        Self(())
    }

    fn exchange(ticket: Option<Arc<dyn Ticket>>) {
        let before =
            CURRENT.with(|current| mem::replace(&mut current.borrow_mut().message, ticket));
        // Outside the borrow: see `exchange`.
        drop(before);
    }
}

impl Drop for MessageGuard {
    fn drop(&mut self) {
        Self::exchange(None);
    }
}

/// Runs `f` as if in the handler of `cell` for the message of `ticket`, in the place of the present one.
pub(crate) fn instead<R>(
    cell: Arc<dyn AnyCell>,
    ticket: Option<Arc<dyn Ticket>>,
    f: impl FnOnce() -> R,
) -> R {
    struct Restore(Current);

    impl Drop for Restore {
        fn drop(&mut self) {
            drop(exchange(mem::take(&mut self.0)));
        }
    }

    let _restore = Restore(exchange(Current {
        cell: Some(cell),
        message: ticket,
    }));
    f()
}

pub(crate) struct TurnGuard(());

impl Drop for TurnGuard {
    fn drop(&mut self) {
        take_back(None);
        drop(exchange(Current::default()));
    }
}

/// The thread of a handler that another one stands in for.
struct Lent {
    serial: u64,
    cell: Arc<dyn AnyCell>,
}

thread_local! {
    static LENT: RefCell<Option<Lent>> = const { RefCell::new(None) };
}

/// Ends the lending of this thread, if it is the one of that number; any, for `None`.
fn take_back(serial: Option<u64>) {
    let lent = LENT.with(|lent| {
        lent.borrow_mut()
            .take_if(|lent| serial.is_none_or(|serial| lent.serial == serial))
    });
    if let Some(Lent { cell, .. }) = lent {
        cell.lend(false);
        cell.unblock();
    }
}

/// While it lives, another thread may run in the place of this one, which waits inside a handler. Outside of handlers,
/// and where the thread has such a guard already, it does nothing.
///
/// It counts on the thread that made it, until the end of the worker's turn at the latest: one that is dropped elsewhere,
/// or later, changes nothing.
#[derive(Debug)]
#[must_use = "it ends when it is dropped"]
pub struct Blocking(Option<u64>);

impl Blocking {
    /// To be made right before the wait.
    ///
    /// # Errors
    /// [`WaitError::NoThread`] when the pool would stand still, [`WaitError::ThreadLimit`] when too many wait already.
    pub fn enter() -> Result<Self, WaitError> {
        static SERIAL: AtomicU64 = AtomicU64::new(0);

        if LENT.with(|lent| lent.borrow().is_some()) {
            return Ok(Self(None));
        }
        let Some(cell) = current_cell() else {
            return Ok(Self(None));
        };
        cell.block()?;
        cell.lend(true);
        // ORDERING: Relaxed, only uniqueness matters.
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        LENT.with(|lent| *lent.borrow_mut() = Some(Lent { serial, cell }));
        Ok(Self(Some(serial)))
    }
}

impl Drop for Blocking {
    fn drop(&mut self) {
        if let Some(serial) = self.0.take() {
            take_back(Some(serial));
        }
    }
}

/// Puts up an edge from the handler that runs on this thread, if one does, to `target`, for a wait that blocks the thread.
///
/// # Errors
/// [`WaitError::Cycle`] when the wait could never end.
pub fn edge_of_current(
    target: &Address,
    ticket: &Arc<dyn Ticket>,
) -> Result<Option<EdgeGuard>, WaitError> {
    current_waiter()
        .map(|waiter| put_up(&waiter, target, Some(ticket), false))
        .transpose()
}

/// Runs `wait`, which blocks this thread. Inside a handler another thread of the pool runs meanwhile.
///
/// # Errors
/// As [`Blocking::enter`]; `wait` did not run.
pub fn lend<R>(wait: impl FnOnce() -> R) -> Result<R, WaitError> {
    let _blocking = Blocking::enter()?;
    Ok(wait())
}

/// Blocks until the reply of `ticket`, which `target` owes, stands; at most for `limit`. Says whether it stands.
///
/// Inside a handler another thread of the pool runs meanwhile, so a pool whose threads all wait goes on.
///
/// # Errors
/// [`WaitError::Cycle`] when the wait could never end; as [`Blocking::enter`].
pub fn wait(
    target: &Address,
    ticket: &Arc<dyn Ticket>,
    limit: Option<Duration>,
) -> Result<bool, WaitError> {
    if ticket.state().is_done() {
        return Ok(true);
    }
    let Some(waiter) = current_waiter() else {
        return Ok(ticket.state().wait(limit));
    };
    let _edge = put_up(&waiter, target, Some(ticket), false)?;
    let _blocking = Blocking::enter()?;
    Ok(ticket.state().wait(limit))
}

/// The same for a reply that keeps no worker: `target` finds the one that owes it, unless it is gone. Called in a handler
/// only: elsewhere there is no circle to look for.
///
/// # Errors
/// As [`wait`].
pub fn wait_for(
    target: impl FnOnce() -> Option<Address>,
    ticket: &Arc<dyn Ticket>,
    limit: Option<Duration>,
) -> Result<bool, WaitError> {
    let state = ticket.state();
    if state.is_done() {
        return Ok(true);
    }
    if current_waiter().is_some()
        && let Some(address) = target()
    {
        return wait(&address, ticket, limit);
    }
    // Where the worker is gone, each of its messages was settled before, or is so now.
    Ok(state.wait(limit))
}
