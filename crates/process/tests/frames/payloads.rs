//! Payloads from the packer to the parcel.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{
    AreaPlace, INLINE_LIMIT, Packer, Payload, RawPayload, ReplyFrame, ReplyStatus, Store, ToHost,
};
use super::{decode_for_host, frame, pack, view, whole};
use crate::payload::{ALIGNMENT, Bytes, Parcel, Release};

fn copy(bytes: Bytes<'_>) -> Vec<u8> {
    let mut copy = vec![0; bytes.len()];
    assert!(bytes.copy_to(&mut copy));
    assert!(!bytes.copy_to(&mut vec![0; bytes.len() + 1]));
    copy
}

fn check_parcel(parcel: &Parcel, stream: &[u8], buffers: &[Vec<u8>]) {
    assert!(copy(parcel.stream()) == stream);
    assert_eq!(parcel.buffers(), buffers.len());
    for (index, buffer) in buffers.iter().enumerate() {
        let found = parcel.buffer(index).unwrap();
        assert!(copy(found) == *buffer);
        assert_eq!(
            (found.as_ptr() as usize).wrapping_sub(parcel.stream().as_ptr() as usize) % ALIGNMENT,
            0
        );
        let mut copied = vec![0; buffer.len()];
        assert!(parcel.copy_to(index, &mut copied));
        assert!(copied == *buffer);
    }
    assert!(parcel.buffer(buffers.len()).is_none());
    assert!(!parcel.copy_to(buffers.len(), &mut []));
}

/// That `raw` says of `payload` what is true, and becomes a parcel of `stream` and `buffers`.
pub(crate) fn check(
    raw: RawPayload<'_>,
    payload: &Payload,
    store: &Store,
    stream: &[u8],
    buffers: &[Vec<u8>],
) {
    assert_eq!(raw.stream_len(), stream.len() as u64);
    assert_eq!(raw.stream_len(), payload.stream_len());
    assert!(
        raw.buffers()
            .eq(buffers.iter().map(|buffer| buffer.len() as u64))
    );
    assert!(raw.buffers().eq(payload.buffers().iter().copied()));
    assert_eq!(raw.place(), payload.place());
    let parcel = raw.into_parcel(Some(&view(store)), None).unwrap();
    check_parcel(&parcel, stream, buffers);
}

/// Sends `payload` as a reply.
fn send(payload: &Payload) -> Vec<u8> {
    let reply = ReplyFrame {
        seq: 1,
        status: ReplyStatus::Completed,
        run_ns: 0,
        note: &[],
        payload,
    };
    let mut head = Vec::new();
    frame::encode_reply(&reply, &mut head).unwrap();
    whole(&head, payload)
}

fn receive(frame: &[u8]) -> RawPayload<'_> {
    match decode_for_host(frame) {
        Ok(ToHost::Reply(reply)) => reply.payload,
        other => panic!("{other:?}"),
    }
}

/// Bytes that differ from place to place.
fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len)
        .map(|at| (at as u8).wrapping_mul(31).wrapping_add((at >> 8) as u8) ^ seed)
        .collect()
}

const SIZES: [usize; 6] = [
    0,
    1,
    INLINE_LIMIT - 1,
    INLINE_LIMIT,
    INLINE_LIMIT + 1,
    1 << 20,
];

#[test]
fn payloads_of_all_sizes_arrive() {
    let store = Store::create("test-payloads").unwrap();
    let view = view(&store);
    for with_store in [false, true] {
        for size in SIZES {
            for count in 0..=5 {
                let stream = pattern(size, 1);
                let buffers: Vec<_> = (0..count)
                    .map(|index| pattern(SIZES[(index + count) % SIZES.len()], index as u8))
                    .collect();
                let payload = pack(with_store.then_some(&store), &stream, &buffers);
                let stored = matches!(payload.place(), AreaPlace::Stored { .. });
                let expected = with_store && payload.area_len() >= INLINE_LIMIT as u64;
                assert_eq!(stored, expected, "{size} {count}");

                let frame = send(&payload);
                let parcel = receive(&frame).into_parcel(Some(&view), None).unwrap();
                check_parcel(&parcel, &stream, &buffers);
                assert_eq!(parcel.stream().as_slice().is_none(), stored);
                check_parcel(&payload.to_parcel(), &stream, &buffers);
            }
        }
    }
}

#[test]
fn a_stream_may_come_in_pieces() {
    let store = Store::create("test-pieces").unwrap();
    let view = view(&store);
    let whole = pattern(3 << 20, 7);
    for piece in [1000, 4096, 70_000] {
        let mut packer = Packer::new(Some(store.clone()));
        for piece in whole.chunks(piece) {
            packer.write(piece);
        }
        packer.buffer(b"and a buffer");
        let payload = packer.finish();
        let frame = send(&payload);
        let parcel = receive(&frame).into_parcel(Some(&view), None).unwrap();
        check_parcel(&parcel, &whole, &[b"and a buffer".to_vec()]);
    }
}

/// Where the area of what was packed so far lies in the store.
fn offset(payload: &Payload) -> u64 {
    match payload.place() {
        AreaPlace::Stored { offset, .. } => offset,
        AreaPlace::Inline(_) | AreaPlace::Lost { .. } => panic!("it is not in the store"),
    }
}

#[test]
fn a_large_piece_with_a_little_around_it_is_copied_once() {
    // Each block that an area moves through is taken from a store that was never used, so the offsets tell how many
    // there were: the first block lies at 0.
    let begin = b"what a pickle begins with";
    // The last one fills the smallest block that has room for it to the brim.
    for len in [100_000, 1 << 20, (1 << 20) - begin.len()] {
        let store = Store::create("test-once").unwrap();
        let mut packer = Packer::new(Some(store.clone()));
        packer.write(begin);
        packer.write(&vec![1; len]);
        packer.write(b"what a pickle ends with");
        assert_eq!(offset(&packer.finish()), 0);
    }
    let store = Store::create("test-once").unwrap();
    let mut packer = Packer::new(Some(store.clone()));
    packer.write(b"a stream");
    packer.reserve(5 * (100_000 + ALIGNMENT));
    for _ in 0..5 {
        packer.buffer(&[2; 100_000]);
    }
    assert_eq!(offset(&packer.finish()), 0);
}

#[test]
fn a_full_store_leaves_payloads_in_ordinary_memory() {
    let stream = pattern(200_000, 3);
    let buffers = [pattern(300_000, 4)];
    // Room for the whole payload, for the stream alone, for the first move only, and for nothing.
    for (room, stored) in [
        (1 << 20, true),
        (1 << 18, false),
        (1 << 15, false),
        (0, false),
    ] {
        let store = Store::create("test-full").unwrap();
        let _taken = fill(&store, room);
        let mut packer = Packer::new(Some(store.clone()));
        for piece in stream.chunks(10_000) {
            packer.write(piece);
        }
        packer.buffer(&buffers[0]);
        let payload = packer.finish();
        assert_eq!(
            matches!(payload.place(), AreaPlace::Stored { .. }),
            stored,
            "{room}"
        );
        let frame = send(&payload);
        let parcel = receive(&frame)
            .into_parcel(Some(&view(&store)), None)
            .unwrap();
        check_parcel(&parcel, &stream, &buffers);
    }
}

#[test]
fn a_payload_that_found_no_room_stays_where_it_is() {
    let store = Store::create("test-stays").unwrap();
    let taken = fill(&store, 0);
    let mut packer = Packer::new(Some(store));
    packer.write(&[1; 20_000]);
    drop(taken);
    packer.write(&[2; 20_000]);
    let payload = packer.finish();
    assert_eq!(
        payload.place(),
        AreaPlace::Inline(&[[1; 20_000], [2; 20_000]].concat())
    );
}

/// Takes everything but one stretch of `room` bytes.
fn fill(store: &Arc<Store>, room: usize) -> Vec<crate::store::Block> {
    let free = (room > 0).then(|| store.allocate(room).unwrap());
    let mut taken = Vec::new();
    let mut len = store.capacity();
    while len >= 16 << 10 {
        match store.allocate(len) {
            Some(block) => taken.push(block),
            None => len /= 2,
        }
    }
    drop(free);
    taken
}

#[test]
#[should_panic(expected = "the stream ended")]
fn a_stream_ends_where_the_buffers_begin() {
    let mut packer = Packer::new(None);
    packer.buffer(b"");
    packer.write(b"");
}

#[test]
fn a_dropped_payload_frees_its_block() {
    let store = Store::create("test-drop").unwrap();
    let stream = vec![1; 100_000];
    let first = offset(&pack(Some(&store), &stream, &[]));
    assert_eq!(offset(&pack(Some(&store), &stream, &[])), first);
}

#[test]
fn a_detached_payload_is_freed_by_the_reader_and_only_once() {
    let store = Store::create("test-detach").unwrap();
    let view = view(&store);
    let stream = pattern(100_000, 9);
    let mut payload = pack(Some(&store), &stream, &[]);
    let place = payload.place();
    let AreaPlace::Stored { offset: at, .. } = place else {
        panic!("{place:?}");
    };
    assert!(!store.release(at), "it was not detached yet");
    let frame = send(&payload);

    assert_eq!(payload.detach(), Some(at));
    assert_eq!(payload.detach(), None);
    assert!(matches!(payload.place(), AreaPlace::Stored { offset, len: 100_000 } if offset == at));
    drop(payload);

    let releases = Arc::new(AtomicUsize::new(0));
    let release: Release = {
        let (store, releases) = (store.clone(), releases.clone());
        Arc::new(move |offset| {
            assert!(store.release(offset));
            releases.fetch_add(1, Ordering::Relaxed);
        })
    };
    let parcel = receive(&frame)
        .into_parcel(Some(&view), Some(&release))
        .unwrap();
    let other = pack(Some(&store), &vec![0; 100_000], &[]);
    assert_ne!(offset(&other), at);
    check_parcel(&parcel, &stream, &[]);
    assert_eq!(releases.load(Ordering::Relaxed), 0);
    drop(parcel);
    assert_eq!(releases.load(Ordering::Relaxed), 1);
    assert_eq!(offset(&pack(Some(&store), &stream, &[])), at);
}

#[test]
fn an_inline_payload_has_nothing_to_detach_or_release() {
    let store = Store::create("test-inline").unwrap();
    let mut payload = pack(Some(&store), b"small", &[]);
    assert_eq!(payload.detach(), None);
    assert_eq!(payload.place(), AreaPlace::Inline(b"small"));
    let release: Release = Arc::new(|offset| panic!("{offset} was released"));
    let frame = send(&payload);
    let parcel = receive(&frame).into_parcel(None, Some(&release)).unwrap();
    check_parcel(&parcel, b"small", &[]);
}

#[test]
fn payloads_and_parcels_go_from_thread_to_thread() {
    fn shared<T: Send + Sync>() {}
    shared::<Payload>();
    shared::<Parcel>();
    shared::<Packer>();
    shared::<Store>();
    shared::<crate::store::View>();
}
