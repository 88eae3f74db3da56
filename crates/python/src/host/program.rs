//! The numbers and the health of all pools and workers of the program.

use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use pytoweb_engine::{Counters, HealthState};

use crate::interpreter::fork;

/// Sums over all pools and their workers, the pools of workers of their own among them. Without the interpreter lock, but
/// for the result.
#[pyfunction]
pub(crate) fn program_numbers(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let registry = fork::of_process().registry;
    let (mut pools, mut workers) = (0, 0);
    let mut counters = Counters::default();
    let mut oldest_age = None::<Duration>;
    py.detach(|| {
        for pool in registry.pools() {
            pools += 1;
            for worker in pool.workers() {
                workers += usize::from(!worker.is_pool());
                let numbers = worker.numbers();
                counters.add(&numbers.counters);
                oldest_age = oldest_age.max(numbers.oldest_age);
            }
        }
    });
    let sums = PyDict::new(py);
    sums.set_item("pools", pools)?;
    sums.set_item("workers", workers)?;
    sums.set_item("depth", counters.queued)?;
    sums.set_item("running", counters.running)?;
    sums.set_item("posted", counters.posted)?;
    sums.set_item("completed", counters.completed)?;
    sums.set_item("failed", counters.failed)?;
    sums.set_item("dropped", counters.dropped())?;
    sums.set_item("cancelled", counters.cancelled)?;
    sums.set_item("expired", counters.expired)?;
    sums.set_item("rejected", counters.rejected)?;
    sums.set_item("shed", counters.shed)?;
    sums.set_item("retried", counters.retried)?;
    sums.set_item("oldest_age", oldest_age.map(|age| age.as_secs_f64()))?;
    Ok(sums)
}

/// A worker, and how it fares: its pool's name, its own, whether it is the pool's own mailbox; the state, why, and for how
/// many seconds.
type HealthRow = (String, String, bool, (&'static str, String, f64));

/// How all workers of the program fare: how many are in each state, and of the `most` first ones that are restarting or worse,
/// what is known. Without the interpreter lock, but for the result.
#[pyfunction]
pub(crate) fn program_health(
    py: Python<'_>,
    most: usize,
) -> PyResult<(Bound<'_, PyDict>, Vec<HealthRow>)> {
    let registry = fork::of_process().registry;
    let mut states: Vec<(HealthState, usize)> = Vec::new();
    let mut worse = Vec::new();
    py.detach(|| {
        for pool in registry.pools() {
            for worker in pool.workers() {
                let health = worker.health();
                match states.iter_mut().find(|(state, _)| *state == health.state) {
                    Some((_, count)) => *count += 1,
                    None => states.push((health.state, 1)),
                }
                if health.state >= HealthState::Restarting && worse.len() < most {
                    let told = (
                        health.state.name(),
                        health.reason,
                        health.lasted.as_secs_f64(),
                    );
                    let name = worker.name().to_owned();
                    worse.push((pool.name().to_owned(), name, worker.is_pool(), told));
                }
            }
        }
    });
    let counts = PyDict::new(py);
    for (state, count) in states {
        counts.set_item(state.name(), count)?;
    }
    Ok((counts, worse))
}
