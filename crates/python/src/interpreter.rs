//! What CPython has for us beyond PyO3: contexts, threads, its end, forks, memory.

pub(crate) mod attached;
pub(crate) mod blocking;
pub(crate) mod context;
pub(crate) mod ending;
pub(crate) mod fork;
pub(crate) mod generation;
pub(crate) mod loops;
pub(crate) mod marks;
pub(crate) mod memory;
pub(crate) mod parker;
pub(crate) mod watchdog;
