//! A turn: the messages that a pool thread handles for one worker before it looks for another.

use std::sync::Arc;
use std::time::Duration;

use super::Cell;
use crate::clock::Timestamp;
use crate::handler::{Handled, Handler, Suspension};
use crate::mailbox::{Entry, Finished, Found};
use crate::message::Outcome;
use crate::reply::Wake;

/// Messages that one worker handles before it goes behind the others: enough that the run queue's lock is lost in
/// the noise, few enough that others wait microseconds when handlers are quick.
const BUDGET_MESSAGES: usize = 64;
/// And the time after which it goes behind them with fewer; seen at the messages that are timed, which slow handlers'
/// messages all are.
const BUDGET_TIME: Duration = Duration::from_millis(1);

/// How a turn ended.
pub(crate) enum Turn {
    /// The budget is used up; the worker goes to the back of the run queue.
    More,
    /// The token was given back, or went elsewhere. `roomy`: the worker may give memory back before the thread sleeps.
    Done { wake: Wake, roomy: bool },
}

/// Wait and run time, where they were taken.
type Timed = Option<(Duration, Duration)>;

impl<H: Handler> Cell<H> {
    pub(super) fn turn(self: &Arc<Self>) -> Turn {
        let clock = &*self.pool.inner().clock;
        let started = clock.now();
        // The message that was just handled, and the one that is next, in turns.
        let mut slots: [Option<Entry<H::Message>>; 2] = [None, None];
        let mut at = 0;
        let mut ended: Option<(Outcome, Timed)> = None;
        let mut left = BUDGET_MESSAGES;
        loop {
            let [first, second] = &mut slots;
            let (last, next) = if at == 0 {
                (first, second)
            } else {
                (second, first)
            };
            let finished = last
                .as_ref()
                .zip(ended.take())
                .map(|(entry, (outcome, timed))| Finished {
                    message: &entry.message,
                    outcome,
                    timed,
                });
            let take = self.mailbox.take(finished.as_ref(), left > 0, next, clock);
            let wake = match last.take() {
                Some(entry) => self.handler.finish(entry.message),
                None => Wake::nobody(),
            };
            if !take.leftovers.is_empty() {
                self.abandon_all(take.leftovers);
            }
            match (take.found, next.as_mut()) {
                (Found::Next, Some(entry)) => {
                    // Another handler is about to run and may take long: whoever waits is woken now.
                    drop(wake);
                    left -= 1;
                    let times = entry.posted_at.map(|posted| (posted, clock.now()));
                    match self.handler.handle(&mut entry.message) {
                        Handled::Done(outcome) => {
                            ended = Some((outcome, self.timed(times, started, &mut left)))
                        }
                        Handled::Suspend(go_on) => {
                            if let Some(entry) = next.take() {
                                self.pool.inner().scheduler.suspended(true);
                                go_on(Suspension {
                                    cell: self.clone(),
                                    message: Some(entry.message),
                                    times,
                                });
                            }
                            self.mailbox.add_busy(clock.now().since(started));
                            return Turn::Done {
                                wake: Wake::nobody(),
                                roomy: false,
                            };
                        }
                    }
                    self.clear_stuck();
                    at = 1 - at;
                }
                (Found::Expired, _) => {
                    drop(wake);
                    left -= 1;
                }
                (Found::More, _) => {
                    drop(wake);
                    self.mailbox.add_busy(clock.now().since(started));
                    return Turn::More;
                }
                (Found::Idle | Found::Next, _) => {
                    if take.publishing {
                        self.mailbox.published();
                    }
                    self.mailbox.add_busy(clock.now().since(started));
                    return Turn::Done {
                        wake,
                        roomy: take.roomy,
                    };
                }
            }
        }
    }

    /// Wait and run time of a message that was timed; a long run uses up the turn's budget.
    #[inline]
    fn timed(
        &self,
        times: Option<(Timestamp, Timestamp)>,
        started: Timestamp,
        left: &mut usize,
    ) -> Timed {
        let (posted, begun) = times?;
        let now = self.pool.inner().clock.now();
        if now.since(started) > BUDGET_TIME {
            *left = 0;
        }
        Some((begun.since(posted), now.since(begun)))
    }
}
