//! A handler: what runs the messages of one mailbox, and what each of them goes through from there to its end.
//!
//! A handler names what it is given, and a cell holds its handler. So they are one room: the cell, and in it the turn of
//! a pool's thread; a message that is suspended, those that run together, and those that a carrier takes elsewhere.

#[path = "handler/carrier.rs"]
mod carrier;
#[path = "handler/cell.rs"]
mod cell;
#[path = "handler/companions.rs"]
mod companions;
#[path = "handler/delivery.rs"]
mod delivery;
#[path = "handler/lookout.rs"]
mod lookout;
#[path = "handler/overruns.rs"]
mod overruns;
#[path = "handler/suspension.rs"]
mod suspension;
#[path = "handler/turn.rs"]
mod turn;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::health::Condition;
use crate::message::Message;
use crate::outcome::{Failure, Outcome};
use crate::tally::{Tally, TypeStats};
use crate::wake::Wake;

pub use carrier::Carrier;
pub(crate) use cell::{Cell, Role};
pub use companions::Companions;
pub use delivery::{BatchKey, Delivery};
pub(crate) use overruns::RunKey;
pub use overruns::{Overrun, Stuck};
pub use suspension::Suspension;

/// Runs the messages of one mailbox.
///
/// For a worker the calls come one at a time, in the order of posting, from any thread of the pool; for a pool's own
/// mailbox several at once.
///
/// A panic of one fails the message that it was called for, with [`Failure::Panicked`] where its reply does not stand,
/// and ends no thread. It is meant for bugs: what a handler runs for others it had better catch itself, and say what
/// happened.
pub trait Handler: Send + Sync + Sized + 'static {
    /// What the mailbox holds.
    type Message: Message;

    /// Runs one message. A reply is *settled* in here and published in [`Handler::finish`], after it was counted.
    ///
    /// In place, because moving a message costs as much as anything else that happens to it here.
    fn handle(&self, message: &mut Self::Message) -> Handled<Self>;

    /// Runs a message together with those that were taken with it: see [`MorePlan::group`](crate::MorePlan::group). They end with
    /// [`Companions::finish`], before this one does; a handler that suspends it keeps them until then.
    ///
    /// A handler that knows nothing of groups puts them back, and runs one after the other: they are looked at anew then,
    /// which costs more than messages without a group.
    fn handle_together(
        &self,
        message: &mut Self::Message,
        companions: Companions<Self>,
    ) -> Handled<Self> {
        companions.put_back();
        self.handle(message)
    }

    /// Runs `turn`, in which one thread handles a row of messages, with what handles them: [`Handler::handle`], where a
    /// handler keeps nothing from one message to the next.
    fn course<R>(&self, turn: impl FnOnce(&mut dyn Course<Self>) -> R) -> R {
        let mut plain = self;
        turn(&mut plain)
    }

    /// Publishes the reply of a message that was handled, and returns the threads that wait for it.
    fn finish(&self, message: Self::Message) -> Wake;

    /// What runs the messages, where that is not this handler: then [`Handler::handle`] is called for none. The same at all
    /// times.
    fn carrier(&self) -> Option<&dyn Carrier<Self>> {
        None
    }

    /// How its messages fare, whatever they are. For [`Address::health`](crate::Address::health): on the thread that asks, and
    /// not to wait for anything.
    fn condition(&self) -> Condition {
        match self.carrier() {
            Some(carrier) => carrier.condition(),
            None => Condition::Works,
        }
    }

    /// A message to handle when the worker has ended: it is closed, nothing is queued and nothing runs. For what has to
    /// happen on the worker's own thread then: an end hook, and letting go of the state. It is handled as any other, but
    /// counts as nothing; where the worker was never started it is abandoned. Asked for once or more, on a thread that
    /// closes the worker; all but the first are dropped. `None`: there is nothing to do.
    fn last(&self) -> Option<Self::Message> {
        None
    }

    /// Told of a message that has ended outside [`Handler::handle`] and its like: it was suspended, carried elsewhere, or one
    /// of [`Companions`]. For tallies by type; what [`Handled::Done`] ends the handler counts itself. Before the reply is
    /// published, on the thread that ends it, which may hold locks: no user's code is to run here.
    fn ended(&self, message: &Self::Message, outcome: Outcome) {
        let _ = (message, outcome);
    }

    /// Told how long a message waited and ran, of those that are timed: see [`TimingStats`](crate::TimingStats). As
    /// [`Handler::ended`], but of all.
    fn timed(&self, message: &Self::Message, span: &Span) {
        let _ = (message, span);
    }

    /// What became of its messages by type, where it keeps tallies. For
    /// [`Address::type_stats`](crate::Address::type_stats): on the thread that asks, and not to wait for a handler.
    fn type_stats(&self) -> BTreeMap<String, TypeStats> {
        BTreeMap::new()
    }

    /// Whether its tallies have the times of all messages that are timed: then the mailbox keeps none of its own, and
    /// [`Address::stats`](crate::Address::stats) adds those of [`Handler::tallies`] up. The same at all times.
    fn keeps_times(&self) -> bool {
        false
    }

    /// Calls `see` for each of its tallies. As [`Handler::type_stats`].
    fn tallies(&self, see: &mut dyn FnMut(&Tally)) {
        let _ = see;
    }

    /// How many of its messages became dead letters, where it has such. As [`Handler::type_stats`].
    fn dead(&self) -> u64 {
        0
    }

    /// What [`Stuck::name`] is to be of a message: its type, say. Asked as its run begins, for workers with
    /// [`WorkerOptions::stuck_after`](crate::WorkerOptions::stuck_after) alone.
    fn name_of(&self, message: &Self::Message) -> Option<String> {
        let _ = message;
        None
    }

    /// Told of a run that is stuck, once, while it lasts: it has run for
    /// [`WorkerOptions::stuck_after`](crate::WorkerOptions::stuck_after); or for half a second past its message's deadline.
    /// On the thread that watches the times of the program, with no engine lock held: it is not to wait for anything.
    fn stuck(&self, stuck: Stuck) {
        drop(stuck);
    }

    /// Told of a message that will not be run; settles its reply, unless it is settled. On the thread that caused it.
    fn abandon(&self, message: Self::Message, failure: Failure);
}

/// Handles the messages of one turn; for handlers that keep something from one message to the next: a lock, say, which
/// would cost as much as a quick message.
pub trait Course<H: Handler> {
    /// As [`Handler::handle`].
    fn handle(&mut self, message: &mut H::Message) -> Handled<H>;

    /// As [`Handler::handle_together`].
    fn handle_together(
        &mut self,
        message: &mut H::Message,
        companions: Companions<H>,
    ) -> Handled<H> {
        companions.put_back();
        self.handle(message)
    }

    /// As [`Handler::finish`].
    fn finish(&mut self, message: H::Message) -> Wake;

    /// Lets go of what it keeps: other turns of this handler may begin, and code that the handler does not know runs
    /// next (callbacks, waiters). Called before the turn ends, and in between.
    fn rest(&mut self);
}

impl<H: Handler> Course<H> for &H {
    fn handle(&mut self, message: &mut H::Message) -> Handled<H> {
        (**self).handle(message)
    }

    fn handle_together(
        &mut self,
        message: &mut H::Message,
        companions: Companions<H>,
    ) -> Handled<H> {
        (**self).handle_together(message, companions)
    }

    fn finish(&mut self, message: H::Message) -> Wake {
        (**self).finish(message)
    }

    fn rest(&mut self) {}
}

/// How long a message waited and ran, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// From the post to the handler.
    pub wait: Duration,
    /// In the handler. It has just ended.
    pub run: Duration,
    /// How it ended.
    pub outcome: Outcome,
    /// Where it ran.
    pub place: RunPlace,
}

/// Where a message ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunPlace {
    /// In a turn of the calling thread.
    Turn,
    /// Beside another message that ends next on the calling thread: it is one of [`Companions`].
    Beside,
    /// On a thread of the pool at first, and then outside of them: see [`Suspension`].
    Suspended,
    /// Where a [`Carrier`] has taken it: see [`Delivery::spot`].
    Carried(Option<u32>),
}

/// What became of a message that was given to a handler.
pub enum Handled<H: Handler> {
    /// It is over.
    Done(Outcome),
    /// It goes on elsewhere: the closure is called at once, with the message, which ends with [`Suspension::finish`].
    /// The worker takes no other message before that.
    Suspend(Box<dyn FnOnce(Suspension<H>)>),
}

impl<H: Handler> fmt::Debug for Handled<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(outcome) => f.debug_tuple("Done").field(outcome).finish(),
            Self::Suspend(_) => f.debug_tuple("Suspend").finish_non_exhaustive(),
        }
    }
}
