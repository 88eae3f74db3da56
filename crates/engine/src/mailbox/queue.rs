//! A queue of messages in the order of their coming, which moves each once on its way in, and once on its way out.
//!
//! A message is small, and moving it would be cheap, were it not for the moment: the processor has the parts of what was just
//! written, but lets a move of the whole wait until all of them are in the cache. One such wait takes as long as the lock
//! that goes with it, and a value that is handed through functions, or made empty and filled, waits at each step. So a
//! message lies in a place of its sender's until the lock is taken, which waits for all writes anyway; changes places there
//! with the emptiness of a tray of the ring, which has been empty for a while; and leaves it in the same way.

use std::mem;

use super::entry::Entry;
use crate::clock::Timestamp;

/// A place for a message.
pub(crate) struct Tray<M> {
    pub(crate) message: Option<M>,
    /// When the message was posted, where it is timed.
    pub(crate) posted_at: Option<Timestamp>,
}

impl<M> Tray<M> {
    pub(crate) const fn empty() -> Self {
        Self {
            message: None,
            posted_at: None,
        }
    }

    pub(crate) fn of(entry: Entry<M>) -> Self {
        Self {
            message: Some(entry.message),
            posted_at: entry.posted_at,
        }
    }

    pub(crate) fn take(&mut self) -> Option<Entry<M>> {
        let posted_at = self.posted_at;
        let message = self.message.take();
        message.map(|message| Entry { message, posted_at })
    }
}

/// Trays of a ring that was just made.
const FIRST: usize = 4;

/// A ring of trays, of which `len` are full, from `first` on.
pub(super) struct Queue<M> {
    /// A power of two of them, or none.
    trays: Vec<Tray<M>>,
    first: usize,
    len: usize,
}

impl<M> Queue<M> {
    pub(super) const fn new() -> Self {
        Self {
            trays: Vec::new(),
            first: 0,
            len: 0,
        }
    }

    #[inline]
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many messages it holds without asking for more memory.
    pub(super) const fn capacity(&self) -> usize {
        self.trays.len()
    }

    /// The number of the tray so many behind the first one. Of an empty ring it is out of bounds.
    #[inline]
    const fn at(&self, behind: usize) -> usize {
        (self.first + behind) & self.trays.len().wrapping_sub(1)
    }

    /// Puts the message in `place`, if there is one, behind the others.
    #[inline]
    pub(super) fn push_from(&mut self, place: &mut Option<M>, posted_at: Option<Timestamp>) {
        if place.is_none() {
            return;
        }
        if self.len == self.trays.len() {
            self.grow();
        }
        let last = self.at(self.len);
        if let Some(tray) = self.trays.get_mut(last) {
            mem::swap(&mut tray.message, place);
            tray.posted_at = posted_at;
            self.len += 1;
        }
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self) {
        let full = self.trays.len();
        let trays = (full * 2).max(FIRST);
        // In place, where the allocator can: a large ring is not copied then.
        self.trays.reserve_exact(trays - full);
        self.trays.resize_with(trays, Tray::empty);
        // Those that lay before the first one lie behind the others.
        let (old, new) = self.trays.split_at_mut(full);
        for (from, to) in old[..self.first].iter_mut().zip(new) {
            mem::swap(from, to);
        }
    }

    pub(super) fn push_back(&mut self, entry: Entry<M>) {
        self.push_from(&mut Some(entry.message), entry.posted_at);
    }

    pub(super) fn push_front(&mut self, entry: Entry<M>) {
        if self.len == self.trays.len() {
            self.grow();
        }
        self.first = self.at(self.trays.len() - 1);
        self.trays[self.first] = Tray::of(entry);
        self.len += 1;
    }

    /// The first message, and when it was posted.
    #[inline]
    pub(super) fn front(&self) -> Option<(&M, Option<Timestamp>)> {
        let tray = self.trays.get(self.first)?;
        Some((tray.message.as_ref()?, tray.posted_at))
    }

    /// Takes the first message out, into `next`, which is empty.
    #[inline]
    pub(super) fn pop_into(&mut self, next: &mut Tray<M>) {
        if self.len == 0 {
            return;
        }
        if let Some(tray) = self.trays.get_mut(self.first) {
            mem::swap(&mut tray.message, &mut next.message);
            next.posted_at = tray.posted_at;
            self.first = self.at(1);
            self.len -= 1;
        }
    }

    pub(super) fn pop_front(&mut self) -> Option<Entry<M>> {
        let mut next = Tray::empty();
        self.pop_into(&mut next);
        next.take()
    }

    /// The messages, first to last, and when each was posted.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&M, Option<Timestamp>)> {
        let trays = (0..self.len).filter_map(|behind| self.trays.get(self.at(behind)));
        trays.filter_map(|tray| Some((tray.message.as_ref()?, tray.posted_at)))
    }

    /// Takes them out as they are asked for, first to last.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Entry<M>> + '_ {
        std::iter::from_fn(|| self.pop_front())
    }
}

#[cfg(all(test, not(pytoweb_loom)))]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    fn entry(number: u32) -> Entry<Box<u32>> {
        Entry {
            message: Box::new(number),
            posted_at: number
                .is_multiple_of(2)
                .then(|| Timestamp::from_nanos(u64::from(number))),
        }
    }

    fn seen(entry: Entry<Box<u32>>) -> (u32, Option<Timestamp>) {
        (*entry.message, entry.posted_at)
    }

    #[test]
    fn a_place_without_a_message_adds_none() {
        let mut queue = Queue::<Box<u32>>::new();
        queue.push_from(&mut None, None);
        assert!(queue.is_empty() && queue.front().is_none() && queue.pop_front().is_none());
        let mut next = Tray::empty();
        queue.pop_into(&mut next);
        assert_eq!((next.message, queue.capacity()), (None, 0));
    }

    #[test]
    fn it_is_like_another_queue_in_all_that_is_done_to_it() {
        let (mut queue, mut model) = (Queue::new(), VecDeque::new());
        let mut random = 7_u32;
        for number in 0..20_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // It fills up and becomes empty by turns.
            let fills = number % 128 < 64;
            match (random >> 16) % 8 {
                0 => {
                    queue.push_front(entry(number));
                    model.push_front(seen(entry(number)));
                }
                1 => assert_eq!(queue.pop_front().map(seen), model.pop_front()),
                2 if number % 512 == 2 => {
                    assert!(queue.drain().map(seen).eq(model.drain(..)));
                }
                _ if fills => {
                    let Entry { message, posted_at } = entry(number);
                    let mut place = Some(message);
                    queue.push_from(&mut place, posted_at);
                    assert_eq!(place, None);
                    model.push_back(seen(entry(number)));
                }
                _ => {
                    let mut next = Tray::empty();
                    queue.pop_into(&mut next);
                    assert_eq!(next.take().map(seen), model.pop_front());
                }
            }
            let front = queue.front().map(|(message, at)| (**message, at));
            assert_eq!((front, queue.len()), (model.front().copied(), model.len()));
            let all = queue.iter().map(|(message, at)| (**message, at));
            assert!(all.eq(model.iter().copied()));
        }
    }
}
