//! An order is delivered in the third attempt; one that never can be is a dead letter.

use std::error::Error;
use std::time::Duration;

use pytoweb_workers::{Retry, Worker, current_message};

struct Order {
    number: u64,
    address: Option<String>,
}

fn deliver(order: &Order) -> Result<String, String> {
    let address = order.address.as_ref().ok_or("there is no address")?;
    if current_message().is_some_and(|message| message.attempt() < 3) {
        return Err("the door is closed".to_owned());
    }
    Ok(format!("order {} is at {address}", order.number))
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let worker = Worker::new("shop");
    let retry = Retry::new(5)
        .backoff(Duration::from_millis(5))
        .on(|error: &String| error != "there is no address");
    worker.on_message_retry("deliver", retry, deliver);
    worker.on_error(|error| eprintln!("{error}"));
    worker.start()?;
    for (number, address) in [(1, Some("Elm Street".to_owned())), (2, None)] {
        worker.post_message("deliver", Order { number, address })?;
    }
    worker.run_until_idle(Duration::from_secs(10))?;
    for letter in worker.dead_letters() {
        let number = letter.inspect(|order: &Order| order.number);
        assert_eq!((number, letter.errors().len()), (Some(2), 1));
    }
    worker.stop();
    Ok(())
}
