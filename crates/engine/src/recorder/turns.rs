//! When threads were busy with workers.
//!
//! Most turns of quick handlers are too short to be seen each for itself, and there may be 100 000 in a second. Those of a
//! lane that follow each other within a *gap* are one; once there are too many, the gap doubles.

/// How many are kept.
const MOST: usize = 20_000;
/// The gap at first: as long as the shortest break that a picture of a second shows.
const FIRST_GAP: u64 = 200_000;

/// A time in which a thread was busy, without breaks longer than the gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusyBar {
    /// Where.
    pub lane: u32,
    /// With which worker; `None`: with several.
    pub worker: Option<u32>,
    /// When it began.
    pub begin: u64,
    /// When it ended.
    pub end: u64,
    /// For how long of that it was, without the breaks.
    pub nanos: u64,
}

#[derive(Debug)]
pub(super) struct Turns {
    kept: Vec<BusyBar>,
    /// By lane the place of its last one.
    last: Vec<Option<usize>>,
    gap: u64,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            kept: Vec::new(),
            last: Vec::new(),
            gap: FIRST_GAP,
        }
    }
}

impl Turns {
    pub(super) fn add(&mut self, lane: u32, worker: u32, begin: u64, end: u64) {
        self.put(BusyBar {
            lane,
            worker: Some(worker),
            begin,
            end,
            nanos: end.saturating_sub(begin),
        });
        while self.kept.len() >= MOST {
            self.gap *= 2;
            let kept = std::mem::take(&mut self.kept);
            self.last.clear();
            for busy in kept {
                self.put(busy);
            }
        }
    }

    fn put(&mut self, busy: BusyBar) {
        let lane = busy.lane as usize;
        if self.last.len() <= lane {
            self.last.resize(lane + 1, None);
        }
        if let Some(last) = self.last[lane].and_then(|place| self.kept.get_mut(place))
            && busy.begin.saturating_sub(last.end) <= self.gap
        {
            let is_same = last.worker == busy.worker;
            // Of different workers those are one that could not be told apart.
            if is_same || busy.end.saturating_sub(last.begin) <= self.gap {
                last.end = last.end.max(busy.end);
                last.nanos += busy.nanos;
                if !is_same {
                    last.worker = None;
                }
                return;
            }
        }
        self.last[lane] = Some(self.kept.len());
        self.kept.push(busy);
    }

    pub(super) const fn gap(&self) -> u64 {
        self.gap
    }

    pub(super) fn into_kept(self) -> Vec<BusyBar> {
        self.kept
    }
}
