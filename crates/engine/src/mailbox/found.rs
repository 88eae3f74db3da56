//! Finding one message among all that wait, and why it waits. It goes through all of them, under both locks: it is for
//! people who ask.

use super::Mailbox;
use super::inbox::Gate;
use crate::clock::{Clock, Timestamp};
use crate::key::Key;
use crate::message::Message;
use crate::reply::ReplyState;
use crate::whereabouts::Waits;

/// A message that was found in the order, or behind it.
pub(crate) struct Found {
    pub(crate) ahead: usize,
    pub(crate) posted: Option<Timestamp>,
    pub(crate) why: Waits,
    /// For [`Waits::Key`].
    pub(crate) key: Option<Key>,
}

pub(super) fn is_living(message: &impl Message) -> bool {
    message.state().is_none_or(ReplyState::is_queued)
}

/// Looks for a message among those that go one after the other, each with the time of its post. `Err`: how many there are,
/// without those that are gone.
pub(super) fn among<'a, M: Message + 'a>(
    messages: impl Iterator<Item = (&'a M, Option<Timestamp>)>,
    of: &dyn Fn(&M) -> bool,
) -> Result<(usize, Option<Timestamp>), usize> {
    let mut before = 0;
    for (message, posted) in messages.filter(|(message, _)| is_living(*message)) {
        if of(message) {
            return Ok((before, posted));
        }
        before += 1;
    }
    Err(before)
}

impl<M: Message> Mailbox<M> {
    /// The queued message that `of` picks.
    pub(crate) fn find(&self, of: &dyn Fn(&M) -> bool, clock: &dyn Clock) -> Option<Found> {
        let mut outbox = self.outbox.0.lock();
        let mut inbox = self.inbox.0.lock();
        let mut found = match outbox.order.find(&mut inbox.queue, of, clock) {
            Ok(found) => found,
            Err(before) => {
                let (behind, posted) = match among(inbox.queue.iter(), of) {
                    Ok(found) => found,
                    Err(behind) => {
                        let (parked, since) = outbox.line.find(of)?;
                        return Some(Found {
                            ahead: before + behind + parked,
                            posted: Some(since),
                            why: Waits::Room,
                            key: None,
                        });
                    }
                };
                Found {
                    ahead: before + behind,
                    posted,
                    why: Waits::Turn,
                    key: None,
                }
            }
        };
        if inbox.gate == Gate::Paused && found.why == Waits::Turn {
            found.why = Waits::Start;
        }
        Some(found)
    }

    /// Whether the message that `of` picks is gone, and its entry is still here.
    pub(crate) fn is_gone(&self, of: &dyn Fn(&M) -> bool) -> bool {
        let outbox = self.outbox.0.lock();
        let inbox = self.inbox.0.lock();
        let is_it = |message: &M| !is_living(message) && of(message);
        outbox.order.any(&is_it) || inbox.queue.iter().any(|(message, _)| is_it(message))
    }
}
