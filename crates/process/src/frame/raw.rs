//! The payload in a frame, before the receiver relies on it.

use std::sync::Arc;

use super::Malformed;
use crate::payload::{AreaPlace, Parcel, Release};
use crate::store::View;

/// What a frame says of its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawPayload<'a> {
    stream_len: u64,
    /// Eight bytes for each buffer.
    buffers: &'a [u8],
    place: AreaPlace<'a>,
}

impl<'a> RawPayload<'a> {
    pub(super) fn new(stream_len: u64, buffers: &'a [u8], place: AreaPlace<'a>) -> Self {
        Self {
            stream_len,
            buffers,
            place,
        }
    }

    /// The length of the stream, unchecked.
    #[must_use]
    pub fn stream_len(&self) -> u64 {
        self.stream_len
    }

    /// The lengths of the buffers, unchecked.
    #[must_use]
    pub fn buffers(&self) -> impl ExactSizeIterator<Item = u64> + use<'a> {
        self.buffers.chunks_exact(8).map(|len| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(len);
            u64::from_le_bytes(bytes)
        })
    }

    /// Where the area is said to lie. An inline one was checked to be in the frame.
    #[must_use]
    pub fn place(&self) -> AreaPlace<'a> {
        self.place
    }

    /// Checks everything and takes the payload over. `view` is the sender's store, and `release` is told when a
    /// payload in it is dropped.
    ///
    /// # Errors
    /// Stream and buffers do not fill the area, or the area is not where it is said to be. `release` is not called.
    pub fn into_parcel(
        self,
        view: Option<&Arc<View>>,
        release: Option<&Release>,
    ) -> Result<Parcel, Malformed> {
        match self.place {
            AreaPlace::Inline(area) => {
                Parcel::own(area, self.stream_len, self.buffers()).ok_or(Malformed::Area {
                    offset: 0,
                    len: area.len() as u64,
                })
            }
            AreaPlace::Lost { len } => Ok(Parcel::lost_of(len)),
            AreaPlace::Stored { offset, len } => {
                let view = view.ok_or(Malformed::NoStore)?;
                Parcel::lent(
                    view,
                    (offset, len),
                    self.stream_len,
                    self.buffers(),
                    release,
                )
                .ok_or(Malformed::Area { offset, len })
            }
        }
    }
}
