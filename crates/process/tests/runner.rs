//! A worker of the engine whose messages run in a child, with a language of its own: what every language gets from the
//! runner.
//!
//! This program is its own child: a fleet starts it with the argument `child`. What a message asks for, its kind says.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "what tests share fails like they do")]
#![expect(
    clippy::print_stdout,
    reason = "there is no harness that says which test ran"
)]

#[cfg(not(pytoweb_loom))]
#[path = "runner/child.rs"]
mod child;
#[cfg(not(pytoweb_loom))]
#[path = "runner/language.rs"]
mod language;

#[cfg(not(pytoweb_loom))]
use std::time::Instant;

#[cfg(not(pytoweb_loom))]
use pytoweb_engine::{Failure, StopMode};
#[cfg(not(pytoweb_loom))]
use pytoweb_process::Transport;

#[cfg(not(pytoweb_loom))]
use language::{Asked, Host, LIMIT};

#[cfg(pytoweb_loom)]
fn main() {}

#[cfg(not(pytoweb_loom))]
type Test = (&'static str, fn(Transport));

#[cfg(not(pytoweb_loom))]
fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "child") {
        child::run();
        return;
    }
    let tests: [Test; 8] = [
        ("replies_come_back_in_order", replies_come_back_in_order),
        (
            "a_configuration_comes_before_the_next_message",
            a_configuration_comes_before_the_next_message,
        ),
        (
            "a_definition_comes_once_before_the_first_message_that_needs_it",
            a_definition_comes_once_before_the_first_message_that_needs_it,
        ),
        ("a_failure_is_the_language_s", a_failure_is_the_language_s),
        (
            "ends_that_wait_for_a_thread_hold_the_rest_in_the_mailbox",
            ends_that_wait_for_a_thread_hold_the_rest_in_the_mailbox,
        ),
        (
            "a_crash_fails_what_ran_or_tries_it_again",
            a_crash_fails_what_ran_or_tries_it_again,
        ),
        (
            "what_is_ahead_is_brought_back_to_be_cancelled",
            what_is_ahead_is_brought_back_to_be_cancelled,
        ),
        (
            "a_worker_that_stops_withdraws_and_terminates",
            a_worker_that_stops_withdraws_and_terminates,
        ),
    ];
    for transport in [Transport::SharedMemory, Transport::Socket] {
        for (name, test) in tests {
            test(transport);
            println!("test {name}, {transport:?} ... ok");
        }
    }
}

#[cfg(not(pytoweb_loom))]
fn completed(text: &str) -> Result<String, Failure> {
    Ok(format!("completed: {text}"))
}

#[cfg(not(pytoweb_loom))]
fn replies_come_back_in_order(transport: Transport) {
    let host = Host::new(transport);
    let asked: Vec<Asked> = (0..500).map(|_| host.ask("counts")).collect();
    for (number, asked) in asked.iter().enumerate() {
        assert_eq!(asked.reply(&host), completed(&number.to_string()));
    }
    // A plain post has no reply, and the language is told nothing of its end.
    host.post("counts");
    assert_eq!(host.ask("counts").reply(&host), completed("501"));
    assert!(host.worker.wait_idle(Some(LIMIT)).unwrap());
    let counters = host.worker.stats().counters;
    assert_eq!((counters.completed, counters.failed), (502, 0));
    assert_eq!(host.runner.census(), (1, 0));
}

#[cfg(not(pytoweb_loom))]
fn a_configuration_comes_before_the_next_message(transport: Transport) {
    let host = Host::new(transport);
    for version in ["first", "second"] {
        host.configure(version);
        for _ in 0..2 {
            assert_eq!(host.ask("configuration").reply(&host), completed(version));
        }
    }
    // The next child gets it as well.
    assert!(
        host.ask("dies")
            .reply(&host)
            .unwrap()
            .starts_with("crashed: ")
    );
    let reply = host.ask("configuration").reply(&host);
    assert_eq!(reply, completed("second"));
}

#[cfg(not(pytoweb_loom))]
fn a_definition_comes_once_before_the_first_message_that_needs_it(transport: Transport) {
    let host = Host::new(transport);
    let one = language::definition(7);
    for _ in 0..3 {
        let asked = host.ask_with("definitions", 1, Some(&one));
        assert_eq!(asked.reply(&host), completed("[7]"));
    }
    let asked = host.ask_with("definitions", 1, Some(&language::definition(8)));
    assert_eq!(asked.reply(&host), completed("[7, 8]"));
}

#[cfg(not(pytoweb_loom))]
fn a_failure_is_the_language_s(transport: Transport) {
    let host = Host::new(transport);
    let failed = host.ask("fails").reply(&host);
    assert_eq!(failed, Ok("failed: it cannot".to_owned()));
    assert_eq!(host.ask("counts").reply(&host), completed("0"));
    assert!(host.worker.wait_idle(Some(LIMIT)).unwrap());
    let counters = host.worker.stats().counters;
    assert_eq!((counters.completed, counters.failed), (1, 1));
}

#[cfg(not(pytoweb_loom))]
fn ends_that_wait_for_a_thread_hold_the_rest_in_the_mailbox(transport: Transport) {
    /// More than are sent ahead, whatever they take.
    const MANY: usize = 2_000;
    const MOST_IN_FLIGHT: usize = 512;
    let host = Host::new(transport);
    // Quick ones: it knows by then that it may send many ahead.
    for _ in 0..20 {
        host.ask("counts").reply(&host).unwrap();
    }
    assert!(host.worker.wait_idle(Some(LIMIT)).unwrap());
    let (open, gate) = std::sync::mpsc::channel::<()>();
    host.runner.job(move || gate.recv().unwrap());
    let asked = host.ask_all(&["fails"; MANY]);

    // The job holds the only thread. Until no more ends come, none is through, and all have their places.
    let (end, mut before) = (Instant::now() + LIMIT, 0);
    loop {
        host.read_for(&asked[0]);
        let (waiting, counters) = (host.runner.jobs_waiting(), host.worker.stats().counters);
        assert_eq!(counters.failed, 0);
        assert_eq!(counters.queued + counters.running, MANY as u64);
        assert!(waiting <= MOST_IN_FLIGHT, "{waiting} ends wait");
        if waiting > 0 && waiting == before {
            break;
        }
        assert!(Instant::now() < end, "{waiting} ends came");
        before = waiting;
    }

    open.send(()).unwrap();
    for one in &asked {
        assert_eq!(one.reply(&host), Ok("failed: it cannot".to_owned()));
    }
}

#[cfg(not(pytoweb_loom))]
fn a_crash_fails_what_ran_or_tries_it_again(transport: Transport) {
    let host = Host::new(transport);
    let dies = host.ask("dies");
    let behind = host.ask("counts");
    let crash = dies.reply(&host).unwrap();
    assert!(crash.starts_with("crashed: process "), "{crash}");
    assert!(crash.ends_with("exited with code 3"), "{crash}");
    assert_eq!(behind.reply(&host), completed("0"));
    let again = host.ask_with("dies at first", 2, None);
    assert_eq!(again.reply(&host), completed("attempt 2"));
    assert_eq!(host.runner.census(), (1, 2));
}

#[cfg(not(pytoweb_loom))]
fn what_is_ahead_is_brought_back_to_be_cancelled(transport: Transport) {
    let host = Host::new(transport);
    // A worker whose messages are quick may have several on their way.
    assert_eq!(host.ask("counts").reply(&host), completed("0"));
    let asked = host.ask_all(&["waits", "counts", "counts"]);
    assert!(host.cancel(&asked[1]), "it had not begun");
    assert_eq!(asked[1].reply(&host), Err(Failure::Cancelled));
    host.until_begun(&asked[0]);
    assert!(host.cancel(&asked[0]), "it is asked to stop");
    assert_eq!(asked[0].reply(&host), Err(Failure::Cancelled));
    assert_eq!(asked[2].reply(&host), completed("1"));
    assert_eq!(host.runner.census(), (1, 0));
}

#[cfg(not(pytoweb_loom))]
fn a_worker_that_stops_withdraws_and_terminates(transport: Transport) {
    let host = Host::new(transport);
    assert_eq!(host.ask("counts").reply(&host), completed("0"));
    let asked = host.ask_all(&["waits", "counts", "counts"]);
    host.until_begun(&asked[0]);
    assert_eq!(host.worker.close(StopMode::FinishRunning), 2);
    for asked in &asked[1..] {
        assert_eq!(asked.reply(&host), Err(Failure::Stopped));
    }
    host.worker.terminate();
    assert_eq!(asked[0].reply(&host), Err(Failure::Stopped));
    assert!(host.worker.wait_ended(Some(LIMIT)).unwrap());
}
