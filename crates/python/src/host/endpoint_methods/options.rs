//! Options of the mailbox, as Python gives them.

use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pytoweb_engine::{Rate, Shed};

/// The target and the window, in seconds.
pub(super) fn checked_shed((target, window): (f64, f64)) -> PyResult<Shed> {
    Ok(Shed {
        target: checked_seconds(target)?,
        window: checked_seconds(window)?,
    })
}

pub(super) fn checked_seconds(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// `messages` in so many seconds, and the burst.
pub(super) fn checked_rate((messages, seconds, burst): (u32, f64, u32)) -> PyResult<Rate> {
    Duration::try_from_secs_f64(seconds)
        .ok()
        .and_then(|period| Rate::new(messages, period, burst))
        .ok_or_else(|| {
            PyValueError::new_err(format!(
                "a rate of {messages} messages in {seconds} s with a burst of {burst} is none that can be kept"
            ))
        })
}
