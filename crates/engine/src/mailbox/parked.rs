//! Parked posts: the line of senders before a full mailbox.
//!
//! A sender that waits for a place leaves its message in the line. The thread that frees a place moves the first one in,
//! under the locks under which it freed the place. So no place is free while a post is parked: senders get in in the
//! order in which they came, and each of them is woken once, when its message is in.
//!
//! A parked post is not in the mailbox yet: it counts as nothing, and its deadline is watched from the moment it is in.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use super::Mailbox;
use super::entry::Leftover;
use super::inbox::{Gate, Inbox};
use super::outbox::Outbox;
use super::post::{keep_planned, replace, replaces};
use crate::clock::{Clock, Timestamp};
use crate::contained::contained;
use crate::message::{Message, Ticket};
use crate::sync::{Condvar, Mutex, MutexGuard};

/// Called once a parked post is in, or refused.
type Callback = Box<dyn FnOnce() + Send>;

/// Where a parked post is.
enum State<M> {
    Waits(M),
    In,
    /// The mailbox has closed. The message is there until the sender takes it back.
    Refused(Option<M>),
    Withdrawn,
}

/// One parked post, shared by the line and by its sender.
pub(crate) struct Place<M> {
    /// When it was parked, for the messages that are timed.
    since: Timestamp,
    /// When the message expires.
    deadline: Option<Timestamp>,
    /// Locked last, and alone or under the outbox's lock.
    state: Mutex<(State<M>, Option<Callback>)>,
    settled: Condvar,
}

impl<M> fmt::Debug for Place<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").finish_non_exhaustive()
    }
}

/// What became of a parked post.
#[derive(Debug)]
pub(crate) enum Entered<M> {
    Waits,
    In,
    Refused(Option<M>),
}

impl<M> Place<M> {
    fn new(message: M, since: Timestamp, deadline: Option<Timestamp>) -> Self {
        Self {
            since,
            deadline,
            state: Mutex::new((State::Waits(message), None)),
            settled: Condvar::new(),
        }
    }

    fn waits(&self) -> bool {
        matches!(self.state.lock().0, State::Waits(_))
    }

    /// Takes the message out of the state `Waits`, for `next`.
    fn leave(&self, next: State<M>) -> Option<M> {
        let mut state = self.state.lock();
        if !matches!(state.0, State::Waits(_)) {
            return None;
        }
        match mem::replace(&mut state.0, next) {
            State::Waits(message) => Some(message),
            _ => None,
        }
    }

    /// The mailbox has closed.
    fn refuse(&self) {
        let mut state = self.state.lock();
        state.0 = match mem::replace(&mut state.0, State::Withdrawn) {
            State::Waits(message) => State::Refused(Some(message)),
            other => other,
        };
    }

    /// What became of it; a message that was refused comes back, to the first that asks.
    pub(crate) fn entered(&self) -> Entered<M> {
        match &mut self.state.lock().0 {
            State::Waits(_) => Entered::Waits,
            State::Refused(message) => Entered::Refused(message.take()),
            State::In => Entered::In,
            State::Withdrawn => Entered::Refused(None),
        }
    }

    /// Blocks until it is in or refused, or `until` passes. Says whether it is.
    pub(crate) fn wait(&self, until: Option<Instant>) -> bool {
        let mut state = self.state.lock();
        while matches!(state.0, State::Waits(_)) {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return false;
            }
            (state, _) = self.settled.wait(state, left);
        }
        true
    }

    /// Calls `callback` once it is in or refused: here and now if it is.
    pub(crate) fn on_settled(&self, callback: Callback) {
        let mut state = self.state.lock();
        if matches!(state.0, State::Waits(_)) {
            state.1 = Some(callback);
            return;
        }
        drop(state);
        callback();
    }

    /// Wakes its sender, with no lock held.
    fn tell(&self) {
        let callback = self.state.lock().1.take();
        self.settled.notify_all();
        if let Some(callback) = callback {
            // A sender that panics keeps the news from no other, and least of all the worker from its turn.
            let _ = contained(callback);
        }
    }
}

/// The parked posts of one mailbox, in the order in which they came.
pub(super) struct Line<M> {
    posts: VecDeque<Arc<Place<M>>>,
    /// Those in it that were withdrawn: swept once they outnumber the others.
    withdrawn: usize,
}

impl<M> Line<M> {
    pub(super) const fn new() -> Self {
        Self {
            posts: VecDeque::new(),
            withdrawn: 0,
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.posts.is_empty()
    }

    /// The first one, which is in from now on.
    fn next(&mut self) -> Option<(Arc<Place<M>>, M)> {
        while let Some(place) = self.posts.pop_front() {
            if let Some(message) = place.leave(State::In) {
                return Some((place, message));
            }
            self.withdrawn -= 1;
        }
        None
    }

    fn withdraw(&mut self, place: &Place<M>) -> Option<M> {
        let message = place.leave(State::Withdrawn)?;
        self.withdrawn += 1;
        if self.withdrawn * 2 > self.posts.len() {
            self.posts.retain(|place| place.waits());
            self.withdrawn = 0;
        }
        Some(message)
    }

    fn refuse_all(&mut self) -> Vec<Arc<Place<M>>> {
        self.withdrawn = 0;
        let posts = mem::take(&mut self.posts);
        for place in &posts {
            place.refuse();
        }
        posts.into()
    }
}

/// Parked posts that left the line. Their senders have yet to be told, with no lock held.
#[must_use = "senders wait to be told"]
pub(crate) struct Told<M>(Option<Box<News<M>>>);

/// What there is to tell. Boxed, because a turn passes it on for every message, and mostly there is none.
pub(crate) struct News<M> {
    places: Vec<Arc<Place<M>>>,
    /// Deadlines to watch from now on.
    pub(crate) deadlines: Vec<(Timestamp, Arc<dyn Ticket>)>,
    /// Queued messages in whose place one of them went.
    pub(crate) replaced: Vec<Leftover<M>>,
    /// Tokens handed out: the worker enters the run queue this many times.
    pub(crate) activate: usize,
}

impl<M> Told<M> {
    pub(crate) const fn nothing() -> Self {
        Self(None)
    }

    /// What there is to tell.
    #[inline]
    pub(crate) fn news(self) -> Option<Box<News<M>>> {
        self.0
    }

    fn of(places: Vec<Arc<Place<M>>>) -> Self {
        Self((!places.is_empty()).then(|| {
            Box::new(News {
                places,
                deadlines: Vec::new(),
                replaced: Vec::new(),
                activate: 0,
            })
        }))
    }
}

impl<M> News<M> {
    /// Wakes the senders.
    pub(crate) fn tell(self) {
        for place in self.places {
            place.tell();
        }
    }
}

/// A post that finds a full mailbox.
#[derive(Debug)]
pub(crate) enum Parking<M> {
    /// There was a place after all. With the tokens handed out.
    Posted(usize),
    Parked(Arc<Place<M>>),
    Closed(M),
}

impl<M: Message> Mailbox<M> {
    /// Posts, or leaves the message in the line before the mailbox.
    pub(crate) fn park(
        &self,
        message: M,
        deadline: Option<Timestamp>,
        clock: &dyn Clock,
    ) -> Parking<M> {
        let mut outbox = self.outbox.0.lock();
        let mut inbox = self.inbox.0.lock();
        inbox.admission.see(outbox.accounts.gone());
        if inbox.gate == Gate::Closed {
            return Parking::Closed(message);
        }
        if message.plan().is_some() {
            keep_planned(&mut outbox, &mut inbox);
        }
        if inbox.admission.room() > 0 {
            inbox.push(message, clock);
            return Parking::Posted(inbox.activate(1));
        }
        let place = Arc::new(Place::new(message, clock.now(), deadline));
        outbox.line.posts.push_back(place.clone());
        Parking::Parked(place)
    }

    /// Takes a parked post out of the line; `None`: it is in, or was refused.
    pub(crate) fn withdraw(&self, place: &Place<M>) -> Option<M> {
        self.outbox.0.lock().line.withdraw(place)
    }

    /// Lets go of the outbox after places have become free: parked posts take them.
    #[inline]
    pub(super) fn release_admitting(&self, mut outbox: MutexGuard<'_, Outbox<M>>) -> Told<M> {
        if outbox.line.is_empty() {
            return Told::nothing();
        }
        let mut inbox = self.inbox.0.lock();
        self.admit(&mut outbox, &mut inbox)
    }

    /// Moves parked posts into the places that are free; refuses them where the mailbox has closed.
    pub(super) fn admit(&self, outbox: &mut Outbox<M>, inbox: &mut Inbox<M>) -> Told<M> {
        inbox.admission.see(outbox.accounts.gone());
        if outbox.line.is_empty() {
            return Told::nothing();
        }
        if inbox.gate == Gate::Closed {
            return Told::of(outbox.line.refuse_all());
        }
        let (mut places, mut deadlines, mut activate) = (Vec::new(), Vec::new(), 0);
        let mut replaced = Vec::new();
        while inbox.admission.room() > 0
            && let Some((place, message)) = outbox.line.next()
        {
            if let Some(at) = place.deadline {
                deadlines.extend(message.ticket().map(|ticket| (at, ticket)));
            }
            let mut goes_in = Some(message);
            if let Some(message) = goes_in.take_if(|message| replaces(message)) {
                let entry = inbox.entry_waited(message, place.since);
                match replace(outbox, inbox, entry) {
                    Ok(old) => replaced.push(old),
                    Err(entry) => goes_in = Some(entry.message),
                }
            }
            if let Some(message) = goes_in {
                inbox.push_waited(message, place.since);
            }
            activate += inbox.activate(1);
            places.push(place);
        }
        let mut told = Told::of(places);
        if let Some(news) = &mut told.0 {
            news.deadlines = deadlines;
            news.replaced = replaced;
            news.activate = activate;
        }
        told
    }
}
