//! Who reads the replies of a lane: its own thread, or a thread that waits for one of them.
//!
//! A reply that a thread of its own reads costs two wake-ups, of that thread and of the one that waits. So a thread that
//! waits takes the *seat* of the reader, if it is free, and reads for all of them until its own reply has come. The
//! lane's thread keeps out of the way for as long as such *guests* come: it sleeps in naps, and takes the seat again
//! when there are replies that no thread reads, or when no guest came for some naps. It is called from its nap by a
//! guest that leaves while messages are on their way, and by a caller that waits for a reply without reading (a
//! callback, a coroutine). So only replies that no caller waits for can be late, by a nap.
//!
//! Replies are taken in under one lock, in order, by any thread that reads them.

use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use super::{Intake, Lane, Phase};
use crate::cargo::{Answer, Cargo, EmittedEvent, Feed, Listener};
use crate::crash::Cause;
use crate::frame::{ReplyFrame, ToHost};
use crate::link::HostLink;
use crate::payload::Parcel;
use crate::sync::look_while_yielding;

/// How long the lane's thread sleeps at a time while guests read: so late may a reply be that no caller waits for. Its
/// looks disturb the guests, so they are rare enough not to show among a hundred round trips.
const NAP: Duration = Duration::from_millis(10);
/// Naps without a guest before it takes the seat for good.
const NAPS: u32 = 3;

/// What a child has to say besides its replies.
#[derive(Debug)]
pub(crate) enum Word {
    /// Something for the log.
    Log(Vec<u8>),
    /// It waits for a descriptor.
    Ask(Vec<u8>),
}

/// What a handler says before its answer.
#[derive(Debug)]
pub(super) enum Said {
    /// An item of its stream.
    Item(Parcel),
    Event(EmittedEvent),
    Progress(Parcel),
}

/// The same, with the place that it goes to.
enum Heard {
    Item(Arc<dyn Feed>, Parcel),
    Event(Arc<dyn Listener>, EmittedEvent),
    Progress(Arc<dyn Listener>, Parcel),
}

impl Heard {
    fn deliver(self) {
        match self {
            Self::Item(feed, parcel) => feed.item(parcel),
            Self::Event(listener, event) => listener.event(event),
            Self::Progress(listener, parcel) => listener.progress(parcel),
        }
    }
}

/// Where that goes.
pub(crate) type Tell<'a> = &'a dyn Fn(Word);

/// What [`Lane::take_in`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Nothing,
    News,
    /// The child wrote nonsense; there is no use in reading on.
    Broken,
}

thread_local! {
    /// This thread takes replies in.
    static TAKING_IN: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread is just taking replies in, and so must not run a user's code: other threads wait for
/// theirs.
pub(crate) fn is_taking_in() -> bool {
    TAKING_IN.get()
}

impl<C: Cargo> Lane<C> {
    /// The life of the lane's own thread. `ring` calls the supervisor, `rests` is told before each sleep, `start`
    /// starts a child.
    pub(crate) fn read(&self, tell: Tell<'_>, ring: &dyn Fn(), rests: &dyn Fn(), start: &dyn Fn()) {
        let mut naps = 0;
        while let Some(link) = self.next_link(start) {
            if naps > 0 {
                let guests = self.nap();
                naps = if guests { NAPS } else { naps - 1 };
                // A guest reads, or there is nothing to read.
                if guests || !self.drive(&link, tell) {
                    continue;
                }
                // A guest may have come since, and sleep for a reply that this took in.
                link.wake();
                naps = 0;
            }
            let Ok(seat) = self.seat.try_lock() else {
                naps = NAPS;
                continue;
            };
            let news = look_while_yielding(|| self.drive(&link, tell).then_some(()));
            if self.calls() {
                ring();
            }
            // ORDERING: SeqCst, with the guest's: it sees the seat taken, or this sees the guest.
            if self.guests.load(Ordering::SeqCst) > 0 {
                naps = NAPS;
            } else if news.is_none() {
                rests();
                link.wait(None);
            }
            drop(seat);
        }
    }

    /// Sleeps for a nap. Says whether a guest was there meanwhile.
    fn nap(&self) -> bool {
        let called = self.nap.lock().unwrap_or_else(PoisonError::into_inner);
        // ORDERING: Relaxed, written and read under the lock.
        self.napping.store(true, Ordering::Relaxed);
        let (mut called, _) = self
            .called
            .wait_timeout_while(called, NAP, |called| !*called)
            .unwrap_or_else(PoisonError::into_inner);
        *called = false;
        self.napping.store(false, Ordering::Relaxed);
        drop(called);
        // ORDERING: Relaxed, a hint.
        self.visited.swap(false, Ordering::Relaxed)
    }

    /// Ends the present or the next nap of the lane's thread: a caller waits for a reply and does not read.
    pub(crate) fn call(&self) {
        let napping = {
            let mut called = self.nap.lock().unwrap_or_else(PoisonError::into_inner);
            *called = true;
            // ORDERING: Relaxed, see `nap`.
            self.napping.load(Ordering::Relaxed)
        };
        if napping {
            self.called.notify_one();
        }
    }

    /// Reads replies until `done`, at most for `limit`; false where another thread is reading, or at the limit. Returns
    /// early for no reason.
    pub(crate) fn help(
        &self,
        done: &dyn Fn() -> bool,
        limit: Duration,
        tell: Tell<'_>,
        ring: &dyn Fn(),
    ) -> bool {
        let Some(link) = self.link() else {
            return false;
        };
        // ORDERING: SeqCst, see `read`.
        self.guests.fetch_add(1, Ordering::SeqCst);
        // ORDERING: Relaxed, a hint.
        self.visited.store(true, Ordering::Relaxed);
        let done = self.read_as_guest(&link, done, limit, tell);
        // ORDERING: SeqCst, see `read`.
        self.guests.fetch_sub(1, Ordering::SeqCst);
        if self.calls() {
            ring();
        }
        if self.is_busy() {
            self.call();
        }
        done
    }

    fn read_as_guest(
        &self,
        link: &Arc<dyn HostLink>,
        done: &dyn Fn() -> bool,
        limit: Duration,
        tell: Tell<'_>,
    ) -> bool {
        let mut seat = self.seat.try_lock().ok();
        if seat.is_none() {
            // The lane's thread may sleep on it.
            link.wake();
            seat = look_while_yielding(|| self.seat.try_lock().ok());
        }
        if seat.is_none() {
            return done();
        }
        let until = Instant::now() + limit;
        loop {
            let found = look_while_yielding(|| {
                self.drive(link, tell);
                done().then_some(())
            });
            if found.is_some() {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.is_current(link) {
                return done();
            }
            link.wait(Some(left));
        }
    }

    /// Has a guest look whether its reply still comes this way.
    pub(crate) fn wake(&self) {
        // ORDERING: Relaxed, a hint: a guest that is missed looks again when its limit is over.
        if self.guests.load(Ordering::Relaxed) > 0
            && let Some(link) = self.link()
        {
            link.wake();
        }
    }

    fn link(&self) -> Option<Arc<dyn HostLink>> {
        self.state().link.clone()
    }

    fn is_current(&self, link: &Arc<dyn HostLink>) -> bool {
        self.state()
            .link
            .as_ref()
            .is_some_and(|now| Arc::ptr_eq(now, link))
    }

    fn is_busy(&self) -> bool {
        self.state().on_their_way > 0
    }

    /// Takes in what the child has answered so far. False: nothing new, or another thread is at it.
    fn drive(&self, link: &Arc<dyn HostLink>, tell: Tell<'_>) -> bool {
        match self.intake.try_lock() {
            Ok(mut intake) => self.take_in(link, &mut intake, tell) == Taken::News,
            Err(TryLockError::Poisoned(poisoned)) => {
                self.take_in(link, &mut poisoned.into_inner(), tell) == Taken::News
            }
            Err(TryLockError::WouldBlock) => false,
        }
    }

    pub(super) fn take_in(
        &self,
        link: &Arc<dyn HostLink>,
        intake: &mut Intake<C>,
        tell: Tell<'_>,
    ) -> Taken {
        let Intake {
            answers,
            said,
            over,
            words,
        } = intake;
        let mut unfit = None;
        let mut ready = false;
        let received = link.receive(&mut |frame| {
            match frame {
                ToHost::Reply(ReplyFrame {
                    seq,
                    status,
                    run_ns,
                    note,
                    payload,
                }) => answers.push((
                    seq,
                    Answer {
                        status,
                        ran: Duration::from_nanos(run_ns),
                        note: note.to_vec(),
                        parcel: Some(link.parcel(&payload)?),
                    },
                )),
                ToHost::Item { seq, payload } => {
                    said.push((seq, Said::Item(link.parcel(&payload)?)));
                }
                ToHost::Progress { seq, payload } => {
                    said.push((seq, Said::Progress(link.parcel(&payload)?)));
                }
                ToHost::Event(event) => {
                    let emitted = EmittedEvent {
                        name: event.name.into(),
                        parcel: link.parcel(&event.payload)?,
                        dropped: event.dropped,
                    };
                    said.push((event.seq, Said::Event(emitted)));
                }
                ToHost::Log { bytes } => words.push(Word::Log(bytes.to_vec())),
                ToHost::Ask { bytes } => words.push(Word::Ask(bytes.to_vec())),
                ToHost::Broken { bytes } => unfit = Some(bytes.to_vec()),
                ToHost::Ready { .. } => ready = true,
            }
            Ok(())
        });
        for word in words.drain(..) {
            tell(word);
        }
        if matches!(received, Ok(0)) {
            return Taken::Nothing;
        }
        let mut state = self.state();
        let current = state
            .link
            .as_ref()
            .is_some_and(|now| Arc::ptr_eq(now, link));
        if !current {
            answers.clear();
            said.clear();
            return Taken::Nothing;
        }
        let mut strange = received.err().map(|broken| broken.to_string());
        if ready {
            state.health.is_ready_at(Instant::now());
            state.recovered |= state.failed.take().is_some();
        }
        let mut heard = Vec::new();
        let mut unheard = Vec::new();
        for (seq, said) in said.drain(..) {
            match said {
                Said::Item(parcel) => match state.feed(seq) {
                    Ok(feed) => heard.push(Heard::Item(feed, parcel)),
                    Err(what) => strange = Some(what),
                },
                Said::Event(event) => match state.listener(seq) {
                    Some(listener) => heard.push(Heard::Event(listener, event)),
                    None => unheard.push(event.parcel),
                },
                Said::Progress(parcel) => match state.listener(seq) {
                    Some(listener) => heard.push(Heard::Progress(listener, parcel)),
                    None => unheard.push(parcel),
                },
            }
        }
        state.answered += answers.len() as u64;
        for (seq, answer) in answers.drain(..) {
            match state.end(seq, answer.status) {
                Ok(Some(cargo)) => {
                    state.health.proves_useful();
                    over.push((cargo, answer));
                }
                Ok(None) => {}
                Err(what) => strange = Some(what),
            }
        }
        if let Some(bytes) = unfit {
            if state.health.is_useful() {
                strange =
                    Some("it said that its initializer failed after it had answered".to_owned());
            } else {
                state.unfit = Some(bytes);
            }
        }
        let broken = strange.is_some();
        if let Some(what) = strange {
            state.condemn(Instant::now(), Cause::Protocol(what));
        }
        let sent = state.send_held();
        state.retire_if_used_up();
        drop(state);
        if let Some(sent) = sent {
            sent.conclude();
        }
        TAKING_IN.set(true);
        drop(unheard);
        // They go before the answers that follow them.
        heard.into_iter().for_each(Heard::deliver);
        for (cargo, answer) in over.drain(..) {
            cargo.answered(answer);
        }
        TAKING_IN.set(false);
        if broken { Taken::Broken } else { Taken::News }
    }

    /// The present link; waits for one, and starts the child when the supervisor says so. `None` once the lane is closed
    /// and has none.
    fn next_link(&self, start: &dyn Fn()) -> Option<Arc<dyn HostLink>> {
        let mut state = self.state();
        loop {
            if let Some(link) = &state.link {
                return Some(link.clone());
            }
            if matches!(state.phase, Phase::Closed) {
                return None;
            }
            if matches!(state.phase, Phase::Starting) {
                drop(state);
                start();
                state = self.state();
                continue;
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}
