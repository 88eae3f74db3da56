//! Admission: whether one more message gets in, and what happens otherwise.
//!
//! By the number of messages, and where the mailbox is told so, by their bytes too: whichever is used up first. A message
//! takes its bytes until it is over, also while it runs; of one that is gone they are free when it was dropped.
//!
//! The count is exact. `entered` counts what was ever pushed; what has left is counted on the worker's side, under its lock.
//! A sender compares with the number that it saw last; only when that says *full* it takes both locks and looks again.

use super::accounts::Accounts;
use crate::clock::Timestamp;
use crate::message::Message;
use crate::policy::Overflow;

/// What becomes of one more message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Enter,
    /// The sender has to wait.
    Full,
    /// It is counted as rejected.
    Reject,
    /// It is dropped, and counts as posted.
    DropIt,
    /// It enters in the place of the oldest.
    DropOldest,
    /// It has more bytes than the mailbox may ever hold.
    TooLarge,
}

pub(super) struct Admission {
    capacity: usize,
    byte_limit: Option<u64>,
    waited_for: bool,
    /// The bytes of the messages that ever entered, and of those that were over when a thread last held both locks.
    bytes_entered: u64,
    bytes_gone_seen: u64,
    /// Those that run, likewise.
    bytes_running_seen: u64,
    overflow: Overflow,
    /// Messages that ever entered the queue.
    entered: u64,
    /// How many had left when a thread last held both locks.
    gone_seen: u64,
    dropped_newest: u64,
    rejected: u64,
    shed: u64,
    /// When a post found no place first, since the mailbox was last half empty.
    full_since: Option<Timestamp>,
}

impl Admission {
    pub(super) const fn new(capacity: usize, byte_limit: Option<u64>, overflow: Overflow) -> Self {
        Self {
            capacity,
            byte_limit,
            waited_for: false,
            bytes_entered: 0,
            bytes_gone_seen: 0,
            bytes_running_seen: 0,
            overflow,
            entered: 0,
            gone_seen: 0,
            dropped_newest: 0,
            rejected: 0,
            shed: 0,
            full_since: None,
        }
    }

    /// What has left since; known to a thread that holds both locks.
    #[inline]
    pub(super) fn see(&mut self, accounts: &Accounts) {
        self.gone_seen = accounts.gone();
        self.bytes_gone_seen = accounts.bytes_gone();
        self.bytes_running_seen = accounts.bytes_running();
        if self.full_since.is_some() && self.is_half_empty() {
            self.full_since = None;
        }
    }

    /// Whether as much is free as is taken. Exact, after [`Admission::see`].
    fn is_half_empty(&self) -> bool {
        let bytes_free = |limit| self.bytes() <= limit / 2;
        self.queued() <= self.capacity / 2 && self.byte_limit.is_none_or(bytes_free)
    }

    /// A post found no place.
    pub(super) fn note_full(&mut self, now: impl FnOnce() -> Timestamp) {
        if self.full_since.is_none() {
            self.full_since = Some(now());
        }
    }

    /// Since when the mailbox is full, and was never half empty. Exact, after [`Admission::see`].
    pub(super) const fn full_since(&self) -> Option<Timestamp> {
        self.full_since
    }

    /// Whether messages are asked for their bytes.
    #[inline]
    pub(super) const fn weighs(&self) -> bool {
        self.byte_limit.is_some()
    }

    /// The bytes of a message, where they count.
    #[inline]
    pub(super) fn weight(&self, message: &impl Message) -> u64 {
        if self.weighs() {
            message.bytes() as u64
        } else {
            0
        }
    }

    /// Bytes of messages that are not over, at most. Exact, after [`Admission::see`].
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes_entered - self.bytes_gone_seen
    }

    /// Whether there is a place for sure for a message of that weight, which comes now.
    #[inline]
    pub(super) fn has_room_for(&self, bytes: u64) -> bool {
        !self.waited_for && self.fits(bytes)
    }

    /// The same for the first one that waits.
    pub(super) fn fits(&self, bytes: u64) -> bool {
        self.room() > 0 && self.has_bytes_for(bytes, 0)
    }

    /// Whether posts wait for bytes, and smaller ones that come now are to wait behind them. Without bytes there is no place
    /// while one waits.
    pub(super) const fn set_waited_for(&mut self, waits: bool) {
        self.waited_for = waits && self.weighs();
    }

    /// Whether its bytes are free, once `more` are.
    pub(super) fn has_bytes_for(&self, bytes: u64, more: u64) -> bool {
        self.byte_limit
            .is_none_or(|limit| self.bytes() + bytes <= limit + more)
    }

    /// Places that are free for sure.
    #[inline]
    pub(super) fn room(&self) -> usize {
        self.capacity.saturating_sub(self.queued())
    }

    /// Messages that are queued at most. Exact, after [`Admission::see`].
    #[inline]
    pub(super) fn queued(&self) -> usize {
        usize::try_from(self.entered - self.gone_seen).unwrap_or(usize::MAX)
    }

    /// What becomes of one more message of that weight. Exact, after [`Admission::see`].
    pub(super) fn verdict(&self, bytes: u64) -> Verdict {
        if self.has_room_for(bytes) {
            return Verdict::Enter;
        }
        if self.byte_limit.is_some_and(|limit| bytes > limit) {
            return Verdict::TooLarge;
        }
        // The oldest ones cannot make room where those that run take it.
        let runs_over = |limit| self.bytes_running_seen + bytes > limit;
        if self.overflow == Overflow::DropOldest && self.byte_limit.is_some_and(runs_over) {
            return Verdict::DropIt;
        }
        match self.overflow {
            Overflow::Block => Verdict::Full,
            Overflow::Reject => Verdict::Reject,
            Overflow::DropNewest => Verdict::DropIt,
            Overflow::DropOldest => Verdict::DropOldest,
        }
    }

    #[inline]
    pub(super) const fn enter(&mut self, bytes: u64) {
        self.entered += 1;
        self.bytes_entered += bytes;
    }

    pub(super) const fn count_dropped_newest(&mut self) {
        self.dropped_newest += 1;
    }

    pub(super) const fn count_shed(&mut self) {
        self.shed += 1;
    }

    pub(super) const fn shed(&self) -> u64 {
        self.shed
    }

    pub(super) const fn count_rejected(&mut self, posts: usize) {
        self.rejected += posts as u64;
    }

    pub(super) const fn entered(&self) -> u64 {
        self.entered
    }

    pub(super) const fn bytes_entered(&self) -> u64 {
        self.bytes_entered
    }

    pub(super) const fn dropped_newest(&self) -> u64 {
        self.dropped_newest
    }

    pub(super) const fn rejected(&self) -> u64 {
        self.rejected
    }
}
