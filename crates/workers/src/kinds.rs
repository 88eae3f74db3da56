//! The handlers of one worker, by kind.
//!
//! Senders look a kind up for every message, to refuse a payload of the wrong type at the call, and the worker looks
//! up the handler. Both only read: a kind, once registered, stays where it is, and a `OnceLock` is read without
//! writing to it, so that no cache line goes back and forth between the threads. What a sender found it leaves in
//! the message as a [`KindId`], so the worker compares no names.

use std::any::{TypeId, type_name};
use std::hash::{Hash, Hasher};
use std::iter;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use crate::dispatch::{Ended, Table};
use crate::error::{AskError, TypeMismatch};
use crate::message::{Kept, Parcel};

/// Chains that the kinds are spread over: most workers have fewer kinds than this, so most chains hold one.
const CHAINS: usize = 8;

/// A handler for one message at a time.
pub(crate) type Exclusive = Box<dyn FnMut(&Table, Arc<dyn Parcel>) -> Ended + Send>;
/// A handler for several at the same time.
pub(crate) type Concurrent = Arc<dyn Fn(&Table, Arc<dyn Parcel>) -> Ended + Send + Sync>;

/// Where a handler is kept between messages.
pub(crate) enum Stored {
    /// Taken out while it runs, so that it can be replaced from inside.
    Exclusive(Mutex<Option<Exclusive>>),
    Concurrent(RwLock<Concurrent>),
}

/// A handler on its way into a [`Kind`].
pub(crate) enum Registration {
    Exclusive(Exclusive),
    Concurrent(Concurrent),
}

/// The types of a handler.
#[derive(Clone, Copy)]
pub(crate) struct Signature {
    payload: u64,
    reply: u64,
    payload_name: &'static str,
    reply_name: &'static str,
}

impl Signature {
    pub(crate) fn of<T: 'static, R: 'static>() -> Self {
        Self {
            payload: fingerprint::<T>(),
            reply: fingerprint::<R>(),
            payload_name: type_name::<T>(),
            reply_name: type_name::<R>(),
        }
    }
}

/// Folds what a `TypeId` feeds it, which is a good hash already.
struct Fold(u64);

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = self.0.rotate_left(32) ^ value;
    }
}

/// Equal for equal types. Two types that share one by chance are told apart when the message is handled.
fn fingerprint<T: 'static>() -> u64 {
    let mut fold = Fold(0);
    TypeId::of::<T>().hash(&mut fold);
    fold.finish()
}

/// One kind and its handler.
pub(crate) struct Kind {
    name: Box<str>,
    payload: AtomicU64,
    reply: AtomicU64,
    signature: Mutex<Signature>,
    stored: Stored,
    next: OnceLock<Box<Self>>,
}

impl Kind {
    fn new(name: &str, signature: Signature, registration: Registration) -> Self {
        Self {
            name: name.into(),
            payload: AtomicU64::new(signature.payload),
            reply: AtomicU64::new(signature.reply),
            signature: Mutex::new(signature),
            stored: match registration {
                Registration::Exclusive(handler) => Stored::Exclusive(Mutex::new(Some(handler))),
                Registration::Concurrent(handler) => Stored::Concurrent(RwLock::new(handler)),
            },
            next: OnceLock::new(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn signature_names(&self) -> (&'static str, &'static str) {
        let signature = lock(&self.signature);
        (signature.payload_name, signature.reply_name)
    }

    /// Whether the handler takes `T`.
    pub(crate) fn check_payload<T: 'static>(&self) -> Result<(), TypeMismatch> {
        // ORDERING: Relaxed. A sender that races with a replacement may meet either handler; one that comes after it
        // sees the new value, because both are accesses of one atomic.
        if self.payload.load(Ordering::Relaxed) == fingerprint::<T>() {
            return Ok(());
        }
        Err(TypeMismatch::payload::<T>(
            &self.name,
            self.signature_names().0,
        ))
    }

    /// Whether the handler replies with `R`.
    pub(crate) fn check_reply<R: 'static>(&self) -> Result<(), TypeMismatch> {
        // ORDERING: Relaxed, see `check_payload`.
        if self.reply.load(Ordering::Relaxed) == fingerprint::<R>() {
            return Ok(());
        }
        Err(TypeMismatch::reply::<R>(
            &self.name,
            self.signature_names().1,
        ))
    }

    /// Replaces the handler, and returns the old one for the caller to drop outside of the locks.
    fn replace(&self, signature: Signature, registration: Registration) -> Option<Registration> {
        // Held to the end, so that of two threads that register the same one wins in all places.
        let mut current = lock(&self.signature);
        *current = signature;
        // ORDERING: Relaxed, see `check_payload`.
        self.payload.store(signature.payload, Ordering::Relaxed);
        self.reply.store(signature.reply, Ordering::Relaxed);
        match (&self.stored, registration) {
            (Stored::Exclusive(stored), Registration::Exclusive(handler)) => {
                lock(stored).replace(handler).map(Registration::Exclusive)
            }
            (Stored::Concurrent(stored), Registration::Concurrent(handler)) => {
                let mut stored = stored.write().unwrap_or_else(PoisonError::into_inner);
                Some(Registration::Concurrent(std::mem::replace(
                    &mut *stored,
                    handler,
                )))
            }
            // A worker registers only the one sort, a pool only the other.
            (_, registration) => Some(registration),
        }
    }

    /// Gives `parcel` to the handler, which does not panic.
    pub(crate) fn run(&self, table: &Table, parcel: Arc<dyn Parcel>) -> Ended {
        match &self.stored {
            Stored::Exclusive(stored) => {
                let handler = lock(stored).take();
                let Some(mut handler) = handler else {
                    // Messages come one at a time, so it is always there; an error is better than a panic.
                    let kind = self.name.to_string();
                    return table.fail(parcel, AskError::Unknown { kind });
                };
                let ended = handler(table, parcel);
                let mut stored = lock(stored);
                if stored.is_none() {
                    *stored = Some(handler);
                } else {
                    // Replaced while it ran. It is dropped outside of the lock.
                    drop(stored);
                    drop(Kept::new(handler));
                }
                ended
            }
            Stored::Concurrent(stored) => {
                let handler = stored
                    .read()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone();
                handler(table, parcel)
            }
        }
    }
}

/// The place of a [`Kind`], valid for the worker that gave it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KindId(u32);

/// The handlers of one worker.
#[derive(Default)]
pub(crate) struct Kinds {
    chains: [OnceLock<Box<Kind>>; CHAINS],
    registering: Mutex<()>,
}

impl Kinds {
    /// Cheap, and enough to spread names: kinds of one worker mostly differ in length or at the ends.
    fn chain(name: &str) -> usize {
        let bytes = name.as_bytes();
        let first = bytes.first().copied().unwrap_or(0);
        let last = bytes.last().copied().unwrap_or(0);
        (bytes.len() + usize::from(first) * 3 + usize::from(last) * 5) % CHAINS
    }

    fn walk(&self, chain: usize) -> impl Iterator<Item = &Kind> {
        iter::successors(self.chains[chain].get(), |kind| kind.next.get()).map(|kind| &**kind)
    }

    /// Looks a name up.
    pub(crate) fn find(&self, name: &str) -> Option<(KindId, &Kind)> {
        let chain = Self::chain(name);
        let (depth, kind) = self
            .walk(chain)
            .enumerate()
            .find(|(_, kind)| *kind.name == *name)?;
        let id = u32::try_from(depth * CHAINS + chain).ok()?;
        Some((KindId(id), kind))
    }

    /// The kind that `id` was given for.
    pub(crate) fn get(&self, id: KindId) -> Option<&Kind> {
        let id = id.0 as usize;
        self.walk(id % CHAINS).nth(id / CHAINS)
    }

    /// Registers a handler, in the place of the one before.
    pub(crate) fn register(&self, name: &str, signature: Signature, registration: Registration) {
        let registering = lock(&self.registering);
        let old = match self.find(name) {
            Some((_, kind)) => kind.replace(signature, registration),
            None => {
                let mut end = &self.chains[Self::chain(name)];
                while let Some(kind) = end.get() {
                    end = &kind.next;
                }
                let kind = Box::new(Kind::new(name, signature, registration));
                // Only set here, under the lock.
                let _ = end.set(kind);
                None
            }
        };
        drop(registering);
        drop(old);
    }
}

/// A lock that ignores poisoning: no user code runs under the locks of this crate.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
