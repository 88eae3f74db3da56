//! Runs competitors in turn, so that drift of the machine falls on all of them alike.

use std::time::Instant;

/// Rounds of a full run: each figure is the median of as many samples.
const ROUNDS: usize = 5;
/// Rounds of a smoke run.
const QUICK_ROUNDS: usize = 3;
/// A smoke run has this many times fewer messages.
const QUICK_DIVISOR: usize = 20;

/// How much is measured.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    quick: bool,
    alone: bool,
    rounds: usize,
}

impl Plan {
    /// Makes the plan of a full or of a smoke run. `alone`: peers do not run, and have no samples. `samples` of each side,
    /// or as many as such a run takes.
    pub(crate) fn new(quick: bool, alone: bool, samples: Option<usize>) -> Self {
        let rounds = if quick { QUICK_ROUNDS } else { ROUNDS };
        Self {
            quick,
            alone,
            rounds: samples.unwrap_or(rounds),
        }
    }

    /// Returns how many messages one sample has, given the number of a full run.
    pub(crate) const fn count(self, full: usize) -> usize {
        if self.quick {
            full / QUICK_DIVISOR
        } else {
            full
        }
    }
}

/// One side of a row: what it runs, given the number of messages, and the samples so far.
pub(crate) struct Competitor {
    label: &'static str,
    run: Box<dyn FnMut(usize) -> f64>,
    samples: Vec<f64>,
}

impl Competitor {
    /// Takes a set-up side; `run` does the work and returns its sample.
    pub(crate) fn new(label: &'static str, run: impl FnMut(usize) -> f64 + 'static) -> Self {
        Self {
            label,
            run: Box::new(run),
            samples: Vec::new(),
        }
    }

    /// Returns what the table calls this side.
    pub(crate) const fn label(&self) -> &'static str {
        self.label
    }

    /// Returns the samples in the order of the rounds.
    pub(crate) fn samples(&self) -> &[f64] {
        &self.samples
    }

    /// Returns the median sample; not a number where it did not run.
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

/// Samples all sides round by round; every second round has them in reverse order.
pub(crate) fn alternate<'a>(
    ours: &'a mut Competitor,
    peers: impl IntoIterator<Item = &'a mut Competitor>,
    count: usize,
    plan: Plan,
) {
    let peers = peers.into_iter().filter(|_| !plan.alone);
    let mut order: Vec<&mut Competitor> = std::iter::once(ours).chain(peers).collect();
    for side in &mut order {
        // Untimed, in full: the first round also pays for the growth of the heap.
        (side.run)(count);
    }
    for _ in 0..plan.rounds {
        for side in &mut order {
            let sample = (side.run)(count);
            side.samples.push(sample);
        }
        order.reverse();
    }
}

/// Times `work` and returns messages per second.
pub(crate) fn rate(count: usize, work: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    work();
    count as f64 / begin.elapsed().as_secs_f64()
}

/// Makes a sample out of a single round trip: the median of as many as asked for, in microseconds.
pub(crate) fn median_us(mut trip: impl FnMut(u64) + 'static) -> impl FnMut(usize) -> f64 {
    move |count| {
        let mut taken: Vec<f64> = (0..count as u64)
            .map(|number| {
                let begin = Instant::now();
                trip(number);
                begin.elapsed().as_secs_f64() * 1e6
            })
            .collect();
        taken.sort_by(f64::total_cmp);
        taken[taken.len() / 2]
    }
}
