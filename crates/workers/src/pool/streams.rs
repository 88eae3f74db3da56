//! Streams of a pool's own mailbox.

use crate::concurrent::ConcurrentHandlers;
use crate::error::{BoxError, SendError};
use crate::send::{self, Patience};
use crate::stream::{StreamReply, StreamSender, WINDOW};

use super::WorkerPool;

impl WorkerPool {
    /// Registers the handler of a kind of message to the pool itself that answers with a stream; see
    /// [`Worker::on_stream`](crate::Worker::on_stream). It runs on several threads at the same time.
    ///
    /// ```
    /// use pytoweb_workers::{StreamSender, WorkerPool};
    ///
    /// let pool = WorkerPool::new(2);
    /// pool.on_stream("up-to", |last: u32, items: &StreamSender<u32>| {
    ///     (0..last).try_for_each(|number| items.send(number))
    /// });
    /// let both = [pool.stream::<u32, u32>("up-to", 2)?, pool.stream("up-to", 3_u32)?];
    /// assert_eq!(both.map(|stream| stream.count()), [2, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_stream<T, I, E, F>(&self, kind: &str, handler: F) -> &Self
    where
        T: Send + 'static,
        I: Send + 'static,
        E: Into<BoxError>,
        F: Fn(T, &StreamSender<I>) -> Result<(), E> + Send + Sync + 'static,
    {
        ConcurrentHandlers::new(self.own()).on_stream(kind, handler);
        self
    }

    /// Sends a message to the pool itself whose handler answers with a stream; see
    /// [`Worker::stream`](crate::Worker::stream).
    ///
    /// # Errors
    /// As [`WorkerPool::ask`](crate::WorkerPool::ask).
    ///
    /// ```
    /// # use pytoweb_workers::{StreamSender, WorkerPool};
    /// let pool = WorkerPool::new(2);
    /// pool.on_stream("one", |_: (), items: &StreamSender<u32>| items.send(1));
    /// assert_eq!(pool.stream::<(), u32>("one", ())?.count(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stream<T, I>(&self, kind: &str, data: T) -> Result<StreamReply<I>, SendError<T>>
    where
        T: Send + 'static,
        I: Send + 'static,
    {
        let (request, read) = StreamReply::channel(data, WINDOW);
        send::ask(self.own(), kind, request, None, Patience::Wait)
            .map(read)
            .map_err(|error| error.map(|request| request.data))
    }
}
