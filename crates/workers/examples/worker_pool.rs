//! Many named workers on a few threads, and closures on whichever thread is free.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::convert::Infallible;
use std::error::Error;

use pytoweb_workers::WorkerPool;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let pool = WorkerPool::new(2);
    for room in ["lobby", "garden", "library"] {
        let worker = pool.create_worker(room)?;
        let mut said = Vec::new();
        worker.on_message("say", move |text: &'static str| {
            said.push(text);
            Ok::<_, Infallible>(said.len())
        });
        worker.start()?;
    }

    let garden = pool.get_worker("garden").ok_or("no garden")?;
    garden.post_message("say", "what a tree")?;
    println!(
        "said in the garden: {}",
        garden.ask::<&str, usize>("say", "indeed")?.wait()?
    );

    let sum = pool
        .submit(|| (1..=10).sum::<u32>())
        .map_err(|_| "the pool is shut down")?;
    println!("sum: {}", sum.wait()?);

    pool.shutdown();
    println!("messages handled: {}", pool.stats().counters.completed);
    Ok(())
}
