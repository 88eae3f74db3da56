//! The lookout: enters the runs of a worker as they begin, and tells of those that are stuck.

use std::mem;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use super::Handler;
use super::cell::Cell;
use super::overruns::{Overrun, Run, RunKey, Stuck};
use crate::clock::Timestamp;
use crate::contained::{contained, drop_each};
use crate::deadline::Timer;
use crate::key::Key;
use crate::message::{Message, Ticket};
use crate::whereabouts::Whereabouts;

/// How long a handler may take to end after its deadline, before it is told of: one that looks whether it was cancelled
/// takes less.
const GRACE: Duration = Duration::from_millis(500);
/// How often at least a carrier is asked what it has begun, for each time that a run may take.
const LOOKS: u32 = 4;

impl<H: Handler> Cell<H> {
    /// A run begins on this thread, of a worker whose runs have a limit.
    #[inline]
    pub(crate) fn run_begins(self: &Arc<Self>, message: &H::Message) -> Option<RunKey> {
        self.overruns.after?;
        self.enter_run(message, Some(self.pool.inner().clock.now()))
    }

    /// The same of a message that a carrier takes, which begins it later.
    #[inline]
    pub(crate) fn run_carried(self: &Arc<Self>, message: &H::Message) -> Option<RunKey> {
        self.overruns.after?;
        self.enter_run(message, None)
    }

    #[cold]
    fn enter_run(
        self: &Arc<Self>,
        message: &H::Message,
        began: Option<Timestamp>,
    ) -> Option<RunKey> {
        let after = self.overruns.after?;
        let name = contained(|| self.handler.name_of(message)).ok().flatten();
        let ticket = message.ticket();
        let mut state = self.overruns.state.lock();
        state.last += 1;
        let key = RunKey::new(state.last)?;
        state.runs.push(Run {
            key,
            began,
            told: false,
            name,
            ticket: ticket.as_ref().map(Arc::downgrade),
            thread: began.map(|_| thread::current().id()),
            put: 0,
            streams: false,
        });
        let timed = mem::replace(&mut state.timed, true);
        drop(state);
        if !timed {
            let wait = if began.is_some() {
                after
            } else {
                after / LOOKS
            };
            self.time_overruns(wait);
        }
        Some(key)
    }

    /// The handler of `ticket` runs past its deadline.
    pub(crate) fn runs_overdue(self: &Arc<Self>, ticket: &Arc<dyn Ticket>, at: Timestamp) {
        let mut state = self.overruns.state.lock();
        state.overdue.push((Arc::downgrade(ticket), at));
        drop(state);
        // Also where the timer is to come by: that may be much later, and this is rare.
        self.time_overruns(GRACE);
    }

    fn time_overruns(self: &Arc<Self>, wait: Duration) {
        let timer: Arc<dyn Timer> = self.clone();
        let at = self.pool.inner().clock.now().after(wait);
        // Without the thread that watches the times there is no report; `health` says it all the same.
        let _ = self.pool.set_timer(at, &timer);
    }

    /// Looks which runs of a carrier have begun since.
    pub(crate) fn look_at_carried(&self, now: Timestamp) {
        if self.overruns.after.is_none() {
            return;
        }
        let Some(carrier) = self.handler.carrier() else {
            return;
        };
        let begun = carrier.begun();
        let mut state = self.overruns.state.lock();
        for run in &mut state.runs {
            if run.began.is_none() && begun.contains(&run.key.get()) {
                run.began = Some(now);
            }
        }
    }
}

impl<H: Handler> Timer for Cell<H> {
    /// Tells of the runs that are stuck by now, each once.
    fn elapsed(self: Arc<Self>) {
        let now = self.pool.inner().clock.now();
        self.look_at_carried(now);
        let mut stuck = Vec::new();
        let mut next = None::<Duration>;
        let mut overdue = Vec::new();
        let mut seen = Vec::new();
        let mut state = self.overruns.state.lock();
        state.overdue.retain(|(ticket, at)| {
            let passed = now.since(*at);
            if passed < GRACE {
                next = Some(next.unwrap_or(GRACE).min(GRACE - passed));
                return true;
            }
            overdue.extend(ticket.upgrade().map(|ticket| (ticket, passed)));
            false
        });
        if let Some(after) = self.overruns.after {
            for run in &mut state.runs {
                let Some(began) = run.began else {
                    next = Some(next.unwrap_or(after).min(after / LOOKS));
                    continue;
                };
                let ran = now.since(began);
                // One that streams may go on after all, and is looked at again.
                if ran >= after && (run.goes_on(now, &mut seen) || (run.told && run.streams)) {
                    next = Some(next.unwrap_or(after).min(after));
                    continue;
                }
                if run.told {
                    continue;
                }
                if ran < after {
                    next = Some(next.unwrap_or(after).min(after.saturating_sub(ran)));
                    continue;
                }
                run.told = true;
                stuck.push(Stuck {
                    why: Overrun::Limit(after),
                    lasted: ran,
                    name: run.name.clone(),
                    ticket: run.ticket.as_ref().and_then(Weak::upgrade),
                    thread: run.thread,
                });
            }
        }
        state.timed = next.is_some();
        drop(state);
        drop_each(seen);
        if let Some(next) = next {
            self.time_overruns(next);
        }
        let mut over = Vec::new();
        for (ticket, lasted) in overdue {
            if !self.mailbox.is_running(&ticket) {
                over.push(ticket);
                continue;
            }
            stuck.push(Stuck {
                why: Overrun::Deadline,
                lasted,
                name: None,
                ticket: Some(ticket),
                thread: None,
            });
        }
        drop_each(over);
        for stuck in stuck {
            let _ = contained(|| self.handler.stuck(stuck));
        }
    }
}

impl<H: Handler> Cell<H> {
    /// As [`Worker::whereabouts`](crate::Worker::whereabouts).
    pub(crate) fn whereabouts(
        &self,
        of: &dyn Fn(&H::Message) -> bool,
        of_ticket: &dyn Fn(&Arc<dyn Ticket>) -> bool,
        has_key: &dyn Fn(&Arc<dyn Ticket>, &Key) -> bool,
    ) -> Option<Whereabouts> {
        let clock = &*self.pool.inner().clock;
        // Twice: one that is tried again may go back to the queue between the two looks.
        for _ in 0..2 {
            if let Some(found) = self.mailbox.find(of, clock) {
                let behind = found.key.and_then(|key| {
                    let taken = self.mailbox.running();
                    taken.into_iter().find(|ticket| has_key(ticket, &key))
                });
                return Some(Whereabouts::Queued {
                    ahead: found.ahead,
                    waited: found.posted.map(|posted| clock.now().since(posted)),
                    why: found.why,
                    behind,
                });
            }
            let taken = self.mailbox.running();
            if let Some(place) = taken.iter().position(of_ticket) {
                let carrier = self.handler.carrier();
                let waits = carrier.is_some_and(|carrier| !carrier.has_begun(&taken[place]));
                return Some(if waits {
                    Whereabouts::Ahead(place)
                } else {
                    Whereabouts::Running
                });
            }
        }
        self.mailbox.is_gone(of).then_some(Whereabouts::Gone)
    }
}
