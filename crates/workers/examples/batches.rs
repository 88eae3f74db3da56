//! Rows are written 64 at a time, and each caller learns of its own.

use std::error::Error;
use std::time::Duration;

use pytoweb_workers::{Batch, Worker};

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let worker = Worker::new("database");
    let mut table: Vec<String> = Vec::new();
    let batch = Batch::new(64).max_wait(Duration::from_millis(5));
    worker.on_batch("insert", batch, move |rows: Vec<String>| {
        // One transaction for all of them.
        let insert = |row: String| {
            if row.is_empty() {
                return Err("the row is empty");
            }
            table.push(row);
            Ok(table.len())
        };
        rows.into_iter().map(insert).collect::<Vec<_>>()
    });
    worker.start()?;
    let rows = ["one", "", "three"].map(str::to_owned);
    let replies = rows.map(|row| worker.ask::<String, usize>("insert", row));
    let [one, none, three] = replies.map(|reply| reply.expect("there is room").wait());
    assert_eq!((one?, three?), (1, 2));
    assert!(none.is_err());
    worker.stop();
    Ok(())
}
