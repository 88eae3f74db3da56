//! The frames between host and child: what their bytes mean.
//!
//! A frame is what the ring or the socket hands over as one piece. Numbers are little-endian. Every frame begins with
//! eight bytes, and what a frame has no use for is zero:
//!
//! | at | bytes | |
//! |---|---|---|
//! | 0 | 1 | tag: which frame it is |
//! | 1 | 1 | bits: 1 the area is stored, 2 there is an id, 4 the area is lost: see `without_area` |
//! | 2 | 1 | status |
//! | 3 | 1 | zero |
//! | 4 | 4 | word: the number of a worker, or the length of the note |
//!
//! | frame | tag | to | word | after the first eight bytes |
//! |---|---|---|---|---|
//! | `Request` | 1 | child | worker | see below |
//! | `Release` | 2 | child | | offset: 8 |
//! | `StopAsked` | 3 | child | | seq: 8 |
//! | `Quit` | 4 | child | | |
//! | `Grant` | 5 | child | items | seq: 8 |
//! | `Enough` | 6 | child | | seq: 8 |
//! | `Part` | 64 | both | | see `link/shared/parts.rs` |
//! | `Ready` | 129 | host | | bytes |
//! | `Broken` | 130 | host | | bytes |
//! | `Reply` | 131 | host | length of the note | see below |
//! | `Log` | 132 | host | | bytes |
//! | `Began` | 133 | host | | seq: 8 |
//! | `Free` | 134 | host | | seq: 8 |
//! | `Ask` | 135 | host | | bytes |
//! | `Item` | 136 | host | | as of `Reply`, without note and run time |
//! | `Event` | 137 | host | length of the name | as of `Reply`, with the name as the note, and in the place of the run time how many were dropped |
//! | `Progress` | 138 | host | | as `Item` |
//!
//! `Began` and `Free` are notices from one end of a link to the other, where no shared memory says it. Parts are for the
//! two ends too: what the ring does not carry at once.
//!
//! | at | bytes | `Request` | `Reply` |
//! |---|---|---|---|
//! | 8 | 8 | seq | seq |
//! | 16 | 8 | attempt: 4, flags: 4 | run time in nanoseconds |
//! | 24 | 8 | lengths of kind: 4 and id: 4 | zero |
//! | 32 | 4 | length of the context | zero |
//! | 36 | 4 | number of buffers | number of buffers |
//! | 40 | 8 | length of the stream | length of the stream |
//! | 48 | 8 | offset of a stored area | offset of a stored area |
//! | 56 | 8 | length of the area | length of the area |
//! | 64 | | lengths of the buffers, 8 each; kind; id; context | lengths of the buffers, 8 each; note |
//! | then | | the area, unless it is stored | the area, unless it is stored |
//!
//! Decoding borrows from the frame, which is the reader's own copy. It trusts nothing: what does not add up to the
//! very length of the frame is [`Malformed`].

use std::error::Error;
use std::fmt;

use crate::payload::Payload;

#[cfg(unix)]
pub(crate) use self::decode::{HEAD_ROOM, decode_notice, seq_of_reply, without_area};
pub use self::decode::{decode_for_child, decode_for_host};
#[cfg(unix)]
pub(crate) use self::encode::encode_notice;
pub use self::encode::{
    TooLong, encode_ask, encode_broken, encode_enough, encode_event, encode_grant, encode_item,
    encode_log, encode_progress, encode_quit, encode_ready, encode_release, encode_reply,
    encode_request, encode_stop_asked,
};
pub use self::raw::RawPayload;
#[cfg(target_os = "linux")]
pub(crate) use self::tag::PART;

#[path = "frame/decode.rs"]
mod decode;
#[path = "frame/encode.rs"]
mod encode;
#[path = "frame/raw.rs"]
mod raw;

/// What every frame begins with.
const PREFIX: usize = 8;
/// What a request and a reply begin with: one cache line.
const HEADER: usize = 64;

mod tag {
    pub(super) const REQUEST: u8 = 1;
    pub(super) const RELEASE: u8 = 2;
    pub(super) const STOP_ASKED: u8 = 3;
    pub(super) const QUIT: u8 = 4;
    pub(super) const GRANT: u8 = 5;
    pub(super) const ENOUGH: u8 = 6;
    #[cfg(target_os = "linux")]
    pub(crate) const PART: u8 = 64;
    pub(super) const READY: u8 = 129;
    pub(super) const BROKEN: u8 = 130;
    pub(super) const REPLY: u8 = 131;
    pub(super) const LOG: u8 = 132;
    #[cfg(unix)]
    pub(super) const BEGAN: u8 = 133;
    #[cfg(unix)]
    pub(super) const FREE: u8 = 134;
    pub(super) const ASK: u8 = 135;
    pub(super) const ITEM: u8 = 136;
    pub(super) const EVENT: u8 = 137;
    pub(super) const PROGRESS: u8 = 138;
}

mod bits {
    pub(super) const STORED: u8 = 1;
    pub(super) const HAS_ID: u8 = 2;
    pub(super) const LOST: u8 = 4;
}

/// Where the parts of a header lie.
mod at {
    pub(super) const BITS: usize = 1;
    pub(super) const STATUS: usize = 2;
    pub(super) const ZERO: usize = 3;
    pub(super) const WORD: usize = 4;
    pub(super) const SEQ: usize = 8;
    pub(super) const ATTEMPT: usize = 16;
    pub(super) const FLAGS: usize = 20;
    pub(super) const RUN_NS: usize = 16;
    pub(super) const DROPPED: usize = 16;
    pub(super) const KIND_LEN: usize = 24;
    pub(super) const ID_LEN: usize = 28;
    pub(super) const CONTEXT_LEN: usize = 32;
    pub(super) const BUFFERS: usize = 36;
    pub(super) const STREAM_LEN: usize = 40;
    pub(super) const AREA_OFFSET: usize = 48;
    pub(super) const AREA_LEN: usize = 56;
}

/// What a lane sends as requests of its own, in their flags. The other bits are the language's.
pub mod control {
    /// The set-up of the child.
    pub const SETUP: u32 = 4;
    /// A worker's configuration.
    pub const CONFIGURE: u32 = 8;
    /// A definition, with its number in the place of the worker's, for messages to come.
    pub const DEFINE: u32 = 32;
    /// The definitions before it are forgotten.
    pub const ANEW: u32 = 64;
    /// The payload is those of several messages that run together: see [`Parcel::apart`](crate::Parcel::apart).
    pub const TOGETHER: u32 = 128;
}

/// A message for a worker of the child. `P` is a [`Payload`] to send, or the [`RawPayload`] of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a, P> {
    /// The number that the reply carries too.
    pub seq: u64,
    /// The number of the worker in the child.
    pub worker: u32,
    /// Which delivery it is, from 1.
    pub attempt: u32,
    /// The bits of [`control`], and others of the sender's language; not looked at here.
    pub flags: u32,
    /// What the worker's handlers are chosen by.
    pub kind: &'a str,
    /// The sender's name for the message.
    pub id: Option<&'a str>,
    /// What surrounds the call in the sender's language, opaque here.
    pub context: &'a [u8],
    /// The data.
    pub payload: P,
}

/// What became of a message. `P` as for [`Request`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyFrame<'a, P> {
    /// The number of the request.
    pub seq: u64,
    /// How it ended.
    pub status: ReplyStatus,
    /// How long the handler ran, in nanoseconds.
    pub run_ns: u64,
    /// What there is to say of a failure, opaque here.
    pub note: &'a [u8],
    /// The handler's result.
    pub payload: P,
}

/// What a handler tells the owner of its worker while it runs. `P` as for [`Request`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a, P> {
    /// The number of the request that runs.
    pub seq: u64,
    /// How many events of the child were dropped since the last one that was sent.
    pub dropped: u64,
    /// What the owner's handlers are chosen by.
    pub name: &'a str,
    /// The data.
    pub payload: P,
}

/// How a message ended in the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ReplyStatus {
    /// The handler returned.
    Completed = 0,
    /// The handler failed.
    Failed = 1,
    /// It was revoked before it began.
    Skipped = 2,
}

/// A frame for the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToChild<'a> {
    /// A message.
    Request(Request<'a, RawPayload<'a>>),
    /// The host has read a payload of the child's store.
    Release {
        /// Where the payload begins; see [`Store::release`](crate::store::Store::release).
        offset: u64,
    },
    /// The handler of a message is asked to stop.
    StopAsked {
        /// The number of the request.
        seq: u64,
    },
    /// The child is to end when it has answered what it was sent.
    Quit,
    /// So many items of a stream were read: as many more may be sent.
    Grant {
        /// The number of the request.
        seq: u64,
        /// How many.
        items: u32,
    },
    /// No more items of a stream are read.
    Enough {
        /// The number of the request.
        seq: u64,
    },
}

/// A frame for the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToHost<'a> {
    /// The child is set up.
    Ready {
        /// Opaque here.
        bytes: &'a [u8],
    },
    /// The initializer failed.
    Broken {
        /// Opaque here.
        bytes: &'a [u8],
    },
    /// What became of a message.
    Reply(ReplyFrame<'a, RawPayload<'a>>),
    /// An item of the stream that a message is answered with, before its reply.
    Item {
        /// The number of the request.
        seq: u64,
        /// The item.
        payload: RawPayload<'a>,
    },
    /// An event that a handler emits, before the reply of its message.
    Event(Event<'a, RawPayload<'a>>),
    /// How far a handler is, before the reply of its message.
    Progress {
        /// The number of the request.
        seq: u64,
        /// In the words of the two ends.
        payload: RawPayload<'a>,
    },
    /// Something for the host's log.
    Log {
        /// Opaque here.
        bytes: &'a [u8],
    },
    /// The child asks for a descriptor; see [`Door`](crate::Door).
    Ask {
        /// Which, opaque here.
        bytes: &'a [u8],
    },
}

/// A frame for the host's end of a link, which the users of the link do not see.
#[cfg(unix)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A request is about to run.
    Began {
        /// The number of the request.
        seq: u64,
    },
    /// A request goes on in the background, and the child comes for the next.
    Free {
        /// The number of the request.
        seq: u64,
    },
}

/// Bytes that are no frame, or a frame that contradicts itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// It ends within its header.
    Short {
        /// The length of the frame.
        len: usize,
    },
    /// It is not for this side, or there is no such frame.
    Tag(u8),
    /// Something is set that this frame has no use for.
    Bits,
    /// There is no such status.
    Status(u8),
    /// Its parts are longer or shorter than the frame, all together.
    Length {
        /// The length of the frame.
        len: usize,
    },
    /// A text is not UTF-8.
    Text {
        /// Which text.
        part: &'static str,
    },
    /// Stream and buffers do not fill the area, or the area is not within the store.
    Area {
        /// Where the area is said to begin.
        offset: u64,
        /// Its length.
        len: u64,
    },
    /// A stored area, and no store.
    NoStore,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { len } => write!(f, "a frame of {len} bytes ends within its header"),
            Self::Tag(tag) => write!(f, "no frame for this side has the tag {tag}"),
            Self::Bits => f.write_str("a frame has something set that it has no use for"),
            Self::Status(status) => write!(f, "no message has the status {status}"),
            Self::Length { len } => write!(f, "the parts of a frame do not add up to {len} bytes"),
            Self::Text { part } => write!(f, "the {part} of a message is not UTF-8"),
            Self::Area { offset, len } => write!(
                f,
                "an area of {len} bytes at {offset} does not hold its payload or is not within the store"
            ),
            Self::NoStore => f.write_str("a payload is stored where there is no store"),
        }
    }
}

impl Error for Malformed {}
