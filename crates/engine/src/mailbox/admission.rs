//! Admission: whether one more message gets in, and what happens otherwise.
//!
//! The count is exact. `entered` counts what was ever pushed; what has left is counted on the worker's side, under its lock.
//! A sender compares with the number that it saw last; only when that says *full* it takes both locks and looks again.

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
}

pub(super) struct Admission {
    capacity: usize,
    overflow: Overflow,
    /// Messages that ever entered the queue.
    entered: u64,
    /// How many had left when a thread last held both locks.
    gone_seen: u64,
    dropped_newest: u64,
    rejected: u64,
}

impl Admission {
    pub(super) const fn new(capacity: usize, overflow: Overflow) -> Self {
        Self {
            capacity,
            overflow,
            entered: 0,
            gone_seen: 0,
            dropped_newest: 0,
            rejected: 0,
        }
    }

    /// So many messages have left; known to a thread that holds both locks.
    #[inline]
    pub(super) const fn see(&mut self, gone: u64) {
        self.gone_seen = gone;
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

    /// What becomes of one more message. Exact, after [`Admission::see`].
    pub(super) fn verdict(&self) -> Verdict {
        if self.room() > 0 {
            return Verdict::Enter;
        }
        match self.overflow {
            Overflow::Block => Verdict::Full,
            Overflow::Reject => Verdict::Reject,
            Overflow::DropNewest => Verdict::DropIt,
            Overflow::DropOldest => Verdict::DropOldest,
        }
    }

    #[inline]
    pub(super) const fn enter(&mut self) {
        self.entered += 1;
    }

    pub(super) const fn count_dropped_newest(&mut self) {
        self.dropped_newest += 1;
    }

    pub(super) const fn count_rejected(&mut self, posts: usize) {
        self.rejected += posts as u64;
    }

    pub(super) const fn entered(&self) -> u64 {
        self.entered
    }

    pub(super) const fn dropped_newest(&self) -> u64 {
        self.dropped_newest
    }

    pub(super) const fn rejected(&self) -> u64 {
        self.rejected
    }
}
