//! Handlers of batches: what one gets of several messages, and what becomes of each result.

use std::any::type_name;
use std::sync::Arc;

use pytoweb_engine::{Outcome, contained};

use crate::ask::Ask;
use crate::company::company;
use crate::error::{AskError, BoxError};
use crate::kept::Kept;
use crate::kinds::{Registration, Together};
use crate::message::{Ended, Envelope};
use crate::noted;
use crate::table::Table;

/// A handler for one batch at a time.
pub(crate) fn exclusive<T, R, E, I>(
    handler: impl FnMut(Vec<T>) -> I + Send + 'static,
) -> Registration<Table>
where
    T: Send + 'static,
    R: Send + 'static,
    E: Into<BoxError>,
    I: IntoIterator<Item = Result<R, E>>,
{
    let mut kept = Kept::new(handler);
    let together = move |table: &Table, envelopes: &mut [&mut Envelope]| match kept.get_mut() {
        Some(handler) => run(table, envelopes, handler),
        None => each_unknown(table, envelopes),
    };
    Registration::Exclusive(Box::new(Together(together)))
}

/// A handler for several at the same time.
pub(crate) fn concurrent<T, R, E, I>(
    handler: impl Fn(Vec<T>) -> I + Send + Sync + 'static,
) -> Registration<Table>
where
    T: Send + 'static,
    R: Send + 'static,
    E: Into<BoxError>,
    I: IntoIterator<Item = Result<R, E>>,
{
    let kept = Kept::new(handler);
    let together = move |table: &Table, envelopes: &mut [&mut Envelope]| match kept.get() {
        Some(handler) => run(table, envelopes, handler),
        None => each_unknown(table, envelopes),
    };
    Registration::Concurrent(Arc::new(Together(together)))
}

fn each_unknown(table: &Table, envelopes: &mut [&mut Envelope]) -> Vec<Ended> {
    let each = envelopes.iter();
    each.map(|envelope| table.unknown(envelope)).collect()
}

/// The payload of a message, if its types are those of the handler.
fn take<T: Send + 'static, R: Send + 'static>(envelope: &mut Envelope) -> Option<T> {
    if let Some(ask) = Ask::<T, R>::within(envelope) {
        return ask.payload.take();
    }
    envelope.unpost()
}

/// Gives messages to the handler of their kind, but for those whose types do not agree. Says how each ended.
fn run<T, R, E, I>(
    table: &Table,
    envelopes: &mut [&mut Envelope],
    handler: impl FnOnce(Vec<T>) -> I,
) -> Vec<Ended>
where
    T: Send + 'static,
    R: Send + 'static,
    E: Into<BoxError>,
    I: IntoIterator<Item = Result<R, E>>,
{
    let mut data = Vec::with_capacity(envelopes.len());
    let mut taken = Vec::with_capacity(envelopes.len());
    for envelope in envelopes.iter_mut() {
        let payload = take::<T, R>(envelope);
        taken.push(payload.is_some());
        data.extend(payload);
    }
    let mut results = call(table, envelopes, handler, data).into_iter();
    let each = envelopes.iter().zip(taken);
    each.map(|(envelope, taken)| {
        if !taken {
            let kind = table.kind_of(envelope);
            let mismatch = envelope.mismatch(&kind, type_name::<T>(), type_name::<R>());
            return table.fail(envelope, AskError::WrongType(mismatch));
        }
        match results.next() {
            Some(Ok(reply)) => complete::<T, R>(envelope, reply),
            Some(Err(error)) => table.fail(envelope, error),
            None => table.unknown(envelope),
        }
    })
    .collect()
}

/// Calls a handler of batches. A result for each of `data`.
fn call<T, R, E, I>(
    table: &Table,
    envelopes: &[&mut Envelope],
    handler: impl FnOnce(Vec<T>) -> I,
    data: Vec<T>,
) -> Vec<Result<Kept<R>, AskError>>
where
    E: Into<BoxError>,
    I: IntoIterator<Item = Result<R, E>>,
{
    let count = data.len();
    let Some(first) = envelopes.first().filter(|_| count > 0) else {
        return Vec::new();
    };
    let kind = table.kind_of(first);
    let all = (envelopes.len() > 1).then(|| company(kind.clone(), envelopes));
    let results = noted::during(all.as_ref().unwrap_or(first), || {
        contained(|| {
            let results = handler(data).into_iter();
            // Results may come as they are asked for, and their errors' conversion is the user's code too.
            let each = results.map(|result| match result {
                Ok(reply) => Ok(Kept::new(reply)),
                Err(error) => Err(AskError::Failed(error.into())),
            });
            each.collect::<Vec<_>>()
        })
    });
    match results {
        Ok(results) if results.len() == count => results,
        Ok(results) => {
            let text = format!(
                "the handler of `{kind}` returned {} results for a batch of {count} messages",
                results.len()
            );
            let fail = || Err(AskError::Failed(text.clone().into()));
            (0..count).map(|_| fail()).collect()
        }
        Err(panic) => {
            let text = panic.into_text();
            let fail = || Err(AskError::Panicked(text.clone()));
            (0..count).map(|_| fail()).collect()
        }
    }
}

/// Settles the reply of a message that was handled; without one `reply` is dropped.
pub(crate) fn complete<T, R>(envelope: &Envelope, mut reply: Kept<R>) -> Ended
where
    T: Send + 'static,
    R: Send + 'static,
{
    let settled = match Ask::<T, R>::within(envelope) {
        Some(ask) => reply
            .take()
            .is_some_and(|reply| ask.reply.settle(Ok(reply))),
        None => true,
    };
    Ended::of(Outcome::Completed, settled)
}
