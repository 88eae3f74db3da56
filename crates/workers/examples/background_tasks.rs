//! A worker of one's own: a handler, messages without a reply, a question and its reply.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use pytoweb_workers::Worker;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let worker = Worker::new("background-tasks");
    let mut processed = 0_u32;
    worker.on_message("process", move |text: String| {
        if text.is_empty() {
            return Err("there is nothing to process");
        }
        processed += 1; // messages come one at a time, so a handler owns its state
        Ok(processed)
    });
    worker.on_error(|error| println!("on_error: {error}"));
    worker.start()?;

    worker.post_message("process", "fire and forget".to_owned())?;
    let reply = worker.ask::<String, u32>("process", "and tell me how many it were".to_owned())?;
    println!("processed: {}", reply.wait()?);

    let failed = worker.ask::<String, u32>("process", String::new())?.wait();
    println!("the reply: {}", failed.expect_err("it was empty"));

    worker.stop(); // finishes what is queued
    Ok(())
}
