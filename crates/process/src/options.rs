//! How a fleet is made, and how long its children get.

use std::time::Duration;

/// Children that are started anew one after the other, before the pace is slowed down where no limit is set.
pub(crate) const DEFAULT_MAX_RESTARTS: usize = 3;
/// How long a child gets to end by itself, after its last message: for what a program does at its end (files that are
/// flushed, functions that were registered for it, threads that it waits for). Then it is killed.
pub const END_LIMIT: Duration = Duration::from_secs(5);

/// What carries frames between the host and its children.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// Shared memory, where the platform has it.
    #[default]
    SharedMemory,
    /// A socket pair.
    Socket,
}

/// How a fleet is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names its threads.
    pub name: String,
    /// Children at the same time.
    pub size: usize,
    /// What carries the frames.
    pub transport: Transport,
    /// Messages after which a child is replaced.
    pub max_messages: Option<u64>,
    /// Bytes of resident memory above which a child is replaced.
    pub max_memory: Option<u64>,
    /// Children that are started in a row in the place of one that ended before it had begun a message; after those
    /// the lane is given up for a while. `None`: never, but they are started ever more slowly.
    pub max_restarts: Option<usize>,
    /// A child that was ready for longer than this is none of these.
    pub restart_window: Duration,
    /// How long a message that was asked to stop may take to end by itself before its child is killed.
    pub grace: Duration,
    /// How long a child may take to be ready, and to take in the configuration of each worker.
    pub start_limit: Option<Duration>,
}
