//! Handlers that fail and panic: the message fails, the error is told, the worker lives.

mod common;

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::num::ParseIntError;

use common::{LIMIT, Log, assert_settled, get};
use pytoweb_workers::{AskError, Worker, WorkerError, current_message};

fn parser() -> Worker {
    let worker = Worker::new("parser");
    worker.on_message("parse", |text: &str| text.parse::<u64>());
    worker.start().expect("it starts");
    worker
}

#[test]
fn the_handlers_own_error_comes_back_typed() {
    let worker = parser();
    let error = get(worker
        .ask::<&str, u64>("parse", "x")
        .expect("it is accepted"))
    .expect_err("no number");
    assert!(error.downcast_ref::<ParseIntError>().is_some());
    assert!(error.downcast_ref::<io::Error>().is_none());
    assert!(
        error
            .source()
            .is_some_and(|source| source.is::<ParseIntError>())
    );
    let error = error.downcast::<io::Error>().expect_err("of another type");
    let own = error.downcast::<ParseIntError>().expect("of this type");
    assert_eq!(own, "x".parse::<u64>().expect_err("no number"));
}

#[test]
fn texts_and_boxed_errors_are_errors_too() {
    let worker = parser();
    worker.on_message("text", |()| Err::<(), _>("a text"));
    worker.on_message("box", |()| {
        Err::<(), Box<dyn Error + Send + Sync>>(io::Error::other("a box").into())
    });
    for (kind, text) in [("text", "a text"), ("box", "a box")] {
        let error =
            get(worker.ask::<(), ()>(kind, ()).expect("it is accepted")).expect_err("a failure");
        assert_eq!(error.to_string(), format!("the handler failed: {text}"));
    }
}

#[test]
fn a_panic_fails_its_message_only() {
    let worker = parser();
    let mut calls = 0;
    worker.on_message("count", move |panics: bool| {
        calls += 1;
        assert!(!panics, "call {calls} panics");
        Ok::<_, Infallible>(calls)
    });
    let ask = |panics| {
        get(worker
            .ask::<bool, i32>("count", panics)
            .expect("it is accepted"))
    };
    assert_eq!(ask(false).expect("a reply"), 1);
    assert!(matches!(ask(true), Err(AskError::Panicked(text)) if text == "call 2 panics"));
    assert_eq!(
        ask(false).expect("the worker lives, and the handler's state too"),
        3
    );
    worker.run_until_idle(LIMIT).expect("it becomes idle");
    let counters = assert_settled(&worker);
    assert_eq!((counters.completed, counters.failed), (2, 1));
}

#[test]
fn on_error_is_told_of_every_failed_message_on_the_workers_thread() {
    let worker = parser();
    let told = Log::new();
    let log = told.clone();
    worker.on_error(move |error: &WorkerError| {
        let message = current_message().expect("the message that failed");
        assert_eq!(message.kind(), error.kind());
        log.push((error.kind().to_owned(), error.cause().to_string()));
    });
    worker.on_message("panic", |()| -> Result<(), Infallible> {
        panic!("on purpose")
    });
    worker.post_message("parse", "x").expect("it is accepted");
    worker.post_message("panic", ()).expect("it is accepted");
    assert!(
        get(worker
            .ask::<&str, u64>("parse", "")
            .expect("it is accepted"))
        .is_err()
    );
    worker.run_until_idle(LIMIT).expect("it becomes idle");
    let told: Vec<_> = told.items();
    let expected = [
        ("parse", "the handler failed: invalid digit found in string"),
        ("panic", "the handler panicked: on purpose"),
        (
            "parse",
            "the handler failed: cannot parse integer from empty string",
        ),
    ];
    assert!(
        told.iter()
            .map(|(kind, cause)| (&**kind, &**cause))
            .eq(expected)
    );
}

#[test]
fn an_on_error_that_panics_changes_nothing() {
    let worker = parser();
    worker.on_error(|_| panic!("on purpose"));
    let error = get(worker
        .ask::<&str, u64>("parse", "x")
        .expect("it is accepted"))
    .expect_err("no number");
    assert!(matches!(error, AskError::Failed(_)));
    assert_eq!(
        get(worker
            .ask::<&str, u64>("parse", "7")
            .expect("it is accepted"))
        .expect("a number"),
        7
    );
}

#[test]
fn destructors_that_panic_do_not_end_the_worker() {
    #[derive(Debug)]
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }
    let worker = parser();
    worker.on_message("bomb", |()| Ok::<_, Infallible>(Bomb));
    worker.on_message("take", |bomb: Bomb| {
        drop(bomb);
        Ok::<_, Infallible>(())
    });
    // No caller takes the replies.
    worker.post_message("bomb", ()).expect("it is accepted");
    drop(worker.ask::<(), Bomb>("bomb", ()).expect("it is accepted"));
    worker.post_message("take", Bomb).expect("it is accepted");
    worker.run_until_idle(LIMIT).expect("it becomes idle");
    assert_eq!(
        get(worker
            .ask::<&str, u64>("parse", "7")
            .expect("it is accepted"))
        .expect("a number"),
        7
    );
    assert_settled(&worker);
}
