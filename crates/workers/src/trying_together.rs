//! Handlers of batches whose messages are tried again: each attempt gets the payloads by reference, and each message that
//! fails goes back for itself.

use std::any::type_name;
use std::sync::Arc;

use pytoweb_engine::contained;

use crate::ask::Ask;
use crate::batching::complete;
use crate::company::company;
use crate::error::{AskError, BoxError};
use crate::kept::Kept;
use crate::kinds::{Registration, Together};
use crate::message::{Ended, Envelope, Post, Route};
use crate::noted;
use crate::payload_cell::{Loan, PayloadCell};
use crate::retry::Retry;
use crate::table::Table;
use crate::trying::{FailedAttempt, end, is_for_panics, judged, restore};

/// A handler for one batch at a time.
pub(crate) fn exclusive<T, R, E, I>(
    retry: Retry<E>,
    handler: impl FnMut(&[&T]) -> I + Send + 'static,
) -> Registration<Table>
where
    T: Send + 'static,
    R: Send + 'static,
    E: Into<BoxError> + 'static,
    I: IntoIterator<Item = Result<R, E>>,
{
    let mut kept = Kept::new((retry, handler));
    let together = move |table: &Table, envelopes: &mut [&mut Envelope]| match kept.get_mut() {
        Some((retry, handler)) => run(table, envelopes, retry, handler),
        None => each_unknown(table, envelopes),
    };
    Registration::Exclusive(Box::new(Together(together)))
}

/// A handler for several at the same time.
pub(crate) fn concurrent<T, R, E, I>(
    retry: Retry<E>,
    handler: impl Fn(&[&T]) -> I + Send + Sync + 'static,
) -> Registration<Table>
where
    T: Send + 'static,
    R: Send + 'static,
    E: Into<BoxError> + 'static,
    I: IntoIterator<Item = Result<R, E>>,
{
    let kept = Kept::new((retry, handler));
    let together = move |table: &Table, envelopes: &mut [&mut Envelope]| match kept.get() {
        Some((retry, handler)) => run(table, envelopes, retry, handler),
        None => each_unknown(table, envelopes),
    };
    Registration::Concurrent(Arc::new(Together(together)))
}

fn each_unknown(table: &Table, envelopes: &mut [&mut Envelope]) -> Vec<Ended> {
    let each = envelopes.iter();
    each.map(|envelope| table.unknown(envelope)).collect()
}

/// Has the payload of a post that lies in its envelope in memory of its own, where it can be lent.
fn share<T: Send + 'static>(envelope: &mut Envelope) {
    if envelope.message().is_none()
        && let Some(data) = envelope.unpost::<T>().map(Kept::new)
        && let Route::Known(kind) = envelope.route()
    {
        restore(envelope, kind, data);
    }
}

/// The payload of a message, if its types are those of the handler.
fn payload_of<T: 'static, R: 'static>(envelope: &Envelope) -> Option<&PayloadCell<T>> {
    match Ask::<T, R>::within(envelope) {
        Some(ask) => Some(&ask.payload),
        None => Post::<T>::within(envelope).map(|post| &post.payload),
    }
}

/// Gives messages to the handler of their kind, but for those whose types do not agree. Says how each ended.
fn run<T, R, E, I>(
    table: &Table,
    envelopes: &mut [&mut Envelope],
    retry: &Retry<E>,
    handler: impl FnOnce(&[&T]) -> I,
) -> Vec<Ended>
where
    T: Send + 'static,
    R: Send + 'static,
    E: Into<BoxError>,
    I: IntoIterator<Item = Result<R, E>>,
{
    for envelope in envelopes.iter_mut() {
        share::<T>(envelope);
    }
    let mut results = attempt(table, envelopes, retry, handler);
    let each = envelopes.iter_mut().zip(&mut results);
    each.map(|(envelope, result)| match result.take() {
        None => {
            let kind = table.kind_of(envelope);
            let mismatch = envelope.mismatch(&kind, type_name::<T>(), type_name::<R>());
            table.fail(envelope, AskError::WrongType(mismatch))
        }
        Some(Ok(reply)) => {
            drop(
                payload_of::<T, R>(envelope)
                    .and_then(PayloadCell::take)
                    .map(Kept::new),
            );
            complete::<T, R>(envelope, reply)
        }
        Some(Err(failed)) => end(table, envelope, retry, failed),
    })
    .collect()
}

/// What an attempt made of each message; `None` where its types do not agree with those of the handler.
type TriedEach<R> = Option<Result<Kept<R>, FailedAttempt>>;

/// Makes one attempt.
fn attempt<T, R, E, I>(
    table: &Table,
    envelopes: &[&mut Envelope],
    retry: &Retry<E>,
    handler: impl FnOnce(&[&T]) -> I,
) -> Vec<TriedEach<R>>
where
    T: Send + 'static,
    R: Send + 'static,
    E: Into<BoxError>,
    I: IntoIterator<Item = Result<R, E>>,
{
    let loans = envelopes
        .iter()
        .map(|envelope| payload_of::<T, R>(envelope)?.borrow());
    let loans: Vec<Option<Loan<'_, T>>> = loans.collect();
    let data: Vec<&T> = loans.iter().flatten().map(|loan| &**loan).collect();
    let count = data.len();
    let Some(first) = envelopes.first().filter(|_| count > 0) else {
        return loans.iter().map(|_| None).collect();
    };
    let kind = table.kind_of(first);
    let with_data = envelopes.iter().zip(&loans);
    let with_data = with_data.filter(|(_, loan)| loan.is_some());
    let of_data: Vec<&Envelope> = with_data.map(|(envelope, _)| &**envelope).collect();
    let all = (envelopes.len() > 1).then(|| company(kind.clone(), envelopes));
    let called = noted::during(all.as_ref().unwrap_or(first), || {
        contained(|| {
            // Results may come as they are asked for, and their errors' conversion is the user's code too.
            let mut of_data = of_data.iter();
            let each = handler(&data).into_iter().map(|result| {
                // Where there are more results than messages, none of them counts.
                let of = of_data.next().copied().unwrap_or(first);
                result.map(Kept::new).map_err(|error| {
                    let (error, again) = judged(of, retry, error);
                    let error = AskError::Failed(error);
                    FailedAttempt { error, again }
                })
            });
            each.collect::<Vec<_>>()
        })
    });
    let results = match called {
        Ok(results) if results.len() == count => results,
        Ok(results) => {
            let text = format!(
                "the handler of `{kind}` returned {} results for a batch of {count} messages",
                results.len()
            );
            let fail = || FailedAttempt {
                error: AskError::Failed(text.clone().into()),
                // It would not count better.
                again: false,
            };
            (0..count).map(|_| Err(fail())).collect()
        }
        Err(panic) => {
            let text = panic.into_text();
            let fail = |of: &&Envelope| FailedAttempt {
                error: AskError::Panicked(text.clone()),
                again: is_for_panics(of, retry),
            };
            of_data.iter().map(|of| Err(fail(of))).collect()
        }
    };
    let mut results = results.into_iter();
    let each = loans
        .iter()
        .map(|loan| loan.as_ref().and_then(|_| results.next()));
    each.collect()
}
