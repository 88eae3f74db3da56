//! What is known of the attempts of one message.

use std::time::Duration;

use crate::error::AskError;

/// The attempts that failed and were followed by another one, or are about to be.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    /// What came of each.
    pub(crate) errors: Vec<AskError>,
    /// How long to wait before the next one.
    pub(crate) wait: Duration,
}

impl Attempts {
    /// The number of the attempt that is next, or runs: from 2.
    pub(crate) fn next(&self) -> u32 {
        u32::try_from(self.errors.len()).map_or(u32::MAX, |made| made.saturating_add(1))
    }
}
