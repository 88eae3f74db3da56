//! Room: how a sender waits for it, and how it is told.

use std::time::Instant;

use super::Mailbox;
use super::inbox::Gate;
use super::outbox::Outbox;
use crate::contained::contained;
use crate::message::Message;
use crate::sync::{MutexGuard, look_while_yielding};

/// Room that a sender waits for, for a moment, once the mailbox was full: some hundred microseconds of quick messages.
const AMPLE_ROOM: usize = 1024;

/// Called when there is room, or nothing to wait for any more.
pub(crate) type RoomCallback = Box<dyn FnOnce() + Send>;

/// Whether a blocked sender should try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    Yes,
    Closed,
    TimedOut,
}

impl<M: Message> Mailbox<M> {
    /// Gives a mailbox that looks full a moment to make room for more than one message. A sender that went on at the
    /// first would meet the worker at its lock for each message from then on.
    pub(crate) fn dally(&self) {
        let ample = self.capacity.div_ceil(2).min(AMPLE_ROOM);
        look_while_yielding(|| {
            let outbox = self.outbox.0.lock();
            let mut inbox = self.inbox.0.lock();
            inbox.gone_seen = outbox.gone;
            (inbox.gate == Gate::Closed || inbox.room(self.capacity) >= ample).then_some(())
        });
    }

    /// Blocks until there is room, the mailbox closes, or `until` passes. After `Yes` the caller must post at once:
    /// it may have been woken in the place of another sender.
    pub(crate) fn wait_for_room(&self, until: Option<Instant>) -> Room {
        let mut outbox = self.outbox.0.lock();
        loop {
            if let Some(room) = self.room_now(&outbox) {
                return room;
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Room::TimedOut;
            }
            outbox.blocked += 1;
            (outbox, _) = self.room.wait(outbox, left);
            outbox.blocked -= 1;
            outbox.notified = outbox.notified.saturating_sub(1).min(outbox.blocked);
        }
    }

    /// Calls `callback` once there may be room, or nothing to wait for: here and now if so.
    pub(crate) fn on_room(&self, callback: RoomCallback) {
        let mut outbox = self.outbox.0.lock();
        if self.room_now(&outbox).is_none() {
            outbox.room_callbacks.push(callback);
            return;
        }
        drop(outbox);
        callback();
    }

    fn room_now(&self, outbox: &MutexGuard<'_, Outbox<M>>) -> Option<Room> {
        let mut inbox = self.inbox.0.lock();
        inbox.gone_seen = outbox.gone;
        if inbox.gate == Gate::Closed {
            Some(Room::Closed)
        } else if inbox.room(self.capacity) > 0 {
            Some(Room::Yes)
        } else {
            None
        }
    }

    /// Tells senders that so many places have become free.
    pub(crate) fn offer_room(&self, rooms: usize) {
        match rooms {
            0 => {}
            1 => self.release_with_room(self.outbox.0.lock()),
            _ => self.release_with_all_room(self.outbox.0.lock()),
        }
    }

    /// Lets go of the outbox and tells senders that there is room for one more.
    pub(super) fn release_with_room(&self, mut outbox: MutexGuard<'_, Outbox<M>>) {
        let wake = outbox.offer_room();
        // This is once a message, and hardly ever is there one.
        let callbacks =
            (!outbox.room_callbacks.is_empty()).then(|| std::mem::take(&mut outbox.room_callbacks));
        drop(outbox);
        if wake {
            self.room.notify_one();
        }
        if let Some(callbacks) = callbacks {
            call_each(callbacks);
        }
    }

    /// Lets go of the outbox and tells senders that there is room for several more.
    pub(super) fn release_with_all_room(&self, mut outbox: MutexGuard<'_, Outbox<M>>) {
        outbox.notified = outbox.blocked;
        let callbacks = std::mem::take(&mut outbox.room_callbacks);
        drop(outbox);
        self.room.notify_all();
        call_each(callbacks);
    }
}

/// Tells senders that wait for room, with no lock held. One that panics keeps it from no other, and least of all the
/// worker from its turn.
pub(super) fn call_each(callbacks: Vec<RoomCallback>) {
    for callback in callbacks {
        let _ = contained(callback);
    }
}
