//! Finding one message in the order by plans: see `mailbox/found.rs`.

use super::lanes::{KeyLane, LaneId};
use super::{Message, Planned, Sleeper, Timestamp, Tried};
use crate::clock::Clock;
use crate::mailbox::found::{Found, among, is_living};
use crate::whereabouts::Waits;

impl<M: Message> Planned<M> {
    /// The message that `of` picks. `Err`: how many could run that are here.
    pub(in crate::mailbox) fn find(
        &mut self,
        of: &dyn Fn(&M) -> bool,
        clock: &dyn Clock,
    ) -> Result<Found, usize> {
        self.take_all_in();
        let now = clock.now();
        for (bed, sleeper) in &self.asleep {
            if let Sleeper::Message(entry, tried) = sleeper
                && is_living(&entry.message)
                && of(&entry.message)
            {
                let left = bed.0.since(now);
                let why = match tried {
                    Tried::Before => Waits::Retry(left),
                    Tried::Never => Waits::Delay(left),
                };
                return Ok(found(0, entry.posted_at, why));
            }
        }
        for (message, posted, place) in self.ready.ones() {
            if is_living(message) && of(message) {
                let ahead = self.ready.before(place);
                return Ok(found(ahead, posted, self.for_turn(ahead, now)));
            }
        }
        for (id, lane) in self.lanes.all() {
            let messages = lane.all().map(|entry| (&entry.message, entry.posted_at));
            if let Ok((behind, posted)) = among(messages, of) {
                return Ok(self.in_lane(id, lane, (behind, posted), now));
            }
        }
        Err(self.len)
    }

    /// Whether an entry here is the one that is looked for.
    pub(in crate::mailbox) fn any(&self, is_it: &dyn Fn(&M) -> bool) -> bool {
        let asleep = self.asleep.values().filter_map(|sleeper| match sleeper {
            Sleeper::Message(entry, _) => Some(&entry.message),
            Sleeper::Lane(_) => None,
        });
        let ready = self.ready.ones().map(|(message, ..)| message);
        let lanes = self.lanes.all().flat_map(|(_, lane)| lane.all());
        let lanes = lanes.map(|entry| &entry.message);
        let fetched = self.fetched.iter().map(|(message, _)| message);
        let mut all = asleep.chain(ready).chain(lanes).chain(fetched);
        all.any(is_it)
    }

    /// Why a unit that could run does not.
    fn for_turn(&self, ahead: usize, now: Timestamp) -> Waits {
        let Some(meter) = &self.meter else {
            return Waits::Turn;
        };
        let places = u32::try_from(ahead).unwrap_or(u32::MAX);
        let next = meter.next(now).since(now);
        // After the burst one begins in each interval.
        match (ahead, next) {
            (_, next) if next.is_zero() => Waits::Turn,
            (0, next) => Waits::Rate(next),
            _ => Waits::Rate(next.saturating_add(meter.rate().interval().saturating_mul(places))),
        }
    }

    fn in_lane(
        &self,
        id: LaneId,
        lane: &KeyLane<M>,
        (behind, posted): (usize, Option<Timestamp>),
        now: Timestamp,
    ) -> Found {
        if !lane.is_shared() && lane.running > 0 {
            return Found {
                key: Some(lane.key().clone()),
                ..found(behind, posted, Waits::Key)
            };
        }
        let asleep = self.asleep.iter().find_map(|(bed, sleeper)| match sleeper {
            Sleeper::Lane(own) if *own == id => Some(bed.0.since(now)),
            _ => None,
        });
        if let Some(left) = asleep {
            let why = if lane.waiting.is_some() {
                Waits::Company(left)
            } else if lane.rests_until().is_some() {
                Waits::Retry(left)
            } else {
                let interval = lane.first().and_then(super::meter_of);
                let interval = interval.map(|meter| meter.rate().interval());
                let places = u32::try_from(behind).unwrap_or(u32::MAX);
                Waits::Rate(
                    left.saturating_add(interval.unwrap_or_default().saturating_mul(places)),
                )
            };
            return found(behind, posted, why);
        }
        let place = self.ready.of_lane(id);
        let ahead = behind + place.map_or(0, |place| self.ready.before(place));
        found(ahead, posted, self.for_turn(ahead, now))
    }
}

const fn found(ahead: usize, posted: Option<Timestamp>, why: Waits) -> Found {
    Found {
        ahead,
        posted,
        why,
        key: None,
    }
}
