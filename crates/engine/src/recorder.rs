//! A recorder: which message ran where and when, kept for a report that people look at.
//!
//! It is bounded, whatever it is told: of very many messages it keeps the long ones and an even choice of the short ones
//! (`recorder/bars.rs`), of the turns of threads their outlines (`recorder/turns.rs`), and of failures so many. It counts all
//! of them. Times are in nanoseconds since a start that its owner chooses.

#[path = "recorder/bars.rs"]
mod bars;
#[path = "recorder/names.rs"]
mod names;
#[path = "recorder/turns.rs"]
mod turns;

use std::collections::HashMap;
use std::time::Duration;

use self::bars::Bars;
use self::names::Names;
use self::turns::Turns;
use crate::histogram::Histogram;
use crate::outcome::Outcome;

pub use bars::Bar;
pub use turns::BusyBar;

/// Names of workers that are told apart; the ones beyond are together under [`OTHERS`].
const MOST_WORKERS: usize = 16_384;
/// Types that are told apart: senders choose their names, and may choose ever new ones.
const MOST_KINDS: usize = 256;
/// Lanes that are told apart: threads come and go.
const MOST_LANES: usize = 4_096;
/// Failures of which more is kept than their number.
const MOST_FAILURES: usize = 5_000;
/// The name of all beyond a limit.
pub const OTHERS: &str = "(others)";

/// How a message that ran has ended, or an attempt of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// With a result.
    Completed,
    /// With an error.
    Failed,
    /// Past its deadline.
    Expired,
    /// Cancelled while it ran.
    Cancelled,
    /// With an error, and it is tried again.
    Retried,
    /// The process that it ran in ended.
    Crashed,
}

impl Fate {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::Completed,
        Self::Failed,
        Self::Expired,
        Self::Cancelled,
        Self::Retried,
        Self::Crashed,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Retried => "retried",
            Self::Crashed => "crashed",
        }
    }
}

impl From<Outcome> for Fate {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Completed => Self::Completed,
            Outcome::Failed => Self::Failed,
            Outcome::Expired => Self::Expired,
            Outcome::Cancelled => Self::Cancelled,
        }
    }
}

/// Where messages run, one after the other or beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChartLane {
    /// A thread, by a number of it.
    Thread(u32),
    /// A child process, by its place among those of its pool.
    Process(u32),
    /// Coroutines on an event loop.
    Coroutines,
}

/// One message that ran, as its worker tells of it.
#[derive(Clone, Copy, Debug)]
pub struct Ran<'a> {
    /// Its worker.
    pub worker: &'a str,
    /// Its type.
    pub kind: &'a str,
    /// Where, by a number that [`Recorder::lane`] gave.
    pub lane: u32,
    /// When it ended.
    pub end: u64,
    /// How long it ran; `None`: that is not known, but not longer ago than `wait` was it posted.
    pub run: Option<u64>,
    /// How long it waited.
    pub wait: u64,
    /// How many messages ran together with it, itself included.
    pub together: u32,
    /// How it ended.
    pub fate: Fate,
}

/// A failure, or a failed attempt.
#[derive(Clone, Debug)]
pub struct Failed {
    /// When it was told of.
    pub at: u64,
    /// Its worker and its type, by their numbers.
    pub worker: u32,
    /// See `worker`.
    pub kind: u32,
    /// The lane of the thread that told of it.
    pub lane: u32,
    /// The error in words.
    pub text: String,
    /// How its message, or the attempt, ended.
    pub fate: Fate,
    /// The message, where it was timed: see [`Recorder::ran`].
    pub bar: Option<Bar>,
}

/// What is known of all messages of one type that were told of.
#[derive(Clone, Debug)]
pub struct KindNumbers {
    /// By fate, in the order of [`Fate::ALL`].
    pub fates: [u64; 6],
    /// How long they ran, all of them.
    pub run_nanos: u64,
    wait: Histogram,
    run: Histogram,
}

impl KindNumbers {
    const fn new() -> Self {
        Self {
            fates: [0; 6],
            run_nanos: 0,
            wait: Histogram::new(),
            run: Histogram::new(),
        }
    }

    /// How many waited how long: the least nanoseconds of each bucket, and its count. A bucket spans a quarter of a doubling.
    pub fn waits(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.wait.buckets()
    }

    /// How many ran how long, likewise.
    pub fn runs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.run.buckets()
    }
}

/// All that was kept.
#[derive(Debug)]
pub struct Recorded {
    /// Names of workers, by their numbers.
    pub workers: Vec<String>,
    /// Names of types, by their numbers.
    pub kinds: Vec<String>,
    /// Of each type, by its number.
    pub numbers: Vec<KindNumbers>,
    /// The lanes and their names.
    pub lanes: Vec<(ChartLane, String)>,
    /// The messages that were kept.
    pub bars: Vec<Bar>,
    /// How many there were.
    pub told: u64,
    /// When threads were busy with a worker.
    pub busy: Vec<BusyBar>,
    /// What stands for busy without a break may have breaks as long as this.
    pub busy_gap_nanos: u64,
    /// The failures that were kept.
    pub failures: Vec<Failed>,
    /// How many there were beyond these.
    pub failures_left_out: u64,
}

/// Keeps which message ran where and when.
#[derive(Debug)]
pub struct Recorder {
    workers: Names,
    kinds: Names,
    numbers: Vec<KindNumbers>,
    lanes: Vec<(ChartLane, String)>,
    by_lane: HashMap<ChartLane, u32>,
    bars: Bars,
    told: u64,
    turns: Turns,
    failures: Vec<Failed>,
    failures_left_out: u64,
}

impl Recorder {
    /// One that keeps at most so many messages; 1 024 at least.
    #[must_use]
    pub fn new(most_bars: usize) -> Self {
        Self {
            workers: Names::new(MOST_WORKERS),
            kinds: Names::new(MOST_KINDS),
            numbers: Vec::new(),
            lanes: Vec::new(),
            by_lane: HashMap::new(),
            bars: Bars::new(most_bars),
            told: 0,
            turns: Turns::default(),
            failures: Vec::new(),
            failures_left_out: 0,
        }
    }

    /// The number of a lane, which is called that; those beyond a limit share the last one's.
    pub fn lane(&mut self, lane: ChartLane, name: impl FnOnce() -> String) -> u32 {
        if let Some(known) = self.by_lane.get(&lane) {
            return *known;
        }
        if self.lanes.len() < MOST_LANES {
            self.lanes.push((lane, name()));
        }
        let number = u32::try_from(self.lanes.len() - 1).unwrap_or(u32::MAX);
        self.by_lane.insert(lane, number);
        number
    }

    /// A message has run. `failure`: what [`Recorder::failed`] returned for it.
    pub fn ran(&mut self, ran: &Ran<'_>, failure: Option<usize>) {
        let (worker, kind) = (self.workers.number(ran.worker), self.kind(ran.kind));
        self.told += 1;
        let (begin, run) = match ran.run {
            Some(run) => (ran.end.saturating_sub(run), run),
            // Its lane was busy with those before it, or it began at once.
            None => {
                let begin = ran.end.saturating_sub(ran.wait);
                let begin = begin.max(self.bars.last_end(ran.lane)).min(ran.end);
                (begin, ran.end - begin)
            }
        };
        if let Some(numbers) = self.numbers.get_mut(kind as usize) {
            numbers.fates[ran.fate as usize] += 1;
            if ran.run.is_some() {
                numbers.run_nanos = numbers.run_nanos.saturating_add(run);
                numbers.wait.record(Duration::from_nanos(ran.wait));
                numbers.run.record(Duration::from_nanos(run));
            }
        }
        let bar = Bar {
            begin,
            run,
            wait: ran.run.map(|_| ran.wait),
            lane: ran.lane,
            worker,
            kind,
            together: ran.together,
            fate: ran.fate,
        };
        if let Some(failed) = failure.and_then(|index| self.failures.get_mut(index))
            && (failed.worker, failed.kind) == (worker, kind)
            && ran.fate != Fate::Completed
        {
            failed.bar = Some(bar);
            failed.fate = ran.fate;
        }
        self.bars.add(bar);
    }

    /// A message has run beside another one, which has the bar of both. `times`: how long it waited and ran, if that is known.
    pub fn ran_beside(
        &mut self,
        kind: &str,
        times: Option<(u64, u64)>,
        fate: Fate,
        failure: Option<usize>,
    ) {
        let kind = self.kind(kind);
        if let Some(numbers) = self.numbers.get_mut(kind as usize) {
            numbers.fates[fate as usize] += 1;
            if let Some((wait, run)) = times {
                numbers.wait.record(Duration::from_nanos(wait));
                numbers.run.record(Duration::from_nanos(run));
            }
        }
        if let Some(failed) = failure.and_then(|index| self.failures.get_mut(index))
            && failed.kind == kind
            && fate != Fate::Completed
        {
            failed.fate = fate;
        }
    }

    /// A thread was busy with a worker.
    pub fn busy(&mut self, lane: u32, worker: &str, begin: u64, end: u64) {
        let worker = self.workers.number(worker);
        self.turns.add(lane, worker, begin, end);
    }

    /// A message, or an attempt, has failed, for whatever `text` says. Returns by what it is known until it is told of as a
    /// message that ran; `None`: there are too many.
    pub fn failed(
        &mut self,
        (worker, kind): (&str, &str),
        lane: u32,
        at: u64,
        text: String,
        fate: Fate,
    ) -> Option<usize> {
        if self.failures.len() >= MOST_FAILURES {
            self.failures_left_out += 1;
            return None;
        }
        let (worker, kind) = (self.workers.number(worker), self.kind(kind));
        self.failures.push(Failed {
            at,
            worker,
            kind,
            lane,
            text,
            fate,
            bar: None,
        });
        Some(self.failures.len() - 1)
    }

    /// All of it.
    #[must_use]
    pub fn end(self) -> Recorded {
        Recorded {
            workers: self.workers.into_names(),
            kinds: self.kinds.into_names(),
            numbers: self.numbers,
            lanes: self.lanes,
            bars: self.bars.into_kept(),
            told: self.told,
            busy_gap_nanos: self.turns.gap(),
            busy: self.turns.into_kept(),
            failures: self.failures,
            failures_left_out: self.failures_left_out,
        }
    }

    fn kind(&mut self, name: &str) -> u32 {
        let number = self.kinds.number(name);
        if self.numbers.len() <= number as usize {
            self.numbers.push(KindNumbers::new());
        }
        number
    }
}

#[cfg(all(test, not(pytoweb_loom)))]
#[path = "recorder/tests.rs"]
mod tests;
