//! The printed document: names, labels and samples. Targets and verdicts are its reader's.

use serde::Serialize;

use crate::rounds::Competitor;

/// Everything one run prints.
#[derive(Serialize)]
pub(crate) struct Document {
    /// The rows in the order they were measured.
    pub(crate) rows: Vec<Row>,
}

/// One row: ours and its peers, in one unit.
#[derive(Serialize)]
pub(crate) struct Row {
    name: &'static str,
    title: String,
    unit: &'static str,
    ours: Side,
    peers: Vec<Side>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Side {
    label: &'static str,
    samples: Vec<f64>,
}

impl From<Competitor> for Side {
    fn from(competitor: Competitor) -> Self {
        Self {
            label: competitor.label(),
            samples: competitor.samples().to_vec(),
        }
    }
}

impl Row {
    /// Makes a row whose samples are messages per second.
    pub(crate) fn rate(
        name: &'static str,
        title: String,
        ours: Competitor,
        peers: Vec<Competitor>,
    ) -> Self {
        Self::cost(name, title, "/s", ours, peers)
    }

    /// Makes a row whose samples are in `unit`, the less the better.
    pub(crate) fn cost(
        name: &'static str,
        title: String,
        unit: &'static str,
        ours: Competitor,
        peers: Vec<Competitor>,
    ) -> Self {
        Self {
            name,
            title,
            unit,
            ours: ours.into(),
            peers: peers.into_iter().map(Side::from).collect(),
            notes: Vec::new(),
        }
    }

    /// Adds a remark that is printed below the table.
    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }
}
