//! Finding one message among all that wait, and why it waits. It goes through all of them, under both locks: it is for
//! people who ask.

use super::Mailbox;
use super::entry::Entry;
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

pub(super) fn is_living<M: Message>(entry: &Entry<M>) -> bool {
    entry.message.state().is_none_or(ReplyState::is_queued)
}

/// Looks for a message among those that go one after the other. `Err`: how many there are, without those that are gone.
pub(super) fn among<'a, M: Message + 'a>(
    entries: impl Iterator<Item = &'a Entry<M>>,
    of: &dyn Fn(&M) -> bool,
) -> Result<(usize, &'a Entry<M>), usize> {
    let mut before = 0;
    for entry in entries.filter(|entry| is_living(entry)) {
        if of(&entry.message) {
            return Ok((before, entry));
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
                let (behind, entry) = match among(inbox.queue.iter(), of) {
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
                    posted: entry.posted_at,
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
        let is_it = |entry: &Entry<M>| !is_living(entry) && of(&entry.message);
        outbox.order.any(&is_it) || inbox.queue.iter().any(is_it)
    }
}
