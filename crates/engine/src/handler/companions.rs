//! Companions: the messages that run together with another one.
//!
//! They were claimed with it and count as running. They are no part of its turn: the handler ends them, and the worker goes
//! on when the one that they run with ends.

use std::fmt;
use std::sync::Arc;
use std::thread;

use super::Handler;
use super::cell::Cell;
use crate::clock::Timestamp;
use crate::contained::contained;
use crate::mailbox::{Entry, Finished};
use crate::message::Message;
use crate::outcome::{Failure, Outcome};
use crate::reply::ReplyState;
use crate::wait;
use crate::wake::Wake;

/// The messages that run together with another one, in their order.
///
/// Dropped without [`Companions::finish`], they fail as if their worker had stopped; in a panic, as panicked.
pub struct Companions<H: Handler> {
    cell: Arc<Cell<H>>,
    entries: Vec<Entry<H::Message>>,
    begun: Timestamp,
}

impl<H: Handler> fmt::Debug for Companions<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Companions")
            .field("worker", &self.cell.name)
            .field("len", &self.entries.len())
            .finish_non_exhaustive()
    }
}

impl<H: Handler> Companions<H> {
    pub(crate) fn new(cell: &Arc<Cell<H>>, entries: Vec<Entry<H::Message>>) -> Self {
        Self {
            cell: cell.clone(),
            entries,
            begun: cell.pool.inner().clock.now(),
        }
    }

    /// How many they are, one at least.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "there are none of none")]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The messages.
    pub fn messages(&self) -> impl Iterator<Item = &H::Message> {
        self.entries.iter().map(|entry| &entry.message)
    }

    /// The messages, to settle their replies.
    pub fn messages_mut(&mut self) -> impl Iterator<Item = &mut H::Message> {
        self.entries.iter_mut().map(|entry| &mut entry.message)
    }

    /// Runs `f` as if on a thread that runs the handler of `message`, which is one of these or the one that they run with.
    pub fn with_current<R>(&self, message: &H::Message, f: impl FnOnce() -> R) -> R {
        wait::instead(self.cell.clone(), message.ticket(), f)
    }

    /// Counts the messages and publishes their replies, with an outcome for each; one that has none has failed.
    pub fn finish(mut self, outcomes: &[Outcome]) {
        let entries = std::mem::take(&mut self.entries);
        self.count(&entries, outcomes);
        let mut wakes = Vec::new();
        for entry in entries {
            // One that unwinds costs the others nothing.
            wakes.extend(contained(|| self.cell.handler.finish(entry.message)));
        }
        drop::<Vec<Wake>>(wakes);
    }

    /// Puts them back to where they were taken from, before all that came later.
    pub fn put_back(mut self) {
        let entries = std::mem::take(&mut self.entries);
        self.cell.swept(self.cell.mailbox.put_back(entries));
    }

    fn count(&self, entries: &[Entry<H::Message>], outcomes: &[Outcome]) {
        let now = self.cell.pool.inner().clock.now();
        let ended = entries.iter().enumerate().map(|(index, entry)| Finished {
            message: &entry.message,
            outcome: outcomes.get(index).copied().unwrap_or(Outcome::Failed),
            timed: entry
                .posted_at
                .map(|posted| (self.begun.since(posted), now.since(self.begun))),
        });
        self.cell.tell(self.cell.mailbox.finish_together(ended));
    }
}

impl<H: Handler> Drop for Companions<H> {
    fn drop(&mut self) {
        let entries = std::mem::take(&mut self.entries);
        if entries.is_empty() {
            return;
        }
        let failure = if thread::panicking() {
            Failure::Panicked
        } else {
            Failure::Stopped
        };
        let _ = contained(|| self.count(&entries, &[]));
        for entry in entries {
            // Whatever it goes down with may be a panic already.
            let _ = contained(|| self.cell.give_up(entry.message, failure));
        }
    }
}

impl<H: Handler> Cell<H> {
    /// Ends a message whose handler will not: its reply may stand.
    pub(crate) fn give_up(&self, message: H::Message, failure: Failure) {
        if message.state().is_some_and(ReplyState::is_settling) {
            drop(self.handler.finish(message));
        } else {
            self.handler.abandon(message, failure);
        }
    }
}
