//! Models of what host and child do with their shared memory: every interleaving of two or three threads, with a
//! bound on preemptions (`LOOM_MAX_PREEMPTIONS`, three if it is not set). `make loom` explores them.
//!
//! The protocols run over memory of loom's: atomics for the words, cells for the data, so that an access which no index
//! orders is a failure, and a futex made of a lock and a condition variable. A sleep in a model has no limit: a lost
//! wake-up leaves all threads asleep, which loom reports.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::bell::{Bell, Futex};
use crate::claims::{Claims, SLOTS, Slots};
use crate::ring::{Consumer, Producer, RingMemory};
use loom::cell::Cell;
use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use loom::sync::{Condvar, Mutex};
use loom::thread;

/// Explores `body`.
fn model(body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.check(body);
}

/// Runs `body` in every interleaving and says how many of them ended with `true`.
fn count(body: impl Fn() -> bool + Send + Sync + 'static) -> (usize, usize) {
    let counts = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let seen = counts.clone();
    model(move || {
        let which = if body() { &seen.0 } else { &seen.1 };
        which.fetch_add(1, Ordering::Relaxed);
    });
    let get = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    (get(&counts.0), get(&counts.1))
}

/// A ring of two of the smallest frames that carry anything. The data are one cell for eight bytes.
#[derive(Clone)]
struct Small(Arc<SmallRing>);

struct SmallRing {
    head: AtomicU64,
    tail: AtomicU64,
    data: [Cell<u64>; SMALL / 8],
}

const SMALL: usize = 32;

// Loom checks what the type system is told here.
#[expect(unsafe_code, reason = "the very thing the models check")]
// SAFETY: a race on a cell is a failure of the model.
unsafe impl Sync for SmallRing {}
#[expect(unsafe_code, reason = "as above")]
// SAFETY: as above.
unsafe impl Send for SmallRing {}

impl RingMemory for Small {
    type Index = AtomicU64;

    fn capacity(&self) -> usize {
        SMALL
    }

    fn head(&self) -> &AtomicU64 {
        &self.0.head
    }

    fn tail(&self) -> &AtomicU64 {
        &self.0.tail
    }

    fn header(&self, at: usize) -> u64 {
        self.0.data[at / 8].get()
    }

    fn set_header(&self, at: usize, header: u64) {
        self.0.data[at / 8].set(header);
    }

    fn read(&self, at: usize, len: usize, into: &mut Vec<u8>) {
        assert!(
            at.is_multiple_of(8) && len <= 8,
            "the models use frames of one cell"
        );
        if len > 0 {
            into.extend_from_slice(&self.0.data[at / 8].get().to_ne_bytes()[..len]);
        }
    }

    fn write(&self, at: usize, bytes: &[u8]) {
        assert!(
            at.is_multiple_of(8) && (bytes.is_empty() || bytes.len() == 8),
            "the models use frames of one cell"
        );
        if let Ok(bytes) = bytes.try_into() {
            self.0.data[at / 8].set(u64::from_ne_bytes(bytes));
        }
    }
}

fn small() -> (Producer<Small>, Consumer<Small>) {
    let memory = Small(Arc::new(SmallRing {
        head: AtomicU64::new(0),
        tail: AtomicU64::new(0),
        data: std::array::from_fn(|_| Cell::new(0)),
    }));
    (Producer::new(memory.clone()), Consumer::new(memory))
}

fn push(producer: &mut Producer<Small>, number: u64) -> bool {
    producer
        .push(&[&number.to_ne_bytes()])
        .expect("an honest peer")
}

fn pop(consumer: &mut Consumer<Small>) -> Option<u64> {
    let mut frame = Vec::new();
    let popped = consumer.pop(&mut frame).expect("an honest peer");
    popped.then(|| u64::from_ne_bytes(frame.try_into().expect("eight bytes")))
}

/// A futex as the kernel has it: the word is compared, and the thread put to sleep, under one lock.
#[derive(Clone)]
struct Word(Arc<(AtomicU32, Mutex<()>, Condvar)>);

impl Futex for Word {
    type Word = AtomicU32;

    fn word(&self) -> &AtomicU32 {
        &self.0.0
    }

    fn wait(&self, expected: u32, _: Option<Duration>) {
        let guard = self.0.1.lock().expect("no panic under it");
        if self.0.0.load(Ordering::Relaxed) == expected {
            drop(self.0.2.wait(guard));
        }
    }

    fn wake(&self) {
        let _guard = self.0.1.lock().expect("no panic under it");
        self.0.2.notify_all();
    }
}

fn bell() -> Bell<Word> {
    let word = (AtomicU32::new(0), Mutex::new(()), Condvar::new());
    Bell::new(Word(Arc::new(word)))
}

/// One word is enough for messages that all use it.
#[derive(Clone)]
struct OneSlot(Arc<AtomicU32>);

impl Slots for OneSlot {
    type Word = AtomicU32;

    fn slot(&self, _: usize) -> &AtomicU32 {
        &self.0
    }
}

fn claims() -> Claims<OneSlot> {
    Claims::new(OneSlot(Arc::new(AtomicU32::new(0))))
}

#[test]
fn frames_arrive_whole_and_in_order() {
    model(|| {
        let (mut producer, mut consumer) = small();
        let sender = thread::spawn(move || {
            // The third frame lies where the first one was.
            let sent = (1..=3).take_while(|number| push(&mut producer, *number));
            sent.count() as u64
        });
        let mut got = 0;
        for _ in 0..3 {
            if let Some(number) = pop(&mut consumer) {
                got += 1;
                assert_eq!(number, got);
            }
        }
        let sent = sender.join().expect("the sender's own checks");
        while let Some(number) = pop(&mut consumer) {
            got += 1;
            assert_eq!(number, got);
        }
        assert_eq!(got, sent);
        assert!(sent >= 2);
    });
}

#[test]
fn a_receiver_asleep_is_woken() {
    model(|| {
        let ((mut producer, mut consumer), bell) = (small(), bell());
        let theirs = bell.clone();
        let sender = thread::spawn(move || {
            for number in 1..=2 {
                assert!(push(&mut producer, number));
                theirs.ring();
            }
        });
        for expected in 1..=2 {
            let number = loop {
                match pop(&mut consumer) {
                    Some(number) => break number,
                    None => bell.sleep(None, || !consumer.is_empty()),
                }
            };
            assert_eq!(number, expected);
        }
        sender.join().expect("the sender's own checks");
    });
}

#[test]
fn a_sender_that_waits_for_room_is_woken() {
    model(|| {
        let ((mut producer, mut consumer), own) = (small(), bell());
        assert!(push(&mut producer, 1) && push(&mut producer, 2));
        let theirs = own.clone();
        let receiver = thread::spawn(move || {
            assert_eq!(pop(&mut consumer), Some(1));
            theirs.ring();
            consumer
        });
        let mut pushed = false;
        while !pushed {
            own.sleep(None, || {
                pushed = push(&mut producer, 3);
                pushed
            });
        }
        let mut consumer = receiver.join().expect("the receiver's own checks");
        assert_eq!(pop(&mut consumer), Some(2));
        assert_eq!(pop(&mut consumer), Some(3));
    });
}

#[test]
fn two_who_ring_wake_the_one_who_sleeps() {
    model(|| {
        let (bell, work) = (bell(), Arc::new(AtomicU32::new(0)));
        let ringers = [(); 2].map(|()| {
            let (bell, work) = (bell.clone(), work.clone());
            thread::spawn(move || {
                work.fetch_add(1, Ordering::Relaxed);
                bell.ring();
            })
        });
        loop {
            let seen = work.load(Ordering::Relaxed);
            if seen == 2 {
                break;
            }
            bell.sleep(None, || work.load(Ordering::Relaxed) > seen);
        }
        for ringer in ringers {
            ringer.join().expect("a ringer has no checks");
        }
    });
}

#[test]
fn a_wake_ends_the_sleep_even_if_the_word_is_overwritten() {
    model(|| {
        let word = Word(Arc::new((
            AtomicU32::new(0),
            Mutex::new(()),
            Condvar::new(),
        )));
        let (bell, stop) = (Bell::new(word.clone()), Arc::new(AtomicBool::new(false)));
        let (theirs, stopping) = (bell.clone(), stop.clone());
        let stopper = thread::spawn(move || {
            // What a hostile process does to keep the other asleep.
            word.word().store(0, Ordering::Relaxed);
            stopping.store(true, Ordering::Relaxed);
            theirs.wake();
        });
        while !stop.load(Ordering::Relaxed) {
            bell.sleep(None, || stop.load(Ordering::Relaxed));
        }
        stopper.join().expect("a stopper has no checks");
    });
}

#[test]
fn a_message_is_begun_or_revoked_and_its_payload_is_the_winners() {
    let (begun, revoked) = count(|| {
        let (claims, payload) = (claims(), Arc::new(PayloadMemory(Cell::new(7))));
        let (mut requests, mut child_requests) = small();
        let (child, input) = (claims.clone(), payload.clone());
        let child = thread::spawn(move || {
            let Some(seq) = pop(&mut child_requests) else {
                return false;
            };
            let begun = child.begin(seq);
            if begun {
                assert_eq!(
                    input.0.get(),
                    7,
                    "the host has used the memory for something else"
                );
            }
            begun
        });
        claims.offer(5);
        assert!(push(&mut requests, 5));
        let revoked = claims.revoke(5);
        if revoked {
            payload.0.set(8);
        }
        assert_eq!(claims.has_begun(5), !revoked);
        let begun = child.join().expect("the child's own checks");
        assert!(!(begun && revoked));
        assert!(begun || revoked, "neither side has it");
        begun
    });
    assert!(begun > 0 && revoked > 0, "the model reaches both ends");
}

#[test]
fn a_stop_reaches_the_message_it_is_meant_for() {
    let (asked, not_asked) = count(|| {
        let claims = claims();
        claims.offer(5);
        let child = claims.clone();
        let child = thread::spawn(move || child.begin(5) && child.is_stop_asked(5));
        let asked = claims.ask_to_stop(5);
        let seen = child.join().expect("the child has no checks");
        assert!(!seen || asked);
        assert_eq!(claims.is_stop_asked(5), asked);
        // The next message in the same word.
        let next = 5 + SLOTS as u64;
        claims.offer(next);
        assert!(claims.begin(next));
        assert!(!claims.is_stop_asked(next) && !claims.ask_to_stop(5));
        asked
    });
    assert!(asked > 0 && not_asked > 0, "the model reaches both ends");
}

/// What the payload's memory holds: 7 while it is the message's.
struct PayloadMemory(Cell<u64>);

#[expect(unsafe_code, reason = "the very thing the models check")]
// SAFETY: a race on the cell is a failure of the model.
unsafe impl Sync for PayloadMemory {}
#[expect(unsafe_code, reason = "as above")]
// SAFETY: as above.
unsafe impl Send for PayloadMemory {}
