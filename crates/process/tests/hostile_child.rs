//! Children that say what their host knows to be false: each is ended, every message ends, and the next child works.
//!
//! This program is its own child: a fleet starts it with the argument `child`. Which lie it tells, the kind of a message
//! says, so one child works until it is asked for one.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "what tests share fails like they do")]
#![expect(
    clippy::print_stdout,
    reason = "there is no harness that says which test ran"
)]

#[cfg(not(pytoweb_loom))]
#[path = "hostile_child/child.rs"]
mod child;
#[cfg(not(pytoweb_loom))]
#[path = "hostile_child/host.rs"]
mod host;

#[cfg(not(pytoweb_loom))]
use pytoweb_process::Transport;

#[cfg(not(pytoweb_loom))]
fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "child") {
        child::run();
        return;
    }
    for transport in host::TRANSPORTS {
        let more = (transport == Transport::Socket).then_some(child::LIE_OF_A_SOCKET);
        for lie in child::LIES.into_iter().chain(more) {
            host::a_lie_ends_its_child(transport, lie);
            println!("test {lie}, {transport:?} ... ok");
        }
        host::what_was_taken_back_does_not_come_back(transport);
        println!("test what_was_taken_back_does_not_come_back, {transport:?} ... ok");
        host::what_is_late_is_not_sent(transport);
        println!("test what_is_late_is_not_sent, {transport:?} ... ok");
        host::a_message_that_makes_every_child_lie_ends(transport);
        println!("test a_message_that_makes_every_child_lie_ends, {transport:?} ... ok");
    }
}

#[cfg(pytoweb_loom)]
fn main() {}
