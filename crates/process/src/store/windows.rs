//! The parts of a store that this process has mapped, its *windows*: those that payloads lie in now, and a few more.
//!
//! A store is far larger than what payloads take, and address space may be limited (`ulimit -v`). So a range is mapped
//! when a payload comes to lie in it, with what is around it, and unmapped some time after the last one has gone. Where
//! the system refuses even that, the bytes go through the descriptor: a copy more, and no error.

use std::collections::HashMap;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::memory::{Mapping, SharedFile};

/// What is mapped at once: 256 of the smallest blocks, and little beside an interpreter. A range across a boundary gets
/// a window of its own, which begins and ends at one.
const STEP: usize = 4 << 20;
/// Address space that windows without a payload may hold on to. Twice the pages that a store keeps, because blocks are up
/// to twice as long as their payloads: what lies beyond has to be faulted in again in any case.
const KEPT: usize = 64 << 20;

/// The windows of one store.
#[derive(Debug)]
pub(super) struct Windows {
    file: SharedFile,
    mapped: Mutex<Mapped>,
}

/// All windows, by where they begin and how long they are.
#[derive(Debug, Default)]
struct Mapped {
    windows: HashMap<(usize, usize), Arc<Mapping>>,
    /// The sum of their lengths.
    bytes: usize,
}

impl Mapped {
    /// Unmaps windows that no payload lies in, until no more than `kept` bytes are mapped.
    fn trim(&mut self, kept: usize) {
        let bytes = &mut self.bytes;
        self.windows.retain(|(_, len), mapping| {
            let goes = *bytes > kept && Arc::strong_count(mapping) == 1;
            if goes {
                *bytes -= *len;
            }
            !goes
        });
    }
}

/// A mapped range, and a share in the window that it lies in.
#[derive(Debug)]
pub(crate) struct Window {
    mapping: Arc<Mapping>,
    /// Where the range begins in the mapping, and how long it is.
    at: usize,
    len: usize,
}

impl Window {
    /// Where `len` bytes of the range begin, `offset` bytes after its start; none if they are not within it.
    ///
    /// Valid while the window lives. The other process may change the bytes while they are read.
    pub(crate) fn pointer(&self, offset: usize, len: usize) -> Option<NonNull<u8>> {
        self.holds(offset, len)
            .then(|| self.mapping.pointer(self.at + offset, len))?
    }

    /// Copies `bytes` to `offset`; false, and nothing done, when they do not fit or the store is another process's.
    pub(super) fn copy_in(&self, offset: usize, bytes: &[u8]) -> bool {
        self.holds(offset, bytes.len()) && self.mapping.copy_in(self.at + offset, bytes)
    }

    fn holds(&self, offset: usize, len: usize) -> bool {
        offset.checked_add(len).is_some_and(|end| end <= self.len)
    }
}

impl Windows {
    pub(super) fn new(file: SharedFile) -> Self {
        Self {
            file,
            mapped: Mutex::default(),
        }
    }

    pub(super) fn file(&self) -> &SharedFile {
        &self.file
    }

    /// Maps a range, unless it is mapped. None: it is out of range, or the system refuses; then it can be read and
    /// written through the file.
    pub(super) fn open(&self, offset: usize, len: usize) -> Option<Window> {
        if !self.file.contains(offset, len) {
            return None;
        }
        let start = (offset / STEP * STEP).min(self.file.len().checked_sub(1)? / STEP * STEP);
        let end = (offset + len).max(start + 1).next_multiple_of(STEP);
        let key = (start, end.min(self.file.len()) - start);
        let mut mapped = self.lock();
        let mapping = match mapped.windows.get(&key) {
            Some(mapping) => mapping.clone(),
            None => {
                let made = self.file.map(key.0, key.1).or_else(|_| {
                    mapped.trim(0);
                    self.file.map(key.0, key.1)
                });
                let made = Arc::new(made.ok()?);
                mapped.windows.insert(key, made.clone());
                mapped.bytes += key.1;
                made
            }
        };
        Some(Window {
            mapping,
            at: offset - start,
            len,
        })
    }

    /// Takes a window back. The range stays mapped for the next payload, unless there are many such.
    pub(super) fn close(&self, window: Window) {
        // This window and the map: no payload lies in it afterwards.
        let idle = Arc::strong_count(&window.mapping) <= 2;
        drop(window);
        if idle {
            let mut mapped = self.lock();
            if mapped.bytes > KEPT {
                mapped.trim(KEPT);
            }
        }
    }

    /// The address space that is taken.
    pub(super) fn mapped(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, Mapped> {
        // No code of others runs under it, and the sums are right between any two statements.
        self.mapped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
