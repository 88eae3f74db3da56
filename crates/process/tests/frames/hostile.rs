//! Frames that no working side sends: refused, or ranges that exist. Never a panic.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{
    Just, Malformed, Packer, RawPayload, ReplyFrame, ReplyStatus, Request, Strategy, ToChild,
    ToHost, View, any, cases, decode_for_child, decode_for_host, frame, prop_assert,
    prop_assert_eq, prop_oneof, proptest, whole,
};
use crate::memory::Memory;
use crate::payload::{ALIGNMENT, Release};

const VIEW_LEN: usize = 1 << 16;

thread_local! {
    /// A store that is small, so that many numbers lie outside.
    static VIEW: Arc<View> = {
        let memory = Memory::create("test-hostile", VIEW_LEN, true).unwrap();
        Arc::new(View::open(memory.fd().try_clone_to_owned().unwrap()).unwrap())
    };
}

/// The length of an area with this stream and these buffers, in numbers that nothing can be too large for.
fn area_len(raw: &RawPayload<'_>) -> u128 {
    raw.buffers()
        .fold(u128::from(raw.stream_len()), |end, len| {
            end.next_multiple_of(ALIGNMENT as u128) + u128::from(len)
        })
}

/// Makes a parcel if that is possible, exactly when it should be, and looks at all of it.
fn open(raw: RawPayload<'_>) {
    let view = VIEW.with(Arc::clone);
    let releases = Arc::new(AtomicUsize::new(0));
    let release: Release = {
        let releases = releases.clone();
        Arc::new(move |_| {
            releases.fetch_add(1, Ordering::Relaxed);
        })
    };
    // All of it, so that other windows are this one.
    let window = view.window(0, VIEW_LEN as u64).unwrap();
    let (start, stored_len) = match raw.place() {
        crate::payload::AreaPlace::Inline(area) => (area.as_ptr() as usize, None),
        crate::payload::AreaPlace::Lost { len } => {
            let parcel = raw.into_parcel(None, None).unwrap();
            assert_eq!(parcel.lost(), Some(usize::try_from(len).unwrap()));
            assert!(parcel.stream().is_empty() && parcel.buffers() == 0);
            return;
        }
        crate::payload::AreaPlace::Stored { offset, len } => {
            let start = window.pointer(0, 0).unwrap().as_ptr() as usize;
            (start, Some((offset, len)))
        }
    };
    let inside = stored_len
        .is_none_or(|(offset, len)| u128::from(offset) + u128::from(len) <= VIEW_LEN as u128);
    let len = match raw.place() {
        crate::payload::AreaPlace::Inline(area) => area.len() as u64,
        crate::payload::AreaPlace::Stored { len, .. } | crate::payload::AreaPlace::Lost { len } => {
            len
        }
    };
    let sound = inside && area_len(&raw) == u128::from(len);
    if stored_len.is_some() {
        assert_eq!(
            raw.into_parcel(None, Some(&release)).err(),
            Some(Malformed::NoStore)
        );
    }
    match raw.into_parcel(Some(&view), Some(&release)) {
        Err(error) => {
            assert!(!sound, "{error}");
            assert!(matches!(error, Malformed::Area { .. }), "{error:?}");
            assert_eq!(releases.load(Ordering::Relaxed), 0);
        }
        Ok(parcel) => {
            assert!(sound, "{raw:?}");
            let ranges = (0..parcel.buffers())
                .map(|index| parcel.buffer(index).unwrap())
                .chain([parcel.stream()]);
            for range in ranges {
                match range.as_slice() {
                    Some(_) => assert!(stored_len.is_none()),
                    None => {
                        let first = range.as_ptr() as usize;
                        assert!(first >= start && first + range.len() <= start + VIEW_LEN);
                    }
                }
                let mut copy = vec![0; range.len()];
                assert!(range.copy_to(&mut copy));
            }
            drop(parcel);
            let expected = usize::from(stored_len.is_some());
            assert_eq!(releases.load(Ordering::Relaxed), expected);
        }
    }
}

/// Lets both sides read `frame`, and says whether one of them took it.
fn read(frame: &[u8]) -> bool {
    let for_child = decode_for_child(frame);
    let for_host = decode_for_host(frame);
    if let Ok(ToChild::Request(request)) = &for_child {
        open(request.payload);
    }
    if let Ok(ToHost::Reply(reply)) = &for_host {
        open(reply.payload);
    }
    for error in [for_child.as_ref().err(), for_host.as_ref().err()] {
        assert!(error.is_none_or(|error| !error.to_string().is_empty()));
    }
    assert!(
        for_child.is_err() || for_host.is_err(),
        "it is for one side"
    );
    for_child.is_ok() || for_host.is_ok()
}

/// A frame as a working side makes it; the area of some is said to be stored.
fn valid() -> impl Strategy<Value = Vec<u8>> {
    let small = || proptest::collection::vec(any::<u8>(), 0..40);
    (
        any::<bool>(),
        "[a-z]{0,9}",
        proptest::option::of("[a-z]{0,9}"),
        small(),
        small(),
        proptest::collection::vec(small(), 0..4),
        proptest::option::of(0..VIEW_LEN as u64),
    )
        .prop_map(|(request, kind, id, context, stream, buffers, stored)| {
            let mut packer = Packer::new(None);
            packer.write(&stream);
            for buffer in &buffers {
                packer.buffer(buffer);
            }
            let payload = packer.finish();
            let mut head = Vec::new();
            if request {
                let request = Request {
                    seq: 1,
                    worker: 2,
                    attempt: 3,
                    flags: 4,
                    kind: &kind,
                    id: id.as_deref(),
                    context: &context,
                    payload: &payload,
                };
                frame::encode_request(&request, &mut head).unwrap();
            } else {
                let reply = ReplyFrame {
                    seq: 1,
                    status: ReplyStatus::Failed,
                    run_ns: 5,
                    note: &context,
                    payload: &payload,
                };
                frame::encode_reply(&reply, &mut head).unwrap();
            }
            let Some(offset) = stored else {
                return whole(&head, &payload);
            };
            head[1] |= 1;
            head[48..56].copy_from_slice(&offset.to_le_bytes());
            head
        })
}

#[derive(Debug, Clone)]
enum Mutation {
    Byte { at: usize, value: u8 },
    Flip { at: usize, bit: u8 },
    Number { at: usize, value: u64 },
    Half { at: usize, value: u32 },
    Cut { at: usize },
    Insert { at: usize, bytes: Vec<u8> },
}

/// Numbers that sums and comparisons stumble over.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..100_u64,
        Just(u64::MAX),
        Just(u64::MAX - 63),
        Just(1 << 63),
        Just(1 << 32),
        Just(u64::from(u32::MAX)),
        Just(VIEW_LEN as u64),
        any::<u64>(),
    ]
}

fn mutation() -> impl Strategy<Value = Mutation> {
    // The header and what follows it are where lengths stand.
    let at = || 0..120_usize;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, value)| Mutation::Byte { at, value }),
        (at(), 0..8_u8).prop_map(|(at, bit)| Mutation::Flip { at, bit }),
        (5..12_usize, number()).prop_map(|(word, value)| Mutation::Number {
            at: word * 8,
            value
        }),
        (1..12_usize, number()).prop_map(|(word, value)| Mutation::Half {
            at: word * 4,
            value: value as u32
        }),
        (0..300_usize).prop_map(|at| Mutation::Cut { at }),
        (at(), proptest::collection::vec(any::<u8>(), 1..10))
            .prop_map(|(at, bytes)| Mutation::Insert { at, bytes }),
    ]
}

fn overwrite(frame: &mut [u8], at: usize, bytes: &[u8]) {
    for (place, byte) in frame.iter_mut().skip(at).zip(bytes) {
        *place = *byte;
    }
}

fn apply(frame: &mut Vec<u8>, mutation: Mutation) {
    match mutation {
        Mutation::Byte { at, value } => overwrite(frame, at, &[value]),
        Mutation::Flip { at, bit } => {
            if let Some(byte) = frame.get_mut(at) {
                *byte ^= 1 << bit;
            }
        }
        Mutation::Number { at, value } => overwrite(frame, at, &value.to_le_bytes()),
        Mutation::Half { at, value } => overwrite(frame, at, &value.to_le_bytes()),
        Mutation::Cut { at } => frame.truncate(at),
        Mutation::Insert { at, bytes } => {
            let at = at.min(frame.len());
            frame.splice(at..at, bytes);
        }
    }
}

/// A header with a tag that exists and parts that are mostly small, and anything after it.
fn headed() -> impl Strategy<Value = Vec<u8>> {
    (
        prop_oneof![Just(3_u8), Just(131), 0..8_u8, 128..136_u8],
        0..4_u8,
        0..4_u8,
        proptest::collection::vec(prop_oneof![3 => 0..20_u32, 1 => any::<u32>()], 9),
        proptest::collection::vec(number(), 3),
        proptest::collection::vec(any::<u8>(), 0..150),
    )
        .prop_map(|(tag, bits, status, halves, words, rest)| {
            let mut frame = vec![tag, bits, status, 0];
            frame.extend(halves.iter().flat_map(|half| half.to_le_bytes()));
            frame.extend(words.iter().flat_map(|word| word.to_le_bytes()));
            frame.extend(rest);
            frame
        })
}

proptest! {
    #![proptest_config(cases(20_000))]

    #[test]
    fn any_bytes_are_read_without_harm(frame in proptest::collection::vec(any::<u8>(), 0..200)) {
        read(&frame);
    }

    #[test]
    fn mutated_frames_are_read_without_harm(
        frame in valid(),
        mutations in proptest::collection::vec(mutation(), 1..4),
    ) {
        let mut frame = frame;
        prop_assert!(read(&frame), "it is valid");
        for mutation in mutations {
            apply(&mut frame, mutation);
            read(&frame);
        }
    }

    #[test]
    fn any_header_is_read_without_harm(frame in headed()) {
        read(&frame);
    }
}

proptest! {
    #![proptest_config(cases(300))]

    /// Whatever is cut off or added, the parts do not add up.
    #[test]
    fn frames_of_another_length_are_refused(frame in valid(), more in any::<u8>()) {
        for len in 0..frame.len() {
            prop_assert!(!read(&frame[..len]));
        }
        let longer = [&frame[..], &[more]].concat();
        prop_assert!(!read(&longer));
    }
}

#[test]
fn what_a_frame_has_no_use_for_is_zero() {
    let mut frames = vec![Vec::new(); 7];
    frame::encode_release(1, &mut frames[0]);
    frame::encode_stop_asked(1, &mut frames[1]);
    frame::encode_quit(&mut frames[2]);
    frame::encode_ready(b"x", &mut frames[3]);
    frame::encode_broken(b"x", &mut frames[4]);
    frame::encode_log(b"x", &mut frames[5]);
    frame::encode_ask(b"x", &mut frames[6]);
    for frame in frames {
        assert!(read(&frame));
        let tag = frame[0];
        for at in 1..8 {
            let mut changed = frame.clone();
            changed[at] = 0x80;
            assert!(!read(&changed), "byte {at} of tag {tag}");
        }
    }
}

#[test]
fn what_a_header_has_no_use_for_is_zero() {
    let payload = Packer::new(None).finish();
    let request = Request {
        seq: 1,
        worker: 2,
        attempt: 3,
        flags: 4,
        kind: "kind",
        id: None,
        context: b"context",
        payload: &payload,
    };
    let reply = ReplyFrame {
        seq: 1,
        status: ReplyStatus::Completed,
        run_ns: 5,
        note: b"note",
        payload: &payload,
    };
    let mut head = Vec::new();
    frame::encode_request(&request, &mut head).unwrap();
    refuses(
        &head,
        &[(1, 8), (1, 0x80), (2, 1), (3, 1), (48, 1), (55, 1)],
    );
    frame::encode_reply(&reply, &mut head).unwrap();
    let unused: Vec<_> = [(1, 2), (1, 8), (3, 1), (48, 1), (55, 1)]
        .into_iter()
        .chain((24..36).map(|at| (at, 1)))
        .collect();
    refuses(&head, &unused);
}

/// That `frame` is read, and not with any of these bits set.
fn refuses(frame: &[u8], bits: &[(usize, u8)]) {
    assert!(read(frame));
    for (at, bit) in bits {
        let mut changed = frame.to_vec();
        changed[*at] |= bit;
        let tag = frame[0];
        let error = decode_for_child(&changed).err().filter(|_| tag < 128);
        let error = error.or(decode_for_host(&changed).err().filter(|_| tag >= 128));
        assert_eq!(error, Some(Malformed::Bits), "bit {bit} of byte {at}");
    }
}

#[test]
fn errors_say_what_is_wrong() {
    assert_eq!(decode_for_child(&[]), Err(Malformed::Short { len: 0 }));
    assert_eq!(
        decode_for_host(&[131; 20]),
        Err(Malformed::Short { len: 20 })
    );
    assert_eq!(decode_for_host(&[7; 8]), Err(Malformed::Tag(7)));
    let mut reply = vec![0; 64];
    reply[0] = 131;
    reply[2] = 3;
    assert_eq!(decode_for_host(&reply), Err(Malformed::Status(3)));
    let mut request = vec![0; 65];
    request[0] = 1;
    request[24] = 1;
    request[64] = 0xff;
    assert_eq!(
        decode_for_child(&request),
        Err(Malformed::Text { part: "kind" })
    );
    request[64] = b'k';
    // An id where the bits say that there is none.
    request[24..32].copy_from_slice(&[0, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(decode_for_child(&request), Err(Malformed::Bits));
}
