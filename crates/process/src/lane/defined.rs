//! What a child was told besides messages: the configurations of workers, and the definitions that many messages refer to
//! by a number.
//!
//! A child keeps definitions until it is told to forget all, so that what it keeps is bounded.

use std::collections::{HashMap, HashSet};

/// Definitions that a child keeps at most.
const MOST: usize = 1024;
/// And their bytes, all together.
const MOST_BYTES: usize = 16 << 20;

/// The versions of configurations that a child has, by worker.
#[derive(Default)]
pub(super) struct Configured {
    versions: HashMap<u32, u32>,
    /// The worker that was asked for last, and its version: mostly it is asked for again.
    last: Option<(u32, u32)>,
}

impl Configured {
    /// Whether the child has this version or a later one.
    pub(super) fn has(&mut self, worker: u32, version: u32) -> bool {
        if self.last.is_none_or(|(last, _)| last != worker) {
            self.last = Some((worker, self.versions.get(&worker).copied().unwrap_or(0)));
        }
        self.last.is_some_and(|(_, known)| known >= version)
    }

    /// Notes that the child is sent a version.
    pub(super) fn add(&mut self, worker: u32, version: u32) {
        self.versions.insert(worker, version);
        self.last = Some((worker, version));
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[derive(Default)]
pub(super) struct Defined {
    numbers: HashSet<u32>,
    bytes: usize,
    /// The one that was asked for last: mostly it is asked for again.
    last: Option<u32>,
}

impl Defined {
    pub(super) fn has(&mut self, number: u32) -> bool {
        if self.last == Some(number) {
            return true;
        }
        let has = self.numbers.contains(&number);
        if has {
            self.last = Some(number);
        }
        has
    }

    /// Notes that the child is sent one of so many bytes. True: it is to forget the others.
    pub(super) fn add(&mut self, number: u32, bytes: usize) -> bool {
        let anew = self.numbers.len() >= MOST || self.bytes.saturating_add(bytes) > MOST_BYTES;
        if anew {
            self.clear();
        }
        self.numbers.insert(number);
        self.bytes = self.bytes.saturating_add(bytes);
        self.last = Some(number);
        anew
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(all(test, not(pytoweb_loom)))]
mod tests {
    use super::{Configured, Defined, MOST, MOST_BYTES};

    #[test]
    fn a_child_has_a_version_of_each_worker_and_those_before() {
        let mut configured = Configured::default();
        assert!(configured.has(1, 0));
        assert!(!configured.has(1, 1));
        configured.add(1, 2);
        assert!(configured.has(1, 2) && configured.has(1, 1));
        assert!(!configured.has(2, 1) && !configured.has(1, 3));
        configured.add(2, 1);
        assert!(configured.has(1, 2) && configured.has(2, 1));
        configured.clear();
        assert!(!configured.has(1, 1));
    }

    #[test]
    fn a_child_has_what_it_was_sent_until_it_is_to_forget() {
        let mut defined = Defined::default();
        for number in 0..MOST as u32 {
            assert!(!defined.has(number));
            assert!(!defined.add(number, 10));
            assert!(defined.has(number) && defined.has(0));
        }
        assert!(defined.add(5000, 10));
        assert!(defined.has(5000) && !defined.has(0));
    }

    #[test]
    fn large_ones_are_bounded_by_their_bytes() {
        let mut defined = Defined::default();
        assert!(!defined.add(1, MOST_BYTES));
        assert!(defined.add(2, 1));
        assert!(defined.add(3, MOST_BYTES + 1));
        assert!(defined.has(3) && !defined.has(2));
    }
}
