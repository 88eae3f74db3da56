//! A worker: a mailbox, a handler, and the turns in which a pool thread runs the one over the other.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use crate::clock::Timestamp;
use crate::mailbox::{
    Entry, Finished, Found, Gate, Leftover, Mailbox, Posted, Refused, Rest, Room, Settled,
};
use crate::message::{DropReason, Failure, Message, Outcome, Ticket};
use crate::policy::{DEFAULT_CAPACITY, Overflow};
use crate::pool::{Pool, PoolInner};
use crate::reply::Wake;
use crate::stats::{WorkerState, WorkerStats};
use crate::sync::{AtomicBool, Mutex, Ordering};
use crate::wait::{self, Blocking, Edges, WaitError};

/// Messages that one worker handles before it goes behind the others: enough that the run queue's lock is lost in
/// the noise, few enough that others wait microseconds when handlers are quick.
const BUDGET_MESSAGES: usize = 64;
/// And the time after which it goes behind them with fewer; seen at the messages that are timed, which slow handlers'
/// messages all are.
const BUDGET_TIME: Duration = Duration::from_millis(1);

/// Runs the messages of one mailbox.
///
/// For a worker the calls come one at a time, in the order of posting, from any thread of the pool; for a pool's own
/// mailbox several at once. None may panic.
pub trait Handler: Send + Sync + Sized + 'static {
    /// What the mailbox holds.
    type Message: Message;

    /// Runs one message. A reply is *settled* in here and published in [`Handler::finish`], after it was counted.
    ///
    /// In place, because moving a message costs as much as anything else that happens to it here.
    fn handle(&self, message: &mut Self::Message) -> Handled<Self>;

    /// Publishes the reply of a message that was handled, and returns the threads that wait for it.
    fn finish(&self, message: Self::Message) -> Wake;

    /// Told of a message that will not be run; settles its reply, if nobody has. On the thread that caused it.
    fn abandon(&self, message: Self::Message, failure: Failure);
}

/// What became of a message that was given to a handler.
pub enum Handled<H: Handler> {
    /// It is over.
    Done(Outcome),
    /// It goes on elsewhere: the closure is called at once, with the message, which ends with [`Suspension::finish`].
    /// The worker takes no other message before that.
    Suspend(Box<dyn FnOnce(Suspension<H>)>),
}

impl<H: Handler> fmt::Debug for Handled<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(outcome) => f.debug_tuple("Done").field(outcome).finish(),
            Self::Suspend(_) => f.debug_tuple("Suspend").finish_non_exhaustive(),
        }
    }
}

/// A message whose handler goes on outside the pool's threads.
///
/// Dropped without [`Suspension::finish`], the message fails as if its worker had stopped.
pub struct Suspension<H: Handler> {
    cell: Arc<Cell<H>>,
    message: Option<H::Message>,
    times: Option<(Timestamp, Timestamp)>,
}

impl<H: Handler> fmt::Debug for Suspension<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suspension")
            .field("worker", &self.cell.name)
            .finish_non_exhaustive()
    }
}

impl<H: Handler> Suspension<H> {
    /// The message.
    pub const fn message(&self) -> Option<&H::Message> {
        self.message.as_ref()
    }

    /// The message, to settle its reply.
    pub const fn message_mut(&mut self) -> Option<&mut H::Message> {
        self.message.as_mut()
    }

    /// The handler of the worker.
    #[must_use]
    pub fn handler(&self) -> &H {
        &self.cell.handler
    }

    /// The worker.
    #[must_use]
    pub fn address(&self) -> Address {
        Address(self.cell.clone())
    }

    /// Counts the message, publishes its reply, and lets the worker go on.
    pub fn finish(mut self, outcome: Outcome) {
        if let Some(message) = self.message.take() {
            self.count(&message, outcome);
            drop(self.cell.handler.finish(message));
            self.resume();
        }
    }

    fn count(&self, message: &H::Message, outcome: Outcome) {
        let timed = self.times.map(|(posted, started)| {
            let now = self.cell.pool.inner().clock.now();
            (started.since(posted), now.since(started))
        });
        self.cell.mailbox.finish_suspended(&Finished {
            message,
            outcome,
            timed,
        });
        self.cell.clear_stuck();
    }

    fn resume(&self) {
        let pool = self.cell.pool.inner();
        pool.push(self.cell.clone());
        pool.scheduler.suspended(false);
    }
}

impl<H: Handler> Drop for Suspension<H> {
    fn drop(&mut self) {
        if let Some(message) = self.message.take() {
            self.count(&message, Outcome::Failed);
            self.cell.handler.abandon(message, Failure::Stopped);
            self.resume();
        }
    }
}

/// How a turn ended.
pub(crate) enum Turn {
    /// The budget is used up; the worker goes to the back of the run queue.
    More,
    /// The token was given back, or went elsewhere. `roomy`: the worker may give memory back before the thread sleeps.
    Done { wake: Wake, roomy: bool },
}

/// A worker, whatever its messages are.
pub(crate) trait AnyCell: Send + Sync {
    fn id(&self) -> u64;
    fn name(&self) -> &str;
    /// Handles one message at a time.
    fn is_exclusive(&self) -> bool;
    fn pool(&self) -> &Arc<PoolInner>;
    fn edges(&self) -> &Edges;
    fn is_terminated(&self) -> bool;
    fn run_turn(self: Arc<Self>) -> Turn;
    fn expire(&self, tickets: Vec<Arc<dyn Ticket>>);
    fn cancel(&self, ticket: &Arc<dyn Ticket>) -> bool;
    /// Gives memory back, if there is nothing to do.
    fn shrink(&self);
    /// One of its threads is about to wait (`more`), or goes on.
    fn lend(&self, more: bool);
}

/// Where a message was sent: enough to wait for its reply and to cancel it.
#[derive(Clone)]
pub struct Address(pub(crate) Arc<dyn AnyCell>);

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Address").field(&self.name()).finish()
    }
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        self.0.id() == other.0.id()
    }
}

impl Eq for Address {}

impl Address {
    /// The worker's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// Whether [`Worker::terminate`] was called.
    #[must_use]
    pub fn is_terminated(&self) -> bool {
        self.0.is_terminated()
    }

    /// Cancels a message. True: it was still queued, is out of the mailbox, and its reply says [`Failure::Cancelled`].
    /// False: it runs, and was asked to stop; or it is over.
    #[must_use]
    pub fn cancel(&self, ticket: &Arc<dyn Ticket>) -> bool {
        self.0.cancel(ticket)
    }
}

pub(crate) struct Cell<H: Handler> {
    id: u64,
    name: String,
    exclusive: bool,
    mailbox: Mailbox<H::Message>,
    handler: H,
    pool: Pool,
    edges: Edges,
    stuck: AtomicBool,
    terminated: AtomicBool,
    /// When it was started, and when it was seen to have ended.
    life: Mutex<(Option<Timestamp>, Option<Timestamp>)>,
    own: std::sync::Weak<Self>,
}

/// Wait and run time, where they were taken.
type Timed = Option<(Duration, Duration)>;

impl<H: Handler> Cell<H> {
    fn abandon_all(&self, leftovers: Vec<Leftover<H::Message>>) {
        for (message, failure) in leftovers {
            self.handler.abandon(message, failure);
        }
    }

    fn turn(self: &Arc<Self>) -> Turn {
        let clock = &*self.pool.inner().clock;
        let started = clock.now();
        // The message that was just handled, and the one that is next, in turns.
        let mut slots: [Option<Entry<H::Message>>; 2] = [None, None];
        let mut at = 0;
        let mut ended: Option<(Outcome, Timed)> = None;
        let mut left = BUDGET_MESSAGES;
        loop {
            let [first, second] = &mut slots;
            let (last, next) = if at == 0 {
                (first, second)
            } else {
                (second, first)
            };
            let finished = last
                .as_ref()
                .zip(ended.take())
                .map(|(entry, (outcome, timed))| Finished {
                    message: &entry.message,
                    outcome,
                    timed,
                });
            let take = self.mailbox.take(finished.as_ref(), left > 0, next);
            let wake = match last.take() {
                Some(entry) => self.handler.finish(entry.message),
                None => Wake::nobody(),
            };
            if !take.leftovers.is_empty() {
                self.abandon_all(take.leftovers);
            }
            match (take.found, next.as_mut()) {
                (Found::Next, Some(entry)) => {
                    // Another handler is about to run and may take long: whoever waits is woken now.
                    drop(wake);
                    left -= 1;
                    let times = entry.posted_at.map(|posted| (posted, clock.now()));
                    match self.handler.handle(&mut entry.message) {
                        Handled::Done(outcome) => {
                            ended = Some((outcome, self.timed(times, started, &mut left)))
                        }
                        Handled::Suspend(go_on) => {
                            if let Some(entry) = next.take() {
                                self.pool.inner().scheduler.suspended(true);
                                go_on(Suspension {
                                    cell: self.clone(),
                                    message: Some(entry.message),
                                    times,
                                });
                            }
                            self.mailbox.add_busy(clock.now().since(started));
                            return Turn::Done {
                                wake: Wake::nobody(),
                                roomy: false,
                            };
                        }
                    }
                    self.clear_stuck();
                    at = 1 - at;
                }
                (Found::More, _) => {
                    drop(wake);
                    self.mailbox.add_busy(clock.now().since(started));
                    return Turn::More;
                }
                (Found::Idle | Found::Next, _) => {
                    if take.publishing {
                        self.mailbox.published();
                    }
                    self.mailbox.add_busy(clock.now().since(started));
                    return Turn::Done {
                        wake,
                        roomy: take.roomy,
                    };
                }
            }
        }
    }

    /// Wait and run time of a message that was timed; a long run uses up the turn's budget.
    #[inline]
    fn timed(
        &self,
        times: Option<(Timestamp, Timestamp)>,
        started: Timestamp,
        left: &mut usize,
    ) -> Timed {
        let (posted, begun) = times?;
        let now = self.pool.inner().clock.now();
        if now.since(started) > BUDGET_TIME {
            *left = 0;
        }
        Some((begun.since(posted), now.since(begun)))
    }

    fn clear_stuck(&self) {
        // ORDERING: Relaxed, a report for people; nothing is published by it.
        if self.stuck.load(Ordering::Relaxed) {
            self.stuck.store(false, Ordering::Relaxed);
        }
    }

    fn activate(self: &Arc<Self>, tokens: usize) {
        for _ in 0..tokens {
            self.pool.inner().push(self.clone());
        }
    }

    fn state(&self) -> WorkerState {
        match self.mailbox.gate() {
            (Gate::Closed, true) => WorkerState::Stopped,
            // ORDERING: Relaxed, see `clear_stuck`.
            (Gate::Open, _) if self.stuck.load(Ordering::Relaxed) => WorkerState::Stuck,
            (Gate::Closed, false) => WorkerState::Stopping,
            (Gate::Open, _) => WorkerState::Running,
            (Gate::Paused, _) => WorkerState::New,
        }
    }
}

impl<H: Handler> AnyCell for Cell<H> {
    fn id(&self) -> u64 {
        self.id
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn is_exclusive(&self) -> bool {
        self.exclusive
    }

    fn pool(&self) -> &Arc<PoolInner> {
        self.pool.inner()
    }

    fn edges(&self) -> &Edges {
        &self.edges
    }

    fn is_terminated(&self) -> bool {
        // ORDERING: Relaxed, the flag carries no data.
        self.terminated.load(Ordering::Relaxed)
    }

    fn run_turn(self: Arc<Self>) -> Turn {
        self.turn()
    }

    fn expire(&self, mut tickets: Vec<Arc<dyn Ticket>>) {
        let all = tickets.clone();
        let leftovers = self.mailbox.remove(&mut tickets, true);
        let running = self.mailbox.running();
        for ticket in all {
            if tickets.iter().any(|removed| Arc::ptr_eq(removed, &ticket)) {
                ticket.fail(false, Failure::Expired);
            } else if running.iter().any(|runs| Arc::ptr_eq(runs, &ticket)) {
                // ORDERING: Relaxed, see `clear_stuck`. Before the reply stands, so that whoever got the error
                // finds the worker stuck.
                self.stuck.store(true, Ordering::Relaxed);
                ticket.state().request_cancel();
                if ticket.fail(false, Failure::Expired) {
                    ticket.interrupt();
                } else {
                    // The handler returned in between.
                    self.clear_stuck();
                }
            }
            // Else whoever cancelled or dropped it meanwhile settles it.
        }
        self.abandon_all(leftovers);
    }

    fn cancel(&self, ticket: &Arc<dyn Ticket>) -> bool {
        if !ticket.state().is_queued() {
            return self.cancel_running(ticket);
        }
        let mut removed = vec![ticket.clone()];
        let leftovers = self.mailbox.remove(&mut removed, false);
        let cancelled = !removed.is_empty();
        if cancelled && !ticket.fail(false, Failure::Cancelled) {
            // The worker came by its entry first, and is settling it the same way at this moment.
            ticket.state().wait(None);
        }
        self.abandon_all(leftovers);
        cancelled || self.cancel_running(ticket)
    }

    fn shrink(&self) {
        self.mailbox.shrink();
    }

    fn lend(&self, more: bool) {
        if self.exclusive {
            return;
        }
        let tokens = self.mailbox.lend(more);
        if let Some(own) = self.own.upgrade() {
            own.activate(tokens);
        }
    }
}

impl<H: Handler> Cell<H> {
    fn cancel_running(&self, ticket: &Arc<dyn Ticket>) -> bool {
        if ticket.state().is_claimed() {
            ticket.state().request_cancel();
            ticket.interrupt();
        }
        false
    }
}

/// How a worker is made.
#[derive(Clone, Copy, Debug)]
pub struct WorkerOptions {
    /// Messages that the mailbox holds at most, at least 1.
    pub capacity: usize,
    /// What happens to one more.
    pub overflow: Overflow,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            capacity: DEFAULT_CAPACITY,
            overflow: Overflow::default(),
        }
    }
}

/// A post that was refused; the message comes back.
#[derive(Debug)]
#[non_exhaustive]
pub enum PostError<M> {
    /// There was no room, or none in time.
    Full(M),
    /// Waiting for room would never end: the caller is the worker itself, or one that it waits for.
    WouldDeadlock(M),
    /// The worker was stopped.
    Stopped(M),
    /// No thread could be started to handle it.
    NoThread(M, io::Error),
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

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// The handle of a worker. Dropping it stops the worker after what is queued, without waiting.
pub struct Worker<H: Handler> {
    cell: Arc<Cell<H>>,
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
    /// A worker of `pool` that handles one message at a time, not started.
    ///
    /// # Panics
    /// When `options.capacity` is 0.
    #[must_use]
    pub fn new(name: &str, handler: H, options: WorkerOptions, pool: &Pool) -> Self {
        Self::with_limit(name, handler, options, pool, None)
    }

    /// The pool's own mailbox: open at once, and handled by as many threads as the pool has.
    ///
    /// # Panics
    /// When `options.capacity` is 0.
    #[must_use]
    pub fn shared(name: &str, handler: H, options: WorkerOptions, pool: &Pool) -> Self {
        let worker = Self::with_limit(name, handler, options, pool, Some(pool.size()));
        worker.cell.life.lock().0 = Some(pool.inner().clock.now());
        worker
    }

    fn with_limit(
        name: &str,
        handler: H,
        options: WorkerOptions,
        pool: &Pool,
        limit: Option<usize>,
    ) -> Self {
        assert!(
            options.capacity > 0,
            "a mailbox needs room for at least one message"
        );
        let gate = if limit.is_some() {
            Gate::Open
        } else {
            Gate::Paused
        };
        Self {
            cell: Arc::new_cyclic(|own| Cell {
                // ORDERING: Relaxed, only uniqueness matters.
                id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
                name: name.to_owned(),
                exclusive: limit.is_none(),
                mailbox: Mailbox::new(options.capacity, options.overflow, limit.unwrap_or(1), gate),
                handler,
                pool: pool.clone(),
                edges: Mutex::default(),
                stuck: AtomicBool::new(false),
                terminated: AtomicBool::new(false),
                life: Mutex::new((None, None)),
                own: own.clone(),
            }),
        }
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

    /// Whether it handles one message at a time: every worker but a pool's own mailbox.
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
            .0
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

    /// Posts without waiting; under [`Overflow::Block`] a full mailbox refuses, uncounted.
    ///
    /// # Errors
    /// [`PostError`] gives the message back.
    #[inline]
    pub fn try_post(&self, message: H::Message) -> Result<(), PostError<H::Message>> {
        self.post_if_room(message, false)
    }

    /// `dallies`: the caller would wait for room, and may as well do so for a moment first.
    #[inline]
    fn post_if_room(
        &self,
        message: H::Message,
        dallies: bool,
    ) -> Result<(), PostError<H::Message>> {
        if let Err(error) = self.ensure_thread() {
            return Err(PostError::NoThread(message, error));
        }
        let clock = &*self.cell.pool.inner().clock;
        match self.cell.mailbox.post_fast(message, clock) {
            Ok(0) => Ok(()),
            Ok(tokens) => {
                self.cell.activate(tokens);
                Ok(())
            }
            Err(message) => {
                // A handler is not held up for it: it may be what makes the room.
                if dallies && wait::current().is_none() {
                    self.cell.mailbox.dally();
                }
                self.post_slowly(message)
            }
        }
    }

    #[cold]
    fn post_slowly(&self, message: H::Message) -> Result<(), PostError<H::Message>> {
        let clock = &*self.cell.pool.inner().clock;
        match self.cell.mailbox.post_exactly(message, clock) {
            Ok(posted) => {
                self.accept(posted);
                Ok(())
            }
            Err(Refused::Full(message)) => Err(PostError::Full(message)),
            Err(Refused::Closed(message)) => Err(PostError::Stopped(message)),
        }
    }

    /// Posts; under [`Overflow::Block`] waits for room, at most for `limit`.
    ///
    /// # Errors
    /// [`PostError`] gives the message back.
    pub fn post(
        &self,
        message: H::Message,
        limit: Option<Duration>,
    ) -> Result<(), PostError<H::Message>> {
        let waits = self.cell.mailbox.overflow() == Overflow::Block;
        let mut message = match self.post_if_room(message, waits) {
            Err(PostError::Full(message)) if waits => message,
            other => return other,
        };
        let until = limit.and_then(|limit| Instant::now().checked_add(limit));
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            match self.wait_for_room(left) {
                Ok(true) => {}
                Ok(false) => {
                    self.give_up(1);
                    return Err(PostError::Full(message));
                }
                Err(_) => {
                    self.give_up(1);
                    return Err(PostError::WouldDeadlock(message));
                }
            }
            message = match self.post_if_room(message, true) {
                Err(PostError::Full(message)) => message,
                other => return other,
            };
        }
    }

    /// Blocks until a post may succeed, at most for `limit`; false when that has passed. After true the caller posts
    /// at once: it may have been woken in the place of another sender.
    ///
    /// # Errors
    /// [`WaitError`] when the caller is this worker itself or one that it waits for, or its pool would stand still.
    pub fn wait_for_room(&self, limit: Option<Duration>) -> Result<bool, WaitError> {
        let until = limit.and_then(|limit| Instant::now().checked_add(limit));
        if self.is_current() && self.cell.exclusive {
            return Err(WaitError::Cycle(vec![self.cell.name.clone()]));
        }
        // Room comes when that worker's handler returns, which it does not while it waits for this one.
        let waiter = wait::current();
        let _edge = waiter
            .map(|waiter| wait::edge(&waiter, &self.address(), None))
            .transpose()?;
        let _blocking = Blocking::enter()?;
        Ok(self.cell.mailbox.wait_for_room(until) != Room::TimedOut)
    }

    /// Calls `callback` once a post may succeed, on the thread that made it so; here and now if one may already.
    pub fn on_room(&self, callback: impl FnOnce() + Send + 'static) {
        self.cell.mailbox.on_room(Box::new(callback));
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
        let (posted, refused) = self
            .cell
            .mailbox
            .try_post_many(messages, &*self.cell.pool.inner().clock);
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
            Some(Gate::Closed) => Err((accepted, PostError::Stopped(()))),
            Some(_) => Err((accepted, PostError::Full(()))),
        }
    }

    /// Counts posts as rejected that their sender gave up because there was no room.
    pub fn give_up(&self, posts: usize) {
        self.cell.mailbox.count_rejected(posts);
    }

    /// Makes the message of `ticket` expire after `limit`, queued or running.
    ///
    /// # Errors
    /// When the thread that watches deadlines could not be started.
    pub fn set_deadline(&self, ticket: &Arc<dyn Ticket>, limit: Duration) -> io::Result<()> {
        let pool = self.cell.pool.inner();
        let cell: Arc<dyn AnyCell> = self.cell.clone();
        if pool
            .deadlines
            .add(pool.clock.now().after(limit), ticket, &cell)
        {
            pool.start_deadlines()?;
        }
        Ok(())
    }

    /// Whether the calling thread runs this worker's handler.
    #[must_use]
    pub fn is_current(&self) -> bool {
        wait::current().is_some_and(|current| current.0.id() == self.cell.id)
    }

    /// Refuses posts from now on; what is queued is handled or failed as `mode` says. Does not wait. Returns how
    /// many messages failed.
    pub fn close(&self, mode: StopMode) -> usize {
        let leftovers = self.cell.mailbox.close(match mode {
            StopMode::Drain => Rest::Run,
            StopMode::FinishRunning => Rest::Fail(Failure::Stopped),
            StopMode::CancelQueued => Rest::Fail(Failure::Cancelled),
        });
        let failed = leftovers.len();
        self.cell.abandon_all(leftovers);
        failed
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
                .1
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
        let waiter = wait::current();
        let _edge = waiter
            .map(|waiter| wait::edge(&waiter, &self.address(), None))
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
        self.close(StopMode::FinishRunning);
        for ticket in self.cell.mailbox.running() {
            ticket.state().request_cancel();
            ticket.fail(false, Failure::Stopped);
            ticket.interrupt();
        }
    }

    /// Its numbers at one instant.
    #[must_use]
    pub fn stats(&self) -> WorkerStats {
        let (counters, busy, timings) = self.cell.mailbox.snapshot();
        let (started, ended) = *self.cell.life.lock();
        let until = ended.unwrap_or_else(|| self.cell.pool.inner().clock.now());
        WorkerStats {
            name: self.cell.name.clone(),
            state: self.state(),
            capacity: self.cell.mailbox.capacity(),
            counters,
            busy,
            alive: started.map_or(Duration::ZERO, |started| until.since(started)),
            timings: timings
                .as_ref()
                .map(|timings| timings.summary())
                .unwrap_or_default(),
            raw_timings: timings,
        }
    }
}

impl<H: Handler> Drop for Worker<H> {
    fn drop(&mut self) {
        self.close(StopMode::Drain);
    }
}
