//! Questions with a deadline, and a handler that gives up when its caller does not wait any more.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use pytoweb_workers::{AskError, Worker, current_message};

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let worker = Worker::new("patient");
    worker.on_message("count", |limit: u64| {
        let message = current_message().ok_or("no message")?;
        for step in 0..limit {
            if message.is_cancelled() {
                return Err(format!("gave up at step {step}"));
            }
            std::thread::sleep(Duration::from_millis(1)); // some work
        }
        Ok(limit)
    });
    worker.on_error(|error| println!("on_error: {error}"));
    worker.start()?;

    let limit = Duration::from_millis(20);
    let late = worker
        .ask_timeout::<u64, u64>("count", 1_000_000, limit)?
        .wait();
    assert!(matches!(late, Err(AskError::Expired)));
    println!(
        "in time: {}",
        worker
            .ask_timeout::<u64, u64>("count", 2, Duration::from_secs(30))?
            .wait()?
    );
    worker.stop();
    Ok(())
}
