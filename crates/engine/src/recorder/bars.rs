//! Bars: the messages that are kept.
//!
//! Once there are too many, half of the shortest ones are let go, as many times as it takes. Those that are alike in length
//! (within a doubling) are a class, and of each class every so-manieth message is kept, from the first one to the last: the
//! choice is even over time, and a long message is not lost among a million short ones.

use super::Fate;

/// Classes by the length of the run: one for each doubling.
const CLASSES: usize = 64;
/// Fewer are no bound that a picture could be made of.
const LEAST: usize = 1_024;

/// A message that ran; times in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// When it began.
    pub begin: u64,
    /// How long it ran.
    pub run: u64,
    /// How long it waited, if that is known.
    pub wait: Option<u64>,
    /// Where.
    pub lane: u32,
    /// Its worker.
    pub worker: u32,
    /// Its type.
    pub kind: u32,
    /// How many ran together with it, itself included.
    pub together: u32,
    /// How it ended.
    pub fate: Fate,
}

#[derive(Clone, Copy, Debug)]
struct Class {
    seen: u64,
    /// One in so many is kept.
    stride: u64,
}

#[derive(Debug)]
pub(super) struct Bars {
    most: usize,
    kept: Vec<Bar>,
    classes: [Class; CLASSES],
    last_ends: Vec<u64>,
}

fn class_of(run: u64) -> usize {
    (u64::BITS - run.leading_zeros()).min(63) as usize
}

impl Bars {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most: most.max(LEAST),
            kept: Vec::new(),
            classes: [Class { seen: 0, stride: 1 }; CLASSES],
            last_ends: Vec::new(),
        }
    }

    /// When the last one ended in a lane; 0 before.
    pub(super) fn last_end(&self, lane: u32) -> u64 {
        self.last_ends.get(lane as usize).copied().unwrap_or(0)
    }

    pub(super) fn add(&mut self, bar: Bar) {
        let lane = bar.lane as usize;
        if self.last_ends.len() <= lane {
            self.last_ends.resize(lane + 1, 0);
        }
        self.last_ends[lane] = self.last_ends[lane].max(bar.begin + bar.run);
        let class = &mut self.classes[class_of(bar.run)];
        let number = class.seen;
        class.seen += 1;
        if !number.is_multiple_of(class.stride) {
            return;
        }
        if self.kept.len() >= self.most {
            self.thin();
            // It may be of a class that was thinned.
            let class = &self.classes[class_of(bar.run)];
            if !number.is_multiple_of(class.stride) {
                return;
            }
        }
        self.kept.push(bar);
    }

    /// Lets a quarter of them go, or a little more.
    #[cold]
    fn thin(&mut self) {
        let mut counts = [0_usize; CLASSES];
        for bar in &self.kept {
            counts[class_of(bar.run)] += 1;
        }
        let mut halved = [false; CLASSES];
        let mut freed = 0;
        // A class that has few is spared at first: a type of short messages is not to vanish.
        for spared in [self.most / CLASSES, 1] {
            for class in 0..CLASSES {
                if freed < self.most / 4 && !halved[class] && counts[class] > spared {
                    halved[class] = true;
                    self.classes[class].stride *= 2;
                    freed += counts[class] / 2;
                }
            }
        }
        let mut is_odd = [false; CLASSES];
        self.kept.retain(|bar| {
            let class = class_of(bar.run);
            let goes = halved[class] && is_odd[class];
            is_odd[class] = !is_odd[class];
            !goes
        });
    }

    pub(super) fn into_kept(self) -> Vec<Bar> {
        self.kept
    }
}
