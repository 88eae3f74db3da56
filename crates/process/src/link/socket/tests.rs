//! Both ends of a socket in this process, and bytes that no working child writes.

#[path = "tests/stream.rs"]
mod stream;
#[path = "tests/turns.rs"]
mod turns;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{END_GRACE, SocketChild, SocketHost};
use crate::frame::{
    self, Notice, ReplyFrame, ReplyStatus, Request, ToChild, ToHost, decode_for_child,
    decode_for_host, encode_log, encode_quit, encode_ready, encode_reply, encode_request,
};
use crate::link::{Broken, ChildLink, HostLink};
use crate::payload::{AreaPlace, Packer, Payload};

/// No test waits longer for anything.
const LIMIT: Duration = Duration::from_secs(20);

fn ends() -> (Arc<SocketHost>, Arc<SocketChild>) {
    let (host, child) = UnixStream::pair().expect("a socket pair");
    let child = SocketChild::open(child, false).expect("the child's end");
    (SocketHost::new(host).expect("the host's end"), child)
}

/// The host's end, and a bare socket in the place of the child.
fn host() -> (Arc<SocketHost>, UnixStream) {
    let (host, child) = UnixStream::pair().expect("a socket pair");
    child.set_read_timeout(Some(LIMIT)).expect("a timeout");
    child.set_write_timeout(Some(LIMIT)).expect("a timeout");
    (SocketHost::new(host).expect("the host's end"), child)
}

fn payload(bytes: &[u8]) -> Payload {
    let mut packer = Packer::new(None);
    packer.write(bytes);
    packer.finish()
}

fn area(payload: &Payload) -> &[u8] {
    match payload.place() {
        AreaPlace::Inline(area) => area,
        AreaPlace::Stored { .. } | AreaPlace::Lost { .. } => panic!("there is no store"),
    }
}

fn request(seq: u64, payload: &Payload) -> Vec<u8> {
    let mut head = Vec::new();
    let request = Request {
        seq,
        worker: 1,
        attempt: 1,
        flags: 0,
        kind: "kind",
        id: None,
        context: &[],
        payload,
    };
    encode_request(&request, &mut head).expect("a short request");
    head
}

fn reply(seq: u64, payload: &Payload) -> Vec<u8> {
    let mut head = Vec::new();
    let reply = ReplyFrame {
        seq,
        status: ReplyStatus::Completed,
        run_ns: 1,
        note: &[],
        payload,
    };
    encode_reply(&reply, &mut head).expect("a short reply");
    head
}

fn notice(notice: Notice) -> Vec<u8> {
    let mut frame = Vec::new();
    frame::encode_notice(notice, &mut frame);
    frame
}

fn log(len: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_log(&vec![7; len], &mut frame);
    frame
}

/// A frame as it goes over the socket.
fn framed(frame: &[u8]) -> Vec<u8> {
    let len = u32::try_from(frame.len()).expect("a short frame");
    [&len.to_le_bytes()[..], frame].concat()
}

/// What the host gets of a frame: the number and contents of a reply, or the length of something else.
#[derive(Debug, PartialEq, Eq)]
enum Got {
    Reply(u64, ReplyStatus, Vec<u8>),
    Other(usize),
}

fn got(link: &SocketHost, frame: ToHost<'_>) -> Result<Got, Broken> {
    Ok(match frame {
        ToHost::Reply(reply) => {
            let parcel = link.parcel(&reply.payload)?;
            let bytes = parcel.stream().as_slice().expect("ordinary memory");
            Got::Reply(reply.seq, reply.status, bytes.to_vec())
        }
        ToHost::Ready { bytes }
        | ToHost::Broken { bytes }
        | ToHost::Log { bytes }
        | ToHost::Ask { bytes } => Got::Other(bytes.len()),
        ToHost::Item { .. } | ToHost::Event(_) | ToHost::Progress { .. } => Got::Other(0),
    })
}

/// What has come.
fn received(link: &SocketHost) -> Result<Vec<Got>, Broken> {
    let mut all = Vec::new();
    let count = link.receive(&mut |frame| {
        all.push(got(link, frame)?);
        Ok(())
    })?;
    assert_eq!(count, all.len());
    Ok(all)
}

/// Waits for so many frames.
fn receive(link: &SocketHost, count: usize) -> Vec<Got> {
    let until = Instant::now() + LIMIT;
    let mut all = Vec::new();
    loop {
        all.extend(received(link).expect("a working child"));
        if all.len() >= count {
            return all;
        }
        assert!(Instant::now() < until, "only {all:?} came");
        link.wait(Some(LIMIT));
    }
}

/// Waits for the next frame of the child.
fn next(link: &SocketChild) -> Vec<u8> {
    let until = Instant::now() + LIMIT;
    let mut frame = Vec::new();
    while !link.receive(&mut frame).expect("a working host") {
        assert!(Instant::now() < until, "nothing came");
        link.wait(Some(LIMIT));
    }
    frame
}

/// Takes the next request, which has to be `seq`, and begins it. Gives its contents.
fn begin(link: &SocketChild, seq: u64) -> Vec<u8> {
    let frame = next(link);
    let Ok(ToChild::Request(request)) = decode_for_child(&frame) else {
        panic!("{:?} instead of request {seq}", decode_for_child(&frame));
    };
    assert_eq!(request.seq, seq);
    assert!(link.begin(seq));
    let parcel = request.payload.into_parcel(None, None).expect("sound");
    parcel
        .stream()
        .as_slice()
        .expect("ordinary memory")
        .to_vec()
}

fn answer(link: &SocketChild, seq: u64, bytes: &[u8]) {
    let payload = payload(bytes);
    link.send(&reply(seq, &payload), area(&payload))
        .expect("a working host");
}

fn offer(link: &SocketHost, seq: u64, bytes: &[u8]) {
    let payload = payload(bytes);
    link.offer(seq, &request(seq, &payload), area(&payload))
        .expect("a working child");
}

fn nothing_for(link: &SocketChild) -> bool {
    !link.receive(&mut Vec::new()).expect("a working host")
}

#[test]
fn large_payloads_go_both_ways_while_neither_side_reads_at_first() {
    let (host, child) = ends();
    let bytes: Vec<u8> = (0..64_usize << 20).map(|i| (i % 251) as u8).collect();
    let began = Instant::now();
    offer(&host, 0, &bytes);
    assert!(began.elapsed() < LIMIT, "an offer blocks");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(begin(&child, 0), bytes);
            answer(&child, 0, &bytes);
        });
        let all = receive(&host, 1);
        assert_eq!(all, [Got::Reply(0, ReplyStatus::Completed, bytes.clone())]);
    });
}

#[test]
fn frames_of_every_size_arrive_in_order() {
    let (host, child) = ends();
    let sizes = [
        0, 1, 32_700, 32_767, 32_768, 32_769, 65_535, 65_536, 100_000, 3,
    ];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for seq in 0..1_000 {
                let bytes = begin(&child, seq);
                answer(&child, seq, &bytes);
            }
        });
        for seq in 0..1_000_u64 {
            offer(
                &host,
                seq,
                &vec![seq as u8; sizes[seq as usize % sizes.len()]],
            );
        }
        let all = receive(&host, 1_000);
        assert_eq!(all.len(), 1_000);
        for (seq, got) in (0..).zip(all) {
            let bytes = vec![seq as u8; sizes[seq as usize % sizes.len()]];
            assert_eq!(got, Got::Reply(seq, ReplyStatus::Completed, bytes));
        }
    });
}

#[test]
fn wakes_reach_a_sleeper_on_either_side() {
    let (host, child) = ends();
    std::thread::scope(|scope| {
        let began = Instant::now();
        let sleepers = [
            scope.spawn(|| host.wait(Some(LIMIT))),
            scope.spawn(|| child.wait(Some(LIMIT))),
        ];
        host.wake();
        child.wake();
        for sleeper in sleepers {
            sleeper.join().expect("no panic");
        }
        assert!(began.elapsed() < LIMIT / 2, "it was not woken");
    });
}

#[test]
fn small_frames_do_not_wait_for_room() {
    let (host, child) = ends();
    assert!(child.fits(64 << 10) && !child.fits(1 << 20));
    let frame = log(1_000);
    let mut sent = 0;
    while child.try_send(&frame, &[]).expect("a working host") {
        sent += 1;
        assert!(sent < 100_000, "the socket takes everything");
    }
    assert!(sent > 1);
    let all = receive(&host, sent);
    assert!(all.len() == sent && all.iter().all(|got| *got == Got::Other(1_000)));
    assert!(child.try_send(&frame, &[]).expect("a working host"));
}

#[test]
fn a_child_that_closes_its_end_is_broken_only_if_it_lives_on() {
    let (host, child) = ends();
    offer(&host, 0, b"data");
    begin(&child, 0);
    offer(&host, 1, b"data");
    answer(&child, 0, b"reply");
    drop(child);
    // The frames that it wrote count, and its end alone says nothing.
    let all = receive(&host, 1);
    assert_eq!(
        all,
        [Got::Reply(0, ReplyStatus::Completed, b"reply".to_vec())]
    );
    let began = Instant::now();
    assert_eq!(received(&host).expect("silence"), []);
    offer(&host, 2, b"data");
    host.tell(b"frame").expect("silence");
    assert!(!host.has_begun(1) && !host.has_begun(2));
    let broken = loop {
        match received(&host) {
            Ok(all) => assert_eq!(all, []),
            Err(broken) => break broken,
        }
        host.wait(Some(LIMIT));
        assert!(began.elapsed() < LIMIT, "it never tells");
    };
    assert!(matches!(broken, Broken::Closed), "{broken}");
    assert!(began.elapsed() + Duration::from_millis(50) >= END_GRACE);
    assert_eq!(received(&host).expect("told once"), []);
}

#[test]
fn the_child_learns_that_the_host_is_gone() {
    let (host, child) = ends();
    drop(host);
    let received = child.receive(&mut Vec::new());
    assert!(matches!(received, Err(Broken::Closed)), "{received:?}");
    let sent = child.send(&log(1), &[]);
    assert!(matches!(sent, Err(Broken::Closed)), "{sent:?}");
    assert!(!child.begin(0), "what the host cannot know of must not run");
}

#[test]
fn quit_comes_after_what_was_offered_before() {
    let (host, child) = ends();
    for seq in 0..3 {
        offer(&host, seq, b"data");
    }
    let mut quit = Vec::new();
    encode_quit(&mut quit);
    host.tell(&quit).expect("a working child");
    for seq in 0..3 {
        begin(&child, seq);
        answer(&child, seq, b"");
        assert_eq!(receive(&host, 1).len(), 1);
    }
    assert_eq!(decode_for_child(&next(&child)), Ok(ToChild::Quit));
}

#[test]
fn control_frames_come_through() {
    let (host, child) = ends();
    let mut ready = Vec::new();
    encode_ready(b"bytes", &mut ready);
    child.send(&ready, &[]).expect("a working host");
    assert_eq!(receive(&host, 1), [Got::Other(5)]);
    assert!(nothing_for(&child));
}

#[test]
fn what_a_stranger_writes_breaks_the_link_once() {
    let unknown = framed(&[200, 0, 0, 0, 0, 0, 0, 0]);
    let short = framed(&[1, 2, 3]);
    let began = framed(&notice(Notice::Began { seq: 0 }));
    let unasked = framed(&reply(0, &payload(b"")));
    for bytes in [unknown, short, began, unasked] {
        let (host, mut child) = host();
        child.write_all(&bytes).expect("room");
        let result = received(&host);
        assert!(matches!(result, Err(Broken::Nonsense(_))), "{result:?}");
        assert_eq!(received(&host).expect("told once"), []);
        let mut some = [0; 1];
        child.set_nonblocking(true).expect("a socket");
        assert!((&child).read(&mut some).is_err(), "it wrote something");
    }
}
