//! The numbers of all workers for Prometheus: a collector for a registry of `prometheus-client`. With the feature `metrics`.
//!
//! Names, kinds and labels are those of the Python package, whose guide lists them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::time::Duration;

use prometheus_client::collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use pytoweb_engine::{
    Address, Metric, MetricKind, Numbers, Registry, TimeBuckets, TypeStats, WorkerState,
};

/// The metrics that there are values of here. The others are of child processes.
const METRICS: [Metric; 15] = [
    Metric::WORKERS,
    Metric::HEALTH,
    Metric::BUSY,
    Metric::CONCURRENCY,
    Metric::MESSAGES,
    Metric::CAPACITY,
    Metric::BYTES,
    Metric::OLDEST,
    Metric::POSTED,
    Metric::PROCESSED,
    Metric::RETRIED,
    Metric::DEAD,
    Metric::DROPPED,
    Metric::WAIT,
    Metric::PROCESS,
];

/// The numbers of all workers and pools of the program, read anew for each scrape.
///
/// A scrape takes no lock that a message needs for long, waits for no handler, and changes nothing. The series of a worker
/// end with it. Those of workers that have the same name are sums, but for the age of the oldest message and the health,
/// of which the largest is told.
///
/// # Examples
/// ```
/// use std::convert::Infallible;
/// use prometheus_client::encoding::text::encode;
/// use prometheus_client::registry::Registry;
/// use pytoweb_workers::Worker;
/// use pytoweb_workers::metrics::Collector;
///
/// let mut registry = Registry::default();
/// registry.register_collector(Box::new(Collector::new()));
///
/// let worker = Worker::new("thumbnails");
/// worker.on_message("resize", |size: u64| Ok::<_, Infallible>(2 * size));
/// worker.start()?;
/// worker.ask::<u64, u64>("resize", 21)?.wait()?;
///
/// let mut text = String::new(); // what a scrape of /metrics is to get
/// encode(&mut text, &registry)?;
/// assert!(text.contains(r#"pytoweb_messages_posted_total{worker="thumbnails",pool=""} 1"#));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Collector(Registry);

impl Collector {
    /// Of all workers and pools of the program, those included that are made later.
    #[must_use]
    pub fn new() -> Self {
        Self(Registry::of_program())
    }
}

impl Default for Collector {
    fn default() -> Self {
        Self::new()
    }
}

impl collector::Collector for Collector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let samples = MetricSamples::of(&self.0);
        for metric in METRICS {
            let (name, kind) = match metric.kind {
                // The encoder gives it back its suffix.
                MetricKind::Counter => {
                    (metric.name.trim_end_matches("_total"), MetricType::Counter)
                }
                MetricKind::Histogram => (metric.name, MetricType::Histogram),
                _ => (metric.name, MetricType::Gauge),
            };
            let mut encoder = encoder.encode_descriptor(name, metric.help, None, kind)?;
            for (labels, value) in samples.0.get(metric.name).into_iter().flatten() {
                let labels = metric.labels.iter().zip(labels);
                let labels: Vec<_> = labels
                    .map(|(name, label)| (*name, label.as_str()))
                    .collect();
                value.encode(metric.kind, encoder.encode_family(&labels.as_slice())?)?;
            }
        }
        Ok(())
    }
}

/// The value of a sample.
enum SampleValue {
    Number(f64),
    Times(TimeBuckets),
}

impl SampleValue {
    fn encode(&self, kind: MetricKind, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        match self {
            Self::Number(number) if kind == MetricKind::Counter => {
                let exemplar: Option<&Exemplar<[(&str, &str); 0], f64>> = None;
                encoder.encode_counter(number, exemplar)
            }
            Self::Number(number) => encoder.encode_gauge(number),
            Self::Times(times) => {
                let bounds = TimeBuckets::BOUNDS.iter().map(Duration::as_secs_f64);
                let buckets = bounds.chain([f64::INFINITY]).zip(*times.counts());
                let buckets: Vec<_> = buckets.collect();
                let seconds = times.sum().as_secs_f64();
                encoder.encode_histogram::<[(&str, &str); 0]>(
                    seconds,
                    times.count(),
                    &buckets,
                    None,
                )
            }
        }
    }
}

/// The samples of each metric by their labels, those with the same labels as one.
#[derive(Default)]
struct MetricSamples(BTreeMap<&'static str, BTreeMap<Vec<String>, SampleValue>>);

impl MetricSamples {
    fn of(registry: &Registry) -> Self {
        let mut samples = Self::default();
        for pool in registry.pools() {
            let workers = pool.workers();
            // The pool of a worker by itself has no mailbox, and is no pool to its user.
            let name = if workers.iter().any(Address::is_pool) {
                pool.name()
            } else {
                ""
            };
            for worker in &workers {
                samples.add_worker(worker, name);
            }
        }
        samples
    }

    fn add(&mut self, metric: Metric, labels: &[&str], value: SampleValue) {
        let all = self.0.entry(metric.name).or_default();
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        let found = match all.entry(labels) {
            Entry::Vacant(entry) => {
                entry.insert(value);
                return;
            }
            Entry::Occupied(entry) => entry.into_mut(),
        };
        match (found, value) {
            (SampleValue::Number(found), SampleValue::Number(more)) => {
                // An age and a state have no sum.
                *found = if [Metric::HEALTH, Metric::OLDEST].contains(&metric) {
                    found.max(more)
                } else {
                    *found + more
                };
            }
            (SampleValue::Times(found), SampleValue::Times(more)) => found.add(&more),
            _ => {}
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "Prometheus has no other numbers"
    )]
    fn count(&mut self, metric: Metric, labels: &[&str], count: u64) {
        self.add(metric, labels, SampleValue::Number(count as f64));
    }

    fn seconds(&mut self, metric: Metric, labels: &[&str], time: Duration) {
        self.add(metric, labels, SampleValue::Number(time.as_secs_f64()));
    }

    fn add_worker(&mut self, worker: &Address, pool: &str) {
        let numbers = worker.numbers();
        if numbers.state == WorkerState::Stopped {
            return;
        }
        let own = [worker.name(), pool];
        let counters = numbers.counters;
        let health = worker.health().state as u64;
        self.count(Metric::WORKERS, &["thread", numbers.state.name()], 1);
        self.count(Metric::HEALTH, &own, health);
        self.seconds(Metric::BUSY, &own, numbers.busy);
        self.count(Metric::CONCURRENCY, &own, numbers.concurrency as u64);
        for (state, count) in [("queued", counters.queued), ("running", counters.running)] {
            self.count(Metric::MESSAGES, &[own[0], pool, state], count);
        }
        self.count(Metric::CAPACITY, &own, numbers.capacity as u64);
        self.count(Metric::BYTES, &own, counters.bytes);
        let oldest = numbers.oldest_age.unwrap_or_default();
        self.seconds(Metric::OLDEST, &own, oldest);
        self.count(Metric::POSTED, &own, counters.posted);
        self.count(Metric::RETRIED, &own, counters.retried);
        self.count(Metric::DEAD, &own, worker.dead());
        let types = worker.type_stats();
        self.add_dropped(&numbers, &types, own);
        for (kind, stats) in &types {
            self.add_type(kind, stats, own);
        }
    }

    fn add_dropped(
        &mut self,
        numbers: &Numbers,
        types: &BTreeMap<String, TypeStats>,
        [worker, pool]: [&str; 2],
    ) {
        let counters = numbers.counters;
        // What is not among the types never began.
        let unbegun = |all: u64, begun: fn(&TypeStats) -> u64| {
            all.saturating_sub(types.values().map(begun).sum())
        };
        for (reason, count) in [
            ("oldest", counters.dropped_oldest),
            ("newest", counters.dropped_newest),
            ("replaced", counters.replaced),
            ("rejected", counters.rejected),
            ("shed", counters.shed),
            ("expired", unbegun(counters.expired, |kind| kind.expired)),
            (
                "cancelled",
                unbegun(counters.cancelled, |kind| kind.cancelled),
            ),
        ] {
            self.count(Metric::DROPPED, &[worker, pool, reason], count);
        }
    }

    fn add_type(&mut self, kind: &str, stats: &TypeStats, [worker, pool]: [&str; 2]) {
        for (outcome, count) in [
            ("ok", stats.completed),
            ("error", stats.failed),
            ("expired", stats.expired),
            ("cancelled", stats.cancelled),
        ] {
            self.count(Metric::PROCESSED, &[worker, pool, kind, outcome], count);
        }
        let labels = [worker, pool, kind];
        self.add(
            Metric::WAIT,
            &labels,
            SampleValue::Times(stats.wait_times()),
        );
        self.add(
            Metric::PROCESS,
            &labels,
            SampleValue::Times(stats.run_times()),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_about_child_processes() {
        let missing = Metric::ALL
            .iter()
            .filter(|metric| !METRICS.contains(metric));
        let missing: Vec<_> = missing.map(|metric| metric.name).collect();
        let children = [Metric::RESTARTS, Metric::CHILD_MEMORY, Metric::CHILD_CPU];
        assert_eq!(missing, children.map(|metric| metric.name));
    }
}
