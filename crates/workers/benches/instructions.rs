//! Messages to count the instructions of, where a clock is too noisy:
//! `valgrind --tool=callgrind target/release/deps/instructions-* post 40000`, and the same with half as many; the difference
//! is that of the messages alone. `ask`: with replies; `batch`: posts, handled 64 at a time; `retry`: posts that would be
//! tried again; `urgent`: ten priorities in turn; `key`: 16 keys in turn; `keys`: each its own.
//!
//! All are sent by a handler of the same worker, so that no thread waits for another, and as to a worker that is busy: few
//! of them are timed. The clock stands still, for a program that is slowed down to be counted has slow handlers, of which
//! each is timed.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::hint::black_box;

use pytoweb_workers::{Batch, HandClock, Priority, Reply, Retry, Worker};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1).filter(|argument| argument != "--bench");
    let what = arguments.next().unwrap_or_else(|| "post".to_owned());
    let messages: usize = arguments
        .next()
        .map_or(Ok(1_000), |number| number.parse())?;
    let worker = Worker::builder("counted")
        .capacity(messages.max(1))
        .clock(&HandClock::new())
        .build();
    let inc = |number: u64| Ok::<_, Infallible>(black_box(number + 1));
    match &*what {
        "batch" => worker.on_batch("inc", Batch::new(64), move |numbers: Vec<u64>| {
            numbers.into_iter().map(inc)
        }),
        "retry" => worker.on_message_retry("inc", Retry::new(5), move |number| inc(*number)),
        _ => worker.on_message("inc", inc),
    };
    worker.on_message("send", {
        let worker = worker.downgrade();
        move |messages: usize| {
            let worker = worker.upgrade().expect("it runs");
            send(&worker, &what, messages).map_err(|error| error.to_string())
        }
    });
    worker.start()?;
    // It learns that its handler is quick.
    for number in 0..32_u64 {
        black_box(worker.ask::<_, u64>("inc", number)?.wait()?);
    }
    let sent: Reply<Vec<Reply<u64>>> = worker.ask("send", messages)?;
    for reply in sent.wait()? {
        black_box(reply.wait()?);
    }
    worker.stop();
    Ok(())
}

fn send(worker: &Worker, what: &str, messages: usize) -> Result<Vec<Reply<u64>>, Box<dyn Error>> {
    let levels: Vec<_> = (0..10).filter_map(Priority::new).collect();
    let few: Vec<_> = (0..16).map(|key| format!("customer-{key}")).collect();
    let mut replies = Vec::with_capacity(messages);
    for number in 0..messages as u64 {
        let message = || worker.message("inc", number);
        match what {
            "ask" => replies.push(worker.ask("inc", number)?),
            "urgent" => message().priority(levels[(number % 10) as usize]).post()?,
            "key" => message().key(&*few[(number % 16) as usize]).post()?,
            "keys" => message().key(number).post()?,
            _ => worker.post_message("inc", number)?,
        }
    }
    Ok(replies)
}
