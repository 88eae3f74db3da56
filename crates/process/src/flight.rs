//! A message on its way through a lane: its request, and the fields that a lane decides by.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use pytoweb_engine::BatchKey;

use crate::frame::{Request, TooLong, control, encode_request};
use crate::payload::{AreaPlace, Payload};
use crate::store::Store;

/// What many requests refer to by a number: a child is sent it once, before the first of them.
#[derive(Debug)]
pub struct Definition {
    /// The number, in the whole program.
    pub number: u32,
    /// What the child makes of it.
    pub payload: Arc<Payload>,
    /// How much of a child's memory it counts for.
    pub bytes: usize,
}

/// A request that waits to be sent, whatever language its message is of.
#[derive(Debug)]
pub struct OwnedRequest {
    /// What the worker's handlers are chosen by.
    pub kind: Arc<str>,
    /// The sender's name for the message.
    pub id: Option<Box<str>>,
    /// What surrounds the call in the sender's language; empty for nothing.
    pub context: Box<[u8]>,
    /// The data.
    pub payload: Payload,
    /// What the payload refers to by a number.
    pub definition: Option<Arc<Definition>>,
    /// The language's bits: see [`Request::flags`].
    pub flags: u32,
    /// How many times it may be begun.
    pub max_attempts: u32,
    /// Which of these the child was last sent it for, from 1, those of earlier deliveries included.
    pub attempt: AtomicU32,
    /// The attempts of earlier deliveries, after which it went back to be tried again.
    pub earlier: AtomicU32,
    /// The requests of the messages that are run together with this one, whose attempts are counted with it.
    pub company: Box<[Arc<Self>]>,
}

impl OwnedRequest {
    /// One for the messages of several, which run together; but for their payloads it is as the first one.
    pub(crate) fn together(
        first: &Arc<Self>,
        others: &[&Arc<Self>],
        store: Option<Arc<Store>>,
    ) -> Self {
        let all = std::iter::once(first).chain(others.iter().copied());
        let company = all.cloned().collect();
        let others = others.iter().map(|other| &other.payload);
        // ORDERING: Relaxed, see `attempt`.
        let earlier = first.earlier.load(Ordering::Relaxed);
        Self {
            kind: first.kind.clone(),
            id: first.id.clone(),
            context: first.context.clone(),
            payload: Payload::together(std::iter::once(&first.payload).chain(others), store),
            definition: None,
            flags: first.flags | control::TOGETHER,
            max_attempts: first.max_attempts,
            attempt: AtomicU32::new(1),
            earlier: AtomicU32::new(earlier),
            company,
        }
    }

    /// Which attempt it is, or would be, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        // ORDERING: Relaxed, read after the message has come back under a lock.
        self.attempt.load(Ordering::Relaxed)
    }

    /// Takes note of an attempt of this delivery, from 1. Returns which of all it is.
    fn count(&self, attempt: u32) -> u32 {
        // ORDERING: Relaxed, see `attempt`.
        let attempt = attempt + self.earlier.load(Ordering::Relaxed);
        self.attempt.store(attempt, Ordering::Relaxed);
        attempt
    }

    /// Writes the head of its frame; [`area`] is the rest.
    pub(crate) fn encode(
        &self,
        (seq, worker, attempt): (u64, u32, u32),
        frame: &mut Vec<u8>,
    ) -> Result<(), TooLong> {
        for one in &self.company {
            one.count(attempt);
        }
        let attempt = self.count(attempt);
        let request = Request {
            seq,
            worker,
            attempt,
            flags: self.flags,
            kind: &self.kind,
            id: self.id.as_deref(),
            context: &self.context,
            payload: &self.payload,
        };
        encode_request(&request, frame)
    }
}

/// What follows the head of a frame: the payload, where it goes inline.
pub(crate) fn area(payload: &Payload) -> &[u8] {
    match payload.place() {
        AreaPlace::Inline(area) => area,
        _ => &[],
    }
}

/// One message on its way through a child.
#[derive(Debug)]
pub struct Flight<C> {
    /// What the child is sent.
    pub request: Arc<OwnedRequest>,
    /// Which of its attempts is next, or under way, from 1.
    pub attempt: u32,
    /// The number of its worker in this fleet, from 1.
    pub worker: u32,
    /// The child must have this version of the worker's configuration, or a later one, first; 0: it needs none.
    pub config_version: u32,
    /// How many messages it is: more than one where several run together.
    pub messages: u64,
    /// Another lane could run it just as well.
    pub may_go_elsewhere: bool,
    /// What it was handed over with, if that can be more than itself.
    pub batch: Option<BatchKey>,
    /// What is told of its end.
    pub cargo: C,
}

impl<C> Flight<C> {
    /// How many messages it is, for what may get below nothing.
    pub(crate) fn count(&self) -> i64 {
        i64::try_from(self.messages).unwrap_or(i64::MAX)
    }
}
