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

/// Whether the first parked post may go in.
enum Enters<M> {
    Now(M),
    Later,
    /// It was withdrawn.
    Never,
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

    /// Takes the message out if it waits and `fits`.
    fn enter_if(&self, fits: impl FnOnce(&M) -> bool) -> Enters<M> {
        let mut state = self.state.lock();
        match &state.0 {
            State::Waits(message) if fits(message) => {}
            State::Waits(_) => return Enters::Later,
            _ => return Enters::Never,
        }
        match mem::replace(&mut state.0, State::In) {
            State::Waits(message) => Enters::Now(message),
            _ => Enters::Never,
        }
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

    /// Whether one waits that was not withdrawn.
    pub(super) fn waits(&self) -> bool {
        self.posts.len() > self.withdrawn
    }

    /// The first one, which is in from now on, if it `fits`.
    fn next_if(&mut self, fits: impl Fn(&M) -> bool) -> Option<(Arc<Place<M>>, M)> {
        loop {
            match self.posts.front()?.enter_if(&fits) {
                Enters::Now(message) => return Some((self.posts.pop_front()?, message)),
                Enters::Later => return None,
                Enters::Never => {
                    self.posts.pop_front();
                    self.withdrawn -= 1;
                }
            }
        }
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

    /// With what there is to tell of another look.
    #[inline]
    pub(super) fn and(self, other: Self) -> Self {
        match (self.0, other.0) {
            (None, news) | (news, None) => Self(news),
            (Some(mut first), Some(second)) => {
                first.places.extend(second.places);
                first.deadlines.extend(second.deadlines);
                first.replaced.extend(second.replaced);
                first.activate += second.activate;
                Self(Some(first))
            }
        }
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
        inbox.admission.see(&outbox.accounts);
        if inbox.gate == Gate::Closed {
            return Parking::Closed(message);
        }
        if message.plan().is_some() {
            keep_planned(&mut outbox, &mut inbox);
        }
        inbox.admission.set_waited_for(outbox.line.waits());
        if inbox
            .admission
            .has_room_for(inbox.admission.weight(&message))
        {
            inbox.push(message, clock);
            return Parking::Posted(inbox.activate(1));
        }
        let place = Arc::new(Place::new(message, clock.now(), deadline));
        outbox.line.posts.push_back(place.clone());
        inbox.admission.set_waited_for(true);
        Parking::Parked(place)
    }

    /// Takes a parked post out of the line; `None`: it is in, or was refused.
    ///
    /// It may have waited for more bytes than those behind it need.
    pub(crate) fn withdraw(&self, place: &Place<M>) -> (Option<M>, Told<M>) {
        let mut outbox = self.outbox.0.lock();
        let message = outbox.line.withdraw(place);
        let told = if message.is_some() && outbox.accounts.weighs() {
            self.release_admitting(outbox)
        } else {
            Told::nothing()
        };
        (message, told)
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
        inbox.admission.see(&outbox.accounts);
        if outbox.line.is_empty() {
            return Told::nothing();
        }
        if inbox.gate == Gate::Closed {
            return Told::of(outbox.line.refuse_all());
        }
        let (mut places, mut deadlines, mut activate) = (Vec::new(), Vec::new(), 0);
        let mut replaced = Vec::new();
        while let Some((place, message)) = outbox
            .line
            .next_if(|message| inbox.admission.fits(inbox.admission.weight(message)))
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
        inbox.admission.set_waited_for(outbox.line.waits());
        let mut told = Told::of(places);
        if let Some(news) = &mut told.0 {
            news.deadlines = deadlines;
            news.replaced = replaced;
            news.activate = activate;
        }
        told
    }
}
