//! The channel of a stream: items on their way from a handler to the code that reads them, in order.
//!
//! A handler may be so many items ahead of its reader, the *window*; then it waits, and so a slow reader slows it down. The
//! reply of the message ends the stream: it is published after the last item was put, so a reader that finds the channel
//! empty and the reply standing has read all.
//!
//! An end that waits leaves its *wake*, a thread's or a function to call, and looks again when it is called. Nothing of
//! Python runs while the lock is held.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pytoweb_engine::Unpark;
use pytoweb_process::{Feed, Parcel};

use crate::interpreter::parker::Parker;

/// One item, as its reader unpacks it.
#[derive(Debug)]
pub(crate) enum Item {
    Here(Py<PyAny>),
    /// As another process sent it.
    Remote(Parcel),
}

/// What is to be woken.
#[derive(Debug)]
pub(crate) enum Wake {
    Thread(Arc<Parker>),
    /// Called without arguments.
    Call(Py<PyAny>),
}

impl Wake {
    fn wake(self) {
        match self {
            Self::Thread(parker) => parker.unpark(),
            Self::Call(function) => Python::attach(|py| {
                if let Err(error) = function.call0(py) {
                    error.write_unraisable(py, None);
                }
            }),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Item>,
    /// No more items are wanted: the reader has closed it, or the message was given up.
    closed: bool,
    /// The reply stands.
    ended: bool,
    reader: Option<Wake>,
    writer: Option<Wake>,
    /// Items that were read, of which the child that sends them has not been told.
    read: u32,
}

/// The items between one handler and one reader.
#[derive(Debug)]
pub(crate) struct Channel {
    state: Mutex<State>,
    window: u32,
}

/// What an end of a channel found.
#[derive(Debug)]
pub(crate) enum Found {
    Item(Item),
    /// There is none at the moment.
    Nothing,
    /// There will be none any more.
    End,
}

impl Channel {
    pub(crate) fn new(window: u32) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            window,
        })
    }

    pub(crate) const fn window(&self) -> u32 {
        self.window
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, item: Item) {
        let (wake, unwanted) = {
            let mut state = self.lock();
            if state.closed {
                (None, Some(item))
            } else {
                state.items.push_back(item);
                (state.reader.take(), None)
            }
        };
        drop(unwanted);
        if let Some(wake) = wake {
            wake.wake();
        }
    }

    /// Whether the writer may put one more item; `Err`: none is wanted any more. `wake` is called where it may not.
    pub(crate) fn room(&self, wake: impl FnOnce() -> Option<Wake>) -> Result<bool, ()> {
        let mut state = self.lock();
        if state.closed {
            return Err(());
        }
        let room = state.items.len() < self.window as usize;
        state.writer = if room { None } else { wake() };
        Ok(room)
    }

    /// The next item. `wake` is called when there is more to say, where there is nothing now.
    pub(crate) fn take(&self, wake: impl FnOnce() -> Option<Wake>) -> Found {
        let (found, writer) = {
            let mut state = self.lock();
            match state.items.pop_front() {
                Some(item) => {
                    state.read += 1;
                    state.reader = None;
                    // Not for each: the writer would wake for one item and sleep again.
                    let roomy = state.items.len() <= self.window as usize / 2;
                    let writer = if roomy { state.writer.take() } else { None };
                    (Found::Item(item), writer)
                }
                None if state.ended || state.closed => (Found::End, None),
                None => {
                    state.reader = wake();
                    (Found::Nothing, None)
                }
            }
        };
        if let Some(writer) = writer {
            writer.wake();
        }
        found
    }

    /// How many items the child is to be told of as read: half a window at a time.
    pub(crate) fn to_grant(&self) -> Option<u32> {
        let mut state = self.lock();
        if state.read < self.window.div_ceil(2) || state.ended {
            return None;
        }
        Some(std::mem::take(&mut state.read))
    }

    /// The reply stands.
    pub(crate) fn end(&self) {
        let wake = {
            let mut state = self.lock();
            state.ended = true;
            state.reader.take()
        };
        if let Some(wake) = wake {
            wake.wake();
        }
    }

    /// No more items are wanted; those that wait are dropped, unless the reader is still to have them.
    pub(crate) fn close(&self, keep: bool) {
        let (items, wakes) = {
            let mut state = self.lock();
            state.closed = true;
            let items = if keep {
                VecDeque::new()
            } else {
                std::mem::take(&mut state.items)
            };
            (items, [state.reader.take(), state.writer.take()])
        };
        drop(items);
        wakes.into_iter().flatten().for_each(Wake::wake);
    }

    /// Whether no more items are wanted.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// The message was given up, by a deadline or a stop: its handler puts nothing more.
    pub(crate) fn give_up(&self) {
        self.close(true);
    }
}

impl Feed for Channel {
    fn item(&self, parcel: Parcel) {
        self.push(Item::Remote(parcel));
    }
}
