//! Waiting in line for a place in a full mailbox: the sender's side.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::address::Address;
use crate::handler::{Cell, Handler};
use crate::mailbox::{Entered, LinePlace, Parking};
use crate::message::Message;
use crate::policy::Overflow;
use crate::wait::{self, Blocking};
use crate::wait_error::WaitError;
use crate::worker::{PostError, Worker};

/// A post that waits in line for a place in a full mailbox: see [`Worker::park`].
///
/// The thread that frees a place moves the first message of the line in, whatever its sender does at that moment; so
/// messages get in in the order in which they were parked. Dropped while it waits, the post is withdrawn: its message is
/// dropped, and counts as nothing.
pub struct ParkedPost<H: Handler> {
    cell: Arc<Cell<H>>,
    place: Arc<LinePlace<H::Message>>,
}

impl<H: Handler> fmt::Debug for ParkedPost<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParkedPost")
            .field("worker", &self.cell.name)
            .finish_non_exhaustive()
    }
}

impl<H: Handler> ParkedPost<H> {
    /// Blocks until the message is in or refused, at most for `limit`; false when that has passed.
    ///
    /// # Errors
    /// [`WaitError`] when the caller is the worker's own handler or one that the worker waits for, or its pool would stand
    /// still. The message is still in line.
    pub fn wait(&self, limit: Option<Duration>) -> Result<bool, WaitError> {
        let until = limit.and_then(|limit| Instant::now().checked_add(limit));
        let address = Address(self.cell.clone());
        // Room comes when that worker's handler returns, which it does not while it waits for this one. One that runs
        // many at once does not wait for those that wait, so its room comes.
        if self.cell.exclusive && wait::current().as_ref() == Some(&address) {
            return Err(WaitError::Cycle(vec![self.cell.name.clone()]));
        }
        let waiter = wait::current_waiter();
        let _want = waiter.as_ref().and_then(|_| wait::Want::of(&address));
        let _edge = waiter
            .filter(|_| self.cell.exclusive)
            .map(|waiter| wait::put_up(&waiter, &address, None, false))
            .transpose()?;
        let _blocking = Blocking::enter()?;
        Ok(self.place.wait(until))
    }

    /// Calls `callback` once the message is in or refused: on the thread that made it so, or here and now if it is.
    pub fn on_settled(&self, callback: impl FnOnce() + Send + 'static) {
        self.place.on_settled(Box::new(callback));
    }

    /// Ends the wait, of a thread that is in [`ParkedPost::wait`] too, at the end of its limit.
    ///
    /// # Errors
    /// [`PostError::Full`] with the message, which was still in line and is withdrawn; [`PostError::Stopped`] when the
    /// worker was stopped.
    pub fn finish(&self) -> Result<(), PostError<H::Message>> {
        if let Some(message) = self.withdraw() {
            return Err(PostError::Full(message));
        }
        match self.place.entered() {
            Entered::Refused(Some(message)) => Err(PostError::Stopped(message)),
            Entered::In | Entered::Refused(None) | Entered::Waits => Ok(()),
        }
    }
}

impl<H: Handler> ParkedPost<H> {
    fn withdraw(&self) -> Option<H::Message> {
        let (message, told) = self.cell.mailbox.withdraw(&self.place);
        self.cell.tell(told);
        message
    }
}

impl<H: Handler> Drop for ParkedPost<H> {
    fn drop(&mut self) {
        drop(self.withdraw());
    }
}

impl<H: Handler> Worker<H> {
    /// Posts as [`Worker::try_post`] does, or, under [`Overflow::Block`], leaves the message in the line before a full
    /// mailbox. `None`: it is in. `limit` is the time after which it expires, from here, for a message that is parked; one
    /// that is in gets its deadline by [`Worker::set_deadline`].
    ///
    /// # Errors
    /// [`PostError`] gives the message back.
    pub fn park(
        &self,
        message: H::Message,
        limit: Option<Duration>,
    ) -> Result<Option<ParkedPost<H>>, PostError<H::Message>> {
        let message = match self.try_post(message) {
            Err(PostError::Full(message)) if self.overflow() == Overflow::Block => message,
            posted => return posted.map(|()| None),
        };
        let clock = &*self.cell.pool.inner().clock;
        let deadline = limit.map(|limit| clock.now().after(limit));
        if let (Some(at), Some(state)) = (deadline, message.state()) {
            // For the thread that takes it to be run; the deadline thread is told once it is in.
            state.set_deadline(at);
        }
        match self.cell.mailbox.park(message, deadline, clock) {
            Parking::Posted(tokens) => {
                self.cell.activate(tokens);
                Ok(None)
            }
            Parking::Parked(place) => Ok(Some(ParkedPost {
                cell: self.cell.clone(),
                place,
            })),
            Parking::Closed(message) => Err(PostError::Stopped(message)),
        }
    }

    /// Posts; under [`Overflow::Block`] waits for room, at most for `limit`.
    ///
    /// # Errors
    /// [`PostError`] gives the message back.
    #[inline]
    pub fn post(
        &self,
        message: H::Message,
        limit: Option<Duration>,
    ) -> Result<(), PostError<H::Message>> {
        self.post_from(&mut Some(message), limit)
    }

    /// The same for the message in `place`, which is empty afterwards; without one it does nothing. For a message that was
    /// made there, and is moved on its way into the mailbox alone: that is what costs most of a post.
    ///
    /// # Errors
    /// [`PostError`] with the message.
    #[inline]
    pub fn post_from(
        &self,
        place: &mut Option<H::Message>,
        limit: Option<Duration>,
    ) -> Result<(), PostError<H::Message>> {
        self.post_fast(place);
        match place.take() {
            None => Ok(()),
            Some(message) => self.post_patiently(message, limit),
        }
    }

    /// [`Worker::post`], where there may be no room.
    #[cold]
    #[inline(never)]
    fn post_patiently(
        &self,
        message: H::Message,
        limit: Option<Duration>,
    ) -> Result<(), PostError<H::Message>> {
        let waits = self.overflow() == Overflow::Block;
        let message = match self.post_if_room(message, waits) {
            Err(PostError::Full(message)) if waits => message,
            other => return other,
        };
        match self.park(message, None)? {
            Some(parked) => self.wait_in_line(parked, limit),
            None => Ok(()),
        }
    }

    /// Posts `messages` front first, with one lock and one wake-up for all that fit; under [`Overflow::Block`] waits for room
    /// for the others. Leaves in `messages` what was refused, and returns how many were accepted: not refused, and not
    /// dropped as the newest.
    ///
    /// # Errors
    /// [`PostError`] without a message, and how many were accepted before, when some were refused. Those of a wait that
    /// would deadlock are not counted as rejected.
    pub fn post_many(
        &self,
        messages: &mut VecDeque<H::Message>,
    ) -> Result<usize, (usize, PostError<()>)> {
        let mut accepted = 0;
        loop {
            match self.try_post_many(messages) {
                Ok(more) => return Ok(accepted + more),
                Err((more, PostError::Full(()))) if self.overflow() == Overflow::Block => {
                    accepted += more;
                }
                Err((more, error)) => return Err((accepted + more, error)),
            }
            self.dally();
            let Some(first) = messages.pop_front() else {
                return Ok(accepted);
            };
            let posted = self.park(first, None).and_then(|parked| match parked {
                None => Ok(()),
                Some(parked) => {
                    let waited = parked.wait(None);
                    match (parked.finish(), waited) {
                        (Err(PostError::Full(first)), Err(error)) => Err(not_waited(first, error)),
                        (outcome, _) => outcome,
                    }
                }
            });
            match posted.map_err(PostError::into_parts) {
                Ok(()) => accepted += 1,
                Err((first, error)) => {
                    messages.push_front(first);
                    return Err((accepted, error));
                }
            }
        }
    }

    fn wait_in_line(
        &self,
        parked: ParkedPost<H>,
        limit: Option<Duration>,
    ) -> Result<(), PostError<H::Message>> {
        let waited = parked.wait(limit);
        match (parked.finish(), waited) {
            (Err(PostError::Full(message)), Err(error)) => {
                self.give_up(1);
                Err(not_waited(message, error))
            }
            (Err(PostError::Full(message)), Ok(_)) => {
                self.give_up(1);
                Err(PostError::Full(message))
            }
            (outcome, _) => outcome,
        }
    }
}

/// What a post comes to that may not wait.
fn not_waited<M>(message: M, error: WaitError) -> PostError<M> {
    match error {
        WaitError::ThreadLimit(limit) => PostError::NoThread(message, io::Error::other(limit)),
        _ => PostError::WouldDeadlock(message),
    }
}
