//! What a lane is told to do at the end of a message, and what a child answered.

use std::sync::Arc;
use std::time::Duration;

use pytoweb_engine::{StreamChannel, StreamWake};

use crate::crash::Crash;
use crate::frame::ReplyStatus;
use crate::payload::{Parcel, Payload};

/// A child's answer to one message.
#[derive(Debug)]
pub struct Answer {
    /// How it ended.
    pub status: ReplyStatus,
    /// How long the handler took.
    pub ran: Duration,
    /// What there is to say of a failure, in the words of the two ends.
    pub note: Vec<u8>,
    /// The reply.
    pub parcel: Option<Parcel>,
}

impl Answer {
    /// The answer to a message that never began.
    #[must_use]
    pub const fn skipped() -> Self {
        Self {
            status: ReplyStatus::Skipped,
            ran: Duration::ZERO,
            note: Vec::new(),
            parcel: None,
        }
    }
}

/// Where the items of a stream go as they come, before the answer.
pub trait Feed: Send + Sync + 'static {
    /// Takes one. Called on a thread that reads replies, in their order: it does not block.
    fn item(&self, parcel: Parcel);

    /// Whether items are wanted, now and later: their reader may have gone.
    fn is_wanted(&self) -> bool;
}

impl<I, W> Feed for StreamChannel<I, W>
where
    I: From<Parcel> + Send + 'static,
    W: StreamWake + Send + 'static,
{
    fn item(&self, parcel: Parcel) {
        self.push(I::from(parcel));
    }

    fn is_wanted(&self) -> bool {
        !self.is_closed()
    }
}

/// What a handler tells the owner of its worker while it runs.
#[derive(Debug)]
pub struct EmittedEvent {
    /// What the owner's handlers are chosen by.
    pub name: Box<str>,
    /// The data.
    pub parcel: Parcel,
    /// How many events of the child were dropped since the last one that came.
    pub dropped: u64,
}

/// Who is told of what a handler says before its answer.
pub trait Listener: Send + Sync + 'static {
    /// Takes an event. Called on a thread that reads replies, in their order: it does not block.
    fn event(&self, event: EmittedEvent);

    /// Takes how far the handler is. Called as [`Listener::event`].
    fn progress(&self, parcel: Parcel);
}

/// What a lane tells of a message, and asks where only its owner knows. No method may block or run a user's code.
pub trait Cargo: Sized + Send + 'static {
    /// The present configuration of its worker, and its version.
    fn configuration(&self) -> (u32, Arc<Payload>);

    /// Whether its reply is still open, or it has none.
    fn is_wanted(&self) -> bool;

    /// Whether its deadline has passed: then it is not sent, and [`Cargo::expired`] ends it.
    fn is_overdue(&self) -> bool;

    /// Whether its reply is open and is a stream whose reader has gone: then it is not sent, and [`Cargo::unread`] ends it.
    fn is_unread(&self) -> bool {
        self.is_wanted() && self.feed().is_some_and(|feed| !feed.is_wanted())
    }

    /// Where the items of its stream go, if it is to have one.
    fn feed(&self) -> Option<Arc<dyn Feed>> {
        None
    }

    /// Who is told of what its handler says before the answer, if that is of interest.
    fn listener(&self) -> Option<Arc<dyn Listener>> {
        None
    }

    /// It goes to the lane of this number, and not to the one that it was handed to.
    fn moved(&mut self, lane: usize) {
        let _ = lane;
    }

    /// Puts messages that were not begun back where they came from, in order.
    fn put_back(all: Vec<Self>);

    /// It is over.
    fn answered(self, answer: Answer);

    /// Its deadline passed before it was sent.
    fn expired(self);

    /// The reader of its stream had gone before it was sent.
    fn unread(self) {
        self.answered(Answer::skipped());
    }

    /// Its child ended while it ran, or there is none.
    fn crashed(self, crash: &Arc<Crash>);

    /// Its child was ended because it ran on after it was to stop.
    fn killed(self, crash: &Arc<Crash>)
    where
        Self: Sized,
    {
        let _ = crash;
        self.answered(Answer::skipped());
    }
}
