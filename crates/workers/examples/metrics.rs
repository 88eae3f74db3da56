//! The numbers of all workers as Prometheus scrapes them: the answer to `GET /metrics`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::convert::Infallible;
use std::error::Error;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use pytoweb_workers::Worker;
use pytoweb_workers::metrics::Collector;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Collector::new()));

    let worker = Worker::new("thumbnails");
    worker.on_message("resize", |size: u64| Ok::<_, Infallible>(2 * size));
    worker.start()?;
    for size in 0..100 {
        worker.ask::<u64, u64>("resize", size)?.wait()?;
    }

    let mut text = String::new();
    encode(&mut text, &registry)?;
    for line in text.lines().filter(|line| line.contains("processed")) {
        println!("{line}");
    }
    worker.stop();
    Ok(())
}
