//! Messages to count the instructions of, where a clock is too noisy:
//! `valgrind --tool=callgrind target/release/deps/instructions-* post 100000`, or `ask`, and the same with half as many;
//! the difference is that of the messages alone. All are sent before the worker starts, so that no thread waits for another.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::hint::black_box;

use pytoweb_workers::{Reply, Worker};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1).filter(|argument| argument != "--bench");
    let asks = arguments.next().is_some_and(|what| what == "ask");
    let messages = arguments
        .next()
        .map_or(Ok(1_000), |number| number.parse())?;
    let worker = Worker::builder("counted").capacity(messages.max(1)).build();
    worker.on_message("inc", |number: u64| {
        Ok::<_, Infallible>(black_box(number + 1))
    });
    let mut replies: Vec<Reply<u64>> = Vec::with_capacity(messages);
    for number in 0..messages as u64 {
        if asks {
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
