//! A ring in memory that is shared with another process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{RingMemory, is_capacity};
use crate::memory::{Memory, SharedAtomics};

/// Where a ring lies in a [`Memory`].
#[derive(Clone, Debug)]
pub(crate) struct RingSpan {
    memory: Arc<Memory>,
    head: SharedAtomics<AtomicU64>,
    tail: SharedAtomics<AtomicU64>,
    /// Of the first byte of data; a multiple of eight. All `capacity` bytes lie within the memory.
    data: usize,
    capacity: usize,
}

impl RingSpan {
    /// A ring of `capacity` bytes at `data`, with its two counts elsewhere; none if anything is out of place.
    pub(crate) fn new(
        memory: &Arc<Memory>,
        head: usize,
        tail: usize,
        data: usize,
        capacity: usize,
    ) -> Option<Self> {
        memory.pointer(data, capacity)?;
        let fits = is_capacity(capacity) && data.is_multiple_of(align_of::<AtomicU64>());
        fits.then_some(Self {
            memory: memory.clone(),
            head: memory.share(head)?,
            tail: memory.share(tail)?,
            data,
            capacity,
        })
    }
}

// What `new` checked makes every access below succeed; a range that does not fit would be left out, not touched.
impl RingMemory for RingSpan {
    type Index = AtomicU64;

    #[inline]
    fn capacity(&self) -> usize {
        self.capacity
    }

    #[inline]
    fn head(&self) -> &AtomicU64 {
        &self.head
    }

    #[inline]
    fn tail(&self) -> &AtomicU64 {
        &self.tail
    }

    #[inline]
    fn header(&self, at: usize) -> u64 {
        let header = self.memory.atomic_u64(self.data + at);
        debug_assert!(header.is_some());
        // ORDERING: the count that covers the frame was loaded before; atomic to be read once, and whole.
        header.map_or(0, |header| header.load(Ordering::Relaxed))
    }

    #[inline]
    fn set_header(&self, at: usize, header: u64) {
        let place = self.memory.atomic_u64(self.data + at);
        debug_assert!(place.is_some());
        if let Some(place) = place {
            // ORDERING: the count that covers the frame is published after it.
            place.store(header, Ordering::Relaxed);
        }
    }

    #[inline]
    fn read(&self, at: usize, len: usize, into: &mut Vec<u8>) {
        let copied = self.memory.copy_out(self.data + at, len, into);
        debug_assert!(copied);
    }

    #[inline]
    fn write(&self, at: usize, bytes: &[u8]) {
        let copied = self.memory.copy_in(self.data + at, bytes);
        debug_assert!(copied);
    }
}
