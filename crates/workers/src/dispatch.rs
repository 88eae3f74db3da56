//! From a message to its handler, and from what the handler did to the reply.

use std::sync::{Arc, PoisonError};

use pytoweb_engine::{self as engine, Course, Failure, Handled, Handler, Outcome, Wake};

use crate::current;
use crate::farewell::Farewell;
use crate::kind_id::KindId;
use crate::kinds::{Held, Stored};
use crate::message::{Ended, Envelope, Late, Route};
use crate::registry::Entry;
use crate::table::Table;

/// The message in `envelope` has a reply that is not its handler's.
#[cold]
fn come_late(envelope: &mut Envelope) -> Outcome {
    if let Some(parcel) = envelope.parcel_mut() {
        *parcel = Arc::new(Late(parcel.clone()));
    }
    if engine::current().is_some_and(|address| address.is_terminated()) {
        Outcome::Failed
    } else {
        Outcome::Expired
    }
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
        let Ended { outcome, settled } = self.run(envelope);
        Handled::Done(if settled {
            outcome
        } else {
            come_late(envelope)
        })
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
        if let Some(parcel) = envelope.into_parcel() {
            parcel.abandon(failure);
        }
    }
}
