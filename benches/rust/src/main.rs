//! Prints the Rust rows of the comparison as one JSON document:
//! `pytoweb-benches [--quick] [--alone] [--samples NUMBER] [--only PART_OF_A_NAME]`. `--alone`: without peers.
//!
//! Every side gets the same work: a handler that adds one to a `u64`, and every reply is waited
//! for. Ours and the peers alternate, round by round, in one process.

mod actix_peer;
mod by_hand;
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
/// Messages posted in one round.
const POSTED: usize = 500_000;
/// Messages posted with a key each.
const KEYS: usize = 1_000_000;
/// Threads that post at the same time.
const PRODUCERS: usize = 4;
/// Blocking round trips of one round.
const TRIPS: usize = 20_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let after = |flag: &str| arguments.iter().skip_while(|part| *part != flag).nth(1);
    let samples = after("--samples")
        .map(|number| number.parse())
        .transpose()?;
    let plan = Plan::new(has("--quick"), has("--alone"), samples);
    let only = after("--only").map_or("", String::as_str);
    let posted = plan.count(POSTED);
    let rows: [(&'static str, &dyn Fn(&'static str) -> Row); 12] = [
        ("rust-ask-actors", &|name| {
            ask_actors(name, plan, Some(plan.count(ASKED)))
        }),
        ("rust-ask-default", &|name| ask_actors(name, plan, None)),
        ("rust-ask-rayon", &|name| ask_rayon(name, plan)),
        ("rust-ask-by-hand", &|name| ask_by_hand(name, plan)),
        ("rust-post", &|name| post(name, plan)),
        ("rust-producers", &|name| producers(name, plan)),
        ("rust-workers-1000", &|name| in_turn(name, plan, 1_000)),
        ("rust-workers-10000", &|name| in_turn(name, plan, 10_000)),
        ("rust-round-trip", &|name| round_trip(name, plan)),
        ("rust-control-priority", &|name| {
            let run = ours::post_urgent();
            control(name, "ten priorities in turn", posted, plan, run)
        }),
        ("rust-control-key", &|name| {
            let run = ours::post_with_few_keys();
            control(name, "16 keys in turn", posted, plan, run)
        }),
        ("rust-control-million-keys", &|name| {
            let run = ours::post_with_keys();
            control(name, "a key each", plan.count(KEYS), plan, run)
        }),
    ];
    let wanted = rows.iter().filter(|(name, _)| name.contains(only));
    let rows = wanted.map(|(name, measure)| measure(name)).collect();
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
        Competitor::new("ractor, 1 thread", ractor_peer::ask_all(1, false)),
        Competitor::new("ractor, 2 threads", ractor_peer::ask_all(2, false)),
        Competitor::new(
            "ractor, 2 threads, from a task",
            ractor_peer::ask_all(2, true),
        ),
    ];
    alternate(&mut ours, &mut peers, count, plan);
    Row::rate(name, format!("Rust: ask + reply of {count}"), ours, peers)
        .note("actors: unbounded mailboxes, kameo with its default features, ractor without; the best is the peer")
        .note(if capacity.is_some() {
            ours::UNBOUNDED_NOTE
        } else {
            ours::CAPACITY_NOTE
        })
}

/// Ask and reply of one worker against a closure and a oneshot channel per message.
fn ask_rayon(name: &'static str, plan: Plan) -> Row {
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
    Row::rate(name, format!("Rust: ask + reply of {count}"), ours, peers)
        .note(format!("for scale: {} {shown}", floor.label()))
        .note(ours::CAPACITY_NOTE)
}

/// Ask and reply of one worker against channels by hand.
fn ask_by_hand(name: &'static str, plan: Plan) -> Row {
    let count = plan.count(ASKED);
    let mut ours = Competitor::new("pytoweb Worker, pool of 1", ours::ask_all(1, None));
    let mut peers = vec![Competitor::new(
        "tokio mpsc + oneshot by hand, 1 thread",
        by_hand::ask_tokio(),
    )];
    alternate(&mut ours, &mut peers, count, plan);
    Row::rate(name, format!("Rust: ask + reply of {count}"), ours, peers).note(ours::CAPACITY_NOTE)
}

/// Posts until all are handled, from one thread.
fn post(name: &'static str, plan: Plan) -> Row {
    let count = plan.count(POSTED);
    let mut ours = Competitor::new("pytoweb Worker, pool of 1", ours::post_from_many(1));
    let mut peers = vec![Competitor::new(
        "crossbeam-channel by hand",
        by_hand::post_crossbeam(),
    )];
    alternate(&mut ours, &mut peers, count, plan);
    Row::rate(
        name,
        format!("Rust: post + handled of {count}"),
        ours,
        peers,
    )
    .note(ours::CAPACITY_NOTE)
}

/// The same from several threads at once.
fn producers(name: &'static str, plan: Plan) -> Row {
    let count = plan.count(POSTED);
    let mut ours = Competitor::new("pytoweb Worker, pool of 1", ours::post_from_many(PRODUCERS));
    let mut peers = vec![Competitor::new(
        "actix",
        actix_peer::post_from_many(PRODUCERS),
    )];
    let mut floor = Competitor::new(
        "crossbeam-channel by hand",
        by_hand::post_from_many(PRODUCERS),
    );
    alternate(&mut ours, peers.iter_mut().chain([&mut floor]), count, plan);
    let shown = format!("{:.2} M/s", floor.median() / 1e6);
    Row::rate(
        name,
        format!("Rust: post + handled of {count} from {PRODUCERS} threads"),
        ours,
        peers,
    )
    .note(format!("for scale: {} {shown}", floor.label()))
    .note(ours::CAPACITY_NOTE)
}

/// Posts to many workers in turn, against posts to one.
fn in_turn(name: &'static str, plan: Plan, workers: usize) -> Row {
    let count = plan.count(POSTED);
    let mut ours = Competitor::new("pytoweb, many workers", ours::post_in_turn(workers));
    let mut peers = vec![Competitor::new(
        "pytoweb, one worker",
        ours::post_in_turn(1),
    )];
    alternate(&mut ours, &mut peers, count, plan);
    Row::cost(
        name,
        format!("Rust: post + handled of {count}, {workers} workers in turn, per message"),
        "ns",
        ours,
        peers,
    )
    .note(ours::CAPACITY_NOTE)
}

/// One question at a time, from the call to its reply.
fn round_trip(name: &'static str, plan: Plan) -> Row {
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
        name,
        format!("Rust: round trip p50 of {count}"),
        "us",
        ours,
        peers,
    )
}

/// Posts that say how they are to be queued, against posts that ask for nothing.
fn control(
    name: &'static str,
    what: &str,
    count: usize,
    plan: Plan,
    run: impl FnMut(usize) -> f64 + 'static,
) -> Row {
    let mut ours = Competitor::new("pytoweb message().post()", run);
    let mut peers = vec![Competitor::new("pytoweb post_message", ours::post_plain())];
    alternate(&mut ours, &mut peers, count, plan);
    Row::cost(
        name,
        format!("Rust: post + handled of {count}, {what}, per message"),
        "ns",
        ours,
        peers,
    )
    .note(ours::CAPACITY_NOTE)
}
