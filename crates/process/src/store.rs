//! The store: where payloads lie that are too large for the ring.
//!
//! A store is one large, sparse piece of shared memory with one writing process. Other processes read it. Memory is used
//! where something was written, and what is freed stays warm for the next payload, because the faults that bring in new
//! pages cost as much as the copy: up to [`WARM_LIMIT`] in all, then the oldest pages go back to the system, and nearly
//! all of them after a burst ([`cool_stores`]). Address space is used where a payload lies (`store/windows.rs`). Where
//! blocks begin and end is kept in the writer's own memory, so no reader can disturb it.
//!
//! Everything here is for Linux. Elsewhere `store/absent.rs` takes this module's place, and payloads travel in frames.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use self::ranges::{Range, Ranges};
pub(crate) use self::windows::Window;
use self::windows::Windows;
use crate::copy;
use crate::memory::SharedFile;

#[path = "store/ranges.rs"]
pub(crate) mod ranges;
#[path = "store/windows.rs"]
mod windows;

/// The bytes of a store: more than payloads in flight take. Nothing is used for them. Half of it, and half of that, is
/// tried where the system limits the size of files (`ulimit -f`).
const LARGEST: usize = 1 << if usize::BITS == 64 { 36 } else { 30 };
/// Below this a store is of no use.
const SMALLEST: usize = 64 << 20;
/// The smallest block. Less is copied through the ring in less time than a block takes.
const UNIT: usize = 16 << 10;
/// Bytes of pages that free blocks of one store may hold on to: some payloads of some megabytes each.
pub(crate) const WARM_LIMIT: usize = 32 << 20;
/// The same once a burst is over: see [`cool_stores`].
pub(crate) const COOL_LIMIT: usize = 2 << 20;

/// The stores of this process, and of the one that it was forked from.
static STORES: Mutex<Vec<Weak<Store>>> = Mutex::new(Vec::new());

/// Gives the pages back that free blocks hold on to, in every store that this process writes: a burst of large messages
/// is over. The next payloads of some megabytes bring in new ones.
pub fn cool_stores() {
    let stores: Vec<Arc<Store>> = match STORES.try_lock() {
        Ok(mut known) => {
            known.retain(|store| store.strong_count() > 0);
            known.iter().filter_map(Weak::upgrade).collect()
        }
        // A store is being made, or the lock was held in the process that this one was forked from: not this time.
        Err(_) => return,
    };
    for store in stores {
        store.cool();
    }
}

/// Distances from a source to its target, modulo [`SLOW_PERIOD`], over which the string instruction that C libraries
/// copy kilobytes with is slow: a fifteenth of the usual speed on current AMD processors. A stream that begins with a
/// few bytes and goes on with an object that begins a few bytes into a page is copied over just such a distance.
const SLOW: std::ops::Range<usize> = 1..16;
const SLOW_PERIOD: usize = 4 << 10;
/// So much at a time is copied with other instructions.
const PIECE: usize = 2 << 10;
/// What is copied at once from block to block where one of them is not mapped.
const BOUNCE: usize = 64 << 10;

/// The writing side of a store.
///
/// Threads share it. After a fork it hands out nothing in the new process, and gives no pages back there: the ranges
/// are the first process's to use.
pub struct Store {
    windows: Windows,
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
    /// The system has no memory of the kind, or refused even the smallest one.
    pub fn create(name: &str) -> io::Result<Arc<Self>> {
        let mut len = LARGEST;
        let file = loop {
            match SharedFile::create(name, len, true) {
                Ok(file) => break file,
                Err(error) if len <= SMALLEST => return Err(error),
                Err(_) => len /= 2,
            }
        };
        // Pages are given back a unit at a time, so a unit is at least a page.
        let unit = UNIT.max(rustix::param::page_size());
        let made = Arc::new(Self {
            windows: Windows::new(file),
            state: Mutex::new(State {
                ranges: Ranges::new(unit, len),
                detached: HashMap::new(),
            }),
            owner: std::process::id(),
        });
        if let Ok(mut stores) = STORES.try_lock() {
            stores.retain(|store| store.strong_count() > 0);
            stores.push(Arc::downgrade(&made));
        }
        Ok(made)
    }

    /// The descriptor that [`View::open`] takes in the other process.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.windows.file().fd()
    }

    /// How many bytes it has room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.windows.file().len()
    }

    /// The address space that it takes now, in bytes.
    #[must_use]
    pub fn mapped(&self) -> usize {
        self.windows.mapped()
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
            window: self.windows.open(range.offset, range.len),
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
        self.lock().ranges.release(range);
        self.give_back_above(WARM_LIMIT);
    }

    /// As [`cool_stores`], this one.
    pub(crate) fn cool(&self) {
        self.give_back_above(COOL_LIMIT);
    }

    fn give_back_above(&self, limit: usize) {
        let mut state = self.lock();
        // The lock is not held while the system works: a range that is being trimmed is in no list.
        while let Some(surplus) = state.ranges.surplus(limit) {
            if self.is_forked() {
                state.ranges.put_back(surplus);
                return;
            }
            drop(state);
            // Should it fail, the pages stay until the range is used again, which is all that can be done.
            let _ = self.windows.file().punch(surplus.offset, surplus.len);
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

/// A range of a store that no other code writes. It is free again when this is dropped.
pub struct Block {
    store: Arc<Store>,
    /// None once detached.
    range: Option<Range>,
    /// None where the system refused it.
    window: Option<Window>,
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

    /// Copies `bytes` into it, from `at` on. False: they do not fit, and nothing was written, or the system has no memory
    /// for them.
    pub fn write(&mut self, at: usize, bytes: &[u8]) -> bool {
        let Some(end) = at.checked_add(bytes.len()) else {
            return false;
        };
        end <= self.capacity && self.touch(end) && self.copy_in(at, bytes)
    }

    fn copy_in(&self, at: usize, bytes: &[u8]) -> bool {
        let Some(window) = &self.window else {
            let file = self.store.windows.file();
            return file.write_at(self.offset + at, bytes).is_ok();
        };
        let distance = window.pointer(at, bytes.len()).map(|to| {
            let distance = to.addr().get().wrapping_sub(bytes.as_ptr().addr());
            distance % SLOW_PERIOD
        });
        if bytes.len() < PIECE || !distance.is_some_and(|distance| SLOW.contains(&distance)) {
            return window.copy_in(at, bytes);
        }
        let mut offsets = (at..).step_by(PIECE);
        bytes.chunks(PIECE).all(|piece| {
            offsets
                .next()
                .is_some_and(|offset| window.copy_in(offset, piece))
        })
    }

    /// Copies its first `len` bytes into the beginning of `into`. False: `into` is not of the same store, one of the two
    /// is too small, or the system has no memory for them.
    pub(crate) fn copy_to(&self, len: usize, into: &mut Self) -> bool {
        if !Arc::ptr_eq(&self.store, &into.store) || len > self.capacity || len > into.capacity {
            return false;
        }
        into.touch(len);
        let windows = self.window.as_ref().zip(into.window.as_ref());
        let Some((from, to)) =
            windows.and_then(|(from, to)| from.pointer(0, len).zip(to.pointer(0, len)))
        else {
            return self.bounce_to(len, into);
        };
        #[expect(unsafe_code, reason = "a copy from shared memory to shared memory")]
        // SAFETY: both ranges are mapped as long as their windows live; two blocks never overlap, and nothing but their
        // owners writes them.
        unsafe {
            copy::between(from, to, len);
        }
        true
    }

    /// As [`Self::copy_to`], by way of ordinary memory.
    fn bounce_to(&self, len: usize, into: &Self) -> bool {
        let mut piece = vec![0; BOUNCE.min(len)];
        (0..len).step_by(BOUNCE).all(|at| {
            let piece = &mut piece[..BOUNCE.min(len - at)];
            self.copy_piece(at, piece) && into.copy_in(at, piece)
        })
    }

    /// Appends its first `len` bytes to `into`. False: there are less, or no memory for them, and nothing was done.
    pub(crate) fn copy_out(&self, len: usize, into: &mut Vec<u8>) -> bool {
        if len > self.capacity || into.try_reserve(len).is_err() {
            return false;
        }
        let start = into.len();
        into.resize(start + len, 0);
        let copied = self.copy_piece(0, &mut into[start..]);
        if !copied {
            into.truncate(start);
        }
        copied
    }

    fn copy_piece(&self, at: usize, into: &mut [u8]) -> bool {
        self.store
            .windows
            .file()
            .read_at(self.offset + at, into)
            .is_ok()
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
        if let Some(window) = self.window.take() {
            self.store.windows.close(window);
        }
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
    windows: Windows,
}

impl View {
    /// Takes the store behind `fd`, to read only.
    ///
    /// # Errors
    /// It is no store, or the other process could shrink it.
    pub fn open(fd: OwnedFd) -> io::Result<Self> {
        let windows = Windows::new(SharedFile::open(fd, false)?);
        Ok(Self { windows })
    }

    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.windows.file().len() as u64
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a range lies within the store.
    #[must_use]
    pub fn contains(&self, offset: u64, len: u64) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.len())
    }

    /// Maps a range that is within the store. None: it is not, or the system refuses.
    ///
    /// The writing process may change the bytes at any time, so no reference to them may be made.
    pub(crate) fn window(&self, offset: u64, len: u64) -> Option<Window> {
        self.windows
            .open(usize::try_from(offset).ok()?, usize::try_from(len).ok()?)
    }

    /// The address space that it takes now, in bytes.
    #[must_use]
    pub fn mapped(&self) -> usize {
        self.windows.mapped()
    }

    /// Takes a window back.
    pub(crate) fn close(&self, window: Window) {
        self.windows.close(window);
    }

    /// Copies a range out, without mapping it. False: it is not within the store, or could not be read.
    #[must_use]
    pub fn copy_to(&self, offset: u64, into: &mut [u8]) -> bool {
        let file = self.windows.file();
        usize::try_from(offset).is_ok_and(|offset| file.read_at(offset, into).is_ok())
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
