//! Typed handlers: what one gets of a message, and what becomes of what it returns.

use std::any::type_name;
use std::sync::Arc;

use pytoweb_engine::{Outcome, contained};

use crate::ask::Ask;
use crate::error::{AskError, BoxError};
use crate::kept::Kept;
use crate::kinds::Registration;
use crate::message::{Ended, Envelope};
use crate::noted;
use crate::table::Table;

/// The handler of a worker. What `handler` holds is dropped on whichever thread is the last to hold the worker.
pub(crate) fn exclusive<T, R, E>(
    handler: impl FnMut(T) -> Result<R, E> + Send + 'static,
) -> Registration<Table>
where
    T: Send + 'static,
    R: Send + 'static,
    E: Into<BoxError>,
{
    let mut handler = Kept::new(handler);
    Registration::Exclusive(Box::new(
        move |table: &Table, envelope: &mut Envelope| match handler.get_mut() {
            Some(handler) => run_typed(table, envelope, handler),
            None => table.unknown(envelope),
        },
    ))
}

/// The same, of a pool.
pub(crate) fn concurrent<T, R, E>(
    handler: impl Fn(T) -> Result<R, E> + Send + Sync + 'static,
) -> Registration<Table>
where
    T: Send + 'static,
    R: Send + 'static,
    E: Into<BoxError>,
{
    let handler = Kept::new(handler);
    Registration::Concurrent(Arc::new(
        move |table: &Table, envelope: &mut Envelope| match handler.get() {
            Some(handler) => run_typed(table, envelope, handler),
            None => table.unknown(envelope),
        },
    ))
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
fn run_typed<T, R, E>(
    table: &Table,
    envelope: &mut Envelope,
    handler: impl FnOnce(T) -> Result<R, E>,
) -> Ended
where
    T: Send + 'static,
    R: Send + 'static,
    E: Into<BoxError>,
{
    if let Some(ask) = Ask::<T, R>::within(envelope) {
        let Some(data) = ask.payload.take() else {
            return table.unknown(envelope);
        };
        return match noted::during(envelope, || call(handler, data)) {
            Ok(reply) => Ended::of(Outcome::Completed, ask.reply.settle(Ok(reply))),
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
        Ok(()) => Ended::Settled(Outcome::Completed),
        Err(error) => table.fail(envelope, error),
    }
}
