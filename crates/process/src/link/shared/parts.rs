//! Frames that are longer than the ring carries at once, in parts.
//!
//! That is rare: large payloads lie in a store. It happens where there is no store, or no room in it, and for an
//! initializer's large arguments. A part is a frame of its own, which the users of the link do not see:
//!
//! ```text
//! | tag | seven zeros | left: 8 | bytes |
//! ```
//!
//! `left` counts the bytes of the whole frame from this part on. The parts of a frame follow each other with nothing in
//! between. The reader takes memory as bytes arrive, never because a number announces them.

use crate::frame::{self, PART};
use crate::link::Broken;

/// The bytes of the longest frame, as for a socket: more than any payload that is worth copying so often.
pub(super) const FRAME_LIMIT: usize = u32::MAX as usize;
/// The bytes before those of a part.
const HEADER: usize = 16;

/// One part of a frame made of two pieces: its header, and what it has of each piece.
pub(super) type FramePart<'a> = ([u8; HEADER], &'a [u8], &'a [u8]);

/// The parts of a frame, each at most `longest` bytes with its header.
pub(super) fn parts<'a>(
    mut head: &'a [u8],
    mut area: &'a [u8],
    longest: usize,
) -> impl Iterator<Item = FramePart<'a>> {
    std::iter::from_fn(move || {
        let left = head.len() + area.len();
        if left == 0 {
            return None;
        }
        let room = longest - HEADER;
        let (of_head, rest) = head.split_at(head.len().min(room));
        head = rest;
        let (of_area, rest) = area.split_at(area.len().min(room - of_head.len()));
        area = rest;
        let mut header = [0; HEADER];
        header[0] = PART;
        header[8..].copy_from_slice(&(left as u64).to_le_bytes());
        Some((header, of_head, of_area))
    })
}

/// What has come of a frame.
#[derive(Debug, Default)]
pub(super) struct Whole {
    bytes: Vec<u8>,
    /// What is to come.
    left: usize,
    /// There was no memory for some of it.
    lost: bool,
}

impl Whole {
    /// Takes in what came through the ring. True: `frame` is a whole one now; false: more of it is to come.
    ///
    /// # Errors
    /// [`Broken::Nonsense`]: these are not the parts of one frame.
    pub(super) fn take(&mut self, frame: &mut Vec<u8>) -> Result<bool, Broken> {
        if frame.first() != Some(&PART) {
            return match self.left {
                0 => Ok(true),
                _ => Err(nonsense("a frame in the middle of another one")),
            };
        }
        let (header, bytes) = frame
            .split_first_chunk::<HEADER>()
            .ok_or_else(|| nonsense("a part without a header"))?;
        let [0, 0, 0, 0, 0, 0, 0, left @ ..] = &header[1..] else {
            return Err(nonsense("a part with something set that it has no use for"));
        };
        let left = left.try_into().map_or(u64::MAX, u64::from_le_bytes);
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let first = self.left == 0;
        if left > FRAME_LIMIT || (!first && left != self.left) {
            return Err(nonsense("parts that are not those of one frame"));
        }
        if bytes.is_empty() || bytes.len() > left {
            return Err(nonsense("a part that is longer or shorter than it says"));
        }
        self.left = left - bytes.len();
        if first {
            // The reader's buffer is there already.
            frame.drain(..HEADER);
            self.bytes = std::mem::take(frame);
            self.lost = false;
        } else if !self.lost && self.bytes.try_reserve(bytes.len()).is_ok() {
            self.bytes.extend_from_slice(bytes);
        } else {
            self.lost = true;
        }
        if self.left > 0 {
            return Ok(false);
        }
        *frame = std::mem::take(&mut self.bytes);
        if self.lost {
            // The first part is longer than any head.
            frame::without_area(frame);
        }
        Ok(true)
    }
}

fn nonsense(what: &str) -> Broken {
    Broken::Nonsense(format!("it sent {what}"))
}

#[cfg(test)]
#[cfg(not(pytoweb_loom))]
mod tests {
    use super::*;

    /// Puts the parts of a frame together again.
    fn round_trip(head: &[u8], area: &[u8], longest: usize) -> (usize, Vec<u8>) {
        let mut whole = Whole::default();
        let mut count = 0;
        let mut ended = None;
        for (header, of_head, of_area) in parts(head, area, longest) {
            assert!(ended.is_none(), "it ended too early");
            let mut frame = [&header[..], of_head, of_area].concat();
            assert!(frame.len() <= longest);
            count += 1;
            if whole.take(&mut frame).unwrap() {
                ended = Some(frame);
            }
        }
        (count, ended.unwrap())
    }

    #[test]
    fn the_parts_make_the_frame() {
        let bytes: Vec<u8> = (1..=255).cycle().take(1_000).collect();
        for longest in [17, 24, 100, 116, 1_015, 1_016] {
            for cut in [0, 1, 99, 100, 101, 999, 1_000] {
                let (head, area) = bytes.split_at(cut);
                let (count, frame) = round_trip(head, area, longest);
                assert_eq!(count, 1_000_usize.div_ceil(longest - HEADER));
                assert!(frame == bytes, "{longest} {cut}");
            }
        }
    }

    fn part(left: u64, bytes: &[u8]) -> Vec<u8> {
        let mut frame = vec![PART, 0, 0, 0, 0, 0, 0, 0];
        frame.extend_from_slice(&left.to_le_bytes());
        frame.extend_from_slice(bytes);
        frame
    }

    #[test]
    fn parts_that_do_not_fit_together_are_refused() {
        let mut dirty = part(1, b"a");
        dirty[3] = 1;
        for all in [
            vec![part(2, b"a"), vec![131, 0]],
            vec![part(2, b"a"), part(2, b"a")],
            vec![part(3, b"a"), part(1, b"a")],
            vec![part(3, b"a"), part(2, b"abc")],
            vec![part(3, b"a"), part(2, b"")],
            vec![part(0, b"")],
            vec![part(0, b"a")],
            vec![part(1 << 32, b"a")],
            vec![part(u64::MAX, b"a")],
            vec![vec![PART]],
            vec![dirty],
        ] {
            let mut whole = Whole::default();
            let last = all.len() - 1;
            for (index, mut frame) in all.into_iter().enumerate() {
                let taken = whole.take(&mut frame);
                if index < last {
                    assert!(!taken.unwrap());
                } else {
                    assert!(matches!(taken, Err(Broken::Nonsense(_))), "{taken:?}");
                }
            }
        }
    }

    #[test]
    fn a_length_takes_no_memory() {
        let mut whole = Whole::default();
        assert!(!whole.take(&mut part(u64::from(u32::MAX), b"a")).unwrap());
        assert!(whole.bytes.capacity() < 1_000);
    }
}
