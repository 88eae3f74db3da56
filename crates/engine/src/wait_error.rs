//! Why a wait inside a handler is refused.

use std::fmt;
use std::io;

/// Waiting would never end, or cannot be made safe.
#[derive(Debug)]
#[non_exhaustive]
pub enum WaitError {
    /// The workers named wait for each other, the first for the second and the last for the first.
    Cycle(Vec<String>),
    /// All threads of the pool wait, and another one could not be started.
    NoThread(io::Error),
    /// As many handlers of the pool wait as it may have threads beyond its size.
    ThreadLimit(ThreadLimit),
}

/// As many handlers of a pool wait as it may have threads beyond its size: one more was refused its wait, so that those
/// threads are left that run what the others wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadLimit {
    /// The pool's name.
    pub pool: String,
    /// See [`PoolOptions::size`](crate::PoolOptions::size).
    pub size: usize,
    /// See [`PoolOptions::max_spare_threads`](crate::PoolOptions::max_spare_threads).
    pub max_spare_threads: usize,
}

impl fmt::Display for ThreadLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pool,
            size,
            max_spare_threads,
        } = self;
        write!(
            f,
            "{max_spare_threads} handlers of the pool '{pool}' wait already, each on a thread beyond its size of {size}, and \
             it may have no more: post without waiting, recurse less deeply, or raise max_spare_threads"
        )
    }
}

impl std::error::Error for ThreadLimit {}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cycle(names) => {
                write!(f, "workers wait for each other: {}", names.join(" -> "))?;
                if let Some(first) = names.first() {
                    write!(f, " -> {first}")?;
                }
                f.write_str("; post without waiting, or answer from a worker that is not part of the circle")
            }
            Self::NoThread(error) => {
                write!(
                    f,
                    "all threads of the pool wait for replies, and another could not be started: {error}"
                )
            }
            Self::ThreadLimit(limit) => limit.fmt(f),
        }
    }
}

impl std::error::Error for WaitError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Cycle(_) | Self::ThreadLimit(_) => None,
            Self::NoThread(error) => Some(error),
        }
    }
}
