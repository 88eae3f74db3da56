//! Nameless memory that two processes map, sealed against resizing. The home of this crate's raw pointers.
//!
//! The other process may change what it can write at any time, in the middle of a copy too. So no `&[u8]` of the
//! mapping is ever made: bytes go in and out as copies through raw pointers, and numbers that decide something are
//! read once, by an atomic. Torn or changing bytes are then wrong data in a private copy and nothing worse.
//!
//! Within one process the callers keep copies apart: a range that one thread writes with [`Memory::copy_in`] is read
//! by [`Memory::copy_out`] only after an atomic has ordered the two (the ring's indices do that).

#![cfg(target_os = "linux")]
#![expect(unsafe_code, reason = "mapped memory is reached through raw pointers")]

use std::io;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence};

use rustix::fs::{
    FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags, fallocate, fchmod, fcntl_add_seals,
    fcntl_get_seals, fstat, ftruncate, memfd_create, open,
};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

/// What makes a mapping safe to touch: without these seals the other process could cut the file short, and the next
/// access beyond its end would be a SIGBUS.
const SIZE_SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// Nameless shared memory, sealed against resizing.
#[derive(Debug)]
pub(crate) struct Memory {
    /// What was created or received, as writable as it was then.
    fd: OwnedFd,
    /// What others get instead of `fd`: the same file, opened for reading only.
    readers: Option<OwnedFd>,
    /// The first byte of `len` mapped ones, until the drop.
    start: NonNull<u8>,
    len: usize,
    writable: bool,
}

// SAFETY: the mapping belongs to the process, not to a thread; see the module documentation for accesses at once.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Makes `len` bytes of zeros. They use no memory before they are touched, and no core dump shows them.
    ///
    /// With `readers_only`, [`fd`](Self::fd) is a descriptor that can be mapped for reading only. The kernel has a
    /// seal for this, but that one also forbids [`punch`](Self::punch) to this process. So the file is opened again
    /// for reading, and its mode keeps others from doing the same for writing by accident (who shares the user can
    /// still do it on purpose). The seal is what is left where there is no `/proc` to open it in.
    pub(crate) fn create(name: &str, len: usize, readers_only: bool) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // Kernels before 6.3 do not know NOEXEC_SEAL, and some later ones insist on it.
        let fd = match memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
            Err(Errno::INVAL) => memfd_create(name, flags)?,
            made => made?,
        };
        ftruncate(&fd, u64::try_from(len).map_err(|_| Errno::FBIG)?)?;
        let mut memory = Self::map(fd, len, true)?;
        let mut seals = SIZE_SEALS | SealFlags::SEAL;
        if readers_only {
            memory.readers = open_for_reading(&memory.fd);
            if memory.readers.is_none() {
                seals |= SealFlags::FUTURE_WRITE;
            }
        }
        fcntl_add_seals(&memory.fd, seals)?;
        Ok(memory)
    }

    /// Maps what another process made.
    ///
    /// # Errors
    /// `InvalidData` if the descriptor is no memory whose size is sealed, or is empty.
    pub(crate) fn open(fd: OwnedFd, writable: bool) -> io::Result<Self> {
        let seals = fcntl_get_seals(&fd).map_err(|_| not_ours("no memory that can be sealed"))?;
        if !seals.contains(SIZE_SEALS) {
            return Err(not_ours("the size of the memory is not sealed"));
        }
        let len = usize::try_from(fstat(&fd)?.st_size)
            .map_err(|_| not_ours("memory larger than the address space"))?;
        Self::map(fd, len, writable)
    }

    fn map(fd: OwnedFd, len: usize, writable: bool) -> io::Result<Self> {
        // Pointer arithmetic is defined up to `isize::MAX`.
        let len = NonZeroUsize::new(len)
            .filter(|len| isize::try_from(len.get()).is_ok())
            .ok_or_else(|| not_ours("memory of no usable size"))?
            .get();
        let mut protection = ProtFlags::READ;
        if writable {
            protection |= ProtFlags::WRITE;
        }
        let flags = MapFlags::SHARED | MapFlags::NORESERVE;
        // SAFETY: the kernel chooses the address, so no other mapping is touched.
        let start = unsafe { mmap(ptr::null_mut(), len, protection, flags, &fd, 0)? };
        let start = NonNull::new(start.cast()).ok_or(Errno::NOMEM)?;
        // From here on the drop unmaps.
        let memory = Self {
            fd,
            readers: None,
            start,
            len,
            writable,
        };
        // SAFETY: the whole of the mapping just made; the advice changes no contents.
        unsafe { madvise(start.as_ptr().cast(), len, Advice::LinuxDontDump)? };
        Ok(memory)
    }

    /// The descriptor to hand to the other process.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.readers.as_ref().unwrap_or(&self.fd).as_fd()
    }

    /// The bytes there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Appends a copy of `len` bytes to `into`; false, and nothing done, when they are not all within the memory.
    ///
    /// `into` grows by `len` at once: a number from the other process needs a bound of its own before it comes here.
    pub(crate) fn copy_out(&self, offset: usize, len: usize, into: &mut Vec<u8>) -> bool {
        let Some(from) = self.pointer(offset, len) else {
            return false;
        };
        into.reserve(len);
        let end = into.len();
        // SAFETY: `pointer` checked that the source is mapped, the target was just reserved and is not shared, and
        // once all of it is written it may count as initialised.
        unsafe {
            ptr::copy_nonoverlapping(from.as_ptr(), into.as_mut_ptr().add(end), len);
            into.set_len(end + len);
        }
        // Whoever checks the copy must not be made to read the original again by an optimiser.
        compiler_fence(Ordering::SeqCst);
        true
    }

    /// Copies `bytes` in; false, and nothing done, when they do not fit or the memory is mapped for reading.
    pub(crate) fn copy_in(&self, offset: usize, bytes: &[u8]) -> bool {
        let Some(to) = self.pointer(offset, bytes.len()).filter(|_| self.writable) else {
            return false;
        };
        // SAFETY: `pointer` checked that the target is mapped, and it is mapped for writing; no reference to mapped
        // bytes exists, so the two do not overlap.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to.as_ptr(), bytes.len()) };
        true
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
    pub(crate) fn share<T: Words>(self: &Arc<Self>, offset: usize) -> Option<Shared<T>> {
        let at = self.place(offset)?;
        Some(Shared {
            at,
            memory: self.clone(),
        })
    }

    /// Where a `T` lies that may be referred to as long as the mapping exists: in range, aligned and writable.
    fn place<T: Words>(&self, offset: usize) -> Option<NonNull<T>> {
        let place = self.pointer(offset, size_of::<T>())?.cast::<T>();
        (self.writable && place.is_aligned()).then_some(place)
    }

    /// Where `len` bytes lie, for callers that hand them to somebody else's reader; none if out of range.
    ///
    /// Valid while this `Memory` lives, for writing only if it was made or opened so. The other process may change
    /// the bytes while they are read.
    pub(crate) fn pointer(&self, offset: usize, len: usize) -> Option<NonNull<u8>> {
        let end = offset.checked_add(len)?;
        // SAFETY: at most one past the end of the mapping, whose length fits `isize`.
        (end <= self.len).then(|| unsafe { self.start.add(offset) })
    }

    /// Gives the pages of a range back to the system; it reads as zeros afterwards. Only whole pages save memory.
    ///
    /// # Errors
    /// `InvalidInput` for a range that is empty or out of range; `PermissionDenied` where there is no `/proc` and
    /// the memory is for readers only.
    pub(crate) fn punch(&self, offset: usize, len: usize) -> io::Result<()> {
        if len == 0 || self.pointer(offset, len).is_none() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        // Both fit: they are within a mapping.
        Ok(fallocate(&self.fd, flags, offset as u64, len as u64)?)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: exactly what `map` mapped; whatever points into it borrows or holds this value.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}

/// The same file under a descriptor that cannot write; none where there is no `/proc`.
fn open_for_reading(fd: &OwnedFd) -> Option<OwnedFd> {
    fchmod(fd, Mode::RUSR).ok()?;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
}

fn not_ours(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
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
pub(crate) struct Shared<T> {
    /// Valid for as long as `memory` lives.
    at: NonNull<T>,
    memory: Arc<Memory>,
}

// SAFETY: stands for a `&T` into memory that is `Send` and `Sync` itself.
unsafe impl<T: Words + Sync> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Words + Sync> Sync for Shared<T> {}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self {
            at: self.at,
            memory: self.memory.clone(),
        }
    }
}

impl<T: Words> Deref for Shared<T> {
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
            assert!(memory.punch(offset, len).is_err(), "{offset}+{len}");
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
        for fd in [unsealed, half_sealed, empty, file] {
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
        assert!(theirs.punch(0, PAGE).is_err());
    }

    #[test]
    fn punched_pages_are_given_back_and_read_as_zeros() {
        for readers_only in [false, true] {
            let memory = Memory::create("test", 4 * PAGE, readers_only).unwrap();
            assert_eq!(occupied(&memory), 0);
            assert!(memory.copy_in(0, &vec![7; 4 * PAGE]));
            assert_eq!(occupied(&memory), 4 * PAGE as i64);

            memory.punch(PAGE, 2 * PAGE).unwrap();

            assert_eq!(occupied(&memory), 2 * PAGE as i64);
            let mut read = Vec::new();
            assert!(memory.copy_out(PAGE - 1, 2 * PAGE + 2, &mut read));
            assert_eq!(read[0], 7);
            assert!(read[1..=2 * PAGE].iter().all(|byte| *byte == 0));
            assert_eq!(read[2 * PAGE + 1], 7);
        }
    }
}
