//! Rings whose other side is an enemy: calls end, with an error or with bytes that lie within the ring.

use std::cell::Cell;
use std::rc::Rc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::{DATA, HEAD, TAIL, memory, pattern, span};
use crate::ring::{Consumer, HEADER, Producer, RingMemory, Violation, frame_size, header};
use crate::sync::{Atomic, Ordering};
use pytoweb_engine::testing::cases;

#[test]
fn each_kind_of_nonsense_is_told() {
    let memory = memory(256);
    let put = |at: usize, value| {
        memory
            .atomic_u64(at)
            .unwrap()
            .store(value, Ordering::Relaxed);
    };
    let mut producer = Producer::new(span(&memory, 256));
    let mut consumer = Consumer::new(span(&memory, 256));
    let mut frame = b"as it was".to_vec();
    // The content of fresh memory is no header, whatever the index says.
    put(TAIL, 8);
    assert_eq!(consumer.pop(&mut frame), Err(Violation::Header));
    assert_eq!(frame, b"as it was");

    let mut consumer = Consumer::new(span(&memory, 256));
    for tail in [264, 4, u64::MAX - 7] {
        put(TAIL, tail);
        assert!(!consumer.is_empty());
        assert_eq!(consumer.pop(&mut frame), Err(Violation::Index), "{tail}");
    }
    for number in 0..2 {
        assert_eq!(producer.push(&[&pattern(number, 120)]), Ok(true));
        assert_eq!(consumer.pop(&mut frame), Ok(true));
    }
    assert_eq!(producer.push(&[&pattern(2, 120)]), Ok(true));
    assert_eq!(producer.push(&[]), Ok(true));
    assert_eq!((producer.tail, producer.seen_head), (392, 256));
    // Within a ring of the tail, and yet less than it said before.
    put(HEAD, 136);
    assert_eq!(producer.push(&[&[0; 120]]), Err(Violation::Index));
    assert_eq!(producer.push(&[&[0; 112]]), Ok(true));
    // More than a ring behind, in the middle of a frame, more than was produced.
    for head in [248, 260, 520, u64::MAX - 7] {
        put(HEAD, head);
        assert_eq!(producer.push(&[]), Err(Violation::Index), "{head}");
    }
    // The header of the lap before, where a new one belongs.
    put(DATA, header(0, 120));
    assert_eq!(consumer.pop(&mut frame), Err(Violation::Header));
    put(DATA, header(256, 120));
    assert_eq!(consumer.pop(&mut frame), Ok(true));
    // A frame that ends after what was published, and one longer than any.
    for (len, tail) in [(120, 120), (121, 256)] {
        let mut consumer = Consumer::new(span(&memory, 256));
        put(DATA, header(0, len));
        put(TAIL, tail);
        assert_eq!(consumer.pop(&mut frame), Err(Violation::Header), "{len}");
    }
}

/// What the other side writes, and what this one does in between.
#[derive(Clone, Debug)]
enum Attack {
    Bytes { at: usize, bytes: Vec<u8> },
    Index { at: usize, value: u64 },
    Near { at: usize, eighths: i64 },
    Push(usize),
    Pop,
}

fn attacks() -> impl Strategy<Value = Vec<Attack>> {
    let index = || prop_oneof![Just(HEAD), Just(TAIL)];
    let attack = prop_oneof![
        (0..DATA + 256, vec(any::<u8>(), 1..24))
            .prop_map(|(at, bytes)| Attack::Bytes { at, bytes }),
        (index(), any::<u64>()).prop_map(|(at, value)| Attack::Index { at, value }),
        (index(), -40..40i64).prop_map(|(at, eighths)| Attack::Near { at, eighths }),
        (0..130usize).prop_map(Attack::Push),
        Just(Attack::Pop),
        Just(Attack::Pop),
    ];
    vec(attack, 0..60)
}

proptest! {
    #![proptest_config(cases(3_000))]

    #[test]
    fn whatever_the_other_side_writes_calls_end_well(attacks in attacks()) {
        let memory = memory(256);
        let mut producer = Producer::new(span(&memory, 256));
        let mut consumer = Consumer::new(span(&memory, 256));
        let mut frame = Vec::new();
        for attack in attacks {
            match attack {
                Attack::Bytes { at, bytes } => {
                    let bytes = &bytes[..bytes.len().min(DATA + 256 - at)];
                    prop_assert!(memory.copy_in(at, bytes));
                }
                Attack::Index { at, value } => {
                    memory.atomic_u64(at).unwrap().store(value, Ordering::Relaxed);
                }
                Attack::Near { at, eighths } => {
                    let index = memory.atomic_u64(at).unwrap();
                    let value = index.load(Ordering::Relaxed).wrapping_add_signed(8 * eighths);
                    index.store(value, Ordering::Relaxed);
                }
                Attack::Push(len) => {
                    let before = producer.tail;
                    let pushed = producer.push(&[&pattern(len, len)]);
                    let grown = if pushed == Ok(true) { frame_size(len) } else { 0 };
                    prop_assert_eq!(producer.tail, before + grown);
                    prop_assert!(producer.tail - producer.seen_head <= 256);
                }
                Attack::Pop => {
                    let _ = consumer.is_empty();
                    let (before, old) = (consumer.head, frame.clone());
                    let popped = consumer.pop(&mut frame);
                    if popped != Ok(true) {
                        prop_assert_eq!(&frame, &old);
                    }
                    let eaten = if popped == Ok(true) { frame_size(frame.len()) } else { 0 };
                    prop_assert_eq!(consumer.head, before + eaten);
                    prop_assert!(frame.len() <= 120);
                    prop_assert!(consumer.seen_tail - consumer.head <= 256);
                }
            }
        }
    }
}

/// Where lies come from, and how many were told.
#[derive(Debug)]
struct Liar {
    state: Cell<u64>,
    told: Cell<usize>,
    /// The count of the side that is lied to, so that some lies are close to the truth.
    truth: Cell<u64>,
}

impl Liar {
    fn next(&self) -> u64 {
        self.told.set(self.told.get() + 1);
        // xorshift64: any generator will do that does not repeat soon.
        let mut state = self.state.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.state.set(state);
        state
    }
}

/// Memory that answers anew each time it is asked, as memory may that another process keeps changing.
#[derive(Clone, Debug)]
struct Lies(Rc<Liar>);

impl Atomic<u64> for Lies {
    fn load(&self, _: Ordering) -> u64 {
        let lie = self.0.next();
        let truth = self.0.truth.get();
        match lie % 8 {
            0 => lie,
            1 => truth.wrapping_sub(lie >> 32 & 0x1ff),
            2 => truth.wrapping_add(lie >> 32 & 0x1ff),
            3 => truth,
            4..7 => truth.wrapping_add(lie >> 32 & 0x1f8),
            _ => truth.wrapping_sub(lie >> 32 & 0x1f8),
        }
    }

    fn store(&self, _: u64, _: Ordering) {}

    fn swap(&self, _: u64, _: Ordering) -> u64 {
        unreachable!("the ring only loads and stores")
    }

    fn compare_exchange(&self, _: u64, _: u64, _: Ordering, _: Ordering) -> Result<u64, u64> {
        unreachable!("the ring only loads and stores")
    }
}

impl RingMemory for Lies {
    type Index = Lies;

    fn capacity(&self) -> usize {
        256
    }

    fn head(&self) -> &Lies {
        self
    }

    fn tail(&self) -> &Lies {
        self
    }

    fn header(&self, at: usize) -> u64 {
        assert!(at.is_multiple_of(8) && at + HEADER <= 256);
        let lie = self.0.next();
        match lie % 8 {
            0 => lie,
            1 => header(self.0.truth.get(), (lie >> 32) as u32),
            2..5 => header(self.0.truth.get(), (lie >> 32) as u32 & 0x7f),
            _ => header(self.0.truth.get(), 0),
        }
    }

    fn set_header(&self, at: usize, _: u64) {
        assert!(at.is_multiple_of(8) && at + HEADER <= 256);
    }

    fn read(&self, at: usize, len: usize, into: &mut Vec<u8>) {
        assert!(at <= 256 && len <= 256 - at);
        into.extend((0..len).map(|_| 0));
    }

    fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at <= 256 && bytes.len() <= 256 - at);
    }
}

#[test]
fn memory_that_never_says_the_same_twice_is_survived() {
    let lies = Lies(Rc::new(Liar {
        state: Cell::new(0x9e37_79b9_7f4a_7c15),
        told: Cell::new(0),
        truth: Cell::new(0),
    }));
    let liar = &lies.0;
    let mut producer = Producer::new(lies.clone());
    let mut consumer = Consumer::new(lies.clone());
    let (mut pushed, mut popped) = ([0; 3], [0; 3]);
    let (bytes, mut frame) = ([0; 128], Vec::new());
    let kind = |result: Result<bool, Violation>| result.map_or(2, usize::from);
    for round in 0..200_000 {
        liar.truth.set(producer.tail);
        liar.told.set(0);
        pushed[kind(producer.push(&[&bytes[..round % 121]]))] += 1;
        assert!(producer.tail - producer.seen_head <= 256);
        assert!(liar.told.get() <= 1, "reads an index twice");

        liar.truth.set(consumer.head);
        liar.told.set(0);
        popped[kind(consumer.pop(&mut frame))] += 1;
        assert!(frame.len() <= 120 && consumer.head <= consumer.seen_tail);
        assert!(liar.told.get() <= 2, "reads an index or a header twice");
    }
    for counts in [pushed, popped] {
        assert!(counts.iter().all(|count| *count > 1_000), "{counts:?}");
    }
}
