//! What the workers of a pool ran while a report of it is recorded.
//!
//! A message costs a look at a flag while none is, and that only if it is timed; of quick handlers one in 64 is.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use pytoweb_engine::{Bar, ChartLane, Fate, Recorded, Recorder};

/// The recorders tell themselves apart: what a thread has noted is of one of them.
static RECORDERS: AtomicU32 = AtomicU32::new(0);
static THREADS: AtomicU32 = AtomicU32::new(0);

/// A failure that was reported on this thread: the recorder, and its number there.
type ReportedFailure = Option<(u32, usize)>;

thread_local! {
    static THREAD: u32 = {
        // ORDERING: Relaxed, only uniqueness matters.
        THREADS.fetch_add(1, Ordering::Relaxed)
    };
    /// The last failure that was reported here, until its message ends.
    static REPORTED: Cell<ReportedFailure> = const { Cell::new(None) };
    /// Messages that ran beside the one that ends next.
    static BESIDE: Cell<u32> = const { Cell::new(0) };
}

/// What is recorded now.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) recorder: Recorder,
    number: u32,
    start: Instant,
}

/// What the recorder counts in.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Active {
    /// A time on the recorder's clock.
    pub(crate) fn at(&self, when: Instant) -> u64 {
        nanos(when.saturating_duration_since(self.start))
    }

    /// The lane of the calling thread.
    pub(crate) fn lane_here(&mut self) -> u32 {
        let name = || {
            let thread = std::thread::current();
            thread.name().unwrap_or("a thread").to_owned()
        };
        self.recorder
            .lane(ChartLane::Thread(THREAD.with(|own| *own)), name)
    }

    /// That of a child, by its place.
    pub(crate) fn lane_of(&mut self, child: u32) -> u32 {
        let name = || child.to_string();
        self.recorder.lane(ChartLane::Process(child), name)
    }

    /// The failure that was told of here last, and of which no message has ended since.
    pub(crate) fn told_here(&self) -> Option<usize> {
        let (recorder, index) = REPORTED.take()?;
        (recorder == self.number).then_some(index)
    }

    /// A failure was told of on this thread; its message ends here.
    pub(crate) fn tell_here(&self, failure: Option<usize>) {
        REPORTED.set(failure.map(|index| (self.number, index)));
    }

    /// Another message ran beside the one that ends next on this thread.
    pub(crate) fn add_beside() {
        BESIDE.set(BESIDE.get().saturating_add(1));
    }

    /// So many did.
    pub(crate) fn set_beside(messages: usize) {
        BESIDE.set(u32::try_from(messages).unwrap_or(u32::MAX));
    }

    /// How many messages ended together, with the one that ends now.
    pub(crate) fn take_together() -> u32 {
        BESIDE.take().saturating_add(1)
    }
}

/// Of the workers that share threads.
///
/// `records.rs` tells it what it records.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    is_on: AtomicBool,
    active: Mutex<Option<Active>>,
}

impl Recording {
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        // ORDERING: Relaxed, a message at the same time may be recorded or not.
        self.is_on.load(Ordering::Relaxed)
    }

    pub(crate) fn with(&self, note: impl FnOnce(&mut Active)) {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(active) = &mut *active {
            note(active);
        }
    }

    pub(crate) fn start(&self, most_bars: usize) -> PyResult<()> {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        if active.is_some() {
            return Err(PyRuntimeError::new_err(
                "a report of this pool is being recorded already: save() that one first",
            ));
        }
        *active = Some(Active {
            recorder: Recorder::new(most_bars),
            // ORDERING: Relaxed, only uniqueness matters.
            number: RECORDERS.fetch_add(1, Ordering::Relaxed),
            start: Instant::now(),
        });
        self.is_on.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// All that was recorded; None where nothing is.
    pub(crate) fn stop<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        // ORDERING: Relaxed, as in `is_on`.
        self.is_on.store(false, Ordering::Relaxed);
        let active = {
            let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
            active.take()
        };
        let Some(active) = active else {
            return Ok(None);
        };
        let seconds = active.start.elapsed().as_secs_f64();
        told(py, &active.recorder.end(), seconds).map(Some)
    }

    /// A thread has run a turn of a worker.
    pub(crate) fn turn(&self, worker: &str, began: Instant) {
        let ended = Instant::now();
        self.with(|active| {
            let lane = active.lane_here();
            let (began, ended) = (active.at(began), active.at(ended));
            active.recorder.busy(lane, worker, began, ended);
        });
    }
}

fn bytes<'py, T, const N: usize>(
    py: Python<'py>,
    of: &[T],
    get: impl Fn(&T) -> [u8; N],
) -> Bound<'py, PyBytes> {
    let all: Vec<u8> = of.iter().flat_map(get).collect();
    PyBytes::new(py, &all)
}

/// The columns of `_core.pyi`.
fn told<'py>(py: Python<'py>, recorded: &Recorded, seconds: f64) -> PyResult<Bound<'py, PyDict>> {
    let told = PyDict::new(py);
    told.set_item("seconds", seconds)?;
    told.set_item("workers", &recorded.workers)?;
    told.set_item("types", &recorded.kinds)?;
    let lanes = recorded.lanes.iter().map(|(lane, name)| match lane {
        ChartLane::Thread(_) => ("thread", name),
        ChartLane::Process(_) => ("process", name),
        ChartLane::Coroutines => ("coroutines", name),
    });
    told.set_item("lanes", lanes.collect::<Vec<_>>())?;
    let bars = &recorded.bars;
    let wait = |bar: &Bar| bar.wait.unwrap_or(u64::MAX).to_ne_bytes();
    told.set_item("recorded", recorded.told)?;
    told.set_item(
        "bars",
        (
            bytes(py, bars, |bar| bar.begin.to_ne_bytes()),
            bytes(py, bars, |bar| bar.run.to_ne_bytes()),
            bytes(py, bars, wait),
            bytes(py, bars, |bar| bar.lane.to_ne_bytes()),
            bytes(py, bars, |bar| bar.worker.to_ne_bytes()),
            bytes(py, bars, |bar| bar.kind.to_ne_bytes()),
            bytes(py, bars, |bar| bar.together.to_ne_bytes()),
            bytes(py, bars, |bar| [bar.fate as u8]),
        ),
    )?;
    let busy = recorded.busy.iter();
    let busy = busy.map(|busy| (busy.lane, busy.worker, busy.begin, busy.end, busy.nanos));
    told.set_item("busy", busy.collect::<Vec<_>>())?;
    told.set_item("busy_gap_nanos", recorded.busy_gap_nanos)?;
    let failures = recorded.failures.iter().map(|failed| {
        let bar = failed.bar.map(|bar| (bar.lane, bar.begin, bar.run));
        let of = (failed.worker, failed.kind, failed.lane);
        (failed.at, of, &failed.text, failed.fate.name(), bar)
    });
    told.set_item("failures", failures.collect::<Vec<_>>())?;
    told.set_item("failures_left_out", recorded.failures_left_out)?;
    let numbers = recorded.numbers.iter().map(|numbers| {
        (
            numbers.fates,
            numbers.run_nanos,
            numbers.waits().collect::<Vec<_>>(),
            numbers.runs().collect::<Vec<_>>(),
        )
    });
    told.set_item("numbers", numbers.collect::<Vec<_>>())?;
    told.set_item("fates", Fate::ALL.map(Fate::name))?;
    Ok(told)
}
