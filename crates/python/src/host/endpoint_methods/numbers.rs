//! The numbers of endpoints, by name; times in seconds.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use pytoweb_engine::{Metric, TimeBuckets, TimingStats, TypeStats, Worker, WorkerStats};

use crate::host::endpoint::{Endpoint, Inner};
use crate::host::handler::PyHandler;

/// Those of one.
pub(super) fn of<'py>(
    py: Python<'py>,
    inner: &Inner,
    worker: &Worker<PyHandler>,
) -> PyResult<Bound<'py, PyDict>> {
    let runner = inner.packing.as_ref().map(|packing| &packing.runner);
    // Attached: it is short, and to get the interpreter lock back may take a thousand times as long.
    let (stats, types) = (worker.stats(), types_of([worker]));
    let (processes, restarts) = runner.map_or((0, 0), |runner| runner.census());
    let usage = runner.map(|runner| runner.usage()).unwrap_or_default();
    let numbers = PyDict::new(py);
    let counters = stats.counters;
    numbers.set_item("name", &stats.name)?;
    numbers.set_item("state", inner.state_of(stats.state))?;
    numbers.set_item("processes", processes)?;
    numbers.set_item("restarts", restarts)?;
    let children = usage.iter().map(|child| {
        let cpu = child.cpu.map(|cpu| cpu.as_secs_f64());
        (child.pid, child.resident_bytes, cpu)
    });
    numbers.set_item("children", PyList::new(py, children.collect::<Vec<_>>())?)?;
    numbers.set_item("capacity", stats.capacity)?;
    numbers.set_item("concurrency", stats.concurrency)?;
    numbers.set_item("depth", counters.queued)?;
    numbers.set_item("oldest_age", seconds(stats.oldest_age))?;
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
    // ORDERING: Relaxed, only the sum matters.
    numbers.set_item("dead", inner.shared.dead.load(Ordering::Relaxed))?;
    numbers.set_item("shed", counters.shed)?;
    numbers.set_item("busy_seconds", stats.busy.as_secs_f64())?;
    let recently = [
        stats.recently.last_1s,
        stats.recently.last_10s,
        stats.recently.last_60s,
    ];
    numbers.set_item("busy_recently", recently.map(|busy| busy.as_secs_f64()))?;
    numbers.set_item("alive_seconds", stats.alive.as_secs_f64())?;
    set_timings(&numbers, stats.timings)?;
    numbers.set_item("types", by_type(py, &types)?)?;
    Ok(numbers)
}

fn seconds(time: Option<Duration>) -> Option<f64> {
    time.map(|time| time.as_secs_f64())
}

fn set_timings(numbers: &Bound<'_, PyDict>, timings: TimingStats) -> PyResult<()> {
    numbers.set_item("wait_p50", seconds(timings.wait_p50))?;
    numbers.set_item("wait_p90", seconds(timings.wait_p90))?;
    numbers.set_item("wait_p99", seconds(timings.wait_p99))?;
    numbers.set_item("wait_max", seconds(timings.wait_max))?;
    numbers.set_item("run_p50", seconds(timings.run_p50))?;
    numbers.set_item("run_p90", seconds(timings.run_p90))?;
    numbers.set_item("run_p99", seconds(timings.run_p99))?;
    numbers.set_item("run_max", seconds(timings.run_max))
}

type Types = BTreeMap<Box<str>, TypeStats>;

/// What became of the messages of each type, in all of these.
fn types_of<'a>(workers: impl IntoIterator<Item = &'a Worker<PyHandler>>) -> Types {
    let mut all = Types::new();
    for worker in workers {
        for (kind, stats) in worker.handler().shared.tallies.stats() {
            match all.entry(kind) {
                Entry::Vacant(entry) => drop(entry.insert(stats)),
                Entry::Occupied(mut entry) => entry.get_mut().add(&stats),
            }
        }
    }
    all
}

fn by_type<'py>(py: Python<'py>, types: &Types) -> PyResult<Bound<'py, PyDict>> {
    let all = PyDict::new(py);
    for (kind, stats) in types {
        let numbers = PyDict::new(py);
        numbers.set_item("completed", stats.completed)?;
        numbers.set_item("failed", stats.failed)?;
        numbers.set_item("expired", stats.expired)?;
        numbers.set_item("cancelled", stats.cancelled)?;
        numbers.set_item("retried", stats.retried)?;
        set_timings(&numbers, stats.timings)?;
        all.set_item(&**kind, numbers)?;
    }
    Ok(all)
}

/// A histogram: how many times lie in each bucket, and their sum in seconds.
fn buckets_of(times: &TimeBuckets) -> (&[u64], f64) {
    (times.counts(), times.sum().as_secs_f64())
}

/// How long the messages of each type waited, and how long they ran.
pub(super) fn times_of<'py>(
    py: Python<'py>,
    worker: &Worker<PyHandler>,
) -> PyResult<Bound<'py, PyDict>> {
    let all = PyDict::new(py);
    for (kind, stats) in worker.handler().shared.tallies.stats() {
        let (wait, run) = (stats.wait_times(), stats.run_times());
        all.set_item(&*kind, (buckets_of(&wait), buckets_of(&run)))?;
    }
    Ok(all)
}

/// The metrics of workers: for each its name, what Prometheus calls its kind, what it tells, and its labels.
pub(crate) fn metrics() -> Vec<(&'static str, &'static str, &'static str, Vec<&'static str>)> {
    let each = Metric::ALL.iter();
    each.map(|metric| {
        let labels = metric.labels.to_vec();
        (metric.name, metric.kind.name(), metric.help, labels)
    })
    .collect()
}

/// The timings and the types of several endpoints, as if they were one.
#[pyfunction]
pub(crate) fn merged_numbers<'py>(
    py: Python<'py>,
    endpoints: Vec<Bound<'py, Endpoint>>,
) -> PyResult<Bound<'py, PyDict>> {
    let workers = endpoints
        .iter()
        .map(|endpoint| endpoint.get().worker())
        .collect::<PyResult<Vec<_>>>()?;
    let (timings, types) = py.detach(|| {
        let stats: Vec<_> = workers.iter().map(|worker| worker.stats()).collect();
        let timings = WorkerStats::merged_timings(&stats);
        (timings, types_of(workers.iter().copied()))
    });
    let numbers = PyDict::new(py);
    set_timings(&numbers, timings)?;
    numbers.set_item("types", by_type(py, &types)?)?;
    Ok(numbers)
}
