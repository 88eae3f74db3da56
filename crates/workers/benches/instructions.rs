//! Messages to count the instructions of, where a clock is too noisy:
//! `valgrind --tool=callgrind target/release/deps/instructions-* post 100000`, and the same with half as many; the difference
//! is that of the messages alone. `ask`: with replies; `batch`: posts, handled 64 at a time; `retry`: posts that would be
//! tried again. All are sent before the worker starts, so that no thread waits for another.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::hint::black_box;

use pytoweb_workers::{Batch, Reply, Retry, Worker};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1).filter(|argument| argument != "--bench");
    let what = arguments.next().unwrap_or_else(|| "post".to_owned());
    let messages = arguments
        .next()
        .map_or(Ok(1_000), |number| number.parse())?;
    let worker = Worker::builder("counted").capacity(messages.max(1)).build();
    let inc = |number: u64| Ok::<_, Infallible>(black_box(number + 1));
    match &*what {
        "batch" => worker.on_batch("inc", Batch::new(64), move |numbers: Vec<u64>| {
            numbers.into_iter().map(inc)
        }),
        "retry" => worker.on_message_retry("inc", Retry::new(5), move |number| inc(*number)),
        _ => worker.on_message("inc", inc),
    };
    let mut replies: Vec<Reply<u64>> = Vec::with_capacity(messages);
    for number in 0..messages as u64 {
        if what == "ask" {
            replies.push(worker.ask("inc", number)?);
        } else {
            worker.post_message("inc", number)?;
        }
    }
    worker.start()?;
    worker.stop();
    for reply in replies {
        black_box(reply.wait()?);
    }
    Ok(())
}
