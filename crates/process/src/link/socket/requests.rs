//! What the host knows of the requests of one child: which one is at the front, which wait, which have begun.

use std::collections::{BTreeSet, VecDeque};

use crate::frame::{Notice, ReplyStatus};
use crate::link::Broken;

/// What waits until the child comes for it, in order.
#[derive(Debug)]
enum WaitingFrame {
    Request(u64, Vec<u8>),
    Other(Vec<u8>),
}

/// The request that was sent last, while the child has neither ended it nor come for another.
#[derive(Debug)]
struct Front {
    seq: u64,
    begun: bool,
}

#[derive(Debug, Default)]
pub(super) struct Requests {
    front: Option<Front>,
    line: VecDeque<WaitingFrame>,
    /// Begun, and left to themselves by the child.
    background: BTreeSet<u64>,
    /// Asked to stop, or refused by the socket: they must not begin anew in another child.
    spent: BTreeSet<u64>,
    /// Taken back, and the answer to it not given yet.
    skipped: Vec<u64>,
    /// Requests below this were sent.
    sent: u64,
}

impl Requests {
    /// Makes `seq` the front. False: it has to wait.
    pub(super) fn step_up(&mut self, seq: u64) -> bool {
        let free = self.front.is_none() && self.line.is_empty();
        if free {
            self.send(seq);
        }
        free
    }

    fn send(&mut self, seq: u64) {
        self.front = Some(Front { seq, begun: false });
        self.sent = seq.saturating_add(1);
    }

    pub(super) fn request_waits(&mut self, seq: u64, frame: Vec<u8>) {
        self.line.push_back(WaitingFrame::Request(seq, frame));
    }

    /// Keeps a frame behind the requests that wait. False: none does.
    pub(super) fn other_waits(&mut self, frame: &[u8]) -> bool {
        let waits = !self.line.is_empty();
        if waits {
            self.line.push_back(WaitingFrame::Other(frame.to_vec()));
        }
        waits
    }

    /// The next frame that is to be sent.
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        if self.front.is_some() {
            return None;
        }
        match self.line.pop_front()? {
            WaitingFrame::Request(seq, frame) => {
                self.send(seq);
                Some(frame)
            }
            WaitingFrame::Other(frame) => Some(frame),
        }
    }

    /// Takes `seq` back if it still waits.
    pub(super) fn revoke(&mut self, seq: u64) -> bool {
        let place = self.line.iter().position(
            |waiting| matches!(waiting, WaitingFrame::Request(number, _) if *number == seq),
        );
        if let Some(place) = place {
            self.line.remove(place);
            self.skipped.push(seq);
        }
        place.is_some()
    }

    /// Whether there is something to answer that the child never saw.
    pub(super) fn has_skipped(&self) -> bool {
        !self.skipped.is_empty()
    }

    pub(super) fn take_skipped(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.skipped)
    }

    /// Counts `seq` as begun from now on, whatever the child says.
    pub(super) fn spend(&mut self, seq: u64) {
        self.spent.insert(seq);
    }

    pub(super) fn has_begun(&self, seq: u64) -> bool {
        self.background.contains(&seq)
            || self.spent.contains(&seq)
            || self
                .front
                .as_ref()
                .is_some_and(|front| front.seq == seq && front.begun)
    }

    /// Takes in what the child says of a request.
    ///
    /// # Errors
    /// [`Broken::Nonsense`]: it was not sent this request.
    pub(super) fn notice(&mut self, notice: Notice) -> Result<(), Broken> {
        match notice {
            Notice::Began { seq } => match &mut self.front {
                Some(front) if front.seq == seq && !front.begun => front.begun = true,
                _ => return Err(strange("began", seq)),
            },
            Notice::Free { seq } => match &self.front {
                Some(front) if front.seq == seq && front.begun => {
                    self.front = None;
                    self.background.insert(seq);
                }
                Some(front) if front.seq == seq => {
                    // It fails with the child: another one would say the same of it.
                    self.spend(seq);
                    return Err(strange("left", seq));
                }
                // Another thread of the child may have answered the request in the meantime.
                _ if seq < self.sent && !self.background.contains(&seq) => {}
                _ => return Err(strange("left", seq)),
            },
        }
        Ok(())
    }

    /// Takes in that the child has answered a request.
    ///
    /// # Errors
    /// [`Broken::Nonsense`]: it was not sent this request, has answered it, or skips what it has begun, or answers what
    /// it has not.
    pub(super) fn answered(&mut self, seq: u64, status: ReplyStatus) -> Result<(), Broken> {
        let skipped = status == ReplyStatus::Skipped;
        let front = self.front.take_if(|front| front.seq == seq);
        let begun = match front {
            Some(front) => front.begun,
            None if self.background.remove(&seq) => true,
            None => return Err(strange("answered", seq)),
        };
        if skipped == begun {
            // It stays known as begun, so that it fails with the child rather than run again.
            self.spend(seq);
            return Err(strange(if skipped { "skipped" } else { "answered" }, seq));
        }
        self.spent.remove(&seq);
        Ok(())
    }
}

fn strange(did: &str, seq: u64) -> Broken {
    Broken::Nonsense(format!("it {did} message {seq}, which was not its turn"))
}
