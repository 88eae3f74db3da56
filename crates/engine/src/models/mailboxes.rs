//! The mailbox. A thread that is handed a token runs the turn itself, as some thread of a pool would.
//!
//! Long because every pair of operations that meet at the two locks has a model of its own here, over one harness.

use std::collections::VecDeque;
use std::sync::Arc;

use loom::thread;

use crate::clock::{Clock, MonotonicClock, Timestamp};
use crate::mailbox::{
    Entered, Entry, Finished, Gate, Leftover, Limits, Mailbox, Parking, Posted, Refused, Rest,
    Settled, Swept, TakeResult, Told, Tray,
};
use crate::message::Ticket;
use crate::models::{Call, Count, Exclusive, Note, model};
use crate::outcome::{Failure, Outcome};
use crate::policy::Overflow;
use crate::stats::Counters;

/// Time is not what is modelled.
#[derive(Debug)]
struct NoClock;

impl Clock for NoClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(0)
    }
}

/// A mailbox, and what became of its messages.
struct Box {
    mailbox: Mailbox<Note>,
    /// The numbers of the messages that were run. Only one turn at a time may touch it.
    handled: Exclusive<Vec<usize>>,
    abandoned: Count,
    published: Count,
}

impl Box {
    fn new(capacity: usize, overflow: Overflow) -> Arc<Self> {
        Arc::new(Self {
            mailbox: Mailbox::new(capacity, overflow, 1, Gate::Open, Limits::default()),
            handled: Exclusive::new(Vec::new()),
            abandoned: Count::default(),
            published: Count::default(),
        })
    }

    fn abandon(&self, leftovers: Vec<Leftover<Note>>) {
        for (message, failure) in leftovers {
            self.abandoned.add();
            if let Some(call) = message.call {
                let _ = call.slot.fail(true, failure) || call.slot.fail(false, failure);
            }
        }
    }

    /// A turn as `handler/turn.rs` has it.
    fn turn(&self) {
        let mut ended: Option<Note> = None;
        loop {
            let finished = ended.as_ref().map(|message| Finished {
                message,
                outcome: Outcome::Completed,
                timed: None,
            });
            let mut next = Tray::empty();
            let take = self
                .mailbox
                .take(finished.as_ref(), true, &mut next, &NoClock);
            if let Some(message) = ended.take() {
                if let Some(call) = &message.call {
                    call.settle_and_publish(1);
                }
                self.published.add();
            }
            self.abandon(take.leftovers);
            self.tell(take.told);
            match next.take() {
                Some(entry) => {
                    self.handled
                        .with(|handled| handled.push(entry.message.number));
                    if let Some(call) = &entry.message.call {
                        call.runs.add();
                    }
                    ended = Some(entry.message);
                }
                None if take.found == TakeResult::More => {
                    unreachable!("the budget is not modelled here")
                }
                None if take.found == TakeResult::Expired => {}
                None => {
                    if take.publishing {
                        self.mailbox.published();
                    }
                    return;
                }
            }
        }
    }

    fn accept(&self, posted: Posted<Note>) {
        self.abandon(posted.leftovers);
        self.run(posted.activate);
    }

    fn run(&self, tokens: usize) {
        for _ in 0..tokens {
            self.turn();
        }
    }

    /// Posts, with a wait for room where the policy says so. False: it was refused.
    fn post(&self, number: usize, call: Option<Arc<Call>>) -> bool {
        let message = Note { number, call };
        let message = match self.mailbox.try_post(message, &NoClock) {
            Ok(posted) => {
                self.accept(posted);
                return true;
            }
            Err(Refused::Full(message)) if self.mailbox.overflow() == Overflow::Block => message,
            Err(_) => return false,
        };
        match self.mailbox.park(message, None, &NoClock) {
            Parking::Posted(tokens) => {
                self.run(tokens);
                true
            }
            Parking::Parked(place) => {
                assert!(place.wait(None));
                matches!(place.entered(), Entered::In)
            }
            Parking::Closed(_) => false,
        }
    }

    fn swept(&self, swept: Swept<Note>) {
        self.abandon(swept.leftovers);
        self.tell(swept.told);
    }

    /// What the engine does after its locks.
    fn tell(&self, told: Told<Note>) {
        if let Some(news) = told.news() {
            self.run(news.activate);
            news.tell();
        }
    }

    fn cancel(&self, call: &Arc<Call>) -> bool {
        let removal = self.mailbox.remove(vec![call.clone()], false);
        let cancelled = !removal.removed.is_empty();
        if cancelled {
            // Unless the worker came by what is left of it, and was first to say the same.
            call.slot.fail(false, Failure::Cancelled);
        }
        self.abandon(removal.leftovers);
        self.tell(removal.told);
        cancelled
    }

    fn handled(&self) -> Vec<usize> {
        self.handled.with(|handled| handled.clone())
    }

    /// The counters, once nothing is queued and nothing runs any more.
    fn counters_at_the_end(&self) -> Counters {
        let counters = self.mailbox.snapshot(&MonotonicClock::new(), true).counters;
        assert_eq!((counters.queued, counters.running), (0, 0));
        assert_eq!(
            counters.posted,
            counters.completed
                + counters.failed
                + counters.dropped()
                + counters.cancelled
                + counters.expired
        );
        assert!(self.mailbox.is_settled(Settled::Idle));
        counters
    }
}

fn count(of: usize) -> u64 {
    of.try_into().expect("small")
}

/// Runs `first` and `second` on threads of their own and `third` here; returns when all have ended.
fn race(
    state: &Arc<Box>,
    first: impl FnOnce(&Box) + Send + 'static,
    second: impl FnOnce(&Box) + Send + 'static,
    third: impl FnOnce(&Box),
) {
    let threads = [
        {
            let state = state.clone();
            thread::spawn(move || first(&state))
        },
        {
            let state = state.clone();
            thread::spawn(move || second(&state))
        },
    ];
    third(state);
    for thread in threads {
        thread.join().expect("no panic");
    }
}

/// The next message, which is queued.
fn taken(mailbox: &Mailbox<Note>) -> Entry<Note> {
    let mut next = Tray::empty();
    mailbox.take(None, true, &mut next, &NoClock);
    next.take().expect("it is queued")
}

#[test]
fn no_message_and_no_token_is_lost_between_two_producers() {
    model(|| {
        let state = Box::new(4, Overflow::Block);
        let other = {
            let state = state.clone();
            thread::spawn(move || {
                assert!(state.post(10, None));
                assert!(state.post(11, None));
            })
        };
        assert!(state.post(20, None));
        assert!(state.post(21, None));
        other.join().expect("no panic");
        let handled = state.handled();
        assert_eq!(handled.len(), 4, "{handled:?}");
        for pair in [[10, 11], [20, 21]] {
            let in_order: Vec<_> = handled.iter().filter(|n| pair.contains(n)).collect();
            assert_eq!(in_order, [&pair[0], &pair[1]]);
        }
        assert_eq!(state.counters_at_the_end().completed, 4);
    });
}

#[test]
fn three_producers_share_one_turn() {
    model(|| {
        let state = Box::new(4, Overflow::Block);
        race(
            &state,
            |state| assert!(state.post(1, None)),
            |state| assert!(state.post(2, None)),
            |state| assert!(state.post(3, None)),
        );
        assert_eq!(state.handled().len(), 3);
        assert_eq!(state.counters_at_the_end().completed, 3);
    });
}

#[test]
fn a_batch_is_run_whole() {
    model(|| {
        let state = Box::new(2, Overflow::DropOldest);
        let other = {
            let state = state.clone();
            thread::spawn(move || {
                let mut batch: VecDeque<Note> =
                    (0..2).map(|number| Note { number, call: None }).collect();
                let (posted, refused) = state.mailbox.try_post_many(&mut batch, &NoClock);
                assert!(refused.is_none());
                state.accept(posted);
            })
        };
        assert!(state.post(5, None));
        other.join().expect("no panic");
        let counters = state.counters_at_the_end();
        assert_eq!(counters.completed + counters.dropped_oldest, 3);
        assert_eq!(count(state.handled().len()), counters.completed);
    });
}

#[test]
fn blocked_senders_are_woken() {
    model(|| {
        let state = Box::new(1, Overflow::Block);
        race(
            &state,
            |state| assert!(state.post(1, None)),
            |state| assert!(state.post(2, None)),
            |state| assert!(state.post(3, None)),
        );
        assert_eq!(state.counters_at_the_end().completed, 3);
    });
}

/// Posts while another thread holds the token, so that only that one makes room.
fn held(capacity: usize, overflow: Overflow) -> (Arc<Box>, Posted<Note>) {
    let state = Box::new(capacity, overflow);
    let note = Note {
        number: 0,
        call: None,
    };
    let Ok(posted) = state.mailbox.try_post(note, &NoClock) else {
        unreachable!("it is empty")
    };
    assert_eq!(posted.activate, 1);
    (state, posted)
}

#[test]
fn two_blocked_senders_and_the_worker() {
    model(|| {
        let (state, posted) = held(1, Overflow::Block);
        race(
            &state,
            |state| assert!(state.post(1, None)),
            |state| assert!(state.post(2, None)),
            |state| state.accept(posted),
        );
        assert_eq!(state.counters_at_the_end().completed, 3);
    });
}

#[test]
fn a_parked_post_is_told_of_once_and_runs() {
    model(|| {
        let (state, posted) = held(1, Overflow::Block);
        let told = Arc::new(Count::default());
        let other = {
            let (state, told) = (state.clone(), told.clone());
            thread::spawn(move || {
                let note = Note {
                    number: 1,
                    call: None,
                };
                match state.mailbox.park(note, None, &NoClock) {
                    Parking::Posted(tokens) => {
                        state.run(tokens);
                        told.add();
                    }
                    Parking::Parked(place) => {
                        place.on_settled(std::boxed::Box::new(move || told.add()));
                    }
                    Parking::Closed(_) => unreachable!("it stays open"),
                }
            })
        };
        state.accept(posted);
        other.join().expect("no panic");
        assert_eq!(told.get(), 1);
        assert_eq!(state.counters_at_the_end().completed, 2);
    });
}

#[test]
fn a_withdrawn_post_is_in_or_comes_back() {
    model(|| {
        let (state, posted) = held(1, Overflow::Block);
        let other = {
            let state = state.clone();
            thread::spawn(move || {
                let note = Note {
                    number: 1,
                    call: None,
                };
                match state.mailbox.park(note, None, &NoClock) {
                    Parking::Posted(tokens) => {
                        state.run(tokens);
                        true
                    }
                    Parking::Parked(place) => state.mailbox.withdraw(&place).0.is_none(),
                    Parking::Closed(_) => unreachable!("it stays open"),
                }
            })
        };
        state.accept(posted);
        let is_in = other.join().expect("no panic");
        let completed = state.counters_at_the_end().completed;
        assert_eq!(completed, 1 + u64::from(is_in));
    });
}

#[test]
fn closing_wakes_a_blocked_sender() {
    model(|| {
        let (state, posted) = held(1, Overflow::Block);
        let accepted = Arc::new(Count::default());
        let count_accepted = accepted.clone();
        race(
            &state,
            move |state| {
                if state.post(1, None) {
                    count_accepted.add();
                }
            },
            |state| {
                let swept = state.mailbox.close(Rest::Run, None, true);
                assert!(swept.leftovers.is_empty());
                state.tell(swept.told);
            },
            // The token is only used once both are over: nothing but `close` can wake the sender.
            |_| {},
        );
        state.accept(posted);
        assert_eq!(
            state.counters_at_the_end().completed,
            1 + count(accepted.get())
        );
        assert!(state.mailbox.is_settled(Settled::Ended));
    });
}

#[test]
fn closing_fails_or_leaves_each_message_once() {
    model(|| {
        let (state, posted) = held(2, Overflow::Block);
        let call = Call::asked();
        assert!(
            state
                .mailbox
                .try_post(
                    Note {
                        number: 1,
                        call: Some(call.clone())
                    },
                    &NoClock,
                )
                .is_ok()
        );
        race(
            &state,
            |state| {
                state.swept(
                    state
                        .mailbox
                        .close(Rest::Fail(Failure::Stopped), None, true),
                )
            },
            |state| {
                let _ = state.post(2, None);
            },
            |state| state.accept(posted),
        );
        let counters = state.counters_at_the_end();
        assert_eq!(counters.completed, count(state.handled().len()));
        assert_eq!(counters.failed, count(state.abandoned.get()));
        let reply = call.slot.get().expect("it has a fate");
        assert_eq!(reply.is_ok(), call.runs.get() == 1);
    });
}

#[test]
fn dropping_the_oldest_and_taking_it_agree() {
    model(|| {
        let (state, posted) = held(1, Overflow::DropOldest);
        let call = Call::asked();
        let asked = call.clone();
        race(
            &state,
            move |state| assert!(state.post(1, Some(asked))),
            |state| assert!(state.post(2, None)),
            |state| state.accept(posted),
        );
        let counters = state.counters_at_the_end();
        assert_eq!(counters.posted, 3);
        assert_eq!(counters.completed, count(state.handled().len()));
        assert_eq!(counters.dropped_oldest, count(state.abandoned.get()));
        let reply = call.slot.get().expect("it has a fate");
        assert_eq!(reply.is_ok(), call.runs.get() == 1);
    });
}

#[test]
fn cancelling_and_taking_agree_and_make_room() {
    model(|| {
        let (state, posted) = held(2, Overflow::Block);
        let call = Call::asked();
        let note = Note {
            number: 1,
            call: Some(call.clone()),
        };
        assert!(state.mailbox.try_post(note, &NoClock).is_ok());
        let cancelled = Arc::new(Count::default());
        let (asked, count_cancelled) = (call.clone(), cancelled.clone());
        race(
            &state,
            move |state| {
                if state.cancel(&asked) {
                    count_cancelled.add();
                }
            },
            |state| assert!(state.post(2, None)),
            |state| state.accept(posted),
        );
        let counters = state.counters_at_the_end();
        assert_eq!(counters.cancelled, count(cancelled.get()));
        assert_eq!(counters.completed + counters.cancelled, 3);
        assert_eq!(call.runs.get() + cancelled.get(), 1);
        let reply = call.slot.get().expect("it has a fate");
        let fate = if cancelled.get() == 0 {
            Ok(1)
        } else {
            Err(Failure::Cancelled)
        };
        assert_eq!(*reply, fate);
    });
}

#[test]
fn the_deadline_thread_and_the_one_that_takes_a_late_message_agree() {
    model(|| {
        let (state, posted) = held(2, Overflow::Block);
        let call = Call::asked();
        call.state().set_deadline(NoClock.now());
        let note = Note {
            number: 1,
            call: Some(call.clone()),
        };
        assert!(state.mailbox.try_post(note, &NoClock).is_ok());
        let late = call.clone();
        race(
            &state,
            move |state| {
                let removal = state.mailbox.remove(vec![late.clone()], true);
                if !removal.removed.is_empty() {
                    late.slot.fail(false, Failure::Expired);
                }
                state.abandon(removal.leftovers);
                state.tell(removal.told);
            },
            |state| assert!(state.post(2, None)),
            |state| state.accept(posted),
        );
        let counters = state.counters_at_the_end();
        assert_eq!((counters.completed, counters.expired), (2, 1));
        assert_eq!(call.runs.get(), 0);
        assert_eq!(call.slot.get(), Some(&Err(Failure::Expired)));
        assert_eq!(state.abandoned.get(), 1);
    });
}

#[test]
fn a_cancel_wakes_blocked_senders() {
    model(|| {
        let (state, posted) = held(1, Overflow::Block);
        // The mailbox's one message is run, and another queued in its place, by hand.
        let first = taken(&state.mailbox);
        let call = Call::asked();
        let note = Note {
            number: 1,
            call: Some(call.clone()),
        };
        assert!(state.mailbox.try_post(note, &NoClock).is_ok());
        let sender = {
            let state = state.clone();
            thread::spawn(move || assert!(state.post(2, None)))
        };
        assert!(state.cancel(&call));
        // No thread takes a message meanwhile: only the cancel can wake the sender.
        sender.join().expect("no panic");
        let finished = Finished {
            message: &first.message,
            outcome: Outcome::Completed,
            timed: None,
        };
        state.mailbox.finish_suspended(&finished);
        state.accept(posted);
        let counters = state.counters_at_the_end();
        assert_eq!((counters.completed, counters.cancelled), (2, 1));
    });
}

#[test]
fn a_thread_that_waits_for_the_end_finds_the_replies_published() {
    model(|| {
        let (state, posted) = held(2, Overflow::Block);
        let call = Call::asked();
        let note = Note {
            number: 1,
            call: Some(call.clone()),
        };
        assert!(state.mailbox.try_post(note, &NoClock).is_ok());
        race(
            &state,
            move |state| {
                assert!(state.mailbox.wait_settled(Settled::Ended, None));
                assert_eq!(state.published.get(), 2);
                assert!(call.slot.state().is_done());
            },
            |state| {
                let swept = state.mailbox.close(Rest::Run, None, true);
                assert!(swept.leftovers.is_empty());
                state.tell(swept.told);
            },
            |state| state.accept(posted),
        );
    });
}

#[test]
fn a_waiting_thread_is_told_when_a_suspended_message_was_the_last() {
    model(|| {
        let (state, _posted) = held(2, Overflow::Block);
        let first = taken(&state.mailbox);
        let waiter = {
            let state = state.clone();
            thread::spawn(move || assert!(state.mailbox.wait_settled(Settled::Idle, None)))
        };
        state.mailbox.finish_suspended(&Finished {
            message: &first.message,
            outcome: Outcome::Completed,
            timed: None,
        });
        state.turn();
        waiter.join().expect("no panic");
    });
}

#[test]
fn a_mailbox_that_settles_by_a_cancel_says_so() {
    model(|| {
        let state = Arc::new(Mailbox::<Note>::new(
            2,
            Overflow::Block,
            1,
            Gate::Paused,
            Limits::default(),
        ));
        let call = Call::asked();
        let note = Note {
            number: 1,
            call: Some(call.clone()),
        };
        assert!(state.try_post(note, &NoClock).is_ok());
        let waiter = {
            let state = state.clone();
            thread::spawn(move || assert!(state.wait_settled(Settled::Idle, None)))
        };
        let removal = state.remove(vec![call], false);
        assert_eq!(removal.removed.len(), 1);
        drop(removal);
        waiter.join().expect("no panic");
    });
}

#[test]
fn opening_hands_out_one_token() {
    model(|| {
        let state = Arc::new(Box {
            mailbox: Mailbox::new(4, Overflow::Block, 1, Gate::Paused, Limits::default()),
            handled: Exclusive::new(Vec::new()),
            abandoned: Count::default(),
            published: Count::default(),
        });
        race(
            &state,
            |state| assert!(state.post(1, None)),
            |state| assert!(state.post(2, None)),
            |state| {
                for _ in 0..state.mailbox.open().expect("not closed") {
                    state.turn();
                }
            },
        );
        assert_eq!(state.handled().len(), 2);
        assert_eq!(state.counters_at_the_end().completed, 2);
    });
}

/// The pool's own mailbox: two turns at a time, and more while a handler waits.
#[test]
fn two_consumers_share_a_mailbox_and_lend() {
    model(|| {
        let state = Arc::new(Mailbox::<Note>::new(
            4,
            Overflow::Block,
            2,
            Gate::Open,
            Limits::default(),
        ));
        let done = Arc::new(Count::default());
        fn turn(state: &Mailbox<Note>, done: &Count, lend: bool) {
            let mut ended: Option<Note> = None;
            loop {
                let finished = ended.as_ref().map(|message| Finished {
                    message,
                    outcome: Outcome::Completed,
                    timed: None,
                });
                let mut next = Tray::empty();
                let take = state.take(finished.as_ref(), true, &mut next, &NoClock);
                match next.take() {
                    Some(entry) => {
                        if lend {
                            for _ in 0..state.lend(true) {
                                turn(state, done, false);
                            }
                            assert_eq!(state.lend(false), 0);
                        }
                        done.add();
                        ended = Some(entry.message);
                    }
                    _ => {
                        if take.publishing {
                            state.published();
                        }
                        return;
                    }
                }
            }
        }
        fn post(state: &Mailbox<Note>, done: &Count, lend: bool) {
            for number in 0..2 {
                let Ok(posted) = state.try_post(Note { number, call: None }, &NoClock) else {
                    unreachable!("there is room")
                };
                for _ in 0..posted.activate {
                    turn(state, done, lend);
                }
            }
        }
        let other = {
            let (state, done) = (state.clone(), done.clone());
            thread::spawn(move || post(&state, &done, false))
        };
        post(&state, &done, true);
        other.join().expect("no panic");
        assert_eq!(done.get(), 4);
        let counters = state.snapshot(&MonotonicClock::new(), true).counters;
        assert_eq!(
            (counters.completed, counters.queued, counters.running),
            (4, 0, 0)
        );
        assert!(state.is_settled(Settled::Idle));
    });
}

#[test]
fn what_comes_while_a_handler_waits_is_run_by_another_turn() {
    model(|| {
        let (state, posted) = held(4, Overflow::Block);
        assert_eq!(posted.activate, 1);
        let first = taken(&state.mailbox);
        let other = {
            let state = state.clone();
            thread::spawn(move || assert!(state.post(1, None)))
        };
        for _ in 0..state.mailbox.lend(true) {
            state.turn();
        }
        other.join().expect("no panic");
        assert_eq!(state.handled(), [1], "the first one still waits");
        assert_eq!(state.mailbox.lend(false), 0);
        state.mailbox.finish_suspended(&Finished {
            message: &first.message,
            outcome: Outcome::Completed,
            timed: None,
        });
        state.turn();
        assert_eq!(state.counters_at_the_end().completed, 2);
    });
}
