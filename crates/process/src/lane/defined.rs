//! The definitions that a child has: what many messages refer to by a number.
//!
//! A child keeps them until it is told to forget all, so that what it keeps is bounded.

use std::collections::HashSet;

/// Definitions that a child keeps at most.
const MOST: usize = 1024;
/// And their bytes, all together.
const MOST_BYTES: usize = 16 << 20;

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
    use super::{Defined, MOST, MOST_BYTES};

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
