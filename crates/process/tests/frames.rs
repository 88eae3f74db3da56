//! Frames and the payloads in them: what goes in comes out, and no bytes at all do harm.
//!
//! The sources are compiled as modules of this test, which reaches the parts that no user sees.

#![cfg(target_os = "linux")]
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    clippy::allow_attributes,
    reason = "the crate's modules are compiled again, and a test uses few of their items"
)]
#![expect(clippy::unwrap_used, reason = "what tests share fails like they do")]

#[path = "../src/copy.rs"]
mod copy;
#[path = "../src/frame.rs"]
mod frame;
#[path = "../src/memory.rs"]
mod memory;
#[path = "../src/payload.rs"]
mod payload;
#[path = "../src/store.rs"]
mod store;

#[path = "frames/hostile.rs"]
mod hostile;
#[path = "frames/payloads.rs"]
mod payloads;

use std::sync::Arc;

use proptest::prelude::{any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::{Just, Strategy};

use frame::{
    Event, Malformed, RawPayload, ReplyFrame, ReplyStatus, Request, ToChild, ToHost,
    decode_for_child, decode_for_host,
};
use payload::{AreaPlace, INLINE_LIMIT, Packer, Payload};
use pytoweb_engine::testing::cases;
use store::{Store, View};

fn view(store: &Store) -> Arc<View> {
    Arc::new(View::open(store.fd().try_clone_to_owned().unwrap()).unwrap())
}

fn pack(store: Option<&Arc<Store>>, stream: &[u8], buffers: &[Vec<u8>]) -> Payload {
    let mut packer = Packer::new(store.cloned());
    packer.write(stream);
    for buffer in buffers {
        packer.buffer(buffer);
    }
    packer.finish()
}

/// What is pushed into the ring: the head, and the area if it lies in ordinary memory.
fn whole(head: &[u8], payload: &Payload) -> Vec<u8> {
    match payload.place() {
        AreaPlace::Inline(area) => [head, area].concat(),
        AreaPlace::Stored { .. } | AreaPlace::Lost { .. } => head.to_vec(),
    }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..100)
}

fn status() -> impl Strategy<Value = ReplyStatus> {
    prop_oneof![
        Just(ReplyStatus::Completed),
        Just(ReplyStatus::Failed),
        Just(ReplyStatus::Skipped)
    ]
}

/// A stream and buffers, now and then too large for a frame.
fn contents() -> impl Strategy<Value = (Vec<u8>, Vec<Vec<u8>>)> {
    let length = || prop_oneof![9 => 0..200_usize, 1 => 0..3 * INLINE_LIMIT];
    let filled = |(len, byte)| vec![byte; len];
    (
        (length(), any::<u8>()).prop_map(filled),
        proptest::collection::vec((length(), any::<u8>()).prop_map(filled), 0..5),
    )
}

proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn requests_come_back(
        (seq, worker, attempt, flags) in any::<(u64, u32, u32, u32)>(),
        kind in any::<String>(),
        id in any::<Option<String>>(),
        context in bytes(),
        (stream, buffers) in contents(),
        stored in any::<bool>(),
    ) {
        let store = Store::create("test-requests").unwrap();
        let payload = pack(stored.then_some(&store), &stream, &buffers);
        let request = Request {
            seq,
            worker,
            attempt,
            flags,
            kind: &kind,
            id: id.as_deref(),
            context: &context,
            payload: &payload,
        };
        let mut head = b"what was there before".to_vec();
        frame::encode_request(&request, &mut head).unwrap();
        let bytes = whole(&head, &payload);

        let Ok(ToChild::Request(found)) = decode_for_child(&bytes) else {
            panic!("{:?}", decode_for_child(&bytes));
        };

        prop_assert_eq!(
            (found.seq, found.worker, found.attempt, found.flags),
            (seq, worker, attempt, flags)
        );
        prop_assert_eq!(found.kind, &kind);
        prop_assert_eq!(found.id, id.as_deref());
        prop_assert_eq!(found.context, &context);
        payloads::check(found.payload, &payload, &store, &stream, &buffers);
        prop_assert_eq!(decode_for_host(&bytes), Err(Malformed::Tag(1)));
    }

    #[test]
    fn replies_come_back(
        (seq, run_ns) in any::<(u64, u64)>(),
        status in status(),
        note in bytes(),
        (stream, buffers) in contents(),
        stored in any::<bool>(),
    ) {
        let store = Store::create("test-replies").unwrap();
        let payload = pack(stored.then_some(&store), &stream, &buffers);
        let reply = ReplyFrame { seq, status, run_ns, note: &note, payload: &payload };
        let mut head = b"what was there before".to_vec();
        frame::encode_reply(&reply, &mut head).unwrap();
        let bytes = whole(&head, &payload);

        let Ok(ToHost::Reply(found)) = decode_for_host(&bytes) else {
            panic!("{:?}", decode_for_host(&bytes));
        };

        prop_assert_eq!((found.seq, found.status, found.run_ns), (seq, status, run_ns));
        prop_assert_eq!(found.note, &note);
        payloads::check(found.payload, &payload, &store, &stream, &buffers);
        prop_assert_eq!(decode_for_child(&bytes), Err(Malformed::Tag(131)));
    }

    #[test]
    fn items_come_back(
        seq in any::<u64>(),
        (stream, buffers) in contents(),
        stored in any::<bool>(),
    ) {
        let store = Store::create("test-items").unwrap();
        let payload = pack(stored.then_some(&store), &stream, &buffers);
        let mut head = b"what was there before".to_vec();
        frame::encode_item(seq, &payload, &mut head).unwrap();
        let bytes = whole(&head, &payload);

        let Ok(ToHost::Item { seq: found, payload: raw }) = decode_for_host(&bytes) else {
            panic!("{:?}", decode_for_host(&bytes));
        };

        prop_assert_eq!(found, seq);
        payloads::check(raw, &payload, &store, &stream, &buffers);
        prop_assert_eq!(decode_for_child(&bytes), Err(Malformed::Tag(136)));

        frame::encode_progress(seq, &payload, &mut head).unwrap();
        let bytes = whole(&head, &payload);
        let Ok(ToHost::Progress { seq: found, payload: raw }) = decode_for_host(&bytes) else {
            panic!("{:?}", decode_for_host(&bytes));
        };

        prop_assert_eq!(found, seq);
        payloads::check(raw, &payload, &store, &stream, &buffers);
        prop_assert_eq!(decode_for_child(&bytes), Err(Malformed::Tag(138)));
    }

    #[test]
    fn events_come_back(
        (seq, dropped) in any::<(u64, u64)>(),
        name in ".{0,40}",
        (stream, buffers) in contents(),
        stored in any::<bool>(),
    ) {
        let store = Store::create("test-events").unwrap();
        let payload = pack(stored.then_some(&store), &stream, &buffers);
        let event = Event { seq, dropped, name: &name, payload: &payload };
        let mut head = b"what was there before".to_vec();
        frame::encode_event(&event, &mut head).unwrap();
        let bytes = whole(&head, &payload);

        let Ok(ToHost::Event(found)) = decode_for_host(&bytes) else {
            panic!("{:?}", decode_for_host(&bytes));
        };

        prop_assert_eq!((found.seq, found.dropped, found.name), (seq, dropped, &name[..]));
        payloads::check(found.payload, &payload, &store, &stream, &buffers);
        prop_assert_eq!(decode_for_child(&bytes), Err(Malformed::Tag(137)));
    }

    #[test]
    fn small_frames_come_back(number in any::<u64>(), bytes in bytes()) {
        let mut frame = b"what was there before".to_vec();
        let bytes = &bytes[..];

        frame::encode_release(number, &mut frame);
        prop_assert_eq!(decode_for_child(&frame), Ok(ToChild::Release { offset: number }));
        frame::encode_stop_asked(number, &mut frame);
        prop_assert_eq!(decode_for_child(&frame), Ok(ToChild::StopAsked { seq: number }));
        frame::encode_quit(&mut frame);
        prop_assert_eq!(decode_for_child(&frame), Ok(ToChild::Quit));
        frame::encode_enough(number, &mut frame);
        prop_assert_eq!(decode_for_child(&frame), Ok(ToChild::Enough { seq: number }));
        let items = u32::try_from(number >> 32).unwrap();
        frame::encode_grant(number, items, &mut frame);
        prop_assert_eq!(decode_for_child(&frame), Ok(ToChild::Grant { seq: number, items }));

        frame::encode_ready(bytes, &mut frame);
        prop_assert_eq!(decode_for_host(&frame), Ok(ToHost::Ready { bytes }));
        frame::encode_broken(bytes, &mut frame);
        prop_assert_eq!(decode_for_host(&frame), Ok(ToHost::Broken { bytes }));
        frame::encode_log(bytes, &mut frame);
        prop_assert_eq!(decode_for_host(&frame), Ok(ToHost::Log { bytes }));
        frame::encode_ask(bytes, &mut frame);
        prop_assert_eq!(decode_for_host(&frame), Ok(ToHost::Ask { bytes }));
        prop_assert_eq!(frame::decode_notice(&frame), Ok(None));
        prop_assert_eq!(frame::seq_of_reply(&frame), None);
    }

    #[test]
    fn notices_come_back(seq in any::<u64>()) {
        let mut frame = b"what was there before".to_vec();
        for notice in [frame::Notice::Began { seq }, frame::Notice::Free { seq }] {
            frame::encode_notice(notice, &mut frame);
            prop_assert_eq!(frame::decode_notice(&frame), Ok(Some(notice)));
            prop_assert_eq!(decode_for_host(&frame), Err(Malformed::Tag(frame[0])));

            frame.push(0);
            prop_assert_eq!(frame::decode_notice(&frame), Err(Malformed::Length { len: 17 }));
            frame.pop();
            for at in 1..8 {
                frame[at] = 1;
                prop_assert_eq!(frame::decode_notice(&frame), Err(Malformed::Bits));
                frame[at] = 0;
            }
        }
    }
}

/// The layout is a contract of two processes, so a change of it has to be meant.
#[test]
fn the_layout_is_the_documented_one() {
    let payload = pack(None, b"stream", &[b"buffer".to_vec()]);
    let request = Request {
        seq: 0x0102_0304_0506_0708,
        worker: 9,
        attempt: 10,
        flags: 11,
        kind: "kind",
        id: Some("id"),
        context: b"context",
        payload: &payload,
    };
    let mut head = Vec::new();
    frame::encode_request(&request, &mut head).unwrap();
    let mut expected = vec![1, 2, 0, 0];
    for number in [9_u32, 0x0506_0708, 0x0102_0304, 10, 11, 4, 2, 7, 1] {
        expected.extend_from_slice(&number.to_le_bytes());
    }
    for number in [6_u64, 0, 70, 6] {
        expected.extend_from_slice(&number.to_le_bytes());
    }
    expected.extend_from_slice(b"kindidcontext");
    assert_eq!(head, expected);

    let reply = ReplyFrame {
        seq: 1,
        status: ReplyStatus::Skipped,
        run_ns: 2,
        note: b"note",
        payload: &payload,
    };
    frame::encode_reply(&reply, &mut head).unwrap();
    let mut expected = vec![131, 0, 2, 0, 4, 0, 0, 0];
    for number in [1_u64, 2, 0, 1 << 32, 6, 0, 70, 6] {
        expected.extend_from_slice(&number.to_le_bytes());
    }
    expected.extend_from_slice(b"note");
    assert_eq!(head, expected);
}
