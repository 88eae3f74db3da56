//! Tallies of messages that no registered handler gets: closures, and messages of unknown kinds.

use std::sync::{Arc, Mutex};

use pytoweb_engine::{Tally, TypeStats};

use crate::lock::lock;

/// Kinds that have a tally of their own. Senders choose the names of unknown kinds, and may choose ever new ones.
const MOST_KINDS: usize = 64;
/// What all others are counted under.
const OTHERS: &str = "(others)";

/// Tallies by name.
#[derive(Default)]
pub(crate) struct Strays(Mutex<Vec<(Box<str>, Arc<Tally>)>>);

impl Strays {
    pub(crate) fn tally(&self, kind: &str) -> Arc<Tally> {
        let mut tallies = lock(&self.0);
        let known = |kind: &str| tallies.iter().find(|(name, _)| **name == *kind);
        let full = tallies.len() >= MOST_KINDS;
        let found = known(kind).or_else(|| known(OTHERS).filter(|_| full));
        if let Some((_, tally)) = found {
            return tally.clone();
        }
        let tally = Arc::<Tally>::default();
        let name = if full { OTHERS } else { kind };
        tallies.push((name.into(), tally.clone()));
        tally
    }

    pub(crate) fn each_tally(&self, see: &mut dyn FnMut(&Tally)) {
        lock(&self.0).iter().for_each(|(_, tally)| see(tally));
    }

    pub(crate) fn stats(&self) -> Vec<(String, TypeStats)> {
        let tallies = lock(&self.0);
        let each = tallies.iter();
        each.map(|(name, tally)| (name.to_string(), tally.stats()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use pytoweb_engine::Outcome;

    use super::*;

    #[test]
    fn names_beyond_a_limit_share_a_tally() {
        let strays = Strays::default();
        for number in 0..3 * MOST_KINDS {
            strays.tally(&number.to_string()).count(Outcome::Failed);
            strays.tally("0").count(Outcome::Completed);
        }
        let stats = strays.stats();
        assert_eq!(stats.len(), MOST_KINDS + 1);
        let total: u64 = stats.iter().map(|(_, stats)| stats.failed).sum();
        assert_eq!(total, 3 * MOST_KINDS as u64);
        assert_eq!(stats[0].1.completed, 3 * MOST_KINDS as u64);
        assert_eq!(stats[MOST_KINDS].0, OTHERS);
    }
}
