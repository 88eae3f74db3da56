//! Order: which queued message goes next.
//!
//! The worker's side of the queue, in one of two orders: first in, first out, until there is a message with a plan; and from
//! then on by plans (`planned.rs`). Senders push into the queue of the inbox. In the first order the worker swaps the two
//! buffers when it has used up its own; in the second it takes in what is there each time it looks.
//!
//! A message that is cancelled or expires in the queue stays in its place as a *tombstone* until the worker comes by, or
//! until tombstones outnumber the living, and then all are swept.

use std::sync::Arc;

use super::claimed::{Others, Popped, claim_plainly};
use super::door::Knock;
use super::entry::{Entry, Leftover, Punctual, Spot, buried};
use super::found::{Found, among, is_living};
use super::planned::Planned;
use super::queue::{Queue, Tray};
use crate::clock::{Clock, Timestamp};
use crate::key::Key;
use crate::message::{Message, Ticket};
use crate::plan::Meter;
use crate::whereabouts::Waits;

/// Buffers larger than this are given back to the allocator before the worker's thread sleeps: an idle worker keeps at
/// most 1 KiB or so of them.
const KEEP_BYTES: usize = 512;

/// A look at the oldest message goes past so many that are gone.
const TOMBSTONES_SEEN: usize = 64;

enum Discipline<M> {
    FirstInFirstOut(Queue<M>),
    Planned(Box<Planned<M>>),
}

pub(super) struct Order<M> {
    kind: Discipline<M>,
    /// Entries here or in the inbox that are gone already.
    tombstones: usize,
}

impl<M: Message> Order<M> {
    /// The same in entries. A `VecDeque` holds a power of two of them, and at least four.
    const KEEP_ENTRIES: usize = {
        let entries = KEEP_BYTES / size_of::<Entry<M>>();
        if entries < 4 { 4 } else { entries }
    };

    /// An empty one. `meter`: what every message is counted against as it begins.
    pub(super) fn new(meter: Option<Meter>) -> Self {
        Self {
            kind: match meter {
                None => Discipline::FirstInFirstOut(Queue::new()),
                meter => Discipline::Planned(Box::new(Planned::new(meter))),
            },
            tombstones: 0,
        }
    }

    /// Keeps order by plans from now on, and looks at what senders have pushed when they `knock`.
    pub(super) fn plan(&mut self, knock: Knock) {
        if let Discipline::FirstInFirstOut(batch) = &mut self.kind {
            let mut planned = Planned::new(None);
            for entry in batch.drain() {
                planned.push_entry(entry);
            }
            self.kind = Discipline::Planned(Box::new(planned));
        }
        if let Discipline::Planned(planned) = &mut self.kind {
            planned.answer(knock);
        }
    }

    /// Whether nothing here could run now.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many messages could run now, at most.
    #[inline]
    pub(super) fn len(&self) -> usize {
        match &self.kind {
            Discipline::FirstInFirstOut(batch) => batch.len(),
            Discipline::Planned(planned) => planned.units(),
        }
    }

    /// Fetches what senders have pushed since, for which their lock is held: once its own are used up, or in the other order
    /// whenever it looks. `is_even`: see [`Planned::fetch`].
    #[inline]
    pub(super) fn fetch(&mut self, queue: &mut Queue<M>, is_even: bool) {
        match &mut self.kind {
            Discipline::FirstInFirstOut(batch) => std::mem::swap(batch, queue),
            Discipline::Planned(planned) => planned.fetch(queue, is_even),
        }
    }

    /// Takes in what was fetched, before anything else is done here. Returns how many messages more could run that slept
    /// before.
    #[inline]
    pub(super) fn take_in(&mut self, clock: &dyn Clock) -> usize {
        match &mut self.kind {
            Discipline::FirstInFirstOut(_) => 0,
            Discipline::Planned(planned) => {
                planned.take_in();
                planned.wake(|| clock.now())
            }
        }
    }

    /// Takes the next message to run it into `next`, which is empty, and returns its ticket, where that is all there is to
    /// do: it has no deadline, was not cancelled, and the order is the first one.
    #[inline]
    pub(super) fn pop_plainly(&mut self, next: &mut Tray<M>) -> Option<Option<Arc<dyn Ticket>>> {
        let Discipline::FirstInFirstOut(batch) = &mut self.kind else {
            return None;
        };
        let ticket = claim_plainly(batch.front()?.0)?;
        batch.pop_into(next);
        Some(ticket)
    }

    /// The same in the order by plans, once that has taken in what senders have pushed, and while it is quiet.
    #[inline]
    pub(super) fn pop_planned_plainly(
        &mut self,
        next: &mut Tray<M>,
    ) -> Option<Option<Arc<dyn Ticket>>> {
        match &mut self.kind {
            Discipline::Planned(planned) => planned.pop_plainly(next),
            Discipline::FirstInFirstOut(_) => None,
        }
    }

    /// In the order by plans, while it [is quiet](Self::is_planned_and_quiet): whether the next one is known without a look at
    /// what senders have pushed since.
    #[inline]
    pub(super) fn has_enough(&mut self, are_quick: bool) -> bool {
        match &mut self.kind {
            Discipline::FirstInFirstOut(_) => false,
            Discipline::Planned(planned) => planned.has_enough(are_quick),
        }
    }

    /// Whether a look at what senders have pushed is of use: in the order by plans, unless enough was fetched before.
    #[inline]
    pub(super) fn looks(&self) -> bool {
        matches!(&self.kind, Discipline::Planned(planned) if !planned.has_fetched_enough())
    }

    /// Whether the order is by plans, and nothing in it waits for a time.
    #[inline]
    pub(super) fn is_planned_and_quiet(&self) -> bool {
        matches!(&self.kind, Discipline::Planned(planned) if planned.is_quiet())
    }

    /// Takes the next message to run it, with those of its group; at `spot`, if it is to run there. Tombstones on the way are
    /// cleared.
    #[inline]
    pub(super) fn pop_to_run(
        &mut self,
        spot: Option<Spot>,
        punctual: &mut Punctual<'_>,
        leftovers: &mut Vec<Leftover<M>>,
    ) -> Popped<M> {
        let batch = match &mut self.kind {
            Discipline::FirstInFirstOut(batch) => batch,
            Discipline::Planned(planned) => {
                return planned.pop_to_run(spot, punctual, &mut self.tombstones, leftovers);
            }
        };
        while let Some((message, _)) = batch.front() {
            if punctual.expires(message) {
                leftovers.extend(batch.pop_front().map(|entry| buried(entry.message)));
                return Popped::Expired;
            }
            if message.claim() {
                return match batch.pop_front() {
                    Some(entry) => Popped::Message(entry, Others::none()),
                    None => Popped::Nothing,
                };
            }
            self.tombstones -= 1;
            leftovers.extend(batch.pop_front().map(|entry| buried(entry.message)));
        }
        Popped::Nothing
    }

    /// When to look again, where something sleeps until a time.
    #[inline]
    pub(super) fn look_at(&self, clock: &dyn Clock) -> Option<Timestamp> {
        match &self.kind {
            Discipline::FirstInFirstOut(_) => None,
            Discipline::Planned(planned) if !self.is_spent() => planned.look_at(|| clock.now()),
            Discipline::Planned(_) => None,
        }
    }

    /// When the message was posted that has waited longest, here or in the inbox's `queue`, as far as that is known: of
    /// messages with plans, the one that is first among those of its priority, or that waits for a rate. One that waits for a
    /// time of its own does not count.
    pub(super) fn oldest(&self, queue: &Queue<M>) -> Option<Timestamp> {
        let here = match &self.kind {
            Discipline::FirstInFirstOut(batch) => batch.front().and_then(|(_, at)| at),
            Discipline::Planned(planned) => planned.oldest(),
        };
        let there = queue.front().and_then(|(_, at)| at);
        here.into_iter().chain(there).min()
    }

    /// The same without the inbox, where messages that were not timed count, too. `since`: when the first of those was posted
    /// that were taken in last.
    pub(super) fn oldest_here(&self, since: Option<Timestamp>) -> Option<Timestamp> {
        if self.is_spent() {
            return None;
        }
        match &self.kind {
            Discipline::FirstInFirstOut(batch) => {
                let mut seen = batch.iter().take(TOMBSTONES_SEEN);
                let first = seen.find(|(message, _)| is_living(*message));
                first.and_then(|(_, at)| at).or(since)
            }
            Discipline::Planned(planned) => {
                let ready = planned.units() > 0;
                planned.oldest().or(since.filter(|_| ready))
            }
        }
    }

    /// Whether a message is here, be it gone or not.
    pub(super) const fn has_any(&self) -> bool {
        match &self.kind {
            Discipline::FirstInFirstOut(batch) => !batch.is_empty(),
            Discipline::Planned(planned) => planned.len() > 0,
        }
    }

    /// Whether no living message is here.
    #[inline]
    pub(super) fn is_spent(&self) -> bool {
        match &self.kind {
            Discipline::FirstInFirstOut(batch) => batch.len() <= self.tombstones,
            Discipline::Planned(planned) => planned.len() <= self.tombstones,
        }
    }

    /// Whether a message sleeps, or waits for the worker's meter. What sleeps with nothing but tombstones does not count.
    pub(super) fn has_sleepers(&self) -> bool {
        match &self.kind {
            Discipline::FirstInFirstOut(_) => false,
            Discipline::Planned(planned) => planned.has_sleepers() && !self.is_spent(),
        }
    }

    /// A message that was taken to run is over, at `spot` where that is known; `lane` is where it waited.
    #[inline]
    pub(super) fn ended(&mut self, lane: Option<&Key>, spot: Option<Spot>) {
        if let Discipline::Planned(planned) = &mut self.kind
            && let Some(lane) = lane
        {
            planned.ended(lane, spot);
        }
    }

    /// Puts a message in the place of the one that it replaces, here or in the inbox's `queue`, which is claimed and comes
    /// back, if the new one `fits` in the place of that. `Err`: there is none.
    pub(super) fn replace(
        &mut self,
        entry: Entry<M>,
        queue: &mut Queue<M>,
        fits: &dyn Fn(&M) -> bool,
    ) -> Result<Entry<M>, Entry<M>> {
        match &mut self.kind {
            Discipline::FirstInFirstOut(_) => Err(entry),
            Discipline::Planned(planned) => {
                take_in(planned, queue);
                planned.replace(entry, fits)
            }
        }
    }

    /// Takes the living message that goes where one must, here or in the inbox's `queue`, claimed: the oldest, and of
    /// messages with plans the oldest of the lowest priority.
    pub(super) fn pop_oldest(
        &mut self,
        queue: &mut Queue<M>,
        leftovers: &mut Vec<Leftover<M>>,
    ) -> Option<Entry<M>> {
        let batch = match &mut self.kind {
            Discipline::FirstInFirstOut(batch) => batch,
            Discipline::Planned(planned) => {
                take_in(planned, queue);
                return planned.pop_oldest(&mut self.tombstones, leftovers);
            }
        };
        for buffer in [batch, queue] {
            while let Some(entry) = buffer.pop_front() {
                if entry.message.claim() {
                    return Some(entry);
                }
                self.tombstones -= 1;
                leftovers.push(buried(entry.message));
            }
        }
        None
    }

    /// Takes out the messages that sleep until a time of their own, claimed.
    pub(super) fn take_delayed(
        &mut self,
        queue: &mut Queue<M>,
        leftovers: &mut Vec<Leftover<M>>,
    ) -> Vec<Entry<M>> {
        let Discipline::Planned(planned) = &mut self.kind else {
            return Vec::new();
        };
        take_in(planned, queue);
        planned.take_delayed(&mut self.tombstones, leftovers)
    }

    /// Whether the mailbox is full: then no message waits for company. Returns how many more could run.
    #[inline]
    pub(super) fn set_full(&mut self, is_full: bool) -> usize {
        match &mut self.kind {
            Discipline::FirstInFirstOut(_) => 0,
            Discipline::Planned(planned) => planned.set_full(is_full),
        }
    }

    /// No message waits for company any more. Returns how many more could run.
    pub(super) fn hurry(&mut self, queue: &mut Queue<M>) -> usize {
        let Discipline::Planned(planned) = &mut self.kind else {
            return 0;
        };
        take_in(planned, queue);
        planned.hurry()
    }

    /// Puts a message back that goes next.
    pub(super) fn put_back(&mut self, entry: Entry<M>) {
        match &mut self.kind {
            Discipline::FirstInFirstOut(batch) => batch.push_front(entry),
            Discipline::Planned(planned) => planned.put_back(entry),
        }
    }

    /// Takes a message back that ran, to be tried again at `at`, where the order is by plans. `leads`: see there.
    pub(super) fn again(&mut self, entry: Entry<M>, at: Timestamp, leads: bool) {
        match &mut self.kind {
            Discipline::FirstInFirstOut(batch) => batch.push_front(entry),
            Discipline::Planned(planned) => planned.again(entry, at, leads),
        }
    }

    /// So many messages, here or in the inbox's `queue`, were claimed for removal.
    pub(super) fn bury(
        &mut self,
        count: usize,
        queue: &mut Queue<M>,
        leftovers: &mut Vec<Leftover<M>>,
    ) {
        self.tombstones += count;
        let here = match &self.kind {
            Discipline::FirstInFirstOut(batch) => batch.len(),
            Discipline::Planned(planned) => planned.len(),
        };
        if self.tombstones * 2 <= here + queue.len() {
            return;
        }
        match &mut self.kind {
            Discipline::FirstInFirstOut(batch) => sweep(batch, leftovers),
            Discipline::Planned(planned) => planned.sweep(leftovers),
        }
        sweep(queue, leftovers);
        self.tombstones = 0;
    }

    /// Whether the buffers are large enough to give them back.
    pub(super) fn is_roomy(&self, queue: &Queue<M>) -> bool {
        let here = match &self.kind {
            Discipline::FirstInFirstOut(batch) => batch.capacity(),
            Discipline::Planned(planned) => planned.capacity(),
        };
        here.max(queue.capacity()) > Self::KEEP_ENTRIES
    }

    /// Gives large buffers back that are empty.
    pub(super) fn shrink(&mut self, queue: &mut Queue<M>) {
        match &mut self.kind {
            Discipline::FirstInFirstOut(batch) => shrink(batch, Self::KEEP_ENTRIES),
            Discipline::Planned(planned) => planned.shrink(Self::KEEP_ENTRIES),
        }
        shrink(queue, Self::KEEP_ENTRIES);
    }
}

fn take_in<M: Message>(planned: &mut Planned<M>, queue: &mut Queue<M>) {
    planned.fetch(queue, false);
    planned.take_all_in();
}

/// Takes out all messages that are gone.
fn sweep<M: Message>(buffer: &mut Queue<M>, leftovers: &mut Vec<Leftover<M>>) {
    for entry in std::mem::replace(buffer, Queue::new()).drain() {
        if is_living(&entry.message) {
            buffer.push_back(entry);
        } else {
            leftovers.push(buried(entry.message));
        }
    }
}

fn shrink<M>(buffer: &mut Queue<M>, keep: usize) {
    if buffer.capacity() > keep && buffer.is_empty() {
        *buffer = Queue::new();
    }
}

impl<M: Message> Order<M> {
    /// The message that `of` picks, here or, in the order by plans, also in the inbox's `queue`. `Err`: how many living ones
    /// are here.
    pub(super) fn find(
        &mut self,
        queue: &mut Queue<M>,
        of: &dyn Fn(&M) -> bool,
        clock: &dyn Clock,
    ) -> Result<Found, usize> {
        match &mut self.kind {
            Discipline::FirstInFirstOut(batch) => {
                let (ahead, posted) = among(batch.iter(), of)?;
                Ok(Found {
                    ahead,
                    posted,
                    why: Waits::Turn,
                    key: None,
                })
            }
            Discipline::Planned(planned) => {
                take_in(planned, queue);
                planned.find(of, clock)
            }
        }
    }

    /// Whether an entry here is the one that is looked for, be it gone or not.
    pub(super) fn any(&self, is_it: &dyn Fn(&M) -> bool) -> bool {
        match &self.kind {
            Discipline::FirstInFirstOut(batch) => batch.iter().any(|(message, _)| is_it(message)),
            Discipline::Planned(planned) => planned.any(is_it),
        }
    }
}
