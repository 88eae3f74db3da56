//! The line of senders before a full mailbox, and what those are told that leave it.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use super::entry::Leftover;
use crate::clock::Timestamp;
use crate::contained::contained;
use crate::message::Ticket;
use crate::sync::{Condvar, Mutex};

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
pub(crate) struct LinePlace<M> {
    /// When it was parked, for the messages that are timed.
    pub(super) since: Timestamp,
    /// When the message expires.
    pub(super) deadline: Option<Timestamp>,
    /// Locked last, and alone or under the outbox's lock.
    state: Mutex<(State<M>, Option<Callback>)>,
    settled: Condvar,
}

impl<M> fmt::Debug for LinePlace<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinePlace").finish_non_exhaustive()
    }
}

/// What became of a parked post.
#[derive(Debug)]
pub(crate) enum Entered<M> {
    Waits,
    In,
    Refused(Option<M>),
}

impl<M> LinePlace<M> {
    pub(super) fn new(message: M, since: Timestamp, deadline: Option<Timestamp>) -> Self {
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
pub(super) struct SenderLine<M> {
    posts: VecDeque<Arc<LinePlace<M>>>,
    /// Those in it that were withdrawn: swept once they outnumber the others.
    withdrawn: usize,
}

impl<M> SenderLine<M> {
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

    pub(super) fn push(&mut self, place: Arc<LinePlace<M>>) {
        self.posts.push_back(place);
    }

    /// Whether one waits that was not withdrawn.
    pub(super) fn waits(&self) -> bool {
        self.posts.len() > self.withdrawn
    }

    /// The first one, which is in from now on, if it `fits`.
    pub(super) fn next_if(&mut self, fits: impl Fn(&M) -> bool) -> Option<(Arc<LinePlace<M>>, M)> {
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

    pub(super) fn withdraw(&mut self, place: &LinePlace<M>) -> Option<M> {
        let message = place.leave(State::Withdrawn)?;
        self.withdrawn += 1;
        if self.withdrawn * 2 > self.posts.len() {
            self.posts.retain(|place| place.waits());
            self.withdrawn = 0;
        }
        Some(message)
    }

    pub(super) fn refuse_all(&mut self) -> Vec<Arc<LinePlace<M>>> {
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
    places: Vec<Arc<LinePlace<M>>>,
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

    pub(super) fn news_mut(&mut self) -> Option<&mut News<M>> {
        self.0.as_deref_mut()
    }

    pub(super) fn of(places: Vec<Arc<LinePlace<M>>>) -> Self {
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

impl<M> SenderLine<M> {
    /// The place of the post that waits and that `of` picks, among those that wait.
    pub(super) fn find(&self, of: &dyn Fn(&M) -> bool) -> Option<(usize, Timestamp)> {
        let mut before = 0;
        for place in &self.posts {
            if let State::Waits(message) = &place.state.lock().0 {
                if of(message) {
                    return Some((before, place.since));
                }
                before += 1;
            }
        }
        None
    }
}
