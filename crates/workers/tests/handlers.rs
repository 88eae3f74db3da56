//! Registering handlers: types, replacement, kinds without a handler.

mod common;

use std::convert::Infallible;
use std::sync::{Arc, mpsc};

use common::{LIMIT, Log, assert_settled, get};
use pytoweb_workers::{AskError, Part, SendError, Worker, current_message, current_worker};

fn started(name: &str) -> Worker {
    let worker = Worker::new(name);
    worker.start().expect("it starts");
    worker
}

#[test]
fn a_wrong_payload_or_reply_type_is_an_error_at_the_call() {
    let worker = started("typed");
    worker.on_message("square", |x: u64| Ok::<_, Infallible>(x * x));
    let Err(SendError::WrongType(data, mismatch)) = worker.post_message("square", "seven") else {
        panic!("the payload does not fit");
    };
    assert_eq!((data, mismatch.part()), ("seven", Part::Payload));
    assert_eq!(
        (mismatch.kind(), mismatch.expected(), mismatch.found()),
        ("square", "u64", "&str")
    );
    let Err(SendError::WrongType(data, mismatch)) = worker.ask::<u64, String>("square", 7) else {
        panic!("the reply does not fit");
    };
    assert_eq!((data, mismatch.part()), (7, Part::Reply));
    let Err(SendError::WrongType(data, _)) = worker.post_messages("square", ["a", "b"]) else {
        panic!("the payloads do not fit");
    };
    assert_eq!(data, ["a", "b"]);
    assert_eq!(worker.stats().counters.posted, 0);
}

#[test]
fn a_handler_registered_later_fails_messages_of_other_types() {
    let worker = Worker::new("typed");
    let errors = Log::new();
    let log = errors.clone();
    worker.on_error(move |error| log.push(error.to_string()));
    let payload = worker
        .ask::<&str, u64>("square", "seven")
        .expect("it is accepted");
    let reply = worker
        .ask::<u64, String>("square", 7)
        .expect("it is accepted");
    let right = worker.ask::<u64, u64>("square", 7).expect("it is accepted");
    worker.post_message("square", 'x').expect("it is accepted");
    worker.on_message("square", |x: u64| Ok::<_, Infallible>(x * x));
    worker.start().expect("it starts");
    assert!(
        matches!(get(payload), Err(AskError::WrongType(mismatch)) if mismatch.part() == Part::Payload)
    );
    assert!(
        matches!(get(reply), Err(AskError::WrongType(mismatch)) if mismatch.part() == Part::Reply)
    );
    assert_eq!(get(right).expect("a reply"), 49);
    worker.run_until_idle(LIMIT).expect("it becomes idle");
    assert_eq!(errors.items().len(), 3);
    assert!(errors.items()[2].contains("takes u64, but the payload is char"));
    let counters = assert_settled(&worker);
    assert_eq!((counters.completed, counters.failed), (1, 3));
}

#[test]
fn a_kind_without_a_handler_is_an_error_of_the_reply() {
    let worker = started("unknown");
    let errors = Log::new();
    let log = errors.clone();
    worker.on_error(move |error| log.push((error.kind().to_owned(), error.worker().to_owned())));
    let reply = worker.ask::<(), ()>("nothing", ()).expect("it is accepted");
    assert!(matches!(get(reply), Err(AskError::Unknown { kind }) if kind == "nothing"));
    worker.post_message("nothing", ()).expect("it is accepted");
    worker.run_until_idle(LIMIT).expect("it becomes idle");
    assert_eq!(
        errors.items(),
        vec![("nothing".to_owned(), "unknown".to_owned()); 2]
    );
    assert_eq!(assert_settled(&worker).failed, 2);
}

#[test]
fn a_handler_can_be_replaced_while_the_worker_runs() {
    let worker = started("replaced");
    worker.on_message("name", |()| Ok::<_, Infallible>("first"));
    assert_eq!(
        get(worker.ask::<(), &str>("name", ()).expect("it is accepted")).expect("a reply"),
        "first"
    );
    worker.on_message("name", |()| Ok::<_, Infallible>("second"));
    assert_eq!(
        get(worker.ask::<(), &str>("name", ()).expect("it is accepted")).expect("a reply"),
        "second"
    );
    worker.on_message("name", |()| Ok::<_, Infallible>(3_u8));
    assert!(matches!(
        worker.ask::<(), &str>("name", ()),
        Err(SendError::WrongType(..))
    ));
    assert_eq!(
        get(worker.ask::<(), u8>("name", ()).expect("it is accepted")).expect("a reply"),
        3
    );
}

#[test]
fn a_handler_can_replace_itself_and_register_others() {
    let worker = started("replaced");
    worker.on_message("step", |()| {
        let me = current_worker().expect("the test holds a handle");
        me.on_message("step", |()| Ok::<_, Infallible>(2));
        me.on_message("other", |()| Ok::<_, Infallible>(3));
        Ok::<_, Infallible>(1)
    });
    for (kind, result) in [("step", 1), ("step", 2), ("other", 3)] {
        let reply = worker.ask::<(), i32>(kind, ()).expect("it is accepted");
        assert_eq!(get(reply).expect("a reply"), result);
    }
}

#[test]
fn a_replaced_handler_is_dropped() {
    let worker = started("replaced");
    let token = Arc::new(());
    let held = token.clone();
    worker.on_message("job", move |()| {
        let _held = &held;
        Ok::<_, Infallible>(())
    });
    get(worker.ask::<(), ()>("job", ()).expect("it is accepted")).expect("a reply");
    worker.run_until_idle(LIMIT).expect("it becomes idle");
    worker.on_message("job", |()| Ok::<_, Infallible>(()));
    assert_eq!(Arc::strong_count(&token), 1);
}

#[test]
fn a_handler_that_is_replaced_while_it_runs_is_dropped_when_the_worker_rests() {
    let worker = started("replaced");
    let token = Arc::new(());
    let held = token.clone();
    let (tell, told) = mpsc::channel();
    let (go_on, gate) = mpsc::channel::<()>();
    worker.on_message("job", move |()| {
        let _held = &held;
        let _ = tell.send(());
        let _ = gate.recv_timeout(LIMIT);
        Ok::<_, Infallible>(())
    });
    worker.post_message("job", ()).expect("it is accepted");
    told.recv_timeout(LIMIT).expect("it runs");
    worker.on_message("job", |()| Ok::<_, Infallible>(()));
    assert_eq!(Arc::strong_count(&token), 2);
    go_on.send(()).expect("the handler waits");
    worker.run_until_idle(LIMIT).expect("it becomes idle");
    assert_eq!(Arc::strong_count(&token), 1);
}

#[test]
fn many_kinds_find_their_handlers() {
    let worker = started("many");
    for number in 0..200_u32 {
        worker.on_message(&format!("kind {number}"), move |x: u32| {
            Ok::<_, Infallible>(x + number)
        });
    }
    for number in 0..200 {
        let kind = format!("kind {number}");
        let reply = worker.ask::<u32, u32>(&kind, 1000).expect("it is accepted");
        assert_eq!(get(reply).expect("a reply"), 1000 + number);
    }
}

#[test]
fn a_handler_knows_its_message_and_its_worker() {
    let worker = started("curious");
    worker.on_message("look", |()| {
        let kind = current_message().map(|message| message.kind().to_owned());
        let name = current_worker().map(|worker| worker.name().to_owned());
        Ok::<_, Infallible>((kind, name))
    });
    let reply = worker
        .ask::<(), (Option<String>, Option<String>)>("look", ())
        .expect("it is accepted");
    let (kind, name) = get(reply).expect("a reply");
    assert_eq!(
        (kind.as_deref(), name.as_deref()),
        (Some("look"), Some("curious"))
    );
    assert!(current_message().is_none() && current_worker().is_none());
}
