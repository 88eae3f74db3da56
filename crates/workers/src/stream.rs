//! Streams: a handler that answers with many items, one after the other, through a bounded window.
//!
//! A stream is an ask whose payload has one end of a channel with it, and whose reply ends it. The reply stands after the
//! handler has returned, so a reader that finds the channel empty and the reply standing has read all.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_core::Stream;
use pytoweb_engine::{self as engine, Ticket};

use crate::ask::TypedTicket;
use crate::error::AskError;
use crate::registry::WorkerId;
use crate::reply::Reply;

/// Items that a handler may be ahead of its reader, where the caller does not say.
pub(crate) const WINDOW: usize = 32;
/// A wait for room that is over within this time has no other thread take the place of this one.
const BRIEFLY: Duration = Duration::from_micros(200);

struct State<I> {
    items: VecDeque<I>,
    /// The reader is gone.
    unread: bool,
    /// The reply stands.
    ended: bool,
    reader: Option<Waker>,
}

struct Channel<I> {
    state: Mutex<State<I>>,
    /// There is an item, or the end.
    came: Condvar,
    /// There is room, or no reader.
    room: Condvar,
    window: usize,
}

impl<I> Channel<I> {
    fn lock(&self) -> MutexGuard<'_, State<I>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of the state, in which something came, and wakes the reader.
    fn tell_reader(&self, mut state: MutexGuard<'_, State<I>>) {
        let waker = state.reader.take();
        drop(state);
        self.came.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn pop(&self, state: &mut State<I>) -> Option<I> {
        let item = state.items.pop_front()?;
        // Not for each: the handler would wake for one item and sleep again.
        if state.items.len() <= self.window / 2 {
            self.room.notify_all();
        }
        Some(item)
    }
}

/// The item of a stream that is not read any more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Unread<I>(pub I);

impl<I> fmt::Debug for Unread<I> {
    /// Without the item, so that it need not implement `Debug`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unread(..)")
    }
}

impl<I> fmt::Display for Unread<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the stream is not read any more")
    }
}

impl<I> Error for Unread<I> {}

/// Where a handler puts the items of its stream: see [`Worker::on_stream`](crate::Worker::on_stream).
pub struct StreamSender<I>(Arc<Channel<I>>);

impl<I> fmt::Debug for StreamSender<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamSender").finish_non_exhaustive()
    }
}

impl<I> StreamSender<I> {
    /// Sends an item. Blocks while the reader is a window behind; another thread of the pool may run meanwhile, up to
    /// [`max_spare_threads`](crate::PoolBuilder::max_spare_threads).
    ///
    /// # Errors
    /// The item, when no item is read any more: the reader is gone, or the message was given up by its deadline or by the
    /// end of its worker. A handler had better return then.
    ///
    /// ```
    /// use pytoweb_workers::{StreamSender, Unread, Worker};
    ///
    /// let worker = Worker::new("numbers");
    /// worker.on_stream("from", |first: u64, items: &StreamSender<u64>| -> Result<(), Unread<u64>> {
    ///     for number in first.. {
    ///         items.send(number)?;
    ///     }
    ///     Ok(())
    /// });
    /// worker.start()?;
    /// let three: Result<Vec<u64>, _> = worker.stream("from", 7_u64)?.take(3).collect();
    /// assert_eq!(three?, [7, 8, 9]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send(&self, item: I) -> Result<(), Unread<I>> {
        let channel = &*self.0;
        let mut state = self.wait(channel.lock(), Some(BRIEFLY));
        if self.is_full(&state) {
            drop(state);
            // Without a spare thread it waits in the place that it has.
            let spare = engine::Blocking::enter().ok();
            state = self.wait(channel.lock(), None);
            drop(spare);
        }
        if state.unread || state.ended {
            return Err(Unread(item));
        }
        // Under the lock that has seen the room: several threads of a handler may send.
        state.items.push_back(item);
        channel.tell_reader(state);
        Ok(())
    }

    fn is_full(&self, state: &State<I>) -> bool {
        state.items.len() >= self.0.window && !state.unread && !state.ended
    }

    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State<I>>,
        limit: Option<Duration>,
    ) -> MutexGuard<'a, State<I>> {
        let full = |state: &mut State<I>| self.is_full(state);
        match limit {
            None => self
                .0
                .room
                .wait_while(state, full)
                .unwrap_or_else(PoisonError::into_inner),
            Some(limit) => {
                self.0
                    .room
                    .wait_timeout_while(state, limit, full)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
        }
    }

    /// Whether no item is read any more: the next [`StreamSender::send`] fails.
    #[must_use]
    pub fn is_unread(&self) -> bool {
        let state = self.0.lock();
        state.unread || state.ended
    }
}

/// The payload of a message that is answered with a stream.
pub(crate) struct StreamRequest<T, I> {
    pub(crate) data: T,
    pub(crate) sender: StreamSender<I>,
}

/// The items that a handler answers with, as they come: an [`Iterator`] that blocks, and a
/// [`Stream`](futures_core::Stream) that does not.
///
/// Items come in order. An error is the last thing that comes, after the items before it. Dropping it ends the stream: a
/// message that has not begun is cancelled, and the next item of a handler that runs comes back to it.
///
/// A program that ends does not wait for handlers, so it need not read its streams to the end.
pub struct StreamReply<I> {
    channel: Arc<Channel<I>>,
    ticket: Arc<dyn TypedTicket<()>>,
    worker: WorkerId,
    /// It has come to its end.
    over: bool,
}

impl<I> fmt::Debug for StreamReply<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamReply")
            .field("worker", &self.worker)
            .finish_non_exhaustive()
    }
}

impl<I: Send + 'static> StreamReply<I> {
    /// Two ends of a channel: the payload of the message, and what to do with its reply.
    pub(crate) fn channel<T>(
        data: T,
        window: usize,
    ) -> (StreamRequest<T, I>, impl FnOnce(Reply<()>) -> Self) {
        let channel = Arc::new(Channel {
            state: Mutex::new(State {
                items: VecDeque::new(),
                unread: false,
                ended: false,
                reader: None,
            }),
            came: Condvar::new(),
            room: Condvar::new(),
            window: window.max(1),
        });
        let sender = StreamSender(channel.clone());
        let read = move |reply: Reply<()>| {
            let (ticket, worker) = reply.into_parts();
            let ends = channel.clone();
            ticket.state().on_done(move || {
                let mut state = ends.lock();
                state.ended = true;
                ends.tell_reader(state);
                ends.room.notify_all();
            });
            Self {
                channel,
                ticket,
                worker,
                over: false,
            }
        };
        (StreamRequest { data, sender }, read)
    }

    /// Blocks until the next item comes, at most for `limit`. [`Poll::Pending`]: none has come in that time, and the stream
    /// goes on.
    ///
    /// Inside a handler another thread of the pool runs meanwhile, as for [`Reply::wait`](crate::Reply::wait).
    ///
    /// ```
    /// use std::task::Poll;
    /// use std::time::Duration;
    /// use pytoweb_workers::{StreamSender, Unread, Worker};
    ///
    /// let worker = Worker::new("not started yet");
    /// worker.on_stream("one", |_: (), items: &StreamSender<u64>| items.send(1));
    /// let mut stream = worker.stream::<(), u64>("one", ())?;
    /// assert!(stream.next_timeout(Duration::from_millis(1)).is_pending());
    /// worker.start()?;
    /// assert!(matches!(stream.next_timeout(Duration::from_secs(9)), Poll::Ready(Some(Ok(1)))));
    /// assert!(matches!(stream.next_timeout(Duration::from_secs(9)), Poll::Ready(None)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn next_timeout(&mut self, limit: Duration) -> Poll<Option<Result<I, AskError>>> {
        self.next_until(Instant::now().checked_add(limit))
    }

    fn next_until(&mut self, until: Option<Instant>) -> Poll<Option<Result<I, AskError>>> {
        if let Poll::Ready(next) = self.next_now(None) {
            return Poll::Ready(next);
        }
        let ticket: Arc<dyn Ticket> = self.ticket.clone();
        let edge = match self.worker.address() {
            Some(address) => engine::edge_of_current(&address, &ticket),
            // Its message was settled before, or is so now.
            None => Ok(None),
        };
        let waited = edge.and_then(|_edge| {
            let _blocking = engine::Blocking::enter()?;
            let empty = |state: &mut State<I>| state.items.is_empty() && !state.ended;
            let state = self.channel.lock();
            match until {
                None => drop(self.channel.came.wait_while(state, empty)),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    drop(self.channel.came.wait_timeout_while(state, left, empty));
                }
            }
            Ok(())
        });
        match waited {
            Ok(()) => self.next_now(None),
            Err(error) => {
                self.over = true;
                Poll::Ready(Some(Err(error.into())))
            }
        }
    }

    /// What has come. `waker` is woken when there is more, where nothing has.
    fn next_now(&mut self, waker: Option<&Waker>) -> Poll<Option<Result<I, AskError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        {
            let mut state = self.channel.lock();
            if let Some(item) = self.channel.pop(&mut state) {
                return Poll::Ready(Some(Ok(item)));
            }
            if !state.ended {
                state.reader = waker.cloned();
                return Poll::Pending;
            }
        }
        self.over = true;
        let ended = self.ticket.take();
        Poll::Ready(ended.and_then(Result::err).map(Err))
    }
}

impl<I: Send + 'static> Iterator for StreamReply<I> {
    type Item = Result<I, AskError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Poll::Ready(next) = self.next_until(None) {
                return next;
            }
        }
    }
}

impl<I: Send + 'static> Stream for StreamReply<I> {
    type Item = Result<I, AskError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.next_now(Some(context.waker()))
    }
}

impl<I> Drop for StreamReply<I> {
    fn drop(&mut self) {
        let items = {
            let mut state = self.channel.lock();
            state.unread = true;
            std::mem::take(&mut state.items)
        };
        self.channel.room.notify_all();
        drop(items);
        if self.ticket.state().is_done() {
            return;
        }
        if let Some(address) = self.worker.address() {
            let ticket: Arc<dyn Ticket> = self.ticket.clone();
            if address.cancel(&ticket) {
                self.ticket.discard();
            }
        }
    }
}
