//! What the host has to write to one child: what may not go yet, and what the socket has not taken.

use std::collections::VecDeque;
use std::os::unix::net::UnixStream;

use super::frames::PREFIX;
use super::requests::Requests;
use super::stream::{behind, write_some};
use crate::link::Broken;

#[derive(Debug, Default)]
pub(super) struct FrameWriter {
    pub(super) requests: Requests,
    /// What the socket has not taken, in order; of the first so many bytes have gone.
    kept: VecDeque<Vec<u8>>,
    gone: usize,
    /// The waiting thread waits for room as well.
    pub(super) watched: bool,
    /// The child closed its end. The fate of its messages is decided when it is buried.
    closed: bool,
}

impl FrameWriter {
    /// Writes a frame. True: some of it had to be kept.
    pub(super) fn push(
        &mut self,
        socket: &UnixStream,
        head: &[u8],
        area: &[u8],
    ) -> Result<bool, Broken> {
        if self.closed {
            return Ok(false);
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "checked against FRAME_LIMIT"
        )]
        let prefix = ((head.len() + area.len()) as u32).to_le_bytes();
        let parts = [&prefix[..], head, area];
        let mut written = 0;
        if self.kept.is_empty() {
            written = match write_some(socket, &parts, 0) {
                Err(Broken::Closed) => return Ok(self.close()),
                written => written?,
            };
        }
        let all = PREFIX + head.len() + area.len();
        if written == all {
            return Ok(false);
        }
        let mut rest = Vec::new();
        rest.try_reserve_exact(all - written)
            .map_err(|_| Broken::Io(std::io::ErrorKind::OutOfMemory.into()))?;
        while rest.len() < all - written {
            for part in behind(&parts, written + rest.len()) {
                rest.extend_from_slice(part);
            }
        }
        self.kept.push_back(rest);
        Ok(true)
    }

    /// Writes what was kept, as far as there is room.
    pub(super) fn flush(&mut self, socket: &UnixStream) -> Result<(), Broken> {
        while let Some(first) = self.kept.front() {
            match write_some(socket, &[first, &[], &[]], self.gone) {
                Err(Broken::Closed) => {
                    self.close();
                    return Ok(());
                }
                written => self.gone += written?,
            }
            if self.gone < first.len() {
                return Ok(());
            }
            self.gone = 0;
            self.kept.pop_front();
        }
        Ok(())
    }

    /// Sends what waited for its turn. True: some of it had to be kept.
    pub(super) fn advance(&mut self, socket: &UnixStream) -> Result<bool, Broken> {
        let mut kept = false;
        while let Some(frame) = self.requests.next() {
            kept |= self.push(socket, &frame, &[])?;
        }
        Ok(kept)
    }

    /// Whether something waits for room.
    pub(super) fn keeps(&self) -> bool {
        !self.kept.is_empty()
    }

    fn close(&mut self) -> bool {
        self.closed = true;
        self.kept.clear();
        self.gone = 0;
        false
    }
}
