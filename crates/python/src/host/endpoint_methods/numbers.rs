//! The numbers of endpoints, by name.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use pytoweb_engine::{Worker, WorkerStats};

use crate::host::endpoint::{Endpoint, Inner};
use crate::host::handler::PyHandler;

/// Those of one; times in seconds.
pub(super) fn of<'py>(
    py: Python<'py>,
    inner: &Inner,
    worker: &Worker<PyHandler>,
) -> PyResult<Bound<'py, PyDict>> {
    let stats = worker.stats();
    let runner = inner.packing.as_ref().map(|packing| &packing.runner);
    let (processes, restarts) = runner.map_or((0, 0), |runner| runner.census());
    let numbers = PyDict::new(py);
    let counters = stats.counters;
    numbers.set_item("name", &stats.name)?;
    numbers.set_item("state", inner.state_of(stats.state))?;
    numbers.set_item("processes", processes)?;
    numbers.set_item("restarts", restarts)?;
    numbers.set_item("capacity", stats.capacity)?;
    numbers.set_item("depth", counters.queued)?;
    numbers.set_item("running", counters.running)?;
    numbers.set_item("posted", counters.posted)?;
    numbers.set_item("completed", counters.completed)?;
    numbers.set_item("failed", counters.failed)?;
    numbers.set_item("cancelled", counters.cancelled)?;
    numbers.set_item("expired", counters.expired)?;
    numbers.set_item("rejected", counters.rejected)?;
    numbers.set_item("dropped_oldest", counters.dropped_oldest)?;
    numbers.set_item("dropped_newest", counters.dropped_newest)?;
    numbers.set_item("dropped_replaced", counters.replaced)?;
    numbers.set_item("bytes", counters.bytes)?;
    numbers.set_item("retried", counters.retried)?;
    numbers.set_item("shed", counters.shed)?;
    numbers.set_item("busy_seconds", stats.busy.as_secs_f64())?;
    numbers.set_item("alive_seconds", stats.alive.as_secs_f64())?;
    set_timings(&numbers, stats.timings)?;
    Ok(numbers)
}

fn set_timings(numbers: &Bound<'_, PyDict>, timings: pytoweb_engine::TimingStats) -> PyResult<()> {
    numbers.set_item("wait_p50", timings.wait_p50.map(|time| time.as_secs_f64()))?;
    numbers.set_item("wait_p99", timings.wait_p99.map(|time| time.as_secs_f64()))?;
    numbers.set_item("run_p50", timings.run_p50.map(|time| time.as_secs_f64()))?;
    numbers.set_item("run_p99", timings.run_p99.map(|time| time.as_secs_f64()))
}

/// The timings of several endpoints, as if they were one.
#[pyfunction]
pub(crate) fn merged_timings<'py>(
    py: Python<'py>,
    endpoints: Vec<Bound<'py, Endpoint>>,
) -> PyResult<Bound<'py, PyDict>> {
    let stats = endpoints
        .iter()
        .map(|endpoint| Ok(endpoint.get().inner()?.1.stats()))
        .collect::<PyResult<Vec<WorkerStats>>>()?;
    let numbers = PyDict::new(py);
    set_timings(&numbers, WorkerStats::merged_timings(&stats))?;
    Ok(numbers)
}
