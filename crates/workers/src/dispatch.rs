//! From a message to its handler, and from what the handler did to the reply.

use std::mem;
use std::sync::{Arc, PoisonError};

use pytoweb_engine::{
    self as engine, Address, Course, Failure, Handled, Handler, Outcome, Suspension, Wake,
};

use crate::current;
use crate::farewell::Farewell;
use crate::kind_id::KindId;
use crate::kinds::{Held, Stored, lock};
use crate::message::{Ended, Envelope, Late, Route};
use crate::registry::Entry;
use crate::table::Table;

/// The message in `envelope` has a reply that is not its handler's.
#[cold]
fn come_late(envelope: &mut Envelope, address: Option<Address>) -> Outcome {
    if let Some(parcel) = envelope.parcel_mut() {
        *parcel = Arc::new(Late(parcel.clone()));
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
    let attempts = suspension.message().and_then(Envelope::attempts);
    let wait = attempts.map(|attempts| lock(attempts).wait);
    let Some(mut last) = suspension.again(wait.unwrap_or_default()) else {
        return;
    };
    let (table, address) = (last.handler().table.clone(), last.address());
    let Some(envelope) = last.message_mut() else {
        return;
    };
    let outcome = match fail_tried(&table, envelope) {
        Some(Ended::Settled(outcome)) => outcome,
        _ => come_late(envelope, Some(address)),
    };
    last.finish(outcome);
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
    pub(crate) entry: Entry,
}

impl Dispatch {
    pub(crate) fn new(table: Table) -> Self {
        Self {
            table: Arc::new(table),
            entry: Entry::new(),
        }
    }
}

/// A turn of a worker. It keeps the handler that ran last locked, and its place: mostly the next message is of the same
/// kind.
struct Turn<'a> {
    table: &'a Table,
    held: Option<(KindId, Held<'a, Table>)>,
}

impl Turn<'_> {
    fn run(&mut self, envelope: &mut Envelope) -> Ended {
        let table = self.table;
        let id = match envelope.route() {
            Route::Known(id) => Some(id),
            Route::Named(name) => table.kinds.find(name).map(|(id, _)| id),
            Route::Itself(_) => None,
        };
        if let Some((held, handler)) = &mut self.held
            && Some(*held) == id
        {
            return handler.run(table, envelope);
        }
        self.held = None;
        match id.and_then(|id| Some((id, table.kinds.get(id)?.stored()))) {
            Some((id, Stored::Exclusive(stored))) => {
                let (_, handler) = self.held.insert((id, stored.hold()));
                handler.run(table, envelope)
            }
            Some((_, Stored::Concurrent(stored))) => {
                let handler = stored
                    .read()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone();
                handler(table, envelope)
            }
            None => {
                let ran = envelope.parcel().and_then(|parcel| parcel.run(envelope));
                ran.unwrap_or_else(|| table.unknown(envelope))
            }
        }
    }
}

impl Course<Dispatch> for Turn<'_> {
    fn handle(&mut self, envelope: &mut Envelope) -> Handled<Dispatch> {
        match self.run(envelope) {
            Ended::Settled(outcome) => Handled::Done(outcome),
            Ended::Late => Handled::Done(come_late(envelope, engine::current())),
            Ended::Again => Handled::Suspend(Box::new(try_again)),
        }
    }

    fn rest(&mut self) {
        self.held = None;
    }
}

impl Handler for Dispatch {
    type Message = Envelope;

    fn handle(&self, envelope: &mut Envelope) -> Handled<Self> {
        self.course(|turn| turn.handle(envelope))
    }

    fn course<R>(&self, turn: impl FnOnce(&mut dyn Course<Self>) -> R) -> R {
        current::enter(&self.table);
        turn(&mut Turn {
            table: &self.table,
            held: None,
        })
    }

    fn finish(&self, envelope: Envelope) -> Wake {
        if let Some(parcel) = envelope.into_parcel()
            && parcel.publish()
            && let Some(ticket) = parcel.into_ticket()
        {
            return Wake::threads_of(ticket);
        }
        Wake::nobody()
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
        if let Some(parcel) = envelope.into_parcel() {
            parcel.abandon(failure);
        }
    }
}
