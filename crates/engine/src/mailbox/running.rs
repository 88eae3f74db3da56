//! The tickets of the messages that run.

use std::collections::VecDeque;
use std::ptr;
use std::sync::Arc;

use super::entry::TicketKey;
use crate::message::Ticket;
use crate::reply::ReplyState;

/// Most workers run one message at a time, so one ticket has a place of its own: a queue costs as much again as all
/// else that happens to a message under its lock.
#[derive(Default)]
pub(super) struct Running {
    only: Option<Arc<dyn Ticket>>,
    /// Those that began after it, or after one that has ended since.
    others: VecDeque<Arc<dyn Ticket>>,
}

impl Running {
    #[inline]
    pub(super) fn add(&mut self, ticket: Option<Arc<dyn Ticket>>) {
        let Some(ticket) = ticket else {
            return;
        };
        if self.only.is_none() && self.others.is_empty() {
            self.only = Some(ticket);
        } else {
            self.others.push_back(ticket);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<dyn Ticket>> {
        self.only.iter().chain(&self.others)
    }

    /// Takes out the ticket with `state`. Messages that were handed over mostly end in order, so it is the first.
    #[inline]
    pub(super) fn remove(&mut self, state: &ReplyState) -> Option<Arc<dyn Ticket>> {
        self.only
            .take_if(|ticket| ptr::eq(ticket.state(), state))
            .or_else(|| {
                let mut others = self.others.iter();
                let index = others.position(|ticket| ptr::eq(ticket.state(), state))?;
                self.others.swap_remove_front(index)
            })
    }

    /// The same for messages that come back, the youngest first.
    pub(super) fn remove_youngest(&mut self, state: &ReplyState) -> Option<Arc<dyn Ticket>> {
        let mut others = self.others.iter();
        match others.rposition(|ticket| ptr::eq(ticket.state(), state)) {
            Some(index) => self.others.swap_remove_back(index),
            None => self.only.take_if(|ticket| ptr::eq(ticket.state(), state)),
        }
    }

    /// The same where the key of the ticket is known, which is quicker, and is left of a message that is lost.
    #[inline]
    pub(super) fn remove_known(&mut self, key: TicketKey) -> Option<Arc<dyn Ticket>> {
        self.only
            .take_if(|ticket| TicketKey::of(ticket) == key)
            .or_else(|| {
                let mut others = self.others.iter();
                let index = others.position(|ticket| TicketKey::of(ticket) == key)?;
                self.others.swap_remove_front(index)
            })
    }
}
