//! With the feature `tracing`, failures that nothing else is told of are events.

use std::fmt::{self, Write};
use std::sync::{Mutex, Once, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use pytoweb_workers::{HandClock, Worker};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Until that long after the start of a wait at most.
const LIMIT: Duration = Duration::from_secs(20);

static EVENTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Writes down every warning and error.
struct Notes;

impl Subscriber for Notes {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut fields = Fields(format!("{} {}", metadata.target(), metadata.level()));
        event.record(&mut fields);
        EVENTS
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(fields.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

fn notes() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tracing::subscriber::set_global_default(Notes).expect("the first one");
    });
}

#[test]
fn a_failure_is_an_event_with_its_worker_and_kind() {
    notes();
    let worker = Worker::new("parser");
    worker.on_message("parse", |text: String| text.parse::<u64>());
    worker.start().expect("it starts");
    worker
        .post_message("parse", "seven".to_owned())
        .expect("it is accepted");
    worker.stop();
    let events = EVENTS.lock().unwrap_or_else(PoisonError::into_inner);
    let of_it = |event: &&String| event.contains("worker=\"parser\"");
    let [event] = events.iter().filter(of_it).collect::<Vec<_>>()[..] else {
        panic!("one event: {events:?}");
    };
    assert!(event.starts_with("pytoweb_workers ERROR"), "{event}");
    for part in ["kind=\"parse\"", "invalid digit"] {
        assert!(event.contains(part), "{event}");
    }
}

#[test]
fn a_handler_that_is_stuck_is_an_event_with_its_worker() {
    notes();
    let clock = HandClock::new();
    let worker = Worker::builder("slow")
        .stuck_after(Duration::from_secs(30))
        .clock(&clock)
        .build();
    let (begun, begins) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel::<()>();
    worker.on_message("wait", move |(): ()| {
        begun.send(()).expect("the test waits");
        goes_on.recv()
    });
    worker.start().expect("it starts");
    worker.post_message("wait", ()).expect("it is accepted");
    begins.recv_timeout(LIMIT).expect("it runs");
    clock.advance(Duration::from_secs(31));
    let events = || EVENTS.lock().unwrap_or_else(PoisonError::into_inner);
    let is_told = || events().iter().any(|event| event.contains("slow"));
    let end = Instant::now() + LIMIT;
    while !is_told() && Instant::now() < end {
        thread::yield_now();
    }
    go_on.send(()).expect("it waits");
    worker.stop();
    let events = events();
    let of_it = |event: &&String| event.contains("worker=\"slow\"");
    let [event] = events.iter().filter(of_it).collect::<Vec<_>>()[..] else {
        panic!("one event: {events:?}");
    };
    assert!(event.starts_with("pytoweb_workers WARN"), "{event}");
    let text = "a handler of `wait` has run for 31.0 s; it counts as stuck after 30 s";
    assert!(event.contains(text), "{event}");
}
