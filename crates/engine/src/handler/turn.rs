//! A turn: the messages that a pool thread handles for one worker before it looks for another.
//!
//! A turn that unwinds (a handler that panics, where nothing between it and here catches that) costs the message that
//! ran, and nothing else. The state of the turn is kept apart from its steps, so the code that catches it knows whether
//! the token is held, which message has to fail, and which one was taken and not begun.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use super::cell::Cell;
use super::companions::Companions;
use super::suspension::Suspension;
use super::{Course, Handled, Handler, RunKey, RunPlace, Span};
use crate::address::TurnEnd;
use crate::clock::Timestamp;
use crate::contained::contained;
use crate::key::Key;
use crate::mailbox::{Entry, Finished, Next, Take, TakeResult, TicketKey, Times, Tray};
use crate::message::Message;
use crate::outcome::{Failure, Outcome};
use crate::wait;
use crate::wake::Wake;

/// Messages that one worker handles before it goes behind the others: enough that the run queue's lock is lost in
/// the noise, few enough that others wait microseconds when handlers are quick.
const BUDGET_MESSAGES: usize = 64;
/// And the time after which it goes behind them with fewer; seen at the messages that are timed, which slow handlers'
/// messages all are.
const BUDGET_TIME: Duration = Duration::from_millis(1);

/// What a turn is about to do, or does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// To take a message. The token is held.
    Take,
    /// To handle the message that was taken.
    Begin,
    /// It runs the handler.
    Handle,
    /// To end with a part of the budget too little. The token is held.
    More,
    /// To end without the token, which was given back, or went with a suspension.
    Over,
}

/// What a turn holds.
struct Progress<M> {
    step: Step,
    /// The message that was just handled, and the one that is next, in turns.
    trays: [Tray<M>; 2],
    at: usize,
    /// Those that run together with the message that is next.
    others: Vec<Entry<M>>,
    /// How that one ended, if it counts, and its times, where they were taken: both by themselves, for the one is written
    /// for each message, and a write of both would have to be over before they could be read.
    ended: Option<Outcome>,
    times: Option<Times>,
    /// Of the message that is next, or was just handled.
    key: Option<TicketKey>,
    lane: Option<Key>,
    bytes: u64,
    /// The message that is next, or was just handled, is the worker's last, which counts as nothing.
    is_last: bool,
    /// Of the message that runs, where that has a limit.
    run: Option<RunKey>,
    left: usize,
    started: Option<Timestamp>,
    /// The mailbox has not settled before it is told that the last reply stands.
    publishing: bool,
}

impl<M> Progress<M> {
    /// How many messages it has run, or as many as it might have where it was cut short.
    const fn messages(&self) -> usize {
        BUDGET_MESSAGES - self.left
    }
}

impl<H: Handler> Cell<H> {
    pub(super) fn turn(self: &Arc<Self>) -> TurnEnd {
        let mut progress = Progress {
            step: Step::Take,
            trays: [Tray::empty(), Tray::empty()],
            at: 0,
            others: Vec::new(),
            ended: None,
            times: None,
            key: None,
            lane: None,
            bytes: 0,
            is_last: false,
            run: None,
            left: BUDGET_MESSAGES,
            started: None,
            publishing: false,
        };
        self.handler.course(|course| {
            // Ends: a step that unwinds has used up a message.
            loop {
                if let Ok(turn) = contained(|| self.advance(&mut progress, course)) {
                    return turn;
                }
                let _ = contained(|| course.rest());
                if let Some(turn) = self.recover(&mut progress) {
                    return turn;
                }
            }
        })
    }

    fn advance(
        self: &Arc<Self>,
        progress: &mut Progress<H::Message>,
        course: &mut dyn Course<H>,
    ) -> TurnEnd {
        let clock = &*self.pool.inner().clock;
        let mut began = None;
        let started = *progress
            .started
            .get_or_insert_with(|| *began.insert(clock.now()));
        loop {
            let [first, second] = &mut progress.trays;
            let (last, next) = if progress.at == 0 {
                (first, second)
            } else {
                (second, first)
            };
            if progress.step == Step::Take {
                let finished =
                    last.message
                        .as_ref()
                        .zip(progress.ended.take())
                        .map(|(message, outcome)| Finished {
                            message,
                            outcome,
                            timed: progress.times.as_ref(),
                        });
                let (ended_key, may_run) = (progress.key, progress.left > 0);
                let is_taken = match self.mailbox.take_next(
                    began.take(),
                    finished.as_ref(),
                    ended_key,
                    may_run,
                    next,
                    clock,
                ) {
                    Next::Taken { key } => {
                        progress.key = key;
                        progress.lane = None;
                        true
                    }
                    Next::Planned { key, lane, _ended } => {
                        progress.key = key;
                        progress.lane = lane;
                        true
                    }
                    Next::Other(take) => {
                        if let Some(turn) = self.go_on(progress, course, take, started) {
                            return turn;
                        }
                        if progress.step == Step::Take {
                            continue;
                        }
                        false
                    }
                };
                if is_taken {
                    progress.step = Step::Begin;
                    progress.bytes = 0;
                    if let Some(message) = progress.trays[progress.at].message.take() {
                        drop(course.finish(message));
                    }
                }
            }
            let [first, second] = &mut progress.trays;
            let next = if progress.at == 0 { second } else { first };
            let Some(message) = next.message.as_mut() else {
                unreachable!("a message was taken");
            };
            progress.left = progress.left.saturating_sub(1 + progress.others.len());
            progress.step = Step::Handle;
            let times = next.posted_at.map(|posted| (posted, clock.now()));
            let together = 1 + progress.others.len();
            progress.run = self.run_begins(message);
            // In a mailbox that runs several, the message is what waits, and is waited for.
            let running = (!self.exclusive).then(|| wait::enter_message(message.ticket()));
            let handled = if progress.others.is_empty() {
                course.handle(message)
            } else {
                let companions = Companions::new(self, mem::take(&mut progress.others));
                course.handle_together(message, companions)
            };
            drop(running);
            match handled {
                Handled::Done(outcome) => {
                    self.overruns.end(progress.run.take());
                    progress.times = None;
                    if let Some(times) = times {
                        let (wait, run) = self.times(times, started, &mut progress.left);
                        progress.times = Some(Times {
                            wait,
                            run,
                            together,
                        });
                        let place = RunPlace::Turn;
                        let span = Span {
                            wait,
                            run,
                            outcome,
                            place,
                        };
                        self.handler.timed(message, &span);
                    }
                    progress.ended = (!progress.is_last).then_some(outcome);
                    progress.step = Step::Take;
                }
                Handled::Suspend(go_on) => {
                    course.rest();
                    if let Some(message) = next.message.take() {
                        progress.step = Step::Over;
                        self.overruns.leaves_thread(progress.run);
                        self.pool.inner().scheduler.suspended(true);
                        go_on(Suspension {
                            cell: self.clone(),
                            message: Some(message),
                            is_last: progress.is_last,
                            run: progress.run.take(),
                            times,
                            together,
                        });
                    }
                    self.mailbox.end_turn(started, progress.messages(), clock);
                    return TurnEnd::Done {
                        wake: Wake::none(),
                        roomy: false,
                    };
                }
            }
            self.clear_stuck();
            progress.at = 1 - progress.at;
        }
    }

    /// After a look into the mailbox that was not quick. `None`: the turn goes on, with the message that was taken, or
    /// with another look.
    #[inline(never)]
    fn go_on(
        self: &Arc<Self>,
        progress: &mut Progress<H::Message>,
        course: &mut dyn Course<H>,
        take: Take<H::Message>,
        started: Timestamp,
    ) -> Option<TurnEnd> {
        progress.step = match take.found {
            TakeResult::Next => Step::Begin,
            TakeResult::Last => {
                progress.is_last = true;
                Step::Begin
            }
            TakeResult::Expired => Step::Take,
            TakeResult::More => Step::More,
            TakeResult::Idle => Step::Over,
        };
        progress.key = take.key;
        progress.lane = take.lane;
        progress.bytes = take.bytes;
        progress.others = take.others;
        progress.publishing = take.publishing;
        if progress.step != Step::Begin {
            course.rest();
        }
        let wake = match progress.trays[progress.at].message.take() {
            Some(message) => course.finish(message),
            None => Wake::none(),
        };
        if !take.leftovers.is_empty() {
            self.abandon_all(take.leftovers);
        }
        self.tell(take.told);
        self.set_alarm(take.alarm);
        self.let_go(take.was_held);
        if take.activate > 0 {
            self.activate(take.activate);
        }
        let clock = &*self.pool.inner().clock;
        match progress.step {
            Step::More => {
                drop(wake);
                self.mailbox.end_turn(started, progress.messages(), clock);
                Some(TurnEnd::More)
            }
            Step::Over => {
                self.publish_last(progress);
                self.mailbox.end_turn(started, progress.messages(), clock);
                self.look_for_end();
                Some(TurnEnd::Done {
                    wake,
                    roomy: take.roomy,
                })
            }
            step => {
                // Another handler is about to run and may take long: the threads that wait are woken now.
                drop(wake);
                progress.left -= usize::from(step == Step::Take);
                None
            }
        }
    }

    fn publish_last(&self, progress: &mut Progress<H::Message>) {
        if mem::take(&mut progress.publishing) {
            self.mailbox.published();
        }
    }

    /// Cleans up after a step that has unwound. `None`: the turn goes on with the message that it has taken.
    #[cold]
    fn recover(&self, progress: &mut Progress<H::Message>) -> Option<TurnEnd> {
        if progress.step == Step::Begin {
            return None;
        }
        self.overruns.end(progress.run.take());
        let failed = (progress.step == Step::Handle && !progress.is_last).then(|| {
            self.clear_stuck();
            self.mailbox
                .finish_unwound(progress.key, progress.lane.as_ref(), progress.bytes)
        });
        let trays = progress.trays.iter_mut();
        for message in trays.filter_map(|tray| tray.message.take()) {
            let _ = contained(|| self.give_up(message, Failure::Panicked));
        }
        if let Some(Some(ticket)) = failed {
            // The handler may have had the message on its stack, where it is lost: then the ticket says how it ended.
            let _ = contained(|| ticket.fail(false, Failure::Panicked));
            let _ = contained(|| drop(ticket));
        }
        self.publish_last(progress);
        if let Some(started) = progress.started {
            // The clock may be one of the program's.
            let _ = contained(|| {
                self.mailbox
                    .end_turn(started, progress.messages(), &*self.pool.inner().clock)
            });
        }
        Some(if progress.step == Step::Over {
            self.look_for_end();
            TurnEnd::Done {
                wake: Wake::none(),
                roomy: false,
            }
        } else {
            // Behind the other workers; the next turn gives the token back if there is nothing more to do.
            TurnEnd::More
        })
    }

    /// Wait and run time of a message that was timed; a long run uses up the turn's budget.
    #[inline]
    fn times(
        &self,
        (posted, begun): (Timestamp, Timestamp),
        started: Timestamp,
        left: &mut usize,
    ) -> (Duration, Duration) {
        let now = self.pool.inner().clock.now();
        if now.since(started) > BUDGET_TIME {
            *left = 0;
        }
        (begun.since(posted), now.since(begun))
    }
}
