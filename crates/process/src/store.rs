//! The store: where payloads lie that are too large for the ring.
//!
//! A store is one large, sparse piece of shared memory with one writing process. Other processes map it to read only.
//! Memory is used where something was written, and what is freed stays warm for the next payload, because the faults
//! that bring in new pages cost as much as the copy: up to [`WARM_LIMIT`] in all, then the oldest pages go back to the
//! system. Where blocks begin and end is kept in the writer's own memory, so no reader can disturb it.
//!
//! Everything here is for Linux. Elsewhere `store/absent.rs` takes this module's place, and payloads travel in frames.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::ranges::{Range, Ranges};
use crate::memory::Memory;

#[path = "store/ranges.rs"]
pub(crate) mod ranges;

/// Address space that a store asks for first: more than payloads in flight take, and a small part of what a process
/// has. Half of it, and half of that, is tried where the system refuses.
const LARGEST: usize = 1 << if usize::BITS == 64 { 36 } else { 30 };
/// Below this a store is of no use.
const SMALLEST: usize = 64 << 20;
/// The smallest block. Less is copied through the ring in less time than a block takes.
const UNIT: usize = 16 << 10;
/// Bytes of pages that free blocks may hold on to: a few payloads of some megabytes, and little beside an interpreter.
pub(crate) const WARM_LIMIT: usize = 32 << 20;

/// Distances from a source to its target, modulo [`SLOW_PERIOD`], over which the string instruction that C libraries
/// copy kilobytes with is slow: a fifteenth of the usual speed on current AMD processors. A stream that begins with a
/// few bytes and goes on with an object that begins a few bytes into a page is copied over just such a distance.
const SLOW: std::ops::Range<usize> = 1..16;
const SLOW_PERIOD: usize = 4 << 10;
/// So much at a time is copied with other instructions.
const PIECE: usize = 2 << 10;

/// The writing side of a store.
///
/// Threads share it. After a fork it hands out nothing in the new process, and gives no pages back there: the ranges
/// are the first process's to use.
pub struct Store {
    memory: Memory,
    state: Mutex<State>,
    /// The process that made it.
    owner: u32,
}

struct State {
    ranges: Ranges,
    /// Blocks that another process reads and gives back by number.
    detached: HashMap<u64, Range>,
}

impl Store {
    /// Makes a store; `name` is what tools show for its memory.
    ///
    /// # Errors
    /// The system refused even the smallest one.
    pub fn create(name: &str) -> io::Result<Arc<Self>> {
        let mut len = LARGEST;
        let memory = loop {
            match Memory::create(name, len, true) {
                Ok(memory) => break memory,
                Err(error) if len <= SMALLEST => return Err(error),
                Err(_) => len /= 2,
            }
        };
        // Pages are given back a unit at a time, so a unit is at least a page.
        let unit = UNIT.max(rustix::param::page_size());
        Ok(Arc::new(Self {
            memory,
            state: Mutex::new(State {
                ranges: Ranges::new(unit, len, WARM_LIMIT),
                detached: HashMap::new(),
            }),
            owner: std::process::id(),
        }))
    }

    /// The descriptor that [`View::open`] takes in the other process.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.memory.fd()
    }

    /// The address space it has, in bytes.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.memory.len()
    }

    /// Takes a block of at least `len` bytes, whose contents are anything. None: no such stretch is free.
    #[must_use]
    pub fn allocate(self: &Arc<Self>, len: usize) -> Option<Block> {
        if self.is_forked() {
            return None;
        }
        let range = self.lock().ranges.take(len)?;
        Some(Block {
            store: Arc::clone(self),
            range: Some(range),
            offset: range.offset,
            capacity: range.len,
            len,
        })
    }

    /// Frees a block given up by [`Block::detach`]. False: there is none at `offset`.
    pub fn release(&self, offset: u64) -> bool {
        let Some(range) = self.lock().detached.remove(&offset) else {
            return false;
        };
        self.free(range);
        true
    }

    fn free(&self, range: Range) {
        let mut state = self.lock();
        state.ranges.release(range);
        // The lock is not held while the system works: a range that is being trimmed is in no list.
        while let Some(surplus) = state.ranges.surplus() {
            if self.is_forked() {
                state.ranges.put_back(surplus);
                return;
            }
            drop(state);
            // Should it fail, the pages stay until the range is used again, which is all that can be done.
            let _ = self.memory.punch(surplus.offset, surplus.len);
            state = self.lock();
            state.ranges.put_back(surplus);
        }
    }

    fn is_forked(&self) -> bool {
        std::process::id() != self.owner
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code of others runs under it, and the lists are consistent between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

/// A range of a store that nobody else writes. It is free again when this is dropped.
pub struct Block {
    store: Arc<Store>,
    /// None once detached.
    range: Option<Range>,
    offset: usize,
    capacity: usize,
    len: usize,
}

impl Block {
    /// Where it begins in the store.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset as u64
    }

    /// The length it was asked for.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it was asked for with no length.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes it can take, which may be more than were asked for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Copies `bytes` into it, from `at` on. False: they do not fit, and nothing was written.
    pub fn write(&mut self, at: usize, bytes: &[u8]) -> bool {
        let Some(end) = at.checked_add(bytes.len()) else {
            return false;
        };
        end <= self.capacity && self.touch(end) && self.copy_in(self.offset + at, bytes)
    }

    fn copy_in(&self, offset: usize, bytes: &[u8]) -> bool {
        let memory = &self.store.memory;
        let distance = memory.pointer(offset, bytes.len()).map(|to| {
            let distance = to.addr().get().wrapping_sub(bytes.as_ptr().addr());
            distance % SLOW_PERIOD
        });
        if bytes.len() < PIECE || !distance.is_some_and(|distance| SLOW.contains(&distance)) {
            return memory.copy_in(offset, bytes);
        }
        let mut offsets = (offset..).step_by(PIECE);
        bytes.chunks(PIECE).all(|piece| {
            offsets
                .next()
                .is_some_and(|offset| memory.copy_in(offset, piece))
        })
    }

    /// Copies its first `len` bytes into the beginning of `into`. False: `into` is not of the same store, or one of
    /// the two is too small.
    pub(crate) fn copy_to(&self, len: usize, into: &mut Self) -> bool {
        if !Arc::ptr_eq(&self.store, &into.store) || len > self.capacity || len > into.capacity {
            return false;
        }
        let memory = &self.store.memory;
        let (Some(from), Some(to)) = (
            memory.pointer(self.offset, len),
            memory.pointer(into.offset, len),
        ) else {
            return false;
        };
        into.touch(len);
        #[expect(unsafe_code, reason = "a copy from shared memory to shared memory")]
        // SAFETY: both ranges lie in the mapping, which lives as long as the store; two blocks never overlap, and
        // nobody but their owners writes them.
        unsafe {
            ptr::copy_nonoverlapping(from.as_ptr(), to.as_ptr(), len);
        }
        true
    }

    /// Appends its first `len` bytes to `into`. False: there are less, and nothing was done.
    pub(crate) fn copy_out(&self, len: usize, into: &mut Vec<u8>) -> bool {
        len <= self.capacity && self.store.memory.copy_out(self.offset, len, into)
    }

    /// Gives up ownership: the block stays in use until its offset, returned here, is handed to [`Store::release`].
    #[must_use = "the block stays in use until it is released by this number"]
    pub fn detach(mut self) -> u64 {
        let offset = self.offset();
        if let Some(range) = self.range.take() {
            self.store.lock().detached.insert(offset, range);
        }
        offset
    }

    /// Remembers that the first `end` bytes may have pages.
    fn touch(&mut self, end: usize) -> bool {
        self.range
            .as_mut()
            .map(|range| range.touched = range.touched.max(end))
            .is_some()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if let Some(range) = self.range.take() {
            self.store.free(range);
        }
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block")
            .field("offset", &self.offset)
            .field("len", &self.len)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

/// The reading side of a store that another process writes.
pub struct View {
    memory: Memory,
}

impl View {
    /// Maps the store behind `fd`, to read only.
    ///
    /// # Errors
    /// It cannot be mapped, or the other process could shrink it.
    pub fn open(fd: OwnedFd) -> io::Result<Self> {
        Memory::open(fd, false).map(|memory| Self { memory })
    }

    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.memory.len() as u64
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where a range begins in this process, valid as long as the view. None: it is not within the store.
    ///
    /// The writing process may change the bytes at any time, so no reference to them may be made.
    #[must_use]
    pub fn pointer(&self, offset: u64, len: u64) -> Option<NonNull<u8>> {
        self.memory
            .pointer(usize::try_from(offset).ok()?, usize::try_from(len).ok()?)
    }

    /// Copies a range out. False: it is not within the store, and nothing was copied.
    #[must_use]
    pub fn copy_to(&self, offset: u64, into: &mut [u8]) -> bool {
        let Some(from) = self.pointer(offset, into.len() as u64) else {
            return false;
        };
        #[expect(unsafe_code, reason = "a copy out of shared memory")]
        // SAFETY: the range lies in the mapping, which lives as long as the view, and `into` is ordinary memory. Bytes
        // that change meanwhile are copied in one state or the other; no reference to them is made.
        unsafe {
            ptr::copy_nonoverlapping(from.as_ptr(), into.as_mut_ptr(), into.len());
        }
        true
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
