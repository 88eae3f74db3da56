//! A message whose handler goes on outside the pool's threads.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::cell::Cell;
use super::{Handler, RunKey, RunPlace, Span};
use crate::address::Address;
use crate::clock::Timestamp;
use crate::contained::contained;
use crate::mailbox::{Entry, Finished, Times, Whence};
use crate::outcome::{Failure, Outcome};

/// A message whose handler goes on outside the pool's threads.
///
/// Dropped without [`Suspension::finish`], the message fails as if its worker had stopped.
pub struct Suspension<H: Handler> {
    pub(crate) cell: Arc<Cell<H>>,
    pub(crate) message: Option<H::Message>,
    /// It is the worker's last message, which counts as nothing.
    pub(crate) is_last: bool,
    /// Where its run has a limit.
    pub(crate) run: Option<RunKey>,
    /// When it was posted and when it was begun, if it is timed.
    pub(crate) times: Option<(Timestamp, Timestamp)>,
    /// With how many it runs together, itself included.
    pub(crate) together: usize,
}

impl<H: Handler> fmt::Debug for Suspension<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suspension")
            .field("worker", &self.cell.name)
            .finish_non_exhaustive()
    }
}

impl<H: Handler> Suspension<H> {
    /// The message.
    pub const fn message(&self) -> Option<&H::Message> {
        self.message.as_ref()
    }

    /// The message, to settle its reply.
    pub const fn message_mut(&mut self) -> Option<&mut H::Message> {
        self.message.as_mut()
    }

    /// The handler of the worker.
    #[must_use]
    pub fn handler(&self) -> &H {
        &self.cell.handler
    }

    /// The worker.
    #[must_use]
    pub fn address(&self) -> Address {
        Address(self.cell.clone())
    }

    /// How long it waited, and how long it has run, if it is timed.
    #[must_use]
    pub fn times(&self) -> Option<(Duration, Duration)> {
        let (posted, started) = self.times?;
        let now = self.cell.pool.inner().clock.now();
        Some((started.since(posted), now.since(started)))
    }

    /// Counts the message, publishes its reply, and lets the worker go on.
    pub fn finish(mut self, outcome: Outcome) {
        if let Some(message) = self.message.take() {
            let _resume = Resume(&self.cell);
            self.count(&message, outcome);
            drop(self.cell.handler.finish(message));
        }
    }

    /// Puts the message back into the queue, to be tried again after `wait`, and lets the worker go on. With a key it keeps
    /// its place before the others of that; without one they go past it meanwhile. `Some`: nothing has changed, and the
    /// caller is to finish it: the worker has stopped, or a deadline or a cancel was first.
    #[must_use = "what comes back is to be finished"]
    pub fn again(mut self, wait: Duration) -> Option<Self> {
        if self.is_last {
            return Some(self);
        }
        let message = self.message.take()?;
        let entry = Entry {
            message,
            posted_at: self.times.map(|(posted, _)| posted),
        };
        let at = self.cell.pool.inner().clock.now().after(wait);
        match self.cell.mailbox.again(entry, at, Whence::Turn) {
            Ok(told) => {
                let _resume = Resume(&self.cell);
                self.cell.clear_stuck();
                self.cell.overruns.end(self.run.take());
                self.cell.tell(told);
                None
            }
            Err(entry) => {
                self.message = Some(entry.message);
                Some(self)
            }
        }
    }

    fn count(&self, message: &H::Message, outcome: Outcome) {
        self.cell.overruns.end(self.run);
        if self.is_last {
            return;
        }
        let timed = self.times().map(|(wait, run)| Times {
            wait,
            run,
            together: self.together,
        });
        if let Some(Times { wait, run, .. }) = timed {
            let place = RunPlace::Suspended;
            let span = Span {
                wait,
                run,
                outcome,
                place,
            };
            self.cell.handler.timed(message, &span);
        }
        self.cell.handler.ended(message, outcome);
        self.cell.mailbox.finish_suspended(&Finished {
            message,
            outcome,
            timed: timed.as_ref(),
        });
        self.cell.clear_stuck();
    }
}

/// Gives the token of a suspended message back to the run queue, also when its end unwinds.
struct Resume<'a, H: Handler>(&'a Arc<Cell<H>>);

impl<H: Handler> Drop for Resume<'_, H> {
    fn drop(&mut self) {
        let pool = self.0.pool.inner();
        pool.push(self.0.clone());
        pool.scheduler.suspended(false);
    }
}

impl<H: Handler> Drop for Suspension<H> {
    fn drop(&mut self) {
        if let Some(message) = self.message.take() {
            let _resume = Resume(&self.cell);
            // Whatever it goes down with may be a panic already.
            let _ = contained(|| {
                self.count(&message, Outcome::Failed);
                self.cell.handler.abandon(message, Failure::Stopped);
            });
        }
    }
}
