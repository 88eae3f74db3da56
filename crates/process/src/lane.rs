//! A lane: one child at a time, and the messages that are on their way to it and through it.
//!
//! A message is *held* (there is no child yet, or no place), *on its way* (sent, and perhaps begun), or over. Those on
//! their way stand in a table by their number. Numbers rise, and a place of the table is used anew only when its
//! message is over, because the claim words of the link (`claims.rs`) are as many.
//!
//! When the child ends, its last replies are taken in first. A message that it had begun and not answered fails, unless
//! it has attempts left; what it had not begun goes to the next child, in order.
//!
//! No code of a message's owner runs under the lock of a lane.

#[path = "lane/answers.rs"]
mod answers;
#[path = "lane/burial.rs"]
mod burial;
#[path = "lane/defined.rs"]
mod defined;
#[path = "lane/health.rs"]
mod health;
#[path = "lane/reading.rs"]
pub(crate) mod reading;
#[path = "lane/state.rs"]
mod state;
#[path = "lane/stopping.rs"]
pub(crate) mod stopping;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use self::defined::{Configured, Defined};
use crate::cargo::{Answer, Cargo};
use crate::crash::{Cause, Crash};
use crate::flight::Flight;
use crate::frame::control;
use crate::link::HostLink;
use crate::options::Options;
use crate::payload::Payload;
use crate::spawn::ChildProcess;
use crate::start::{LastWords, Setup, start_child};
use crate::store::Store;

use health::LaneHealth;
use stopping::TakingUp;

/// What a lane is doing.
#[derive(Clone, Debug)]
enum Phase {
    /// No child, and no need of one.
    Idle,
    /// A child is to be started, at that time.
    Wanted(Instant),
    /// The lane's thread starts it.
    Starting,
    /// There is a child.
    Up,
    /// The child was told to end, and will be replaced if there is work.
    Retiring,
    /// Closed; the child was told to end.
    Closed,
}

/// What a child was sent under one number.
struct TrackedRequest<C> {
    seq: u64,
    /// Taken back before it began.
    revoked: bool,
    /// The child gave an answer that cannot be true. It is not trusted with another one, and the message fails with it.
    disputed: bool,
    /// Its worker has stopped: if it has not begun when the child ends, it never will.
    withdrawn: bool,
    /// It was asked to stop, and its child is killed if it does not.
    stopped: bool,
    what: Aboard<C>,
}

enum Aboard<C> {
    Message(Flight<C>),
    /// A set-up, a configuration or a definition. The child may still read the payload.
    Control {
        worker: u32,
        _payload: Arc<Payload>,
    },
    /// A message that is elsewhere by now.
    Gone,
}

impl<C> TrackedRequest<C> {
    fn flight(&self) -> Option<&Flight<C>> {
        match &self.what {
            Aboard::Message(flight) => Some(flight),
            Aboard::Control { .. } | Aboard::Gone => None,
        }
    }

    fn is_control(&self) -> bool {
        matches!(self.what, Aboard::Control { .. })
    }

    fn into_cargo(self) -> Option<C> {
        match self.what {
            Aboard::Message(flight) => Some(flight.cargo),
            Aboard::Control { .. } | Aboard::Gone => None,
        }
    }

    /// Takes the message out, if there is one.
    fn take(&mut self) -> Option<Flight<C>> {
        if self.is_control() {
            return None;
        }
        match std::mem::replace(&mut self.what, Aboard::Gone) {
            Aboard::Message(flight) => Some(flight),
            Aboard::Control { .. } | Aboard::Gone => None,
        }
    }
}

struct State<C> {
    phase: Phase,
    /// Why the lane was given up; until a child is ready again, all that comes fails with it.
    failed: Option<Arc<Crash>>,
    /// It is not any more, and the supervisor has not been told.
    recovered: bool,
    health: LaneHealth,
    link: Option<Arc<dyn HostLink>>,
    child: Option<ChildProcess>,
    report: Option<LastWords>,
    table: Vec<Option<TrackedRequest<C>>>,
    on_their_way: usize,
    /// Those of them that are set-ups and configurations.
    controls: usize,
    next_seq: u64,
    held: VecDeque<Flight<C>>,
    configured: Configured,
    defined: Defined,
    /// Messages that this child may still be sent.
    quota: Option<i64>,
    /// Messages that were answered, and how many there were when the supervisor last looked.
    answered: u64,
    answered_seen: u64,
    /// When the child is to be killed, and why.
    kill: Option<(Instant, Cause)>,
    /// When the child is to have dealt with the controls that it has.
    controls_by: Option<Instant>,
    /// By when the child is to take up what it has: see `stopping.rs`.
    take_up: Option<TakingUp>,
    /// How long the child may take to be ready, and for each configuration.
    start_limit: Option<Duration>,
    /// The child reported that its initializer failed.
    unfit: Option<Vec<u8>>,
    /// By when the child is to end, which was told to.
    ends_by: Option<Instant>,
    /// A child that is killed because it does not end in its time is one to tell of.
    kill_is_news: bool,
    frame: Vec<u8>,
}

#[derive(Default)]
struct Intake<C> {
    answers: Vec<(u64, Answer)>,
    /// What handlers say before their answers, with the numbers of their messages.
    said: Vec<(u64, reading::Said)>,
    over: Vec<(C, Answer)>,
    words: Vec<reading::Word>,
}

/// One child's lane.
pub(crate) struct Lane<C> {
    state: Mutex<State<C>>,
    /// Held by the thread that takes replies in, so that they are taken in order.
    intake: Mutex<Intake<C>>,
    changed: Condvar,
    /// Held by the thread that reads, asleep or not.
    seat: Mutex<()>,
    /// Threads that want the seat, or have it, and leave it soon.
    guests: AtomicUsize,
    /// A guest was there.
    visited: AtomicBool,
    /// The lane's thread was called from its nap.
    nap: Mutex<bool>,
    napping: AtomicBool,
    called: Condvar,
}

impl<C> fmt::Debug for Lane<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane").finish_non_exhaustive()
    }
}

/// What the supervisor is to do for a lane.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    pub(crate) start: bool,
    /// When to look again.
    pub(crate) due: Option<Instant>,
    pub(crate) over: bool,
}

/// How a lane fares.
#[derive(Debug)]
pub(crate) enum Fares {
    Well,
    /// Its child ended then, and another one is not ready yet.
    Restarts(Instant),
    /// Why it was given up, and when.
    GivenUp(Arc<Crash>, Option<Instant>),
}

/// How soon a message that is sent to a lane begins: the least is the soonest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// There is a child, and it has nothing to do.
    Idle,
    /// A child is being started, and nothing waits for it yet.
    Starting,
    /// There is no child.
    Empty,
    /// So many messages are before it.
    Busy(usize),
    /// It is given up, or closed.
    Out,
}

impl<C: Cargo> Lane<C> {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                phase: Phase::Idle,
                failed: None,
                recovered: false,
                health: LaneHealth::default(),
                link: None,
                child: None,
                report: None,
                table: Vec::new(),
                on_their_way: 0,
                controls: 0,
                next_seq: 0,
                held: VecDeque::new(),
                configured: Configured::default(),
                defined: Defined::default(),
                quota: None,
                answered: 0,
                answered_seen: 0,
                kill: None,
                controls_by: None,
                take_up: None,
                start_limit: None,
                unfit: None,
                ends_by: None,
                kill_is_news: true,
                frame: Vec::new(),
            }),
            intake: Mutex::new(Intake {
                answers: Vec::new(),
                over: Vec::new(),
                said: Vec::new(),
                words: Vec::new(),
            }),
            changed: Condvar::new(),
            seat: Mutex::new(()),
            guests: AtomicUsize::new(0),
            visited: AtomicBool::new(false),
            nap: Mutex::new(false),
            napping: AtomicBool::new(false),
            called: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<C>> {
        // Nothing that may panic runs under it but our own code, and its data is consistent between statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends messages, in order, or holds them. True: a child is to be started for them.
    pub(crate) fn hand(&self, flights: impl IntoIterator<Item = Flight<C>>) -> bool {
        let mut state = self.state();
        let refused = match (&state.phase, &state.failed) {
            (Phase::Closed, _) => Some(Arc::new(Crash::without_process(Cause::Stopped))),
            (_, failed) => failed.clone(),
        };
        if let Some(crash) = refused {
            drop(state);
            for flight in flights {
                flight.cargo.crashed(&crash);
            }
            return false;
        }
        state.held.extend(flights);
        let sent = state.send_held();
        // The supervisor watches over the end of one that was told to.
        let wanted = state.want() || state.ends_by.is_some();
        drop(state);
        if let Some(sent) = sent {
            sent.conclude();
        }
        wanted
    }

    /// Has a child started, if there is none. True: the supervisor is to be told.
    pub(crate) fn want(&self) -> bool {
        self.state().want()
    }

    /// Messages on their way or held.
    pub(crate) fn load(&self) -> usize {
        let state = self.state();
        state.on_their_way - state.controls + state.held.len()
    }

    /// How soon a message that is sent here begins.
    pub(crate) fn standing(&self) -> Standing {
        let state = self.state();
        if state.failed.is_some() {
            return Standing::Out;
        }
        match (
            &state.phase,
            state.on_their_way - state.controls + state.held.len(),
        ) {
            (Phase::Closed, _) => Standing::Out,
            (Phase::Idle, 0) => Standing::Empty,
            (Phase::Up, 0) if state.health.is_ready() => Standing::Idle,
            (Phase::Up | Phase::Wanted(_) | Phase::Starting, 0) => Standing::Starting,
            (_, load) => Standing::Busy(load),
        }
    }

    /// Why it was given up, while it is, and how long until it is tried again.
    pub(crate) fn failure(&self) -> Option<(Arc<Crash>, Duration)> {
        let state = self.state();
        let crash = state
            .failed
            .clone()
            .filter(|_| !matches!(state.phase, Phase::Closed))?;
        let rest = match state.phase {
            Phase::Wanted(at) => at.saturating_duration_since(Instant::now()),
            _ => Duration::ZERO,
        };
        Some((crash, rest))
    }

    /// Whether it runs messages, or would.
    pub(crate) fn fares(&self) -> Fares {
        let state = self.state();
        if matches!(state.phase, Phase::Closed) {
            return Fares::Well;
        }
        if let Some(crash) = &state.failed {
            return Fares::GivenUp(crash.clone(), state.health.given_up());
        }
        let starts = match state.phase {
            Phase::Wanted(_) | Phase::Starting => true,
            Phase::Up => !state.health.is_ready(),
            Phase::Idle | Phase::Retiring | Phase::Closed => false,
        };
        match state.health.ended().filter(|_| starts) {
            Some(ended) => Fares::Restarts(ended),
            None => Fares::Well,
        }
    }

    /// Children that were started in the place of another one.
    pub(crate) fn restarts(&self) -> u64 {
        self.state().health.restarts()
    }

    /// The number of its process.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.state().child.as_ref().map(ChildProcess::pid)
    }

    /// What the supervisor is to do here.
    pub(crate) fn needs(&self) -> Needs {
        let state = self.state();
        let start_at = match state.phase {
            Phase::Wanted(at) => Some(at),
            _ => None,
        };
        let start = start_at.is_some_and(|at| at <= Instant::now());
        let kill_at = state.kill.as_ref().map(|(at, _)| *at);
        let take_up = state.take_up.as_ref().map(|expected| expected.by);
        Needs {
            start,
            due: [
                start_at.filter(|_| !start),
                kill_at,
                state.ends_by,
                state.controls_by,
                take_up,
            ]
            .into_iter()
            .flatten()
            .min(),
            over: state.child.is_none() && matches!(state.phase, Phase::Closed),
        }
    }

    /// The host's end of the child's door.
    pub(crate) fn door(&self) -> Option<OwnedFd> {
        self.state().child.as_ref()?.door().duplicate().ok()
    }

    /// The descriptor that is readable once the child has ended, if there is one.
    pub(crate) fn ended(&self) -> Option<Arc<std::os::fd::OwnedFd>> {
        self.state().child.as_ref().and_then(ChildProcess::ended)
    }

    /// Whether there is something for the supervisor to do.
    pub(crate) fn calls(&self) -> bool {
        let state = self.state();
        state.kill.is_some() || state.ends_by.is_some() || state.recovered
    }

    /// Whether a lane that was given up has a child again, since this was last asked.
    pub(crate) fn has_recovered(&self) -> bool {
        std::mem::take(&mut self.state().recovered)
    }

    /// Fails what is held, because no child can be started now.
    pub(crate) fn refuse(&self, crash: &Arc<Crash>) {
        let mut state = self.state();
        if matches!(state.phase, Phase::Wanted(_) | Phase::Starting) {
            // The next message tries again: the system may have room by then.
            state.phase = match state.failed {
                Some(_) => Phase::Wanted(state.health.rests_until(Instant::now())),
                None => Phase::Idle,
            };
        }
        let held = std::mem::take(&mut state.held);
        drop(state);
        for flight in held {
            flight.cargo.crashed(crash);
        }
    }

    /// Has the lane's own thread start a child, where one is wanted.
    pub(crate) fn begin_start(&self) {
        let mut state = self.state();
        if matches!(state.phase, Phase::Wanted(_)) {
            state.phase = Phase::Starting;
            self.changed.notify_all();
        }
    }

    /// Starts a child, on the lane's own thread. An error is what the held messages fail with.
    pub(crate) fn start(
        &self,
        options: &Options,
        store: Option<&Arc<Store>>,
        setup: io::Result<Setup>,
    ) {
        let started = setup.and_then(|Setup { program, payload }| {
            Ok((payload, start_child(options.transport, &program, store)?))
        });
        match started {
            Ok((payload, (child, link, report))) => {
                let mut state = self.state();
                if matches!(state.phase, Phase::Closed) {
                    return;
                }
                state.child = Some(child);
                state.link = Some(link.clone());
                state.report = report;
                state.phase = Phase::Up;
                state.health.begins();
                state.kill = None;
                state.kill_is_news = true;
                state.take_up = None;
                state.controls_by = None;
                state.unfit = None;
                state.configured.clear();
                state.defined.clear();
                let most = options.max_messages;
                state.quota = most.map(|most| i64::try_from(most).unwrap_or(i64::MAX));
                state.start_limit = options.start_limit;
                state.send_control(&link, 0, control::SETUP, Arc::new(payload));
                let sent = state.send_held();
                drop(state);
                self.changed.notify_all();
                match sent {
                    Some(sent) => sent.conclude(),
                    None => link.flush(),
                }
            }
            Err(error) => {
                self.refuse(&Arc::new(Crash::without_process(Cause::Start(
                    error.to_string(),
                ))));
            }
        }
    }

    /// Tells the child to end, and refuses what comes. `limit`: when it is killed for not ending; `grace`: the same of
    /// one that is still starting, which has nothing to bring to an end.
    pub(crate) fn close(&self, limit: Duration, grace: Duration) {
        let mut state = self.state();
        state.phase = Phase::Closed;
        let limit = if state.health.is_ready() && state.controls == 0 {
            limit
        } else {
            state.kill_is_news = false;
            grace.min(limit)
        };
        state.tell_to_end(Instant::now() + limit);
        let held = std::mem::take(&mut state.held);
        drop(state);
        self.changed.notify_all();
        let crash = Arc::new(Crash::without_process(Cause::Stopped));
        for flight in held {
            flight.cargo.crashed(&crash);
        }
    }
}
