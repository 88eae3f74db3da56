//! The child: works, and lies when it is told to.

use std::sync::Arc;

use pytoweb_process::frame::{
    ReplyFrame, ReplyStatus, Request, ToChild, decode_for_child, encode_broken, encode_log,
    encode_quit, encode_reply,
};
use pytoweb_process::{ChildLink, Payload, arrive};

/// What it can be asked for, as the kind of a message.
pub(crate) const LIES: [&str; 12] = [
    "skips before it begins",
    "skips after it began",
    "answers twice",
    "answers what it was never sent",
    "answers from a store that is not there",
    "answers from beyond its store",
    "says what hosts say",
    "says a frame that does not exist",
    "says half a frame",
    "begins what it was never sent",
    "leaves what it was never sent",
    "is unfit after it worked",
];

/// The same for a link that has no claim words, where notices say who has a message.
pub(crate) const LIE_OF_A_SOCKET: &str = "leaves what it has not begun";

/// Tags and places of `frame.rs`, for frames that no encoder makes.
mod raw {
    pub(super) const BEGAN: u8 = 133;
    pub(super) const FREE: u8 = 134;
    pub(super) const STORED: u8 = 1;
    pub(super) const AT_BITS: usize = 1;
    pub(super) const AT_STREAM_LEN: usize = 40;
    pub(super) const AT_AREA_OFFSET: usize = 48;
    pub(super) const AT_AREA_LEN: usize = 56;
}

pub(crate) fn run() {
    let link = arrive().unwrap().link;
    let mut frame = Vec::new();
    loop {
        next(&link, &mut frame);
        match decode_for_child(&frame).unwrap() {
            ToChild::Request(request) => answer(&link, request.seq, kind_of(&request)),
            ToChild::Quit => return,
            _ => {}
        }
    }
}

fn kind_of<'a, P>(request: &Request<'a, P>) -> &'a str {
    request.kind
}

fn next(link: &Arc<dyn ChildLink>, frame: &mut Vec<u8>) {
    while !link.receive(frame).unwrap() {
        link.wait(None);
    }
}

fn reply(seq: u64, status: ReplyStatus) -> Vec<u8> {
    let mut head = Vec::new();
    let payload = Payload::empty();
    let reply = ReplyFrame {
        seq,
        status,
        run_ns: 1,
        note: &[],
        payload: &payload,
    };
    encode_reply(&reply, &mut head).unwrap();
    head
}

/// A reply whose payload is said to lie in the child's store.
fn stored_reply(seq: u64, offset: u64, len: u64) -> Vec<u8> {
    let mut head = reply(seq, ReplyStatus::Completed);
    head[raw::AT_BITS] |= raw::STORED;
    for (at, number) in [
        (raw::AT_STREAM_LEN, len),
        (raw::AT_AREA_OFFSET, offset),
        (raw::AT_AREA_LEN, len),
    ] {
        head[at..at + 8].copy_from_slice(&number.to_le_bytes());
    }
    head
}

fn notice(tag: u8, seq: u64) -> Vec<u8> {
    let mut frame = vec![tag, 0, 0, 0, 0, 0, 0, 0];
    frame.extend_from_slice(&seq.to_le_bytes());
    frame
}

fn answer(link: &Arc<dyn ChildLink>, seq: u64, kind: &str) {
    let say = |frame: &[u8]| link.send(frame, &[]).unwrap();
    let mut frame = Vec::new();
    match kind {
        "skips before it begins" => return say(&reply(seq, ReplyStatus::Skipped)),
        LIE_OF_A_SOCKET => {
            say(&notice(raw::FREE, seq));
            return say(&reply(seq, ReplyStatus::Completed));
        }
        "takes the next and keeps it" => {
            assert!(link.begin(seq));
            say(&reply(seq, ReplyStatus::Completed));
            next(link, &mut frame);
            let Ok(ToChild::Request(kept)) = decode_for_child(&frame) else {
                panic!("another message comes next");
            };
            let kept = kept.seq;
            encode_log(b"kept", &mut frame);
            say(&frame);
            // Whatever comes, comes after the host has taken it back or asked it to stop.
            next(link, &mut frame);
            return say(&reply(kept, ReplyStatus::Completed));
        }
        _ => {}
    }
    if !link.begin(seq) {
        return say(&reply(seq, ReplyStatus::Skipped));
    }
    match kind {
        "skips after it began" => return say(&reply(seq, ReplyStatus::Skipped)),
        "answers twice" => say(&reply(seq, ReplyStatus::Completed)),
        "answers what it was never sent" => say(&reply(seq + 500, ReplyStatus::Completed)),
        "answers from a store that is not there" => return say(&stored_reply(seq, 1 << 40, 64)),
        "answers from beyond its store" => return say(&stored_reply(seq, 0, 1 << 60)),
        "says what hosts say" => {
            encode_quit(&mut frame);
            say(&frame);
        }
        "says a frame that does not exist" => say(&[200, 0, 0, 0, 0, 0, 0, 0]),
        "says half a frame" => say(&[131, 0, 0]),
        "begins what it was never sent" => say(&notice(raw::BEGAN, seq + 7)),
        "leaves what it was never sent" => say(&notice(raw::FREE, seq + 7)),
        "is unfit after it worked" => {
            encode_broken(b"reason", &mut frame);
            say(&frame);
        }
        _ => {}
    }
    say(&reply(seq, ReplyStatus::Completed));
}
