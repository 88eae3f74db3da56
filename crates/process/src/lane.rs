//! A lane: one child at a time, and the messages that are on their way to it and through it.
//!
//! A message is *held* (there is no child yet, or no place), *on its way* (sent, and perhaps begun), or over. Those on
//! their way stand in a table by their number. Numbers rise, and a place of the table is used anew only when its
//! message is over, because the claim words of the link (`claims.rs`) are as many.
//!
//! When the child ends, what it had answered is taken in first. What it had begun and not answered fails, unless it has
//! attempts left; what it had not begun goes to the next child, in order.
//!
//! No code of a message's owner runs under the lock of a lane.

#[path = "lane/answers.rs"]
mod answers;
#[path = "lane/burial.rs"]
mod burial;
#[path = "lane/reading.rs"]
pub(crate) mod reading;
#[path = "lane/state.rs"]
mod state;
#[path = "lane/stopping.rs"]
mod stopping;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::cargo::{Answer, Cargo};
use crate::crash::{Cause, Crash};
use crate::fleet::Options;
use crate::link::HostLink;
use crate::spawn::Child;
use crate::start::{Report, start_child};
use crate::store::Store;

/// How long a message that nobody waits for any more may take to end by itself before its child is killed: enough for a
/// handler that looks at `cancelled`, and well within the half second in which the kill is promised.
const GRACE: Duration = Duration::from_millis(100);

/// What a lane is doing.
#[derive(Clone, Debug)]
enum Phase {
    /// No child, and no need of one.
    Idle,
    /// A child is to be started.
    Wanted,
    /// There is a child.
    Up,
    /// The child was told to end, and will be replaced if there is work.
    Retiring,
    /// Given up.
    Failed(Arc<Crash>),
    /// Closed; the child was told to end.
    Closed,
}

/// A message on its way.
struct Flight<C> {
    seq: u64,
    attempt: u32,
    /// Taken back before it began; `None` as well once it is elsewhere.
    revoked: bool,
    /// The child gave an answer that cannot be true. It is not trusted with another one, and the message fails with it.
    disputed: bool,
    cargo: Option<C>,
}

struct State<C> {
    phase: Phase,
    link: Option<Arc<dyn HostLink>>,
    child: Option<Child>,
    report: Option<Report>,
    table: Vec<Option<Flight<C>>>,
    on_their_way: usize,
    next_seq: u64,
    held: VecDeque<(C, u32)>,
    /// The configuration that the child has, by worker.
    configured: HashMap<u32, u32>,
    /// Messages that this child may still be sent.
    quota: Option<u64>,
    /// The child has answered a message.
    healthy: bool,
    restarts: VecDeque<Instant>,
    /// Messages that were answered, and how many there were when the supervisor last looked.
    answered: u64,
    answered_seen: u64,
    /// When the child is to be killed, and why.
    kill: Option<(Instant, Cause)>,
    /// The child reported that its initializer failed.
    unfit: Option<Vec<u8>>,
    ends_by: Option<Instant>,
    frame: Vec<u8>,
}

#[derive(Default)]
struct Intake<C> {
    answers: Vec<(u64, Answer)>,
    over: Vec<(C, Answer)>,
    logs: Vec<Vec<u8>>,
}

/// One child's lane.
pub(crate) struct Lane<C> {
    state: Mutex<State<C>>,
    /// Held by whoever takes replies in, so that they are taken in order.
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
    pub(crate) kill_at: Option<Instant>,
    pub(crate) pid: Option<u32>,
    pub(crate) over: bool,
}

/// What became of a lane whose child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The lane is closed.
    Over,
    /// Another one is to be started.
    Replaced,
    /// It was given up.
    Failed,
}

impl<C: Cargo> Lane<C> {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                phase: Phase::Idle,
                link: None,
                child: None,
                report: None,
                table: Vec::new(),
                on_their_way: 0,
                next_seq: 0,
                held: VecDeque::new(),
                configured: HashMap::new(),
                quota: None,
                healthy: false,
                restarts: VecDeque::new(),
                answered: 0,
                answered_seen: 0,
                kill: None,
                unfit: None,
                ends_by: None,
                frame: Vec::new(),
            }),
            intake: Mutex::new(Intake {
                answers: Vec::new(),
                over: Vec::new(),
                logs: Vec::new(),
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
    pub(crate) fn hand(&self, cargo: impl IntoIterator<Item = C>) -> bool {
        let mut state = self.state();
        let failed = match &state.phase {
            Phase::Failed(crash) => Some(crash.clone()),
            Phase::Closed => Some(Arc::new(Crash::without_process(Cause::Stopped))),
            _ => None,
        };
        if let Some(crash) = failed {
            drop(state);
            for cargo in cargo {
                cargo.crashed(&crash);
            }
            return false;
        }
        for cargo in cargo {
            state.held.push_back((cargo, 1));
        }
        let link = state.send_held();
        let wanted = matches!(state.phase, Phase::Idle);
        if wanted {
            state.phase = Phase::Wanted;
        }
        drop(state);
        if let Some(link) = link {
            link.flush();
        }
        wanted
    }

    /// Has a child started, if there is none. True: the supervisor is to be told.
    pub(crate) fn want(&self) -> bool {
        let mut state = self.state();
        let wanted = matches!(state.phase, Phase::Idle);
        if wanted {
            state.phase = Phase::Wanted;
        }
        wanted
    }

    /// Messages on their way or held.
    pub(crate) fn load(&self) -> usize {
        let state = self.state();
        match state.phase {
            Phase::Failed(_) | Phase::Closed => usize::MAX,
            _ => state.on_their_way + state.held.len(),
        }
    }

    /// Why it was given up, if it was.
    pub(crate) fn failure(&self) -> Option<Arc<Crash>> {
        match &self.state().phase {
            Phase::Failed(crash) => Some(crash.clone()),
            _ => None,
        }
    }

    /// The number of its process.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.state().child.as_ref().map(Child::pid)
    }

    /// What the supervisor is to do here.
    pub(crate) fn needs(&self) -> Needs {
        let state = self.state();
        Needs {
            start: matches!(state.phase, Phase::Wanted),
            kill_at: state
                .kill
                .as_ref()
                .map(|(at, _)| *at)
                .into_iter()
                .chain(state.ends_by)
                .min(),
            pid: state.child.as_ref().map(Child::pid),
            over: state.child.is_none() && matches!(state.phase, Phase::Closed | Phase::Failed(_)),
        }
    }

    /// The descriptor that is readable once the child has ended, if there is one.
    pub(crate) fn ended(&self) -> Option<Arc<std::os::fd::OwnedFd>> {
        self.state().child.as_ref().and_then(Child::ended)
    }

    /// Whether the child is to be killed.
    pub(crate) fn is_condemned(&self) -> bool {
        self.state().kill.is_some()
    }

    /// Fails what is held, because no child can be started now.
    pub(crate) fn refuse(&self, crash: &Arc<Crash>) {
        let mut state = self.state();
        if matches!(state.phase, Phase::Wanted) {
            // The next message tries again: the system may have room by then.
            state.phase = Phase::Idle;
        }
        let held = std::mem::take(&mut state.held);
        drop(state);
        for (cargo, _) in held {
            cargo.crashed(crash);
        }
    }

    /// Starts a child, if one is wanted. The error is what the held messages fail with.
    pub(crate) fn start(&self, options: &Options, store: Option<&Arc<Store>>, setup: C) {
        if !matches!(self.state().phase, Phase::Wanted) {
            return;
        }
        match start_child(options, store) {
            Ok((child, link, report)) => {
                let mut state = self.state();
                if matches!(state.phase, Phase::Closed) {
                    return;
                }
                state.child = Some(child);
                state.link = Some(link.clone());
                state.report = report;
                state.phase = Phase::Up;
                state.healthy = false;
                state.kill = None;
                state.unfit = None;
                state.configured.clear();
                state.quota = options.max_messages;
                state.held.push_front((setup, 1));
                let _ = state.send_held();
                drop(state);
                self.changed.notify_all();
                link.flush();
            }
            Err(error) => {
                self.refuse(&Arc::new(Crash::without_process(Cause::Start(
                    error.to_string(),
                ))));
            }
        }
    }

    /// Tells the child to end, and refuses what comes. `limit`: when it is killed for not ending.
    pub(crate) fn close(&self, limit: Duration) {
        let mut state = self.state();
        if !matches!(state.phase, Phase::Failed(_)) {
            state.phase = Phase::Closed;
        }
        state.tell_to_end(Instant::now() + limit);
        let held = std::mem::take(&mut state.held);
        drop(state);
        self.changed.notify_all();
        let crash = Arc::new(Crash::without_process(Cause::Stopped));
        for (cargo, _) in held {
            cargo.crashed(&crash);
        }
    }
}
