//! A worker: the handle through which messages are posted, and the worker is started and stopped.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::address::{Address, AnyCell};
use crate::contained::contained;
use crate::exit::Exit;
use crate::handler::{Cell, Handler, Role};
use crate::health::Health;
use crate::key::Key;
use crate::mailbox::{Gate, Posted, Refused, Rest, Settled, Shed};
use crate::message::Ticket;
use crate::options::WorkerOptions;
use crate::outcome::{DropReason, Failure};
use crate::plan::Rate;
use crate::policy::Overflow;
use crate::pool::Pool;
use crate::stats::{WorkerState, WorkerStats};
use crate::sync::Ordering;
use crate::wait::{self, Blocking};
use crate::wait_error::WaitError;
use crate::whereabouts::Whereabouts;

/// A post that was refused; the message comes back.
#[derive(Debug)]
#[non_exhaustive]
pub enum PostError<M> {
    /// There was no room, or none in time.
    Full(M),
    /// Waiting for room would never end: the caller is the worker itself, or one that it waits for.
    WouldDeadlock(M),
    /// It has more bytes than the worker's messages may have together.
    TooLarge(M),
    /// Those that are queued have waited too long, for too long: see [`WorkerOptions::shed`].
    Shed(M),
    /// The worker was stopped.
    Stopped(M),
    /// No thread could be started to handle it.
    NoThread(M, io::Error),
}

impl<M> From<Refused<M>> for PostError<M> {
    fn from(refused: Refused<M>) -> Self {
        match refused {
            Refused::Full(message) => Self::Full(message),
            Refused::Closed(message) => Self::Stopped(message),
            Refused::TooLarge(message) => Self::TooLarge(message),
            Refused::Shed(message) => Self::Shed(message),
        }
    }
}

impl<M> PostError<M> {
    /// The message, and why it was refused.
    pub fn into_parts(self) -> (M, PostError<()>) {
        match self {
            Self::Full(message) => (message, PostError::Full(())),
            Self::TooLarge(message) => (message, PostError::TooLarge(())),
            Self::Shed(message) => (message, PostError::Shed(())),
            Self::WouldDeadlock(message) => (message, PostError::WouldDeadlock(())),
            Self::Stopped(message) => (message, PostError::Stopped(())),
            Self::NoThread(message, error) => (message, PostError::NoThread((), error)),
        }
    }
}

/// A worker did not end in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopTimedOut {
    /// Queued messages that failed for it.
    pub failed: usize,
}

impl fmt::Display for StopTimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the worker did not end in time; {} queued messages failed",
            self.failed
        )
    }
}

impl std::error::Error for StopTimedOut {}

/// What happens to the queued messages of a worker that stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// They are handled first.
    Drain,
    /// They fail with [`Failure::Stopped`]; the running one is finished.
    FinishRunning,
    /// They are cancelled; the running one is finished.
    CancelQueued,
}

/// The handle of a worker. Dropping it stops the worker after what is queued, without waiting.
pub struct Worker<H: Handler> {
    pub(crate) cell: Arc<Cell<H>>,
}

impl<H: Handler> fmt::Debug for Worker<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("name", &self.cell.name)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl<H: Handler> Worker<H> {
    /// A worker of `pool` that handles one message at a time, or as many as `options.concurrency` says; not started.
    ///
    /// # Panics
    /// When `options.capacity` or `options.concurrency` is 0.
    #[must_use]
    pub fn new(name: &str, handler: H, options: WorkerOptions, pool: &Pool) -> Self {
        Self {
            cell: Cell::new(name, handler, options, pool, Role::Worker),
        }
    }

    /// The same for work that belongs to other workers: it is not among [`Pool::workers`].
    ///
    /// # Panics
    /// As [`Worker::new`].
    #[must_use]
    pub fn hidden(name: &str, handler: H, options: WorkerOptions, pool: &Pool) -> Self {
        Self {
            cell: Cell::new(name, handler, options, pool, Role::Hidden),
        }
    }

    /// The pool's own mailbox: open at once, and handled by as many threads as the pool has.
    ///
    /// # Panics
    /// When `options.capacity` is 0.
    #[must_use]
    pub fn shared(name: &str, handler: H, options: WorkerOptions, pool: &Pool) -> Self {
        let worker = Self {
            cell: Cell::new(name, handler, options, pool, Role::Own),
        };
        worker.cell.life.lock().started = Some(pool.inner().clock.now());
        worker
    }

    /// The worker's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.cell.name
    }

    /// The handler that the worker was made with.
    #[must_use]
    pub fn handler(&self) -> &H {
        &self.cell.handler
    }

    /// The pool that runs it.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.cell.pool
    }

    /// Where its messages are sent.
    #[must_use]
    pub fn address(&self) -> Address {
        Address(self.cell.clone())
    }

    /// The overflow policy of its mailbox.
    #[must_use]
    pub fn overflow(&self) -> Overflow {
        self.cell.mailbox.overflow()
    }

    /// Messages that its mailbox holds at most.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.cell.mailbox.capacity()
    }

    /// How many of its messages may begin in a time, if that is limited.
    #[must_use]
    pub fn rate(&self) -> Option<Rate> {
        self.cell.rate
    }

    /// When its messages are refused for the wait of those that are queued, if they are.
    #[must_use]
    pub fn shed(&self) -> Option<Shed> {
        self.cell.shed
    }

    /// After how long a run of its handlers counts as stuck, if one does.
    #[must_use]
    pub fn stuck_after(&self) -> Option<Duration> {
        self.cell.overruns.after
    }

    /// How many of its messages run at the same time.
    #[must_use]
    pub fn concurrency(&self) -> usize {
        self.cell.concurrency
    }

    /// Bytes that its messages have at most, if that is limited.
    #[must_use]
    pub fn byte_limit(&self) -> Option<u64> {
        self.cell.byte_limit
    }

    /// Whether it handles one message at a time: every worker but a pool's own mailbox, and those with a higher
    /// [`WorkerOptions::concurrency`].
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        self.cell.exclusive
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> WorkerState {
        self.cell.state()
    }

    /// Lets the pool run it. Does nothing if it runs; false if it was stopped.
    ///
    /// # Errors
    /// When the pool has no thread and none could be started; the worker is as before.
    pub fn start(&self) -> io::Result<bool> {
        self.cell.pool.inner().ensure_thread()?;
        let Some(tokens) = self.cell.mailbox.open() else {
            return Ok(false);
        };
        self.cell
            .life
            .lock()
            .started
            .get_or_insert(self.cell.pool.inner().clock.now());
        self.cell.activate(tokens);
        Ok(true)
    }

    fn ensure_thread(&self) -> io::Result<()> {
        // A worker of its own has made sure in `start`.
        if self.cell.exclusive {
            Ok(())
        } else {
            self.cell.pool.inner().ensure_thread()
        }
    }

    fn accept(&self, posted: Posted<H::Message>) {
        if posted.activate > 0 {
            self.cell.activate(posted.activate);
        }
        if !posted.leftovers.is_empty() {
            self.cell.abandon_all(posted.leftovers);
        }
    }

    /// Posts the message in `place` where there is room for sure and a thread to handle it; else it stays there.
    #[inline]
    pub(crate) fn post_fast(&self, place: &mut Option<H::Message>) {
        let pool = self.cell.pool.inner();
        // A worker of its own has made sure in `start`.
        if !self.cell.exclusive && !pool.has_thread() {
            return;
        }
        let tokens = self.cell.mailbox.post_fast(place, &*pool.clock);
        if let Some(tokens @ 1..) = tokens {
            self.cell.activate(tokens);
        }
    }

    /// Posts without waiting; under [`Overflow::Block`] a full mailbox refuses, uncounted.
    ///
    /// # Errors
    /// [`PostError`] gives the message back.
    #[inline]
    pub fn try_post(&self, message: H::Message) -> Result<(), PostError<H::Message>> {
        self.try_post_from(&mut Some(message))
    }

    /// The same for the message in `place`, as [`Worker::post_from`].
    ///
    /// # Errors
    /// [`PostError`] with the message.
    #[inline]
    pub fn try_post_from(
        &self,
        place: &mut Option<H::Message>,
    ) -> Result<(), PostError<H::Message>> {
        self.post_fast(place);
        match place.take() {
            None => Ok(()),
            Some(message) => self.post_if_room(message, false),
        }
    }

    /// `dallies`: the caller would wait for room, and may as well do so for a moment first.
    #[cold]
    pub(crate) fn post_if_room(
        &self,
        message: H::Message,
        dallies: bool,
    ) -> Result<(), PostError<H::Message>> {
        if let Err(error) = self.ensure_thread() {
            return Err(PostError::NoThread(message, error));
        }
        let clock = &*self.cell.pool.inner().clock;
        let mut place = Some(message);
        if let Some(tokens @ 1..) = self.cell.mailbox.post_fast(&mut place, clock) {
            self.cell.activate(tokens);
        }
        let Some(message) = place else {
            return Ok(());
        };
        if dallies {
            self.dally();
        }
        self.post_slowly(message)
    }

    #[cold]
    fn post_slowly(&self, message: H::Message) -> Result<(), PostError<H::Message>> {
        let clock = &*self.cell.pool.inner().clock;
        let posted = if self.cell.mailbox.drops_oldest_for([&message]) {
            // The oldest may be on its way already.
            self.cell
                .recalled(|mailbox| mailbox.post_exactly(message, clock))
        } else {
            self.cell.mailbox.post_exactly(message, clock)
        };
        match posted {
            Ok(posted) => {
                self.accept(posted);
                Ok(())
            }
            Err(refused) => Err(refused.into()),
        }
    }

    /// Gives a full mailbox a moment to make room for many messages, for a sender of many: one that went on at the first
    /// free place would change places with the worker for each of them. Inside a handler it does nothing, for that may be
    /// the one that makes the room.
    pub fn dally(&self) {
        if wait::current().is_none() {
            self.cell.mailbox.dally();
        }
    }

    /// Posts `messages` front first, with one lock and one wake-up for all that fit, without waiting. Leaves in
    /// `messages` what was refused, and returns how many were accepted: not refused, and not dropped as the newest.
    ///
    /// # Errors
    /// [`PostError`] without a message, and how many were accepted before, when some were refused.
    pub fn try_post_many(
        &self,
        messages: &mut VecDeque<H::Message>,
    ) -> Result<usize, (usize, PostError<()>)> {
        if let Err(error) = self.ensure_thread() {
            return Err((0, PostError::NoThread((), error)));
        }
        let offered = messages.len();
        let clock = &*self.cell.pool.inner().clock;
        let mailbox = &self.cell.mailbox;
        let (posted, refused) = if mailbox.drops_oldest_for(&*messages) {
            // The oldest may be on its way already.
            self.cell
                .recalled(|mailbox| mailbox.try_post_many(messages, clock))
        } else {
            mailbox.try_post_many(messages, clock)
        };
        let newest = Failure::Dropped(DropReason::Newest);
        let dropped = posted
            .leftovers
            .iter()
            .filter(|(_, failure)| *failure == newest)
            .count();
        let accepted = offered - messages.len() - dropped;
        self.accept(posted);
        match refused {
            None => Ok(accepted),
            Some(refused) => Err((accepted, refused.into())),
        }
    }

    /// Counts a post that its sender drops as the newest message, because there is no room for what comes of it.
    pub fn drop_newest(&self) {
        self.cell.mailbox.count_dropped_newest();
    }

    /// Counts posts as rejected that their sender gave up because there was no room.
    pub fn give_up(&self, posts: usize) {
        self.cell.mailbox.count_rejected(posts);
    }

    /// Makes the message of `ticket` expire after `limit`, queued or running. It does not begin after that, even where
    /// no thread has come by its deadline.
    ///
    /// # Errors
    /// When the thread that watches deadlines could not be started.
    pub fn set_deadline(&self, ticket: &Arc<dyn Ticket>, limit: Duration) -> io::Result<()> {
        let pool = self.cell.pool.inner();
        let cell: Arc<dyn AnyCell> = self.cell.clone();
        let at = pool.clock.now().after(limit);
        ticket.state().set_deadline(at);
        pool.set_deadline(at, ticket, &cell)
    }

    /// Whether the calling thread runs this worker's handler.
    #[must_use]
    pub fn is_current(&self) -> bool {
        wait::current().is_some_and(|current| current.0.id() == self.cell.id())
    }

    /// Refuses posts from now on; what is queued is handled or failed as `mode` says. Does not wait. Returns how
    /// many messages failed.
    pub fn close(&self, mode: StopMode) -> usize {
        self.note_exit(match mode {
            StopMode::Drain if self.cell.mailbox.gate().0 != Gate::Paused => Exit::Drained,
            _ => Exit::Stopped,
        });
        self.cell
            .life
            .lock()
            .closed
            .get_or_insert(self.cell.pool.inner().clock.now());
        let last = self.last();
        // None is started only to end a pool's own mailbox that nothing was posted to.
        let runs = self.cell.pool.inner().has_thread();
        let failure = match mode {
            StopMode::Drain => {
                return self
                    .cell
                    .swept(self.cell.mailbox.close(Rest::Run, last, runs));
            }
            StopMode::FinishRunning => Failure::Stopped,
            StopMode::CancelQueued => Failure::Cancelled,
        };
        let rest = self
            .cell
            .recalled(|mailbox| mailbox.close(Rest::Fail(failure), last, runs));
        // The first message of a batch was not brought back, and is queued all the same until it begins.
        self.withdraw(failure) + self.cell.swept(rest)
    }

    fn note_exit(&self, how: Exit) {
        // One that has ended has ended as it has.
        if !self.cell.mailbox.is_settled(Settled::Ended) {
            self.cell.exits.note(how);
        }
    }

    /// Calls `callback` once, when the worker has ended after [`Worker::close`] or [`Worker::terminate`]: here and now if it
    /// has. It runs on the thread that ends it, with no lock held: a thread of the pool, of its carrier, or one that stops
    /// it. What it panics with is reported by the panic hook and goes no further.
    pub fn on_exit(&self, callback: impl FnOnce(Exit) + Send + 'static) {
        self.cell.exits.add(Box::new(callback));
        self.cell.look_for_end();
    }

    /// How it has ended; `None`: it has not.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        let ended = self.cell.mailbox.is_settled(Settled::Ended);
        ended.then(|| self.cell.exits.how())
    }

    fn withdraw(&self, failure: Failure) -> usize {
        let carrier = self.cell.handler.carrier();
        carrier.map_or(0, |carrier| carrier.withdraw(failure))
    }

    /// The message to end with, unless the worker has had it.
    fn last(&self) -> Option<H::Message> {
        let open = self.cell.mailbox.gate().0 != Gate::Closed;
        let last = open.then(|| contained(|| self.cell.handler.last()).ok());
        last.flatten().flatten()
    }

    /// Fails what is queued with [`Failure::Stopped`], and stays open. Returns how many messages failed.
    pub fn fail_queued(&self) -> usize {
        let failure = Failure::Stopped;
        let queued = self.cell.recalled(|mailbox| mailbox.fail_queued(failure));
        // As for a mailbox that closes.
        self.withdraw(failure) + self.cell.swept(queued)
    }

    /// Blocks until the worker has ended after [`Worker::close`], at most for `limit`; false when that has passed.
    ///
    /// # Errors
    /// [`WaitError`] when the caller is this worker's own handler, or one that it waits for.
    pub fn wait_ended(&self, limit: Option<Duration>) -> Result<bool, WaitError> {
        let ended = self.wait_settled(Settled::Ended, limit)?;
        if ended {
            self.cell
                .life
                .lock()
                .ended
                .get_or_insert(self.cell.pool.inner().clock.now());
        }
        Ok(ended)
    }

    /// Whether nothing is queued and nothing runs.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.cell.mailbox.is_settled(Settled::Idle)
    }

    /// Blocks until nothing is queued and nothing runs, at most for `limit`; false when that has passed.
    ///
    /// # Errors
    /// [`WaitError`] when the caller is this worker's own handler, or one that it waits for.
    pub fn wait_idle(&self, limit: Option<Duration>) -> Result<bool, WaitError> {
        self.wait_settled(Settled::Idle, limit)
    }

    fn wait_settled(&self, settled: Settled, limit: Option<Duration>) -> Result<bool, WaitError> {
        let until = limit.and_then(|limit| Instant::now().checked_add(limit));
        if self.is_current() {
            return Err(WaitError::Cycle(vec![self.cell.name.clone()]));
        }
        let waiter = wait::current_waiter();
        let _edge = waiter
            .map(|waiter| wait::put_up(&waiter, &self.address(), None, false))
            .transpose()?;
        let _blocking = Blocking::enter()?;
        Ok(self.cell.mailbox.wait_settled(settled, until))
    }

    /// Stops: refuses posts, handles or fails what is queued as `mode` says, and waits for the end. From inside its
    /// own handler, or where waiting could never end, it does not wait.
    ///
    /// # Errors
    /// [`StopTimedOut`] when `limit` passed first: the rest of the queue has failed, and a handler still runs.
    pub fn stop(&self, mode: StopMode, limit: Option<Duration>) -> Result<(), StopTimedOut> {
        self.close(mode);
        match self.wait_ended(limit) {
            Ok(true) | Err(_) => Ok(()),
            Ok(false) => Err(StopTimedOut {
                failed: self.close(StopMode::FinishRunning),
            }),
        }
    }

    /// Abandons: queued messages fail, the running one is asked to stop and its reply fails, all at once. Does not
    /// wait.
    pub fn terminate(&self) {
        // ORDERING: Relaxed, the flag carries no data.
        self.cell.terminated.store(true, Ordering::Relaxed);
        self.note_exit(Exit::Terminated);
        self.close(StopMode::FinishRunning);
        for ticket in self.cell.mailbox.running() {
            ticket.state().request_cancel();
            ticket.fail(false, Failure::Stopped);
            ticket.interrupt();
        }
        if let Some(carrier) = self.cell.handler.carrier() {
            carrier.stop(None);
        }
    }

    /// How it fares, and why.
    #[must_use]
    pub fn health(&self) -> Health {
        self.cell.health()
    }

    /// Its numbers at one instant.
    #[must_use]
    pub fn stats(&self) -> WorkerStats {
        self.cell.stats()
    }

    /// Where a message is: the queued one that `of` picks, else the one that was taken whose ticket `of_ticket` picks.
    /// `has_key` says whether a message that was taken has a key. `None`: it is not here. Goes through all messages, with the
    /// mailbox locked: the closures only compare.
    #[must_use]
    pub fn whereabouts(
        &self,
        of: &dyn Fn(&H::Message) -> bool,
        of_ticket: &dyn Fn(&Arc<dyn Ticket>) -> bool,
        has_key: &dyn Fn(&Arc<dyn Ticket>, &Key) -> bool,
    ) -> Option<Whereabouts> {
        self.cell.whereabouts(of, of_ticket, has_key)
    }

    /// For how long the message has run that its carrier runs: since it was handed over, or the one before it ended, to about
    /// a millisecond. `None`: none does, no carrier, or several may run at the same time.
    #[must_use]
    pub fn carried_for(&self) -> Option<Duration> {
        let alone = self.cell.exclusive && self.cell.handler.carrier().is_some();
        let clock = &*self.cell.pool.inner().clock;
        alone
            .then(|| self.cell.mailbox.carried_for(clock))
            .flatten()
    }
}

impl<H: Handler> Drop for Worker<H> {
    fn drop(&mut self) {
        self.close(StopMode::Drain);
    }
}
