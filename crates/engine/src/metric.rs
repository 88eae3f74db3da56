//! The metrics of workers: one table of their names, for every language that exports them.
//!
//! Which of the numbers in [`Numbers`](crate::Numbers), [`TypeStats`](crate::TypeStats) and the like is the value of which
//! metric, those who export them know.

/// How the values of a metric behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricKind {
    /// It only grows, and its name ends in `_total`.
    Counter,
    /// It goes up and down.
    Gauge,
    /// [`TimeBuckets`](crate::TimeBuckets).
    Histogram,
}

impl MetricKind {
    /// What Prometheus calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric of workers, without its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// Its name, with its unit.
    pub name: &'static str,
    /// How its values behave.
    pub kind: MetricKind,
    /// What it tells, in a sentence.
    pub help: &'static str,
    /// The labels of each value. `worker`: the name of a worker, or of a pool for the pool's own mailbox; `pool`: the pool that
    /// it is of, or nothing.
    pub labels: &'static [&'static str],
}

const OWN: &[&str] = &["worker", "pool"];

const fn metric(
    name: &'static str,
    kind: MetricKind,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind,
        help,
        labels,
    }
}

/// Makes a constant of each metric, and the list of them.
macro_rules! metrics {
    ($($(#[$text:meta])* $constant:ident = $name:literal, $kind:ident, $labels:expr, $help:literal;)*) => {
        impl Metric {
            $($(#[$text])* pub const $constant: Self =
                metric(concat!("pytoweb_", $name), MetricKind::$kind, $labels, $help);)*

            /// All of them, in the order in which they are exported.
            pub const ALL: &'static [Self] = &[$(Self::$constant),*];
        }
    };
}

metrics! {
    /// Of workers, by backend and state.
    WORKERS = "workers", Gauge, &["backend", "state"],
        "Workers, pools' own mailboxes among them, by state.";
    /// How a worker fares: [`HealthState`](crate::HealthState) as a number.
    HEALTH = "worker_health", Gauge, OWN,
        "How it fares: 0 stopped, 1 ok, 2 busy, 3 restarting, 4 overloaded, 5 stuck, 6 failed.";
    /// Of child processes.
    RESTARTS = "worker_restarts_total", Counter, OWN,
        "Child processes started in the place of one that ended.";
    /// Divided by the concurrency it is the utilisation.
    BUSY = "worker_busy_seconds_total", Counter, OWN,
        "Time that threads or children spent on it.";
    /// Of one worker.
    CONCURRENCY = "worker_concurrency", Gauge, OWN,
        "Messages that are handled at the same time at most.";
    /// By `state`: `queued` or `running`.
    MESSAGES = "queue_messages", Gauge, &["worker", "pool", "state"],
        "Messages in the mailbox, queued or running.";
    /// Of one mailbox.
    CAPACITY = "queue_capacity_messages", Gauge, OWN,
        "Messages that the mailbox holds at most.";
    /// Zero where no limit counts them.
    BYTES = "queue_bytes", Gauge, OWN,
        "Bytes of the messages, where a limit bounds them.";
    /// Zero where none is queued.
    OLDEST = "queue_oldest_message_age_seconds", Gauge, OWN,
        "How long the oldest queued message has waited.";
    /// Refused posts are not among them.
    POSTED = "messages_posted_total", Counter, OWN,
        "Messages that were accepted.";
    /// By `outcome`: `ok`, `error`, `expired` or `cancelled`.
    PROCESSED = "messages_processed_total", Counter, &["worker", "pool", "type", "outcome"],
        "Messages that a handler began, by outcome.";
    /// Of kinds that are tried again.
    RETRIED = "messages_retried_total", Counter, OWN,
        "Attempts followed by another one.";
    /// They are among those with the outcome `error`.
    DEAD = "messages_dead_total", Counter, OWN,
        "Messages that became dead letters.";
    /// By `reason`: `oldest`, `newest`, `replaced`, `rejected`, `shed`, `expired` or `cancelled`.
    DROPPED = "messages_dropped_total", Counter, &["worker", "pool", "reason"],
        "Messages that no handler got, by reason.";
    /// Of those that were timed.
    WAIT = "message_wait_seconds", Histogram, &["worker", "pool", "type"],
        "Time from the post to the handler, of the messages that were timed.";
    /// Of those that were timed.
    PROCESS = "message_process_seconds", Histogram, &["worker", "pool", "type"],
        "Run time of the handler, of the messages that were timed.";
    /// Of a worker of its own, or of a pool.
    CHILD_MEMORY = "child_memory_bytes", Gauge, OWN,
        "Resident memory of the child processes.";
    /// Of those that are there now.
    CHILD_CPU = "child_cpu_seconds_total", Counter, OWN,
        "Processor time of the child processes.";
}

#[cfg(all(test, not(pytoweb_loom)))]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_a_metric_is() {
        for metric in Metric::ALL {
            let is_counter = metric.kind == MetricKind::Counter;
            assert_eq!(metric.name.ends_with("_total"), is_counter, "{metric:?}");
            assert!(metric.help.ends_with('.'), "{metric:?}");
            let others = Metric::ALL.iter().filter(|other| other.name == metric.name);
            assert_eq!(others.count(), 1, "{metric:?}");
        }
    }
}
