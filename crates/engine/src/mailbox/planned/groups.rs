//! Groups: which messages of a lane run together, and how long the first of them waits for the others.

use super::lanes::KeyLane;
use super::{is_queued, meter_of};
use crate::clock::Timestamp;
use crate::mailbox::claimed::Others;
use crate::mailbox::entry::{Entry, Leftover, Punctual, buried};
use crate::message::Message;
use crate::plan::{Group, Meter};

impl<M: Message> KeyLane<M> {
    /// Until when the first message waits for company, which it does not have yet. One that was taken before does not.
    pub(super) fn waits_until(&self) -> Option<Timestamp> {
        let first = self.first().filter(|first| is_queued(&first.message))?;
        if self.was_tried() {
            return None;
        }
        let plan = first.message.plan()?;
        let until = plan.more().alone_at?;
        let group = plan.more().group.as_deref()?;
        (!self.has_company(group)).then_some(until)
    }

    /// Whether the first message need not wait for more, now that another one came.
    pub(super) fn is_complete(&self) -> bool {
        let group = self.first().and_then(group_of);
        // Nearly always the last one is of the group, and too few are here.
        self.was_tried()
            || group.is_none_or(|group| {
                let few = self.len() < group.size();
                let last = self.last();
                !(few && last.is_none_or(|last| is_of(last, group))) && self.has_company(group)
            })
    }

    /// Whether as many are here as run together, or no more can come because another message follows them.
    fn has_company(&self, group: &Group) -> bool {
        let mut here = 0;
        for entry in self.all() {
            if is_queued(&entry.message) {
                if !is_of(entry, group) {
                    return true;
                }
                here += 1;
                if here == group.size() {
                    return true;
                }
            }
        }
        false
    }

    /// Takes those that run together with `leader`, which has left the lane: what follows it of its group, as many as its
    /// meter and that of the worker let begin now. Claimed.
    pub(super) fn pop_others(
        &mut self,
        leader: &Entry<M>,
        of_worker: Option<&Meter>,
        punctual: &mut Punctual<'_>,
        tombstones: &mut usize,
        leftovers: &mut Vec<Leftover<M>>,
    ) -> Others<M> {
        let mut others = Others::none();
        let Some(group) = group_of(leader) else {
            return others;
        };
        while others.entries.len() + 1 < group.size()
            && let Some(next) = self.first().filter(|next| is_of(next, group))
        {
            if punctual.expires(&next.message) {
                others.expired += 1;
                leftovers.extend(self.pop().map(|entry| buried(entry.message)));
                continue;
            }
            if let Some(at) = self.rests_until()
                && at > punctual.now()
                && is_queued(&next.message)
            {
                break;
            }
            let mut meters = meter_of(next).into_iter().chain(of_worker);
            if meters.any(|meter| meter.next(punctual.now()) > punctual.now()) {
                break;
            }
            let claimed = next.message.claim();
            let Some(entry) = self.pop() else { break };
            if !claimed {
                *tombstones -= 1;
                leftovers.push(buried(entry.message));
                continue;
            }
            for meter in meter_of(&entry).into_iter().chain(of_worker) {
                meter.reserve(punctual.now());
            }
            others.entries.push(entry);
        }
        others
    }
}

fn group_of<M: Message>(entry: &Entry<M>) -> Option<&Group> {
    entry.message.plan()?.more().group.as_deref()
}

fn is_of<M: Message>(entry: &Entry<M>, group: &Group) -> bool {
    group_of(entry).is_some_and(|own| own.is_same(group))
}
