//! Frames out of bytes that are split anywhere, and out of bytes that are no frames.

use proptest::collection::vec;
use proptest::prelude::{any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::{Just, Strategy};

use super::super::frames::{Filled, Frames, PREFIX};
use super::super::stream::behind;
use super::*;
use pytoweb_engine::testing::cases;

fn pipe() -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    ours.set_nonblocking(true).expect("a socket");
    theirs.set_nonblocking(true).expect("a socket");
    (ours, theirs)
}

/// Reads all that is there, by one of the two ways.
fn read(frames: &mut Frames, stream: &UnixStream, copied: bool) -> Result<Vec<Vec<u8>>, Broken> {
    let mut all = Vec::new();
    let mut frame = Vec::new();
    loop {
        if copied {
            while frames.next_into(&mut frame)? {
                all.push(frame.clone());
            }
        } else {
            while let Some(frame) = frames.next()? {
                all.push(frame.to_vec());
            }
        }
        match frames.fill(stream)? {
            Filled::Some(bytes) => assert!(bytes > 0),
            Filled::All => {}
            Filled::Nothing | Filled::End => return Ok(all),
        }
    }
}

/// Lengths around the limits of the chunk, and small ones.
fn length() -> impl Strategy<Value = usize> {
    prop_oneof![
        8 => 0..100_usize,
        1 => Just(32 << 10),
        2 => (32_usize << 10) - 8..(32 << 10) + 8,
        1 => (64_usize << 10) - 8..(64 << 10) + 8,
        1 => 0..200_000_usize,
    ]
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn frames_come_out_however_their_bytes_are_split(
        lens in vec(length(), 0..12),
        cuts in vec(1..40_000_usize, 1..20),
        copied in any::<bool>(),
    ) {
        let sent: Vec<Vec<u8>> = lens
            .iter()
            .enumerate()
            .map(|(number, len)| (0..*len).map(|i| (number * 31 + i * 7) as u8).collect())
            .collect();
        let bytes: Vec<u8> = sent.iter().flat_map(|frame| framed(frame)).collect();
        let (ours, mut theirs) = pipe();
        let mut frames = Frames::new(1 << 20);
        let mut found = Vec::new();
        let mut rest = &bytes[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, left) = rest.split_at((*cut).min(rest.len()));
            theirs.write_all(piece).expect("room");
            rest = left;
            found.extend(read(&mut frames, &ours, copied).expect("frames"));
        }
        prop_assert!(found == sent);
        drop(theirs);
        prop_assert_eq!(frames.fill(&ours).expect("the end"), Filled::End);
    }

    #[test]
    fn any_bytes_do_no_harm_to_the_decoder(bytes in vec(any::<u8>(), 0..2_000), limit in 0..5_000_usize) {
        let (ours, mut theirs) = pipe();
        theirs.write_all(&bytes).expect("room");
        let mut frames = Frames::new(limit);
        match read(&mut frames, &ours, false) {
            Ok(all) => {
                let used: usize = all.iter().map(|frame| frame.len() + 4).sum();
                prop_assert!(used <= bytes.len() && all.iter().all(|frame| frame.len() <= limit));
            }
            Err(broken) => {
                prop_assert!(matches!(broken, Broken::Nonsense(_)), "{}", broken);
                prop_assert!(frames.next().is_err(), "it goes on after nonsense");
            }
        }
    }

    #[test]
    fn any_frames_do_no_harm_to_the_host(
        sent in vec(
            prop_oneof![
                vec(any::<u8>(), 0..100),
                (129..136_u8, vec(any::<u8>(), 0..80)).prop_map(|(tag, rest)| {
                    let mut frame = vec![tag, 0, 0, 0, 0, 0, 0, 0];
                    frame.extend(rest);
                    frame
                }),
                (0..4_u64, any::<bool>()).prop_map(|(seq, free)| notice(if free {
                    Notice::Free { seq }
                } else {
                    Notice::Began { seq }
                })),
                (0..4_u64).prop_map(|seq| reply(seq, &payload(b""))),
            ],
            0..10,
        ),
    ) {
        let (host, mut child) = host();
        for seq in 0..3 {
            offer(&host, seq, b"data");
        }
        for frame in &sent {
            child.write_all(&framed(frame)).expect("room");
        }
        let mut answered = Vec::new();
        let result = host.receive(&mut |frame| {
            if let Got::Reply(seq, ..) = got(&host, frame)? {
                answered.push(seq);
            }
            Ok(())
        });
        prop_assert!(!matches!(result, Err(Broken::Io(_) | Broken::Closed)), "{:?}", result);
        // Whatever it wrote: each request is answered once at most, and in its turn.
        prop_assert!(answered.iter().all(|seq| *seq < 3));
        let mut once = answered.clone();
        once.dedup();
        prop_assert_eq!(once.len(), answered.len());
        prop_assert!(result.is_ok() || received(&host).expect("told once").is_empty());
    }

    #[test]
    fn parts_are_cut_at_any_byte(lens in any::<[u8; 3]>(), skip in 0..800_usize) {
        let bytes: Vec<u8> = (0..765).map(|i| (i % 251) as u8).collect();
        let [first, second, third] = lens.map(usize::from);
        let whole = &bytes[..first + second + third];
        let parts = [&whole[..first], &whole[first..first + second], &whole[first + second..]];
        let skip = skip.min(whole.len());
        prop_assert_eq!(behind(&parts, skip).concat(), &whole[skip..]);
    }
}

#[test]
fn a_length_that_lies_takes_no_memory() {
    let (ours, mut theirs) = pipe();
    theirs
        .write_all(&(u32::MAX - 1).to_le_bytes())
        .expect("room");
    theirs.write_all(&[0; 1_000]).expect("room");
    let mut frames = Frames::new(u32::MAX as usize);
    assert!(read(&mut frames, &ours, false).expect("a part").is_empty());
    let taken = frames.taken();
    assert!(taken <= 256 << 10, "{taken} bytes for a thousand");
}

#[test]
fn a_length_beyond_the_limit_is_refused_before_its_bytes_come() {
    let (ours, mut theirs) = pipe();
    theirs.write_all(&1_001_u32.to_le_bytes()).expect("room");
    let mut frames = Frames::new(1_000);
    let result = read(&mut frames, &ours, false);
    assert!(matches!(result, Err(Broken::Nonsense(_))), "{result:?}");
}

#[test]
fn the_memory_of_a_large_frame_is_given_back() {
    let (ours, mut theirs) = pipe();
    let mut frames = Frames::new(1 << 30);
    let bytes = framed(&vec![1; 4 << 20]);
    let mut found = Vec::new();
    for piece in bytes.chunks(50_000) {
        theirs.write_all(piece).expect("room");
        found.extend(read(&mut frames, &ours, false).expect("a frame"));
    }
    assert_eq!(found.len(), 1);
    assert!(frames.next().expect("nothing").is_none());
    let taken = frames.taken();
    assert!(taken <= 256 << 10, "{taken} bytes for nothing");
}

#[test]
fn a_large_frame_may_come_with_the_beginning_of_the_next() {
    let (ours, mut theirs) = pipe();
    let mut frames = Frames::new(1 << 20);
    let sent = [vec![1; 40_000], vec![2; 10], vec![3; 40_000]];
    let bytes: Vec<u8> = sent.iter().flat_map(|frame| framed(frame)).collect();
    let (first, rest) = bytes.split_at(10_000);
    theirs.write_all(first).expect("room");
    let mut found = read(&mut frames, &ours, false).expect("a part");
    frames.widen(5_000);
    theirs.write_all(rest).expect("room");
    found.extend(read(&mut frames, &ours, false).expect("frames"));
    assert!(found == sent);
}

/// Of a reply that there is no memory for, all but its area is there, and what follows is as it was.
#[test]
fn a_frame_without_memory_for_it_loses_its_area_and_no_more() {
    let payload = payload(&vec![5; 300_000]);
    let large = [&reply(7, &payload)[..], area(&payload)].concat();
    for lose_after in [0, 40, 63, 65, 100, 70_000, 250_000] {
        let (ours, mut theirs) = pipe();
        let mut frames = Frames::new(1 << 20);
        let mut found = Vec::new();
        let sent = framed(&large);
        let (first, rest) = sent.split_at(lose_after + PREFIX);
        let mut lost = false;
        for piece in first
            .chunks(40_000)
            .chain(rest.chunks(40_000))
            .chain([&framed(b"next")[..]])
        {
            theirs.write_all(piece).expect("room");
            found.extend(read(&mut frames, &ours, true).expect("frames"));
            lost = lost || frames.lose();
        }
        assert!(lost);
        assert_eq!(found.len(), 2);
        assert_eq!(found[1], b"next");
        let Ok(ToHost::Reply(reply)) = decode_for_host(&found[0]) else {
            panic!("{lose_after}: {:?}", decode_for_host(&found[0]));
        };
        assert_eq!(reply.seq, 7);
        assert_eq!(reply.payload.place(), AreaPlace::Lost { len: 300_000 });
        let parcel = reply.payload.into_parcel(None, None).expect("lost");
        assert_eq!(parcel.lost(), Some(300_000));
    }
}
