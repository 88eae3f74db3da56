//! Timers: the thread of a program that watches the deadlines of all its pools, and sleeps until the next one.
//!
//! One thread *watches*. To take the messages whose deadline has passed out of a pool's list runs no user code, and the
//! watching thread does it by itself. To end them does: callbacks, error handlers, destructors. So before that it hands
//! the watch over to another thread, where other pools are watched: what one pool's users do there makes no other pool's
//! deadlines late. When it comes back and the watch is taken, it is *at hand* for the next hand-over, and ends when none
//! comes for a while. So there is mostly one thread, two where deadlines pass, and none once no pool has deadlines.
//!
//! A pool is here from its first deadline until it is over. No two threads serve a pool at the same time.

use std::fmt;
use std::io;
use std::mem;
use std::ptr;
use std::sync::Arc;
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::contained::{contained, drop_each};
use crate::deadline::Deadlines;
use crate::sync::{Condvar, Mutex, MutexGuard};

/// How long a thread stays at hand: longer than the gaps between deadlines that pass one after the other.
const KEEP_AT_HAND: Duration = Duration::from_secs(1);

/// How long a pool is left alone whose time had not come when it was looked at: its clock is slower than the machine's, or
/// stands still, as one that a test moves by hand. Without it a deadline a nanosecond away keeps a core busy for ever.
const SLOW_CLOCK_PAUSE: Duration = Duration::from_millis(1);

/// A pool, as far as its deadlines go.
pub(crate) trait TimedPool: Send + Sync {
    fn clock(&self) -> &dyn Clock;
    fn deadlines(&self) -> &Deadlines;
    /// Held by a thread that runs this pool's code.
    fn presence(&self) -> io::Result<Box<dyn Send>>;
    /// The size of the stack of a thread that runs this pool's code.
    fn stack_bytes(&self) -> Option<usize>;
    /// Nothing is to do for the moment.
    fn rests(&self);
}

/// A pool that is watched.
struct Watched {
    pool: Arc<dyn TimedPool>,
    /// See [`Host::presence`](crate::Host::presence).
    _presence: Box<dyn Send>,
    /// When to look at its deadlines. `None`: there are none.
    look_at: Option<Instant>,
    /// There is an earlier deadline since it was looked at.
    hastened: bool,
    served_by: Option<ThreadId>,
    /// Threads that wait to serve it themselves. They come first: the thread that watches could be quicker each time.
    wanted: usize,
    /// It is over, and leaves when it is served no more.
    over: bool,
}

impl Watched {
    fn is_of(&self, pool: &dyn TimedPool) -> bool {
        ptr::addr_eq(Arc::as_ptr(&self.pool), pool)
    }
}

#[derive(Default)]
struct State {
    pools: Vec<Watched>,
    threads: usize,
    /// A thread watches.
    watched: bool,
    /// It serves the only pool, and has handed the watch over to no other thread.
    serves_alone: bool,
    /// Threads that wait to be the one that watches.
    at_hand: usize,
}

impl State {
    fn find(&mut self, pool: &dyn TimedPool) -> Option<&mut Watched> {
        self.pools.iter_mut().find(|watched| watched.is_of(pool))
    }

    fn remove(&mut self, pool: &dyn TimedPool) -> Option<Watched> {
        let index = self.pools.iter().position(|watched| watched.is_of(pool))?;
        Some(self.pools.swap_remove(index))
    }

    /// A thread has served `pool`, has `found` something whose time had come or not, and there is something to look at after
    /// `wait`. The pool, where it is over.
    fn served(
        &mut self,
        pool: &dyn TimedPool,
        found: bool,
        wait: Option<Duration>,
    ) -> Option<Watched> {
        let pause = if found {
            Duration::ZERO
        } else {
            SLOW_CLOCK_PAUSE
        };
        let watched = self.find(pool)?;
        watched.served_by = None;
        let now = Instant::now();
        watched.look_at = if watched.hastened {
            Some(now)
        } else {
            wait.and_then(|wait| now.checked_add(wait.max(pause)))
        };
        if watched.over {
            self.remove(pool)
        } else {
            None
        }
    }

    /// The pool that is to be looked at next, and when.
    fn next(&mut self) -> Option<(Instant, &mut Watched)> {
        self.pools
            .iter_mut()
            .filter(|watched| watched.served_by.is_none() && watched.wanted == 0)
            .filter_map(|watched| Some((watched.look_at?, watched)))
            .min_by_key(|(at, _)| *at)
    }
}

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    /// For the thread that watches.
    changed: Condvar,
    /// For those at hand.
    watch: Condvar,
    /// For those that wait for a pool to be gone.
    gone: Condvar,
}

/// The thread that watches the deadlines of any number of pools. Clones share it.
///
/// It starts with the first deadline, and ends when all these pools have ended.
#[derive(Clone, Default)]
pub struct Timers(Arc<Inner>);

impl fmt::Debug for Timers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timers").finish_non_exhaustive()
    }
}

impl Timers {
    /// That of the program. A process that is forked has none of its threads, and needs one of its own.
    #[cfg(not(pytoweb_loom))]
    #[must_use]
    pub fn of_program() -> Self {
        static TIMERS: std::sync::OnceLock<Timers> = std::sync::OnceLock::new();
        TIMERS.get_or_init(Self::default).clone()
    }

    /// Models end, and with them what is in them.
    #[cfg(pytoweb_loom)]
    #[must_use]
    pub fn of_program() -> Self {
        Self::default()
    }

    /// Watches a pool that has its first deadline.
    pub(crate) fn add(&self, pool: Arc<dyn TimedPool>, first: Duration) -> io::Result<()> {
        // Hooks of the host's, so before the lock.
        let presence = pool.presence()?;
        let stack_bytes = pool.stack_bytes();
        let mut state = self.0.state.lock();
        state.pools.push(Watched {
            pool: pool.clone(),
            _presence: presence,
            look_at: Instant::now().checked_add(first),
            hastened: false,
            served_by: None,
            wanted: 0,
            over: false,
        });
        let started = if state.threads == 0 {
            self.start_thread(&mut state, stack_bytes)
        } else if mem::take(&mut state.serves_alone) {
            self.replace(&mut state, stack_bytes)
        } else {
            Ok(())
        };
        let refused = started.is_err().then(|| state.remove(&*pool)).flatten();
        drop(state);
        self.0.changed.notify_one();
        drop_each(refused);
        started
    }

    /// Has another thread watch than the one that does.
    fn replace(&self, state: &mut State, stack_bytes: Option<usize>) -> io::Result<()> {
        if state.at_hand == 0 {
            self.start_thread(state, stack_bytes)?;
        }
        state.watched = false;
        self.0.watch.notify_one();
        Ok(())
    }

    fn start_thread(&self, state: &mut State, stack_bytes: Option<usize>) -> io::Result<()> {
        let mut thread = thread::Builder::new().name("pytoweb-timers".to_owned());
        if let Some(bytes) = stack_bytes {
            thread = thread.stack_size(bytes);
        }
        let timers = self.clone();
        // Detached: it ends when there is nothing to watch, and the program does not wait for it.
        thread.spawn(move || timers.run())?;
        state.threads += 1;
        Ok(())
    }

    /// A watched pool has a deadline earlier than those before.
    pub(crate) fn hasten(&self, pool: &dyn TimedPool, first: Duration) {
        let at = Instant::now().checked_add(first);
        let mut state = self.0.state.lock();
        if let Some(watched) = state.find(pool) {
            watched.hastened = true;
            watched.look_at = match (watched.look_at, at) {
                (Some(known), Some(at)) => Some(known.min(at)),
                (known, at) => known.or(at),
            };
        }
        drop(state);
        self.0.changed.notify_one();
    }

    /// A watched pool is over: nothing of it is left here when it is not being served.
    pub(crate) fn remove(&self, pool: &dyn TimedPool) {
        let mut state = self.0.state.lock();
        let removed = match state.find(pool) {
            Some(watched) if watched.served_by.is_some() => {
                watched.over = true;
                None
            }
            Some(_) => state.remove(pool),
            None => None,
        };
        self.wake_after_removal(state);
        drop_each(removed);
    }

    fn wake_after_removal(&self, state: MutexGuard<'_, State>) {
        let last = state.pools.is_empty();
        drop(state);
        self.0.gone.notify_all();
        if last {
            self.0.changed.notify_all();
            self.0.watch.notify_all();
        }
    }

    /// Blocks until nothing of a pool is left here. Not on a thread that serves it at this moment.
    pub(crate) fn wait_gone(&self, pool: &dyn TimedPool) {
        let own = Some(thread::current().id());
        let mut state = self.0.state.lock();
        while state
            .find(pool)
            .is_some_and(|watched| watched.served_by != own)
        {
            (state, _) = self.0.gone.wait(state, None);
        }
    }

    /// A thread's life.
    fn run(&self) {
        let mut watches = false;
        let mut state = self.0.state.lock();
        loop {
            if state.pools.is_empty() {
                break;
            }
            if !watches {
                if state.watched {
                    state.at_hand += 1;
                    let (guard, timed_out) = self.0.watch.wait(state, Some(KEEP_AT_HAND));
                    state = guard;
                    state.at_hand -= 1;
                    if timed_out && state.watched {
                        break;
                    }
                    continue;
                }
                state.watched = true;
                watches = true;
            }
            let now = Instant::now();
            let wait = match state.next() {
                Some((at, watched)) if at <= now => {
                    watched.served_by = Some(thread::current().id());
                    watched.hastened = false;
                    let pool = watched.pool.clone();
                    drop(state);
                    state = self.serve(pool, &mut watches);
                    continue;
                }
                next => next.map(|(at, _)| at - now),
            };
            (state, _) = self.0.changed.wait(state, wait);
        }
        if watches {
            state.watched = false;
        }
        state.threads -= 1;
    }

    /// Ends what is due in a pool.
    fn serve(&self, pool: Arc<dyn TimedPool>, watches: &mut bool) -> MutexGuard<'_, State> {
        let due = contained(|| pool.deadlines().take_due(pool.clock().now())).unwrap_or_default();
        let hands_over = !due.is_empty();
        let found = due.found;
        if hands_over {
            self.hand_over(&*pool);
            due.expire();
        }
        let wait = contained(|| {
            pool.deadlines().sweep_if_mostly_over(pool.clock().now());
            pool.rests();
            pool.deadlines().next_look(pool.clock().now())
        });
        // A clock that panics is asked again in a while.
        let wait = wait.unwrap_or(Some(KEEP_AT_HAND));
        let mut state = self.0.state.lock();
        if hands_over {
            *watches = mem::take(&mut state.serves_alone);
        }
        let over = state.served(&*pool, found, wait);
        if !*watches {
            // The thread that watches does not know of the time for which this pool is to be looked at.
            self.0.changed.notify_one();
        }
        self.0.gone.notify_all();
        if over.is_some() {
            self.wake_after_removal(state);
            drop_each(over);
            drop_each([pool]);
            state = self.0.state.lock();
        }
        state
    }

    /// Ends what is due in a pool on the calling thread, after the one that serves it at this moment: when this returns,
    /// all that was due has been done.
    pub(crate) fn serve_here(&self, pool: &dyn TimedPool) {
        let own = Some(thread::current().id());
        let mut state = self.0.state.lock();
        let serves = loop {
            match state.find(pool) {
                Some(watched) if watched.served_by.is_none() => {
                    watched.served_by = own;
                    watched.hastened = false;
                    break true;
                }
                Some(watched) if watched.served_by != own => {
                    watched.wanted += 1;
                    (state, _) = self.0.gone.wait(state, None);
                    if let Some(watched) = state.find(pool) {
                        watched.wanted -= 1;
                    }
                }
                // Called by what is being done, or there is nothing to do yet.
                Some(_) | None => break false,
            }
        };
        drop(state);
        let due = contained(|| pool.deadlines().take_due(pool.clock().now())).unwrap_or_default();
        let found = due.found;
        due.expire();
        if !serves {
            return;
        }
        let wait = contained(|| pool.deadlines().next_look(pool.clock().now()));
        let mut state = self.0.state.lock();
        let over = state.served(pool, found, wait.unwrap_or(Some(KEEP_AT_HAND)));
        self.0.changed.notify_one();
        self.wake_after_removal(state);
        drop_each(over);
    }

    /// Has another thread watch while this one runs code of the users of `pool`, as soon as there is something else to
    /// watch.
    fn hand_over(&self, pool: &dyn TimedPool) {
        let stack_bytes = pool.stack_bytes();
        let mut state = self.0.state.lock();
        // Where no thread can be started, the other pools wait until this one is served.
        state.serves_alone =
            state.pools.len() < 2 || self.replace(&mut state, stack_bytes).is_err();
    }
}
