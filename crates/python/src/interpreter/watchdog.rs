//! The watchdog: tells of a handler that holds the interpreter lock, or keeps all threads from it, while that lasts.
//!
//! A native thread that never asks for that lock. It sleeps while no listed thread has work; else it looks at their marks
//! four times a second, and where a message is seen to run twice, has another thread, the *prober*, ask for the lock.
//! Where the prober does not get it, the watchdog dumps the stacks without: it sends *itself* a signal whose handler, in
//! C, is that of `faulthandler.register`. So no thread of the program is interrupted, all that is used is public, and a
//! `faulthandler.enable()` of the program is as it was. The dump goes into a file in memory, and from there to
//! standard error: logging needs the lock, and is done by a thread that waits for that.
#![cfg_attr(
    unix,
    expect(
        unsafe_code,
        reason = "a signal to itself, and where its handler writes"
    )
)]

use std::collections::HashMap;
use std::ffi::c_ulong;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use pyo3::intern;
use pyo3::prelude::*;

use crate::interpreter::ending::{self, Presence};
use crate::interpreter::marks::{self, Noted};

/// The time between two looks while a handler may run.
const LOOK: Duration = Duration::from_millis(250);
/// And after the first look at a message: most have ended by then, and the lock is not asked for in vain.
const SECOND_LOOK: Duration = Duration::from_millis(50);
/// How long the prober may wait for the lock. With the looks before, a held lock is noticed after 1.05 s at most.
const HELD: Duration = Duration::from_millis(700);
/// The most that one look adds to that: a machine that stood still has held no lock.
const MOST_A_LOOK: Duration = Duration::from_millis(150);
/// A thread that computes gets this part of the time at least, also on a machine with more to do than cores; one that waits
/// for the lock, a hundredth.
const COMPUTES: u32 = 10;
/// Where the stack of a handler ends, and ours begins.
const OURS: [&str; 3] = [
    "/pytoweb/_pool_thread.py\"",
    "/pytoweb/_child.py\"",
    "/pytoweb/_loops.py\"",
];
/// The frames of an event loop between ours and those of a task.
const OF_LOOPS: [&str; 3] = [
    "/pytoweb/_contained.py\"",
    "/asyncio/base_events.py\"",
    "/asyncio/events.py\"",
];
/// Lines of other threads' stacks, where it is not known which thread has the lock.
const MOST_LINES: usize = 200;
/// Stack of the two threads. The signal handler runs on it.
const STACK_BYTES: usize = 256 << 10;

/// The module with its Python side.
pub(crate) fn module(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import(intern!(py, "pytoweb._runtime"))?
        .call_method0(intern!(py, "watchdog"))
}

/// Starts the watchdog, if there is none. Called on a listed thread.
pub(crate) fn ensure(py: Python<'_>) {
    if !marks::is_unwatched() {
        return;
    }
    let armed = module(py).and_then(|module| module.call_method0(intern!(py, "arm"))?.extract());
    let dump = match armed {
        // It is switched off.
        Ok(None) => return,
        Ok(Some(armed)) => Dump::new(armed),
        Err(error) => {
            error.write_unraisable(py, None);
            None
        }
    };
    let thread = thread::Builder::new().name("pytoweb-watch".to_owned());
    // Where the system refuses a thread there is no watchdog, and all else goes on.
    let _ = thread
        .stack_size(STACK_BYTES)
        .spawn(move || Watchdog::new(dump).run());
}

/// A message that was seen to run.
struct SeenRun {
    number: u64,
    since: Instant,
    /// It was seen before the last look.
    again: bool,
    told: bool,
    /// Processor time of its thread when the lock was asked for.
    spent: Option<Duration>,
}

/// An ask for the lock that has no answer yet.
struct Asked {
    had_before: u64,
    waited: Duration,
    noticed: bool,
}

struct Watchdog {
    dump: Option<Dump>,
    runs: HashMap<c_ulong, SeenRun>,
    prober: Option<mpsc::Sender<Presence>>,
    /// How often the prober had the lock.
    had: Arc<AtomicU64>,
    asked: Option<Asked>,
    /// When an ask was last answered.
    heard: Option<Instant>,
}

impl Watchdog {
    fn new(dump: Option<Dump>) -> Self {
        Self {
            dump,
            runs: HashMap::new(),
            prober: None,
            had: Arc::default(),
            asked: None,
            heard: None,
        }
    }

    fn run(mut self) {
        marks::note_watchdog();
        if let Some(dump) = &mut self.dump {
            dump.begin();
        }
        let mut last = Instant::now();
        while !ending::is_over() {
            if self.asked.is_none() {
                if self.runs.is_empty() {
                    // The prober ends where no handler has run for long.
                    self.prober = None;
                    marks::sleep_while_all_rest();
                }
                if marks::has_no_threads() {
                    return;
                }
            }
            let now = Instant::now();
            let (fresh, ended) = self.look(now);
            if fresh || ended {
                // The lock went from thread to thread, and the prober was not among them.
                self.wait_anew();
            }
            self.hear(now.saturating_duration_since(last));
            last = now;
            let rest = self.rest(now);
            if rest.is_zero() && self.asked.is_none() && self.runs.values().any(|run| run.again) {
                self.ask();
            }
            let soon = fresh || self.asked.is_some();
            let pause = if soon { SECOND_LOOK } else { LOOK };
            // The answer to an ask ends the pause; the next one is made after a rest.
            thread::park_timeout(if rest.is_zero() {
                pause
            } else {
                pause.min(rest)
            });
        }
    }

    /// How long the lock is not to be asked for yet: else each answer would lead to the next ask at once.
    fn rest(&self, now: Instant) -> Duration {
        self.heard.map_or(Duration::ZERO, |heard| {
            LOOK.saturating_sub(now.saturating_duration_since(heard))
        })
    }

    /// Looks at what runs. Says whether a message is seen for the first time, and whether one has ended.
    fn look(&mut self, now: Instant) -> (bool, bool) {
        let (before, mut fresh) = (std::mem::take(&mut self.runs), false);
        let runs = &mut self.runs;
        let mut before = before;
        marks::visit(|seen| {
            if seen.mark.busy_with().is_null() {
                return;
            }
            let number = seen.mark.number();
            let run = match before.remove(&seen.ident) {
                Some(run) if run.number == number => SeenRun { again: true, ..run },
                _ => {
                    fresh = true;
                    SeenRun {
                        number,
                        since: now,
                        again: false,
                        told: false,
                        spent: None,
                    }
                }
            };
            runs.insert(seen.ident, run);
        });
        (fresh, !before.is_empty())
    }

    /// Has the prober ask for the lock.
    fn ask(&mut self) {
        // First this, then the look at the end: see `ending::is_over`.
        let presence = Presence::new();
        if ending::is_over() {
            return;
        }
        // ORDERING: Relaxed, here and in `hear`: see `probe`.
        let had_before = self.had.load(Ordering::Relaxed);
        let prober = match self.prober.take() {
            Some(prober) => Some(prober),
            None => self.start_prober(),
        };
        let Some(prober) = prober else { return };
        if prober.send(presence).is_err() {
            return;
        }
        self.prober = Some(prober);
        self.asked = Some(Asked {
            had_before,
            waited: Duration::ZERO,
            noticed: false,
        });
        self.wait_anew();
    }

    /// The wait for the lock, if there is one, counts from now on.
    fn wait_anew(&mut self) {
        let Some(asked) = &mut self.asked else { return };
        asked.waited = Duration::ZERO;
        asked.noticed = false;
        let runs = &mut self.runs;
        marks::visit(|seen| {
            if let Some(run) = runs.get_mut(&seen.ident) {
                run.spent = spent(seen.ident);
            }
        });
    }

    fn start_prober(&self) -> Option<mpsc::Sender<Presence>> {
        let (asks, asked) = mpsc::channel();
        let had = self.had.clone();
        let thread = thread::Builder::new().name("pytoweb-prober".to_owned());
        let started = thread.spawn(move || probe(&asked, &had));
        started.is_ok().then_some(asks)
    }

    /// Looks whether the lock was had.
    fn hear(&mut self, passed: Duration) {
        let Some(asked) = &mut self.asked else { return };
        if self.had.load(Ordering::Relaxed) != asked.had_before {
            self.asked = None;
            self.heard = Some(Instant::now());
            return;
        }
        asked.waited += passed.min(MOST_A_LOOK);
        if asked.waited < HELD || asked.noticed {
            return;
        }
        asked.noticed = true;
        let waited = asked.waited;
        self.notice(waited);
    }

    /// The lock is not to be had.
    fn notice(&mut self, waited: Duration) {
        let now = Instant::now();
        let mut found = Vec::new();
        let runs = &self.runs;
        marks::visit(|seen| {
            let shared = seen.mark.busy_with();
            let run = runs.get(&seen.ident);
            if let Some(run) = run
                && !shared.is_null()
                && seen.mark.number() == run.number
            {
                let used = spent(seen.ident)
                    .zip(run.spent)
                    .is_some_and(|(now, before)| now.saturating_sub(before) >= waited / COMPUTES);
                let thread = match seen.name {
                    Some(name) => format!("thread {name}"),
                    None => "main thread".to_owned(),
                };
                found.push((seen.ident, run.number, run.since, shared, used, thread));
            }
        });
        // A thread that computes has the lock; the others wait for it, or for something else.
        let computes = found.iter().any(|(.., used, _)| *used);
        if computes {
            found.retain(|(.., used, _)| *used);
        }
        let stacks = self.dump.as_mut().and_then(Dump::take).unwrap_or_default();
        let stacks = ThreadStacks::of(&stacks);
        let mut told = Vec::new();
        for (ident, number, since, shared, _, thread) in &found {
            let noted = marks::note_held(*shared, *ident, *number, now - waited);
            let Noted { worker, of_loop } = noted.unwrap_or_default();
            let Some(run) = self.runs.get_mut(ident).filter(|run| !run.told) else {
                continue;
            };
            run.told = true;
            let ran = now.saturating_duration_since(*since).as_secs_f64();
            let waited = waited.as_secs_f64();
            let (worker, of_loop) = (worker.map(String::from), of_loop.map(String::from));
            let code = match (&worker, &of_loop) {
                (Some(worker), _) => format!("worker {worker:?}: a handler"),
                (None, Some(of_loop)) => format!("event loop {of_loop:?}: a task or callback"),
                (None, None) => "a handler".to_owned(),
            };
            let mut text = format!(
                "pytoweb: {code} has run for {ran:.1} s, and the interpreter lock could not be had for the last \
                 {waited:.1} s ({thread}, process {}); most recent call first:\n",
                std::process::id()
            );
            let stack = stacks.of_thread(*ident);
            text.push_str(stack.unwrap_or("  (its stack is not known)\n"));
            if !text.ends_with('\n') {
                text.push('\n');
            }
            if !computes {
                stacks.add_others(*ident, &mut text);
            }
            if let Some(dump) = &self.dump {
                dump.say(&text);
            }
            let stack = stack.unwrap_or_default().to_owned();
            told.push((*ident, *number, worker, of_loop, ran, waited, stack));
        }
        if !told.is_empty() {
            tell(move |py| {
                let module = module(py)?;
                module
                    .call_method1(intern!(py, "tell_held"), (told,))
                    .map(drop)
            });
        }
    }
}

/// The life of the prober, until the watchdog lets go of it. It runs no Python code: then it would wait for the lock where
/// the watchdog does not see it.
fn probe(asked: &mpsc::Receiver<Presence>, had: &AtomicU64) {
    for presence in asked {
        // Not where the interpreter has ended.
        let _ = Python::try_attach(|_| {
            // ORDERING: Relaxed, the watchdog looks again.
            had.fetch_add(1, Ordering::Relaxed);
        });
        drop(presence);
        marks::wake_watchdog();
    }
}

/// Runs `tell` with the interpreter lock, once that can be had, on a thread of its own: reports are rare, and what logs them
/// is the program's code, which may take its time. Nothing is told once the program ends.
pub(crate) fn tell(tell: impl FnOnce(Python<'_>) -> PyResult<()> + Send + 'static) {
    // First this, then the look at the end: see `ending::is_over`.
    let presence = Presence::new();
    if ending::is_over() {
        return;
    }
    let thread = thread::Builder::new().name("pytoweb-tell".to_owned());
    // Where the system refuses a thread, standard error has it at least.
    let _ = thread.spawn(move || {
        let _ = Python::try_attach(|py| {
            if let Err(error) = tell(py) {
                error.write_unraisable(py, None);
            }
        });
        drop(presence);
    });
}

/// The lines of a stack without those of the event loop at its end, unless that is all.
fn without_loop(lines: &str) -> &str {
    let mut left = lines;
    while let Some(last) = left.lines().next_back()
        && OF_LOOPS.iter().any(|of_loop| last.contains(of_loop))
    {
        left = &left[..left.trim_end().len() - last.trim_end().len()];
    }
    if left.trim().is_empty() { lines } else { left }
}

/// The stacks of all threads, as `faulthandler` writes them.
struct ThreadStacks<'a>(Vec<(c_ulong, &'a str)>);

impl<'a> ThreadStacks<'a> {
    fn of(text: &'a str) -> Self {
        let mut stacks = Vec::new();
        for part in text.split("\n\n") {
            let Some((head, lines)) = part.split_once('\n') else {
                continue;
            };
            let ident = head.split("hread 0x").nth(1).and_then(|rest| {
                let digits = rest.split(|c: char| !c.is_ascii_hexdigit()).next()?;
                c_ulong::from_str_radix(digits, 16).ok()
            });
            let end = OURS.iter().filter_map(|ours| lines.find(ours)).min();
            let end = end.map_or(lines.len(), |at| {
                lines[..at].rfind('\n').map_or(0, |at| at + 1)
            });
            let lines = without_loop(&lines[..end]);
            stacks.extend(ident.map(|ident| (ident, lines)));
        }
        Self(stacks)
    }

    fn of_thread(&self, ident: c_ulong) -> Option<&'a str> {
        let found = self.0.iter().find(|(own, _)| *own == ident);
        found.map(|(_, lines)| *lines)
    }

    /// Adds the stacks of the other threads, one of which may have the lock.
    fn add_others(&self, ident: c_ulong, text: &mut String) {
        let mut left = MOST_LINES;
        // The prober, say, has none.
        let shows = |lines: &str| lines.contains("File ");
        for (other, lines) in &self.0 {
            if *other == ident || !shows(lines) {
                continue;
            }
            let count = lines.lines().count();
            if count > left {
                break;
            }
            left -= count;
            // To a string this cannot fail.
            let _ = writeln!(text, "other thread {other:#x}:\n{}", lines.trim_end());
        }
    }
}

/// Processor time of a listed thread.
#[cfg(target_os = "linux")]
fn spent(ident: c_ulong) -> Option<Duration> {
    let (mut clock, mut time) = (
        0,
        libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        },
    );
    // SAFETY: `ident` is what `pthread_self` is to that thread, which has not ended: the caller visits the list. Both calls
    // write to the local values alone.
    let failed = unsafe {
        libc::pthread_getcpuclockid(ident, &raw mut clock) != 0
            || libc::clock_gettime(clock, &raw mut time) != 0
    };
    if failed {
        return None;
    }
    let seconds = u64::try_from(time.tv_sec).ok()?;
    Some(Duration::new(seconds, u32::try_from(time.tv_nsec).ok()?))
}

#[cfg(not(target_os = "linux"))]
fn spent(_ident: c_ulong) -> Option<Duration> {
    None
}

/// Where the stacks come from without the interpreter lock.
#[cfg(unix)]
struct Dump {
    /// The signal, and the descriptor of the file that its handler writes to.
    armed: Option<(libc::c_int, libc::c_int)>,
    /// The handler of the signal, as `faulthandler` has set it.
    handler: usize,
    /// Standard error is open.
    speaks: bool,
}

#[cfg(unix)]
impl Dump {
    /// `armed`: the signal and the descriptor, or none where the platform has no such signal; whether to say
    /// something on standard error.
    fn new((armed, speaks): (Option<(libc::c_int, libc::c_int)>, bool)) -> Option<Self> {
        Some(Self {
            armed,
            handler: armed.map_or(0, |(signal, _)| handler_of(signal)),
            speaks,
        })
    }

    /// Called on the watchdog's thread: it takes this signal and no other, and on its own stack.
    fn begin(&mut self) {
        // SAFETY: both structures are plain data, for which zero is a value, and are filled in before they are read. The
        // alternate stack is that of the standard library, which unmaps it as the thread ends, in use or not.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            if let Some((signal, _)) = self.armed {
                libc::sigdelset(&raw mut all, signal);
            }
            for fault in [
                libc::SIGSEGV,
                libc::SIGBUS,
                libc::SIGFPE,
                libc::SIGILL,
                libc::SIGABRT,
            ] {
                libc::sigdelset(&raw mut all, fault);
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut());
            let mut none: libc::stack_t = std::mem::zeroed();
            none.ss_flags = libc::SS_DISABLE;
            libc::sigaltstack(&raw const none, std::ptr::null_mut());
        }
    }

    /// The stacks of all threads.
    fn take(&mut self) -> Option<String> {
        use std::io::{Read, Seek, SeekFrom};
        use std::os::fd::FromRawFd;

        let (signal, file) = self.armed?;
        // The program may have taken the signal for itself, or given it back: then it would end the process.
        if self.handler == 0 || handler_of(signal) != self.handler {
            return None;
        }
        // SAFETY: the descriptor is open until the process ends, and is not closed here.
        let mut file = unsafe { std::mem::ManuallyDrop::new(std::fs::File::from_raw_fd(file)) };
        file.set_len(0).ok()?;
        file.seek(SeekFrom::Start(0)).ok()?;
        // SAFETY: the calling thread exists. The handler has run when this returns.
        if unsafe { libc::pthread_kill(libc::pthread_self(), signal) } != 0 {
            return None;
        }
        file.seek(SeekFrom::Start(0)).ok()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Writes to standard error, past Python's, which needs the lock.
    fn say(&self, text: &str) {
        use std::io::Write;

        if self.speaks && is_standard_error() {
            // There is no place to tell that it failed.
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
    }
}

/// Whether descriptor 2 is a standard error. The program may have closed that, and the next file that it opened is 2 then: it
/// is told by its flag, because files are opened to be closed by exec, and a standard error, also one that was redirected
/// with `dup2`, is to be passed on.
#[cfg(unix)]
fn is_standard_error() -> bool {
    // SAFETY: asks for the flags of a number, which need not be a descriptor.
    let flags = unsafe { libc::fcntl(libc::STDERR_FILENO, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}

/// The address of what handles a signal.
#[cfg(unix)]
fn handler_of(signal: libc::c_int) -> usize {
    // SAFETY: plain data, for which zero is a value; the call only writes to it.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(signal, std::ptr::null(), &raw mut action) != 0 {
            return 0;
        }
        action.sa_sigaction
    }
}

#[cfg(not(unix))]
struct Dump;

#[cfg(not(unix))]
impl Dump {
    fn new(_armed: (Option<(i32, i32)>, bool)) -> Option<Self> {
        None
    }

    fn begin(&mut self) {}

    fn take(&mut self) -> Option<String> {
        None
    }

    fn say(&self, _text: &str) {}
}
