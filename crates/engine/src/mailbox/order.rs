//! Order: which queued message goes next. First in, first out.
//!
//! The worker's side of the queue. Senders push into the queue of the inbox; when the worker has used up its own, the two
//! are swapped. A message that is cancelled or expires in the queue stays in its place as a *tombstone* until the worker
//! comes by, or until tombstones outnumber the living, and then all are swept.

use std::collections::VecDeque;

use super::entry::{Entry, Leftover, Punctual, buried};
use crate::message::Message;
use crate::reply::ReplyState;

/// Buffers larger than this many entries are given back to the allocator before the worker's thread sleeps: an idle
/// worker keeps at most 2 KiB or so of them.
const KEEP_ENTRIES: usize = 32;

/// What a worker that wants to run a message finds.
pub(super) enum Popped<M> {
    /// A message, claimed.
    Message(Entry<M>),
    /// One whose deadline has passed, among the leftovers.
    Expired,
    Nothing,
}

pub(super) struct Order<M> {
    batch: VecDeque<Entry<M>>,
    /// Entries here or in the inbox that are gone already.
    tombstones: usize,
}

impl<M: Message> Order<M> {
    pub(super) const fn new() -> Self {
        Self {
            batch: VecDeque::new(),
            tombstones: 0,
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.batch.len()
    }

    /// Goes on with what senders have pushed since, once its own are used up.
    #[inline]
    pub(super) fn refill(&mut self, queue: &mut VecDeque<Entry<M>>) {
        std::mem::swap(&mut self.batch, queue);
    }

    /// Takes the next message to run it. Tombstones on the way are cleared.
    #[inline]
    pub(super) fn pop_to_run(
        &mut self,
        punctual: &mut Punctual<'_>,
        leftovers: &mut Vec<Leftover<M>>,
    ) -> Popped<M> {
        while let Some(entry) = self.batch.front() {
            if punctual.expires(&entry.message) {
                leftovers.extend(self.batch.pop_front().map(|entry| buried(entry.message)));
                return Popped::Expired;
            }
            if entry.message.claim() {
                return self
                    .batch
                    .pop_front()
                    .map_or(Popped::Nothing, Popped::Message);
            }
            self.tombstones -= 1;
            leftovers.extend(self.batch.pop_front().map(|entry| buried(entry.message)));
        }
        Popped::Nothing
    }

    /// Takes the oldest living message, here or in the inbox's `queue`, claimed.
    pub(super) fn pop_oldest(
        &mut self,
        queue: &mut VecDeque<Entry<M>>,
        leftovers: &mut Vec<Leftover<M>>,
    ) -> Option<Entry<M>> {
        for buffer in [&mut self.batch, queue] {
            while let Some(entry) = buffer.pop_front() {
                if entry.message.claim() {
                    return Some(entry);
                }
                self.tombstones -= 1;
                leftovers.push(buried(entry.message));
            }
        }
        None
    }

    /// Puts a message back that goes next.
    pub(super) fn put_back(&mut self, entry: Entry<M>) {
        self.batch.push_front(entry);
    }

    /// So many messages, here or in the inbox's `queue`, were claimed for removal.
    pub(super) fn bury(
        &mut self,
        count: usize,
        queue: &mut VecDeque<Entry<M>>,
        leftovers: &mut Vec<Leftover<M>>,
    ) {
        self.tombstones += count;
        if self.tombstones * 2 <= self.batch.len() + queue.len() {
            return;
        }
        for buffer in [&mut self.batch, queue] {
            for entry in std::mem::take(buffer) {
                let state = entry.message.state();
                if state.is_none_or(ReplyState::is_queued) {
                    buffer.push_back(entry);
                } else {
                    leftovers.push(buried(entry.message));
                }
            }
        }
        self.tombstones = 0;
    }

    /// Whether the buffers are large enough to give them back.
    pub(super) fn is_roomy(&self, queue: &VecDeque<Entry<M>>) -> bool {
        self.batch.capacity().max(queue.capacity()) > KEEP_ENTRIES
    }

    /// Gives large buffers back that are empty.
    pub(super) fn shrink(&mut self, queue: &mut VecDeque<Entry<M>>) {
        for buffer in [&mut self.batch, queue] {
            if buffer.capacity() > KEEP_ENTRIES && buffer.is_empty() {
                *buffer = VecDeque::new();
            }
        }
    }
}
