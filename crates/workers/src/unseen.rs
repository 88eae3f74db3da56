//! Failures that are not waited for, on standard error.

use std::io::{self, Write};

use pytoweb_engine::contained;

use crate::error::WorkerError;

/// Prints `error`, whose text is a user's code. Never panics: neither over that, nor where standard error is closed
/// or full, as `eprintln!` would.
pub(crate) fn print(error: &WorkerError) {
    let text = contained(|| format!("pytoweb: {error}\n")).unwrap_or_else(|panic| {
        format!(
            "pytoweb: worker `{}`, message `{}`: it failed, and to say how panicked: {}\n",
            error.worker(),
            error.kind(),
            panic.into_text()
        )
    });
    // In one write, so that the lines of several threads do not mix. There is no place to tell that this failed.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
