//! A fleet: the lanes of one pool, a thread that reads the replies of each, and one that watches over the children.
//!
//! The thread of a lane starts its children too. The watching thread (the *supervisor*) says when, sees them end, kills
//! those whose time has come and measures their memory. It sleeps until one of these is due. It never needs a lock that a
//! handler may hold.
//!
//! Past 600 lines, a third of which is documentation: what a fleet offers and what its supervisor does share every field.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::cargo::Cargo;
use crate::crash::{Cause, Crash};
use crate::flight::Flight;
use crate::lane::reading::Word;
use crate::lane::stopping::WaitingLook;
use crate::lane::{Fares, Lane, Standing};
use crate::options::{END_LIMIT, Options, Transport};
use crate::start::Setup;
use crate::store::Store;
use crate::usage::{ChildUsage, resident};

/// How often the memory of the children is measured, where it is limited: a handler that allocates as fast as it can
/// gets some 100 MB past the limit.
const MEMORY_LOOK: Duration = Duration::from_millis(20);
/// How long a child may answer nothing, or another be idle, before what waits goes to other children.
const WAITING_LOOK: Duration = Duration::from_millis(10);
/// How often to look for ended children where no descriptor tells.
const END_LOOK: Duration = Duration::from_millis(20);

/// What a fleet tells its owner, and asks it. Called on the threads that read replies, and on the supervisor, so nothing
/// here may block for long.
pub trait Overseer: Send + Sync + 'static {
    /// What the child of a lane is started with now. Called on the thread of the lane, which may wait here as long as
    /// only that child is late by it.
    ///
    /// # Errors
    /// No child can be started: the reason is what the messages for it fail with.
    fn setup(&self, lane: usize) -> io::Result<Setup>;

    /// A child has something to say for the log.
    fn log(&self, bytes: Vec<u8>);

    /// The child of a lane waits for an answer to `key` at its [`Fleet::door`].
    fn asked(&self, lane: usize, key: Vec<u8>);

    /// A lane was given up; it is tried again after `rest`.
    fn lane_failed(&self, lane: usize, crash: &Arc<Crash>, rest: Duration);

    /// A lane that was given up has a child again.
    fn lane_recovered(&self, lane: usize);

    /// The child of a lane was told to end, did not within [`END_LIMIT`], and was killed.
    fn killed_late(&self, lane: usize, pid: u32) {
        let _ = (lane, pid);
    }

    /// A thread that reads replies has nothing to do and is about to sleep.
    fn rests(&self) {}

    /// Held by each thread of the fleet from before it starts until nothing of the fleet is left on it.
    fn presence(&self) -> Box<dyn Send> {
        Box::new(())
    }
}

/// A pair of sockets by which other threads call the supervisor.
#[derive(Debug)]
struct SupervisorBell {
    ring: UnixStream,
    hear: UnixStream,
}

impl SupervisorBell {
    fn new() -> io::Result<Self> {
        let (ring, hear) = UnixStream::pair()?;
        ring.set_nonblocking(true)?;
        hear.set_nonblocking(true)?;
        Ok(Self { ring, hear })
    }

    fn ring(&self) {
        // A full socket has rung often enough.
        let _ = (&self.ring).write(&[0]);
    }

    fn hush(&self) {
        while (&self.hear).read(&mut [0; 64]).is_ok_and(|read| read == 64) {}
    }
}

/// Where large payloads go.
#[derive(Debug)]
enum StoreState {
    /// Not known yet.
    Unasked,
    Here(Arc<Store>),
    /// The system has no memory of the kind, so the children are reached by sockets; or the fleet is closed.
    Nowhere,
}

/// How many threads of a fleet there are, for a wait for their end that is over at some time: a handle's `join` is not.
#[derive(Debug, Default)]
struct Living {
    count: Mutex<usize>,
    ended: Condvar,
}

/// One of them, until it is dropped.
struct LivingThread(Arc<Living>);

impl Living {
    fn lock(&self) -> std::sync::MutexGuard<'_, usize> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(living: &Arc<Self>) -> LivingThread {
        *living.lock() += 1;
        LivingThread(living.clone())
    }

    /// Waits until there are no more than `rest`. False: it is past `until`.
    fn wait(&self, rest: usize, until: Option<Instant>) -> bool {
        let mut count = self.lock();
        while *count > rest {
            let Some(until) = until else {
                count = self
                    .ended
                    .wait(count)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            (count, _) = self
                .ended
                .wait_timeout(count, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
        true
    }
}

impl Drop for LivingThread {
    fn drop(&mut self) {
        *self.0.lock() -= 1;
        self.0.ended.notify_all();
    }
}

struct Inner<C: Cargo> {
    options: Options,
    lanes: Vec<Lane<C>>,
    /// Made for the first large payload or the first child.
    store: Mutex<StoreState>,
    /// The system has refused shared memory.
    refused: AtomicBool,
    overseer: Box<dyn Overseer>,
    /// Calls the supervisor; there while it is.
    bell: Mutex<Option<Arc<SupervisorBell>>>,
    closed: AtomicBool,
    threads: Mutex<Vec<JoinHandle<()>>>,
    living: Arc<Living>,
    /// The lanes below this number have been used; the others never had a child.
    used: AtomicUsize,
    /// Lanes that are given up at the moment.
    failed: AtomicUsize,
    /// The supervisor looks whether messages wait behind others that could run elsewhere.
    watching: AtomicBool,
    /// Held while messages go from one lane to another, and by a thread that looks for messages in all lanes: it would
    /// miss those that are between two.
    moving: Mutex<()>,
}

impl<C: Cargo> fmt::Debug for Inner<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// The handle of a fleet. Dropping it closes the fleet without waiting.
#[derive(Debug)]
pub struct Fleet<C: Cargo>(Arc<Inner<C>>);

impl<C: Cargo> Fleet<C> {
    /// A fleet without children, threads and descriptors: they come when there is work for them.
    #[must_use]
    pub fn new(options: Options, overseer: Box<dyn Overseer>) -> Self {
        Self(Arc::new(Inner {
            lanes: (0..options.size).map(|_| Lane::new()).collect(),
            options,
            store: Mutex::new(StoreState::Unasked),
            refused: AtomicBool::new(false),
            overseer,
            bell: Mutex::new(None),
            closed: AtomicBool::new(false),
            threads: Mutex::new(Vec::new()),
            living: Arc::default(),
            used: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            watching: AtomicBool::new(false),
            moving: Mutex::new(()),
        }))
    }

    /// Where the large payloads of its messages go; `None`: nowhere but into the messages themselves.
    #[must_use]
    pub fn store(&self) -> Option<Arc<Store>> {
        self.0.store()
    }

    /// Children at the same time.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.lanes.len()
    }

    /// The lanes from 0 to this number may have a child; the others never had one.
    #[must_use]
    pub fn used(&self) -> usize {
        self.0.used().len()
    }

    /// Sends messages to the child of a lane, in order; starts it if there is none. Never blocks for the child.
    pub fn hand(&self, lane: usize, flights: Vec<Flight<C>>) {
        let Some(wanted) = self.0.lanes.get(lane) else {
            return;
        };
        self.0.uses(lane);
        let ahead = self.size() > 1 && flights.len() > 1 || wanted.load() > 0;
        if wanted.hand(flights) {
            self.0.begin();
        }
        // ORDERING: Relaxed, a hint: the supervisor clears it before it looks a last time.
        if ahead && self.size() > 1 && !self.0.watching.swap(true, Ordering::Relaxed) {
            self.0.ring();
        }
    }

    /// Starts the child of a lane, if there is none.
    pub fn want(&self, lane: usize) {
        if let Some(wanted) = self.0.lanes.get(lane) {
            self.0.uses(lane);
            if wanted.want() {
                self.0.begin();
            }
        }
    }

    /// The lane that runs a message soonest: one whose child is idle, else one without a child, else the one with the
    /// least to do. While some lane is given up, no other one is tried that has no child.
    #[must_use]
    pub fn quietest(&self) -> usize {
        self.0.quietest().map_or(0, |(lane, _)| lane)
    }

    /// The same for messages that are better run in the lane `used`: that one, if its child has nothing to do, or if that of
    /// no other has.
    #[must_use]
    pub fn quietest_after(&self, used: Option<usize>) -> usize {
        let wanted = used.and_then(|used| Some((used, self.0.used().get(used)?.standing())));
        match wanted {
            Some((used, Standing::Idle)) => used,
            Some((used, Standing::Busy(_))) => match self.0.quietest() {
                Some((lane, standing)) if standing < Standing::Busy(0) => lane,
                _ => used,
            },
            _ => self.quietest(),
        }
    }

    /// Whether messages may be sent to a child before those before them have ended: whether they can be taken back.
    #[must_use]
    pub fn runs_ahead(&self) -> bool {
        // ORDERING: Relaxed, set before the first message is packed.
        self.0.options.transport == Transport::SharedMemory
            && !self.0.refused.load(Ordering::Relaxed)
    }

    /// Why a lane is given up at the moment, and how long until it is tried again. `None`: why no lane could run a
    /// message.
    #[must_use]
    pub fn failure(&self, lane: Option<usize>) -> Option<(Arc<Crash>, Duration)> {
        if !self.0.has_failures() {
            return None;
        }
        if let Some(lane) = lane {
            return self.0.lanes.get(lane).and_then(Lane::failure);
        }
        match self.0.quietest() {
            Some((_, standing)) if standing < Standing::Out => None,
            _ => {
                let failures = self.0.used().iter().filter_map(Lane::failure);
                failures.min_by_key(|(_, rest)| *rest)
            }
        }
    }

    /// How the one of these lanes fares that fares best.
    pub(crate) fn fares(&self, lanes: impl IntoIterator<Item = usize>) -> Fares {
        let mut best = None;
        for lane in lanes.into_iter().filter_map(|lane| self.0.used().get(lane)) {
            match (lane.fares(), &best) {
                (Fares::Well, _) => return Fares::Well,
                (found @ Fares::Restarts(_), None | Some(Fares::GivenUp(..)))
                | (found @ Fares::GivenUp(..), None) => best = Some(found),
                (Fares::Restarts(_) | Fares::GivenUp(..), _) => {}
            }
        }
        best.unwrap_or(Fares::Well)
    }

    /// The process numbers of the children, by lane.
    #[must_use]
    pub fn pids(&self) -> Vec<Option<u32>> {
        self.0.lanes.iter().map(Lane::pid).collect()
    }

    /// Children of these lanes that are there now, and children that were started in the place of another one.
    #[must_use]
    pub fn census(&self, lanes: impl IntoIterator<Item = usize>) -> (usize, u64) {
        let lanes = lanes.into_iter().filter_map(|lane| self.0.used().get(lane));
        lanes.fold((0, 0), |(alive, restarts), lane| {
            let is_there = usize::from(lane.pid().is_some());
            (alive + is_there, restarts + lane.restarts())
        })
    }

    /// The children of these lanes that are there now, and what they use.
    #[must_use]
    pub fn usage(&self, lanes: impl IntoIterator<Item = usize>) -> Vec<ChildUsage> {
        let lanes = lanes.into_iter().filter_map(|lane| self.0.used().get(lane));
        lanes.filter_map(Lane::pid).map(ChildUsage::of).collect()
    }

    /// Reads the replies of a lane on the calling thread until `done`, at most for `limit`: quicker than to be woken by
    /// the thread that else does. Says what `done` does; returns early for no reason, and at once where another thread is
    /// reading.
    pub fn help(&self, lane: usize, done: &dyn Fn() -> bool, limit: Duration) -> bool {
        let tell = |word| self.0.tell(lane, word);
        match self.0.lanes.get(lane) {
            Some(lane) => lane.help(done, limit, &tell, &|| self.0.ring()),
            None => done(),
        }
    }

    /// Has the replies of a lane read soon: a caller waits for one without [`Fleet::help`].
    pub fn call(&self, lane: usize) {
        if let Some(lane) = self.0.lanes.get(lane) {
            lane.call();
        }
    }

    /// The host's end of the door of a lane's child, for an answer to one that asked; `None` where it has ended.
    #[must_use]
    pub fn door(&self, lane: usize) -> Option<OwnedFd> {
        self.0.lanes.get(lane)?.door()
    }

    /// Puts messages of a worker back that no child has begun, but for the first of each batch.
    pub fn recall(&self, lanes: impl IntoIterator<Item = usize>, worker: u32) {
        let mut found = Vec::new();
        let still = self.0.lock_moving();
        for lane in lanes.into_iter().filter_map(|lane| self.0.used().get(lane)) {
            lane.recall(&|flight| flight.worker == worker, &mut found);
        }
        // A sender whose parked post goes in then may look for messages in its turn.
        drop(still);
        C::put_back(found);
    }

    /// Whether a child has begun a message that `of` picks.
    pub fn has_begun(
        &self,
        lanes: impl IntoIterator<Item = usize>,
        of: &dyn Fn(&C) -> bool,
    ) -> bool {
        let _still = self.0.lock_moving();
        lanes
            .into_iter()
            .filter_map(|lane| self.0.used().get(lane))
            .any(|lane| lane.has_begun(of))
    }

    /// The messages that the children have begun, by the process number of each: their numbers there, and what `note` says
    /// of them. It runs under the lane's lock, so it only copies.
    #[must_use]
    pub fn begun<T>(&self, note: &dyn Fn(&C) -> T) -> Vec<(u32, Vec<(u64, T)>)> {
        let used = self.0.used().iter();
        used.filter_map(|lane| lane.begun(note)).collect()
    }

    /// What `note` says of the messages of a worker that the children of these lanes have begun. It runs under the lane's
    /// lock, so it only copies.
    #[must_use]
    pub fn begun_of<T>(
        &self,
        lanes: impl IntoIterator<Item = usize>,
        worker: u32,
        note: &dyn Fn(&C) -> Option<T>,
    ) -> Vec<T> {
        let lanes = lanes.into_iter().filter_map(|lane| self.0.used().get(lane));
        lanes.flat_map(|lane| lane.begun_of(worker, note)).collect()
    }

    /// Sees to it that children of these lanes that have nothing to do take up what they were sent.
    pub fn watch(&self, lanes: impl IntoIterator<Item = usize>) {
        let mut rings = false;
        for lane in lanes.into_iter().filter_map(|lane| self.0.used().get(lane)) {
            rings |= lane.watch(self.0.options.grace);
        }
        if rings {
            self.0.ring();
        }
    }

    /// Takes the messages of a worker out that no child has begun: it has stopped.
    #[must_use]
    pub fn withdraw(&self, lanes: impl IntoIterator<Item = usize>, worker: u32) -> Vec<C> {
        let mut found = Vec::new();
        let mut rings = false;
        let _still = self.0.lock_moving();
        for lane in lanes.into_iter().filter_map(|lane| self.0.used().get(lane)) {
            rings |= lane.withdraw(worker, self.0.options.grace, &mut found);
        }
        if rings {
            self.0.ring();
        }
        found
    }

    /// Stops messages that `of` picks: what runs is asked, and then killed with its child.
    pub fn stop(&self, lanes: impl IntoIterator<Item = usize>, of: &dyn Fn(&C) -> bool) {
        let _still = self.0.lock_moving();
        for lane in lanes.into_iter().filter_map(|lane| self.0.used().get(lane)) {
            if lane.stop(of, self.0.options.grace) {
                self.0.ring();
            }
        }
    }

    /// Tells the children that have messages which `of` picks that so many items more of their streams may come.
    pub fn grant(
        &self,
        lanes: impl IntoIterator<Item = usize>,
        of: &dyn Fn(&C) -> bool,
        items: u32,
    ) {
        for lane in lanes.into_iter().filter_map(|lane| self.0.used().get(lane)) {
            lane.grant(of, items);
        }
    }

    /// The streams of messages that `of` picks are not read any more: takes those out that no child has begun, and tells
    /// the children that have the others.
    #[must_use]
    pub fn unread(
        &self,
        lanes: impl IntoIterator<Item = usize>,
        of: &dyn Fn(&C) -> bool,
    ) -> Vec<C> {
        let mut found = Vec::new();
        let _still = self.0.lock_moving();
        for lane in lanes.into_iter().filter_map(|lane| self.0.used().get(lane)) {
            if lane.unread(of, self.0.options.grace, &mut found) {
                self.0.ring();
            }
        }
        found
    }

    /// Stops all messages of a worker; what runs is killed with its child, without asking.
    pub fn terminate(&self, lanes: impl IntoIterator<Item = usize>, worker: u32) {
        let _still = self.0.lock_moving();
        for lane in lanes.into_iter().filter_map(|lane| self.0.used().get(lane)) {
            if lane.terminate(worker) {
                self.0.ring();
            }
        }
    }

    /// Tells the children to end and refuses what comes; those that do not end are killed. Does not wait.
    pub fn close(&self) {
        self.0.close();
    }

    /// Whether a child was ever wanted: its threads came with the first, and stay until the end.
    #[must_use]
    pub fn has_started(&self) -> bool {
        !self.0.lock_threads().is_empty()
    }

    /// Has the children killed that were told to end and have not yet, in whatever time they still had.
    pub fn kill_ending(&self) {
        let mut rings = false;
        for lane in self.0.used() {
            rings |= lane.kill_ending();
        }
        if rings {
            self.0.ring();
        }
    }

    /// Blocks until the children and the threads have ended, after [`Fleet::close`]; at most until `until`. Says whether
    /// they have.
    pub fn join(&self, until: Option<Instant>) -> bool {
        let own = thread::current().id();
        let is_one = |thread: &JoinHandle<()>| thread.thread().id() == own;
        let is_ours = self.0.lock_threads().iter().any(is_one);
        if !self.0.living.wait(usize::from(is_ours), until) {
            return false;
        }
        loop {
            let Some(thread) = self.0.lock_threads().pop() else {
                return true;
            };
            if !is_one(&thread) {
                // A panic of ours was reported by the hook already, and there is no caller left to tell.
                let _ = thread.join();
            }
        }
    }
}

impl<C: Cargo> Drop for Fleet<C> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<C: Cargo> Inner<C> {
    fn lock_threads(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_bell(&self) -> std::sync::MutexGuard<'_, Option<Arc<SupervisorBell>>> {
        self.bell.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_moving(&self) -> std::sync::MutexGuard<'_, ()> {
        self.moving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lanes that may have a child.
    fn used(&self) -> &[Lane<C>] {
        // ORDERING: Acquire, with `uses`: a number that is seen stands for lanes that are looked at under their locks.
        let used = self.used.load(Ordering::Acquire);
        &self.lanes[..used.min(self.lanes.len())]
    }

    /// Counts a lane as used.
    fn uses(&self, lane: usize) {
        // ORDERING: Relaxed, a hint whether to write: it only ever grows.
        if self.used.load(Ordering::Relaxed) <= lane {
            // ORDERING: Release, see `used`.
            self.used.fetch_max(lane + 1, Ordering::Release);
        }
    }

    /// Whether some lane is given up.
    fn has_failures(&self) -> bool {
        // ORDERING: Relaxed, counted before the messages fail by which the owner could know.
        self.failed.load(Ordering::Relaxed) > 0
    }

    /// The lane that runs a message soonest, and how soon.
    fn quietest(&self) -> Option<(usize, Standing)> {
        let used = self.used();
        // The cause that keeps one child from starting may well do so with the next one.
        let tries = !self.has_failures();
        let mut best = None;
        for (lane, one) in used.iter().enumerate() {
            let standing = one.standing();
            if standing == Standing::Empty && !tries {
                continue;
            }
            if best.is_none_or(|(_, least)| standing < least) {
                best = Some((lane, standing));
            }
            if standing == Standing::Idle {
                break;
            }
        }
        let fresh = tries && used.len() < self.lanes.len();
        let fresh = fresh.then_some((used.len(), Standing::Empty));
        match (best, fresh) {
            (Some((_, standing)), Some(fresh)) if standing > Standing::Empty => Some(fresh),
            (None, fresh) => fresh,
            (best, _) => best,
        }
    }

    fn store(&self) -> Option<Arc<Store>> {
        if self.options.transport != Transport::SharedMemory {
            return None;
        }
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*store, StoreState::Unasked) {
            // The first answer stands: what was packed for the one transport cannot go over the other.
            *store =
                Store::create("pytoweb-requests").map_or(StoreState::Nowhere, StoreState::Here);
            // ORDERING: Relaxed, see `Fleet::runs_ahead`.
            self.refused
                .store(matches!(*store, StoreState::Nowhere), Ordering::Relaxed);
        }
        match &*store {
            StoreState::Here(store) => Some(store.clone()),
            StoreState::Unasked | StoreState::Nowhere => None,
        }
    }

    /// Calls the supervisor, if there is one.
    fn ring(&self) {
        if let Some(bell) = &*self.lock_bell() {
            bell.ring();
        }
    }

    fn close(&self) {
        for lane in &self.lanes {
            lane.close(END_LIMIT, self.options.grace);
        }
        // ORDERING: Release, with the supervisor's Acquire: it sees every lane closed.
        self.closed.store(true, Ordering::Release);
        let store = std::mem::replace(
            &mut *self.store.lock().unwrap_or_else(PoisonError::into_inner),
            StoreState::Nowhere,
        );
        drop(store);
        self.ring();
    }

    /// Makes sure that the threads are there, and calls the supervisor.
    fn begin(self: &Arc<Self>) {
        let mut bell = self.lock_bell();
        // ORDERING: Relaxed, a hint: what is handed to a closed lane fails there.
        if bell.is_none() && !self.closed.load(Ordering::Relaxed) {
            let made = SupervisorBell::new().map(Arc::new);
            let begun = made.and_then(|made| self.start_supervisor(&made).map(|()| made));
            match begun {
                Ok(made) => *bell = Some(made),
                Err(error) => {
                    drop(bell);
                    let crash = Arc::new(Crash::without_process(Cause::Start(error.to_string())));
                    for lane in self.used() {
                        lane.refuse(&crash);
                    }
                    return;
                }
            }
        }
        drop(bell);
        self.ring();
    }

    fn start_supervisor(self: &Arc<Self>, bell: &Arc<SupervisorBell>) -> io::Result<()> {
        let (inner, bell) = (self.clone(), bell.clone());
        self.start_thread("supervisor", move || {
            inner.supervise(&bell);
            *inner.lock_bell() = None;
        })
    }

    fn start_reader(self: &Arc<Self>, lane: usize) -> io::Result<()> {
        let inner = self.clone();
        self.start_thread(&format!("child-{}", lane + 1), move || inner.read(lane))
    }

    fn start_thread(&self, role: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let presence = self.overseer.presence();
        let living = Living::enter(&self.living);
        self.lock_threads().push(
            thread::Builder::new()
                .name(format!("{}-{role}", self.options.name))
                .spawn(move || {
                    body();
                    drop(presence);
                    drop(living);
                })?,
        );
        Ok(())
    }

    /// The life of a thread that reads the replies of one lane.
    fn read(&self, lane: usize) {
        let tell = |word| self.tell(lane, word);
        let rests = || self.overseer.rests();
        self.lanes[lane].read(&tell, &|| self.ring(), &rests, &|| self.start(lane));
    }

    /// Starts the child of a lane.
    fn start(&self, lane: usize) {
        let setup = self.overseer.setup(lane);
        self.lanes[lane].start(&self.options, self.store().as_ref(), setup);
        // It is to be looked after from now on.
        self.ring();
    }

    fn tell(&self, lane: usize, word: Word) {
        match word {
            Word::Log(bytes) => self.overseer.log(bytes),
            Word::Ask(key) => self.overseer.asked(lane, key),
        }
    }

    /// The life of the supervisor.
    fn supervise(self: &Arc<Self>, bell: &SupervisorBell) {
        let mut looked = Instant::now();
        // By lane: whether it has a thread that reads its replies.
        let mut reading: Vec<bool> = Vec::new();
        loop {
            // ORDERING: Acquire, see `close`.
            let closed = self.closed.load(Ordering::Acquire);
            let mut over = true;
            let mut due: Option<Instant> = self.look_after_waiting(&mut looked);
            reading.resize(self.used().len().max(reading.len()), false);
            for (number, reading) in reading.iter_mut().enumerate() {
                let (lane_due, lane_over) = self.look_after(number, reading);
                due = due.into_iter().chain(lane_due).min();
                over &= lane_over || (closed && self.lanes[number].pid().is_none());
            }
            if closed && over {
                return;
            }
            self.sleep(bell, due);
        }
    }

    /// Does for one lane what is due. Says when something is next, and whether nothing more ever is.
    fn look_after(self: &Arc<Self>, number: usize, reading: &mut bool) -> (Option<Instant>, bool) {
        let lane = &self.lanes[number];
        let tell = |word| self.tell(number, word);
        if lane.has_recovered() {
            // ORDERING: Relaxed, see `Fleet::has_failures`.
            self.failed.fetch_sub(1, Ordering::Relaxed);
            self.overseer.lane_recovered(number);
        }
        lane.bury(&self.options, &tell, &|crash, rest, movable| {
            self.given_up(number, crash, rest, movable);
        });
        if lane.needs().start {
            let reads = if *reading {
                Ok(())
            } else {
                self.start_reader(number)
            };
            match reads {
                Ok(()) => {
                    *reading = true;
                    lane.begin_start();
                }
                Err(error) => {
                    let cause = Cause::Start(error.to_string());
                    lane.refuse(&Arc::new(Crash::without_process(cause)));
                }
            }
        }
        let now = Instant::now();
        let pid = lane.pid();
        let memory = self.options.max_memory.zip(pid);
        let used = memory.and_then(|(limit, pid)| Some((resident(pid)?, limit)));
        if let Some(pid) = lane.enforce(now, used, self.options.grace) {
            self.overseer.killed_late(number, pid);
        }
        let look = memory.map(|_| now + MEMORY_LOOK);
        let needs = lane.needs();
        (needs.due.into_iter().chain(look).min(), needs.over)
    }

    /// A lane is given up: what others could run goes to one of those.
    fn given_up(
        &self,
        lane: usize,
        crash: &Arc<Crash>,
        rest: Option<Duration>,
        movable: &mut Vec<Flight<C>>,
    ) {
        if let Some(rest) = rest {
            // ORDERING: Relaxed, see `Fleet::has_failures`.
            self.failed.fetch_add(1, Ordering::Relaxed);
            self.overseer.lane_failed(lane, crash, rest);
        }
        if movable.is_empty() {
            return;
        }
        if let Some((other, standing)) = self.quietest()
            && standing != Standing::Out
        {
            self.uses(other);
            self.lanes[other].hand(std::mem::take(movable));
            self.ring();
        }
    }

    /// Gives messages that wait behind a slow one to other children, from time to time. Says when the next time is.
    fn look_after_waiting(&self, looked: &mut Instant) -> Option<Instant> {
        // ORDERING: Relaxed, a hint.
        if !self.watching.load(Ordering::Relaxed) {
            return None;
        }
        if looked.elapsed() >= WAITING_LOOK {
            *looked = Instant::now();
            // ORDERING: Relaxed, before the look: what is handed over after it sets it again.
            self.watching.store(false, Ordering::Relaxed);
            let looks: Vec<WaitingLook> = self.used().iter().map(Lane::look_at_waiting).collect();
            for (number, look) in looks.iter().enumerate().filter(|(_, look)| look.ahead) {
                let idle = self
                    .quietest()
                    .is_some_and(|(_, standing)| standing < Standing::Busy(0));
                if look.stuck || idle {
                    let mut found = Vec::new();
                    self.lanes[number].recall(&|flight| flight.may_go_elsewhere, &mut found);
                    C::put_back(found);
                    self.move_waiting(number, &looks);
                    self.lanes[number].wake();
                }
            }
            if !self.used().iter().any(Lane::is_ahead) {
                return None;
            }
            self.watching.store(true, Ordering::Relaxed);
        }
        Some(*looked + WAITING_LOOK)
    }

    /// Moves what waits in a lane behind another message, each the first of its batch, to lanes that run it sooner.
    fn move_waiting(&self, from: usize, looks: &[WaitingLook]) {
        let _moving = self.lock_moving();
        while let Some(to) = self.sooner(from, looks)
            && let Some(mut flight) = self.lanes[from].take_waiting()
        {
            flight.cargo.moved(to);
            self.uses(to);
            self.lanes[to].hand([flight]);
            // A caller may have called the thread of the other lane for it.
            self.lanes[to].call();
        }
    }

    /// The lane that runs what waits in `from` sooner: one that has nothing to do, else one that goes on while `from` does
    /// not.
    fn sooner(&self, from: usize, looks: &[WaitingLook]) -> Option<usize> {
        let idle = self
            .quietest()
            .filter(|(_, standing)| *standing < Standing::Busy(0));
        if let Some((lane, _)) = idle {
            return Some(lane);
        }
        let goes_on = |number: &usize| looks[from].stuck && !looks[*number].stuck;
        (0..looks.len())
            .filter(goes_on)
            .map(|number| (self.lanes[number].standing(), number))
            .min()
            .filter(|(standing, _)| *standing < Standing::Out)
            .map(|(_, number)| number)
    }

    /// Sleeps until `due`, a ring, or the end of a child.
    fn sleep(&self, bell: &SupervisorBell, due: Option<Instant>) {
        let ended: Vec<_> = self.used().iter().filter_map(Lane::ended).collect();
        let children = self.used().iter().filter_map(Lane::pid).count();
        let look = (children > ended.len()).then(|| Instant::now() + END_LOOK);
        let due = due.into_iter().chain(look).min();
        let wait = due.map(|due| due.saturating_duration_since(Instant::now()));
        let wait = wait.map(|wait| Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        });
        let mut looked_at = vec![PollFd::new(&bell.hear, PollFlags::IN)];
        looked_at.extend(ended.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        // An interruption, like anything else, only means to look again.
        let _ = poll(&mut looked_at, wait.as_ref());
        bell.hush();
    }
}
