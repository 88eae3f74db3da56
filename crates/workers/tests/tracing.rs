//! With the feature `tracing`, failures that nothing else is told of are events.

use std::fmt::{self, Write};
use std::sync::{Mutex, PoisonError};

use pytoweb_workers::Worker;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

static EVENTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Writes down every event that is an error.
struct Notes;

impl Subscriber for Notes {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        assert_eq!(*event.metadata().level(), Level::ERROR);
        let mut fields = Fields(event.metadata().target().to_owned());
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

#[test]
fn a_failure_is_an_event_with_its_worker_and_kind() {
    tracing::subscriber::set_global_default(Notes).expect("the first one");
    let worker = Worker::new("parser");
    worker.on_message("parse", |text: String| text.parse::<u64>());
    worker.start().expect("it starts");
    worker
        .post_message("parse", "seven".to_owned())
        .expect("it is accepted");
    worker.stop();
    let events = EVENTS.lock().unwrap_or_else(PoisonError::into_inner);
    let [event] = events.as_slice() else {
        panic!("one event: {events:?}");
    };
    assert!(event.starts_with("pytoweb_workers"), "{event}");
    for part in ["worker=\"parser\"", "kind=\"parse\"", "invalid digit"] {
        assert!(event.contains(part), "{event}");
    }
}
