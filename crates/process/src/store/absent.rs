//! The stand-in for the store where there is no shared memory that can be sealed: types without values.
//!
//! No process has a store there, so every payload stays in ordinary memory and travels in its frame.

use std::convert::Infallible;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

/// Gives the pages back that free blocks of stores hold on to, of which there are none here.
pub const fn cool_stores() {}

/// The writing side of a store, of which there is none here.
#[derive(Debug)]
pub struct Store(Infallible);

impl Store {
    /// Makes a store; `name` is what tools would show for its memory.
    ///
    /// # Errors
    /// Always: this system has no memory of the kind.
    pub fn create(name: &str) -> io::Result<Arc<Self>> {
        let _ = name;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Takes a block of at least `len` bytes.
    #[must_use]
    pub fn allocate(self: &Arc<Self>, len: usize) -> Option<Block> {
        let _ = len;
        match self.0 {}
    }

    /// Frees a block given up by [`Block::detach`].
    pub fn release(&self, offset: u64) -> bool {
        let _ = offset;
        match self.0 {}
    }
}

/// A range of a store that no other code writes, of which there is none here.
#[derive(Debug)]
pub struct Block(Infallible);

impl Block {
    /// Where it begins in the store.
    #[must_use]
    pub fn offset(&self) -> u64 {
        match self.0 {}
    }

    /// How many bytes it can take.
    #[must_use]
    pub fn capacity(&self) -> usize {
        match self.0 {}
    }

    /// Copies `bytes` into it, from `at` on.
    pub fn write(&mut self, at: usize, bytes: &[u8]) -> bool {
        let _ = (at, bytes);
        match self.0 {}
    }

    pub(crate) fn copy_to(&self, len: usize, into: &mut Self) -> bool {
        let _ = (len, into);
        match self.0 {}
    }

    pub(crate) fn copy_out(&self, len: usize, into: &mut Vec<u8>) -> bool {
        let _ = (len, into);
        match self.0 {}
    }

    /// Gives up ownership.
    #[must_use = "the block stays in use until it is released by this number"]
    pub fn detach(self) -> u64 {
        match self.0 {}
    }
}

/// A mapped range of a store, of which there is none here.
#[derive(Debug)]
pub(crate) struct Window(Infallible);

impl Window {
    pub(crate) fn pointer(&self, offset: usize, len: usize) -> Option<NonNull<u8>> {
        let _ = (offset, len);
        match self.0 {}
    }
}

/// The reading side of a store that another process writes, of which there is none here.
#[derive(Debug)]
pub struct View(Infallible);

impl View {
    /// Whether a range lies within the store.
    #[must_use]
    pub fn contains(&self, offset: u64, len: u64) -> bool {
        let _ = (offset, len);
        match self.0 {}
    }

    pub(crate) fn window(&self, offset: u64, len: u64) -> Option<Window> {
        let _ = (offset, len);
        match self.0 {}
    }

    pub(crate) fn close(&self, window: Window) {
        match window.0 {}
    }

    /// Copies a range out.
    #[must_use]
    pub fn copy_to(&self, offset: u64, into: &mut [u8]) -> bool {
        let _ = (offset, into);
        match self.0 {}
    }
}
