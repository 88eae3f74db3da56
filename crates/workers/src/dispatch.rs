//! From a message to its handler, and from what the handler did to the reply.

use std::collections::BTreeMap;
use std::iter;
use std::mem;
use std::sync::{Arc, PoisonError};

use pytoweb_engine::{
    self as engine, Address, Companions, Course, Failure, Handled, Handler, Outcome, Span, Stuck,
    Suspension, Tally, TypeStats, Wake,
};

use crate::current;
use crate::farewell::Farewell;
use crate::kind_id::KindId;
use crate::kinds::{Concurrent, Held, Stored};
use crate::lock::lock;
use crate::message::{AnyMessage, Ended, Envelope, Late};
use crate::registry::RegistryEntry;
use crate::spans;
use crate::table::Table;
use crate::unseen;

/// The message in `envelope` has a reply that is not its handler's.
#[cold]
fn come_late(envelope: &mut Envelope, address: Option<Address>) -> Outcome {
    if let Some(message) = envelope.message_mut() {
        *message = Arc::new(Late(message.clone()));
    }
    if address.is_some_and(|address| address.is_terminated()) {
        Outcome::Failed
    } else {
        Outcome::Expired
    }
}

/// Puts a message that has failed back into the queue; where that is not to be, it fails for good.
#[cold]
fn try_again(suspension: Suspension<Dispatch>) {
    let message = suspension.message();
    let wait = message
        .and_then(Envelope::attempts)
        .map(|attempts| lock(attempts).wait);
    let table = suspension.handler().table.clone();
    let id = message.and_then(|message| table.find(message));
    let Some(mut last) = suspension.again(wait.unwrap_or_default()) else {
        if let Some(kind) = id.and_then(|id| table.kinds.get(id)) {
            kind.tally().count_retry();
        }
        return;
    };
    let address = last.address();
    let Some(envelope) = last.message_mut() else {
        return;
    };
    let outcome = match fail_tried(&table, envelope) {
        Some(Ended::Settled(outcome)) => outcome,
        _ => come_late(envelope, Some(address)),
    };
    last.finish(outcome);
}

/// Ends those that ran with another message, or puts them back to be tried again, where they have no outcome.
fn end_companions(
    table: &Table,
    mut companions: Companions<Dispatch>,
    mut outcomes: Vec<Option<Outcome>>,
) {
    let waits = outcomes.iter().enumerate().filter_map(|(index, outcome)| {
        let attempts = outcome.is_none().then(|| companions.get(index))?;
        let wait = attempts
            .and_then(Envelope::attempts)
            .map(|tried| lock(tried).wait);
        Some((index, wait.unwrap_or_default()))
    });
    let waits = waits.collect::<Vec<_>>();
    for (index, _) in &waits {
        if let Some(envelope) = companions.get(*index) {
            table.tally(envelope, Tally::count_retry);
        }
    }
    for index in companions.again(waits) {
        let Some(envelope) = companions.get_mut(index) else {
            continue;
        };
        table.tally(envelope, Tally::uncount_retry);
        outcomes[index] = Some(match fail_tried(table, envelope) {
            Some(Ended::Settled(outcome)) => outcome,
            _ => come_late(envelope, engine::current()),
        });
    }
    let outcomes = outcomes
        .into_iter()
        .map(|outcome| outcome.unwrap_or(Outcome::Failed));
    companions.finish(&outcomes.collect::<Vec<_>>());
}

/// Ends a message that was to be tried again with what came of its last attempt. `None`: it was not.
#[cold]
fn fail_tried(table: &Table, envelope: &Envelope) -> Option<Ended> {
    let mut errors = mem::take(&mut lock(envelope.attempts()?).errors);
    let last = errors.pop()?;
    Some(table.fail_for_good(envelope, errors, last))
}

/// The engine's handler of a worker or a pool.
pub(crate) struct Dispatch {
    pub(crate) table: Arc<Table>,
    pub(crate) entry: RegistryEntry,
}

impl Dispatch {
    pub(crate) fn new(table: Table) -> Self {
        Self {
            table: Arc::new(table),
            entry: RegistryEntry::new(),
        }
    }
}

/// A turn of a worker. It keeps the handler that ran last locked, and its place: mostly the next message is of the same
/// kind.
struct Turn<'a> {
    table: &'a Table,
    held: Option<(KindId, Held<'a, Table>, &'a Tally)>,
}

/// What a handler made of a message, which is counted if it is over.
fn end(
    ended: Ended,
    envelope: &mut Envelope,
    count: impl FnOnce(&Envelope, Outcome),
) -> Handled<Dispatch> {
    let outcome = match ended {
        Ended::Settled(outcome) => outcome,
        Ended::Late => come_late(envelope, engine::current()),
        Ended::Again => return Handled::Suspend(Box::new(try_again)),
    };
    count(envelope, outcome);
    Handled::Done(outcome)
}

fn count_stray(table: &Table, envelope: &Envelope, outcome: Outcome) {
    let is_last = |message: &Arc<dyn AnyMessage>| message.as_any().is::<Farewell>();
    if !envelope.message().is_some_and(is_last) {
        table.tally(envelope, |tally| tally.count(outcome));
    }
}

impl<'a> Turn<'a> {
    #[cold]
    #[inline(never)]
    fn handle_in_span(&mut self, envelope: &mut Envelope) -> Handled<Dispatch> {
        spans::during(self.table, envelope, |envelope| self.handle_one(envelope))
    }

    /// Inlined into the path without spans, as if there were no other.
    #[inline(always)]
    fn handle_one(&mut self, envelope: &mut Envelope) -> Handled<Dispatch> {
        let table = self.table;
        let id = table.find(envelope);
        if let Some((held, handler, tally)) = &mut self.held
            && Some(*held) == id
        {
            let ended = handler.run(table, envelope);
            if let Ended::Settled(outcome) = ended {
                tally.count_alone(outcome);
                return Handled::Done(outcome);
            }
            return end(ended, envelope, |_, outcome| tally.count_alone(outcome));
        }
        match self.look_up(id) {
            Some(TurnHandler::Held(handler, tally)) => {
                let ended = handler.run(table, envelope);
                end(ended, envelope, |_, outcome| tally.count_alone(outcome))
            }
            Some(TurnHandler::Concurrent(handler, tally)) => {
                let ended = handler.handle(table, envelope);
                end(ended, envelope, |_, outcome| tally.count(outcome))
            }
            None => {
                let ran = envelope.message().and_then(|message| message.run(envelope));
                let ended = ran.unwrap_or_else(|| table.unknown(envelope));
                end(ended, envelope, |envelope, outcome| {
                    count_stray(table, envelope, outcome);
                })
            }
        }
    }

    /// Gives messages of one kind to its handler. `None`: it takes one after the other.
    fn run_together(&mut self, envelopes: &mut [&mut Envelope]) -> Option<Vec<Ended>> {
        let table = self.table;
        let id = table.find(envelopes.first()?);
        match self.look_up(id)? {
            TurnHandler::Held(handler, _) => handler.run_together(table, envelopes),
            TurnHandler::Concurrent(handler, _) => handler.handle_together(table, envelopes),
        }
    }

    /// The handler of a kind, which is locked from now on, in the place of another one.
    fn look_up(&mut self, id: Option<KindId>) -> Option<TurnHandler<'_, 'a>> {
        self.held = None;
        let id = id?;
        let kind = self.table.kinds.get(id)?;
        let tally = kind.tally();
        match kind.stored() {
            Stored::Exclusive(stored) => {
                let (_, handler, _) = self.held.insert((id, stored.hold(), tally));
                Some(TurnHandler::Held(handler, tally))
            }
            Stored::Concurrent(stored) => {
                let handler = stored.read().unwrap_or_else(PoisonError::into_inner);
                Some(TurnHandler::Concurrent(handler.clone(), tally))
            }
        }
    }
}

/// A handler as a turn finds it.
enum TurnHandler<'turn, 'table> {
    Held(&'turn mut Held<'table, Table>, &'table Tally),
    Concurrent(Concurrent<Table>, &'table Tally),
}

impl Course<Dispatch> for Turn<'_> {
    fn handle(&mut self, envelope: &mut Envelope) -> Handled<Dispatch> {
        if spans::are_wanted() {
            return self.handle_in_span(envelope);
        }
        self.handle_one(envelope)
    }

    fn handle_together(
        &mut self,
        envelope: &mut Envelope,
        mut companions: Companions<Dispatch>,
    ) -> Handled<Dispatch> {
        let others = companions.messages_mut();
        let mut all: Vec<_> = iter::once(&mut *envelope).chain(others).collect();
        let ended = spans::during_batch(self.table, &mut all, |all| self.run_together(all));
        let Some(ended) = ended else {
            // The handler was replaced since they were posted: they run one by one.
            companions.put_back();
            return self.handle(envelope);
        };
        let outcomes = all.into_iter().zip(ended);
        // `None`: it is to be tried again.
        let outcomes = outcomes.map(|(envelope, ended)| match ended {
            Ended::Settled(outcome) => Some(outcome),
            Ended::Late => Some(come_late(envelope, engine::current())),
            Ended::Again => None,
        });
        let mut outcomes = outcomes.collect::<Vec<_>>().into_iter();
        let first = outcomes.next().unwrap_or(Some(Outcome::Failed));
        end_companions(self.table, companions, outcomes.collect());
        match first {
            Some(outcome) => {
                self.table.tally(envelope, |tally| tally.count(outcome));
                Handled::Done(outcome)
            }
            None => Handled::Suspend(Box::new(try_again)),
        }
    }

    #[inline]
    fn finish(&mut self, envelope: Envelope) -> Wake {
        publish(envelope)
    }

    fn rest(&mut self) {
        self.held = None;
    }
}

/// Publishes the reply of a message that was handled.
#[inline]
fn publish(envelope: Envelope) -> Wake {
    if let Some(message) = envelope.into_message()
        && message.publish()
        && let Some(ticket) = message.into_ticket()
    {
        return Wake::threads_of(ticket);
    }
    Wake::none()
}

impl Handler for Dispatch {
    type Message = Envelope;

    fn handle(&self, envelope: &mut Envelope) -> Handled<Self> {
        self.course(|turn| turn.handle(envelope))
    }

    fn handle_together(
        &self,
        envelope: &mut Envelope,
        companions: Companions<Self>,
    ) -> Handled<Self> {
        self.course(|turn| turn.handle_together(envelope, companions))
    }

    fn course<R>(&self, turn: impl FnOnce(&mut dyn Course<Self>) -> R) -> R {
        current::enter(&self.table);
        turn(&mut Turn {
            table: &self.table,
            held: None,
        })
    }

    fn finish(&self, envelope: Envelope) -> Wake {
        publish(envelope)
    }

    fn ended(&self, envelope: &Envelope, outcome: Outcome) {
        self.table.tally(envelope, |tally| tally.count(outcome));
    }

    fn timed(&self, envelope: &Envelope, span: &Span) {
        self.table
            .tally(envelope, |tally| tally.record(span.wait, span.run));
    }

    fn keeps_times(&self) -> bool {
        true
    }

    fn tallies(&self, see: &mut dyn FnMut(&Tally)) {
        self.table.each_tally(see);
    }

    fn type_stats(&self) -> BTreeMap<String, TypeStats> {
        self.table.type_stats()
    }

    fn dead(&self) -> u64 {
        self.table.dead.count()
    }

    fn name_of(&self, envelope: &Envelope) -> Option<String> {
        Some(self.table.kind_of(envelope))
    }

    fn stuck(&self, stuck: Stuck) {
        unseen::report_stuck(&self.table.name, &stuck);
    }

    fn last(&self) -> Option<Envelope> {
        Some(Envelope::of(Arc::new(Farewell(self.table.clone()))))
    }

    fn abandon(&self, envelope: Envelope, failure: Failure) {
        // A stop makes no more attempts: the last one says why the message fails.
        if failure == Failure::Stopped
            && let Some(Ended::Settled(_)) = fail_tried(&self.table, &envelope)
        {
            drop(self.finish(envelope));
            return;
        }
        if let Some(message) = envelope.into_message() {
            message.abandon(failure);
        }
    }
}
