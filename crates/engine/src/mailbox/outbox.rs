//! The outbox: the worker's side of a mailbox.

use super::accounts::Accounts;
use super::order::Order;
use super::parked::Line;
use crate::message::Message;

pub(super) struct Outbox<M> {
    pub(super) order: Order<M>,
    pub(super) accounts: Accounts,
    /// Posts that wait for a place.
    pub(super) line: Line<M>,
    /// Threads that look through what was taken back, and tokens that are used once they are through.
    pub(super) held: usize,
    pub(super) waiting_tokens: usize,
    /// Threads that have taken messages and have yet to hand them over.
    pub(super) handing: usize,
}

impl<M: Message> Outbox<M> {
    pub(super) fn new() -> Self {
        Self {
            order: Order::new(),
            accounts: Accounts::new(),
            line: Line::new(),
            held: 0,
            waiting_tokens: 0,
            handing: 0,
        }
    }
}
