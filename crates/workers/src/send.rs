//! The way into a mailbox: what a worker and a pool have in common.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use pytoweb_engine::{self as engine, Overflow, PostError, Ticket};

use crate::dispatch::{Dispatch, run_typed};
use crate::error::{BoxError, SendError};
use crate::kinds::{Registration, Signature};
use crate::message::{Answer, Ask, Envelope, Payload, Post, Settling, Target, Task};
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

fn enter(
    engine: &Engine,
    envelope: Envelope,
    room: Room,
) -> Result<(), PostError<Envelope>> {
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
    let (target, data) = match engine.handler().table.kinds.find(kind) {
        Some((id, known)) => {
            if let Err(mismatch) = known.check_payload::<T>().and_then(|()| known.check_reply::<R>())
            {
                return Err(SendError::WrongType(data, mismatch));
            }
            (Target::Known(id), data)
        }
        None => (Target::Named(kind.into()), data),
    };
    let ask = Arc::new(Ask {
        target,
        payload: Payload::new(data),
        reply: Settling::<R>::new(),
    });
    match enter(engine, Envelope(ask.clone()), room) {
        Ok(()) => Ok(Reply::new(ask, engine.address())),
        Err(error) => Err(SendError::from_post(error, |_| {
            ask.payload
                .take()
                .expect("a refused message is as it was sent")
        })),
    }
}
