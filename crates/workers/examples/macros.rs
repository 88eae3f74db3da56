//! Functions and methods as messages.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{error::Error, num::ParseIntError};

use pytoweb_workers::{Service, default_pool, run_in_worker, worker};

#[run_in_worker("background-tasks")]
fn heavy_computation(numbers: Vec<u64>) -> u64 {
    numbers.iter().map(|n| n * n).sum()
}

#[derive(Default)]
struct Ledger {
    total: i64,
}

#[worker]
impl Ledger {
    #[worker_method("book")]
    fn book(&mut self, amount: String) -> Result<i64, ParseIntError> {
        self.total += amount.parse::<i64>()?;
        Ok(self.total)
    }
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    println!("it waits: {}", heavy_computation(vec![1, 2, 3]));
    let reply = heavy_computation::submit(vec![4, 5, 6]);
    println!("it does not: {}", reply.wait()?);

    let ledger = Ledger::default().spawn("ledger")?;
    println!(
        "booked: {}",
        ledger.ask::<String, i64>("book", "42".to_owned())?.wait()?
    );
    default_pool().shutdown();
    Ok(())
}
