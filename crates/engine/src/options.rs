//! How a worker is made.

use std::time::Duration;

use crate::mailbox::Shed;
use crate::plan::Rate;
use crate::policy::{DEFAULT_CAPACITY, Overflow};

/// How a worker is made.
#[derive(Clone, Copy, Debug)]
pub struct WorkerOptions {
    /// Messages that the mailbox holds at most, at least 1.
    pub capacity: usize,
    /// What happens to one more.
    pub overflow: Overflow,
    /// How many messages may begin in a time.
    pub rate: Option<Rate>,
    /// When messages are refused for the wait of those that are queued, whatever the policy.
    pub shed: Option<Shed>,
    /// How many of its messages run at the same time, at least 1: more than one give up their order. A handler that waits for
    /// a reply or for room lends its place to another one. For a pool's own mailbox it is the pool's size.
    pub concurrency: usize,
    /// After how long a run of a handler counts as stuck, for [`Address::health`](crate::Address::health) and
    /// [`Handler::stuck`](crate::Handler::stuck); `None`: it may take as long as it takes.
    pub stuck_after: Option<Duration>,
    /// Bytes that its messages have at most, those that run included: [`Message::bytes`](crate::Message::bytes) is asked.
    pub bytes: Option<u64>,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            capacity: DEFAULT_CAPACITY,
            overflow: Overflow::default(),
            rate: None,
            shed: None,
            concurrency: 1,
            stuck_after: None,
            bytes: None,
        }
    }
}
