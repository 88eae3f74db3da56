//! The host's end.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use super::frames::{Filled, Frames};
use super::requests::Requests;
use super::stream::{Wakeup, set_up};
use super::writer::FrameWriter;
use super::{END_GRACE, FRAME_LIMIT, lock};
use crate::frame::{self, RawPayload, ReplyFrame, ReplyStatus, ToHost};
use crate::link::{Broken, HostLink};
use crate::payload::{Packer, Parcel};

/// Bytes after which [`SocketHost::receive`] lets the frames be dealt with, although there may be more.
const RECEIVE_LIMIT: usize = 1 << 20;

#[derive(Debug)]
struct ReplyReader {
    frames: Frames,
    /// When the end of the stream was read.
    ended: Option<Instant>,
    /// An error was returned, and nothing comes after it.
    over: bool,
}

/// The host's end.
#[derive(Debug)]
pub(crate) struct SocketHost {
    socket: UnixStream,
    wakeup: Wakeup,
    reader: Mutex<ReplyReader>,
    writer: Mutex<FrameWriter>,
}

impl SocketHost {
    /// # Errors
    /// The system has no descriptors left.
    pub(crate) fn new(socket: UnixStream) -> io::Result<Arc<Self>> {
        set_up(&socket)?;
        Ok(Arc::new(Self {
            socket,
            wakeup: Wakeup::new()?,
            reader: Mutex::new(ReplyReader {
                frames: Frames::new(FRAME_LIMIT),
                ended: None,
                over: false,
            }),
            writer: Mutex::default(),
        }))
    }

    /// Has the waiting thread wait for room, if it does not.
    fn watch(&self, writer: &FrameWriter, kept: bool) {
        if kept && !writer.watched {
            self.wakeup.ring();
        }
    }

    fn take(
        &self,
        reader: &mut ReplyReader,
        each: &mut dyn FnMut(ToHost<'_>) -> Result<(), Broken>,
    ) -> Result<usize, Broken> {
        let mut count = self.answer_skipped(each)?;
        let mut read = 0;
        let mut more = true;
        loop {
            while let Some(frame) = reader.frames.next()? {
                if let Some(notice) = frame::decode_notice(frame)? {
                    self.change(|requests| requests.notice(notice))?;
                    continue;
                }
                let frame = frame::decode_for_host(frame)?;
                let ToHost::Reply(reply) = &frame else {
                    each(frame)?;
                    count += 1;
                    continue;
                };
                let seq = reply.seq;
                self.change(|requests| requests.answered(seq, reply.status))?;
                each(frame).inspect_err(|_| {
                    // An answer of no use: it must not run again for that.
                    lock(&self.writer).requests.spend(seq);
                })?;
                count += 1;
            }
            // A frame that is on its way is read to its end, and its length has a limit.
            if !more || reader.ended.is_some() || (count > 0 && read >= RECEIVE_LIMIT) {
                break;
            }
            match reader.frames.fill(&self.socket)? {
                Filled::Some(bytes) => read += bytes,
                Filled::All => more = false,
                Filled::Nothing => break,
                Filled::End => reader.ended = Some(Instant::now()),
            }
        }
        lock(&self.writer).flush(&self.socket)?;
        match reader.ended {
            Some(ended) if count == 0 && ended.elapsed() >= END_GRACE => Err(Broken::Closed),
            _ => Ok(count),
        }
    }

    /// Notes what the child says, and sends what it came for.
    fn change(&self, note: impl FnOnce(&mut Requests) -> Result<(), Broken>) -> Result<(), Broken> {
        let mut writer = lock(&self.writer);
        note(&mut writer.requests)?;
        let kept = writer.advance(&self.socket)?;
        self.watch(&writer, kept);
        Ok(())
    }

    /// Gives the answers to requests that were taken back: the child has not seen them, so it cannot.
    fn answer_skipped(
        &self,
        each: &mut dyn FnMut(ToHost<'_>) -> Result<(), Broken>,
    ) -> Result<usize, Broken> {
        let skipped = lock(&self.writer).requests.take_skipped();
        let mut answer = Vec::new();
        for seq in &skipped {
            let reply = ReplyFrame {
                seq: *seq,
                status: ReplyStatus::Skipped,
                run_ns: 0,
                note: &[],
                payload: &Packer::new(None).finish(),
            };
            if frame::encode_reply(&reply, &mut answer).is_ok() {
                each(frame::decode_for_host(&answer)?)?;
            }
        }
        Ok(skipped.len())
    }
}

impl HostLink for SocketHost {
    fn runs_ahead(&self) -> bool {
        false
    }

    fn offer(&self, seq: u64, head: &[u8], area: &[u8]) -> Result<(), Broken> {
        let mut writer = lock(&self.writer);
        let len = head.len().saturating_add(area.len());
        if len > FRAME_LIMIT {
            writer.requests.spend(seq);
            let why = format!("a message of {len} bytes is too long for a socket");
            return Err(Broken::Io(io::Error::new(io::ErrorKind::InvalidInput, why)));
        }
        if writer.requests.step_up(seq) {
            let kept = writer.push(&self.socket, head, area)?;
            self.watch(&writer, kept);
        } else {
            writer.requests.request_waits(seq, [head, area].concat());
        }
        Ok(())
    }

    fn tell(&self, frame: &[u8]) -> Result<(), Broken> {
        let mut writer = lock(&self.writer);
        if !writer.requests.other_waits(frame) {
            let kept = writer.push(&self.socket, frame, &[])?;
            self.watch(&writer, kept);
        }
        Ok(())
    }

    fn flush(&self) {
        // A broken connection shows when replies are read.
        let _ = lock(&self.writer).flush(&self.socket);
    }

    fn receive(
        &self,
        each: &mut dyn FnMut(ToHost<'_>) -> Result<(), Broken>,
    ) -> Result<usize, Broken> {
        let mut reader = lock(&self.reader);
        if reader.over {
            return Ok(0);
        }
        let received = self.take(&mut reader, each);
        reader.over = received.is_err();
        received
    }

    fn parcel(&self, raw: &RawPayload<'_>) -> Result<Parcel, Broken> {
        Ok(raw.into_parcel(None, None)?)
    }

    fn wait(&self, limit: Option<Duration>) {
        let (ended, over) = {
            let reader = lock(&self.reader);
            (reader.ended, reader.over)
        };
        let mut events = PollFlags::IN;
        {
            let mut writer = lock(&self.writer);
            if writer.requests.has_skipped() && !over {
                return;
            }
            writer.watched = writer.keeps();
            if writer.watched {
                events |= PollFlags::OUT;
            }
        }
        match ended {
            _ if over => self.wakeup.sleep(None, limit),
            Some(ended) => {
                let grace = END_GRACE.saturating_sub(ended.elapsed());
                let limit = limit.map_or(grace, |limit| limit.min(grace));
                self.wakeup.sleep(None, Some(limit));
            }
            None => self.wakeup.sleep(Some((&self.socket, events)), limit),
        }
        let mut writer = lock(&self.writer);
        writer.watched = false;
        let _ = writer.flush(&self.socket);
    }

    fn wake(&self) {
        self.wakeup.ring();
    }

    fn revoke(&self, seq: u64) -> bool {
        let mut writer = lock(&self.writer);
        let first = !writer.requests.has_skipped();
        let revoked = writer.requests.revoke(seq);
        if revoked && first {
            self.wakeup.ring();
        }
        revoked
    }

    fn has_begun(&self, seq: u64) -> bool {
        lock(&self.writer).requests.has_begun(seq)
    }

    fn ask_to_stop(&self, seq: u64) {
        let mut writer = lock(&self.writer);
        writer.requests.spend(seq);
        let mut frame = Vec::new();
        frame::encode_stop_asked(seq, &mut frame);
        // Past what waits: the child may be at this request for long. A broken connection shows elsewhere.
        if let Ok(kept) = writer.push(&self.socket, &frame, &[]) {
            self.watch(&writer, kept);
        }
    }
}
