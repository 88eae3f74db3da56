//! Bytes to frames.

#[cfg(unix)]
use super::Notice;
use super::{
    Event, HEADER, Malformed, PREFIX, RawPayload, ReplyFrame, ReplyStatus, Request, ToChild,
    ToHost, at, bits, tag,
};
use crate::payload::AreaPlace;

/// Reads a frame that came from the host.
///
/// # Errors
/// What the bytes are instead of a frame for a child.
pub fn decode_for_child(frame: &[u8]) -> Result<ToChild<'_>, Malformed> {
    let (prefix, rest) = split_prefix(frame)?;
    let frame = match prefix[0] {
        tag::REQUEST => return decode_request(frame).map(ToChild::Request),
        tag::RELEASE => {
            expect_zero(word(prefix))?;
            ToChild::Release {
                offset: only_u64(rest)?,
            }
        }
        tag::STOP_ASKED => {
            expect_zero(word(prefix))?;
            ToChild::StopAsked {
                seq: only_u64(rest)?,
            }
        }
        tag::GRANT => ToChild::Grant {
            seq: only_u64(rest)?,
            items: word(prefix),
        },
        tag::ENOUGH => {
            expect_zero(word(prefix))?;
            ToChild::Enough {
                seq: only_u64(rest)?,
            }
        }
        tag::QUIT => {
            expect_zero(word(prefix))?;
            if !rest.is_empty() {
                return Err(Malformed::Length { len: frame.len() });
            }
            ToChild::Quit
        }
        other => return Err(Malformed::Tag(other)),
    };
    expect_zero(prefix[at::BITS] | prefix[at::STATUS] | prefix[at::ZERO])?;
    Ok(frame)
}

/// Reads a frame that came from a child, which may have sent anything.
pub fn decode_for_host(frame: &[u8]) -> Result<ToHost<'_>, Malformed> {
    let (prefix, rest) = split_prefix(frame)?;
    let frame = match prefix[0] {
        tag::REPLY => return decode_reply(frame).map(ToHost::Reply),
        tag::ITEM => {
            let (seq, payload) = decode_said(frame)?;
            return Ok(ToHost::Item { seq, payload });
        }
        tag::PROGRESS => {
            let (seq, payload) = decode_said(frame)?;
            return Ok(ToHost::Progress { seq, payload });
        }
        tag::EVENT => return decode_event(frame).map(ToHost::Event),
        tag::READY => ToHost::Ready { bytes: rest },
        tag::BROKEN => ToHost::Broken { bytes: rest },
        tag::LOG => ToHost::Log { bytes: rest },
        tag::ASK => ToHost::Ask { bytes: rest },
        other => return Err(Malformed::Tag(other)),
    };
    expect_zero(word(prefix))?;
    expect_zero(prefix[at::BITS] | prefix[at::STATUS] | prefix[at::ZERO])?;
    Ok(frame)
}

/// Reads a frame that came from a child, if it is for the host's end of the link.
#[cfg(unix)]
pub(crate) fn decode_notice(frame: &[u8]) -> Result<Option<Notice>, Malformed> {
    let (prefix, rest) = split_prefix(frame)?;
    let notice = match prefix[0] {
        tag::BEGAN => Notice::Began {
            seq: only_u64(rest)?,
        },
        tag::FREE => Notice::Free {
            seq: only_u64(rest)?,
        },
        _ => return Ok(None),
    };
    expect_zero(word(prefix))?;
    expect_zero(prefix[at::BITS] | prefix[at::STATUS] | prefix[at::ZERO])?;
    Ok(Some(notice))
}

/// The number of the request that a frame made by this process answers. None: it is no reply.
#[cfg(unix)]
pub(crate) fn seq_of_reply(head: &[u8]) -> Option<u64> {
    let header = Header::of(head).ok()?;
    (header.bytes[0] == tag::REPLY).then(|| header.u64(at::SEQ))
}

fn decode_request(frame: &[u8]) -> Result<Request<'_, RawPayload<'_>>, Malformed> {
    let header = Header::of(frame)?;
    header.expect_bits(bits::STORED | bits::HAS_ID | bits::LOST)?;
    expect_zero(header.bytes[at::STATUS])?;
    let ([kind, id, context], payload) = header.parts([
        header.u32(at::KIND_LEN),
        header.u32(at::ID_LEN),
        header.u32(at::CONTEXT_LEN),
    ])?;
    let has_id = header.bytes[at::BITS] & bits::HAS_ID != 0;
    if !has_id && !id.is_empty() {
        return Err(Malformed::Bits);
    }
    let id = text(id, "id")?;
    Ok(Request {
        seq: header.u64(at::SEQ),
        worker: header.u32(at::WORD),
        attempt: header.u32(at::ATTEMPT),
        flags: header.u32(at::FLAGS),
        kind: text(kind, "kind")?,
        id: has_id.then_some(id),
        context,
        payload,
    })
}

fn decode_reply(frame: &[u8]) -> Result<ReplyFrame<'_, RawPayload<'_>>, Malformed> {
    let header = Header::of(frame)?;
    header.expect_bits(bits::STORED | bits::LOST)?;
    expect_zero(header.u64(at::KIND_LEN))?;
    expect_zero(header.u32(at::CONTEXT_LEN))?;
    let status = match header.bytes[at::STATUS] {
        0 => ReplyStatus::Completed,
        1 => ReplyStatus::Failed,
        2 => ReplyStatus::Skipped,
        other => return Err(Malformed::Status(other)),
    };
    let ([note], payload) = header.parts([header.u32(at::WORD)])?;
    Ok(ReplyFrame {
        seq: header.u64(at::SEQ),
        status,
        run_ns: header.u64(at::RUN_NS),
        note,
        payload,
    })
}

/// A frame that is no more than the number of a request and a payload.
fn decode_said(frame: &[u8]) -> Result<(u64, RawPayload<'_>), Malformed> {
    let header = Header::of(frame)?;
    header.expect_bits(bits::STORED | bits::LOST)?;
    expect_zero(header.bytes[at::STATUS])?;
    expect_zero(header.u64(at::RUN_NS))?;
    expect_zero(header.u64(at::KIND_LEN))?;
    expect_zero(header.u32(at::CONTEXT_LEN))?;
    expect_zero(header.u32(at::WORD))?;
    let ([], payload) = header.parts([])?;
    Ok((header.u64(at::SEQ), payload))
}

fn decode_event(frame: &[u8]) -> Result<Event<'_, RawPayload<'_>>, Malformed> {
    let header = Header::of(frame)?;
    header.expect_bits(bits::STORED | bits::LOST)?;
    expect_zero(header.bytes[at::STATUS])?;
    expect_zero(header.u64(at::KIND_LEN))?;
    expect_zero(header.u32(at::CONTEXT_LEN))?;
    let ([name], payload) = header.parts([header.u32(at::WORD)])?;
    Ok(Event {
        seq: header.u64(at::SEQ),
        dropped: header.u64(at::DROPPED),
        name: text(name, "name")?,
        payload,
    })
}

/// The bytes of a frame's beginning that hold all but its area, for every frame that this crate's users make.
#[cfg(unix)]
pub(crate) const HEAD_ROOM: usize = 96 << 10;

/// Makes a frame of the first bytes of a long one whose reader had no memory for the rest: all but the area, which counts
/// as lost. So its message fails, and says why; the other process has done nothing wrong.
///
/// A frame without an area stays cut, and is refused.
#[cfg(unix)]
pub(crate) fn without_area(start: &mut Vec<u8>) {
    let Ok(header) = Header::of(start) else {
        return;
    };
    let texts = match header.bytes[0] {
        tag::REQUEST => [at::KIND_LEN, at::ID_LEN, at::CONTEXT_LEN],
        tag::REPLY | tag::ITEM | tag::EVENT | tag::PROGRESS => {
            [at::WORD, at::CONTEXT_LEN, at::CONTEXT_LEN]
        }
        _ => return,
    };
    let head = texts.iter().fold(
        HEADER as u64 + u64::from(header.u32(at::BUFFERS)) * 8,
        |sum, text| sum + u64::from(header.u32(*text)),
    );
    if let Ok(head) = usize::try_from(head)
        && head <= start.len()
    {
        start.truncate(head);
        start[at::BITS] |= bits::LOST;
    }
}

fn split_prefix(frame: &[u8]) -> Result<(&[u8; PREFIX], &[u8]), Malformed> {
    frame
        .split_first_chunk()
        .ok_or(Malformed::Short { len: frame.len() })
}

fn word(prefix: &[u8; PREFIX]) -> u32 {
    let [.., a, b, c, d] = *prefix;
    u32::from_le_bytes([a, b, c, d])
}

fn only_u64(rest: &[u8]) -> Result<u64, Malformed> {
    rest.try_into()
        .map(u64::from_le_bytes)
        .map_err(|_| Malformed::Length {
            len: PREFIX + rest.len(),
        })
}

fn expect_zero(unused: impl Into<u64>) -> Result<(), Malformed> {
    if unused.into() == 0 {
        Ok(())
    } else {
        Err(Malformed::Bits)
    }
}

fn text<'a>(bytes: &'a [u8], part: &'static str) -> Result<&'a str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed::Text { part })
}

/// The first bytes of a request or a reply, and those that follow.
struct Header<'a> {
    bytes: &'a [u8; HEADER],
    rest: &'a [u8],
}

impl<'a> Header<'a> {
    fn of(frame: &'a [u8]) -> Result<Self, Malformed> {
        let (bytes, rest) = frame
            .split_first_chunk()
            .ok_or(Malformed::Short { len: frame.len() })?;
        Ok(Self { bytes, rest })
    }

    fn u32(&self, at: usize) -> u32 {
        let mut value = [0; 4];
        value.copy_from_slice(&self.bytes[at..at + 4]);
        u32::from_le_bytes(value)
    }

    fn u64(&self, at: usize) -> u64 {
        let mut value = [0; 8];
        value.copy_from_slice(&self.bytes[at..at + 8]);
        u64::from_le_bytes(value)
    }

    fn expect_bits(&self, allowed: u8) -> Result<(), Malformed> {
        expect_zero(self.bytes[at::BITS] & !allowed | self.bytes[at::ZERO])
    }

    /// Cuts what follows into the lengths of the buffers, texts of the lengths `lens`, and the area if it is here.
    fn parts<const N: usize>(
        &self,
        lens: [u32; N],
    ) -> Result<([&'a [u8]; N], RawPayload<'a>), Malformed> {
        let mut rest = self.rest;
        let mut cut = |len: u64| {
            let (part, left) = usize::try_from(len)
                .ok()
                .and_then(|len| rest.split_at_checked(len))
                .ok_or(Malformed::Length {
                    len: HEADER + self.rest.len(),
                })?;
            rest = left;
            Ok(part)
        };
        let buffers = cut(u64::from(self.u32(at::BUFFERS)) * 8)?;
        let mut texts: [&[u8]; N] = [&[]; N];
        for (text, len) in texts.iter_mut().zip(lens) {
            *text = cut(u64::from(len))?;
        }
        let offset = self.u64(at::AREA_OFFSET);
        let len = self.u64(at::AREA_LEN);
        let place = if self.bytes[at::BITS] & bits::LOST != 0 {
            expect_zero(offset | u64::from(self.bytes[at::BITS] & bits::STORED))?;
            AreaPlace::Lost { len }
        } else if self.bytes[at::BITS] & bits::STORED != 0 {
            AreaPlace::Stored { offset, len }
        } else {
            expect_zero(offset)?;
            AreaPlace::Inline(cut(len)?)
        };
        if !rest.is_empty() {
            return Err(Malformed::Length {
                len: HEADER + self.rest.len(),
            });
        }
        let payload = RawPayload::new(self.u64(at::STREAM_LEN), buffers, place);
        Ok((texts, payload))
    }
}
