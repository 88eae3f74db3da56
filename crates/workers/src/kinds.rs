//! The handlers of one worker, by kind.
//!
//! Senders look a kind up for every message, to refuse a payload of the wrong type at the call, and the worker looks
//! up the handler. Both only read: a kind, once registered, stays where it is, and a `OnceLock` is read without
//! writing to it, so that no cache line goes back and forth between the threads. A sender leaves its find in
//! the message as a [`KindId`], so the worker compares no names.

use std::any::{TypeId, type_name};
use std::hash::{Hash, Hasher};
use std::iter;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use pytoweb_engine::{Outcome, Tally};

use crate::error::TypeMismatch;
use crate::kind_id::KindId;
use crate::lock::lock;
use crate::message::{Ended, Envelope};

/// Chains that the kinds are spread over: most workers have fewer kinds than this, so most chains hold one.
const CHAINS: usize = 8;

/// A handler for one message at a time. `C` is what belongs to its worker.
pub(crate) trait Handle<C>: Send {
    fn handle(&mut self, context: &C, envelope: &mut Envelope) -> Ended;

    /// Handles messages together, and says how each ended. `None`: it is no handler of batches, and has done nothing.
    fn handle_together(&mut self, _: &C, _: &mut [&mut Envelope]) -> Option<Vec<Ended>> {
        None
    }
}

/// A handler for several at the same time.
pub(crate) trait HandleShared<C>: Send + Sync {
    /// As [`Handle::handle`].
    fn handle(&self, context: &C, envelope: &mut Envelope) -> Ended;

    /// As [`Handle::handle_together`].
    fn handle_together(&self, _: &C, _: &mut [&mut Envelope]) -> Option<Vec<Ended>> {
        None
    }
}

impl<C, F: FnMut(&C, &mut Envelope) -> Ended + Send> Handle<C> for F {
    #[inline]
    fn handle(&mut self, context: &C, envelope: &mut Envelope) -> Ended {
        self(context, envelope)
    }
}

impl<C, F: Fn(&C, &mut Envelope) -> Ended + Send + Sync> HandleShared<C> for F {
    #[inline]
    fn handle(&self, context: &C, envelope: &mut Envelope) -> Ended {
        self(context, envelope)
    }
}

/// A handler of batches: says how each of the messages ended.
pub(crate) struct Together<F>(pub(crate) F);

impl<C, F: FnMut(&C, &mut [&mut Envelope]) -> Vec<Ended> + Send> Handle<C> for Together<F> {
    fn handle(&mut self, context: &C, envelope: &mut Envelope) -> Ended {
        only(self.0(context, &mut [envelope]))
    }

    fn handle_together(
        &mut self,
        context: &C,
        envelopes: &mut [&mut Envelope],
    ) -> Option<Vec<Ended>> {
        Some(self.0(context, envelopes))
    }
}

impl<C, F: Fn(&C, &mut [&mut Envelope]) -> Vec<Ended> + Send + Sync> HandleShared<C>
    for Together<F>
{
    fn handle(&self, context: &C, envelope: &mut Envelope) -> Ended {
        only(self.0(context, &mut [envelope]))
    }

    fn handle_together(&self, context: &C, envelopes: &mut [&mut Envelope]) -> Option<Vec<Ended>> {
        Some(self.0(context, envelopes))
    }
}

/// How the only message of a batch ended.
fn only(mut ended: Vec<Ended>) -> Ended {
    ended.pop().unwrap_or(Ended::Settled(Outcome::Failed))
}

pub(crate) type Exclusive<C> = Box<dyn Handle<C>>;
pub(crate) type Concurrent<C> = Arc<dyn HandleShared<C>>;
/// Takes the place of a handler that is let go.
type Nothing<C> = fn(&C, &mut Envelope) -> Ended;

/// Where a handler is kept.
pub(crate) enum Stored<C> {
    Exclusive(Replaceable<C>),
    Concurrent(RwLock<Concurrent<C>>),
}

/// A handler that is locked by the turn in which it runs, and can be replaced meanwhile.
pub(crate) struct Replaceable<C> {
    current: Mutex<Exclusive<C>>,
    /// Takes the place of the current one before the next message.
    next: Mutex<Option<Exclusive<C>>>,
    has_next: AtomicBool,
}

impl<C> Replaceable<C> {
    fn new(handler: Exclusive<C>) -> Self {
        Self {
            current: Mutex::new(handler),
            next: Mutex::new(None),
            has_next: AtomicBool::new(false),
        }
    }

    /// Returns what is not used any more, to be dropped outside of locks.
    fn replace(&self, handler: Exclusive<C>) -> Vec<Registration<C>> {
        let mut next = lock(&self.next);
        let unused = next.replace(handler);
        // ORDERING: Relaxed. A message that comes after the replacement comes through the mailbox's lock.
        self.has_next.store(true, Ordering::Relaxed);
        drop(next);
        // ORDERING: SeqCst, with the fence in `Held::drop`.
        fence(Ordering::SeqCst);
        // So that the old one goes now, if no turn holds it.
        let old = self.install_now();
        [unused, old]
            .into_iter()
            .flatten()
            .map(Registration::Exclusive)
            .collect()
    }

    /// The same as [`Replaceable::install`], unless the current handler is locked.
    fn install_now(&self) -> Option<Exclusive<C>> {
        let mut current = self.current.try_lock().ok()?;
        self.install(&mut current)
    }

    /// Puts the next handler in the place of the current one, which is returned to be dropped.
    #[cold]
    fn install(&self, current: &mut Exclusive<C>) -> Option<Exclusive<C>> {
        let mut next = lock(&self.next);
        let handler = next.take()?;
        // ORDERING: Relaxed, written under the lock of `next`.
        self.has_next.store(false, Ordering::Relaxed);
        Some(mem::replace(current, handler))
    }

    /// Locks the current handler.
    pub(crate) fn hold(&self) -> Held<'_, C> {
        Held {
            of: self,
            current: Some(lock(&self.current)),
        }
    }
}

/// The handler of a kind, locked: by the turn that gives it messages, from one to the next.
pub(crate) struct Held<'a, C> {
    of: &'a Replaceable<C>,
    /// `None` only as it is dropped.
    current: Option<MutexGuard<'a, Exclusive<C>>>,
}

impl<C> Held<'_, C> {
    /// Gives `envelope` to the handler, which does not panic.
    #[inline]
    pub(crate) fn run(&mut self, context: &C, envelope: &mut Envelope) -> Ended {
        self.current().handle(context, envelope)
    }

    /// Gives it several. `None`: it takes one after the other.
    pub(crate) fn run_together(
        &mut self,
        context: &C,
        envelopes: &mut [&mut Envelope],
    ) -> Option<Vec<Ended>> {
        self.current().handle_together(context, envelopes)
    }

    #[inline]
    fn current(&mut self) -> &mut dyn Handle<C> {
        let Some(current) = &mut self.current else {
            unreachable!("it is let go of once, by its end")
        };
        // ORDERING: Relaxed, see `replace`.
        if self.of.has_next.load(Ordering::Relaxed) {
            drop(self.of.install(current));
        }
        &mut ***current
    }
}

impl<C> Drop for Held<'_, C> {
    /// A handler that was replaced meanwhile goes now, not only at the next message.
    fn drop(&mut self) {
        drop(self.current.take());
        // ORDERING: SeqCst, with the fence in `replace`: of a thread that finds the lock held and this one, which looks
        // after it let go of it, at least one sees the other.
        fence(Ordering::SeqCst);
        // ORDERING: Relaxed, see `replace`.
        if self.of.has_next.load(Ordering::Relaxed) {
            drop(self.of.install_now());
        }
    }
}

/// A handler on its way into a [`Kind`].
pub(crate) enum Registration<C> {
    Exclusive(Exclusive<C>),
    Concurrent(Concurrent<C>),
}

/// The types of a handler.
#[derive(Clone, Copy)]
pub(crate) struct Signature {
    payload: u64,
    reply: u64,
    payload_name: &'static str,
    reply_name: &'static str,
    retries: bool,
}

impl Signature {
    pub(crate) fn of<T: 'static, R: 'static>() -> Self {
        Self {
            payload: fingerprint::<T>(),
            reply: fingerprint::<R>(),
            payload_name: type_name::<T>(),
            reply_name: type_name::<R>(),
            retries: false,
        }
    }

    /// The same of a handler whose messages may be tried again.
    pub(crate) const fn retrying(mut self) -> Self {
        self.retries = true;
        self
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

/// On cache lines of its own, also where the processor fetches them in pairs: the worker writes it for each message, or each
/// turn, and senders read what lies beside it for each message.
#[repr(align(128))]
struct OwnLines<T>(T);

/// One kind and its handler.
pub(crate) struct Kind<C> {
    name: Box<str>,
    payload: AtomicU64,
    reply: AtomicU64,
    signature: Mutex<Signature>,
    worked: OwnLines<WorkerWrites<C>>,
    next: OnceLock<Box<Self>>,
}

/// What the worker writes.
struct WorkerWrites<C> {
    stored: Stored<C>,
    tally: Tally,
}

impl<C: 'static> Kind<C> {
    fn new(name: &str, signature: Signature, registration: Registration<C>) -> Self {
        let stored = match registration {
            Registration::Exclusive(handler) => Stored::Exclusive(Replaceable::new(handler)),
            Registration::Concurrent(handler) => Stored::Concurrent(RwLock::new(handler)),
        };
        Self {
            name: name.into(),
            payload: AtomicU64::new(signature.payload),
            reply: AtomicU64::new(signature.reply),
            signature: Mutex::new(signature),
            worked: OwnLines(WorkerWrites {
                stored,
                tally: Tally::default(),
            }),
            next: OnceLock::new(),
        }
    }

    /// What became of its messages.
    pub(crate) const fn tally(&self) -> &Tally {
        &self.worked.0.tally
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn signature_names(&self) -> (&'static str, &'static str) {
        let signature = lock(&self.signature);
        (signature.payload_name, signature.reply_name)
    }

    /// Whether its messages may be tried again.
    pub(crate) fn retries(&self) -> bool {
        lock(&self.signature).retries
    }

    /// Whether the handler takes `T`.
    #[inline]
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
    #[inline]
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

    /// Replaces the handler, from the next message on. Returns what is to be dropped outside of locks.
    fn replace(&self, signature: Signature, registration: Registration<C>) -> Vec<Registration<C>> {
        // Held to the end, so that of two threads that register the same one wins in all places.
        let mut current = lock(&self.signature);
        *current = signature;
        // ORDERING: Relaxed, see `check_payload`.
        self.payload.store(signature.payload, Ordering::Relaxed);
        self.reply.store(signature.reply, Ordering::Relaxed);
        match (&self.worked.0.stored, registration) {
            (Stored::Exclusive(stored), Registration::Exclusive(handler)) => {
                stored.replace(handler)
            }
            (Stored::Concurrent(stored), Registration::Concurrent(handler)) => {
                let mut stored = stored.write().unwrap_or_else(PoisonError::into_inner);
                let old = mem::replace(&mut *stored, handler);
                vec![Registration::Concurrent(old)]
            }
            // A worker that handles one message at a time registers only the one sort, any other only the other.
            (_, registration) => vec![registration],
        }
    }

    /// Puts nothing in the place of the handler.
    fn let_go(&self, nothing: Nothing<C>) -> Vec<Registration<C>> {
        match &self.worked.0.stored {
            Stored::Exclusive(stored) => stored.replace(Box::new(nothing)),
            Stored::Concurrent(stored) => {
                let nothing: Concurrent<C> = Arc::new(nothing);
                let mut stored = stored.write().unwrap_or_else(PoisonError::into_inner);
                vec![Registration::Concurrent(mem::replace(
                    &mut *stored,
                    nothing,
                ))]
            }
        }
    }

    pub(crate) fn stored(&self) -> &Stored<C> {
        &self.worked.0.stored
    }
}

/// The handlers of one worker.
pub(crate) struct Kinds<C> {
    chains: [OnceLock<Box<Kind<C>>>; CHAINS],
    registering: Mutex<()>,
}

impl<C> Default for Kinds<C> {
    fn default() -> Self {
        Self {
            chains: Default::default(),
            registering: Mutex::default(),
        }
    }
}

impl<C: 'static> Kinds<C> {
    /// Cheap, and enough to spread names: kinds of one worker mostly differ in length or at the ends.
    fn chain(name: &str) -> usize {
        let bytes = name.as_bytes();
        let first = bytes.first().copied().unwrap_or(0);
        let last = bytes.last().copied().unwrap_or(0);
        (bytes.len() + usize::from(first) * 3 + usize::from(last) * 5) % CHAINS
    }

    fn walk(&self, chain: usize) -> impl Iterator<Item = &Kind<C>> {
        iter::successors(self.chains[chain].get(), |kind| kind.next.get()).map(|kind| &**kind)
    }

    /// All that are, or were, registered.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Kind<C>> {
        (0..CHAINS).flat_map(|chain| self.walk(chain))
    }

    /// Looks a name up.
    pub(crate) fn find(&self, name: &str) -> Option<(KindId, &Kind<C>)> {
        let chain = Self::chain(name);
        let (depth, kind) = self
            .walk(chain)
            .enumerate()
            .find(|(_, kind)| *kind.name == *name)?;
        let id = u32::try_from(depth * CHAINS + chain).ok()?;
        Some((KindId(id), kind))
    }

    /// The kind that `id` was given for.
    pub(crate) fn get(&self, id: KindId) -> Option<&Kind<C>> {
        let id = id.0 as usize;
        self.walk(id % CHAINS).nth(id / CHAINS)
    }

    /// Lets go of every handler; `nothing` takes their place. Returns them, to be dropped outside of locks.
    pub(crate) fn let_go(&self, nothing: Nothing<C>) -> Vec<Registration<C>> {
        let _registering = lock(&self.registering);
        self.all().flat_map(|kind| kind.let_go(nothing)).collect()
    }

    /// Registers a handler, in the place of the one before.
    pub(crate) fn register(&self, name: &str, signature: Signature, registration: Registration<C>) {
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
                Vec::new()
            }
        };
        drop(registering);
        drop(old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_tells_types_apart() {
        assert_eq!(fingerprint::<u64>(), fingerprint::<u64>());
        assert_ne!(fingerprint::<u64>(), fingerprint::<i64>());
        assert_ne!(fingerprint::<&'static str>(), fingerprint::<String>());
        assert_ne!(fingerprint::<Vec<u8>>(), fingerprint::<Vec<u16>>());
    }

    #[test]
    fn an_id_leads_back_to_its_kind() {
        let kinds = Kinds::default();
        let signature = Signature::of::<(), ()>();
        let handler = || {
            Registration::Exclusive(Box::new(|(): &(), _: &mut Envelope| {
                unreachable!("not called")
            }))
        };
        let names: Vec<String> = (0..50).map(|number| format!("kind {number}")).collect();
        for name in names.iter().chain(&names[..10]) {
            kinds.register(name, signature, handler());
        }
        for name in &names {
            let (id, _) = kinds.find(name).expect("it was registered");
            assert_eq!(kinds.get(id).expect("it is there").name(), name);
        }
        assert!(kinds.find("another").is_none());
        assert!(kinds.find("").is_none());
    }
}
