//! Whose turn it is: what is sent, taken back, begun, and asked to stop.

use super::*;

fn told(link: &SocketChild) -> ToChild<'static> {
    let frame = next(link);
    match decode_for_child(&frame) {
        Ok(ToChild::StopAsked { seq }) => ToChild::StopAsked { seq },
        Ok(ToChild::Quit) => ToChild::Quit,
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_request_at_a_time_is_sent() {
    let (host, child) = ends();
    assert!(!host.runs_ahead());
    for seq in 0..3 {
        offer(&host, seq, b"data");
    }
    begin(&child, 0);
    receive_nothing(&host);
    assert!(host.has_begun(0) && !host.has_begun(1) && !host.has_begun(2));
    answer(&child, 0, b"");
    assert_eq!(receive(&host, 1).len(), 1);
    begin(&child, 1);
    receive_nothing(&host);
    assert!(!host.has_begun(0) && host.has_begun(1) && !host.has_begun(2));
}

/// Reads what the child has said, of which nothing is for the users of the link.
fn receive_nothing(host: &SocketHost) {
    assert_eq!(received(host).expect("a working child"), []);
}

#[test]
fn what_was_sent_and_not_begun_is_not_lost_with_its_child() {
    let (host, child) = ends();
    offer(&host, 0, b"data");
    // It came as far as the child's memory.
    assert!(matches!(
        decode_for_child(&next(&child)),
        Ok(ToChild::Request(_))
    ));
    drop(child);
    receive_nothing(&host);
    assert!(!host.has_begun(0));
    assert!(!host.revoke(0), "the host could not know");
}

#[test]
fn what_was_begun_in_the_last_moment_is_known() {
    let (host, child) = ends();
    offer(&host, 0, b"data");
    begin(&child, 0);
    drop(child);
    receive_nothing(&host);
    assert!(host.has_begun(0));
}

#[test]
fn what_waits_is_taken_back_and_answered_here() {
    let (host, child) = ends();
    for seq in 0..4 {
        offer(&host, seq, b"data");
    }
    begin(&child, 0);
    assert!(!host.revoke(0));
    assert!(host.revoke(1) && host.revoke(3));
    assert!(!host.revoke(1), "revoked twice");
    let began = Instant::now();
    host.wait(Some(LIMIT));
    assert!(began.elapsed() < LIMIT / 2, "the host was not woken");
    let skipped = |seq| Got::Reply(seq, ReplyStatus::Skipped, Vec::new());
    assert_eq!(receive(&host, 2), [skipped(1), skipped(3)]);
    answer(&child, 0, b"");
    assert_eq!(receive(&host, 1).len(), 1);
    begin(&child, 2);
    answer(&child, 2, b"");
    assert_eq!(receive(&host, 1).len(), 1);
    assert!(nothing_for(&child));
}

#[test]
fn the_next_request_comes_when_one_goes_on_in_the_background() {
    let (host, child) = ends();
    for seq in 0..3 {
        offer(&host, seq, b"data");
    }
    begin(&child, 0);
    // Comes back for more without an answer, as for a coroutine.
    assert!(nothing_for(&child));
    receive_nothing(&host);
    begin(&child, 1);
    receive_nothing(&host);
    assert!(host.has_begun(0) && host.has_begun(1) && !host.has_begun(2));
    answer(&child, 0, b"first");
    assert_eq!(
        receive(&host, 1),
        [Got::Reply(0, ReplyStatus::Completed, b"first".to_vec())]
    );
    // Request 1 is in front yet, so this changed nothing.
    answer(&child, 1, b"second");
    assert_eq!(
        receive(&host, 1),
        [Got::Reply(1, ReplyStatus::Completed, b"second".to_vec())]
    );
    assert!(!host.has_begun(2));
    begin(&child, 2);
}

#[test]
fn a_running_handler_sees_that_it_is_to_stop() {
    let (host, child) = ends();
    offer(&host, 0, b"data");
    begin(&child, 0);
    assert!(!child.is_stop_asked(0));
    offer(&host, 1, b"data");
    host.ask_to_stop(0);
    assert!(child.is_stop_asked(0) && child.is_stop_asked(0));
    assert!(!child.is_stop_asked(1));
    answer(&child, 0, b"");
    assert_eq!(receive(&host, 1).len(), 1);
    assert!(!child.is_stop_asked(0));
    // The frames read meanwhile are there, in order.
    assert_eq!(told(&child), ToChild::StopAsked { seq: 0 });
    begin(&child, 1);
    assert!(!child.is_stop_asked(1));
    // Too late, and not kept for ever.
    host.ask_to_stop(0);
    assert!(!child.is_stop_asked(0));
    assert_eq!(told(&child), ToChild::StopAsked { seq: 0 });
    assert!(!child.is_stop_asked(0));
}

/// Often enough that a wake-up that gets lost now and then is lost here.
const ROUNDS: u64 = 2_000;

#[test]
fn frames_found_by_one_thread_wake_the_one_that_receives() {
    let (host, child) = ends();
    offer(&host, 0, b"data");
    begin(&child, 0);
    std::thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            for seq in 1..ROUNDS {
                begin(&child, seq);
                answer(&child, seq, b"");
            }
        });
        // Takes what comes off the socket, and never for itself.
        let looker = scope.spawn(|| {
            while !receiver.is_finished() {
                assert!(!child.is_stop_asked(0));
            }
            receiver.join().expect("no panic");
        });
        for seq in 1..ROUNDS {
            offer(&host, seq, b"data");
            receive(&host, 1);
        }
        looker.join().expect("no panic");
    });
}

#[test]
fn a_sleeping_reader_learns_what_was_taken_back() {
    let (host, child) = ends();
    offer(&host, 0, b"data");
    begin(&child, 0);
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 1..ROUNDS {
                tell.send(receive(&host, 1)).expect("the test listens");
            }
        });
        for seq in 1..ROUNDS {
            offer(&host, seq, b"data");
            assert!(host.revoke(seq));
            let answers = told.recv_timeout(LIMIT / 2).expect("the reader sleeps");
            assert_eq!(answers, [Got::Reply(seq, ReplyStatus::Skipped, Vec::new())]);
        }
    });
}

#[test]
fn a_sleeping_reader_sends_what_was_kept() {
    const LONG: usize = 1 << 20;
    let (host, child) = ends();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| receive(&host, 50).len());
        for seq in 0..50 {
            let began = Instant::now();
            offer(&host, seq, &vec![1; LONG]);
            assert_eq!(begin(&child, seq).len(), LONG);
            assert!(began.elapsed() < LIMIT / 2, "the reader sleeps");
            answer(&child, seq, b"");
        }
        assert_eq!(reader.join().expect("no panic"), 50);
    });
}

#[test]
fn a_request_that_is_asked_to_stop_first_does_not_begin() {
    let (host, child) = ends();
    offer(&host, 0, b"data");
    host.ask_to_stop(0);
    let frame = next(&child);
    assert!(matches!(decode_for_child(&frame), Ok(ToChild::Request(_))));
    assert!(child.is_stop_asked(0));
    assert!(!child.begin(0));
    assert!(
        host.has_begun(0),
        "it must not begin anew elsewhere, whatever became of it here"
    );
}
