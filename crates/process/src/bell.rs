//! How one process sleeps until the other has something for it: a word in shared memory, and a futex on it.
//!
//! The word says whether the owner of the bell sleeps, so that ringing an owner who is awake costs no system call.
//! What keeps a wake-up from getting lost is that both sides *write, fence, read*:
//!
//! | sleeper | ringer |
//! |---|---|
//! | word = `ASLEEP` | publishes (ring index, flag, ...) |
//! | fence | fence |
//! | looks: is there something? | is the word `ASLEEP`? |
//!
//! Of two sequentially consistent fences one is first, and the side that fences second sees what the other wrote
//! before: the sleeper finds something to do, or the ringer finds a sleeper to wake (SYNC: bell-sleep). A ring between
//! the look and the futex call is caught by the kernel, which sleeps only if the word still says `ASLEEP`. The word is
//! only ever written by exchanges that acquire and release, so that all sides agree on the order of what was written.
//!
//! Both processes can write the word. Nonsense in it costs a wake-up that was not needed, or one that comes only at
//! the sleeper's own limit: a thread that sleeps while the other process may be dead or hostile gives one.

use std::time::Duration;

use crate::sync::{Atomic, Ordering, fence};

/// The owner is awake, or about to look again.
const AWAKE: u32 = 0;
/// The owner sleeps or is about to: who makes work for it must wake it. Any other value is taken for this one.
const ASLEEP: u32 = 1;

/// A word that threads can sleep on.
pub(crate) trait Futex {
    /// The word's type.
    type Word: Atomic<u32>;

    fn word(&self) -> &Self::Word;

    /// Sleeps until woken if the word is `expected`, at most `limit`. May return early.
    fn wait(&self, expected: u32, limit: Option<Duration>);

    /// Wakes every thread that waits.
    fn wake(&self);
}

/// Where one thread of one side sleeps, and any thread of either side wakes it.
#[derive(Clone, Debug)]
pub(crate) struct Bell<F>(F);

impl<F: Futex> Bell<F> {
    /// One thread at a time may [`sleep`](Self::sleep) on the bells of one word.
    pub(crate) fn new(word: F) -> Self {
        Self(word)
    }

    /// Wakes the owner if, and only if, it said that it sleeps. Call it after publishing what the owner waits for.
    ///
    /// One futex call at most for each sleep, however many ring.
    pub(crate) fn ring(&self) {
        // SYNC: bell-sleep. Either the sleeper's look sees what was published, or the load below sees its word.
        fence(Ordering::SeqCst);
        let word = self.0.word();
        // ORDERING: the fence orders the load. The swap finds out who is the one to wake; that it may meet a later
        // sleep than the load costs a wake-up too many.
        if word.load(Ordering::Relaxed) != AWAKE && word.swap(AWAKE, Ordering::AcqRel) != AWAKE {
            self.0.wake();
        }
    }

    /// Lets the sleeper return, whatever the word says. One futex call.
    ///
    /// For rare events such as shutting down, from either process: unlike [`ring`](Self::ring) it reaches a sleeper
    /// whose word the other process has overwritten.
    pub(crate) fn wake(&self) {
        // SYNC: bell-sleep, as in `ring`.
        fence(Ordering::SeqCst);
        // ORDERING: a sleeper on its way to the futex finds the word changed.
        self.0.word().swap(AWAKE, Ordering::AcqRel);
        self.0.wake();
    }

    /// Sleeps until rung, at most `limit`, unless `ready` says that there is something already.
    ///
    /// `ready` is asked once, after this thread said that it sleeps. Also returns for no reason: callers look and
    /// come back.
    pub(crate) fn sleep(&self, limit: Option<Duration>, ready: impl FnOnce() -> bool) {
        let word = self.0.word();
        // ORDERING: the fence orders it before the look.
        word.swap(ASLEEP, Ordering::AcqRel);
        // SYNC: bell-sleep. Either the look below sees what was published, or the ringer's load sees the word.
        fence(Ordering::SeqCst);
        if !ready() {
            self.0.wait(ASLEEP, limit);
        }
        // ORDERING: seen late, it costs the next ringer a futex call that wakes no thread.
        word.swap(AWAKE, Ordering::AcqRel);
    }
}

#[cfg(target_os = "linux")]
impl Futex for crate::memory::SharedAtomics<std::sync::atomic::AtomicU32> {
    type Word = std::sync::atomic::AtomicU32;

    fn word(&self) -> &Self::Word {
        self
    }

    fn wait(&self, expected: u32, limit: Option<Duration>) {
        use rustix::thread::futex;

        // A limit that the kernel cannot hold is as good as none.
        let limit = limit.and_then(|limit| futex::Timespec::try_from(limit).ok());
        // Not private: the other process wakes. Changed word, time-out, signal: the caller looks again in any case.
        let _ = futex::wait(self, futex::Flags::empty(), expected, limit.as_ref());
    }

    fn wake(&self) {
        use rustix::thread::futex;

        // Fails only for an address that is not mapped.
        let woken = futex::wake(self, futex::Flags::empty(), i32::MAX as u32);
        debug_assert!(woken.is_ok());
    }
}

#[cfg(all(test, not(pytoweb_loom)))]
mod tests {
    use std::cell::Cell;
    use std::sync::atomic::AtomicU32;

    use super::*;

    /// Counts calls, and lets the other side act at the moment of going to sleep.
    struct Fake<'a> {
        word: AtomicU32,
        waits: Cell<usize>,
        wakes: Cell<usize>,
        meanwhile: Option<&'a dyn Fn(&Fake<'_>)>,
    }

    impl Fake<'_> {
        fn new(word: u32) -> Self {
            Self {
                word: AtomicU32::new(word),
                waits: Cell::new(0),
                wakes: Cell::new(0),
                meanwhile: None,
            }
        }
    }

    impl Futex for &Fake<'_> {
        type Word = AtomicU32;

        fn word(&self) -> &AtomicU32 {
            &self.word
        }

        fn wait(&self, expected: u32, _: Option<Duration>) {
            assert_eq!(expected, ASLEEP);
            self.waits.set(self.waits.get() + 1);
            if let Some(meanwhile) = self.meanwhile {
                meanwhile(self);
            }
        }

        fn wake(&self) {
            self.wakes.set(self.wakes.get() + 1);
        }
    }

    #[test]
    fn who_is_awake_costs_no_system_call() {
        let fake = Fake::new(AWAKE);
        Bell::new(&fake).ring();
        assert_eq!(fake.wakes.get(), 0);
    }

    #[test]
    fn many_rings_wake_a_sleeper_once() {
        let ring_thrice = |fake: &Fake<'_>| {
            for _ in 0..3 {
                Bell::new(fake).ring();
            }
        };
        let mut fake = Fake::new(AWAKE);
        fake.meanwhile = Some(&ring_thrice);
        Bell::new(&fake).sleep(None, || false);
        assert_eq!((fake.waits.get(), fake.wakes.get()), (1, 1));
        assert_eq!(fake.word.load(Ordering::Relaxed), AWAKE);
    }

    #[test]
    fn no_side_sleeps_when_there_is_something() {
        let fake = Fake::new(AWAKE);
        Bell::new(&fake).sleep(None, || {
            assert_eq!(fake.word.load(Ordering::Relaxed), ASLEEP, "looks too early");
            true
        });
        assert_eq!(fake.waits.get(), 0);
        assert_eq!(fake.word.load(Ordering::Relaxed), AWAKE);
    }

    #[test]
    fn nonsense_in_the_word_costs_a_wake_up_at_most() {
        let fake = Fake::new(0xdead_beef);
        Bell::new(&fake).ring();
        Bell::new(&fake).ring();
        assert_eq!(fake.wakes.get(), 1);
    }

    #[test]
    fn a_wake_reaches_a_sleeper_whose_word_was_overwritten() {
        let overwrite_and_wake = |fake: &Fake<'_>| {
            fake.word.store(AWAKE, Ordering::Relaxed);
            Bell::new(fake).ring();
            assert_eq!(fake.wakes.get(), 0);
            Bell::new(fake).wake();
        };
        let mut fake = Fake::new(AWAKE);
        fake.meanwhile = Some(&overwrite_and_wake);
        Bell::new(&fake).sleep(None, || false);
        assert_eq!((fake.waits.get(), fake.wakes.get()), (1, 1));
    }
}
