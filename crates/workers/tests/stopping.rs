//! Start, stop, drain, terminate, from outside and from inside.

mod common;

use std::convert::Infallible;
use std::thread;
use std::time::Duration;

use common::{Gate, LIMIT, assert_settled, get, wait_stopped};
use pytoweb_workers::{
    AskError, SendError, StartError, StopOptions, Worker, WorkerState, current_worker,
};

fn doubling(name: &str) -> Worker {
    let worker = Worker::new(name);
    worker.on_message("double", |x: u64| Ok::<_, Infallible>(2 * x));
    worker
}

#[test]
fn posts_before_the_start_wait_for_it_and_start_can_be_repeated() {
    let worker = doubling("early");
    let reply = worker
        .ask::<u64, u64>("double", 21)
        .expect("it is accepted");
    assert_eq!(worker.state(), WorkerState::New);
    assert!(!worker.is_alive() && !reply.is_done());
    worker.start().expect("it starts");
    worker.start().expect("it runs");
    assert_eq!(get(reply).expect("a reply"), 42);
    assert_eq!(worker.state(), WorkerState::Running);
    assert!(worker.is_alive());
}

#[test]
fn stop_finishes_what_is_queued_and_refuses_the_rest() {
    let worker = doubling("drained");
    let replies: Vec<_> = (0..1_000)
        .map(|x| worker.ask::<u64, u64>("double", x).expect("it is accepted"))
        .collect();
    worker.start().expect("it starts");
    wait_stopped(&worker);
    for (x, reply) in (0..).zip(replies) {
        assert!(reply.is_done());
        assert_eq!(get(reply).expect("a reply"), 2 * x);
    }
    assert!(matches!(
        worker.post_message("double", 1_u64),
        Err(SendError::Stopped(1))
    ));
    assert!(matches!(
        worker.ask::<u64, u64>("double", 2),
        Err(SendError::Stopped(2))
    ));
    assert!(
        matches!(worker.post_messages("double", [3_u64]), Err(SendError::Stopped(rest)) if rest == [3])
    );
    assert!(matches!(worker.submit(|| 4), Err(SendError::Stopped(closure)) if closure() == 4));
    assert!(matches!(worker.start(), Err(StartError::Stopped)));
    assert!(!worker.is_alive());
    wait_stopped(&worker);
    assert_eq!(assert_settled(&worker).completed, 1_000);
}

#[test]
fn a_worker_that_never_started_fails_what_is_queued() {
    let worker = doubling("never");
    let reply = worker.ask::<u64, u64>("double", 1).expect("it is accepted");
    wait_stopped(&worker);
    assert!(matches!(get(reply), Err(AskError::Stopped)));
    assert_eq!(assert_settled(&worker).failed, 1);
}

#[test]
fn without_drain_only_the_running_message_is_finished() {
    let worker = doubling("hasty");
    let gate = Gate::new(&worker);
    worker.start().expect("it starts");
    let running = worker
        .ask::<(), bool>(gate.kind, ())
        .expect("it is accepted");
    gate.wait_entered();
    let queued = worker.ask::<u64, u64>("double", 1).expect("it is accepted");
    let options = StopOptions {
        drain: false,
        timeout: Some(LIMIT),
    };
    thread::scope(|scope| {
        let stopping = scope.spawn(|| worker.stop_with(options));
        assert!(matches!(get(queued), Err(AskError::Stopped)));
        assert_eq!(worker.state(), WorkerState::Stopping);
        gate.open();
        stopping.join().expect("no panic").expect("it ends");
    });
    assert!(
        !get(running).expect("it was finished"),
        "it was not asked to stop"
    );
    let counters = assert_settled(&worker);
    assert_eq!((counters.completed, counters.failed), (1, 1));
}

#[test]
fn past_the_timeout_the_rest_fails_and_stop_says_so() {
    let worker = doubling("slow");
    let gate = Gate::new(&worker);
    worker.start().expect("it starts");
    let running = worker
        .ask::<(), bool>(gate.kind, ())
        .expect("it is accepted");
    gate.wait_entered();
    let queued: Vec<_> = (0..3)
        .map(|x| worker.ask::<u64, u64>("double", x).expect("it is accepted"))
        .collect();
    let options = StopOptions {
        timeout: Some(Duration::from_millis(1)),
        ..StopOptions::default()
    };
    let late = worker.stop_with(options).expect_err("the handler runs");
    assert_eq!(late.failed, 3);
    for reply in queued {
        assert!(matches!(get(reply), Err(AskError::Stopped)));
    }
    gate.open();
    get(running).expect("it goes on to its end");
    wait_stopped(&worker);
    assert_settled(&worker);
}

#[test]
fn terminate_abandons_at_once() {
    let worker = doubling("terminated");
    let gate = Gate::new(&worker);
    worker.start().expect("it starts");
    let running = worker
        .ask::<(), bool>(gate.kind, ())
        .expect("it is accepted");
    gate.wait_entered();
    let queued = worker.ask::<u64, u64>("double", 1).expect("it is accepted");
    worker.terminate();
    assert!(matches!(get(running), Err(AskError::Stopped)));
    assert!(matches!(get(queued), Err(AskError::Stopped)));
    assert!(matches!(
        worker.post_message("double", 1_u64),
        Err(SendError::Stopped(1))
    ));
    gate.open();
    wait_stopped(&worker);
    let counters = assert_settled(&worker);
    assert_eq!((counters.completed, counters.failed), (0, 2));
}

#[test]
fn a_plain_post_of_a_terminated_worker_is_asked_to_stop_too() {
    let worker = doubling("terminated");
    let gate = Gate::new(&worker);
    let (say, said) = std::sync::mpsc::channel();
    let (entered, wait_entered) = std::sync::mpsc::channel();
    worker.on_message("loop", move |()| {
        entered.send(()).expect("the test listens");
        let message = pytoweb_workers::current_message().expect("inside a handler");
        while !message.is_cancelled() {
            thread::yield_now();
        }
        say.send(()).expect("the test listens");
        Ok::<_, Infallible>(())
    });
    worker.start().expect("it starts");
    worker.post_message("loop", ()).expect("it is accepted");
    wait_entered.recv_timeout(LIMIT).expect("it runs");
    worker.terminate();
    said.recv_timeout(LIMIT).expect("it saw the request");
    drop(gate);
    wait_stopped(&worker);
}

#[test]
fn stop_and_terminate_from_inside_do_not_wait() {
    for terminate in [false, true] {
        let worker = doubling("suicidal");
        worker.on_message("stop", move |()| {
            let me = current_worker().expect("the test holds a handle");
            if terminate {
                me.terminate();
            } else {
                me.stop();
            }
            Ok::<_, Infallible>(me.state())
        });
        let stopping = worker
            .ask::<(), WorkerState>("stop", ())
            .expect("it is accepted");
        let queued = worker.ask::<u64, u64>("double", 1).expect("it is accepted");
        worker.start().expect("it starts");
        let (stopping, queued) = (get(stopping), get(queued));
        if terminate {
            assert!(matches!(stopping, Err(AskError::Stopped)));
            assert!(matches!(queued, Err(AskError::Stopped)));
        } else {
            assert_eq!(stopping.expect("a reply"), WorkerState::Stopping);
            assert_eq!(queued.expect("what is queued is finished"), 2);
        }
        wait_stopped(&worker);
        assert_settled(&worker);
    }
}

#[test]
fn many_threads_may_stop_at_the_same_time() {
    let worker = doubling("popular");
    worker.start().expect("it starts");
    worker
        .post_messages("double", 0_u64..1_000)
        .expect("they are accepted");
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                worker
                    .stop_with(StopOptions {
                        timeout: Some(LIMIT),
                        ..StopOptions::default()
                    })
                    .expect("it ends")
            });
        }
    });
    assert_eq!(assert_settled(&worker).completed, 1_000);
}
