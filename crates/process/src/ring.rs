//! A ring of bytes that carries frames of any size from one process to the other.
//!
//! One side produces, the other consumes. `tail` counts the bytes ever produced and `head` the bytes ever consumed;
//! each is written by one side only, keeps counting past the end of the ring (the place in the ring is the count
//! modulo the capacity) and so tells full from empty without a flag. A frame is a header of eight bytes, the bytes
//! themselves, and padding to the next multiple of eight:
//!
//! ```text
//! | len: u32 | stamp: u32 | len bytes, split in two at the end of the ring | 0..7 bytes of padding |
//! ```
//!
//! Headers never wrap: frames start at multiples of eight, and the capacity is one.
//!
//! **Neither side trusts the other.** Each keeps its own count in private memory and only publishes it; what it reads
//! of the other's is read once and checked before use. A count or a header that an honest peer could not have written
//! is a [`Violation`]; anything else it writes yields at worst a frame of bytes that make no sense. No call here loops
//! over what the other side says, so each ends after work bounded by the longest frame.
//!
//! `README.md` beside `src` has the whole protocol, step by step.

#[cfg(target_os = "linux")]
#[path = "ring/sides.rs"]
mod sides;
#[cfg(target_os = "linux")]
#[path = "ring/span.rs"]
mod span;

use std::fmt;

use crate::sync::{Atomic, Ordering};

#[cfg(target_os = "linux")]
pub(crate) use sides::{ChildSide, HostSide, SharedBell, SharedClaims};
#[cfg(target_os = "linux")]
pub(crate) use span::RingSpan;

/// The bytes of each ring: four of the largest frames that the layer above makes, or some two thousand small ones.
///
/// Enough that a sender sleeps rarely, little enough for both rings to stay in a core's own cache, and a ring that is
/// never filled occupies only the pages it has touched.
pub(crate) const CAPACITY: usize = 256 * 1024;

/// The bytes before those of a frame.
const HEADER: usize = 8;
/// What frames are padded to, so that a header is one aligned number.
const ALIGN: u64 = 8;

/// The memory of one ring.
///
/// Places are offsets into the data, below the capacity. The ring never asks for a range that goes beyond it.
pub(crate) trait RingMemory {
    /// The type of the two counts.
    type Index: Atomic<u64>;

    /// The bytes of data: see [`is_capacity`], and always the same.
    fn capacity(&self) -> usize;

    /// The bytes ever consumed.
    fn head(&self) -> &Self::Index;

    /// The bytes ever produced.
    fn tail(&self) -> &Self::Index;

    /// Reads a header, once: it is not torn even if the other side writes at the same time.
    fn header(&self, at: usize) -> u64;

    fn set_header(&self, at: usize, header: u64);

    /// Appends a copy of `len` bytes of data to `into`.
    fn read(&self, at: usize, len: usize, into: &mut Vec<u8>);

    fn write(&self, at: usize, bytes: &[u8]);
}

/// What no honest peer would do. The ring is of no use afterwards: the other process is to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// The other side's count says that it has consumed what was not produced, or produced more than there is room
    /// for, or that it stands in the middle of a frame.
    Index,
    /// A frame does not start with the header that belongs there.
    Header,
    /// This side was asked to push a frame longer than [`Producer::max_frame`]. Nothing was written.
    TooLong,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Index => "the other process left nonsense in an index of the ring",
            Self::Header => "the other process left nonsense in the header of a frame",
            Self::TooLong => "a frame is longer than the ring can carry",
        })
    }
}

impl std::error::Error for Violation {}

/// The end of a ring that frames go into.
#[derive(Debug)]
pub(crate) struct Producer<M> {
    memory: M,
    /// The bytes produced. The number in shared memory is a copy of this, never its source.
    tail: u64,
    /// The consumer's count when this side looked last. Checked: at most `tail`, and by no more than the capacity.
    seen_head: u64,
}

impl<M: RingMemory> Producer<M> {
    /// The producer of a ring that nothing has passed through.
    pub(crate) fn new(memory: M) -> Self {
        debug_assert!(is_capacity(memory.capacity()));
        Self {
            memory,
            tail: 0,
            seen_head: 0,
        }
    }

    /// The bytes of the longest frame. Half of the ring, so that none waits for the ring to be all but empty.
    pub(crate) fn max_frame(&self) -> usize {
        max_frame(self.memory.capacity())
    }

    /// Appends one frame made of `parts`; false when there is no room now. The frame is visible to the other side
    /// when this returns. Does not block, and wakes no thread.
    ///
    /// # Errors
    /// [`Violation::Index`], and [`Violation::TooLong`]. Nothing was appended.
    pub(crate) fn push(&mut self, parts: &[&[u8]]) -> Result<bool, Violation> {
        let len = parts
            .iter()
            .fold(0, |sum: usize, part| sum.saturating_add(part.len()));
        if len > self.max_frame() {
            return Err(Violation::TooLong);
        }
        let size = frame_size(len);
        if !self.reserve(size)? {
            return Ok(false);
        }

        let capacity = self.memory.capacity();
        let header = header(self.tail, len as u32);
        self.memory.set_header(place(self.tail, capacity), header);
        let mut at = place(self.tail + HEADER as u64, capacity);
        for part in parts {
            let (first, rest) = part.split_at(part.len().min(capacity - at));
            self.memory.write(at, first);
            // Empty unless the first filled the ring up to its end.
            self.memory.write(0, rest);
            at = (at + part.len()) & (capacity - 1);
        }

        self.tail += size;
        // ORDERING: Release. SYNC: ring-publish. Who sees the count sees the frame.
        self.memory.tail().store(self.tail, Ordering::Release);
        Ok(true)
    }

    /// Finds room for `size` bytes, and looks at the consumer's count only if the last look is not enough.
    fn reserve(&mut self, size: u64) -> Result<bool, Violation> {
        if self.fits(size) {
            return Ok(true);
        }
        // ORDERING: Acquire. SYNC: ring-free. The bytes consumed have been copied out and may be overwritten.
        let head = self.memory.head().load(Ordering::Acquire);
        if head < self.seen_head {
            return Err(Violation::Index);
        }
        in_use(self.tail, head, self.memory.capacity())?;
        self.seen_head = head;
        Ok(self.fits(size))
    }

    fn fits(&self, size: u64) -> bool {
        size <= self.memory.capacity() as u64 - (self.tail - self.seen_head)
    }
}

/// The end of a ring that frames come out of.
#[derive(Debug)]
pub(crate) struct Consumer<M> {
    memory: M,
    /// The bytes consumed. The number in shared memory is a copy of this, never its source.
    head: u64,
    /// The producer's count when this side looked last. Checked: at least `head`, and by no more than the capacity.
    seen_tail: u64,
}

impl<M: RingMemory> Consumer<M> {
    /// The consumer of a ring that nothing has passed through.
    pub(crate) fn new(memory: M) -> Self {
        debug_assert!(is_capacity(memory.capacity()));
        Self {
            memory,
            head: 0,
            seen_tail: 0,
        }
    }

    /// Replaces the contents of `frame` with the next frame; false when there is none. Does not block, and wakes
    /// no thread.
    ///
    /// # Errors
    /// [`Violation::Index`] and [`Violation::Header`]. Nothing was consumed, and `frame` is as it was.
    pub(crate) fn pop(&mut self, frame: &mut Vec<u8>) -> Result<bool, Violation> {
        let capacity = self.memory.capacity();
        if self.seen_tail == self.head {
            // ORDERING: Acquire. SYNC: ring-publish. The frames below this count are complete.
            let tail = self.memory.tail().load(Ordering::Acquire);
            if in_use(tail, self.head, capacity)? == 0 {
                return Ok(false);
            }
            self.seen_tail = tail;
        }

        // One read: what is checked is what is used.
        let found = self.memory.header(place(self.head, capacity));
        let len = found as u32;
        let size = frame_size(len as usize);
        if found != header(self.head, len)
            || len as usize > max_frame(capacity)
            || size > self.seen_tail - self.head
        {
            return Err(Violation::Header);
        }
        let len = len as usize;
        let at = place(self.head + HEADER as u64, capacity);
        let first = len.min(capacity - at);
        frame.clear();
        self.memory.read(at, first, frame);
        if first < len {
            self.memory.read(0, len - first, frame);
        }

        self.head += size;
        // ORDERING: Release. SYNC: ring-free. Who sees the count finds the bytes copied out.
        self.memory.head().store(self.head, Ordering::Release);
        Ok(true)
    }

    /// Whether there is nothing to pop, not even a violation: what to ask before sleeping.
    pub(crate) fn is_empty(&self) -> bool {
        // ORDERING: a look; `pop` has the load that the data depend on.
        self.seen_tail == self.head && self.memory.tail().load(Ordering::Relaxed) == self.head
    }
}

/// The bytes produced and not consumed.
fn in_use(tail: u64, head: u64, capacity: usize) -> Result<u64, Violation> {
    tail.checked_sub(head)
        .filter(|used| *used <= capacity as u64 && used.is_multiple_of(ALIGN))
        .ok_or(Violation::Index)
}

/// Whether a ring can have that many bytes: a power of two with room for two headers, and lengths fit a `u32`.
fn is_capacity(bytes: usize) -> bool {
    bytes.is_power_of_two() && bytes >= 2 * HEADER && u32::try_from(bytes).is_ok()
}

/// Where in the data the byte number `count` lies.
fn place(count: u64, capacity: usize) -> usize {
    (count & (capacity as u64 - 1)) as usize
}

/// What a frame of `len` bytes occupies; more than any capacity if `len` is close to the largest number.
fn frame_size(len: usize) -> u64 {
    (len as u64)
        .saturating_add(HEADER as u64)
        .checked_next_multiple_of(ALIGN)
        .unwrap_or(u64::MAX)
}

fn max_frame(capacity: usize) -> usize {
    capacity / 2 - HEADER
}

/// The header of a frame of `len` bytes that starts at the byte number `count`.
///
/// The upper half is a stamp made of both. It is no checksum and keeps no attacker out: it tells a frame that was
/// written for this place from zeros, from what an earlier lap left there, and from the middle of another frame, so
/// that two sides that fell out of step stop at once instead of passing on rubbish.
fn header(count: u64, len: u32) -> u64 {
    /// Makes the stamp of a frame of no bytes at the place zero differ from zero.
    const MARK: u32 = 0x7079_7765;
    let stamp = (count / ALIGN) as u32 ^ len.rotate_left(16) ^ MARK;
    u64::from(stamp) << 32 | u64::from(len)
}

#[cfg(all(test, target_os = "linux", not(pytoweb_loom)))]
#[path = "ring/tests.rs"]
mod tests;
