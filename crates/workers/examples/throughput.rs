//! Asks and replies per second, and the time of a round trip. `cargo run --release --example throughput`.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use pytoweb_workers::{ Worker, WorkerPool};

const MESSAGES: u64 = 500_000;

fn ask_all(worker: &Worker) -> Duration {
    let begin = Instant::now();
    let replies: Vec<_> = (0..MESSAGES)
        .map(|n| worker.ask::<u64, u64>("inc", n).expect("open"))
        .collect();
    for reply in replies {
        reply.wait().expect("handled");
    }
    begin.elapsed()
}

fn main() {
    let pool = WorkerPool::new(1);
    let worker = pool.create_worker("bench").unwrap();
    worker.on_message("inc", |n: u64| -> Result<u64, Infallible> { Ok(n + 1) });
    worker.start().unwrap();
    for _ in 0..8 {
        let t = ask_all(&worker);
        println!("{:.2} M/s", MESSAGES as f64 / t.as_secs_f64() / 1e6);
    }
    let mut ts: Vec<f64> = (0..100_000u64).map(|n| {
        let b = Instant::now();
        worker.ask::<u64, u64>("inc", n).unwrap().wait().unwrap();
        b.elapsed().as_secs_f64() * 1e6
    }).collect();
    ts.sort_by(f64::total_cmp);
    println!("p50 {:.2} us p99 {:.2}", ts[50_000], ts[99_000]);
}
