//! The way into a mailbox: what a worker and a pool have in common.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pytoweb_engine::{self as engine, Overflow, PostError, Ticket};

use crate::dispatch::Dispatch;
use crate::error::SendError;
use crate::message::{Ask, Envelope, Payload, Post, Settling, Target, Task};
use crate::reply::Reply;

pub(crate) type Engine = engine::Worker<Dispatch>;

/// Messages of a batch that are made before the mailbox is asked for room.
const BATCH: usize = 1024;

/// What to do while a mailbox that makes senders wait is full.
#[derive(Clone, Copy)]
pub(crate) enum Room {
    Wait,
    WaitFor(Duration),
    /// Give up, which counts as rejected.
    Now,
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

fn enter(engine: &Engine, envelope: Envelope, room: Room) -> Result<(), PostError<Envelope>> {
    match room {
        Room::Wait => engine.post(envelope, None),
        Room::WaitFor(limit) => engine.post(envelope, Some(limit)),
        Room::Now => engine.try_post(envelope).inspect_err(|error| {
            if matches!(error, PostError::Full(_)) && engine.overflow() == Overflow::Block {
                engine.give_up(1);
            }
        }),
    }
}

/// The payload of a message that was refused.
fn unpack<T: 'static>(envelope: &Envelope) -> T {
    envelope
        .0
        .as_any()
        .downcast_ref::<Post<T>>()
        .and_then(|post| post.payload.take())
        .expect("a refused message is as it was sent")
}

pub(crate) fn post<T: Send + 'static>(
    engine: &Engine,
    kind: &str,
    data: T,
    room: Room,
) -> Result<(), SendError<T>> {
    let (target, data) = resolve(engine, kind, data)?;
    let envelope = Envelope(Arc::new(Post {
        target,
        payload: Payload::new(data),
    }));
    enter(engine, envelope, room)
        .map_err(|error| SendError::from_post(error, |envelope| unpack(&envelope)))
}

pub(crate) fn ask<T: Send + 'static, R: Send + 'static>(
    engine: &Engine,
    kind: &str,
    data: T,
    room: Room,
) -> Result<Reply<R>, SendError<T>> {
    let ask = new_ask(engine, kind, data)?;
    match enter(engine, Envelope(ask.clone()), room) {
        Ok(()) => Ok(Reply::new(ask, engine.address())),
        Err(error) => Err(SendError::from_post(error, |_| take_back(&ask.payload))),
    }
}

/// An ask whose message expires after `limit`, which waiting for room is part of.
pub(crate) fn ask_timeout<T: Send + 'static, R: Send + 'static>(
    engine: &Engine,
    kind: &str,
    data: T,
    limit: Duration,
) -> Result<Reply<R>, SendError<T>> {
    let asked = Instant::now();
    let ask = new_ask(engine, kind, data)?;
    if let Err(error) = enter(engine, Envelope(ask.clone()), Room::WaitFor(limit)) {
        return Err(SendError::from_post(error, |_| take_back(&ask.payload)));
    }
    let ticket: Arc<dyn Ticket> = ask.clone();
    let left = limit.saturating_sub(asked.elapsed());
    if let Err(error) = engine.set_deadline(&ticket, left) {
        // Nobody would watch the deadline, so the message does not stay where it might outlive it. One that runs
        // already, or is over, has its payload no more: there the reply comes without a deadline.
        if engine.address().cancel(&ticket)
            && let Some(data) = ask.payload.take()
        {
            return Err(SendError::NoThread(data, error));
        }
    }
    Ok(Reply::new(ask, engine.address()))
}

fn new_ask<T: Send + 'static, R: Send + 'static>(
    engine: &Engine,
    kind: &str,
    data: T,
) -> Result<Arc<Ask<T, R>>, SendError<T>> {
    let target = match engine.handler().table.kinds.find(kind) {
        Some((id, known)) => {
            match known
                .check_payload::<T>()
                .and_then(|()| known.check_reply::<R>())
            {
                Ok(()) => Target::Known(id),
                Err(mismatch) => return Err(SendError::WrongType(data, mismatch)),
            }
        }
        None => Target::Named(kind.into()),
    };
    Ok(Arc::new(Ask {
        target,
        payload: Payload::new(data),
        reply: Settling::new(),
    }))
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
                Ok((target, data)) => batch.push_back(Envelope(Arc::new(Post {
                    target,
                    payload: Payload::new(data),
                }))),
                Err(error) => {
                    let mut rest: Vec<T> = batch.iter().map(unpack).collect();
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
        let (entered, result) = enter_many(engine, &mut batch);
        accepted += entered;
        if let Err(error) = result {
            let mut rest: Vec<T> = batch.iter().map(unpack).collect();
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

/// Waits for room where the policy says so. Returns how many were accepted, also before an error.
fn enter_many(
    engine: &Engine,
    batch: &mut VecDeque<Envelope>,
) -> (usize, Result<(), PostError<()>>) {
    let mut accepted = 0;
    loop {
        match engine.try_post_many(batch) {
            Ok(entered) => return (accepted + entered, Ok(())),
            Err((entered, PostError::Full(()))) if engine.overflow() == Overflow::Block => {
                accepted += entered;
                if engine.wait_for_room(None).is_err() {
                    return (accepted, Err(PostError::WouldDeadlock(())));
                }
            }
            Err((entered, error)) => return (accepted + entered, Err(error)),
        }
    }
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
    let task = Arc::new(Task {
        target: Target::Itself(name),
        closure: Payload::new(closure),
        reply: Settling::new(),
    });
    match enter(engine, Envelope(task.clone()), Room::Wait) {
        Ok(()) => Ok(Reply::new(task, engine.address())),
        Err(error) => Err(SendError::from_post(error, |_| take_back(&task.closure))),
    }
}

fn take_back<T>(payload: &Payload<T>) -> T {
    payload.take().expect("a refused message is as it was sent")
}
