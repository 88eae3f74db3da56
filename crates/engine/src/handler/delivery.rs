//! Deliveries: messages that a carrier takes to something else that runs them, in another process say.
//!
//! A thread that runs a handler is a turn (`handler/turn.rs`). A carrier that only hands messages on needs no thread: its
//! batches are taken and handed over by the thread that has a reason to, a sender that found the worker idle or the one that
//! ended the last message of the batch before. The token that a turn would hold stays with the batch, so a worker has one
//! batch on its way, and its messages keep their order.
//!
//! The process or thread that runs the messages would be idle between two batches for the way there and back. So a
//! batch is *topped up* when half of a window is left: the thread that ends that message takes more, while its own
//! still counts as open, so that no other thread can find the batch empty meanwhile, and one at a time, so that they
//! are handed over in order.
//!
//! Only the first message of a batch counts as running. The others are *ahead*: claimed, but still counted as queued,
//! so that the capacity of the mailbox is exact. They move up as those before them end, and
//! [`Carrier::recall`](crate::Carrier::recall) brings those that were not begun back to the mailbox, unclaimed.

use std::fmt;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use super::cell::Cell;
use super::{Handler, RunKey, RunPlace, Span};
use crate::address::{Address, AnyCell};
use crate::clock::Timestamp;
use crate::contained::contained;
use crate::mailbox::{Bundle, Entry, Finished, Spot, TakeResult, Times, Whence};
use crate::message::Message;
use crate::outcome::{Failure, Outcome};
use crate::sync::{AtomicBool, AtomicUsize, Ordering};
use crate::wait;

/// What the messages of one batch share.
struct BatchState<H: Handler> {
    cell: Arc<Cell<H>>,
    /// Messages of the batch that are not over.
    open: AtomicUsize,
    /// A thread takes more for it.
    topping_up: AtomicBool,
    /// It holds the worker's last message, which counts as nothing.
    is_last: bool,
}

/// Tells the batches apart that are on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BatchKey(NonZeroUsize);

/// One message that was handed over, on its way to its end.
///
/// Dropped without [`Delivery::finish`], the message fails as if its worker had stopped.
pub struct Delivery<H: Handler> {
    batch: Arc<BatchState<H>>,
    message: Option<H::Message>,
    posted_at: Option<Timestamp>,
    /// Those that run together with it.
    companions: Vec<Self>,
    /// How many messages they are, itself included.
    together: usize,
    spot: Option<Spot>,
    run: Option<RunKey>,
}

impl<H: Handler> fmt::Debug for Delivery<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("worker", &self.batch.cell.name)
            .finish_non_exhaustive()
    }
}

impl<H: Handler> Delivery<H> {
    /// The message; there until the delivery ends.
    #[must_use]
    pub const fn message(&self) -> Option<&H::Message> {
        self.message.as_ref()
    }

    /// The message, to settle its reply.
    pub const fn message_mut(&mut self) -> Option<&mut H::Message> {
        self.message.as_mut()
    }

    /// The messages that run together with it, in their order: see [`MorePlan::group`](crate::MorePlan::group). They go where it
    /// goes: back, or to the same end, unless they are taken from it before.
    #[must_use]
    pub fn companions(&self) -> &[Self] {
        &self.companions
    }

    /// Takes those out, to end each for itself.
    #[must_use]
    pub fn take_companions(&mut self) -> Vec<Self> {
        std::mem::take(&mut self.companions)
    }

    /// The handler of the worker.
    #[must_use]
    pub fn handler(&self) -> &H {
        &self.batch.cell.handler
    }

    /// The worker.
    #[must_use]
    pub fn address(&self) -> Address {
        Address(self.batch.cell.clone())
    }

    /// Whether its deadline has passed: a message that has not begun is not to begin.
    #[must_use]
    pub fn is_overdue(&self) -> bool {
        let clock = &self.batch.cell.pool.inner().clock;
        self.message
            .as_ref()
            .and_then(Message::state)
            .is_some_and(|state| state.is_overdue(|| clock.now()))
    }

    /// How long ago it was posted, if it is timed.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        let posted = self.posted_at?;
        Some(self.batch.cell.pool.inner().clock.now().since(posted))
    }

    /// Its number among those of its worker, where their runs have a limit: see [`Carrier::begun`](crate::Carrier::begun).
    #[must_use]
    pub fn run(&self) -> Option<u64> {
        self.run.map(RunKey::get)
    }

    /// Where the carrier runs it: one of its places, by a number. At first the one where the message before it ran, of its
    /// key or, if that is known, of those that were handed over before: what is at hand there may serve it again.
    #[must_use]
    pub const fn spot(&self) -> Option<u32> {
        self.spot
    }

    /// Notes where it runs. While its key has messages in the mailbox, the next of them has this one's [`Delivery::spot`].
    pub const fn set_spot(&mut self, spot: u32) {
        self.spot = Some(spot);
    }

    /// Whether `other` was handed over with it.
    #[must_use]
    pub fn is_of_same_batch(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.batch, &other.batch)
    }

    /// What it has in common with those that were handed over with it, and with no other delivery that has not ended.
    #[must_use]
    pub fn batch(&self) -> BatchKey {
        BatchKey(NonNull::from(&*self.batch).addr())
    }

    /// Runs `f` as if on a thread that runs this message's handler, for those who look at [`current`](crate::current)
    /// and for waits.
    pub fn with_current<R>(&self, f: impl FnOnce() -> R) -> R {
        let ticket = self.message.as_ref().and_then(Message::ticket);
        wait::instead(self.batch.cell.clone(), ticket, f)
    }

    /// Counts the message, publishes its reply, and hands over the next batch if this was the last of one. `ran` is
    /// the time that it took, where that is known.
    pub fn finish(mut self, outcome: Outcome, ran: Option<Duration>) {
        if let Some(message) = self.message.take() {
            let _leave = Leave(&self.batch, self.spot);
            self.count(&message, outcome, ran);
            drop(self.batch.cell.handler.finish(message));
        }
    }

    /// Puts the message back into the queue, to be tried again after `wait`, as
    /// [`Suspension::again`](crate::Suspension::again) does. Those of a key that ran together keep their order where they are
    /// put back in it. `Some`: nothing has changed, and the caller is to finish it.
    #[must_use = "what comes back is to be finished"]
    pub fn again(mut self, wait: Duration) -> Option<Self> {
        if self.batch.is_last {
            return Some(self);
        }
        let message = self.message.take()?;
        let entry = Entry {
            message,
            posted_at: self.posted_at,
        };
        let cell = &self.batch.cell;
        let at = cell.pool.inner().clock.now().after(wait);
        // ORDERING: Relaxed, as in `count`.
        let more = self.batch.open.load(Ordering::Relaxed) > 1;
        match cell.mailbox.again(entry, at, Whence::Delivery { more }) {
            Ok(told) => {
                let _leave = Leave(&self.batch, self.spot);
                cell.clear_stuck();
                cell.overruns.end(self.run);
                cell.tell(told);
                None
            }
            Err(entry) => {
                self.message = Some(entry.message);
                Some(self)
            }
        }
    }

    /// Puts messages that were not begun back to the front of their mailbox, in the order given, which is that of
    /// their delivery. Those that no caller waits for any more end as expired or cancelled.
    ///
    /// The first message of a batch stays where it is: with it goes the token, and the mailbox would hand over anew
    /// what it just got back.
    pub fn put_back(deliveries: Vec<Self>) {
        let mut batches: Vec<(Arc<BatchState<H>>, Vec<Self>)> = Vec::new();
        let each = deliveries.into_iter().flat_map(|mut delivery| {
            let companions = delivery.take_companions();
            std::iter::once(delivery).chain(companions)
        });
        for delivery in each {
            match batches.last_mut() {
                Some((batch, messages)) if Arc::ptr_eq(batch, &delivery.batch) => {
                    messages.push(delivery);
                }
                _ => batches.push((delivery.batch.clone(), vec![delivery])),
            }
        }
        // The last one first: each goes before what is there.
        for (batch, messages) in batches.into_iter().rev() {
            put_back_batch(&batch, messages);
        }
    }

    /// Ends a message that nothing has begun, and never will, with `failure`.
    pub fn abandon(mut self, failure: Failure) {
        for companion in self.take_companions() {
            companion.abandon(failure);
        }
        self.give_up(failure);
    }

    fn give_up(&mut self, failure: Failure) {
        let outcome = match failure {
            Failure::Cancelled => Outcome::Cancelled,
            Failure::Expired => Outcome::Expired,
            _ => Outcome::Failed,
        };
        if let Some(message) = self.message.take() {
            let _leave = Leave(&self.batch, None);
            // Whatever it goes down with may be a panic already.
            let _ = contained(|| {
                self.count(&message, outcome, None);
                self.batch.cell.handler.abandon(message, failure);
            });
        }
    }

    fn count(&self, message: &H::Message, outcome: Outcome, ran: Option<Duration>) {
        let cell = &self.batch.cell;
        cell.overruns.end(self.run);
        if self.batch.is_last {
            return;
        }
        let clock = &*cell.pool.inner().clock;
        let times = self
            .posted_at
            .zip(ran)
            .map(|(posted, ran)| (posted, ran, clock.now()));
        let timed = times.map(|(posted, run, now)| Times {
            wait: now.since(posted).saturating_sub(run),
            run,
            together: self.together,
        });
        if let Some(Times { wait, run, .. }) = timed {
            let place = RunPlace::Carried(self.spot);
            let span = Span {
                wait,
                run,
                outcome,
                place,
            };
            cell.handler.timed(message, &span);
        }
        cell.handler.ended(message, outcome);
        // ORDERING: Relaxed, a hint for the counters: the last one is decided in `end`.
        let more = self.batch.open.load(Ordering::Relaxed) > 1;
        let told = cell.mailbox.finish_delivery(
            &Finished {
                message,
                outcome,
                timed: timed.as_ref(),
            },
            (ran.unwrap_or_default(), self.together, self.spot),
            more,
            times.map(|(.., now)| now),
            clock,
        );
        cell.tell(told);
        cell.clear_stuck();
    }
}

/// Takes a message off its batch, also when its end unwinds; with where it ran.
struct Leave<'a, H: Handler>(&'a Arc<BatchState<H>>, Option<Spot>);

impl<H: Handler> Drop for Leave<'_, H> {
    fn drop(&mut self) {
        leave(self.0, 1, self.1);
    }
}

impl<H: Handler> Drop for Delivery<H> {
    fn drop(&mut self) {
        self.give_up(Failure::Stopped);
    }
}

fn put_back_batch<H: Handler>(batch: &Arc<BatchState<H>>, mut deliveries: Vec<Delivery<H>>) {
    let entries = deliveries
        .iter_mut()
        .filter_map(|delivery| {
            batch.cell.overruns.end(delivery.run.take());
            Some(Entry {
                message: delivery.message.take()?,
                posted_at: delivery.posted_at,
            })
        })
        .collect::<Vec<_>>();
    let count = entries.len();
    // With the tokens of other threads or processes that are free; the batch's own goes on below.
    batch.cell.swept(batch.cell.mailbox.put_back(entries));
    leave(batch, count, None);
}

/// `count` messages of the batch are over, at `spot`, or elsewhere. The last one takes the next batch.
fn leave<H: Handler>(batch: &Arc<BatchState<H>>, count: usize, spot: Option<Spot>) {
    let window = batch.cell.window();
    // ORDERING: Relaxed, a hint: to top up late or not at all costs time only.
    let left = batch.open.load(Ordering::Relaxed) - count;
    // ORDERING: AcqRel, who tops up next hands over after this.
    if left > 0 && left <= window / 2 && !batch.topping_up.swap(true, Ordering::AcqRel) {
        batch.cell.top_up(batch, window - left, spot);
        // ORDERING: Release, see above.
        batch.topping_up.store(false, Ordering::Release);
    }
    // ORDERING: AcqRel, what the other messages of the batch did comes before the next batch.
    if batch.open.fetch_sub(count, Ordering::AcqRel) == count {
        let cell = batch.cell.clone();
        cell.dispatch(spot);
        cell.pool.inner().scheduler.suspended(false);
    }
}

impl<H: Handler> Cell<H> {
    /// Hands over the next batch, or gives the token back that the caller holds, which was last used at `spot`.
    pub(crate) fn dispatch(self: &Arc<Self>, spot: Option<Spot>) {
        let mut entries = Vec::new();
        let window = self.window().max(1);
        let clock = &*self.pool.inner().clock;
        let take = self.mailbox.take_many((window, spot), &mut entries, clock);
        if !matches!(take.found, TakeResult::Next | TakeResult::Last) {
            self.abandon_all(take.leftovers);
            self.tell(take.told);
            self.set_alarm(take.alarm);
            self.let_go(take.was_held);
            self.activate(take.activate);
            if take.publishing {
                self.mailbox.published();
            }
            if take.roomy {
                self.shrink();
            }
            self.look_for_end();
            return;
        }
        self.pool.inner().scheduler.suspended(true);
        let batch = Arc::new(BatchState {
            cell: self.clone(),
            open: AtomicUsize::new(count(&entries)),
            topping_up: AtomicBool::new(false),
            is_last: take.found == TakeResult::Last,
        });
        self.give_to_carrier(&batch, entries, spot);
        self.mailbox.handed_over();
        self.abandon_all(take.leftovers);
        self.tell(take.told);
        self.set_alarm(take.alarm);
        self.let_go(take.was_held);
        self.activate(take.activate);
    }

    fn window(&self) -> usize {
        self.handler.carrier().map_or(1, |carrier| carrier.window())
    }

    fn give_to_carrier(
        &self,
        batch: &Arc<BatchState<H>>,
        entries: Vec<Bundle<H::Message>>,
        spot: Option<Spot>,
    ) {
        // Those that it panics over fail as they are dropped.
        let _ = contained(|| match self.handler.carrier() {
            Some(carrier) => carrier.carry(deliveries(batch, entries, spot)),
            None => drop(deliveries(batch, entries, spot)),
        });
    }

    /// Hands over more messages of a batch that the caller keeps open.
    fn top_up(self: &Arc<Self>, batch: &Arc<BatchState<H>>, most: usize, spot: Option<Spot>) {
        let mut entries = Vec::new();
        let clock = &*self.pool.inner().clock;
        let topping = self.mailbox.take_ahead((most, spot), &mut entries, clock);
        if !entries.is_empty() {
            // ORDERING: Relaxed, the messages are handed over under locks of their own.
            batch.open.fetch_add(count(&entries), Ordering::Relaxed);
            self.give_to_carrier(batch, entries, spot);
            self.mailbox.handed_over();
        }
        self.abandon_all(topping.leftovers);
        self.tell(topping.told);
        self.set_alarm(topping.alarm);
        self.activate(topping.activate);
    }
}

/// How many messages there are.
fn count<M>(bundles: &[Bundle<M>]) -> usize {
    bundles.iter().map(Bundle::len).sum()
}

fn deliveries<H: Handler>(
    batch: &Arc<BatchState<H>>,
    bundles: Vec<Bundle<H::Message>>,
    spot: Option<Spot>,
) -> Vec<Delivery<H>> {
    let delivery = |entry: Entry<H::Message>, companions, together, spot| Delivery {
        run: batch.cell.run_carried(&entry.message),
        batch: batch.clone(),
        message: Some(entry.message),
        posted_at: entry.posted_at,
        companions,
        together,
        spot,
    };
    bundles
        .into_iter()
        .map(|bundle| {
            let together = bundle.len();
            let others = bundle.others.into_iter();
            let companions = others.map(|other| delivery(other, Vec::new(), together, None));
            let spot = spot.or(bundle.spot);
            delivery(bundle.first, companions.collect(), together, spot)
        })
        .collect()
}
