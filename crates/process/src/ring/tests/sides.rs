//! Both sides of one memory, in threads that sleep and wake each other.

use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::claims::SLOTS;
use crate::memory::Memory;
use crate::ring::{ChildSide, Consumer, HostSide, Producer, RingSpan, SharedBell};
use crate::sync::{Ordering, look_while_yielding};

/// A sleep that lasts this long has missed its wake-up.
const LOST: Duration = Duration::from_secs(20);

/// Both sides of one memory.
fn sides() -> (HostSide, ChildSide) {
    let (host, memory) = HostSide::create().expect("shared memory");
    let fd = memory
        .fd()
        .try_clone_to_owned()
        .expect("a descriptor to spare");
    (host, ChildSide::open(fd).expect("the memory just made"))
}

/// Sleeps, and fails if the other side does not ring.
fn sleep(bell: &SharedBell, ready: impl FnOnce() -> bool) {
    let start = Instant::now();
    bell.sleep(Some(LOST), ready);
    assert!(start.elapsed() < LOST, "a wake-up was lost");
}

/// What a sender does.
fn push(producer: &mut Producer<RingSpan>, own: &SharedBell, other: &SharedBell, bytes: &[u8]) {
    let mut push = || producer.push(&[bytes]).expect("an honest peer");
    let mut pushed = look_while_yielding(|| push().then_some(())).is_some();
    while !pushed {
        sleep(own, || {
            pushed = push();
            pushed
        });
    }
    other.ring();
}

/// What a receiver does.
fn pop(
    consumer: &mut Consumer<RingSpan>,
    own: &SharedBell,
    other: &SharedBell,
    frame: &mut Vec<u8>,
) {
    while !consumer.pop(frame).expect("an honest peer") {
        if look_while_yielding(|| (!consumer.is_empty()).then_some(())).is_none() {
            sleep(own, || !consumer.is_empty());
        }
    }
    other.ring();
}

#[test]
fn a_million_frames_pass_between_two_threads() {
    const FRAMES: usize = 1_000_000;
    let (mut host, mut child) = sides();
    let sender = thread::spawn(move || {
        for number in 0..FRAMES {
            let mut bytes = [number as u8; 96];
            bytes[..8].copy_from_slice(&number.to_ne_bytes());
            let len = 8 + number % 89;
            push(
                &mut host.requests,
                &host.host_bell,
                &host.child_bell,
                &bytes[..len],
            );
        }
    });
    let mut frame = Vec::new();
    for number in 0..FRAMES {
        pop(
            &mut child.requests,
            &child.child_bell,
            &child.host_bell,
            &mut frame,
        );
        assert_eq!(frame.len(), 8 + number % 89);
        let (head, rest) = frame.split_at(8);
        assert_eq!(head, number.to_ne_bytes());
        assert!(rest.iter().all(|byte| *byte == number as u8));
    }
    sender.join().unwrap();
    assert!(child.requests.is_empty());
}

/// The largest frames make the sender sleep for room again and again.
#[test]
fn senders_wait_for_room_and_are_woken() {
    const FRAMES: usize = 3_000;
    let (mut host, mut child) = sides();
    let len = host.requests.max_frame();
    let sender = thread::spawn(move || {
        for number in 0..FRAMES {
            let bytes = vec![number as u8; len];
            push(
                &mut host.requests,
                &host.host_bell,
                &host.child_bell,
                &bytes,
            );
        }
    });
    let mut frame = Vec::new();
    for number in 0..FRAMES {
        pop(
            &mut child.requests,
            &child.child_bell,
            &child.host_bell,
            &mut frame,
        );
        assert!(frame == vec![number as u8; len], "frame {number}");
    }
    sender.join().unwrap();
}

/// Neither side yields here, so that both sides sleep for every frame.
#[test]
fn requests_and_replies_alternate_with_both_asleep_in_between() {
    const ROUNDS: u64 = 20_000;
    let (mut host, mut child) = sides();
    let echo = thread::spawn(move || {
        let mut frame = Vec::new();
        for _ in 0..ROUNDS {
            while !child.requests.pop(&mut frame).unwrap() {
                sleep(&child.child_bell, || !child.requests.is_empty());
            }
            assert_eq!(child.replies.push(&[&frame, b"!"]), Ok(true));
            child.host_bell.ring();
        }
    });
    let mut frame = Vec::new();
    for round in 0..ROUNDS {
        assert_eq!(host.requests.push(&[&round.to_ne_bytes()]), Ok(true));
        host.child_bell.ring();
        while !host.replies.pop(&mut frame).unwrap() {
            sleep(&host.host_bell, || !host.replies.is_empty());
        }
        assert_eq!(frame, [&round.to_ne_bytes()[..], b"!"].concat());
    }
    echo.join().unwrap();
}

#[test]
fn a_sleep_ends_at_its_limit_and_on_a_wake() {
    let (host, child) = sides();
    let (done, is_done) = mpsc::channel();
    let sleeper = thread::spawn(move || {
        host.host_bell
            .sleep(Some(Duration::from_millis(1)), || false);
        done.send(()).unwrap();
        // Nothing is ever ready: only the wake ends this.
        host.host_bell.sleep(Some(LOST), || {
            done.send(()).unwrap();
            false
        });
        done.send(()).unwrap();
    });
    is_done.recv_timeout(LOST).expect("the limit is kept");
    is_done.recv_timeout(LOST).expect("the sleeper looks once");
    child.host_bell.wake();
    is_done.recv_timeout(LOST / 2).expect("a wake ends a sleep");
    sleeper.join().unwrap();
}

#[test]
fn each_message_is_begun_or_revoked_never_both() {
    let (host, child) = sides();
    // Far fewer than there are words, so that no word changes hands; a round for each generation.
    const BATCH: usize = 256;
    for round in 0..20 {
        let numbers = || (0..BATCH).map(move |i| (round * SLOTS + i) as u64);
        numbers().for_each(|seq| host.claims.offer(seq));
        let start = Barrier::new(2);
        let (revoked, begun) = thread::scope(|scope| {
            let revoked = scope.spawn(|| {
                start.wait();
                // From the end, so that the two meet.
                numbers()
                    .rev()
                    .map(|seq| host.claims.revoke(seq))
                    .collect::<Vec<_>>()
            });
            start.wait();
            let begun: Vec<_> = numbers().map(|seq| child.claims.begin(seq)).collect();
            (revoked.join().unwrap(), begun)
        });
        for (seq, (revoked, begun)) in revoked.iter().rev().zip(&begun).enumerate() {
            assert_ne!(revoked, begun, "message {seq} of round {round}");
        }
    }
}

#[test]
fn only_memory_of_this_version_is_opened() {
    let (_host, memory) = HostSide::create().unwrap();
    let open = || ChildSide::open(memory.fd().try_clone_to_owned().unwrap());
    assert!(open().is_ok());
    for at in [0, 8, 12, 16] {
        let word = memory.atomic_u32(at).unwrap();
        let right = word.load(Ordering::Relaxed);
        word.store(right ^ 1, Ordering::Relaxed);
        assert_eq!(
            open().unwrap_err().kind(),
            std::io::ErrorKind::InvalidData,
            "{at}"
        );
        word.store(right, Ordering::Relaxed);
    }
    assert!(open().is_ok());
    // A memory that is too long has the right beginning, one that is too short has nothing.
    let longer = Memory::create("test", memory.len() + 1, false).unwrap();
    let mut beginning = Vec::new();
    assert!(memory.copy_out(0, 20, &mut beginning) && longer.copy_in(0, &beginning));
    assert!(ChildSide::open(longer.fd().try_clone_to_owned().unwrap()).is_err());
    let other = Memory::create("test", 4096, false).unwrap();
    assert!(ChildSide::open(other.fd().try_clone_to_owned().unwrap()).is_err());
}
