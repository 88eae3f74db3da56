//! What a message or a reply carries: a stream of bytes and, beside it, buffers that need no encoding.
//!
//! Both lie in one contiguous *area*, the stream first and every buffer at a multiple of [`ALIGNMENT`]:
//!
//! ```text
//! [stream][gap][buffer 0][gap][buffer 1]...
//! ```
//!
//! A small area is ordinary memory and travels in its frame. A large one is a range of a [`Store`], and its frame only
//! says where. A [`Packer`] makes an area, with one copy of what it is given; a [`Payload`] is what it made; a
//! [`Parcel`] is what arrives on the other side.

use std::fmt;
use std::sync::Arc;

pub use self::parcel::{Bytes, Parcel, Release};
use crate::store::{Block, Store};

#[path = "payload/parcel.rs"]
mod parcel;
#[path = "payload/parts.rs"]
mod parts;

/// Areas of this length and more go to the store. A shorter one is copied through the ring faster than a block is
/// taken and given back, and leaves room in the ring for others.
pub const INLINE_LIMIT: usize = 16 << 10;

/// Buffers begin at multiples of this, counted from the start of their area: a cache line, and more than any
/// processor's vectors ask for. A buffer takes up to one less than this in front of it.
pub const ALIGNMENT: usize = 64;

/// What a packer has room for at once: most pickles of a call with a few arguments fit.
const FIRST_ROOM: usize = 128;

/// Room behind what a block is taken for. A pickle goes on for some bytes after the large object in it, and they must
/// not make a copy of it all because the object filled the block to the brim.
const SLACK: usize = 1 << 10;

/// Where the buffer begins that follows `end` bytes of area.
fn next_start(end: usize) -> Option<usize> {
    end.checked_next_multiple_of(ALIGNMENT)
}

enum Area {
    Memory(Vec<u8>),
    /// Apart: most are short, and lie in memory.
    Block {
        block: Box<Block>,
        len: usize,
    },
    /// In a block that the other process gives back.
    Detached {
        offset: u64,
        len: usize,
    },
}

impl Area {
    fn len(&self) -> usize {
        match self {
            Self::Memory(bytes) => bytes.len(),
            Self::Block { len, .. } | Self::Detached { len, .. } => *len,
        }
    }
}

/// Takes a payload in: first the whole stream, in any number of pieces, then the buffers.
///
/// It starts in ordinary memory and moves to a block of the store when it reaches [`INLINE_LIMIT`]. A store that has
/// no room leaves it where it is.
pub struct Packer {
    area: Area,
    /// There was no memory for something: what is here is not all of it.
    lacks: bool,
    store: Option<Arc<Store>>,
    /// None while the stream is being written.
    stream_len: Option<usize>,
    buffers: Vec<u64>,
}

impl Packer {
    /// An empty payload. Without a store it stays in ordinary memory, whatever its length.
    #[must_use]
    pub fn new(store: Option<Arc<Store>>) -> Self {
        Self {
            area: Area::Memory(Vec::with_capacity(FIRST_ROOM)),
            lacks: false,
            store,
            stream_len: None,
            buffers: Vec::new(),
        }
    }

    /// Appends to the stream.
    ///
    /// # Panics
    /// There is a buffer already: the stream ends where the buffers begin.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) {
        assert!(
            self.stream_len.is_none(),
            "the stream ended with the first buffer"
        );
        self.append(bytes);
    }

    /// Appends a buffer.
    pub fn buffer(&mut self, bytes: &[u8]) {
        let end = self.area.len();
        self.stream_len.get_or_insert(end);
        // Lengths of things in memory are far from the end of the numbers.
        let gap = next_start(end).map_or(0, |start| start - end);
        self.append(&[0; ALIGNMENT][..gap]);
        self.append(bytes);
        self.buffers.push(bytes.len() as u64);
    }

    /// Makes room for so many more bytes, so that large pieces of known length come without a copy of what is there.
    ///
    /// For buffers that is the sum of their lengths, and 64 for each, because they begin at multiples of that.
    pub fn reserve(&mut self, more: usize) {
        let needed = self.area.len().saturating_add(more);
        match &mut self.area {
            Area::Memory(bytes) if needed < INLINE_LIMIT || self.store.is_none() => {
                // Where this fails, what is written fails.
                let _ = bytes.try_reserve(more);
            }
            Area::Block { block, .. } if needed <= block.capacity() => {}
            _ => self.grow(needed),
        }
    }

    /// Whether there was no memory for some of what was written: the payload is of no use.
    #[must_use]
    pub const fn lacks_memory(&self) -> bool {
        self.lacks
    }

    /// The finished payload.
    #[must_use]
    pub fn finish(self) -> Payload {
        Payload {
            stream_len: self.stream_len.unwrap_or(self.area.len()),
            area: self.area,
            buffers: self.buffers.into_boxed_slice(),
        }
    }

    #[inline]
    fn append(&mut self, bytes: &[u8]) {
        match &mut self.area {
            Area::Memory(area) if area.len() + bytes.len() < INLINE_LIMIT => {
                area.extend_from_slice(bytes);
            }
            _ => self.append_large(bytes),
        }
    }

    #[cold]
    fn append_large(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        if let Area::Block { block, len } = &mut self.area {
            if block.write(*len, bytes) {
                *len += bytes.len();
                return;
            }
            // It has room, so the system has no memory for it that is shared.
            self.fall_back(self.area.len().saturating_add(bytes.len()));
        }
        if let Area::Memory(area) = &mut self.area {
            if area.try_reserve(bytes.len()).is_ok() {
                area.extend_from_slice(bytes);
            } else {
                self.lacks = true;
            }
        }
    }

    /// Moves the area to where `needed` bytes fit.
    ///
    /// Blocks double from class to class, so all the moves of a payload together copy less than its length.
    fn grow(&mut self, needed: usize) {
        let Some(mut block) = self
            .store
            .as_ref()
            .and_then(|store| store.allocate(needed.saturating_add(SLACK)))
        else {
            self.fall_back(needed);
            return;
        };
        let len = self.area.len();
        let moved = match &self.area {
            Area::Memory(bytes) => block.write(0, bytes),
            Area::Block { block: old, .. } => old.copy_to(len, &mut block),
            Area::Detached { .. } => false,
        };
        if moved {
            self.area = Area::Block {
                block: Box::new(block),
                len,
            };
        } else {
            self.fall_back(needed);
        }
    }

    /// Goes on in ordinary memory: the store has no room.
    fn fall_back(&mut self, needed: usize) {
        self.store = None;
        let len = self.area.len();
        match &mut self.area {
            Area::Memory(bytes) => {
                // Where this fails, what is written fails.
                let _ = bytes.try_reserve(needed - len);
            }
            Area::Block { block, .. } => {
                let mut bytes = Vec::new();
                let room = bytes.try_reserve(needed).is_ok();
                self.lacks |= !(room && block.copy_out(len, &mut bytes));
                self.area = Area::Memory(bytes);
            }
            Area::Detached { .. } => {}
        }
    }
}

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packer")
            .field("len", &self.area.len())
            .field("buffers", &self.buffers)
            .finish_non_exhaustive()
    }
}

/// Where an area lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AreaPlace<'a> {
    /// In ordinary memory: here it is.
    Inline(&'a [u8]),
    /// Nowhere: the reader had no memory for it.
    Lost {
        /// The length, in bytes.
        len: u64,
    },
    /// In the store of the process that wrote it.
    Stored {
        /// The offset in the store.
        offset: u64,
        /// The length, in bytes.
        len: u64,
    },
}

/// A finished payload, on the side that wrote it.
///
/// Dropping it frees its block, so it has to live until the other process is done with it, or be detached.
pub struct Payload {
    area: Area,
    stream_len: usize,
    buffers: Box<[u64]>,
}

impl Payload {
    /// A payload of nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self::of_stream(Vec::new())
    }

    /// A payload without buffers, in ordinary memory: for a short stream.
    #[must_use]
    pub fn of_stream(stream: Vec<u8>) -> Self {
        Self {
            stream_len: stream.len(),
            area: Area::Memory(stream),
            buffers: Box::default(),
        }
    }

    /// The length of the stream, in bytes.
    #[must_use]
    pub fn stream_len(&self) -> u64 {
        self.stream_len as u64
    }

    /// The lengths of the buffers, in bytes.
    #[must_use]
    pub fn buffers(&self) -> &[u64] {
        &self.buffers
    }

    /// The length of the whole area, in bytes.
    #[must_use]
    pub fn area_len(&self) -> u64 {
        self.area.len() as u64
    }

    /// Where the area lies.
    #[must_use]
    pub fn place(&self) -> AreaPlace<'_> {
        match &self.area {
            Area::Memory(bytes) => AreaPlace::Inline(bytes),
            Area::Block { block, len } => AreaPlace::Stored {
                offset: block.offset(),
                len: *len as u64,
            },
            Area::Detached { offset, len } => AreaPlace::Stored {
                offset: *offset,
                len: *len as u64,
            },
        }
    }

    /// A copy of it, to be read here.
    #[must_use]
    pub fn to_parcel(&self) -> Parcel {
        let mut area = Vec::new();
        match &self.area {
            Area::Memory(bytes) => area.extend_from_slice(bytes),
            Area::Block { block, len } => {
                // Where there is no memory for a copy, it lacks the area and is of no use.
                let _ = block.copy_out(*len, &mut area);
            }
            // It is the other process's by now.
            Area::Detached { .. } => {}
        }
        let lens = self.buffers.iter().copied();
        Parcel::own(&area, self.stream_len as u64, lens).unwrap_or_else(Parcel::empty)
    }

    /// Leaves the block to the process that reads it: it is in use until its offset, returned here, goes to
    /// [`Store::release`]. None: the payload has no block of its own.
    ///
    /// To be called before the other process sees the frame, because the release may come at once.
    pub fn detach(&mut self) -> Option<u64> {
        let Area::Block { len, .. } = self.area else {
            return None;
        };
        let Area::Block { block, .. } = std::mem::replace(&mut self.area, Area::Memory(Vec::new()))
        else {
            return None;
        };
        let offset = block.detach();
        self.area = Area::Detached { offset, len };
        Some(offset)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payload")
            .field("stream_len", &self.stream_len)
            .field("buffers", &self.buffers)
            .field("area_len", &self.area_len())
            .finish_non_exhaustive()
    }
}
