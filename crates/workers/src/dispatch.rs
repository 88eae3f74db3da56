//! From a message to its handler, and from what the handler did to the reply.

use std::any::type_name;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use pytoweb_engine::{
    self as engine, Course, Failure, Handled, Handler, Message, Outcome, Wake, contained,
};

use crate::current;
use crate::error::{AskError, BoxError, WorkerError};
use crate::farewell::Farewell;
use crate::kept::Kept;
use crate::kinds::{Held, Kind, KindId, Kinds, Stored, lock};
use crate::message::{Envelope, Late, Route};
use crate::noted;
use crate::rates::Rates;
use crate::registry::Entry;
use crate::unseen;
use crate::worker::WorkerInner;

/// What a worker runs when it has ended.
pub(crate) type StopHook = Box<dyn FnOnce() + Send>;

type ErrorHandler = Arc<dyn Fn(&WorkerError) + Send + Sync>;

/// What belongs to a worker besides its mailbox: its handlers.
pub(crate) struct Table {
    pub(crate) name: Box<str>,
    pub(crate) kinds: Kinds,
    pub(crate) rates: Rates,
    on_error: RwLock<Option<ErrorHandler>>,
    on_stop: Mutex<Vec<StopHook>>,
    /// The worker's handle; dangling for a pool.
    pub(crate) owner: Weak<WorkerInner>,
    /// What belongs to the worker's pool; dangling for one of its own, and for a pool. Weak: handlers of a pool may hold
    /// its workers.
    pool: Weak<Self>,
}

impl Table {
    pub(crate) fn new(name: &str, owner: Weak<WorkerInner>, pool: Weak<Self>) -> Self {
        Self {
            name: name.into(),
            kinds: Kinds::default(),
            rates: Rates::default(),
            on_error: RwLock::new(None),
            on_stop: Mutex::default(),
            owner,
            pool,
        }
    }

    pub(crate) fn set_on_error(&self, handler: impl Fn(&WorkerError) + Send + Sync + 'static) {
        let handler = Kept::new(handler);
        let handler: ErrorHandler = Arc::new(move |error| {
            if let Some(handler) = handler.get() {
                handler(error);
            }
        });
        let old = self
            .on_error
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(handler);
        drop(old);
    }

    pub(crate) fn add_on_stop(&self, hook: impl FnOnce() + Send + 'static) {
        let mut hook = Kept::new(hook);
        lock(&self.on_stop).push(Box::new(move || {
            if let Some(hook) = hook.take() {
                hook();
            }
        }));
    }

    /// What is to run when the worker has ended, the one that was registered last first.
    pub(crate) fn take_on_stop(&self) -> Vec<StopHook> {
        let mut hooks = mem::take(&mut *lock(&self.on_stop));
        hooks.reverse();
        hooks
    }

    /// Lets go of the handlers, and of what they hold. That of errors stays with a pool, which tells it of its workers.
    pub(crate) fn let_go(&self) {
        drop(self.kinds.let_go());
        drop(self.take_on_stop());
        let is_pool = self.owner.ptr_eq(&Weak::new());
        if is_pool {
            return;
        }
        let on_error = self
            .on_error
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(on_error);
    }

    /// What a message is called.
    pub(crate) fn kind_of(&self, envelope: &Envelope) -> String {
        match envelope.route() {
            Route::Known(id) => self.kinds.get(id).map_or("", Kind::name),
            Route::Named(name) => name,
            Route::Itself(name) => name,
        }
        .to_owned()
    }

    fn error_handler(&self) -> Option<ErrorHandler> {
        self.on_error
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Tells `on_error`, that of the pool, or the hook of the program where a failure would go unseen.
    #[cold]
    fn report(&self, envelope: &Envelope, error: AskError) -> AskError {
        let error = WorkerError::new(&self.name, self.kind_of(envelope), error);
        let of_pool = || self.pool.upgrade()?.error_handler();
        match self.error_handler().or_else(of_pool) {
            Some(handler) => {
                // The panic hook has reported a handler that panics here; the worker goes on.
                let _ = noted::during(envelope, || contained(|| handler(&error)));
            }
            None if envelope.state().is_none() => unseen::report(&error),
            None => {}
        }
        error.into_cause()
    }

    /// Ends a message that failed.
    #[cold]
    pub(crate) fn fail(&self, envelope: &Envelope, error: AskError) -> Ended {
        let error = self.report(envelope, error);
        Ended {
            outcome: Outcome::Failed,
            settled: envelope.settle_error(error.into()),
        }
    }

    /// Ends a message that has no handler.
    #[cold]
    pub(crate) fn unknown(&self, envelope: &Envelope) -> Ended {
        let kind = self.kind_of(envelope);
        self.fail(envelope, AskError::Unknown { kind })
    }
}

/// How a message ended that was handled.
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    /// The reply is the handler's, not that of a deadline or a stop that was first.
    pub(crate) settled: bool,
}

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

/// Calls a handler.
fn call<T, R, E: Into<BoxError>>(
    handler: impl FnOnce(T) -> Result<R, E>,
    data: T,
) -> Result<R, AskError> {
    // The conversion of the error into a boxed one is the user's code too.
    match contained(|| handler(data).map_err(Into::into)) {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(error)) => Err(AskError::Failed(error)),
        Err(panic) => Err(AskError::Panicked(panic.into_text())),
    }
}

/// Gives a message to the handler of its kind, if the types agree.
pub(crate) fn run_typed<T, R, E>(
    table: &Table,
    envelope: &mut Envelope,
    handler: impl FnOnce(T) -> Result<R, E>,
) -> Ended
where
    T: Send + 'static,
    R: Send + 'static,
    E: Into<BoxError>,
{
    if let Some(ask) = envelope.as_ask::<T, R>() {
        let Some(data) = ask.payload.take() else {
            return table.unknown(envelope);
        };
        return match noted::during(envelope, || call(handler, data)) {
            Ok(reply) => Ended {
                outcome: Outcome::Completed,
                settled: ask.reply.settle(Ok(reply)),
            },
            Err(error) => table.fail(envelope, error),
        };
    }
    let Some(data) = envelope.unpost() else {
        let kind = table.kind_of(envelope);
        let mismatch = envelope.mismatch(&kind, type_name::<T>(), type_name::<R>());
        return table.fail(envelope, AskError::WrongType(mismatch));
    };
    // The reply, which no caller asked for, is dropped where a panic of its destructor is caught.
    let handler = |data| handler(data).map(drop);
    match noted::during(envelope, || call(handler, data)) {
        Ok(()) => Ended {
            outcome: Outcome::Completed,
            settled: true,
        },
        Err(error) => table.fail(envelope, error),
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
    held: Option<(KindId, Held<'a>)>,
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
            None => match envelope.parcel() {
                Some(parcel) => parcel.run(table, envelope),
                None => table.unknown(envelope),
            },
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
