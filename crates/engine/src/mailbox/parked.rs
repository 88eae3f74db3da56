//! Parked posts: the line of senders before a full mailbox.
//!
//! A sender that waits for a place leaves its message in the line. The thread that frees a place moves the first one in,
//! under the locks under which it freed the place. So no place is free while a post is parked: senders get in in the
//! order in which they came, and each of them is woken once, when its message is in.
//!
//! A parked post is not in the mailbox yet: it counts as nothing, and its deadline is watched from the moment it is in.

use std::sync::Arc;

use super::Mailbox;
use super::inbox::{Gate, Inbox};
use super::line::{LinePlace, Told};
use super::outbox::Outbox;
use super::post::{keep_planned, replace, replaces};
use crate::clock::{Clock, Timestamp};
use crate::message::Message;
use crate::sync::MutexGuard;

/// A post that finds a full mailbox.
#[derive(Debug)]
pub(crate) enum Parking<M> {
    /// There was a place after all. With the tokens handed out.
    Posted(usize),
    Parked(Arc<LinePlace<M>>),
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
        let place = Arc::new(LinePlace::new(message, clock.now(), deadline));
        outbox.line.push(place.clone());
        inbox.admission.set_waited_for(true);
        Parking::Parked(place)
    }

    /// Takes a parked post out of the line; `None`: it is in, or was refused.
    ///
    /// It may have waited for more bytes than those behind it need.
    pub(crate) fn withdraw(&self, place: &LinePlace<M>) -> (Option<M>, Told<M>) {
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
        if let Some(news) = told.news_mut() {
            news.deadlines = deadlines;
            news.replaced = replaced;
            news.activate = activate;
        }
        told
    }
}
