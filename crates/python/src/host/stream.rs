//! The two ends of a stream, as Python calls them: see `channel.rs`.

pub(crate) mod reader;
pub(crate) mod writer;
