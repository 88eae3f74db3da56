//! The store: who has which range, and how much memory is kept.
//!
//! The sources are compiled as modules of this test, which reaches the arithmetic below the store too.

#![cfg(target_os = "linux")]
#![allow(
    dead_code,
    unreachable_pub,
    clippy::allow_attributes,
    reason = "the crate's modules are compiled again, and a test uses few of their items"
)]
#![expect(clippy::unwrap_used, reason = "what tests share fails like they do")]

#[path = "../src/copy.rs"]
mod copy;
#[path = "../src/memory.rs"]
mod memory;
#[path = "../src/store.rs"]
mod store;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::Strategy;

use store::ranges::{Range, Ranges};
use store::{Block, COOL_LIMIT, Store, View, WARM_LIMIT};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

fn create() -> Arc<Store> {
    Store::create("test-store").unwrap()
}

fn view(store: &Store) -> View {
    View::open(store.fd().try_clone_to_owned().unwrap()).unwrap()
}

/// The memory that the store uses now, in bytes.
fn resident(store: &Store) -> usize {
    let blocks = rustix::fs::fstat(store.fd()).unwrap().st_blocks;
    usize::try_from(blocks).unwrap() * 512
}

fn filled(store: &Arc<Store>, len: usize) -> Block {
    let mut block = store.allocate(len).unwrap();
    assert!(block.write(0, &vec![1; len]));
    block
}

#[test]
fn a_new_store_is_large_and_uses_no_memory() {
    let store = create();
    assert!(store.capacity() >= 64 * MIB);
    assert_eq!(resident(&store), 0);
}

#[test]
fn address_space_is_taken_where_payloads_lie_and_given_back() {
    let store = create();
    let view = view(&store);
    assert_eq!(store.mapped(), 0);
    let small = filled(&store, 20 * KIB);
    assert!(store.mapped() <= 4 * MIB, "{}", store.mapped());

    let burst: Vec<_> = (0..100).map(|_| filled(&store, MIB)).collect();
    let large = filled(&store, 100 * MIB);
    let windows: Vec<_> = burst
        .iter()
        .chain([&large])
        .map(|block| view.window(block.offset(), block.len() as u64).unwrap())
        .collect();
    assert!(store.mapped() <= 512 * MIB, "{}", store.mapped());
    drop((burst, large));
    for window in windows {
        view.close(window);
    }
    assert!(
        store.mapped() <= 2 * WARM_LIMIT + 4 * MIB,
        "{}",
        store.mapped()
    );
    assert!(
        view.mapped() <= 2 * WARM_LIMIT + 4 * MIB,
        "{}",
        view.mapped()
    );
    drop(small);
}

/// A window shows what lies in its range, wherever that is, and nothing beyond.
#[test]
fn windows_show_their_range() {
    let store = create();
    let view = view(&store);
    let step = 4 * MIB;
    // Within one step, up to its end, over one boundary and over many.
    for (offset, len) in [
        (0, 10),
        (step - 10, 10),
        (step - 5, 10),
        (3 * step, step),
        (5 * step - 1, 3 * step + 2),
    ] {
        let window = view.window(offset as u64, len as u64).unwrap();
        assert!(window.pointer(0, len).is_some());
        assert!(window.pointer(len, 0).is_some());
        assert!(window.pointer(1, len).is_none());
        assert!(window.pointer(usize::MAX, 1).is_none());
        let again = view.window(offset as u64, len as u64).unwrap();
        assert_eq!(window.pointer(0, len), again.pointer(0, len));
        view.close(window);
        view.close(again);
    }
}

#[test]
fn memory_falls_back_after_a_burst() {
    let store = create();
    for sizes in [vec![MIB; 96], vec![20 * KIB; 3000], vec![100 * MIB]] {
        let burst: usize = sizes.iter().sum();
        let blocks: Vec<_> = sizes.iter().map(|len| filled(&store, *len)).collect();
        assert!(resident(&store) >= burst);
        drop(blocks);
        assert!(resident(&store) <= WARM_LIMIT, "{}", resident(&store));
    }
}

#[test]
fn what_is_kept_is_what_was_freed_last() {
    let store = create();
    let old: Vec<_> = (0..40).map(|_| filled(&store, MIB)).collect();
    let last = filled(&store, 8 * MIB);
    drop(old);
    let offset = last.offset();
    drop(last);
    let before = resident(&store);
    assert!(before > WARM_LIMIT / 2 && before <= WARM_LIMIT);

    let again = filled(&store, 8 * MIB);

    assert_eq!(again.offset(), offset);
    assert_eq!(resident(&store), before);
}

#[test]
fn what_was_freed_last_is_used_first() {
    let store = create();
    let blocks: Vec<_> = (0..3).map(|_| filled(&store, MIB)).collect();
    let offsets: Vec<_> = blocks.iter().map(Block::offset).collect();
    drop(blocks);
    let again: Vec<_> = (0..3).map(|_| store.allocate(MIB).unwrap()).collect();
    assert!(
        again
            .iter()
            .map(Block::offset)
            .eq(offsets.into_iter().rev())
    );
}

#[test]
fn after_a_burst_little_is_kept() {
    let store = create();
    let used = filled(&store, MIB);
    drop(filled(&store, 100 * MIB));
    store.cool();
    assert_eq!(resident(&store), MIB + COOL_LIMIT);
    drop(used);
    drop(filled(&store, 8 * MIB));
}

#[test]
fn of_a_very_large_block_the_beginning_is_kept() {
    let store = create();
    drop(filled(&store, 100 * MIB));
    assert_eq!(resident(&store), WARM_LIMIT);
}

#[test]
fn a_steady_load_finds_its_memory_warm() {
    let store = create();
    drop(filled(&store, 5 * MIB));
    let before = resident(&store);
    for _ in 0..100 {
        drop(filled(&store, 5 * MIB));
        assert_eq!(resident(&store), before);
    }
}

#[test]
fn a_block_takes_what_fits_and_no_more() {
    let store = create();
    let mut block = store.allocate(40 * KIB).unwrap();
    assert_eq!(block.len(), 40 * KIB);
    let capacity = block.capacity();
    assert_eq!(capacity, 64 * KIB);
    assert!(block.write(0, &[]));
    assert!(block.write(capacity, &[]));
    assert!(block.write(capacity - 3, b"end"));
    assert!(!block.write(capacity - 2, b"end"));
    assert!(!block.write(capacity + 1, &[]));
    assert!(!block.write(usize::MAX, b"end"));

    let mut read = [0; 3];
    assert!(view(&store).copy_to(block.offset() + capacity as u64 - 3, &mut read));
    assert_eq!(&read, b"end");
}

/// Whatever the distance of source and target, and however it is copied.
#[test]
fn a_block_has_what_was_written_to_it() {
    let store = create();
    let view = view(&store);
    let mut block = store.allocate(16 * KIB).unwrap();
    // Both begin a page, so all the distances of a few bytes come about.
    let memory: Vec<u8> = (0..16 * KIB).map(|at| (at % 251) as u8).collect();
    let source = &memory[memory.as_ptr().align_offset(4 * KIB)..];
    for len in [1, 2047, 2048, 2049, 4096, 9000] {
        for at in 0..40 {
            assert!(block.write(0, &[0xff; 16 * KIB]));
            assert!(block.write(at, &source[..len]));
            let mut read = vec![0; at + len + 1];
            assert!(view.copy_to(block.offset(), &mut read));
            assert!(read[..at].iter().all(|byte| *byte == 0xff));
            assert!(read[at..at + len] == source[..len]);
            assert_eq!(read[at + len], 0xff);
        }
    }
}

#[test]
fn a_store_without_room_says_so_and_recovers() {
    let store = create();
    assert!(store.allocate(store.capacity() + 1).is_none());
    assert!(store.allocate(usize::MAX).is_none());
    let pieces: Vec<_> = (0..4)
        .map(|_| store.allocate(store.capacity() / 4).unwrap())
        .collect();
    assert!(store.allocate(0).is_none());
    drop(pieces);
    let whole = store.allocate(store.capacity()).unwrap();
    assert_eq!(whole.offset(), 0);
    assert!(store.allocate(1).is_none());
    drop(whole);
    assert!(store.allocate(1).is_some());
}

#[test]
fn a_detached_block_is_in_use_until_it_is_released_by_its_number() {
    let store = create();
    let kept = store.allocate(20 * KIB).unwrap();
    let offset = filled(&store, 20 * KIB).detach();

    for wrong in [
        offset + 1,
        offset + 16 * KIB as u64,
        kept.offset(),
        u64::MAX,
    ] {
        assert!(!store.release(wrong));
    }
    let other = store.allocate(20 * KIB).unwrap();
    assert_ne!(other.offset(), offset);

    assert!(store.release(offset));
    assert!(!store.release(offset));
    assert_eq!(store.allocate(20 * KIB).unwrap().offset(), offset);
}

#[test]
fn a_view_reads_what_was_written_and_nothing_outside() {
    let store = create();
    let mut block = store.allocate(100).unwrap();
    assert!(block.write(10, b"seen"));
    let view = view(&store);
    assert_eq!(view.len(), store.capacity() as u64);
    let mut read = [0; 4];
    assert!(view.copy_to(block.offset() + 10, &mut read));
    assert_eq!(&read, b"seen");

    let len = view.len();
    assert!(view.contains(0, len) && view.window(0, len).is_some());
    assert!(view.contains(len, 0) && view.window(len, 0).is_some());
    for (offset, len) in [
        (len, 1),
        (1, len),
        (len - 1, 2),
        (u64::MAX, 1),
        (1, u64::MAX),
        (u64::MAX, u64::MAX),
    ] {
        assert!(!view.contains(offset, len), "{offset} {len}");
        assert!(view.window(offset, len).is_none(), "{offset} {len}");
    }
    assert!(!view.copy_to(len - 3, &mut read));
    assert!(!view.copy_to(u64::MAX - 1, &mut read));
}

#[test]
fn a_view_takes_only_memory_of_fixed_size() {
    let flags = rustix::fs::MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create("test-loose", flags).unwrap();
    rustix::fs::ftruncate(&file, 4096).unwrap();
    assert!(View::open(file).is_err());
    let (pipe, _other) = std::io::pipe().unwrap();
    assert!(View::open(pipe.into()).is_err());
}

/// A small generator, so that a failure repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % limit
    }
}

#[test]
fn live_blocks_never_overlap() {
    let store = create();
    let view = view(&store);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut live: Vec<(Block, u64)> = Vec::new();
    let mut taken: BTreeMap<u64, u64> = BTreeMap::new();
    for step in 0..100_000_u64 {
        if live.len() < 200 && random.below(2) == 0 {
            let magnitude = random.below(23);
            let len = random.below(1 << magnitude) + 1;
            let mut block = store.allocate(len).unwrap();
            let end = block.offset() + block.capacity() as u64;
            assert!(block.capacity() >= len && end <= store.capacity() as u64);
            let before = taken.range(..end).next_back();
            assert!(before.is_none_or(|(_, end)| *end <= block.offset()));
            taken.insert(block.offset(), end);
            assert!(block.write(0, &step.to_le_bytes()[..len.min(8)]));
            if random.below(4) == 0 {
                assert!(block.write(len - 1, &[0]));
            }
            live.push((block, step));
        } else if !live.is_empty() {
            let (block, step) = live.swap_remove(random.below(live.len()));
            if block.len() > 8 {
                let mut mark = [0; 8];
                assert!(view.copy_to(block.offset(), &mut mark));
                assert_eq!(u64::from_le_bytes(mark), step);
            }
            assert!(taken.remove(&block.offset()).is_some());
            if random.below(3) == 0 {
                let offset = block.detach();
                assert!(store.release(offset));
            }
        }
    }
    drop(live);
    assert!(resident(&store) <= WARM_LIMIT);
}

#[test]
fn threads_share_a_store() {
    let store = create();
    let view = view(&store);
    std::thread::scope(|scope| {
        for thread in 1..=4_u8 {
            let (store, view) = (&store, &view);
            scope.spawn(move || {
                let mut random = Random(u64::from(thread));
                for _ in 0..2_000 {
                    let len = random.below(256 * KIB) + 1;
                    let mut block = store.allocate(len).unwrap();
                    let written = vec![thread; len];
                    assert!(block.write(0, &written));
                    let mut read = vec![0; len];
                    assert!(view.copy_to(block.offset(), &mut read));
                    assert!(read == written);
                }
            });
        }
    });
    assert!(resident(&store) <= WARM_LIMIT);
}

/// In a process forked from its owner a store hands out nothing and leaves the owner's pages alone.
#[test]
fn a_forked_process_does_not_disturb_the_store() {
    use std::os::unix::process::CommandExt;

    let store = create();
    // Almost as much as may be kept, so that one more freed block is too much.
    drop(filled(&store, WARM_LIMIT - MIB));
    let block = filled(&store, 2 * MIB);
    let before = resident(&store);
    let mut child = std::process::Command::new("true");
    let (theirs, mut its_block) = (store.clone(), Some(block));
    #[expect(
        unsafe_code,
        reason = "what runs between fork and exec is what is tested"
    )]
    // SAFETY: what runs in the new process takes a lock that no thread of this one holds, and frees memory, which the
    // C library allows after a fork.
    unsafe {
        child.pre_exec(move || {
            let refused = theirs.allocate(1).is_none();
            drop(its_block.take());
            if refused {
                Ok(())
            } else {
                Err(std::io::ErrorKind::Other.into())
            }
        });
    }
    let status = child.status().unwrap();
    assert!(status.success());
    assert_eq!(resident(&store), before);
    // The closure still has this process's block.
    drop(child);
    assert!(resident(&store) <= WARM_LIMIT);
}

#[derive(Debug, Clone)]
enum Step {
    Take { len: usize, touch: usize },
    Release { index: usize },
}

const UNIT: usize = 16;
const UNITS: usize = 64;
const KEPT: usize = 8;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1..=UNIT * 40, 0..=UNIT * 64).prop_map(|(len, touch)| Step::Take { len, touch }),
        (1..=UNIT * 3, 0..=UNIT * 4).prop_map(|(len, touch)| Step::Take { len, touch }),
        any::<usize>().prop_map(|index| Step::Release { index }),
        any::<usize>().prop_map(|index| Step::Release { index }),
    ];
    proptest::collection::vec(step, 0..80)
}

/// The units of memory from `offset` on.
fn units(offset: usize, len: usize) -> std::ops::Range<usize> {
    offset / UNIT..(offset + len).div_ceil(UNIT)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// A small store, so that it is full, cut and joined all the time; a model knows who has which unit and which
    /// units have pages.
    #[test]
    fn ranges_agree_with_a_model(steps in steps()) {
        let mut ranges = Ranges::new(UNIT, UNIT * UNITS);
        let mut live: Vec<Range> = Vec::new();
        let mut owned: HashSet<usize> = HashSet::new();
        let mut pages: HashSet<usize> = HashSet::new();
        for step in steps {
            match step {
                Step::Take { len, touch } => {
                    let Some(mut range) = ranges.take(len) else {
                        // Refused only when no stretch of that class is free.
                        let class = len.next_power_of_two().max(UNIT) / UNIT;
                        let mut longest = 0;
                        let mut stretch = 0;
                        for unit in 0..UNITS {
                            stretch = if owned.contains(&unit) { 0 } else { stretch + 1 };
                            longest = longest.max(stretch);
                        }
                        prop_assert!(longest < class, "{longest} units are free, {class} refused");
                        continue;
                    };
                    prop_assert!(range.len >= len && range.len <= UNIT * UNITS);
                    prop_assert!(range.offset + range.len <= UNIT * UNITS);
                    prop_assert!(range.touched <= range.len);
                    for unit in units(range.offset, range.len) {
                        prop_assert!(owned.insert(unit), "unit {unit} has an owner");
                        let known = unit * UNIT < range.offset + range.touched;
                        prop_assert!(known || !pages.contains(&unit), "the pages of {unit} are lost");
                    }
                    let touch = touch.min(range.len);
                    range.touched = range.touched.max(touch);
                    pages.extend(units(range.offset, touch));
                    live.push(range);
                }
                Step::Release { index } if !live.is_empty() => {
                    let range = live.swap_remove(index % live.len());
                    for unit in units(range.offset, range.len) {
                        owned.remove(&unit);
                    }
                    ranges.release(range);
                    while let Some(surplus) = ranges.surplus(UNIT * KEPT) {
                        prop_assert!(surplus.len > 0);
                        prop_assert_eq!((surplus.offset % UNIT, surplus.len % UNIT), (0, 0));
                        for unit in units(surplus.offset, surplus.len) {
                            prop_assert!(!owned.contains(&unit), "the pages of {unit} are in use");
                            pages.remove(&unit);
                        }
                        ranges.put_back(surplus);
                    }
                    prop_assert!(pages.difference(&owned).count() <= KEPT);
                }
                Step::Release { .. } => {}
            }
        }
        for range in live.drain(..) {
            ranges.release(range);
        }
        prop_assert!(ranges.take(UNIT * UNITS).is_some(), "all of it is free again");
    }
}
