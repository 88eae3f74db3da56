//! A payload on the side that reads it.

use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;

use super::next_start;
use crate::copy;
use crate::store::{View, Window};

/// Called with the offset of a block when no code of this process reads it any more.
pub type Release = Arc<dyn Fn(u64) + Send + Sync>;

/// A payload that arrived. All of its ranges were checked when it was made.
///
/// Dropping it gives its block back to the process that wrote it.
pub struct Parcel {
    body: ParcelArea,
    stream_len: usize,
    /// Where in the area the buffers begin, and their lengths.
    buffers: Vec<(usize, usize)>,
}

enum ParcelArea {
    Own(Vec<u8>),
    Lent(LentRange),
    /// There was no memory for a copy, of so many bytes.
    Lost(usize),
}

/// A range of another process's store.
struct LentRange {
    view: Arc<View>,
    /// There until the drop.
    window: Option<Window>,
    _given_back: GivenBack,
}

impl Drop for LentRange {
    fn drop(&mut self) {
        if let Some(window) = self.window.take() {
            self.view.close(window);
        }
    }
}

/// Tells the process that wrote a block when it is dropped.
struct GivenBack(u64, Option<Release>);

impl Drop for GivenBack {
    fn drop(&mut self) {
        if let Some(release) = &self.1 {
            release(self.0);
        }
    }
}

/// A copy made by `fill` in ordinary memory, as far as there is memory and `fill` succeeds.
fn copied(len: usize, fill: impl FnOnce(&mut Vec<u8>) -> bool) -> ParcelArea {
    let mut bytes = Vec::new();
    if bytes.try_reserve_exact(len).is_ok() && fill(&mut bytes) {
        ParcelArea::Own(bytes)
    } else {
        ParcelArea::Lost(len)
    }
}

impl Parcel {
    /// A parcel whose area came in a frame. None: stream and buffers of these lengths are not what the area holds.
    pub(crate) fn own(
        area: &[u8],
        stream_len: u64,
        buffers: impl Iterator<Item = u64>,
    ) -> Option<Self> {
        let (stream_len, buffers) = lay_out(area.len() as u64, stream_len, buffers)?;
        let body = copied(area.len(), |bytes| {
            bytes.extend_from_slice(area);
            true
        });
        Some(Self {
            body,
            stream_len,
            buffers,
        })
    }

    /// A parcel of `len` bytes that there was no memory for.
    pub(crate) fn lost_of(len: u64) -> Self {
        Self {
            body: ParcelArea::Lost(usize::try_from(len).unwrap_or(usize::MAX)),
            ..Self::empty()
        }
    }

    /// A parcel of nothing.
    pub(crate) const fn empty() -> Self {
        Self {
            body: ParcelArea::Own(Vec::new()),
            stream_len: 0,
            buffers: Vec::new(),
        }
    }

    /// A parcel whose area lies at `offset` of `view`. Where it cannot be mapped it is copied and given back at once.
    /// None: as for [`Self::own`], or it is not within the view; then `release` is not called.
    pub(crate) fn lent(
        view: &Arc<View>,
        (offset, len): (u64, u64),
        stream_len: u64,
        buffers: impl Iterator<Item = u64>,
        release: Option<&Release>,
    ) -> Option<Self> {
        if !view.contains(offset, len) {
            return None;
        }
        let (stream_len, buffers) = lay_out(len, stream_len, buffers)?;
        let given_back = GivenBack(offset, release.cloned());
        let body = match view.window(offset, len) {
            Some(window) => ParcelArea::Lent(LentRange {
                view: Arc::clone(view),
                window: Some(window),
                _given_back: given_back,
            }),
            None => {
                let len = usize::try_from(len).ok()?;
                copied(len, |bytes| {
                    bytes.resize(len, 0);
                    view.copy_to(offset, bytes)
                })
            }
        };
        Some(Self {
            body,
            stream_len,
            buffers,
        })
    }

    /// How many bytes there was no memory for. Stream and buffers are empty then.
    #[must_use]
    pub const fn lost(&self) -> Option<usize> {
        match self.body {
            ParcelArea::Lost(len) => Some(len),
            _ => None,
        }
    }

    /// The stream.
    #[must_use]
    pub fn stream(&self) -> Bytes<'_> {
        self.bytes(0, self.stream_len)
    }

    /// How many buffers there are.
    #[must_use]
    pub fn buffers(&self) -> usize {
        self.buffers.len()
    }

    /// A buffer. None: there are not so many.
    #[must_use]
    pub fn buffer(&self, index: usize) -> Option<Bytes<'_>> {
        let (start, len) = *self.buffers.get(index)?;
        Some(self.bytes(start, len))
    }

    /// Copies a buffer to `into`. False: there is none of this number and of this length, and nothing was copied.
    #[must_use]
    pub fn copy_to(&self, index: usize, into: &mut [u8]) -> bool {
        self.buffer(index).is_some_and(|bytes| bytes.copy_to(into))
    }

    fn bytes(&self, start: usize, len: usize) -> Bytes<'_> {
        let found = match &self.body {
            ParcelArea::Own(area) => area
                .get(start..)
                .and_then(|rest| rest.get(..len))
                .map(Source::Own),
            ParcelArea::Lent(LentRange { window, .. }) => window
                .as_ref()
                .and_then(|window| window.pointer(start, len))
                .map(|start| Source::Lent { start, len }),
            ParcelArea::Lost(_) => Some(Source::Own(&[])),
        };
        debug_assert!(found.is_some(), "checked when the parcel was made");
        Bytes {
            source: found.unwrap_or(Source::Own(&[])),
            parcel: PhantomData,
        }
    }
}

impl fmt::Debug for Parcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parcel")
            .field("stream_len", &self.stream_len)
            .field("buffers", &self.buffers)
            .field("stored", &matches!(self.body, ParcelArea::Lent(_)))
            .finish_non_exhaustive()
    }
}

/// Checks that a stream and buffers of these lengths fill an area of `area_len` bytes, no more and no less, and says
/// where the buffers begin.
fn lay_out(
    area_len: u64,
    stream_len: u64,
    lens: impl Iterator<Item = u64>,
) -> Option<(usize, Vec<(usize, usize)>)> {
    let area_len = usize::try_from(area_len).ok()?;
    let stream_len = usize::try_from(stream_len).ok()?;
    let mut end = stream_len;
    let mut buffers = Vec::with_capacity(lens.size_hint().0);
    for len in lens {
        let len = usize::try_from(len).ok()?;
        let start = next_start(end)?;
        end = start.checked_add(len)?;
        buffers.push((start, len));
    }
    (end == area_len).then_some((stream_len, buffers))
}

/// Bytes of a [`Parcel`], valid as long as it is.
///
/// Those of a store may be changed by the process that wrote them at any time. So they are reached by a pointer and
/// by copies, and no reference to them is made here: it would be a promise to the compiler that no code can keep.
#[derive(Clone, Copy)]
pub struct Bytes<'a> {
    source: Source<'a>,
    parcel: PhantomData<&'a Parcel>,
}

#[derive(Clone, Copy)]
enum Source<'a> {
    Own(&'a [u8]),
    Lent { start: NonNull<u8>, len: usize },
}

impl<'a> Bytes<'a> {
    /// The first byte. There are [`len`](Self::len) of them, to be read only.
    #[must_use]
    pub fn as_ptr(&self) -> *const u8 {
        match self.source {
            Source::Own(bytes) => bytes.as_ptr(),
            Source::Lent { start, .. } => start.as_ptr(),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self.source {
            Source::Own(bytes) => bytes.len(),
            Source::Lent { len, .. } => len,
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes themselves, if they are ordinary memory of this process.
    #[must_use]
    pub fn as_slice(&self) -> Option<&'a [u8]> {
        match self.source {
            Source::Own(bytes) => Some(bytes),
            Source::Lent { .. } => None,
        }
    }

    /// Copies all of them. False: `into` is not of the same length, and nothing was copied.
    #[must_use]
    pub fn copy_to(&self, into: &mut [u8]) -> bool {
        if into.len() != self.len() {
            return false;
        }
        match self.source {
            Source::Own(bytes) => into.copy_from_slice(bytes),
            Source::Lent { start, len } => {
                #[expect(unsafe_code, reason = "a copy out of shared memory")]
                // SAFETY: the range was checked to lie within the window, which lives as long as the parcel borrowed
                // here; `into` is ordinary memory of the same length.
                unsafe {
                    copy::out(start, into.as_mut_ptr(), len);
                }
            }
        }
        true
    }
}

impl fmt::Debug for Bytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bytes")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
