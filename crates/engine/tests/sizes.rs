//! The sizes of what there are many of. A limit that is passed is a decision to be taken, not a bug.

use std::mem::size_of;

use pytoweb_engine::{Address, ReplyState, Shared, Single, Slot, Timestamp, Wake};

#[test]
fn what_every_message_may_carry_is_small() {
    // One word of state and flags, and the lock, list and condition variable of those who wait.
    assert!(size_of::<ReplyState>() <= 32, "{}", size_of::<ReplyState>());
    // A reply of one word and its tag.
    assert!(size_of::<Slot<usize, Shared>>() <= size_of::<ReplyState>() + 24);
    assert_eq!(
        size_of::<Slot<usize, Shared>>(),
        size_of::<Slot<usize, Single>>()
    );
    assert_eq!(size_of::<Timestamp>(), 8);
}

#[test]
fn what_is_handed_around_is_two_words() {
    assert_eq!(size_of::<Address>(), 2 * size_of::<usize>());
    assert_eq!(size_of::<Wake>(), 2 * size_of::<usize>());
}
