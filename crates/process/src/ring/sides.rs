//! The two sides of one piece of memory: a ring each way, two bells, and the claims.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{CAPACITY, Consumer, Producer, RingSpan};
use crate::bell::Bell;
use crate::claims::{Claims, SLOTS};
use crate::memory::{Memory, SharedAtomics};

/// The bell of a process that shares memory.
pub(crate) type SharedBell = Bell<SharedAtomics<AtomicU32>>;
/// The claims that two processes share.
pub(crate) type SharedClaims = Claims<SharedAtomics<[AtomicU32; SLOTS]>>;

/// The first bytes: what tells this memory from any other, `pytoweb` and a zero.
const MAGIC: u64 = u64::from_ne_bytes(*b"pytoweb\0");
/// Changes with everything below, and with the format of frames and words.
const VERSION: u32 = 1;

// Offsets. Words that different threads write lie 128 bytes apart: processors fetch cache lines in pairs.
const AT_MAGIC: usize = 0;
const AT_VERSION: usize = 8;
/// A `u32`: the bytes of each ring.
const AT_CAPACITY: usize = 12;
/// A `u32`: the words of the claims.
const AT_SLOTS: usize = 16;
const AT_REQUESTS_HEAD: usize = 128;
const AT_REQUESTS_TAIL: usize = 256;
const AT_REPLIES_HEAD: usize = 384;
const AT_REPLIES_TAIL: usize = 512;
const AT_CHILD_BELL: usize = 640;
const AT_HOST_BELL: usize = 768;
const AT_CLAIMS: usize = 4096;
const AT_REQUESTS: usize = AT_CLAIMS + SLOTS * size_of::<u32>();
const AT_REPLIES: usize = AT_REQUESTS + CAPACITY;
const LEN: usize = AT_REPLIES + CAPACITY;

/// What the host does with the memory it shares with one child.
///
/// The fields are independent of each other: take them apart and give each to the thread that needs it.
#[derive(Debug)]
pub(crate) struct HostSide {
    pub(crate) requests: Producer<RingSpan>,
    pub(crate) replies: Consumer<RingSpan>,
    /// The child sleeps on it; ring it after pushing a request.
    pub(crate) child_bell: SharedBell,
    /// The host sleeps on it.
    pub(crate) host_bell: SharedBell,
    pub(crate) claims: SharedClaims,
}

impl HostSide {
    /// Makes the memory for one child: the process that gets its descriptor can open the other side, once.
    pub(crate) fn create() -> io::Result<(Self, Arc<Memory>)> {
        let memory = Arc::new(Memory::create("pytoweb-ring", LEN, false)?);
        let side = Self::lay_out(&memory).ok_or(io::ErrorKind::InvalidData)?;
        Ok((side, memory))
    }

    fn lay_out(memory: &Arc<Memory>) -> Option<Self> {
        // ORDERING: the child comes to know of the memory after this, through the descriptor.
        let order = Ordering::Relaxed;
        memory.atomic_u64(AT_MAGIC)?.store(MAGIC, order);
        for (offset, value) in CHECKED {
            memory.atomic_u32(offset)?.store(value, order);
        }
        Some(Self {
            requests: Producer::new(requests(memory)?),
            replies: Consumer::new(replies(memory)?),
            child_bell: Bell::new(memory.share(AT_CHILD_BELL)?),
            host_bell: Bell::new(memory.share(AT_HOST_BELL)?),
            claims: Claims::new(memory.share(AT_CLAIMS)?),
        })
    }
}

/// What a child does with the memory it got from the host.
///
/// The fields are independent of each other: take them apart and give each to the thread that needs it.
#[derive(Debug)]
pub(crate) struct ChildSide {
    pub(crate) requests: Consumer<RingSpan>,
    pub(crate) replies: Producer<RingSpan>,
    /// The child sleeps on it.
    pub(crate) child_bell: SharedBell,
    /// The host sleeps on it; ring it after pushing a reply.
    pub(crate) host_bell: SharedBell,
    pub(crate) claims: SharedClaims,
}

impl ChildSide {
    /// Opens what [`HostSide::create`] made. Only one side of the child may exist, ever: it starts to count at zero.
    ///
    /// # Errors
    /// `InvalidData` if the memory is something else, or was made by another version of this crate.
    pub(crate) fn open(fd: OwnedFd) -> io::Result<Self> {
        let memory = Arc::new(Memory::open(fd, true)?);
        if memory.len() != LEN || !is_ours(&memory) {
            let why = "the memory does not come from this version of pytoweb";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(Self::lay_out(&memory).ok_or(io::ErrorKind::InvalidData)?)
    }

    fn lay_out(memory: &Arc<Memory>) -> Option<Self> {
        Some(Self {
            requests: Consumer::new(requests(memory)?),
            replies: Producer::new(replies(memory)?),
            child_bell: Bell::new(memory.share(AT_CHILD_BELL)?),
            host_bell: Bell::new(memory.share(AT_HOST_BELL)?),
            claims: Claims::new(memory.share(AT_CLAIMS)?),
        })
    }
}

/// What both sides must agree on, besides the magic number.
const CHECKED: [(usize, u32); 3] = [
    (AT_VERSION, VERSION),
    (AT_CAPACITY, CAPACITY as u32),
    (AT_SLOTS, SLOTS as u32),
];

fn is_ours(memory: &Memory) -> bool {
    // ORDERING: written before this process got the descriptor.
    let order = Ordering::Relaxed;
    let magic = memory.atomic_u64(AT_MAGIC).map(|word| word.load(order));
    magic == Some(MAGIC)
        && CHECKED.iter().all(|(offset, value)| {
            memory.atomic_u32(*offset).map(|word| word.load(order)) == Some(*value)
        })
}

fn requests(memory: &Arc<Memory>) -> Option<RingSpan> {
    RingSpan::new(
        memory,
        AT_REQUESTS_HEAD,
        AT_REQUESTS_TAIL,
        AT_REQUESTS,
        CAPACITY,
    )
}

fn replies(memory: &Arc<Memory>) -> Option<RingSpan> {
    RingSpan::new(
        memory,
        AT_REPLIES_HEAD,
        AT_REPLIES_TAIL,
        AT_REPLIES,
        CAPACITY,
    )
}
