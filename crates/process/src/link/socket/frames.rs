//! Frames out of a stream of bytes that arrive in pieces of any size.
//!
//! Memory is taken as bytes arrive, never because a length announces them.

use std::ops::Range;
use std::os::fd::AsFd;

use rustix::buffer::spare_capacity;
use rustix::io::{Errno, read};

use crate::frame;
use crate::link::Broken;

/// What is read at once, for frames that are shorter. Some hundred small frames.
const CHUNK: usize = 64 << 10;
/// Frames up to this length lie in the chunk; a longer one gets memory of its own, and is not copied again.
const SMALL: usize = CHUNK / 2;
/// The bytes of the length before each frame.
pub(super) const PREFIX: usize = 4;

/// What a look at the stream brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// So many bytes, and perhaps there are more.
    Some(usize),
    /// All there were.
    All,
    /// Nothing now.
    Nothing,
    /// The stream has ended.
    End,
}

#[derive(Debug)]
struct Large {
    len: usize,
    /// What has arrived of it.
    bytes: Vec<u8>,
    /// There is no memory for the rest. So many bytes of it have arrived and are gone.
    lost: Option<usize>,
}

impl Large {
    fn missing(&self) -> usize {
        self.len - self.bytes.len() - self.lost.unwrap_or(0)
    }

    /// The whole frame, or what there is of it.
    fn finish(mut self) -> Vec<u8> {
        if self.lost.is_some() {
            frame::without_area(&mut self.bytes);
        }
        self.bytes
    }
}

enum NextFrame {
    Nothing,
    Small(Range<usize>),
    Large(Vec<u8>),
}

/// The receiving end of a stream of frames.
#[derive(Debug)]
pub(super) struct Frames {
    limit: usize,
    chunk: Vec<u8>,
    /// What of the chunk was given out.
    at: usize,
    large: Option<Large>,
    /// The large frame that was given out last.
    given: Vec<u8>,
}

impl Frames {
    /// A frame longer than `limit` is refused as soon as its length is there.
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            limit,
            chunk: Vec::new(),
            at: 0,
            large: None,
            given: Vec::new(),
        }
    }

    /// The next whole frame of what has arrived.
    ///
    /// # Errors
    /// [`Broken::Nonsense`]: a frame is longer than the limit. It stays so.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, Broken> {
        self.given = Vec::new();
        Ok(match self.find()? {
            NextFrame::Nothing => None,
            NextFrame::Small(range) => Some(&self.chunk[range]),
            NextFrame::Large(bytes) => {
                self.given = bytes;
                Some(&self.given)
            }
        })
    }

    /// As [`Frames::next`], with the frame as the contents of `into`, which keeps no more memory than it needs.
    pub(super) fn next_into(&mut self, into: &mut Vec<u8>) -> Result<bool, Broken> {
        if into.capacity() > CHUNK {
            *into = Vec::new();
        }
        match self.find()? {
            NextFrame::Nothing => return Ok(false),
            NextFrame::Small(range) => {
                into.clear();
                into.extend_from_slice(&self.chunk[range]);
            }
            NextFrame::Large(bytes) => *into = bytes,
        }
        Ok(true)
    }

    fn find(&mut self) -> Result<NextFrame, Broken> {
        if self.large.is_none() {
            let Some((prefix, rest)) = self.chunk[self.at..].split_first_chunk::<PREFIX>() else {
                return Ok(NextFrame::Nothing);
            };
            let len = u32::from_le_bytes(*prefix) as usize;
            if len > self.limit {
                return Err(Broken::Nonsense(format!(
                    "it announced a frame of {len} bytes"
                )));
            }
            let here = rest.len().min(len);
            if len <= SMALL && here < len {
                return Ok(NextFrame::Nothing);
            }
            let start = self.at + PREFIX;
            self.at = start + here;
            if len <= SMALL {
                return Ok(NextFrame::Small(start..self.at));
            }
            let bytes = self.chunk[start..self.at].to_vec();
            self.large = Some(Large {
                len,
                bytes,
                lost: None,
            });
        }
        match self.large.take_if(|large| large.missing() == 0) {
            Some(large) => Ok(NextFrame::Large(large.finish())),
            None => Ok(NextFrame::Nothing),
        }
    }

    /// Reads once from a stream that does not block. To be called when [`Frames::next`] has nothing more.
    ///
    /// # Errors
    /// [`Broken::Io`].
    pub(super) fn fill(&mut self, stream: impl AsFd) -> Result<Filled, Broken> {
        if let Some(large) = &mut self.large
            && large.lost.is_none()
            && large.bytes.capacity() == large.bytes.len()
        {
            // Never more than has arrived already, so a length that lies takes nothing.
            let more = large.missing().min(large.bytes.len().max(CHUNK));
            if large.bytes.try_reserve_exact(more).is_err() {
                large.lost = Some(0);
            }
        }
        let into = match &mut self.large {
            Some(large) if large.lost.is_none() => &mut large.bytes,
            _ => {
                self.chunk.drain(..self.at);
                self.at = 0;
                self.chunk.reserve_exact(CHUNK - self.chunk.len());
                &mut self.chunk
            }
        };
        let room = into.capacity() - into.len();
        let read = loop {
            match read(&stream, spare_capacity(into)) {
                Ok(0) => return Ok(Filled::End),
                Ok(read) => break read,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Filled::Nothing),
                // The frames sent before the other end closed have been read.
                Err(Errno::CONNRESET | Errno::PIPE) => return Ok(Filled::End),
                Err(error) => return Err(Broken::Io(error.into())),
            }
        };
        if let Some(large) = &mut self.large
            && let Some(lost) = &mut large.lost
        {
            let more = (large.len - large.bytes.len() - *lost).min(self.chunk.len());
            let kept = more.min(frame::HEAD_ROOM.saturating_sub(large.bytes.len()));
            large.bytes.extend_from_slice(&self.chunk[..kept]);
            *lost += more - kept;
            self.at = more;
        } else if let Some(large) = &mut self.large
            && large.bytes.len() > large.len
        {
            // The allocator gave more room than was asked for, and the next frame began in it.
            self.chunk.clear();
            self.at = 0;
            self.chunk.extend(large.bytes.drain(large.len..));
        }
        Ok(if read == room {
            Filled::Some(read)
        } else {
            Filled::All
        })
    }

    /// Has a large frame come to the end of memory.
    #[cfg(all(test, not(pytoweb_loom)))]
    pub(super) fn lose(&mut self) -> bool {
        match &mut self.large {
            Some(large) => large.lost.get_or_insert(0) == &0,
            None => false,
        }
    }

    /// The bytes of memory it holds.
    #[cfg(all(test, not(pytoweb_loom)))]
    pub(super) fn taken(&self) -> usize {
        let large = self
            .large
            .as_ref()
            .map_or(0, |large| large.bytes.capacity());
        self.chunk.capacity() + large + self.given.capacity()
    }

    /// Has the memory of a large frame take more than the frame, as an allocator may.
    #[cfg(all(test, not(pytoweb_loom)))]
    pub(super) fn widen(&mut self, more: usize) {
        if let Some(large) = &mut self.large {
            large
                .bytes
                .reserve_exact(large.len - large.bytes.len() + more);
        }
    }
}
