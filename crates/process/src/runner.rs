//! The engine's carrier over a fleet: the messages of one worker, whatever their language, to a child and back.
//!
//! What differs between languages is in two traits of the handler: a [`Codec`] says what a child is sent for a message,
//! the [`Ends`] what follows from its answer. The threads that read replies run no code of users: whatever may need it
//! is a *job* on the pool's threads, in order.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pytoweb_engine::{
    Carrier, Condition, Delivery, Failure, Handler, Message, Outcome, Pool, ReplyState, Ticket,
};

use self::jobs::Jobs;
use self::window::RunTimes;
use crate::cargo::{Answer, Cargo, Feed, Listener};
use crate::crash::Crash;
use crate::fleet::Fleet;
use crate::flight::{Flight, OwnedRequest};
use crate::frame::ReplyStatus;
use crate::lane::Fares;
use crate::payload::Payload;
use crate::store::Store;
use crate::usage::ChildUsage;

#[path = "runner/jobs.rs"]
mod jobs;
#[path = "runner/window.rs"]
mod window;

/// The numbers by which a child tells workers apart.
static NUMBERS: AtomicU32 = AtomicU32::new(1);

/// What a child is sent for the messages of a handler.
pub trait Codec: Handler {
    /// The request that a message was made into when it was posted. One without is not run, as if its worker had stopped.
    fn request(message: &Self::Message) -> Option<&Arc<OwnedRequest>>;

    /// Where the lane of a message is noted, for callers that wait for its reply.
    fn lane_note(message: &Self::Message) -> Option<&LaneNote> {
        let _ = message;
        None
    }

    /// Where the items go that its handler puts before its reply, if it is to stream.
    fn feed(message: &Self::Message) -> Option<Arc<dyn Feed>> {
        let _ = message;
        None
    }

    /// Who is told of what a message's handler says before the reply, if that is of interest.
    fn listener(&self, message: &Self::Message) -> Option<Arc<dyn Listener>> {
        let _ = message;
        None
    }
}

/// What the end of a message means to its language. Each of these ends its delivery; the first two end its companions, too,
/// which have one answer with it. All but [`Ends::completed`] are
/// called on a thread of the pool and may run users' code.
pub trait Ends: Codec {
    /// The runner that carries its messages, if they run in children.
    fn runner(&self) -> Option<&Arc<Runner<Self>>>;

    /// The handler returned, and a caller may wait for the reply. Called on a thread that reads replies: no user's code
    /// runs here, and nothing blocks.
    fn completed(delivery: Delivery<Self>, answer: Answer);

    /// The handler failed.
    fn failed(delivery: Delivery<Self>, answer: Answer);

    /// It was cancelled, was past its deadline or its worker was terminated, and it was not run to its end: its reply, if it
    /// has one, says so already.
    fn stopped(delivery: Delivery<Self>);

    /// Its deadline passed before it was sent.
    fn expired(delivery: Delivery<Self>);

    /// Its child ended while it ran, or there is none.
    fn crashed(delivery: Delivery<Self>, crash: &Crash);

    /// Its child was ended because it ran on after it was to stop; [`Ends::stopped`] follows.
    fn killed(delivery: &Delivery<Self>, crash: &Crash) {
        let _ = (delivery, crash);
    }
}

/// The lane that a message was sent to, as a hint for callers that wait for its reply.
#[derive(Debug, Default)]
pub struct LaneNote {
    /// Plus one; 0 before it is known.
    lane: AtomicU32,
}

impl LaneNote {
    fn set(&self, lane: Option<usize>) {
        let lane = lane.and_then(|lane| u32::try_from(lane + 1).ok());
        // ORDERING: Relaxed, a hint.
        self.lane.store(lane.unwrap_or(0), Ordering::Relaxed);
    }

    fn get(&self) -> Option<usize> {
        // ORDERING: Relaxed, a hint: a message that is not sent yet has none.
        let lane = self.lane.load(Ordering::Relaxed).checked_sub(1)?;
        usize::try_from(lane).ok()
    }
}

/// Runs the messages of one worker in the children of a fleet.
pub struct Runner<H: Ends> {
    fleet: Arc<Fleet<Delivery<H>>>,
    /// The lane of a worker of its own; `None`: the one that has the least to do.
    lane: Option<usize>,
    worker: u32,
    config: Mutex<(u32, Arc<Payload>)>,
    config_version: AtomicU32,
    run_times: RunTimes,
    /// One message after the other: some handler is not over when it returns.
    one_by_one: AtomicBool,
    jobs: Jobs,
}

impl<H: Ends> fmt::Debug for Runner<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner")
            .field("worker", &self.worker)
            .finish_non_exhaustive()
    }
}

impl<H: Ends> Runner<H> {
    /// A runner over `fleet`. `lane`: the lane of all its messages; `None`: any. Its jobs run on `pool`.
    pub fn new(
        name: &str,
        fleet: Arc<Fleet<Delivery<H>>>,
        lane: Option<usize>,
        pool: &Pool,
    ) -> Self {
        Self {
            fleet,
            lane,
            // ORDERING: Relaxed, only uniqueness matters.
            worker: NUMBERS.fetch_add(1, Ordering::Relaxed),
            config: Mutex::new((0, Arc::new(Payload::empty()))),
            config_version: AtomicU32::new(0),
            run_times: RunTimes::default(),
            one_by_one: AtomicBool::new(false),
            jobs: Jobs::new(name, pool),
        }
    }

    /// The lane of all its messages; `None`: any.
    #[must_use]
    pub const fn lane(&self) -> Option<usize> {
        self.lane
    }

    /// Where the large payloads of its messages go: see [`Fleet::store`].
    #[must_use]
    pub fn store(&self) -> Option<Arc<Store>> {
        self.fleet.store()
    }

    /// Has each child told of a new configuration before the next message. `one_by_one`: from now on a child has one
    /// message at a time.
    pub fn configure(&self, payload: Payload, one_by_one: bool) {
        let mut config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        *config = (config.0 + 1, Arc::new(payload));
        // ORDERING: Relaxed, the version is looked up again under the lock when it matters.
        self.config_version.store(config.0, Ordering::Relaxed);
        self.one_by_one.store(one_by_one, Ordering::Relaxed);
    }

    /// Has its child started ahead of its first message: the one of its own, else the first one of the fleet.
    pub fn want(&self) {
        self.fleet.want(self.lane.unwrap_or(0));
    }

    fn lanes(&self) -> Range<usize> {
        match self.lane {
            Some(lane) => lane..lane + 1,
            None => 0..self.fleet.used(),
        }
    }

    /// Why nothing is run at the moment, if so, and how long until that is tried again.
    #[must_use]
    pub fn failure(&self) -> Option<(Arc<Crash>, Duration)> {
        self.fleet.failure(self.lane)
    }

    /// Children that run its messages and are there now, and how many were started in the place of another one.
    #[must_use]
    pub fn census(&self) -> (usize, u64) {
        self.fleet.census(self.lanes())
    }

    /// How its messages fare: as in that child which fares best. `why`: what the end of one is in words.
    #[must_use]
    pub fn condition_with(&self, why: impl FnOnce(&Crash) -> String) -> Condition {
        match self.fleet.fares(self.lanes()) {
            Fares::Well => Condition::Works,
            Fares::Restarts(ended) => Condition::Restarts(
                "its process has ended, and another one is not ready yet".to_owned(),
                ended.elapsed(),
            ),
            Fares::GivenUp(crash, at) => {
                let lasted = at.map(|at| at.elapsed()).unwrap_or_default();
                Condition::Fails(why(&crash), lasted)
            }
        }
    }

    /// The children that run its messages and are there now, and what they use. Asks the system, for each.
    #[must_use]
    pub fn usage(&self) -> Vec<ChildUsage> {
        self.fleet.usage(self.lanes())
    }

    /// Has the reply of a message read soon: a caller waits for it in another way than [`Runner::help`].
    pub fn call(&self, note: &LaneNote) {
        match self.lane.or_else(|| note.get()) {
            Some(lane) => self.fleet.call(lane),
            None => self.lanes().for_each(|lane| self.fleet.call(lane)),
        }
    }

    /// Reads replies on this thread until that of `state` stands, at most for `limit`. May return early.
    pub fn help(&self, note: &LaneNote, state: &ReplyState, limit: Duration) -> bool {
        let done = match (self.lane, note.get()) {
            (Some(lane), _) => self.fleet.help(lane, &|| state.is_done(), limit),
            (None, Some(lane)) => {
                // Once it is in another lane, this one has nothing to say of it.
                let over = || state.is_done() || note.get() != Some(lane);
                self.fleet.help(lane, &over, limit) && state.is_done()
            }
            (None, None) => state.wait_briefly(),
        };
        if !done {
            self.call(note);
        }
        done
    }

    /// Tells the child that has begun a message that so many items of its stream were read: as many more may come.
    pub fn grant(&self, ticket: &Arc<dyn Ticket>, items: u32) {
        self.fleet.grant(self.lanes(), &is_of(ticket), items);
    }

    /// The stream of a message is not read any more: one that has not begun is cancelled, and the child of one that has is
    /// told. Its channel is closed already: so one that is on its way to a lane at this moment is cancelled there.
    pub fn unread(&self, ticket: &Arc<dyn Ticket>) {
        for delivery in self.fleet.unread(self.lanes(), &is_of(ticket)) {
            delivery.abandon(Failure::Cancelled);
        }
    }

    /// Has `job` run on a thread of the pool, after those before it.
    pub fn job(&self, job: impl FnOnce() + Send + 'static) {
        self.jobs.add(job);
    }

    /// How many jobs wait for a thread of the pool, at this moment.
    #[must_use]
    pub fn jobs_waiting(&self) -> usize {
        self.jobs.waiting()
    }

    /// As [`Runner::job`]; here and now where many wait and this thread may run it.
    pub fn job_or_now(&self, job: impl FnOnce() + Send + 'static) {
        self.jobs.add_or_run(job);
    }
}

impl<H: Ends> Carrier<H> for Runner<H> {
    fn window(&self) -> usize {
        // ORDERING: Relaxed, a hint.
        if !self.fleet.runs_ahead() || self.one_by_one.load(Ordering::Relaxed) {
            return 1;
        }
        self.run_times.window()
    }

    fn carry(&self, mut deliveries: Vec<Delivery<H>>) {
        let lane = self.lane.unwrap_or_else(|| {
            let used = deliveries.first().and_then(Delivery::spot);
            let used = used.and_then(|used| usize::try_from(used).ok());
            let lane = self.fleet.quietest_after(used);
            for delivery in &mut deliveries {
                note(delivery, Some(lane));
                set_spot(delivery, lane);
            }
            lane
        });
        // ORDERING: Relaxed, see `configure`.
        let config_version = self.config_version.load(Ordering::Relaxed);
        let flights = deliveries.into_iter().filter_map(|delivery| {
            Some(Flight {
                request: self.request(&delivery)?,
                attempt: 1,
                worker: self.worker,
                config_version,
                messages: 1 + delivery.companions().len() as u64,
                may_go_elsewhere: self.lane.is_none(),
                batch: Some(delivery.batch()),
                cargo: delivery,
            })
        });
        self.fleet.hand(lane, flights.collect());
    }

    fn recall(&self) {
        self.fleet.recall(self.lanes(), self.worker);
    }

    fn ended_unbegun(&self) {
        self.fleet.watch(self.lanes());
    }

    fn withdraw(&self, failure: Failure) -> usize {
        let found = self.fleet.withdraw(self.lanes(), self.worker);
        let count = found.iter().flat_map(each).count();
        for delivery in found {
            delivery.abandon(failure);
        }
        count
    }

    fn has_begun(&self, ticket: &Arc<dyn Ticket>) -> bool {
        self.fleet.has_begun(self.lanes(), &is_of(ticket))
    }

    fn begun(&self) -> Vec<u64> {
        self.fleet
            .begun_of(self.lanes(), self.worker, &|delivery| delivery.run())
    }

    fn condition(&self) -> Condition {
        self.condition_with(ToString::to_string)
    }

    fn stop(&self, ticket: Option<&Arc<dyn Ticket>>) {
        match ticket {
            None => self.fleet.terminate(self.lanes(), self.worker),
            Some(ticket) => {
                // Messages that run together are stopped together.
                let of = is_of(ticket);
                let stops = |delivery: &Delivery<H>| {
                    of(delivery)
                        && (delivery.companions().is_empty() || each(delivery).all(is_over))
                };
                self.fleet.stop(self.lanes(), &stops);
            }
        }
    }
}

impl<H: Ends> Runner<H> {
    /// What a child is sent for a message and those that run with it.
    fn request(&self, delivery: &Delivery<H>) -> Option<Arc<OwnedRequest>> {
        let first = H::request(delivery.message()?)?;
        if delivery.companions().is_empty() {
            return Some(first.clone());
        }
        let others = delivery.companions().iter();
        let others = others
            .map(|other| H::request(other.message()?))
            .collect::<Option<Vec<_>>>()?;
        let together = OwnedRequest::together(first, &others, self.store());
        Some(Arc::new(together))
    }
}

/// A delivery, and those that run with it.
fn each<H: Ends>(delivery: &Delivery<H>) -> impl Iterator<Item = &Delivery<H>> {
    std::iter::once(delivery).chain(delivery.companions())
}

/// Notes the lane that a delivery goes to, for callers that wait for its reply; `None`: it is in no lane.
fn note<H: Ends>(delivery: &Delivery<H>, lane: Option<usize>) {
    for one in each(delivery) {
        if let Some(note) = one.message().and_then(H::lane_note) {
            note.set(lane);
        }
    }
}

/// Notes for the next message of its key where a delivery goes.
fn set_spot<H: Ends>(delivery: &mut Delivery<H>, lane: usize) {
    if let Ok(lane) = u32::try_from(lane) {
        delivery.set_spot(lane);
    }
}

fn is_over<H: Ends>(delivery: &Delivery<H>) -> bool {
    state_of(delivery).is_some_and(ReplyState::is_done)
}

/// Picks the delivery of a ticket, or the one that its message runs with.
fn is_of<H: Ends>(ticket: &Arc<dyn Ticket>) -> impl Fn(&Delivery<H>) -> bool {
    let wanted: *const ReplyState = ticket.state();
    move |delivery| {
        each(delivery).any(|one| state_of(one).is_some_and(|state| std::ptr::eq(state, wanted)))
    }
}

/// Ends a delivery and each of those that run with it.
fn end_each<H: Ends>(mut delivery: Delivery<H>, mut end: impl FnMut(Delivery<H>)) {
    let companions = delivery.take_companions();
    end(delivery);
    companions.into_iter().for_each(end);
}

fn state_of<H: Ends>(delivery: &Delivery<H>) -> Option<&ReplyState> {
    delivery.message().and_then(Message::state)
}

/// Has `end` end the delivery on a thread of the pool.
fn end_later<H: Ends>(delivery: Delivery<H>, end: impl FnOnce(Delivery<H>) + Send + 'static) {
    let runner = delivery.handler().runner().cloned();
    if let Some(runner) = runner {
        runner.job(move || end(delivery));
    }
}

impl<H: Ends> Cargo for Delivery<H> {
    fn configuration(&self) -> (u32, Arc<Payload>) {
        match self.handler().runner() {
            Some(runner) => runner
                .config
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            None => (0, Arc::new(Payload::empty())),
        }
    }

    fn is_wanted(&self) -> bool {
        !each(self).all(is_over)
    }

    fn is_overdue(&self) -> bool {
        each(self).all(Self::is_overdue)
    }

    fn feed(&self) -> Option<Arc<dyn Feed>> {
        H::feed(self.message()?)
    }

    fn listener(&self) -> Option<Arc<dyn Listener>> {
        self.handler().listener(self.message()?)
    }

    fn moved(&mut self, lane: usize) {
        note(self, Some(lane));
        set_spot(self, lane);
    }

    fn put_back(all: Vec<Self>) {
        all.iter().for_each(|delivery| note(delivery, None));
        Self::put_back(all);
    }

    fn answered(self, answer: Answer) {
        let began = answer.status != ReplyStatus::Skipped;
        if began && let Some(runner) = self.handler().runner() {
            runner.run_times.note(answer.ran);
        }
        match answer.status {
            ReplyStatus::Completed if state_of(&self).is_none() => {
                self.finish(Outcome::Completed, Some(answer.ran));
            }
            ReplyStatus::Completed => H::completed(self, answer),
            ReplyStatus::Failed => end_later(self, move |delivery| H::failed(delivery, answer)),
            ReplyStatus::Skipped => end_each(self, |delivery| end_later(delivery, H::stopped)),
        }
    }

    fn expired(self) {
        end_each(self, |delivery| end_later(delivery, H::expired));
    }

    fn unread(self) {
        end_later(self, |delivery| delivery.abandon(Failure::Cancelled));
    }

    fn crashed(self, crash: &Arc<Crash>) {
        end_each(self, |delivery| {
            let crash = crash.clone();
            end_later(delivery, move |delivery| H::crashed(delivery, &crash));
        });
    }

    fn killed(self, crash: &Arc<Crash>) {
        end_each(self, |delivery| {
            let crash = crash.clone();
            end_later(delivery, move |delivery| {
                H::killed(&delivery, &crash);
                H::stopped(delivery);
            });
        });
    }
}
