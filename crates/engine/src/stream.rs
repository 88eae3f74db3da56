//! The channel of a stream: items on their way from a handler to the code that reads them, in order.
//!
//! A handler may be so many items ahead of its reader, the *window*; then it waits, and so a slow reader slows it down. A
//! window that [grows](StreamChannel::growing) doubles where the reader has emptied it before the handler, which was woken
//! half a window earlier, came back: as flow control by credit is to cover the time that a credit is on its way, so that the
//! ends do not wait in turns. A reader that is slower than that leaves the window as it is. The
//! reply of the message ends the stream: it is published after the last item was put, so a reader that finds the channel
//! empty and the reply standing has read all.
//!
//! An end that waits leaves its [`StreamWake`] and looks again when that is called. Nothing of the user's runs while the
//! lock is held: wakes and items are made, called and dropped outside, but for the making of a wake.

use std::collections::VecDeque;
use std::fmt;

use crate::sync::{Mutex, MutexGuard};

#[cfg(all(test, not(pytoweb_loom)))]
mod tests;

/// What one end of a channel leaves while it waits for the other.
pub trait StreamWake {
    /// Has the end look again. Called once, on the thread of the other end, under no lock.
    fn wake(self);
}

/// What the reader of a channel found.
#[derive(Debug, PartialEq, Eq)]
pub enum StreamFound<I> {
    /// The next item.
    Item(I),
    /// There is none at the moment.
    Nothing,
    /// There will be none any more.
    End,
}

/// What became of an item that a handler put.
#[derive(Debug, PartialEq, Eq)]
pub enum StreamPut<I> {
    /// It is in the channel.
    Done,
    /// There is no room at the moment: here it is again.
    Full(I),
    /// None is wanted any more.
    Unwanted,
}

/// How far the handler of a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamProgress {
    /// Items that it has put by now.
    pub put: u64,
    /// Its reader is a window behind: it waits, or will with its next item.
    pub waits: bool,
}

struct State<I, W> {
    items: VecDeque<I>,
    /// No more items are wanted: the reader has closed it, or the message was given up.
    closed: bool,
    /// The reply stands.
    ended: bool,
    reader: Option<W>,
    writer: Option<W>,
    /// Items that were read, of which the process that sends them has not been told.
    read: u32,
    /// How many items the handler may be ahead.
    window: u32,
    /// Items that were put by now.
    put: u64,
    /// They come from another process, which has the rest of the window as its credit.
    is_remote: bool,
    /// The handler was woken because there is room, and has not put an item since.
    roused: bool,
}

impl<I, W> State<I, W> {
    /// No more items are wanted; both ends are to be told.
    fn shut(&mut self) -> [Option<W>; 2] {
        self.closed = true;
        [self.reader.take(), self.writer.take()]
    }
}

/// The items between one handler and one reader.
pub struct StreamChannel<I, W> {
    state: Mutex<State<I, W>>,
    /// As far as the window grows.
    most: u32,
}

impl<I, W> fmt::Debug for StreamChannel<I, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamChannel")
            .field("most", &self.most)
            .finish_non_exhaustive()
    }
}

impl<I, W: StreamWake> StreamChannel<I, W> {
    /// An empty one, with room for `window` items.
    #[must_use]
    pub fn new(window: u32) -> Self {
        Self::growing(window, window)
    }

    /// An empty one, with room for `window` items at first, and for up to `most` while its reader is quicker than the handler
    /// can be woken.
    #[must_use]
    pub fn growing(window: u32, most: u32) -> Self {
        Self {
            state: Mutex::new(State {
                items: VecDeque::new(),
                closed: false,
                ended: false,
                reader: None,
                writer: None,
                read: 0,
                window,
                put: 0,
                is_remote: false,
                roused: false,
            }),
            most,
        }
    }

    /// How many items the handler may be ahead at the moment.
    #[must_use]
    pub fn window(&self) -> u32 {
        self.lock().window
    }

    fn lock(&self) -> MutexGuard<'_, State<I, W>> {
        self.state.lock()
    }

    /// Puts an item for which the credit of another process said that there is room. It is dropped where none is wanted any
    /// more.
    pub fn push(&self, item: I) {
        let (wake, unwanted) = {
            let mut state = self.lock();
            if state.closed {
                (None, Some(item))
            } else {
                state.items.push_back(item);
                state.put += 1;
                state.is_remote = true;
                (state.reader.take(), None)
            }
        };
        drop(unwanted);
        if let Some(wake) = wake {
            wake.wake();
        }
    }

    /// Puts an item, if there is room. `wake` makes what is woken when it is time to try again, where there is none.
    #[inline]
    pub fn put(&self, item: I, wake: impl FnOnce() -> Option<W>) -> StreamPut<I> {
        let (reader, _before) = {
            let mut state = self.lock();
            if state.closed {
                drop(state);
                return StreamPut::Unwanted;
            }
            if state.items.len() >= state.window as usize {
                let before = std::mem::replace(&mut state.writer, wake());
                drop(state);
                drop(before);
                return StreamPut::Full(item);
            }
            state.items.push_back(item);
            state.put += 1;
            state.roused = false;
            (state.reader.take(), state.writer.take())
        };
        if let Some(reader) = reader {
            reader.wake();
        }
        StreamPut::Done
    }

    /// The next item. `wake` makes what is woken when there is more to say, where there is nothing now.
    pub fn take(&self, wake: impl FnOnce() -> Option<W>) -> StreamFound<I> {
        let (found, writer, _before) = {
            let mut state = self.lock();
            match state.items.pop_front() {
                Some(item) => {
                    state.read += 1;
                    // Not for each: the writer would wake for one item and sleep again.
                    let roomy = state.items.len() <= state.window as usize / 2;
                    let writer = if roomy { state.writer.take() } else { None };
                    state.roused |= writer.is_some();
                    (StreamFound::Item(item), writer, state.reader.take())
                }
                None if state.ended || state.closed => (StreamFound::End, None, None),
                None => {
                    if std::mem::take(&mut state.roused) {
                        state.window = state.window.saturating_mul(2).min(self.most);
                    }
                    let before = std::mem::replace(&mut state.reader, wake());
                    (StreamFound::Nothing, None, before)
                }
            }
        };
        if let Some(writer) = writer {
            writer.wake();
        }
        found
    }

    /// How many items the process that sends them is to be told of as read: half a window at a time.
    pub fn to_grant(&self) -> Option<u32> {
        let mut state = self.lock();
        if state.read < state.window.div_ceil(2) || state.ended {
            return None;
        }
        Some(std::mem::take(&mut state.read))
    }

    /// The reply stands.
    pub fn end(&self) {
        let wake = {
            let mut state = self.lock();
            state.ended = true;
            state.reader.take()
        };
        if let Some(wake) = wake {
            wake.wake();
        }
    }

    /// The reader reads no more: items that wait are dropped, and none is wanted.
    pub fn close(&self) {
        let (items, wakes) = {
            let mut state = self.lock();
            (std::mem::take(&mut state.items), state.shut())
        };
        drop(items);
        wakes.into_iter().flatten().for_each(StreamWake::wake);
    }

    /// The message was given up, by a deadline or a stop: its handler puts nothing more, and its reader has what came.
    pub fn give_up(&self) {
        let wakes = self.lock().shut();
        wakes.into_iter().flatten().for_each(StreamWake::wake);
    }

    /// How many items the handler has put by now, and whether its reader is a window behind.
    #[must_use]
    pub fn progress(&self) -> StreamProgress {
        let state = self.lock();
        // Its process has what was read as its credit once it is told of that.
        let not_told = if state.is_remote { state.read } else { 0 };
        let is_full = state.items.len() + not_told as usize >= state.window as usize;
        // It is woken when half of the window is free.
        let waits = is_full || state.writer.is_some();
        StreamProgress {
            put: state.put,
            waits,
        }
    }

    /// Whether no more items are wanted.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }
}
