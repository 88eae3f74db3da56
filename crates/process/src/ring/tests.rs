//! Rings in real shared memory, both ends in this process.

#[path = "tests/hostile.rs"]
mod hostile;
#[path = "tests/sides.rs"]
mod sides;

use std::collections::VecDeque;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::{Consumer, Producer, RingSpan, Violation, frame_size};
use crate::memory::Memory;
use pytoweb_engine::testing::cases;

// Where the parts of a ring of these tests lie.
const HEAD: usize = 0;
const TAIL: usize = 128;
const DATA: usize = 256;

fn memory(capacity: usize) -> Arc<Memory> {
    Arc::new(Memory::create("test", DATA + capacity, false).expect("shared memory"))
}

fn span(memory: &Arc<Memory>, capacity: usize) -> RingSpan {
    RingSpan::new(memory, HEAD, TAIL, DATA, capacity).expect("within the memory")
}

fn ends(capacity: usize) -> (Producer<RingSpan>, Consumer<RingSpan>) {
    let memory = memory(capacity);
    let span = span(&memory, capacity);
    (Producer::new(span.clone()), Consumer::new(span))
}

/// Bytes that differ from those of the frames before and after.
fn pattern(number: usize, len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| (number.wrapping_mul(31).wrapping_add(i * 7)) as u8)
        .collect()
}

#[test]
fn frames_of_every_size_arrive_wherever_they_lie() {
    let (mut producer, mut consumer) = ends(256);
    let max = producer.max_frame();
    assert_eq!(max, 120);
    let mut frame = Vec::new();
    // Each step shifts the next frame by its size, so every size meets every place.
    for number in 0..20 * max {
        for len in [0, 1, 7, 8, 9, number % max, max - 1, max] {
            let bytes = pattern(number, len);
            let (first, second) = bytes.split_at(len / 3);
            assert_eq!(producer.push(&[first, &[], second]), Ok(true));
            assert!(!consumer.is_empty());
            assert_eq!(consumer.pop(&mut frame), Ok(true));
            assert_eq!(frame, bytes);
            assert!(consumer.is_empty());
        }
    }
    assert_eq!(consumer.pop(&mut frame), Ok(false));
}

#[test]
fn a_frame_too_long_is_refused_and_harms_nothing() {
    let (mut producer, mut consumer) = ends(64);
    let bytes = [1; 25];
    assert_eq!(producer.push(&[&bytes]), Err(Violation::TooLong));
    assert_eq!(
        producer.push(&[&bytes[..24], &bytes[..1]]),
        Err(Violation::TooLong)
    );
    assert!(consumer.is_empty());
    assert_eq!(producer.push(&[&bytes[..24]]), Ok(true));
    let mut frame = Vec::new();
    assert_eq!(consumer.pop(&mut frame), Ok(true));
    assert_eq!(frame, bytes[..24]);
}

#[test]
fn a_full_ring_refuses_until_there_is_room() {
    let (mut producer, mut consumer) = ends(64);
    let mut frame = Vec::new();
    for lap in 0..10 {
        for number in 0..4 {
            assert_eq!(producer.push(&[&pattern(number, 8)]), Ok(true), "{lap}");
        }
        assert_eq!(producer.push(&[]), Ok(false));
        for number in 0..4 {
            assert_eq!(consumer.pop(&mut frame), Ok(true));
            assert_eq!(frame, pattern(number, 8));
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push { len: usize, cuts: Vec<usize> },
    Pop,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let push = (0..70usize, vec(0..70usize, 0..4)).prop_map(|(len, cuts)| Step::Push { len, cuts });
    vec(prop_oneof![push, Just(Step::Pop)], 0..200)
}

/// Cuts `bytes` in several parts, some of them empty.
fn cut<'a>(mut bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    for at in cuts {
        let (part, rest) = bytes.split_at((*at).min(bytes.len()));
        parts.push(part);
        bytes = rest;
    }
    parts.push(bytes);
    parts
}

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn any_order_of_pushes_and_pops_is_a_queue(shift in 4..9u32, steps in steps()) {
        let capacity = 1 << shift;
        let (mut producer, mut consumer) = ends(capacity);
        let mut model = VecDeque::new();
        let mut frame = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Push { len, cuts } => {
                    let bytes = pattern(number, len);
                    let used: u64 = model.iter().map(|kept: &Vec<u8>| frame_size(kept.len())).sum();
                    let fits = frame_size(len) <= capacity as u64 - used;
                    let expected = if len > producer.max_frame() {
                        Err(Violation::TooLong)
                    } else {
                        Ok(fits)
                    };
                    let pushed = producer.push(&cut(&bytes, &cuts));
                    prop_assert_eq!(pushed, expected);
                    if pushed == Ok(true) {
                        model.push_back(bytes);
                    }
                }
                Step::Pop => {
                    prop_assert_eq!(consumer.is_empty(), model.is_empty());
                    let popped = consumer.pop(&mut frame);
                    let expected = model.pop_front();
                    prop_assert_eq!(popped, Ok(expected.is_some()));
                    if let Some(expected) = expected {
                        prop_assert_eq!(&frame, &expected);
                    }
                }
            }
        }
    }
}
