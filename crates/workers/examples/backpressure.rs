//! A mailbox that is full: four policies, and nothing lost without a trace.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use pytoweb_workers::{Overflow, SendError, Worker};

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    for overflow in Overflow::ALL {
        // Not started, so that nothing makes room.
        let worker = Worker::builder("small")
            .capacity(10)
            .overflow(overflow)
            .build();
        let mut refused = 0;
        for number in 0..25 {
            match worker.try_post_message("job", number) {
                Ok(()) => {}
                Err(SendError::Full(_)) => refused += 1, // it came back, and could be sent elsewhere
                Err(error) => return Err(error.into()),
            }
        }
        let counters = worker.stats().counters;
        assert_eq!(counters.queued + counters.dropped() + refused, 25);
        println!(
            "{overflow}: queued {}, dropped {}, refused {refused}",
            counters.queued,
            counters.dropped()
        );
    }
    Ok(())
}
