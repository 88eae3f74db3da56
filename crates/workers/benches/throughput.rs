//! Asks and replies per second, and the time of a round trip: `cargo bench -p pytoweb-workers`. The comparison with
//! peers is in the folder `benches` of the repository.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::convert::Infallible;
use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use pytoweb_workers::{DEFAULT_CAPACITY, Worker, WorkerOptions, WorkerPool};

const MESSAGES: usize = 500_000;
const TRIPS: usize = 100_000;

fn per_second(worker: &Worker) -> Result<f64, Box<dyn Error>> {
    let begin = Instant::now();
    let mut replies = Vec::with_capacity(MESSAGES);
    for number in 0..MESSAGES as u64 {
        replies.push(worker.ask::<u64, u64>("inc", number)?);
    }
    for reply in replies {
        black_box(reply.wait()?);
    }
    Ok(MESSAGES as f64 / begin.elapsed().as_secs_f64())
}

fn main() -> Result<(), Box<dyn Error>> {
    let pool = WorkerPool::new(1);
    for capacity in [MESSAGES, DEFAULT_CAPACITY] {
        let options = WorkerOptions {
            capacity,
            ..WorkerOptions::default()
        };
        let worker = pool.create_worker_with(&format!("bench {capacity}"), options)?;
        worker
            .on_message("inc", |number: u64| Ok::<_, Infallible>(number + 1))
            .start()?;
        let mut rates = Vec::new();
        for _ in 0..9 {
            rates.push(per_second(&worker)?);
        }
        rates.sort_by(f64::total_cmp);
        println!(
            "capacity {capacity}: median {:.2} M/s, best {:.2} M/s",
            rates[4] / 1e6,
            rates[8] / 1e6
        );

        let mut trips = Vec::with_capacity(TRIPS);
        for number in 0..TRIPS as u64 {
            let begin = Instant::now();
            black_box(worker.ask::<u64, u64>("inc", number)?.wait()?);
            trips.push(begin.elapsed().as_nanos());
        }
        trips.sort_unstable();
        println!(
            "round trip: p50 {} ns, p99 {} ns",
            trips[TRIPS / 2],
            trips[TRIPS / 100 * 99]
        );
    }
    Ok(())
}
