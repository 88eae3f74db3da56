//! With the feature `tracing`, handlers run in spans that lead back to the senders of their messages.

mod common;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use pytoweb_workers::{AskError, Batch, Overflow, Retry, Worker, WorkerPool};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber, info, info_span};
use tracing_core::span::Current;

use common::{Gate, get};

/// A span as it was recorded.
#[derive(Clone, Debug)]
struct Recorded {
    metadata: &'static Metadata<'static>,
    parent: Option<u64>,
    follows: Vec<u64>,
    fields: BTreeMap<&'static str, String>,
    /// Texts of the events in it.
    events: Vec<String>,
    entered: usize,
    /// How many refer to it.
    handles: usize,
}

impl Recorded {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }
}

/// Spans by their numbers, and what came from no span.
static SPANS: Mutex<Vec<Recorded>> = Mutex::new(Vec::new());

thread_local! {
    static ENTERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

fn spans() -> MutexGuard<'static, Vec<Recorded>> {
    SPANS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn with<R>(id: &Id, look: impl FnOnce(&mut Recorded) -> R) -> R {
    let mut spans = spans();
    let place = usize::try_from(id.into_u64() - 1).expect("it fits");
    look(&mut spans[place])
}

/// Writes down all spans and events of all threads.
struct Notes;

struct Fields<'a>(&'a mut BTreeMap<&'static str, String>);

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl Subscriber for Notes {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let parent = match attributes.parent() {
            Some(id) => Some(id.into_u64()),
            None if attributes.is_contextual() => ENTERED.with_borrow(|all| all.last().copied()),
            None => None,
        };
        let mut fields = BTreeMap::new();
        attributes.record(&mut Fields(&mut fields));
        let mut spans = spans();
        let number = spans.len() as u64 + 1;
        spans.push(Recorded {
            metadata: attributes.metadata(),
            parent,
            follows: Vec::new(),
            fields,
            events: Vec::new(),
            entered: 0,
            handles: 1,
        });
        Id::from_u64(number)
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        with(id, |span| values.record(&mut Fields(&mut span.fields)));
    }

    fn record_follows_from(&self, id: &Id, follows: &Id) {
        with(follows, |span| assert!(span.handles > 0, "it is open"));
        with(id, |span| span.follows.push(follows.into_u64()));
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = BTreeMap::new();
        event.record(&mut Fields(&mut fields));
        let Some(current) = ENTERED.with_borrow(|all| all.last().copied()) else {
            return;
        };
        with(&Id::from_u64(current), |span| {
            span.events.push(format!("{fields:?}"));
        });
    }

    fn enter(&self, id: &Id) {
        ENTERED.with_borrow_mut(|all| all.push(id.into_u64()));
        with(id, |span| span.entered += 1);
    }

    fn exit(&self, id: &Id) {
        let left = ENTERED.with_borrow_mut(Vec::pop);
        assert_eq!(left, Some(id.into_u64()));
    }

    fn clone_span(&self, id: &Id) -> Id {
        with(id, |span| span.handles += 1);
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        with(&id, |span| {
            span.handles -= 1;
            span.handles == 0
        })
    }

    fn current_span(&self) -> Current {
        let Some(current) = ENTERED.with_borrow(|all| all.last().copied()) else {
            return Current::none();
        };
        let metadata = with(&Id::from_u64(current), |span| span.metadata);
        Current::new(Id::from_u64(current), metadata)
    }
}

fn subscribe() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Notes).expect("the first one"));
}

/// The spans of the handlers of a worker, in the order in which they began.
fn processed(worker: &str) -> Vec<Recorded> {
    let spans = spans();
    let own = |span: &&Recorded| {
        span.metadata.name() == "process" && span.field("worker") == Some(worker)
    };
    spans.iter().filter(own).cloned().collect()
}

/// A span of a sender: its number, and what `body` returned in it.
fn in_span<R>(body: impl FnOnce() -> R) -> (u64, R) {
    let span = info_span!("request");
    let number = span.id().expect("it is recorded").into_u64();
    (number, span.in_scope(body))
}

fn recorded(number: u64) -> Recorded {
    with(&Id::from_u64(number), |span| span.clone())
}

#[test]
fn an_ask_runs_below_its_sender_and_a_post_after_it() {
    subscribe();
    let worker = Worker::new("traced");
    worker.on_message("double", |n: u64| {
        info!(n, "doubled");
        Ok::<_, Infallible>(2 * n)
    });
    worker.start().expect("it starts");
    let (asker, reply) = in_span(|| worker.ask::<u64, u64>("double", 21).expect("accepted"));
    assert_eq!(get(reply).expect("a reply"), 42);
    let (poster, ()) = in_span(|| worker.post_message("double", 1_u64).expect("accepted"));
    let (several, _) = in_span(|| {
        worker
            .post_messages("double", [2_u64, 3])
            .expect("accepted")
    });
    worker.stop();
    let spans = processed("traced");
    assert_eq!(spans.len(), 4, "{spans:?}");
    assert_eq!((spans[0].parent, &spans[0].follows), (Some(asker), &vec![]));
    for (span, sender) in spans[1..].iter().zip([poster, several, several]) {
        assert_eq!((span.parent, &span.follows), (None, &vec![sender]));
    }
    for (span, text) in spans.iter().zip(["21", "1", "2", "3"]) {
        assert_eq!(span.field("kind"), Some("double"));
        assert_eq!(span.field("outcome"), Some("ok"));
        assert_eq!((span.entered, span.events.len()), (1, 1), "{span:?}");
        assert!(span.events[0].contains(text), "{span:?}");
        assert_eq!(span.metadata.target(), "pytoweb_workers");
    }
    // What was sent, and where, has the number of what is handled.
    let sent = recorded(asker).events;
    let id = spans[0].field("id").expect("it has one");
    assert_eq!(sent.len(), 1);
    for part in ["\"send\"", "traced", "double", &format!("\"{id}\"")] {
        assert!(
            sent[0].contains(part) || sent[0].contains(&part.replace('"', "")),
            "{sent:?}"
        );
    }
    let mut ids: Vec<_> = spans.iter().map(|span| span.field("id")).collect();
    ids.dedup();
    assert_eq!(ids.len(), 4, "each has a number of its own: {ids:?}");
    for number in [asker, poster, several] {
        assert_eq!(
            recorded(number).handles,
            0,
            "no message keeps its sender's span"
        );
    }
}

#[test]
fn the_outcome_says_how_it_ended() {
    subscribe();
    let worker = Worker::new("outcomes");
    worker.on_error(|_| ());
    let mut tries = 0;
    worker.on_message("fail", |(): ()| Err::<(), _>("on purpose"));
    worker.on_message("panic", |(): ()| -> Result<(), Infallible> {
        panic!("on purpose")
    });
    worker.on_message_retry(
        "twice",
        Retry::new(2).backoff(Duration::ZERO),
        move |(): &()| {
            tries += 1;
            if tries == 1 { Err("not yet") } else { Ok(()) }
        },
    );
    let gate = Gate::new(&worker);
    worker.start().expect("it starts");
    let (sender, ()) = in_span(|| {
        for kind in ["fail", "panic", "twice", "unknown"] {
            let _ = get(worker.ask::<(), ()>(kind, ()).expect("accepted"));
        }
    });
    let late = worker.ask_timeout::<(), bool>(gate.kind, (), Duration::from_millis(1));
    let late = late.expect("accepted");
    assert!(matches!(get(late), Err(AskError::Expired)));
    gate.open();
    worker.stop();
    let spans = processed("outcomes");
    let seen = spans
        .iter()
        .map(|span| (span.field("kind"), span.field("outcome")));
    let seen: Vec<_> = seen.filter(|(kind, _)| *kind != Some(gate.kind)).collect();
    let expected = [
        ("fail", "error"),
        ("panic", "error"),
        ("twice", "again"),
        ("twice", "ok"),
        ("unknown", "error"),
    ];
    assert_eq!(
        seen,
        expected.map(|(kind, outcome)| (Some(kind), Some(outcome)))
    );
    assert!(
        spans[..5].iter().all(|span| span.parent == Some(sender)),
        "{spans:?}"
    );
    assert_eq!(
        spans[2].field("id"),
        spans[3].field("id"),
        "one message, tried twice"
    );
    // It expired in the queue, where no handler began, or while its handler ran.
    for span in &spans[5..] {
        assert_eq!(
            (span.parent, span.field("outcome")),
            (None, Some("expired"))
        );
    }
}

#[test]
fn a_batch_is_one_span_that_follows_from_each_sender() {
    subscribe();
    let worker = Worker::new("batched");
    worker.on_batch("sum", Batch::new(8), |numbers: Vec<u64>| {
        info!("summed");
        let each = numbers.into_iter().map(Ok::<_, Infallible>);
        each.collect::<Vec<_>>()
    });
    let senders: Vec<_> = (0..3)
        .map(|n: u64| in_span(|| worker.post_message("sum", n).expect("accepted")).0)
        .collect();
    worker.start().expect("it starts");
    worker.stop();
    let spans = processed("batched");
    let [span] = spans.as_slice() else {
        panic!("one span: {spans:?}");
    };
    assert_eq!((span.parent, &span.follows), (None, &senders));
    assert_eq!(
        (span.field("messages"), span.field("outcome")),
        (Some("3"), Some("ok"))
    );
    assert_eq!(span.events.len(), 1);
}

#[test]
fn closures_of_a_pool_and_messages_with_plans_have_spans() {
    subscribe();
    let pool = WorkerPool::builder().size(1).name("closures").build();
    pool.on_message("large", |data: [u64; 8]| Ok::<_, Infallible>(data[0]));
    let (sender, reply) = in_span(|| pool.submit(|| 7).map_err(|_| ()).expect("accepted"));
    assert_eq!(get(reply).expect("a reply"), 7);
    let planned = || {
        let message = pool.message("large", [5_u64; 8]).key("one");
        message.ask::<u64>().expect("accepted")
    };
    let (other, reply) = in_span(planned);
    assert_eq!(get(reply).expect("a reply"), 5);
    pool.shutdown();
    let spans = processed("closures");
    let seen: Vec<_> = spans
        .iter()
        .map(|span| (span.parent, span.field("kind").expect("a kind")))
        .collect();
    assert_eq!(seen, [(Some(sender), "submit"), (Some(other), "large")]);
}

#[test]
fn a_message_that_is_refused_comes_back_as_it_was() {
    subscribe();
    let worker = Worker::builder("refusing")
        .capacity(1)
        .overflow(Overflow::Reject)
        .build();
    worker.on_message("echo", |text: String| Ok::<_, Infallible>(text));
    let send = || worker.post_message("echo", "text".to_owned());
    send().expect("there is room");
    let (sender, refused) = in_span(send);
    let refused = refused.expect_err("it is full");
    assert_eq!(refused.into_inner(), "text");
    assert_eq!(recorded(sender).handles, 0);
    assert!(processed("refusing").is_empty());
}
