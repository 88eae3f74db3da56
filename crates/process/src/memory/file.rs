//! A nameless file whose size is sealed: what two processes share, whatever part of it each has mapped.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    FallocateFlags, FsWord, MemfdFlags, Mode, OFlags, SealFlags, fallocate, fchmod,
    fcntl_add_seals, fcntl_get_seals, fstat, fstatfs, ftruncate, memfd_create, open,
};
use rustix::io::{Errno, pread, pwrite};

use super::mapping::Mapping;

/// What makes a mapping safe to touch: without these seals the other process could cut the file short, and the next
/// access beyond its end would be a SIGBUS.
pub(super) const SIZE_SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// The file system of memory in large pages. There may be none left when a mapping is touched, which is a SIGBUS too.
const HUGETLBFS: FsWord = 0x9584_58f6;

/// The file, and what this process may do with it.
#[derive(Debug)]
pub(crate) struct SharedFile {
    /// What was created or received, as writable as it was then.
    fd: OwnedFd,
    /// What others get instead of `fd`: the same file, opened for reading only.
    readers: Option<OwnedFd>,
    /// At most `isize::MAX`, up to which pointer arithmetic is defined.
    len: usize,
    writable: bool,
}

impl SharedFile {
    /// Nameless memory that is not sealed yet; `name` is what tools show.
    ///
    /// # Errors
    /// The system has no memory of the kind, or no descriptors left.
    pub(crate) fn nameless(name: &str) -> io::Result<OwnedFd> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // Kernels before 6.3 do not know NOEXEC_SEAL, and some later ones insist on it.
        Ok(match memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
            Err(Errno::INVAL) => memfd_create(name, flags)?,
            made => made?,
        })
    }

    /// Makes `len` bytes of zeros. They use no memory before something is written.
    ///
    /// With `readers_only`, [`fd`](Self::fd) is a descriptor for reading only. The kernel has a seal for this, but that
    /// one also forbids [`punch`](Self::punch) and further mappings to this process. So the file is opened again for
    /// reading, and its mode keeps others from doing the same for writing by accident (a process of the same user can
    /// still do it on purpose). Where there is no `/proc` to open it in, others get the file itself.
    ///
    /// # Errors
    /// The system has no memory of the kind, no descriptors left, or does not allow files of that size.
    pub(crate) fn create(name: &str, len: usize, readers_only: bool) -> io::Result<Self> {
        let fd = Self::nameless(name)?;
        ftruncate(&fd, u64::try_from(len).map_err(|_| Errno::FBIG)?)?;
        fcntl_add_seals(&fd, SIZE_SEALS | SealFlags::SEAL)?;
        Ok(Self {
            readers: readers_only.then(|| open_for_reading(&fd)).flatten(),
            len: usable(len)?,
            fd,
            writable: true,
        })
    }

    /// Takes what another process made.
    ///
    /// # Errors
    /// `InvalidData` if the descriptor is no ordinary memory whose size is sealed, or is empty.
    pub(crate) fn open(fd: OwnedFd, writable: bool) -> io::Result<Self> {
        let seals = fcntl_get_seals(&fd).map_err(|_| not_ours("no memory that can be sealed"))?;
        if !seals.contains(SIZE_SEALS) {
            return Err(not_ours("the size of the memory is not sealed"));
        }
        if fstatfs(&fd)?.f_type == HUGETLBFS {
            return Err(not_ours("memory in large pages, which may run out"));
        }
        let len = usize::try_from(fstat(&fd)?.st_size)
            .map_err(|_| not_ours("memory larger than the address space"))?;
        Ok(Self {
            fd,
            readers: None,
            len: usable(len)?,
            writable,
        })
    }

    /// The descriptor to hand to the other process.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.readers.as_ref().unwrap_or(&self.fd).as_fd()
    }

    /// The bytes there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether a range lies within it.
    pub(crate) fn contains(&self, offset: usize, len: usize) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.len)
    }

    /// Maps a range that begins at a page.
    ///
    /// # Errors
    /// `InvalidInput` for a range that is empty or out of range, and what the system says: there is no address space
    /// left, or a limit (`RLIMIT_AS`) has been reached.
    pub(crate) fn map(&self, offset: usize, len: usize) -> io::Result<Mapping> {
        if len == 0 || !self.contains(offset, len) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Mapping::new(self.fd.as_fd(), offset, len, self.writable)
    }

    /// Copies a range out without a mapping.
    ///
    /// # Errors
    /// `InvalidInput` for a range that is out of range.
    pub(crate) fn read_at(&self, offset: usize, mut into: &mut [u8]) -> io::Result<()> {
        if !self.contains(offset, into.len()) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut at = offset as u64;
        while !into.is_empty() {
            match pread(&self.fd, &mut *into, at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    at += read as u64;
                    into = &mut into[read..];
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Copies `bytes` in without a mapping.
    ///
    /// # Errors
    /// `InvalidInput` for a range that is out of range, and what the system says: there is no memory left.
    pub(crate) fn write_at(&self, offset: usize, mut bytes: &[u8]) -> io::Result<()> {
        if !self.contains(offset, bytes.len()) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut at = offset as u64;
        while !bytes.is_empty() {
            match pwrite(&self.fd, bytes, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    at += written as u64;
                    bytes = &bytes[written..];
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Gives the pages of a range back to the system; it reads as zeros afterwards. Only whole pages save memory.
    ///
    /// # Errors
    /// `InvalidInput` for a range that is empty or out of range.
    pub(crate) fn punch(&self, offset: usize, len: usize) -> io::Result<()> {
        if len == 0 || !self.contains(offset, len) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(fallocate(&self.fd, flags, offset as u64, len as u64)?)
    }
}

/// A length that memory can have.
fn usable(len: usize) -> io::Result<usize> {
    if len == 0 || isize::try_from(len).is_err() {
        return Err(not_ours("memory of no usable size"));
    }
    Ok(len)
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
