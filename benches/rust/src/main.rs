//! Prints the Rust rows of the comparison as one JSON document: `pytoweb-benches [--quick]`.
//!
//! Every side gets the same work: a handler that adds one to a `u64`, and every reply is waited
//! for. Ours and the peers alternate, round by round, in one process.

mod floor;
mod kameo_peer;
mod ours;
mod ractor_peer;
mod rayon_peer;
mod report;
mod rounds;

use report::{Document, Row};
use rounds::{Competitor, Plan, alternate, median_us};

/// Messages asked before the first reply is waited for.
const ASKED: usize = 500_000;
/// Blocking round trips of one round.
const TRIPS: usize = 20_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let plan = Plan::new(std::env::args().any(|argument| argument == "--quick"));
    let rows = vec![
        ask_actors("rust-ask-actors", plan, Some(plan.count(ASKED))),
        ask_actors("rust-ask-default", plan, None),
        ask_rayon(plan),
        round_trip(plan),
    ];
    serde_json::to_writer(std::io::stdout().lock(), &Document { rows })?;
    Ok(())
}

/// Ask and reply of one worker against one actor, each actor library on one and on two threads.
fn ask_actors(name: &'static str, plan: Plan, capacity: Option<usize>) -> Row {
    let count = plan.count(ASKED);
    let mut ours = Competitor::new("pytoweb Worker, pool of 1", ours::ask_all(1, capacity));
    let mut peers = vec![
        Competitor::new("kameo, 1 thread", kameo_peer::ask_all(1)),
        Competitor::new("kameo, 2 threads", kameo_peer::ask_all(2)),
        Competitor::new("ractor, 1 thread", ractor_peer::ask_all(1)),
        Competitor::new("ractor, 2 threads", ractor_peer::ask_all(2)),
    ];
    alternate(&mut ours, &mut peers, count, plan);
    Row::rate(name, format!("Rust: ask + reply of {count}"), ours, peers)
        .note("actors: unbounded mailboxes, default features; the best of the four is the peer")
        .note(if capacity.is_some() {
            ours::UNBOUNDED_NOTE
        } else {
            ours::CAPACITY_NOTE
        })
}

/// Ask and reply of one worker against a closure and a oneshot channel per message.
fn ask_rayon(plan: Plan) -> Row {
    let count = plan.count(ASKED);
    let mut ours = Competitor::new("pytoweb Worker, pool of 1", ours::ask_all(1, None));
    let mut peers = vec![Competitor::new(
        "rayon spawn + oneshot, 1 thread",
        rayon_peer::spawn_all(1),
    )];
    let mut floor = Competitor::new(
        "crossbeam-channel, boxed closure + oneshot",
        floor::send_all(),
    );
    alternate(&mut ours, peers.iter_mut().chain([&mut floor]), count, plan);
    let shown = format!("{:.2} M/s", floor.median() / 1e6);
    Row::rate(
        "rust-ask-rayon",
        format!("Rust: ask + reply of {count}"),
        ours,
        peers,
    )
    .note(format!("for scale: {} {shown}", floor.label()))
    .note(ours::CAPACITY_NOTE)
}

/// One question at a time, from the call to its reply.
fn round_trip(plan: Plan) -> Row {
    let count = plan.count(TRIPS);
    let mut ours = Competitor::new(
        "pytoweb ask().wait(), pool of 1",
        median_us(ours::ask_one()),
    );
    let mut peers = vec![Competitor::new(
        "rayon spawn + oneshot, 1 thread",
        median_us(rayon_peer::spawn_one()),
    )];
    alternate(&mut ours, &mut peers, count, plan);
    Row::cost(
        "rust-round-trip",
        format!("Rust: round trip p50 of {count}"),
        "us",
        ours,
        peers,
    )
}
