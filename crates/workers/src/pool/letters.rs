//! The dead letters of a pool's own messages.

use super::WorkerPool;
use crate::dead_letter::DeadLetter;
use crate::error::SendError;
use crate::send;

impl WorkerPool {
    /// Registers who is told of messages that have failed for good although their kind is tried again: on the worker's
    /// thread, before the reply stands, and on the thread that stops the worker for those that waited for another attempt
    /// then. After [`on_error`](WorkerPool::on_error). One that panics is reported by the panic hook and changes nothing.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use pytoweb_workers::{Retry, WorkerPool};
    ///
    /// let (tell, told) = std::sync::mpsc::channel();
    /// let pool = WorkerPool::new(1);
    /// pool.on_message_retry("parse", Retry::new(2).backoff(Duration::ZERO), |text: &String| text.parse::<u64>());
    /// pool.on_error(|_| ());
    /// pool.on_dead_letter(move |letter| tell.send(letter.clone()).expect("the test listens"));
    /// pool.post_message("parse", "seven".to_owned())?;
    /// let letter = told.recv_timeout(Duration::from_secs(5))?;
    /// assert_eq!((letter.kind(), letter.errors().len()), ("parse", 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_dead_letter<F>(&self, handler: F) -> &Self
    where
        F: Fn(&DeadLetter) + Send + Sync + 'static,
    {
        self.table().dead.set_handler(handler);
        self
    }

    /// The last messages that have failed for good although their kind is tried again, the oldest first: up to
    /// [`DEAD_LETTERS`](crate::DEAD_LETTERS), in memory, also once the pool is stopped. Those that were cancelled or
    /// whose deadline has passed are none.
    #[must_use]
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.table().dead.all()
    }

    /// Posts the message of a dead letter once more, as a new one, to the handler that its kind has now; and takes it
    /// out of the dead letters. Says whether it did: not, where its payload was taken or posted already. A handler of
    /// another type fails it when its turn comes. It may block for room, as [`post_message`](WorkerPool::post_message)
    /// does.
    ///
    /// # Errors
    /// [`SendError`]: it was not accepted, and stays a dead letter.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use std::time::Duration;
    /// use pytoweb_workers::{Retry, WorkerPool};
    ///
    /// let pool = WorkerPool::new(1);
    /// pool.on_message_retry("parse", Retry::new(1), |text: &String| text.parse::<u64>());
    /// pool.on_error(|_| ());
    /// pool.post_message("parse", "seven".to_owned())?;
    /// pool.run_until_idle(Duration::from_secs(5))?;
    /// pool.on_message("parse", |text: String| Ok::<_, Infallible>(text.len() as u64));
    /// for letter in pool.dead_letters() {
    ///     assert!(pool.post_again(&letter)?);
    /// }
    /// pool.run_until_idle(Duration::from_secs(5))?;
    /// assert!(pool.dead_letters().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn post_again(&self, letter: &DeadLetter) -> Result<bool, SendError<()>> {
        let posted = send::post_again(self.own(), letter)?;
        if posted {
            self.table().dead.forget(letter);
        }
        Ok(posted)
    }
}
