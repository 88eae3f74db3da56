//! The examples run to their end.

#[path = "../examples/background_tasks.rs"]
mod background_tasks;
#[path = "../examples/backpressure.rs"]
mod backpressure;
#[path = "../examples/batches.rs"]
mod batches;
#[path = "../examples/deadlines.rs"]
mod deadlines;
#[path = "../examples/macros.rs"]
mod macros;
#[cfg(feature = "metrics")]
#[path = "../examples/metrics.rs"]
mod metrics;
#[path = "../examples/retries.rs"]
mod retries;
#[path = "../examples/worker_pool.rs"]
mod worker_pool;

#[test]
fn each_example_runs() {
    for (name, main) in [
        ("background_tasks", background_tasks::main as fn() -> _),
        ("backpressure", backpressure::main),
        ("batches", batches::main),
        ("deadlines", deadlines::main),
        ("macros", macros::main),
        #[cfg(feature = "metrics")]
        ("metrics", metrics::main),
        ("retries", retries::main),
        ("worker_pool", worker_pool::main),
    ] {
        if let Err(error) = main() {
            panic!("{name}: {error}");
        }
    }
}
