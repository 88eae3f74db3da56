//! Marks: which threads run a handler, for code that looks at all of them.
//!
//! A thread marks where its message is for as long as the handler runs, and nothing is copied for that: messages are
//! many, and looks are rare. The threads that have done so are listed. A thread that holds the interpreter lock may
//! follow the marks of others; the watchdog, which cannot have that lock when it matters, only compares them.
//!
//! Past 600 lines, because all that follows the pointers of other threads is to be read at once.
#![expect(
    unsafe_code,
    reason = "the marks of a thread are local to it, and looked at from others"
)]

use std::collections::HashMap;
use std::ffi::c_ulong;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread, ThreadId};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use crate::interpreter::context;
use crate::interpreter::generation::Generation;

/// What a thread marks. Written by that thread alone.
pub(crate) struct Mark {
    /// The message whose handler runs; null where none does. Written only while the thread holds the interpreter lock,
    /// as the next four are, so another one that holds it sees those of the same message.
    message: AtomicPtr<()>,
    /// What the messages of its worker share.
    shared: AtomicPtr<()>,
    /// In a child: the worker whose handler runs, and the call; null where none does.
    of_child: AtomicPtr<()>,
    call: AtomicPtr<()>,
    /// On the thread of an event loop: by what the label of the loop is found, while it does not wait in its selector.
    looping: AtomicPtr<()>,
    /// The loop of this thread, while it has one whose selector tells of its waits; else null.
    own_loop: AtomicPtr<()>,
    /// How often that loop has come back from its selector, as `number` counts.
    turns: AtomicU64,
    /// One more for each message, by which a later look knows the same one again; no two threads have the same. On the
    /// thread of an event loop that of the loop's turn.
    number: AtomicU64,
    /// When the handler of that message began, as `coarse` has it; 0: it is not looked at.
    began: AtomicU64,
    /// It is a thread of a pool, or the one of a child. Others may run an error handler now and then.
    serves: AtomicBool,
    /// Such a thread does not wait for work.
    awake: AtomicBool,
}

thread_local! {
    static MARK: Mark = const {
        Mark {
            message: AtomicPtr::new(ptr::null_mut()),
            shared: AtomicPtr::new(ptr::null_mut()),
            of_child: AtomicPtr::new(ptr::null_mut()),
            call: AtomicPtr::new(ptr::null_mut()),
            looping: AtomicPtr::new(ptr::null_mut()),
            own_loop: AtomicPtr::new(ptr::null_mut()),
            turns: AtomicU64::new(0),
            number: AtomicU64::new(0),
            began: AtomicU64::new(0),
            serves: AtomicBool::new(false),
            awake: AtomicBool::new(false),
        }
    };
}

// ORDERING of all accesses to these but `awake`: Relaxed. The interpreter lock orders those of different
// threads; a look without it is repeated before anything follows from it.

impl Mark {
    /// Where the message is, and what those of its worker share.
    pub(crate) fn get(&self) -> (*mut (), *mut ()) {
        let shared = self.shared.load(Ordering::Relaxed);
        (self.message.load(Ordering::Relaxed), shared)
    }

    /// Puts back what was there before [`Mark::begin`].
    pub(crate) fn set(&self, (message, shared): (*mut (), *mut ())) {
        self.message.store(message, Ordering::Relaxed);
        self.shared.store(shared, Ordering::Relaxed);
    }

    /// One more message.
    fn count(&self) {
        let mut number = self.number();
        if number == 0 {
            number = begin_numbers();
        }
        self.number.store(number.wrapping_add(1), Ordering::Relaxed);
    }

    /// The handler of one more message begins.
    pub(crate) fn begin<M, S>(&self, message: &M, shared: &S) {
        self.count();
        // They are only ever read.
        self.set((
            ptr::from_ref(message).cast_mut().cast(),
            ptr::from_ref(shared).cast_mut().cast(),
        ));
    }

    /// Notes that the handler begins now, or that it began then, or nothing of it. Returns what was noted before.
    #[inline]
    pub(crate) fn note_began(&self, at: u64) -> u64 {
        let before = self.began.load(Ordering::Relaxed);
        self.began.store(at, Ordering::Relaxed);
        before
    }

    /// For how long the handler has run, if that was noted.
    pub(crate) fn ran(&self) -> Option<Duration> {
        let began = self.began.load(Ordering::Relaxed);
        (began > 0).then(|| Duration::from_nanos(coarse().saturating_sub(began)))
    }

    /// The same in a child, for a message of that worker.
    pub(crate) fn begin_in_child<W, C>(&self, worker: &W, call: &C) {
        self.count();
        let call = ptr::from_ref(call).cast_mut().cast();
        self.call.store(call, Ordering::Relaxed);
        let worker = ptr::from_ref(worker).cast_mut().cast();
        self.of_child.store(worker, Ordering::Relaxed);
    }

    /// The handler has ended, in a child.
    pub(crate) fn end_in_child(&self) {
        self.call.store(ptr::null_mut(), Ordering::Relaxed);
        self.of_child.store(ptr::null_mut(), Ordering::Relaxed);
    }

    /// The call of the handler that runs, in a child.
    pub(crate) fn call(&self) -> *mut () {
        self.call.load(Ordering::Relaxed)
    }

    /// By what the label of the worker is found whose handler runs; null where none does.
    pub(crate) fn busy_with(&self) -> *mut () {
        match self.get() {
            (message, shared) if !message.is_null() => shared,
            _ => [&self.of_child, &self.looping]
                .into_iter()
                .map(|place| place.load(Ordering::Relaxed))
                .find(|place| !place.is_null())
                .unwrap_or(ptr::null_mut()),
        }
    }

    /// The thread has an event loop from now on, whose label is found by `own`.
    pub(crate) fn runs_loop<L>(&self, own: &L) {
        let own = ptr::from_ref(own).cast_mut().cast();
        self.own_loop.store(own, Ordering::Relaxed);
    }

    /// The loop of the thread has ended.
    pub(crate) fn ends_loop(&self) {
        self.own_loop.store(ptr::null_mut(), Ordering::Relaxed);
        self.loop_rests();
    }

    /// The loop of the thread is about to wait.
    #[inline]
    pub(crate) fn loop_rests(&self) {
        self.looping.store(ptr::null_mut(), Ordering::Relaxed);
        // ORDERING: Relaxed, see `rests`.
        self.awake.store(false, Ordering::Relaxed);
    }

    /// The loop of the thread has waited, and is at work again.
    #[inline]
    pub(crate) fn loop_wakes(&self) {
        let turn = match self.turns.load(Ordering::Relaxed) {
            0 => begin_numbers(),
            turn => turn,
        };
        let turn = turn.wrapping_add(1);
        self.turns.store(turn, Ordering::Relaxed);
        self.number.store(turn, Ordering::Relaxed);
        let own_loop = self.own_loop.load(Ordering::Relaxed);
        self.looping.store(own_loop, Ordering::Relaxed);
        self.wakes();
    }

    /// The thread has found work, and is about to ask for the interpreter lock, or has it.
    #[inline]
    fn wakes(&self) {
        // ORDERING: SeqCst, as in `sleep`: this thread sees the watchdog asleep, or that one sees this thread awake.
        self.awake.store(true, Ordering::SeqCst);
        if marks().asleep.load(Ordering::SeqCst) {
            wake_watchdog();
        }
    }

    /// The number of the message, on this thread.
    pub(crate) fn number(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }
}

/// The time since some moment, in nanoseconds, right to a hundredth of a second: what people are told of a handler needs no
/// more, and the exact clock costs several times as much, for each ask.
#[inline]
pub(crate) fn coarse() -> u64 {
    #[cfg(target_os = "linux")]
    {
        let mut now = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: `now` is the caller's own, for as long as the call takes.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut now) };
        u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000
            + u64::try_from(now.tv_nsec).unwrap_or(0)
    }
    #[cfg(not(target_os = "linux"))]
    {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        let start = START.get_or_init(Instant::now);
        1 + u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX - 1)
    }
}

/// Runs `f` on the marks of the calling thread.
#[inline]
pub(crate) fn own<R>(f: impl FnOnce(&Mark) -> R) -> R {
    MARK.with(f)
}

/// A thread that has run a handler, or will, in the list of them.
struct Listed {
    ident: c_ulong,
    thread: ThreadId,
    name: Option<Box<str>>,
    mark: *const Mark,
}

// SAFETY: the pointer is followed only as `visit` says.
unsafe impl Send for Listed {}

/// A listed thread, as a look finds it.
pub(crate) struct Seen<'a> {
    /// As `threading.get_ident()` has it.
    pub(crate) ident: c_ulong,
    pub(crate) thread: ThreadId,
    pub(crate) name: Option<&'a str>,
    pub(crate) mark: &'a Mark,
}

/// What the marks of one process have in common. A forked child has none of its parent's threads, and one of them may
/// hold a lock of this: it begins with another one.
#[derive(Default)]
struct Marks {
    threads: Mutex<Vec<Listed>>,
    labels: Mutex<HashMap<usize, Arc<Labelled>>>,
    /// There is a watchdog, or it is switched off.
    watched: AtomicBool,
    /// The watchdog sleeps until a thread wakes up.
    asleep: AtomicBool,
    watchdog: Mutex<Option<Thread>>,
}

/// Null until the first use; never freed.
static MARKS: AtomicPtr<Marks> = AtomicPtr::new(ptr::null_mut());

fn marks() -> &'static Marks {
    // ORDERING: Acquire, with the Release that stored it.
    let mut all = MARKS.load(Ordering::Acquire);
    if all.is_null() {
        let made = Box::into_raw(Box::default());
        // ORDERING: AcqRel, its contents go with it, or come from the thread that was first.
        match MARKS.compare_exchange(all, made, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => all = made,
            Err(first) => {
                // SAFETY: it was made above, and no other thread has seen it.
                drop(unsafe { Box::from_raw(made) });
                all = first;
            }
        }
    }
    // SAFETY: not null, made by `Box::into_raw`, and never freed once it is stored.
    unsafe { &*all }
}

/// In a forked child, which has none of its parent's threads. What they shared is leaked: its locks may be theirs.
pub(super) fn forget_threads() {
    // ORDERING: Relaxed, there is one thread.
    MARKS.store(ptr::null_mut(), Ordering::Relaxed);
}

fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread whose value this is is in the list; dropped with that, before the memory of its marks goes.
struct Listing {
    ident: c_ulong,
    generation: Generation,
}

thread_local! {
    static LISTING: Listing = {
        let listed = Listed {
            ident: context::thread_ident(),
            thread: thread::current().id(),
            name: thread::current().name().map(Box::from),
            mark: own(ptr::from_ref),
        };
        let listing = Listing { ident: listed.ident, generation: Generation::now() };
        locked(&marks().threads).push(listed);
        listing
    };
}

impl Drop for Listing {
    fn drop(&mut self) {
        if self.generation.is_here() {
            let mut threads = locked(&marks().threads);
            threads.retain(|listed| listed.ident != self.ident);
            drop(threads);
            // With the last one that it watches it ends.
            wake_watchdog();
        }
    }
}

/// Lists the calling thread, whose first message it is. Returns what its numbers begin after: the system gives the
/// identifiers of threads again, and a report knows the runs apart.
#[cold]
fn begin_numbers() -> u64 {
    static THREADS: AtomicU64 = AtomicU64::new(1);

    list();
    // ORDERING: Relaxed, only uniqueness matters.
    THREADS.fetch_add(1, Ordering::Relaxed) << 40
}

/// Lists the calling thread, which runs handlers.
#[cold]
fn list() {
    // A thread that has begun to end may run the last reports of what it drops, and is in no list any more.
    let _ = LISTING.try_with(|_| ());
}

/// Lists the calling thread, which is one of a pool or the one of a child, and has work.
pub(crate) fn serve() {
    // ORDERING: Relaxed, the lock of the list orders it.
    own(|mark| mark.serves.store(true, Ordering::Relaxed));
    list();
    wakes();
}

/// The same for a thread that Rust has not started, under the name that Python has for it.
pub(crate) fn serve_as(name: &str) {
    serve();
    let ident = context::thread_ident();
    for listed in locked(&marks().threads).iter_mut() {
        if listed.ident == ident {
            listed.name = Some(name.into());
        }
    }
}

/// Runs `look` on each listed thread. None of them ends meanwhile; `look` is short, and locks nothing.
pub(crate) fn visit(mut look: impl FnMut(&Seen<'_>)) {
    for listed in locked(&marks().threads).iter() {
        // SAFETY: the thread has not ended, because it takes itself out of the list, which is locked here, before its
        // local values go. All of a mark is atomic.
        let mark = unsafe { &*listed.mark };
        look(&Seen {
            ident: listed.ident,
            thread: listed.thread,
            name: listed.name.as_deref(),
            mark,
        });
    }
}

/// Whether a thread still runs the message of that number.
pub(crate) fn is_running(ident: c_ulong, number: u64) -> bool {
    let mut runs = false;
    visit(|seen| {
        let is_same = seen.ident == ident && seen.mark.number() == number;
        runs |= is_same && !seen.mark.busy_with().is_null();
    });
    runs
}

/// The calling thread is about to wait for work.
pub(crate) fn rests() {
    // ORDERING: Relaxed, a look too many does no harm.
    own(|mark| mark.awake.store(false, Ordering::Relaxed));
}

/// The calling thread has found work, and is about to ask for the interpreter lock.
pub(crate) fn wakes() {
    own(Mark::wakes);
}

/// The number of the turn that the event loop of a thread is at, if it is at work.
#[pyfunction]
pub(crate) fn turn_of_loop(ident: c_ulong) -> Option<u64> {
    let mut turn = None;
    visit(|seen| {
        if seen.ident == ident && !seen.mark.looping.load(Ordering::Relaxed).is_null() {
            turn = Some(seen.mark.turns.load(Ordering::Relaxed));
        }
    });
    turn
}

/// Wakes the watchdog, whatever it waits for.
#[cold]
pub(crate) fn wake_watchdog() {
    let marks = marks();
    // ORDERING: SeqCst, see `wakes`.
    marks.asleep.store(false, Ordering::SeqCst);
    if let Some(watchdog) = &*locked(&marks.watchdog) {
        watchdog.unpark();
    }
}

/// Whether the caller is to start a watchdog, because there is none.
pub(super) fn is_unwatched() -> bool {
    let marks = marks();
    // Under the lock, so that one that ends for want of threads is seen to have ended, or sees the caller's.
    let _threads = locked(&marks.threads);
    // ORDERING: Relaxed, the lock orders them.
    !marks.watched.swap(true, Ordering::Relaxed)
}

/// The calling thread is the watchdog.
pub(super) fn note_watchdog() {
    *locked(&marks().watchdog) = Some(thread::current());
}

/// Whether the watchdog is to end, as there is no thread to watch.
pub(super) fn has_no_threads() -> bool {
    let marks = marks();
    let threads = locked(&marks.threads);
    // SAFETY: as in `visit`.
    let serves = |listed: &Listed| unsafe { &*listed.mark }.serves.load(Ordering::Relaxed);
    let none = !threads.iter().any(serves);
    if none {
        *locked(&marks.watchdog) = None;
        // ORDERING: Relaxed, see `is_unwatched`.
        marks.watched.store(false, Ordering::Relaxed);
    }
    none
}

/// Called by the watchdog. Sleeps while no listed thread has work.
pub(super) fn sleep_while_all_rest() {
    let asleep = &marks().asleep;
    // ORDERING: SeqCst, see `wakes`.
    asleep.store(true, Ordering::SeqCst);
    let (mut any, mut awake) = (false, false);
    visit(|seen| {
        // ORDERING: Relaxed, see `serve`.
        any |= seen.mark.serves.load(Ordering::Relaxed);
        awake |= seen.mark.awake.load(Ordering::SeqCst);
    });
    if awake || !any {
        asleep.store(false, Ordering::SeqCst);
    }
    while asleep.load(Ordering::SeqCst) {
        thread::park();
    }
}

/// A handler that runs on and on.
#[derive(Clone, Debug)]
struct LongRun {
    ident: c_ulong,
    number: u64,
    since: Instant,
}

#[derive(Debug, Default)]
struct Labelled {
    name: Box<str>,
    /// Of an event loop, and no worker.
    residents: Option<Residents>,
    held: Mutex<Option<LongRun>>,
}

/// The coroutines of handlers on an event loop, as far as it is to be known whose they are. Written under the interpreter
/// lock, so by one thread at a time; the watchdog only looks.
#[derive(Debug, Default)]
struct Residents {
    count: AtomicUsize,
    /// By what the label of the worker is found whose they all are; null where they are of several.
    sole: AtomicPtr<()>,
}

/// A coroutine is on its event loop until this is ended or dropped, under the interpreter lock.
#[derive(Debug)]
pub(crate) struct Residence {
    of: Arc<Labelled>,
    has_ended: AtomicBool,
}

impl Residence {
    /// The coroutine has ended.
    pub(crate) fn end(&self) {
        if self.has_ended.load(Ordering::Relaxed) {
            return;
        }
        self.has_ended.store(true, Ordering::Relaxed);
        if let Some(residents) = &self.of.residents {
            residents.count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Residence {
    fn drop(&mut self) {
        self.end();
    }
}

/// The name of a worker or an event loop, to be found by what its threads mark, without the interpreter lock.
#[derive(Debug)]
pub(crate) struct Label {
    labelled: Arc<Labelled>,
    at: AtomicUsize,
}

impl Label {
    pub(crate) fn new(name: &str) -> Self {
        Self::of(Labelled {
            name: name.into(),
            ..Labelled::default()
        })
    }

    /// That of an event loop.
    pub(crate) fn of_loop(name: &str) -> Self {
        Self::of(Labelled {
            name: name.into(),
            residents: Some(Residents::default()),
            ..Labelled::default()
        })
    }

    fn of(labelled: Labelled) -> Self {
        Self {
            labelled: Arc::new(labelled),
            at: AtomicUsize::new(0),
        }
    }

    /// A coroutine comes to that loop, of the worker whose label is found by the address `shared`.
    pub(crate) fn takes_in(&self, shared: usize) -> Residence {
        if let Some(Residents { count, sole }) = &self.labelled.residents {
            let shared = ptr::without_provenance_mut(shared);
            if count.fetch_add(1, Ordering::Relaxed) == 0 {
                sole.store(shared, Ordering::Relaxed);
            } else if sole.load(Ordering::Relaxed) != shared {
                sole.store(ptr::null_mut(), Ordering::Relaxed);
            }
        }
        Residence {
            of: self.labelled.clone(),
            has_ended: AtomicBool::new(false),
        }
    }

    /// `shared` is what is marked of its messages; it stays where it is.
    pub(crate) fn is_of<S>(&self, shared: &S) {
        let at = ptr::from_ref(shared).addr();
        // ORDERING: Relaxed, written before it is shared.
        self.at.store(at, Ordering::Relaxed);
        locked(&marks().labels).insert(at, self.labelled.clone());
    }

    /// For how long a handler of it that still runs has been seen to hold the interpreter lock, or to run while another
    /// thread did.
    pub(crate) fn held_for(&self) -> Option<Duration> {
        let held = locked(&self.labelled.held).clone()?;
        if !is_running(held.ident, held.number) {
            *locked(&self.labelled.held) = None;
            return None;
        }
        Some(held.since.elapsed())
    }
}

impl Drop for Label {
    fn drop(&mut self) {
        let at = self.at.load(Ordering::Relaxed);
        let mut labels = locked(&marks().labels);
        // In a forked child there may be another one in its place.
        if labels
            .get(&at)
            .is_some_and(|found| Arc::ptr_eq(found, &self.labelled))
        {
            labels.remove(&at);
        }
    }
}

/// Whose code has run without the interpreter lock to be had, by name.
#[derive(Debug, Default)]
pub(super) struct Noted {
    pub(super) worker: Option<Box<str>>,
    /// The event loop, where it ran on one.
    pub(super) of_loop: Option<Box<str>>,
}

/// Notes that a handler, or an event loop, has run since then without the interpreter lock to be had.
pub(super) fn note_held(
    shared: *mut (),
    ident: c_ulong,
    number: u64,
    since: Instant,
) -> Option<Noted> {
    let find = |shared: *mut ()| locked(&marks().labels).get(&shared.addr()).cloned();
    let mut labelled = find(shared);
    let mut of_loop = None;
    if let Some(found) = &labelled
        && let Some(residents) = &found.residents
    {
        of_loop = Some(found.name.clone());
        // Hooks are none of them.
        let any = residents.count.load(Ordering::Relaxed) > 0;
        let sole = any.then(|| residents.sole.load(Ordering::Relaxed));
        labelled = sole.and_then(find);
    }
    if let Some(labelled) = &labelled {
        *locked(&labelled.held) = Some(LongRun {
            ident,
            number,
            since,
        });
    } else if of_loop.is_none() {
        return None;
    }
    let worker = labelled.map(|labelled| labelled.name.clone());
    Some(Noted { worker, of_loop })
}
