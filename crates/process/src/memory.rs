//! Nameless memory that two processes share, sealed against resizing. The home of this crate's raw pointers.
//!
//! The other process may change what it can write at any time, in the middle of a copy too. So no `&[u8]` of a
//! mapping is ever made: bytes go in and out as copies through raw pointers, and numbers that decide something are
//! read once, by an atomic. Torn or changing bytes are then wrong data in a private copy and nothing worse.
//!
//! Within one process the callers keep copies apart: a range that one thread writes with [`Memory::copy_in`] is read
//! by [`Memory::copy_out`] only after an atomic has ordered the two (the ring's indices do that).

#![cfg(target_os = "linux")]
#![expect(unsafe_code, reason = "mapped memory is reached through raw pointers")]

#[path = "memory/file.rs"]
mod file;
#[path = "memory/mapping.rs"]
mod mapping;

use std::io;
use std::ops::Deref;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};

pub(crate) use self::file::SharedFile;
pub(crate) use self::mapping::Mapping;

/// A shared file that is mapped as a whole.
#[derive(Debug)]
pub(crate) struct Memory {
    file: SharedFile,
    mapping: Mapping,
}

impl Memory {
    /// Makes `len` bytes of zeros: see [`SharedFile::create`].
    pub(crate) fn create(name: &str, len: usize, readers_only: bool) -> io::Result<Self> {
        Self::map(SharedFile::create(name, len, readers_only)?)
    }

    /// Maps what another process made: see [`SharedFile::open`].
    pub(crate) fn open(fd: OwnedFd, writable: bool) -> io::Result<Self> {
        Self::map(SharedFile::open(fd, writable)?)
    }

    fn map(file: SharedFile) -> io::Result<Self> {
        Ok(Self {
            mapping: file.map(0, file.len())?,
            file,
        })
    }

    /// The descriptor to hand to the other process.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.file.fd()
    }

    /// The bytes there are.
    pub(crate) fn len(&self) -> usize {
        self.mapping.len()
    }

    /// As [`Mapping::copy_out`].
    pub(crate) fn copy_out(&self, offset: usize, len: usize, into: &mut Vec<u8>) -> bool {
        self.mapping.copy_out(offset, len, into)
    }

    /// As [`Mapping::copy_in`].
    pub(crate) fn copy_in(&self, offset: usize, bytes: &[u8]) -> bool {
        self.mapping.copy_in(offset, bytes)
    }

    /// As [`Mapping::pointer`].
    pub(crate) fn pointer(&self, offset: usize, len: usize) -> Option<NonNull<u8>> {
        self.mapping.pointer(offset, len)
    }

    /// The number at `offset`; none if it is out of range or unaligned, or the memory is mapped for reading.
    pub(crate) fn atomic_u32(&self, offset: usize) -> Option<&AtomicU32> {
        let place = self.place::<AtomicU32>(offset)?;
        // SAFETY: see `place`; the borrow of `self` keeps the mapping.
        Some(unsafe { place.as_ref() })
    }

    /// The number at `offset`; none if it is out of range or unaligned, or the memory is mapped for reading.
    pub(crate) fn atomic_u64(&self, offset: usize) -> Option<&AtomicU64> {
        let place = self.place::<AtomicU64>(offset)?;
        // SAFETY: see `place`; the borrow of `self` keeps the mapping.
        Some(unsafe { place.as_ref() })
    }

    /// Like [`atomic_u64`](Self::atomic_u64), for one or many, checked once and then at hand without a check.
    pub(crate) fn share<T: Words>(self: &Arc<Self>, offset: usize) -> Option<SharedAtomics<T>> {
        let at = self.place(offset)?;
        Some(SharedAtomics {
            at,
            memory: self.clone(),
        })
    }

    /// Where a `T` lies that may be referred to as long as the mapping exists: in range, aligned and writable.
    fn place<T: Words>(&self, offset: usize) -> Option<NonNull<T>> {
        let place = self.pointer(offset, size_of::<T>())?.cast::<T>();
        (self.mapping.is_writable() && place.is_aligned()).then_some(place)
    }
}

/// What may lie in shared memory and be referred to.
///
/// # Safety
/// Only for types made of atomics, for which any bytes are a value.
pub(crate) unsafe trait Words {}

// SAFETY: atomics, and every bit pattern is a number.
unsafe impl Words for AtomicU32 {}
// SAFETY: as above.
unsafe impl Words for AtomicU64 {}
// SAFETY: an array of atomics has nothing else in it.
unsafe impl<T: Words, const N: usize> Words for [T; N] {}

/// Atomics in shared memory, and a share in the mapping they lie in.
#[derive(Debug)]
pub(crate) struct SharedAtomics<T> {
    /// Valid for as long as `memory` lives.
    at: NonNull<T>,
    memory: Arc<Memory>,
}

// SAFETY: stands for a `&T` into memory that is `Send` and `Sync` itself.
unsafe impl<T: Words + Sync> Send for SharedAtomics<T> {}
// SAFETY: as above.
unsafe impl<T: Words + Sync> Sync for SharedAtomics<T> {}

impl<T> Clone for SharedAtomics<T> {
    fn clone(&self) -> Self {
        Self {
            at: self.at,
            memory: self.memory.clone(),
        }
    }
}

impl<T: Words> Deref for SharedAtomics<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `place` checked range, alignment and writability, any bytes are a `T`, and `memory` keeps them
        // mapped.
        unsafe { self.at.as_ref() }
    }
}

#[cfg(all(test, not(pytoweb_loom)))]
mod tests {
    use std::fs::File;
    use std::sync::atomic::Ordering;

    use rustix::fs::{
        MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create,
    };
    use rustix::io::Errno;

    use super::file::SIZE_SEALS;
    use super::*;

    /// A multiple of every page size in use.
    const PAGE: usize = 64 * 1024;

    fn seals(memory: &Memory) -> SealFlags {
        fcntl_get_seals(memory.fd()).expect("a memfd has seals")
    }

    fn other_side(memory: &Memory, writable: bool) -> io::Result<Memory> {
        Memory::open(memory.fd().try_clone_to_owned()?, writable)
    }

    /// The bytes that the file occupies, whatever its size.
    fn occupied(memory: &Memory) -> i64 {
        fstat(memory.fd()).expect("an open file").st_blocks * 512
    }

    #[test]
    fn both_mappings_show_the_same_bytes() {
        let ours = Memory::create("test", 2 * PAGE, false).unwrap();
        let theirs = other_side(&ours, true).unwrap();
        assert_eq!(theirs.len(), 2 * PAGE);

        assert!(ours.copy_in(PAGE - 2, b"abcd"));
        let mut read = b"kept ".to_vec();
        assert!(theirs.copy_out(PAGE - 2, 4, &mut read));
        assert_eq!(read, b"kept abcd");

        theirs
            .atomic_u64(8)
            .unwrap()
            .store(u64::MAX, Ordering::Relaxed);
        assert_eq!(
            ours.atomic_u32(12).unwrap().load(Ordering::Relaxed),
            u32::MAX
        );
        drop(ours);
        assert!(theirs.copy_out(0, theirs.len(), &mut read));
    }

    #[test]
    fn nothing_reaches_beyond_the_end() {
        let memory = Arc::new(Memory::create("test", PAGE, false).unwrap());
        let mut read = Vec::new();
        for (offset, len) in [
            (PAGE, 1),
            (PAGE - 1, 2),
            (0, PAGE + 1),
            (usize::MAX, 1),
            (1, usize::MAX),
        ] {
            assert!(!memory.copy_out(offset, len, &mut read), "{offset}+{len}");
            assert!(memory.pointer(offset, len).is_none(), "{offset}+{len}");
            assert!(memory.file.punch(offset, len).is_err(), "{offset}+{len}");
        }
        assert_eq!(read, b"");
        assert!(!memory.copy_in(PAGE - 1, b"ab"));
        assert!(!memory.copy_in(usize::MAX, b"a"));
        assert!(memory.copy_in(PAGE, b""));
        assert!(memory.atomic_u32(PAGE - 4).is_some());
        assert!(memory.atomic_u32(PAGE - 2).is_none());
        assert!(memory.atomic_u32(2).is_none());
        assert!(memory.atomic_u64(PAGE - 4).is_none());
        assert!(memory.share::<[AtomicU32; 4]>(PAGE - 16).is_some());
        assert!(memory.share::<[AtomicU32; 4]>(PAGE - 12).is_none());
    }

    #[test]
    fn the_size_is_sealed() {
        let memory = Memory::create("test", PAGE, false).unwrap();
        assert!(seals(&memory).contains(SIZE_SEALS | SealFlags::SEAL));
        assert_eq!(ftruncate(memory.fd(), 0), Err(Errno::PERM));
        assert_eq!(ftruncate(memory.fd(), 2 * PAGE as u64), Err(Errno::PERM));
    }

    #[test]
    fn only_memory_of_sealed_size_is_opened() {
        let unsealed =
            memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&unsealed, PAGE as u64).unwrap();
        let half_sealed = unsealed.try_clone().unwrap();
        fcntl_add_seals(&half_sealed, SealFlags::GROW).unwrap();
        let empty = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        fcntl_add_seals(&empty, SIZE_SEALS).unwrap();
        let file = OwnedFd::from(File::open("/dev/null").unwrap());
        // There may be no large pages, which is what makes such memory no good.
        let large =
            memfd_create("test", MemfdFlags::HUGETLB | MemfdFlags::ALLOW_SEALING).and_then(|fd| {
                ftruncate(&fd, 1 << 30)?;
                fcntl_add_seals(&fd, SIZE_SEALS)?;
                Ok(fd)
            });
        for fd in [unsealed, half_sealed, empty, file]
            .into_iter()
            .chain(large)
        {
            let error = Memory::open(fd, false).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        }
        assert!(Memory::create("test", 0, false).is_err());
        assert!(Memory::create("test", usize::MAX, false).is_err());
    }

    #[test]
    fn readers_cannot_write() {
        let ours = Memory::create("test", PAGE, true).unwrap();
        let error = other_side(&ours, true).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);

        let theirs = Arc::new(other_side(&ours, false).unwrap());
        assert!(ours.copy_in(0, b"seen"));
        let mut read = Vec::new();
        assert!(theirs.copy_out(0, 4, &mut read));
        assert_eq!(read, b"seen");
        assert!(!theirs.copy_in(0, b"no"));
        assert!(theirs.atomic_u32(0).is_none());
        assert!(theirs.atomic_u64(0).is_none());
        assert!(theirs.share::<AtomicU32>(0).is_none());
        assert!(rustix::io::write(theirs.fd(), b"no").is_err());
        assert!(theirs.file.punch(0, PAGE).is_err());
    }

    #[test]
    fn punched_pages_are_given_back_and_read_as_zeros() {
        for readers_only in [false, true] {
            let memory = Memory::create("test", 4 * PAGE, readers_only).unwrap();
            assert_eq!(occupied(&memory), 0);
            assert!(memory.copy_in(0, &vec![7; 4 * PAGE]));
            assert_eq!(occupied(&memory), 4 * PAGE as i64);

            memory.file.punch(PAGE, 2 * PAGE).unwrap();

            assert_eq!(occupied(&memory), 2 * PAGE as i64);
            let mut read = Vec::new();
            assert!(memory.copy_out(PAGE - 1, 2 * PAGE + 2, &mut read));
            assert_eq!(read[0], 7);
            assert!(read[1..=2 * PAGE].iter().all(|byte| *byte == 0));
            assert_eq!(read[2 * PAGE + 1], 7);
        }
    }

    #[test]
    fn what_is_not_mapped_is_read_and_written_through_the_file() {
        let file = SharedFile::create("test", 4 * PAGE, true).unwrap();
        let theirs = SharedFile::open(file.fd().try_clone_to_owned().unwrap(), false).unwrap();
        file.write_at(2 * PAGE - 2, b"abcd").unwrap();
        let mut read = [0; 6];
        theirs.read_at(2 * PAGE - 3, &mut read).unwrap();
        assert_eq!(&read, b"\0abcd\0");
        let mapping = theirs.map(PAGE, 2 * PAGE).unwrap();
        let mut copy = Vec::new();
        assert!(mapping.copy_out(PAGE - 2, 4, &mut copy));
        assert_eq!(copy, b"abcd");

        assert!(theirs.write_at(0, b"no").is_err());
        for (offset, len) in [(4 * PAGE, 1), (4 * PAGE - 1, 2), (usize::MAX, 1)] {
            assert!(file.write_at(offset, &vec![1; len]).is_err());
            assert!(theirs.read_at(offset, &mut vec![0; len]).is_err());
            assert!(theirs.map(offset, len).is_err());
        }
        assert!(theirs.map(0, 0).is_err());
    }
}
