//! A post: what goes in, what is refused, and what is dropped for it.

use std::collections::VecDeque;

use super::Mailbox;
use super::admission::Verdict;
use super::door::InboxDoor;
use super::entry::{Entry, Leftover};
use super::inbox::{Gate, Inbox};
use super::outbox::Outbox;
use crate::clock::Clock;
use crate::message::Message;
use crate::outcome::{DropReason, Failure};
use crate::policy::Overflow;

/// A post that went in, or was dropped by the policy.
pub(crate) struct Posted<M> {
    /// Tokens handed out: the worker enters the run queue this many times.
    pub(crate) activate: usize,
    pub(crate) leftovers: Vec<Leftover<M>>,
}

/// A post that did not go in; the message comes back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused<M> {
    Full(M),
    Closed(M),
    /// It has more bytes than the mailbox may ever hold.
    TooLarge(M),
    /// Those that are queued have waited too long.
    Shed(M),
}

impl<M> Refused<M> {
    /// The message, and why it was refused.
    pub(crate) fn into_parts(self) -> (M, Refused<()>) {
        match self {
            Self::Full(message) => (message, Refused::Full(())),
            Self::Closed(message) => (message, Refused::Closed(())),
            Self::TooLarge(message) => (message, Refused::TooLarge(())),
            Self::Shed(message) => (message, Refused::Shed(())),
        }
    }
}

impl<M: Message> Mailbox<M> {
    /// Posts the message in `place` if there is room for sure, as far as this side knows, and returns the tokens handed out;
    /// else it stays there, for [`Mailbox::post_exactly`].
    #[inline]
    pub(crate) fn post_fast(&self, place: &mut Option<M>, clock: &dyn Clock) -> Option<usize> {
        let mut inbox = self.inbox.0.lock();
        let message = place.as_ref()?;
        let admission = &inbox.admission;
        if inbox.gate == Gate::Closed
            || inbox.shedding.is_some()
            || !admission.has_room_for(admission.weight(message))
        {
            return None;
        }
        if message.plan().is_some() && (inbox.door.is_none() || replaces(message)) {
            return None;
        }
        inbox.push_from(place, clock);
        Some(inbox.activate(1))
    }

    /// Posts without waiting. A refusal under `Block` is not counted: the sender may wait and try again.
    #[cfg(test)]
    pub(crate) fn try_post(&self, message: M, clock: &dyn Clock) -> Result<Posted<M>, Refused<M>> {
        let mut place = Some(message);
        if let Some(activate) = self.post_fast(&mut place, clock) {
            return Ok(Posted {
                activate,
                leftovers: Vec::new(),
            });
        }
        self.post_exactly(place.take().expect("it is there"), clock)
    }

    /// Posts as many as fit at once, front first, and takes them out of `messages`; drops by the policy count as
    /// posted. Stops at the first refusal.
    pub(crate) fn try_post_many(
        &self,
        messages: &mut VecDeque<M>,
        clock: &dyn Clock,
    ) -> (Posted<M>, Option<Refused<()>>) {
        let mut all = Posted {
            activate: 0,
            leftovers: Vec::new(),
        };
        let planned = messages.iter().any(|message| message.plan().is_some());
        if planned {
            self.plan();
        }
        while !messages.is_empty() {
            let mut inbox = self.inbox.0.lock();
            let room = inbox.admission.room().min(messages.len());
            let fit = if inbox.gate == Gate::Closed || inbox.shedding.is_some() {
                0
            } else if planned || inbox.admission.weighs() {
                // One that replaces another goes alone, where that can be seen.
                let mut bytes = 0;
                let fits = |message: &&M| {
                    bytes += inbox.admission.weight(*message);
                    !replaces(*message) && inbox.admission.has_bytes_for(bytes, 0)
                };
                messages.iter().take(room).take_while(fits).count()
            } else {
                room
            };
            for message in messages.drain(..fit) {
                inbox.push(message, clock);
            }
            all.activate += inbox.activate(fit);
            drop(inbox);
            let Some(message) = messages.pop_front() else {
                break;
            };
            match self.post_exactly(message, clock) {
                Ok(posted) => {
                    all.activate += posted.activate;
                    all.leftovers.extend(posted.leftovers);
                }
                Err(refused) => {
                    let (message, refused) = refused.into_parts();
                    messages.push_front(message);
                    return (all, Some(refused));
                }
            }
        }
        (all, None)
    }

    /// Posts under both locks, where the count is exact and the policy applies. A refusal under `Block` is not counted:
    /// the sender may wait and try again.
    #[cold]
    pub(crate) fn post_exactly(
        &self,
        message: M,
        clock: &dyn Clock,
    ) -> Result<Posted<M>, Refused<M>> {
        let mut outbox = self.outbox.0.lock();
        let mut guard = self.inbox.0.lock();
        let inbox = &mut *guard;
        inbox.admission.see(&outbox.accounts);
        inbox.admission.set_waited_for(outbox.line.waits());
        let mut leftovers = Vec::new();
        if inbox.gate == Gate::Closed {
            return Err(Refused::Closed(message));
        }
        if message.plan().is_some() {
            keep_planned(&mut outbox, inbox);
        }
        let message = if replaces(&message) {
            match Self::replace(&mut outbox, inbox, message, clock) {
                Ok(posted) => return Ok(posted),
                Err(message) => message,
            }
        } else {
            message
        };
        if let Some(shedding) = &mut inbox.shedding
            && shedding.refuses(outbox.order.oldest(&inbox.queue), clock.now())
        {
            inbox.admission.count_shed();
            return Err(Refused::Shed(message));
        }
        let bytes = inbox.admission.weight(&message);
        let verdict = inbox.admission.verdict(bytes);
        if !matches!(verdict, Verdict::Enter | Verdict::TooLarge) {
            inbox.admission.note_full(|| clock.now());
        }
        match verdict {
            Verdict::Enter => {}
            Verdict::Full => return Err(Refused::Full(message)),
            Verdict::Reject => {
                inbox.admission.count_rejected(1);
                return Err(Refused::Full(message));
            }
            Verdict::DropIt => {
                // No other thread has seen it; claimed like all that leave, so that its reply settles alike.
                message.claim();
                inbox.admission.count_dropped_newest();
                leftovers.push((message, Failure::Dropped(DropReason::Newest)));
                return Ok(Posted {
                    activate: 0,
                    leftovers,
                });
            }
            Verdict::TooLarge => {
                inbox.admission.count_rejected(1);
                return Err(Refused::TooLarge(message));
            }
            Verdict::DropOldest => {
                // What is dropped has its bytes until it is; they are as good as free.
                let mut freed = 0;
                loop {
                    let oldest = outbox.order.pop_oldest(&mut inbox.queue, &mut leftovers);
                    let Some(entry) = oldest else { break };
                    freed += inbox.admission.weight(&entry.message);
                    let failure = Failure::Dropped(DropReason::Oldest);
                    outbox.accounts.fail(1, failure);
                    leftovers.push((entry.message, failure));
                    inbox.admission.see(&outbox.accounts);
                    if inbox.admission.has_bytes_for(bytes, freed) {
                        break;
                    }
                }
            }
        }
        inbox.push(message, clock);
        Ok(Posted {
            activate: inbox.activate(1),
            leftovers,
        })
    }

    /// Keeps order by plans from now on.
    fn plan(&self) {
        let mut outbox = self.outbox.0.lock();
        let mut inbox = self.inbox.0.lock();
        keep_planned(&mut outbox, &mut inbox);
    }

    /// Puts a message in the place of the queued one that it replaces. `Err`: it replaces none.
    fn replace(
        outbox: &mut Outbox<M>,
        inbox: &mut Inbox<M>,
        message: M,
        clock: &dyn Clock,
    ) -> Result<Posted<M>, M> {
        let entry = inbox.entry(message, clock);
        match replace(outbox, inbox, entry) {
            Err(entry) => Err(entry.message),
            Ok(old) => Ok(Posted {
                // One to look at the time until which this one sleeps.
                activate: inbox.activate(1),
                leftovers: vec![old],
            }),
        }
    }

    /// Whether the oldest one is dropped for one of `messages`.
    pub(crate) fn drops_oldest_for<'a>(&self, messages: impl IntoIterator<Item = &'a M>) -> bool {
        if self.overflow != Overflow::DropOldest {
            return false;
        }
        let (mut count, mut bytes) = (0, 0);
        for message in messages {
            count += 1;
            bytes += self.weight(message);
        }
        let outbox = self.outbox.0.lock();
        let mut inbox = self.inbox.0.lock();
        inbox.admission.see(&outbox.accounts);
        let fit = inbox.admission.room() >= count && inbox.admission.has_bytes_for(bytes, 0);
        inbox.gate != Gate::Closed && !fit
    }

    /// Counts a post that its sender drops for want of room elsewhere.
    pub(crate) fn count_dropped_newest(&self) {
        self.inbox.0.lock().admission.count_dropped_newest();
    }

    /// Counts posts that a sender gave up because there was no room.
    pub(crate) fn count_rejected(&self, posts: usize) {
        self.inbox.0.lock().admission.count_rejected(posts);
    }
}

/// Has the order keep to plans from now on.
pub(super) fn keep_planned<M: Message>(outbox: &mut Outbox<M>, inbox: &mut Inbox<M>) {
    if inbox.door.is_none() {
        let door = inbox.door.insert(InboxDoor::new());
        outbox.order.plan(door.knock());
    }
}

/// Whether a message takes the place of another one.
pub(super) fn replaces(message: &impl Message) -> bool {
    message
        .plan()
        .is_some_and(|plan| plan.more().replaces.is_some())
}

/// Puts a message in the place of the queued one that it replaces, which comes back. `Err`: there is none.
pub(super) fn replace<M: Message>(
    outbox: &mut Outbox<M>,
    inbox: &mut Inbox<M>,
    entry: Entry<M>,
) -> Result<Leftover<M>, Entry<M>> {
    let admission = &inbox.admission;
    let bytes = admission.weight(&entry.message);
    let fits = |old: &M| admission.has_bytes_for(bytes, admission.weight(old));
    let old = outbox.order.replace(entry, &mut inbox.queue, &fits)?;
    let failure = Failure::Dropped(DropReason::Replaced);
    inbox.admission.enter(bytes);
    outbox.accounts.fail(1, failure);
    inbox.admission.see(&outbox.accounts);
    Ok((old.message, failure))
}
