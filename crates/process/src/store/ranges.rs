//! Which ranges of a store are free: the arithmetic, without the memory.
//!
//! Ranges come in classes, each twice as large as the one before. A free range goes back to the list of its class and
//! serves the next request of that class, so a steady load finds its memory again without any search. Only when no new
//! range fits are larger ones halved and neighbours joined.

use std::collections::VecDeque;

/// A range, free or in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) offset: usize,
    pub(crate) len: usize,
    /// How many bytes from the start may have pages. Those behind have none.
    pub(crate) touched: usize,
}

impl Range {
    fn end(&self) -> usize {
        self.offset + self.len
    }
}

/// Pages to give back, from a range that is out of the lists until [`Ranges::put_back`].
#[derive(Debug)]
pub(crate) struct Surplus {
    range: Range,
    age: u64,
    pub(crate) offset: usize,
    pub(crate) len: usize,
}

/// The free ranges of one class. None is in both lists.
#[derive(Debug, Default)]
struct SizeClass {
    /// Those with pages and when they became free, the oldest first.
    warm: VecDeque<(u64, Range)>,
    cold: Vec<usize>,
}

/// The free ranges of a store.
#[derive(Debug)]
pub(crate) struct Ranges {
    /// The length of the smallest class. Every offset and every length is a multiple of it.
    unit: usize,
    len: usize,
    /// Where the part begins that was never handed out.
    fresh: usize,
    classes: Vec<SizeClass>,
    /// The sum of `touched` over all warm ranges.
    warm_bytes: usize,
    /// Counts releases: what the age of a warm range is measured in.
    releases: u64,
    /// Nothing became free since neighbours were last joined.
    joined: bool,
}

impl Ranges {
    /// `unit` and `len` are powers of two.
    pub(crate) fn new(unit: usize, len: usize) -> Self {
        let classes = (len / unit).ilog2() as usize + 1;
        Self {
            unit,
            len,
            fresh: 0,
            classes: std::iter::repeat_with(SizeClass::default)
                .take(classes)
                .collect(),
            warm_bytes: 0,
            releases: 0,
            joined: false,
        }
    }

    /// Takes a range of at least `len` bytes: one that has pages, else one that had, else a new one.
    pub(crate) fn take(&mut self, len: usize) -> Option<Range> {
        if len > self.len {
            return None;
        }
        let len = len.next_power_of_two().max(self.unit);
        let class = self.class_of(len);
        if let Some(range) = self.take_free(class) {
            return Some(range);
        }
        if len <= self.len - self.fresh {
            let offset = self.fresh;
            self.fresh += len;
            return Some(Range {
                offset,
                len,
                touched: 0,
            });
        }
        self.take_part(class).or_else(|| {
            if self.joined {
                return None;
            }
            self.join();
            self.take_part(class)
        })
    }

    /// Takes back a range that [`Self::take`] gave, `touched` brought up to date.
    pub(crate) fn release(&mut self, range: Range) {
        self.releases += 1;
        self.insert(range);
    }

    /// What is to be given back now because free ranges hold more than `limit` bytes of pages, the oldest first.
    pub(crate) fn surplus(&mut self, limit: usize) -> Option<Surplus> {
        let excess = self.warm_bytes.checked_sub(limit)?;
        if excess == 0 {
            return None;
        }
        let oldest = self
            .classes
            .iter_mut()
            .filter(|class| !class.warm.is_empty())
            .min_by_key(|class| class.warm.front().map(|(age, _)| *age))?;
        let (age, range) = oldest.warm.pop_front()?;
        self.warm_bytes -= range.touched;
        let kept = range.touched.saturating_sub(excess) / self.unit * self.unit;
        Some(Surplus {
            range: Range {
                touched: kept,
                ..range
            },
            age,
            offset: range.offset + kept,
            len: range.touched - kept,
        })
    }

    /// Makes the range of `surplus` free again, once its pages are gone.
    pub(crate) fn put_back(&mut self, surplus: Surplus) {
        let Surplus { range, age, .. } = surplus;
        if range.touched == 0 {
            self.insert(range);
        } else {
            self.warm_bytes += range.touched;
            let class = self.class_of(range.len);
            self.classes[class].warm.push_front((age, range));
            self.joined = false;
        }
    }

    fn class_of(&self, len: usize) -> usize {
        (len / self.unit).ilog2() as usize
    }

    fn insert(&mut self, range: Range) {
        let class = self.class_of(range.len);
        let touched = range.touched.next_multiple_of(self.unit).min(range.len);
        if touched == 0 {
            self.classes[class].cold.push(range.offset);
        } else {
            self.warm_bytes += touched;
            self.classes[class]
                .warm
                .push_back((self.releases, Range { touched, ..range }));
        }
        self.joined = false;
    }

    /// A free range of this very class.
    fn take_free(&mut self, class: usize) -> Option<Range> {
        let len = self.unit << class;
        let lists = &mut self.classes[class];
        // The youngest is the most likely to be in a cache still.
        if let Some((_, range)) = lists.warm.pop_back() {
            self.warm_bytes -= range.touched;
            return Some(range);
        }
        lists.cold.pop().map(|offset| Range {
            offset,
            len,
            touched: 0,
        })
    }

    /// The first part of the smallest free range that is large enough; the rest is free again.
    fn take_part(&mut self, class: usize) -> Option<Range> {
        let mut range = (class..self.classes.len()).find_map(|class| self.take_free(class))?;
        while range.len > self.unit << class {
            let half = range.len / 2;
            self.insert(Range {
                offset: range.offset + half,
                len: half,
                touched: range.touched.saturating_sub(half),
            });
            range.len = half;
            range.touched = range.touched.min(half);
        }
        Some(range)
    }

    /// Joins free neighbours and cuts each stretch anew, into ranges as large as possible.
    fn join(&mut self) {
        let mut free = Vec::new();
        for class in 0..self.classes.len() {
            while let Some(range) = self.take_free(class) {
                free.push(range);
            }
        }
        free.push(Range {
            offset: self.fresh,
            len: self.len - self.fresh,
            touched: 0,
        });
        self.fresh = self.len;
        free.sort_unstable_by_key(|range| range.offset);
        let mut stretches = free.into_iter();
        let Some(mut stretch) = stretches.next() else {
            return;
        };
        for next in stretches {
            if next.offset != stretch.end() {
                self.insert_cut(stretch);
                stretch = next;
                continue;
            }
            if next.touched > 0 {
                // Counts the holes in front of them as pages too: that errs on the side of giving back too much.
                stretch.touched = stretch.len + next.touched;
            }
            stretch.len += next.len;
        }
        self.insert_cut(stretch);
        self.joined = true;
    }

    fn insert_cut(&mut self, mut stretch: Range) {
        while stretch.len > 0 {
            let len = 1 << stretch.len.ilog2();
            self.insert(Range {
                offset: stretch.offset,
                len,
                touched: stretch.touched.min(len),
            });
            stretch.offset += len;
            stretch.len -= len;
            stretch.touched = stretch.touched.saturating_sub(len);
        }
    }
}
