//! A part of a shared file in the address space of this process.

use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{Ordering, compiler_fence};

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

use crate::copy;

/// Mapped bytes. Offsets here count from the first of them.
#[derive(Debug)]
pub(crate) struct Mapping {
    /// The first byte of `len` mapped ones, until the drop.
    start: NonNull<u8>,
    len: usize,
    writable: bool,
}

// SAFETY: the mapping belongs to the process, not to a thread; see the documentation of `memory.rs` for accesses at once.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes from `offset` on, a multiple of the page size. The caller knows that the file has them and cannot
    /// lose them. No core dump shows them.
    pub(super) fn new(
        fd: BorrowedFd<'_>,
        offset: usize,
        len: usize,
        writable: bool,
    ) -> io::Result<Self> {
        let mut protection = ProtFlags::READ;
        if writable {
            protection |= ProtFlags::WRITE;
        }
        let flags = MapFlags::SHARED | MapFlags::NORESERVE;
        // SAFETY: the kernel chooses the address, so no other mapping is touched.
        let start = unsafe { mmap(ptr::null_mut(), len, protection, flags, fd, offset as u64)? };
        let start = NonNull::new(start.cast()).ok_or(Errno::NOMEM)?;
        // From here on the drop unmaps.
        let mapping = Self {
            start,
            len,
            writable,
        };
        // SAFETY: the whole of the mapping just made; the advice changes no contents.
        unsafe { madvise(start.as_ptr().cast(), len, Advice::LinuxDontDump)? };
        Ok(mapping)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.writable
    }

    /// Appends a copy of `len` bytes to `into`; false, and nothing done, when they are not all within the mapping.
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
            copy::out(from, into.as_mut_ptr().add(end), len);
            into.set_len(end + len);
        }
        // The code that checks the copy must not be made to read the original again by an optimiser.
        compiler_fence(Ordering::SeqCst);
        true
    }

    /// Copies `bytes` in; false, and nothing done, when they do not fit or the mapping is for reading.
    pub(crate) fn copy_in(&self, offset: usize, bytes: &[u8]) -> bool {
        let Some(to) = self.pointer(offset, bytes.len()).filter(|_| self.writable) else {
            return false;
        };
        // SAFETY: `pointer` checked that the target is mapped, and it is mapped for writing; no reference to mapped
        // bytes exists, so the two do not overlap.
        unsafe { copy::into(bytes.as_ptr(), to, bytes.len()) };
        true
    }

    /// Where `len` bytes lie, for callers that hand them to a reader of their own; none if out of range.
    ///
    /// Valid while this `Mapping` lives, for writing only if it is writable. The other process may change the bytes
    /// while they are read.
    pub(crate) fn pointer(&self, offset: usize, len: usize) -> Option<NonNull<u8>> {
        let end = offset.checked_add(len)?;
        // SAFETY: at most one past the end of the mapping, whose length fits `isize`.
        (end <= self.len).then(|| unsafe { self.start.add(offset) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` mapped; whatever points into it borrows or holds this value.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}
