//! Memory that large messages leave behind: the C library keeps most of what was freed, and gives it back when asked.
//!
//! Only the size of the process tells of it: the payloads are objects of users and of the interpreter, and most are
//! freed by code that is not ours. So a thread that has nothing to do looks at the size. Where that is much above the
//! smallest that was seen, a thread tidies up every now and then, since what callers keep of a burst goes later, and a burst
//! may last; it ends when no thread has come to rest since it looked.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::interpreter::context;
use crate::interpreter::generation::Generation;

/// Growth above this is worth a look through the free memory, which takes milliseconds. Below what a user would call
/// a leak: 32 MiB.
const MUCH: usize = 24 << 20;

/// A pass that gave back less found nothing.
const WORTH: usize = 1 << 20;

/// The least time between two looks at the size, which are system calls.
const PAUSE: Duration = Duration::from_millis(50);

// ORDERING: Relaxed for all of these: hints. A look too many, or one that is missed, changes when memory is tidied.

/// The smallest size, in bytes, that was seen; 0 before the first look.
static SMALLEST: AtomicUsize = AtomicUsize::new(0);

/// When to look next, in milliseconds since the first look.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// How long after growth was seen memory is tidied for the first time. Then again after twice the time each, up to the
/// longest: a pass that finds nothing takes milliseconds at most.
const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(2);

/// The generation of processes in which there is a thread that tidies.
static RUNS_IN: AtomicU32 = AtomicU32::new(Generation::NONE);
/// A thread came to rest, with the process as large, since the last pass.
static AGAIN: AtomicBool = AtomicBool::new(false);

/// Looks at the size of the process, and has memory tidied if that is large. Cheap enough for before each sleep.
pub(crate) fn tidy_if_large() {
    if !context::TRIMS_MEMORY || !is_large() {
        return;
    }
    AGAIN.store(true, Ordering::Relaxed);
    let here = Generation::now().number();
    if RUNS_IN.swap(here, Ordering::Relaxed) != here {
        let thread = thread::Builder::new().name("pytoweb-memory".to_owned());
        if thread.stack_size(64 << 10).spawn(tidy).is_err() {
            // The memory stays, for the next burst.
            RUNS_IN.store(Generation::NONE, Ordering::Relaxed);
        }
    }
}

/// The life of the thread that tidies.
fn tidy() {
    let mut pause = FIRST;
    loop {
        thread::sleep(pause);
        let again = AGAIN.swap(false, Ordering::Relaxed);
        let before = resident().unwrap_or(0);
        pytoweb_process::cool_stores();
        context::trim_memory();
        let after = resident().unwrap_or(0);
        if after > 0 {
            SMALLEST.fetch_min(after, Ordering::Relaxed);
        }
        let was_longest = pause == LONGEST;
        pause = if before.saturating_sub(after) > WORTH {
            FIRST
        } else {
            LONGEST.min(pause * 2)
        };
        if was_longest && !again {
            RUNS_IN.store(Generation::NONE, Ordering::Relaxed);
            let here = Generation::now().number();
            // A thread that came to rest at this very moment started no other.
            if !AGAIN.load(Ordering::Relaxed) || RUNS_IN.swap(here, Ordering::Relaxed) == here {
                return;
            }
        }
    }
}

/// Whether this process is much larger than it was.
fn is_large() -> bool {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let elapsed = BEGAN.get_or_init(Instant::now).elapsed().as_millis();
    let now = u64::try_from(elapsed).unwrap_or(u64::MAX);
    if now < NEXT.load(Ordering::Relaxed) {
        return false;
    }
    let pause = u64::try_from(PAUSE.as_millis()).unwrap_or(u64::MAX);
    NEXT.store(now.saturating_add(pause), Ordering::Relaxed);
    let Some(size) = resident() else { return false };
    let smallest = SMALLEST.load(Ordering::Relaxed);
    if smallest == 0 || size < smallest {
        SMALLEST.store(size, Ordering::Relaxed);
        return false;
    }
    size - smallest > MUCH
}

/// The resident memory of this process, in bytes.
fn resident() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: usize = text.split(' ').nth(1)?.parse().ok()?;
    pages.checked_mul(context::page_bytes())
}
