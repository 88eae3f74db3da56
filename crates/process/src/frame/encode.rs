//! Frames to bytes.
//!
//! Each function replaces the contents of the vector it is given, so one vector serves a sender for ever. A request
//! and a reply leave out an area that lies in ordinary memory: the sender sends it as a second part, so that
//! it is not copied here.

use std::error::Error;
use std::fmt;

#[cfg(unix)]
use super::Notice;
use super::{Event, HEADER, PREFIX, Payload, ReplyFrame, Request, at, bits, tag};
use crate::payload::AreaPlace;

/// A part of a message is longer than a frame can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a part of a message does not fit into a frame")
    }
}

impl Error for TooLong {}

/// The payload at `offset` of the child's store was read.
pub fn encode_release(offset: u64, frame: &mut Vec<u8>) {
    encode_small(frame, tag::RELEASE, &offset.to_le_bytes());
}

/// The handler of message `seq` is asked to stop.
pub fn encode_stop_asked(seq: u64, frame: &mut Vec<u8>) {
    encode_small(frame, tag::STOP_ASKED, &seq.to_le_bytes());
}

/// The child is to end when it has answered what it was sent.
pub fn encode_quit(frame: &mut Vec<u8>) {
    encode_small(frame, tag::QUIT, &[]);
}

/// So many items of the stream of message `seq` were read.
pub fn encode_grant(seq: u64, items: u32, frame: &mut Vec<u8>) {
    encode_small(frame, tag::GRANT, &seq.to_le_bytes());
    frame[at::WORD..PREFIX].copy_from_slice(&items.to_le_bytes());
}

/// No more items of the stream of message `seq` are read.
pub fn encode_enough(seq: u64, frame: &mut Vec<u8>) {
    encode_small(frame, tag::ENOUGH, &seq.to_le_bytes());
}

/// The child is set up.
pub fn encode_ready(bytes: &[u8], frame: &mut Vec<u8>) {
    encode_small(frame, tag::READY, bytes);
}

/// The initializer failed.
pub fn encode_broken(bytes: &[u8], frame: &mut Vec<u8>) {
    encode_small(frame, tag::BROKEN, bytes);
}

/// Something for the host's log.
pub fn encode_log(bytes: &[u8], frame: &mut Vec<u8>) {
    encode_small(frame, tag::LOG, bytes);
}

/// The child asks for a descriptor.
pub fn encode_ask(bytes: &[u8], frame: &mut Vec<u8>) {
    encode_small(frame, tag::ASK, bytes);
}

/// What one end of a link tells the other.
#[cfg(unix)]
pub(crate) fn encode_notice(notice: Notice, frame: &mut Vec<u8>) {
    let (tag, seq) = match notice {
        Notice::Began { seq } => (tag::BEGAN, seq),
        Notice::Free { seq } => (tag::FREE, seq),
    };
    encode_small(frame, tag, &seq.to_le_bytes());
}

/// Everything of a request but an inline area.
///
/// # Errors
/// A text, the context or the number of buffers is beyond 32 bits. `head` is then of no use.
pub fn encode_request(request: &Request<'_, &Payload>, head: &mut Vec<u8>) -> Result<(), TooLong> {
    let id = request.id.unwrap_or_default();
    let mut header = HeaderBytes::new(tag::REQUEST, request.worker);
    header.bits(if request.id.is_some() {
        bits::HAS_ID
    } else {
        0
    });
    header.u64(at::SEQ, request.seq);
    header.u32(at::ATTEMPT, request.attempt);
    header.u32(at::FLAGS, request.flags);
    header.u32(at::KIND_LEN, length(request.kind.len())?);
    header.u32(at::ID_LEN, length(id.len())?);
    header.u32(at::CONTEXT_LEN, length(request.context.len())?);
    header.payload(request.payload)?;
    let texts = [request.kind.as_bytes(), id.as_bytes(), request.context];
    write(head, &header, request.payload, texts);
    Ok(())
}

/// Everything of a reply but an inline area.
///
/// # Errors
/// The note or the number of buffers is beyond 32 bits. `head` is then of no use.
pub fn encode_reply(reply: &ReplyFrame<'_, &Payload>, head: &mut Vec<u8>) -> Result<(), TooLong> {
    let mut header = HeaderBytes::new(tag::REPLY, length(reply.note.len())?);
    header.0[at::STATUS] = reply.status as u8;
    header.u64(at::SEQ, reply.seq);
    header.u64(at::RUN_NS, reply.run_ns);
    header.payload(reply.payload)?;
    write(head, &header, reply.payload, [reply.note]);
    Ok(())
}

/// Everything of an item of the stream of message `seq` but an inline area.
///
/// # Errors
/// The number of buffers is beyond 32 bits. `head` is then of no use.
pub fn encode_item(seq: u64, payload: &Payload, head: &mut Vec<u8>) -> Result<(), TooLong> {
    encode_said(tag::ITEM, seq, payload, head)
}

/// Everything of what a handler says of the progress of message `seq` but an inline area.
///
/// # Errors
/// The number of buffers is beyond 32 bits. `head` is then of no use.
pub fn encode_progress(seq: u64, payload: &Payload, head: &mut Vec<u8>) -> Result<(), TooLong> {
    encode_said(tag::PROGRESS, seq, payload, head)
}

fn encode_said(tag: u8, seq: u64, payload: &Payload, head: &mut Vec<u8>) -> Result<(), TooLong> {
    let mut header = HeaderBytes::new(tag, 0);
    header.u64(at::SEQ, seq);
    header.payload(payload)?;
    write(head, &header, payload, []);
    Ok(())
}

/// Everything of an event but an inline area.
///
/// # Errors
/// The name or the number of buffers is beyond 32 bits. `head` is then of no use.
pub fn encode_event(event: &Event<'_, &Payload>, head: &mut Vec<u8>) -> Result<(), TooLong> {
    let mut header = HeaderBytes::new(tag::EVENT, length(event.name.len())?);
    header.u64(at::SEQ, event.seq);
    header.u64(at::DROPPED, event.dropped);
    header.payload(event.payload)?;
    write(head, &header, event.payload, [event.name.as_bytes()]);
    Ok(())
}

fn encode_small(frame: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    let prefix: [u8; PREFIX] = [tag, 0, 0, 0, 0, 0, 0, 0];
    frame.clear();
    frame.reserve(PREFIX + bytes.len());
    frame.extend_from_slice(&prefix);
    frame.extend_from_slice(bytes);
}

fn length(len: usize) -> Result<u32, TooLong> {
    u32::try_from(len).map_err(|_| TooLong)
}

fn write<const N: usize>(
    head: &mut Vec<u8>,
    header: &HeaderBytes,
    payload: &Payload,
    texts: [&[u8]; N],
) {
    let lens = payload.buffers();
    head.clear();
    head.reserve(HEADER + lens.len() * 8 + texts.iter().map(|text| text.len()).sum::<usize>());
    head.extend_from_slice(&header.0);
    for len in lens {
        head.extend_from_slice(&len.to_le_bytes());
    }
    for text in texts {
        head.extend_from_slice(text);
    }
}

/// The first bytes of a request or a reply, made in one piece on the stack.
struct HeaderBytes([u8; HEADER]);

impl HeaderBytes {
    fn new(tag: u8, word: u32) -> Self {
        let mut header = Self([0; HEADER]);
        header.0[0] = tag;
        header.u32(at::WORD, word);
        header
    }

    fn bits(&mut self, bits: u8) {
        self.0[at::BITS] |= bits;
    }

    fn u32(&mut self, at: usize, value: u32) {
        self.0[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, at: usize, value: u64) {
        self.0[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    fn payload(&mut self, payload: &Payload) -> Result<(), TooLong> {
        self.u32(at::BUFFERS, length(payload.buffers().len())?);
        self.u64(at::STREAM_LEN, payload.stream_len());
        self.u64(at::AREA_LEN, payload.area_len());
        if let AreaPlace::Stored { offset, .. } = payload.place() {
            self.bits(bits::STORED);
            self.u64(at::AREA_OFFSET, offset);
        }
        Ok(())
    }
}
