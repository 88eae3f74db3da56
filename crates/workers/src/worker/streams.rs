//! Streams of a worker: handlers that answer with many items, and their readers.

use crate::error::{BoxError, SendError};
use crate::send::{self, Patience};
use crate::stream::{StreamReply, StreamRequest, StreamSender, WINDOW};

use super::Worker;

impl Worker {
    /// Registers the handler of a kind of message that answers with a stream of items; see
    /// [`Worker::on_message`](crate::Worker::on_message) for the rest.
    ///
    /// The handler puts items into the [`StreamSender`], which blocks while the reader is a window behind: a slow reader
    /// slows the handler, and the worker handles no other message meanwhile. Its error comes after the items before it.
    ///
    /// # Panics
    /// When the worker handles several messages at the same time: see [`Worker::concurrent`].
    ///
    /// ```
    /// use pytoweb_workers::{StreamSender, Unread, Worker};
    ///
    /// let worker = Worker::new("texts");
    /// worker.on_stream("words", |text: String, items: &StreamSender<String>| {
    ///     text.split(' ').try_for_each(|word| items.send(word.to_uppercase()))
    /// });
    /// worker.start()?;
    /// let words = worker.stream::<_, String>("words", "never odd".to_owned())?;
    /// assert_eq!(words.collect::<Result<Vec<_>, _>>()?, ["NEVER", "ODD"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn on_stream<T, I, E, F>(&self, kind: &str, mut handler: F) -> &Self
    where
        T: Send + 'static,
        I: Send + 'static,
        E: Into<BoxError>,
        F: FnMut(T, &StreamSender<I>) -> Result<(), E> + Send + 'static,
    {
        self.on_message(kind, move |request: StreamRequest<T, I>| {
            handler(request.data, &request.sender)
        })
    }

    /// Sends a message whose handler answers with a stream, and returns its items. The handler may be 32 items ahead;
    /// [`MessageBuilder::stream`](crate::MessageBuilder::stream) takes another number, a priority, a key and a deadline.
    ///
    /// Blocks for as long as there is no room, like [`Worker::ask`](crate::Worker::ask).
    ///
    /// # Errors
    /// As [`Worker::ask`](crate::Worker::ask).
    ///
    /// ```
    /// use pytoweb_workers::{StreamSender, Worker};
    ///
    /// let worker = Worker::new("numbers");
    /// worker.on_stream("up-to", |last: u32, items: &StreamSender<u32>| {
    ///     (0..last).try_for_each(|number| items.send(number))
    /// });
    /// worker.start()?;
    /// for number in worker.stream::<u32, u32>("up-to", 3)? {
    ///     println!("{}", number?);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stream<T, I>(&self, kind: &str, data: T) -> Result<StreamReply<I>, SendError<T>>
    where
        T: Send + 'static,
        I: Send + 'static,
    {
        let (request, read) = StreamReply::channel(data, WINDOW);
        send::ask(self.engine(), kind, request, None, Patience::Wait)
            .map(read)
            .map_err(|error| error.map(|request| request.data))
    }
}
