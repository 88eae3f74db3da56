//! Companions: the messages that run together with another one.
//!
//! They were claimed with it and count as running. They are no part of its turn: the handler ends them, and the worker goes
//! on when the one that they run with ends.

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::cell::Cell;
use super::{Handler, RunPlace, Span};
use crate::clock::Timestamp;
use crate::contained::contained;
use crate::mailbox::{Entry, Finished, Times, Whence};
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
    /// `None` where one was put back to be tried again.
    entries: Vec<Option<Entry<H::Message>>>,
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
            entries: entries.into_iter().map(Some).collect(),
            begun: cell.pool.inner().clock.now(),
        }
    }

    /// How many they are, one at least.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "there are none of none")]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The messages, but for those that were put back.
    pub fn messages(&self) -> impl Iterator<Item = &H::Message> {
        self.entries.iter().flatten().map(|entry| &entry.message)
    }

    /// The messages, to settle their replies.
    pub fn messages_mut(&mut self) -> impl Iterator<Item = &mut H::Message> {
        let entries = self.entries.iter_mut().flatten();
        entries.map(|entry| &mut entry.message)
    }

    /// The message at `index`, unless it was put back.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&H::Message> {
        self.entries
            .get(index)?
            .as_ref()
            .map(|entry| &entry.message)
    }

    /// The same, to settle its reply.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut H::Message> {
        let entry = self.entries.get_mut(index)?.as_mut();
        entry.map(|entry| &mut entry.message)
    }

    /// Puts messages back into the queue, each to be tried again after the wait that `waits` gives for its index, as
    /// [`Suspension::again`](crate::Suspension::again) does: called in their order, and before the message that they run with is
    /// put back. They have run: what is not put back the caller is to finish, and returns here by its index.
    #[must_use = "what comes back is to be finished"]
    pub fn again(&mut self, waits: impl IntoIterator<Item = (usize, Duration)>) -> Vec<usize> {
        // One time for all: those that wait as long come back together.
        let now = self.cell.pool.inner().clock.now();
        let mut last = Vec::new();
        for (index, wait) in waits {
            let Some(entry) = self.entries.get_mut(index).and_then(Option::take) else {
                continue;
            };
            match self
                .cell
                .mailbox
                .again(entry, now.after(wait), Whence::Company)
            {
                Ok(told) => self.cell.tell(told),
                Err(entry) => {
                    self.entries[index] = Some(entry);
                    last.push(index);
                }
            }
        }
        last
    }

    /// Runs `f` as if on a thread that runs the handler of `message`, which is one of these or the one that they run with.
    pub fn with_current<R>(&self, message: &H::Message, f: impl FnOnce() -> R) -> R {
        wait::instead(self.cell.clone(), message.ticket(), f)
    }

    /// Counts the messages and publishes their replies, with an outcome for each, by its index; one that has none has failed.
    pub fn finish(mut self, outcomes: &[Outcome]) {
        let entries = std::mem::take(&mut self.entries);
        self.count(&entries, outcomes);
        let mut wakes = Vec::new();
        for entry in entries.into_iter().flatten() {
            // One that unwinds costs the others nothing.
            wakes.extend(contained(|| self.cell.handler.finish(entry.message)));
        }
        drop::<Vec<Wake>>(wakes);
    }

    /// Puts them back to where they were taken from, before all that came later.
    pub fn put_back(mut self) {
        let entries = std::mem::take(&mut self.entries);
        let entries = entries.into_iter().flatten().collect();
        self.cell.swept(self.cell.mailbox.put_back(entries));
    }

    fn count(&self, entries: &[Option<Entry<H::Message>>], outcomes: &[Outcome]) {
        let now = self.cell.pool.inner().clock.now();
        let times = |posted| Times {
            wait: self.begun.since(posted),
            run: now.since(self.begun),
            together: 1 + entries.len(),
        };
        let timed = entries.iter().map(|entry| {
            let posted = entry.as_ref().and_then(|entry| entry.posted_at);
            posted.map(times)
        });
        let timed: Vec<_> = timed.collect();
        let ended = entries.iter().zip(&timed).enumerate();
        let ended = ended.filter_map(|(index, (entry, timed))| {
            Some(Finished {
                message: &entry.as_ref()?.message,
                outcome: outcomes.get(index).copied().unwrap_or(Outcome::Failed),
                timed: timed.as_ref(),
            })
        });
        let ended: Vec<_> = ended.collect();
        let handler = &self.cell.handler;
        for finished in &ended {
            if let Some(&Times { wait, run, .. }) = finished.timed {
                let span = Span {
                    wait,
                    run,
                    outcome: finished.outcome,
                    place: RunPlace::Beside,
                };
                handler.timed(finished.message, &span);
            }
            handler.ended(finished.message, finished.outcome);
        }
        self.cell
            .tell(self.cell.mailbox.finish_together(ended.into_iter()));
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
        for entry in entries.into_iter().flatten() {
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
