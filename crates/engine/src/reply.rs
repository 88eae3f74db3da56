//! The reply slot: one message's way from queued to settled, and everybody who waits for it.
//!
//! A slot goes through four phases, never back:
//!
//! | phase | meaning | left by |
//! |---|---|---|
//! | `QUEUED` | in a mailbox | the worker that claims it, or the thread that cancels, drops or expires it |
//! | `CLAIMED` | a worker has it | the handler's result, or a deadline or `terminate` that gave up waiting |
//! | `SETTLING` | one thread owns the right to write the value | that thread |
//! | `DONE` | the value stands and never changes | no thread |
//!
//! The step into `SETTLING` is a compare-and-swap, so exactly one of a result, a cancel, a deadline and a stop wins.
//! Writing the value and publishing it are two calls, because a worker counts the message in between: a thread that sees
//! the reply also sees the counters. The second call looks at a flag that the first sets once the value is written, so a
//! thread that publishes out of turn panics, and never shows a value that another one is still writing.
//!
//! Two flags ride along: `CANCEL`, the cooperative signal to a running handler, and `WAITERS`, set by the waiters
//! that registered to be told. A waiter sets its flag and then looks at the phase; the publisher sets the phase and
//! then looks at the flag. Both are read-modify-writes of one atomic, so at least one of the two sees the other, and
//! the list itself is only touched under its lock.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::clock::Timestamp;
use crate::contained::contained;
use crate::outcome::Failure;
use crate::sync::{
    AtomicBool, AtomicU8, Condvar, Mutex, Ordering, UnsafeCell, look_while_yielding,
};

const QUEUED: u8 = 0;
const CLAIMED: u8 = 1;
const SETTLING: u8 = 2;
const DONE: u8 = 3;
const PHASE: u8 = 0b11;
/// The handler was asked to stop.
const CANCEL: u8 = 0b100;
/// A waiter is, or was, registered to be told.
const WAITERS: u8 = 0b1000;
/// The reply was moved out.
const TAKEN: u8 = 0b1_0000;
/// Its deadline passed before it was handled, or before its handler returned.
const EXPIRED: u8 = 0b10_0000;
/// Its reply says that it was cancelled.
const CANCELLED: u8 = 0b100_0000;
/// It has a deadline, which stands beside the list of those who wait: most messages have none, and take no place for it.
const LIMITED: u8 = 0b1000_0000;

type Callback = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct ReplyWaiters {
    /// Threads inside [`ReplyState::wait`].
    blocked: usize,
    /// Threads that wait in a way of their own, after [`ReplyState::park_with`].
    parkers: Vec<Arc<dyn Unpark>>,
    /// Of the task that polled last: a future that goes from one task to another is waited for by the second alone.
    waker: Option<Waker>,
    callbacks: Vec<Callback>,
    deadline: Option<Timestamp>,
}

/// Wakes one thread that waits in a way of its own: one that a signal can interrupt, say.
pub trait Unpark: Send + Sync + 'static {
    /// Lets the thread's present or next wait end. May be called when it does not wait.
    fn unpark(&self);
}

/// The part of a reply slot that does not depend on the type of the reply.
pub struct ReplyState {
    bits: AtomicU8,
    /// The value is written, whole.
    written: AtomicBool,
    waiters: Mutex<Option<Box<ReplyWaiters>>>,
    settled: Condvar,
}

impl fmt::Debug for ReplyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match self.phase() {
            QUEUED => "queued",
            CLAIMED => "claimed",
            SETTLING => "settling",
            _ => "done",
        };
        f.debug_struct("ReplyState")
            .field("phase", &phase)
            .finish_non_exhaustive()
    }
}

impl Default for ReplyState {
    fn default() -> Self {
        Self::new()
    }
}

impl ReplyState {
    /// A slot of a message that is about to be queued.
    #[must_use]
    pub fn new() -> Self {
        Self {
            bits: AtomicU8::new(QUEUED),
            written: AtomicBool::new(false),
            waiters: Mutex::new(None),
            settled: Condvar::new(),
        }
    }

    fn phase(&self) -> u8 {
        // ORDERING: Acquire, so that a thread that sees DONE sees the value. SYNC: reply-publish
        self.bits.load(Ordering::Acquire) & PHASE
    }

    /// Whether the message still waits in a mailbox.
    #[must_use]
    pub fn is_queued(&self) -> bool {
        self.phase() == QUEUED
    }

    /// Whether the reply stands.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.phase() == DONE
    }

    /// Whether the message is neither queued nor run any more: its reply stands, or is about to. A message that is counted
    /// as ended is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.phase(), SETTLING | DONE)
    }

    /// Whether its value is written, and yet to be published.
    pub(crate) fn is_settling(&self) -> bool {
        self.phase() == SETTLING
    }

    /// Whether the handler was asked to stop.
    #[must_use]
    pub fn is_cancel_requested(&self) -> bool {
        // ORDERING: Relaxed, the flag carries no data.
        self.bits.load(Ordering::Relaxed) & CANCEL != 0
    }

    /// Asks a running handler to stop. It is up to the handler to look.
    pub fn request_cancel(&self) {
        // ORDERING: Relaxed, the flag carries no data.
        self.bits.fetch_or(CANCEL, Ordering::Relaxed);
    }

    /// Takes the message out of the queue phase. False: another thread settled it first.
    pub fn claim(&self) -> bool {
        self.advance(QUEUED, CLAIMED)
    }

    /// The same in one step, for a message that has no deadline. False: it has one, another thread settled it first, or is
    /// at its bits just now.
    #[inline]
    pub(crate) fn claim_unlimited(&self) -> bool {
        // ORDERING: Relaxed load, the exchange below decides.
        let bits = self.bits.load(Ordering::Relaxed);
        // ORDERING: Acquire/Relaxed, see `advance`.
        bits & (PHASE | LIMITED) == QUEUED
            && self
                .bits
                .compare_exchange(bits, bits | CLAIMED, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
    }

    /// Puts the message back into the queue phase. False: another thread settled it meanwhile.
    pub(crate) fn unclaim(&self) -> bool {
        self.advance(CLAIMED, QUEUED)
    }

    /// Why there is no reply, once it is settling: the deadline, a cancel, or else a stop.
    pub(crate) fn given_up(&self) -> Failure {
        // ORDERING: Relaxed, set by the very step into SETTLING that the caller has seen.
        let bits = self.bits.load(Ordering::Relaxed);
        if bits & EXPIRED != 0 {
            Failure::Expired
        } else if bits & CANCELLED != 0 {
            Failure::Cancelled
        } else {
            Failure::Stopped
        }
    }

    /// Takes the message out of the queue phase to cancel it, or because it expired.
    pub(crate) fn claim_removed(&self, expired: bool) -> bool {
        self.advance(QUEUED, if expired { CLAIMED | EXPIRED } else { CLAIMED })
    }

    /// Remembers the deadline, for the thread that takes the message to be run. The earliest stands.
    pub(crate) fn set_deadline(&self, at: Timestamp) {
        if self.is_done() {
            return;
        }
        let mut waiters = self.waiters.lock();
        let known = &mut waiters.get_or_insert_default().deadline;
        *known = Some(known.map_or(at, |known| known.min(at)));
        drop(waiters);
        // ORDERING: Relaxed, the deadline itself is read under the lock. Who takes the message too early to see the flag
        // is as one that took it before the deadline was set; the deadline thread has it from `Deadlines::add`.
        self.bits.fetch_or(LIMITED, Ordering::Relaxed);
    }

    /// Whether it has a deadline that has passed. The clock is read only where there is one.
    #[inline]
    pub(crate) fn is_overdue(&self, now: impl FnOnce() -> Timestamp) -> bool {
        // ORDERING: Relaxed, see `set_deadline`.
        self.bits.load(Ordering::Relaxed) & LIMITED != 0
            && self.deadline().is_some_and(|at| at <= now())
    }

    fn deadline(&self) -> Option<Timestamp> {
        self.waiters.lock().as_ref()?.deadline
    }

    /// Whether its deadline passed before it was handled.
    pub(crate) fn is_expired(&self) -> bool {
        // ORDERING: Relaxed, for a message that was queued it is set and read under the mailbox's lock.
        self.bits.load(Ordering::Relaxed) & EXPIRED != 0
    }

    /// Whether a worker has the message and nothing has settled it.
    #[must_use]
    pub fn is_claimed(&self) -> bool {
        self.phase() == CLAIMED
    }

    fn advance(&self, from: u8, to: u8) -> bool {
        // ORDERING: Relaxed load, the exchange below decides.
        let mut bits = self.bits.load(Ordering::Relaxed);
        while bits & PHASE == from {
            // ORDERING: Acquire/Relaxed. Entering SETTLING orders the write of the value after every earlier phase;
            // the value itself is released by `publish`.
            match self.bits.compare_exchange_weak(
                bits,
                bits & !PHASE | to,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => bits = now,
            }
        }
        false
    }

    /// Makes the value visible, gives the callbacks to `run` and wakes the wakers. True: threads are still to be woken, with
    /// [`ReplyState::wake_threads`]; the caller picks the moment.
    fn publish(&self, run: &mut dyn FnMut(Callback)) -> bool {
        // ORDERING: Acquire, with the store in `Slot::write`: the value is whole where this thread is not the one that
        // wrote it.
        assert!(
            self.written.load(Ordering::Acquire),
            "a reply is published after it was settled"
        );
        // ORDERING: AcqRel. Release hands over the value, and the read of WAITERS must not move before it.
        // SETTLING | 1 is DONE. SYNC: reply-publish
        let before = self.bits.fetch_or(DONE, Ordering::AcqRel);
        assert_eq!(before & PHASE, SETTLING, "a reply is published once");
        if before & WAITERS == 0 {
            return false;
        }
        let (waker, callbacks, threads) = {
            let mut guard = self.waiters.lock();
            let Some(waiters) = guard.as_mut() else {
                return false;
            };
            (
                waiters.waker.take(),
                std::mem::take(&mut waiters.callbacks),
                waiters.blocked > 0 || !waiters.parkers.is_empty(),
            )
        };
        if let Some(waker) = waker {
            let _ = contained(|| waker.wake());
        }
        for callback in callbacks {
            let _ = contained(|| run(callback));
        }
        threads
    }

    /// Wakes the threads that wait for the reply.
    pub fn wake_threads(&self) {
        let waiters = self.waiters.lock().take();
        self.settled.notify_all();
        for parker in waiters.into_iter().flat_map(|waiters| waiters.parkers) {
            let _ = contained(move || parker.unpark());
        }
    }

    /// Has `parker` unparked once the reply stands. False: it stands already, and nothing was registered.
    #[must_use]
    pub fn park_with(&self, parker: Arc<dyn Unpark>) -> bool {
        !self.is_done() && self.register(|waiters| waiters.parkers.push(parker))
    }

    /// Takes `parker` back: its thread waits no longer.
    pub fn leave(&self, parker: &Arc<dyn Unpark>) {
        if let Some(waiters) = self.waiters.lock().as_mut() {
            waiters.parkers.retain(|known| !Arc::ptr_eq(known, parker));
        }
    }

    /// Registers under the lock. False: the reply stands already, and nothing was registered.
    fn register(&self, add: impl FnOnce(&mut ReplyWaiters)) -> bool {
        let mut waiters = self.waiters.lock();
        // ORDERING: AcqRel. The phase read here must not be older than the flag: see the module documentation.
        // SYNC: reply-publish
        if self.bits.fetch_or(WAITERS, Ordering::AcqRel) & PHASE == DONE {
            return false;
        }
        add(waiters.get_or_insert_default());
        true
    }

    /// Lets other threads run for a moment, in which a quick handler may answer. Says whether the reply stands.
    ///
    /// What a thread does before it goes to sleep in a way of its own.
    #[must_use]
    pub fn wait_briefly(&self) -> bool {
        self.is_done() || look_while_yielding(|| self.is_done().then_some(())).is_some()
    }

    /// Blocks until the reply stands, at most for `limit`. Says whether it stands.
    ///
    /// Knows nothing of workers: inside a handler go through [`crate::wait::wait`], which finds cycles.
    pub fn wait(&self, limit: Option<Duration>) -> bool {
        if self.wait_briefly() {
            return true;
        }
        let until = limit.and_then(|limit| Instant::now().checked_add(limit));
        if !self.register(|waiters| waiters.blocked += 1) {
            return true;
        }
        let mut guard = self.waiters.lock();
        loop {
            if self.is_done() {
                return true;
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                // The thread that wakes the waiters takes the whole list; until it has, this one is to leave it.
                if let Some(waiters) = guard.as_mut() {
                    waiters.blocked -= 1;
                }
                return false;
            }
            (guard, _) = self.settled.wait(guard, left);
        }
    }

    /// Wakes `waker` once the reply stands, in the place of one that was given before. True: it stands already.
    pub fn poll_done(&self, waker: &Waker) -> bool {
        if self.is_done() {
            return true;
        }
        let mut before = None;
        let registered = self.register(|waiters| match &mut waiters.waker {
            Some(known) if known.will_wake(waker) => {}
            known => before = known.replace(waker.clone()),
        });
        // Outside the lock: it may be the last reference to a task.
        drop(before);
        !registered
    }

    /// Calls `callback` on the thread that settles the reply, right after it stands; or here and now if it does.
    pub fn on_done(&self, callback: impl FnOnce() + Send + 'static) {
        let mut callback = Some(callback);
        let registered = self.register(|waiters| {
            if let Some(callback) = callback.take() {
                waiters.callbacks.push(Box::new(callback));
            }
        });
        if !registered && let Some(callback) = callback {
            // On the caller's own thread, whose panic is its own.
            callback();
        }
    }
}

/// Marks a [`Slot`] whose reply is read in place, any number of times.
#[derive(Debug)]
pub struct Shared(());

/// Marks a [`Slot`] whose reply is moved out, once.
#[derive(Debug)]
pub struct Single(());

/// A reply slot: [`ReplyState`] and the reply, or the reason why there is none.
///
/// `Mode` decides how the reply is read, so that reading in place and moving out never meet: [`Shared`] has
/// [`Slot::get`], [`Single`] has [`Slot::take`].
#[derive(Debug)]
pub struct Slot<R, Mode = Single> {
    state: ReplyState,
    value: UnsafeCell<Option<Result<R, Failure>>>,
    mode: PhantomData<fn() -> Mode>,
}

// SAFETY: the value is written by the one thread that won the step into SETTLING, before it publishes DONE, and only
// read afterwards; `get` hands out `&R` to several threads, which needs `R: Sync`.
#[expect(unsafe_code, reason = "the cell is guarded by the phases")]
unsafe impl<R: Send + Sync> Sync for Slot<R, Shared> {}

// SAFETY: as above; `take` moves the value to the one thread that set TAKEN, which needs `R: Send`.
#[expect(unsafe_code, reason = "the cell is guarded by the phases")]
unsafe impl<R: Send> Sync for Slot<R, Single> {}

impl<R, Mode> Default for Slot<R, Mode> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R, Mode> Slot<R, Mode> {
    /// An empty slot of a message that is about to be queued.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: ReplyState::new(),
            value: UnsafeCell::new(None),
            mode: PhantomData,
        }
    }

    /// Where the message is in its life.
    pub fn state(&self) -> &ReplyState {
        &self.state
    }

    /// Writes the reply of a claimed message, still unseen. False, and `value` is dropped: a deadline, a stop or a
    /// cancel was first. After true, [`Slot::publish`] must follow.
    pub fn settle(&self, value: Result<R, Failure>) -> bool {
        self.write(CLAIMED, value)
    }

    #[expect(unsafe_code, reason = "the write into the cell")]
    fn write(&self, from: u8, value: Result<R, Failure>) -> bool {
        let why = match &value {
            Err(Failure::Expired) => EXPIRED,
            Err(Failure::Cancelled) => CANCELLED,
            _ => 0,
        };
        if !self.state.advance(from, SETTLING | why) {
            return false;
        }
        // SAFETY: the step into SETTLING succeeds for one thread only, and no thread reads before DONE.
        self.value.with_mut(|cell| unsafe { *cell = Some(value) });
        // ORDERING: Release, with the load in `ReplyState::publish`.
        self.state.written.store(true, Ordering::Release);
        true
    }

    /// Publishes what [`Slot::settle`] wrote: runs the callbacks, wakes the wakers. True: threads are still to be
    /// woken, with [`ReplyState::wake_threads`].
    ///
    /// # Panics
    /// When nothing was settled, or it is published already.
    pub fn publish(&self) -> bool {
        self.publish_with(&mut |callback| callback())
    }

    /// The same, with the callbacks given to `run`: for a thread that must not run a user's code, which passes them
    /// on to one that may.
    ///
    /// # Panics
    /// When nothing was settled, or it is published already.
    pub fn publish_with(&self, run: &mut dyn FnMut(Box<dyn FnOnce() + Send>)) -> bool {
        self.state.publish(run)
    }

    /// Settles with `failure` from the queued or the claimed phase, and tells everybody. Says whether it did.
    pub fn fail(&self, queued: bool, failure: Failure) -> bool {
        let settled = self.write(if queued { QUEUED } else { CLAIMED }, Err(failure));
        if settled && self.publish() {
            self.state.wake_threads();
        }
        settled
    }
}

impl<R> Slot<R, Shared> {
    /// The reply, once it stands.
    #[expect(unsafe_code, reason = "the read of the cell")]
    pub fn get(&self) -> Option<&Result<R, Failure>> {
        if !self.state.is_done() {
            return None;
        }
        // SAFETY: DONE was seen with Acquire, so the write is visible, and no thread writes after it: a shared slot
        // has no `take`.
        self.value.with(|cell| unsafe { (*cell).as_ref() })
    }
}

impl<R> Slot<R, Single> {
    /// Moves the reply out, once it stands. `None` before that, and for every call but the first.
    #[expect(unsafe_code, reason = "the read of the cell")]
    pub fn take(&self) -> Option<Result<R, Failure>> {
        // ORDERING: Relaxed, `is_done` has acquired the value; the exchange of TAKEN only picks one thread.
        if !self.state.is_done() || self.state.bits.fetch_or(TAKEN, Ordering::Relaxed) & TAKEN != 0
        {
            return None;
        }
        // SAFETY: DONE was seen with Acquire, and TAKEN was set by this thread alone.
        self.value.with_mut(|cell| unsafe { (*cell).take() })
    }
}
