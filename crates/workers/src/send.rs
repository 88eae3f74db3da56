//! The way into a mailbox: what a worker and a pool have in common.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pytoweb_engine::{self as engine, Overflow, PostError, Ticket};

use crate::ask::{AskMessage, AskRoute};
use crate::closure::Itself;
use crate::dead_letter::DeadLetter;
use crate::dispatch::Dispatch;
use crate::error::{SendError, TypeMismatch};
use crate::message::{Envelope, Target};
use crate::reply::Reply;
use crate::spans;
use crate::wishes::Wishes;

pub(crate) type Engine = engine::Worker<Dispatch>;

/// Messages of a batch that are made before the mailbox is asked for room.
const BATCH: usize = 1024;

/// What to do while a mailbox that makes senders wait is full.
#[derive(Clone, Copy)]
pub(crate) enum Patience {
    Wait,
    WaitFor(Duration),
    /// Wait, and let the message expire when the time is up; only for asks.
    Deadline(Duration),
    /// Give up, which counts as rejected.
    Never,
}

/// Where a message of this kind goes, if the handler agrees with its type.
fn resolve<T: 'static>(engine: &Engine, kind: &str, data: T) -> Result<(Target, T), SendError<T>> {
    match engine.handler().table.kinds.find(kind) {
        Some((id, known)) => match known.check_payload::<T>() {
            Ok(()) => Ok((Target::Known(id), data)),
            Err(mismatch) => Err(SendError::WrongType(data, mismatch)),
        },
        None => Ok((Target::Named(kind.into()), data)),
    }
}

#[inline]
fn enter(
    engine: &Engine,
    place: &mut Option<Envelope>,
    patience: Patience,
) -> Result<(), PostError<Envelope>> {
    if spans::are_wanted() {
        *place = place
            .take()
            .map(|envelope| spans::send(&engine.handler().table, envelope));
    }
    match patience {
        Patience::Wait => engine.post_from(place, None),
        Patience::WaitFor(limit) | Patience::Deadline(limit) => {
            engine.post_from(place, Some(limit))
        }
        Patience::Never => engine.try_post_from(place).inspect_err(|error| {
            if matches!(error, PostError::Full(_)) && engine.overflow() == Overflow::Block {
                engine.give_up(1);
            }
        }),
    }
}

/// The payload of a message that was refused.
fn unpack<T: 'static>(mut envelope: Envelope) -> T {
    let data = envelope.unpost();
    data.expect("a refused message is as it was sent")
}

/// Whether messages of this kind may be tried again, as far as is known: a handler may be registered later.
pub(crate) fn may_retry(engine: &Engine, kind: &str) -> bool {
    let known = engine.handler().table.kinds.find(kind);
    known.is_none_or(|(_, known)| known.retries())
}

/// Puts on the message of `kind` in `place` what its sender, and its kind, ask of the mailbox. In place, for the reason that
/// [`Engine::post_from`] has.
#[inline]
fn plan(engine: &Engine, kind: &str, place: &mut Option<Envelope>, wishes: Option<Wishes>) {
    let of_kind = engine.handler().table.plans.of(kind);
    if wishes.is_none() && of_kind.is_none() {
        return;
    }
    let now = || engine.pool().clock().now();
    wishes.unwrap_or_default().put_on(place, kind, of_kind, now);
}

pub(crate) fn post<T: Send + 'static>(
    engine: &Engine,
    kind: &str,
    data: T,
    wishes: Option<Wishes>,
    patience: Patience,
) -> Result<(), SendError<T>> {
    let (target, data) = resolve(engine, kind, data)?;
    let mut place = Some(Envelope::post(target, data));
    plan(engine, kind, &mut place, wishes);
    enter(engine, &mut place, patience).map_err(|error| SendError::from_post(error, unpack))
}

pub(crate) fn ask<T: Send + 'static, R: Send + 'static>(
    engine: &Engine,
    kind: &str,
    data: T,
    wishes: Option<Wishes>,
    patience: Patience,
) -> Result<Reply<R>, SendError<T>> {
    match target::<T, R>(engine, kind) {
        Ok(Target::Known(id)) => {
            let asked = Arc::new(AskMessage::new(id, data));
            enter_ask((engine, kind), asked, wishes, patience)
        }
        Ok(Target::Named(name)) => {
            let asked = Arc::new(AskMessage::new(name, data));
            enter_ask((engine, kind), asked, wishes, patience)
        }
        Err(mismatch) => Err(SendError::WrongType(data, mismatch)),
    }
}

/// Where an ask of this kind goes, if the handler agrees with its types.
fn target<T: 'static, R: 'static>(engine: &Engine, kind: &str) -> Result<Target, TypeMismatch> {
    let Some((id, known)) = engine.handler().table.kinds.find(kind) else {
        return Ok(Target::Named(kind.into()));
    };
    known.check_payload::<T>()?;
    known.check_reply::<R>()?;
    Ok(Target::Known(id))
}

#[inline]
fn enter_ask<W: AskRoute<T, R>, T, R>(
    (engine, kind): (&Engine, &str),
    ask: Arc<AskMessage<W, T, R>>,
    wishes: Option<Wishes>,
    patience: Patience,
) -> Result<Reply<R>, SendError<T>>
where
    T: Send + 'static,
    R: Send + 'static,
{
    let asked = match patience {
        Patience::Deadline(_) => Some(Instant::now()),
        _ => None,
    };
    let mut place = Some(Envelope::of(ask.clone()));
    plan(engine, kind, &mut place, wishes);
    if let Err(error) = enter(engine, &mut place, patience) {
        return Err(SendError::from_post(error, |_| ask.take_back()));
    }
    if let (Patience::Deadline(limit), Some(asked)) = (patience, asked) {
        let ticket: Arc<dyn Ticket> = ask.clone();
        let left = limit.saturating_sub(asked.elapsed());
        // When no thread can watch the deadline, the message does not stay where it might outlive it. One that runs
        // already, or is over, has its payload no more: there the reply comes without a deadline.
        if let Err(error) = engine.set_deadline(&ticket, left)
            && engine.address().cancel(&ticket)
            && let Some(data) = ask.ask.payload.take()
        {
            return Err(SendError::NoThread(data, error));
        }
    }
    Ok(Reply::new(ask, engine.handler().entry.id()))
}

/// Posts in batches, and gives back what was refused.
pub(crate) fn post_many<T: Send + 'static>(
    engine: &Engine,
    kind: &str,
    items: impl IntoIterator<Item = T>,
) -> Result<usize, SendError<Vec<T>>> {
    let mut items = items.into_iter();
    let mut accepted = 0;
    loop {
        let mut batch = VecDeque::new();
        for data in items.by_ref().take(BATCH) {
            match resolve(engine, kind, data) {
                Ok((target, data)) => {
                    let mut place = Some(Envelope::post(target, data));
                    plan(engine, kind, &mut place, None);
                    if spans::are_wanted() {
                        place =
                            place.map(|envelope| spans::send(&engine.handler().table, envelope));
                    }
                    batch.extend(place);
                }
                Err(error) => {
                    let mut rest: Vec<T> = batch.into_iter().map(unpack).collect();
                    return Err(error.map(|data| {
                        rest.push(data);
                        rest.extend(items);
                        rest
                    }));
                }
            }
        }
        if batch.is_empty() {
            return Ok(accepted);
        }
        let refused = match engine.post_many(&mut batch) {
            Ok(entered) => {
                accepted += entered;
                None
            }
            Err((entered, error)) => {
                accepted += entered;
                Some(error)
            }
        };
        if let Some(error) = refused {
            let mut rest: Vec<T> = batch.into_iter().map(unpack).collect();
            rest.extend(items);
            if matches!(error, PostError::Full(()) | PostError::WouldDeadlock(())) {
                // The mailbox has counted one refusal under the policy that refuses, none under the one that waits.
                let counted = usize::from(engine.overflow() == Overflow::Reject);
                engine.give_up(rest.len() - counted);
            }
            return Err(SendError::from_post(error, |()| rest));
        }
    }
}

/// Posts the message of a dead letter. False: its payload is gone.
pub(crate) fn post_again(engine: &Engine, letter: &DeadLetter) -> Result<bool, SendError<()>> {
    let Some(post) = letter.take_post() else {
        return Ok(false);
    };
    let mut place = Some(Envelope::of(post));
    plan(engine, letter.kind(), &mut place, None);
    let refused = enter(engine, &mut place, Patience::Wait);
    refused.map(|()| true).map_err(|error| {
        SendError::from_post(error, |envelope| {
            if let Some(post) = envelope.into_message() {
                letter.put_back(post);
            }
        })
    })
}

/// Sends a closure that is its own handler; `name` is what its kind is called.
pub(crate) fn submit<F, R>(
    engine: &Engine,
    name: &'static str,
    closure: F,
) -> Result<Reply<R>, SendError<F>>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    let message = Arc::new(AskMessage::new(Itself(name), closure));
    match enter(
        engine,
        &mut Some(Envelope::of(message.clone())),
        Patience::Wait,
    ) {
        Ok(()) => Ok(Reply::new(message, engine.handler().entry.id())),
        Err(error) => Err(SendError::from_post(error, |_| message.take_back())),
    }
}
