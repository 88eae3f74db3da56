//! With the feature `metrics`, a registry of `prometheus-client` has the numbers of all workers.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use pytoweb_engine::{Metric, MetricKind, TimeBuckets};
use pytoweb_workers::metrics::Collector;
use pytoweb_workers::{HealthState, Overflow, Retry, Worker, WorkerPool};

use common::{Gate, LIMIT, get};

/// All workers of the program are in each scrape: one test at a time makes some.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn scrape() -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Collector::new()));
    let mut text = String::new();
    encode(&mut text, &registry).expect("it is written into memory");
    text
}

/// The samples by name and labels, as they are written.
fn samples() -> BTreeMap<String, f64> {
    let text = scrape();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let parts = lines.map(|line| line.rsplit_once(' ').expect("a name and a value"));
    parts
        .map(|(name, value)| (name.to_owned(), value.parse().expect("a number")))
        .collect()
}

fn value(samples: &BTreeMap<String, f64>, name: &str) -> f64 {
    *samples
        .get(&format!("pytoweb_{name}"))
        .unwrap_or_else(|| panic!("no {name} in {samples:#?}"))
}

#[test]
fn the_numbers_of_a_worker_are_there() {
    let _alone = alone();
    let worker = Worker::builder("measured")
        .capacity(2)
        .overflow(Overflow::Reject)
        .build();
    let gate = Gate::new(&worker);
    worker.on_message_retry("parse", Retry::new(1), |text: &String| text.parse::<u64>());
    worker.on_error(|_| ());
    worker.start().expect("it starts");
    worker
        .post_message("parse", "seven".to_owned())
        .expect("it is accepted");
    let reply = worker
        .ask::<(), bool>(gate.kind, ())
        .expect("it is accepted");
    gate.wait_entered();
    for _ in 0..2 {
        worker
            .post_message("parse", "7".to_owned())
            .expect("there is room");
    }
    assert!(worker.post_message("parse", "7".to_owned()).is_err());
    let found = samples();
    let own = r#"worker="measured",pool="""#;
    for (name, expected) in [
        (format!("messages_posted_total{{{own}}}"), 4.0),
        (format!("messages_dead_total{{{own}}}"), 1.0),
        (
            format!("messages_dropped_total{{{own},reason=\"rejected\"}}"),
            1.0,
        ),
        (format!("queue_messages{{{own},state=\"queued\"}}"), 2.0),
        (format!("queue_messages{{{own},state=\"running\"}}"), 1.0),
        (format!("queue_capacity_messages{{{own}}}"), 2.0),
        (format!("worker_concurrency{{{own}}}"), 1.0),
        (
            format!("worker_health{{{own}}}"),
            f64::from(HealthState::Busy as u8),
        ),
        (
            format!("messages_processed_total{{{own},type=\"parse\",outcome=\"error\"}}"),
            1.0,
        ),
        (
            r#"workers{backend="thread",state="running"}"#.to_owned(),
            1.0,
        ),
    ] {
        assert!((value(&found, &name) - expected).abs() < 0.1, "{name}");
    }
    gate.open();
    get(reply).expect("it ends");
    worker.stop();
    assert!(!scrape().contains("measured"), "its series end with it");
}

#[test]
fn a_pool_and_its_workers_have_series_of_their_own() {
    let _alone = alone();
    let pool = WorkerPool::builder().size(2).name("shared").build();
    let worker = pool
        .create_worker("a \"quoted\" \\ name")
        .expect("it is made");
    worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    worker.start().expect("it starts");
    get(worker.ask::<u64, u64>("inc", 1).expect("accepted")).expect("handled");
    get(pool.submit(|| 7).map_err(|_| ()).expect("accepted")).expect("handled");
    let found = samples();
    let name = r#"messages_posted_total{worker="a \"quoted\" \\ name",pool="shared"}"#;
    assert!((value(&found, name) - 1.0).abs() < 0.1);
    let name = r#"messages_posted_total{worker="shared",pool="shared"}"#;
    assert!((value(&found, name) - 1.0).abs() < 0.1);
    pool.shutdown();
}

/// Each metric has the name, kind and labels of the table that the Python package exports from.
#[test]
fn names_kinds_and_labels_are_those_of_the_table() {
    let _alone = alone();
    let worker = Worker::new("named");
    worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    worker.start().expect("it starts");
    get(worker.ask::<u64, u64>("inc", 1).expect("accepted")).expect("handled");
    let text = scrape();
    let mut seen = 0;
    for metric in Metric::ALL {
        let family = metric.name.trim_end_matches("_total");
        if !text.contains(&format!("# TYPE {family} {}\n", metric.kind.name())) {
            continue;
        }
        seen += 1;
        let suffixes: &[&str] = match metric.kind {
            MetricKind::Histogram => &["_bucket", "_sum", "_count"],
            _ => &[""],
        };
        for suffix in suffixes {
            let start = format!("{}{suffix}{{", metric.name);
            let line = text.lines().find(|line| line.starts_with(&start));
            let line = line.unwrap_or_else(|| panic!("no {start} in {text}"));
            let (labels, _) = line[start.len()..].split_once('}').expect("labels");
            let labels = labels.split(',').map(|label| label.split('=').next());
            let labels: BTreeSet<_> = labels.flatten().filter(|name| *name != "le").collect();
            assert_eq!(labels, metric.labels.iter().copied().collect(), "{line}");
        }
    }
    assert_eq!(
        seen,
        Metric::ALL.len() - 3,
        "all but those of child processes"
    );
}

#[test]
fn histograms_add_up_while_messages_run() {
    let _alone = alone();
    let worker = Arc::new(Worker::new("loaded"));
    worker.on_message("inc", |n: u64| Ok::<_, Infallible>(n + 1));
    worker.start().expect("it starts");
    let loaded = worker.clone();
    let load = thread::spawn(move || {
        for number in 0..50_000_u64 {
            loaded.post_message("inc", number).expect("it is accepted");
        }
    });
    let mut counts = [0.0; 2];
    let until = Instant::now() + LIMIT;
    loop {
        assert!(Instant::now() < until, "all are posted in time");
        let is_last = load.is_finished();
        let found = samples();
        for (metric, before) in ["message_wait", "message_process"]
            .into_iter()
            .zip(&mut counts)
        {
            let of_all = r#"worker="loaded",pool="",type="inc""#;
            let mut below = 0.0;
            let buckets = format!("pytoweb_{metric}_seconds_bucket{{");
            let mut buckets: Vec<_> = found
                .iter()
                .filter(|(name, _)| name.starts_with(&buckets))
                .map(|(name, count)| {
                    let (_, bound) = name.split_once("le=\"").expect("a bound");
                    let (bound, _) = bound.split_once('"').expect("its end");
                    (bound.replace("+Inf", "inf").parse::<f64>(), *count)
                })
                .map(|(bound, count)| (bound.expect("a number"), count))
                .collect();
            if buckets.is_empty() {
                continue;
            }
            buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
            assert_eq!(buckets.len(), TimeBuckets::BOUNDS.len() + 1);
            for (_, count) in &buckets {
                assert!(*count >= below, "{buckets:?}");
                below = *count;
            }
            let count = value(&found, &format!("{metric}_seconds_count{{{of_all}}}"));
            assert!((below - count).abs() < 0.1 && count >= *before);
            *before = count;
        }
        if is_last {
            break;
        }
    }
    load.join().expect("it posts all");
    worker.stop();
}
