//! Handlers whose messages are tried again: each attempt gets the payload by reference, so that it is there for the
//! next one.

use std::any::type_name;
use std::mem;
use std::sync::Arc;

use pytoweb_engine::{Message, Outcome, contained};

use crate::ask::Ask;
use crate::error::{AskError, BoxError};
use crate::kept::Kept;
use crate::kind_id::KindId;
use crate::kinds::Registration;
use crate::lock::lock;
use crate::message::{Ended, Envelope, Post, Route};
use crate::noted;
use crate::retried::attempts_of;
use crate::retry::Retry;
use crate::table::Table;

/// A handler for one message at a time.
pub(crate) fn exclusive<T, R, E>(
    retry: Retry<E>,
    handler: impl FnMut(&T) -> Result<R, E> + Send + 'static,
) -> Registration<Table>
where
    T: Send + 'static,
    R: Send + 'static,
    E: Into<BoxError> + 'static,
{
    let mut kept = Kept::new((retry, handler));
    Registration::Exclusive(Box::new(
        move |table: &Table, envelope: &mut Envelope| match kept.get_mut() {
            Some((retry, handler)) => run(table, envelope, retry, handler),
            None => table.unknown(envelope),
        },
    ))
}

/// A handler for several at the same time.
pub(crate) fn concurrent<T, R, E>(
    retry: Retry<E>,
    handler: impl Fn(&T) -> Result<R, E> + Send + Sync + 'static,
) -> Registration<Table>
where
    T: Send + 'static,
    R: Send + 'static,
    E: Into<BoxError> + 'static,
{
    let kept = Kept::new((retry, handler));
    Registration::Concurrent(Arc::new(
        move |table: &Table, envelope: &mut Envelope| match kept.get() {
            Some((retry, handler)) => run(table, envelope, retry, handler),
            None => table.unknown(envelope),
        },
    ))
}

/// An attempt that failed.
pub(crate) struct FailedAttempt {
    pub(crate) error: AskError,
    /// There may be another one after this error.
    pub(crate) again: bool,
}

/// Makes one attempt.
fn attempt<T, R, E: Into<BoxError>>(
    envelope: &Envelope,
    retry: &Retry<E>,
    handler: impl FnOnce(&T) -> Result<R, E>,
    data: &T,
) -> Result<R, FailedAttempt> {
    let called = noted::during(envelope, || {
        contained(|| match handler(data) {
            Ok(reply) => Ok(reply),
            Err(error) => Err(judged(envelope, retry, error)),
        })
    });
    match called {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err((error, again))) => Err(FailedAttempt {
            error: AskError::Failed(error),
            again,
        }),
        Err(panic) => Err(FailedAttempt {
            error: AskError::Panicked(panic.into_text()),
            again: is_for_panics(envelope, retry),
        }),
    }
}

/// The error of an attempt, and whether there may be another one after it: as the sender of the message says, or else as is
/// laid down for its kind. The panic hook has reported a predicate that panics.
pub(crate) fn judged<E: Into<BoxError>>(
    envelope: &Envelope,
    retry: &Retry<E>,
    error: E,
) -> (BoxError, bool) {
    let Some(own) = envelope.own_retry() else {
        let again = contained(|| retry.is_for(&error)).unwrap_or(false);
        return (error.into(), again);
    };
    let error = error.into();
    let again = contained(|| own.is_for(&error)).unwrap_or(false);
    (error, again)
}

/// The same of a panic.
pub(crate) fn is_for_panics<E>(envelope: &Envelope, retry: &Retry<E>) -> bool {
    let own = envelope.own_retry();
    own.map_or_else(|| retry.is_for_panics(), Retry::is_for_panics)
}

/// Gives a message to the handler of its kind, if the types agree.
fn run<T, R, E>(
    table: &Table,
    envelope: &mut Envelope,
    retry: &Retry<E>,
    handler: impl FnOnce(&T) -> Result<R, E>,
) -> Ended
where
    T: Send + 'static,
    R: Send + 'static,
    E: Into<BoxError>,
{
    if let Some(ask) = Ask::<T, R>::within(envelope) {
        let lent = |data: &T| attempt(envelope, retry, handler, data);
        return match ask.payload.lend(lent) {
            Some(Ok(reply)) => {
                drop(ask.payload.take().map(Kept::new));
                Ended::of(Outcome::Completed, ask.reply.settle(Ok(reply)))
            }
            Some(Err(failed)) => end(table, envelope, retry, failed),
            None => table.unknown(envelope),
        };
    }
    let tried = if let Some(post) = Post::<T>::within(envelope) {
        let lent = |data: &T| attempt(envelope, retry, handler, data);
        let tried = post.payload.lend(lent);
        if matches!(tried, Some(Ok(_))) {
            drop(post.payload.take().map(Kept::new));
        }
        tried
    } else if let Some(data) = envelope.unpost::<T>() {
        // It lay in its envelope, and lies in memory of its own from the first failure on.
        let data = Kept::new(data);
        let tried = data
            .get()
            .map(|data| attempt(envelope, retry, handler, data));
        if let (Some(Err(_)), Route::Known(kind)) = (&tried, envelope.route()) {
            restore(envelope, kind, data);
        }
        tried
    } else {
        let kind = table.kind_of(envelope);
        let mismatch = envelope.mismatch(&kind, type_name::<T>(), type_name::<R>());
        return table.fail(envelope, AskError::WrongType(mismatch));
    };
    match tried {
        Some(Ok(reply)) => {
            // No caller asked for it, and its destructor may panic.
            drop(Kept::new(reply));
            Ended::Settled(Outcome::Completed)
        }
        Some(Err(failed)) => end(table, envelope, retry, failed),
        None => table.unknown(envelope),
    }
}

/// Puts `data`, which lay in its envelope, into memory of its own.
pub(crate) fn restore<T: Send + 'static>(envelope: &mut Envelope, kind: KindId, mut data: Kept<T>) {
    if let Some(data) = data.take() {
        envelope.restore(kind, data);
    }
}

/// What follows from an attempt that failed: another one, or the end.
#[cold]
pub(crate) fn end<E>(
    table: &Table,
    envelope: &mut Envelope,
    retry: &Retry<E>,
    failed: FailedAttempt,
) -> Ended {
    let FailedAttempt { error, again } = failed;
    // A caller that has given it up waits for no more attempts.
    let given_up = envelope
        .state()
        .is_some_and(|state| state.is_over() || state.is_cancel_requested());
    let own = envelope.own_retry().cloned();
    let Some(attempts) = attempts_of(envelope) else {
        return table.fail(envelope, error);
    };
    let mut attempts = lock(attempts);
    let made = attempts.next();
    let wait = own.map_or_else(|| retry.wait_after(made), |own| own.wait_after(made));
    match wait {
        Some(wait) if again && !given_up => {
            attempts.errors.push(error);
            attempts.wait = wait;
            Ended::Again
        }
        _ => {
            let errors = mem::take(&mut attempts.errors);
            drop(attempts);
            table.fail_for_good(envelope, errors, error)
        }
    }
}
