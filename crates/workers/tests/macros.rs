//! What the macros expand to, at run time. Each test has workers of its own names: the default pool is shared.

mod common;

use std::num::ParseIntError;
use std::panic::catch_unwind;
use std::thread;

use common::{assert_settled, get, join};
use pytoweb_workers::{
    AskError, Service, Worker, WorkerPool, current_message, current_worker, default_pool,
    run_in_worker, worker,
};

fn current_name() -> Option<String> {
    current_worker().map(|worker| worker.name().to_owned())
}

#[run_in_worker("macros: calls")]
fn whereabouts(number: u64, mut text: String) -> (Option<String>, Option<String>, String) {
    text.push_str(&number.to_string());
    let kind = current_message().map(|message| message.kind().to_owned());
    (current_name(), kind, text)
}

#[test]
fn a_call_runs_in_the_named_worker_and_returns() {
    let (name, kind, text) = whereabouts(7, "number ".to_owned());
    assert_eq!(name.as_deref(), Some("macros: calls"));
    assert_eq!(kind.as_deref(), Some("macros::whereabouts"));
    assert_eq!(text, "number 7");
    let reply = whereabouts::submit(8, String::new());
    assert_eq!(get(reply).expect("a reply").2, "8");
    let worker = default_pool()
        .get_worker("macros: calls")
        .expect("it was made");
    assert_eq!(worker.stats().counters.posted, 2);
}

#[run_in_worker("macros: patterns")]
pub(crate) fn patterns((first, second): (u32, u32), _: &'static str, [third]: [u32; 1]) -> u32 {
    first + second + third
}

#[run_in_worker("macros: patterns")]
fn nothing() {}

#[test]
fn patterns_and_nothing_at_all_are_fine() {
    assert_eq!(patterns((1, 2), "static", [3]), 6);
    nothing();
    get(nothing::submit()).expect("a reply");
}

#[run_in_worker("macros: recursion")]
fn factorial(n: u64) -> u64 {
    assert_eq!(current_name().as_deref(), Some("macros: recursion"));
    if n == 0 { 1 } else { n * factorial(n - 1) }
}

#[test]
fn inside_its_own_worker_a_call_runs_where_it_is() {
    assert_eq!(join(|| factorial(10)), 3_628_800);
    let worker = default_pool()
        .get_worker("macros: recursion")
        .expect("it was made");
    assert_eq!(worker.stats().counters.posted, 1);
}

#[run_in_worker("macros: errors")]
fn parse(text: String) -> Result<u64, ParseIntError> {
    assert!(text != "panic", "on purpose");
    text.parse()
}

#[test]
fn results_come_back_as_they_are_and_panics_go_on_in_the_caller() {
    assert_eq!(parse("7".to_owned()), Ok(7));
    assert!(parse("seven".to_owned()).is_err());
    let panic = catch_unwind(|| parse("panic".to_owned())).expect_err("it panics");
    let text = panic.downcast_ref::<String>().expect("a text");
    assert_eq!(
        text,
        "`macros::parse` panicked in worker `macros: errors`: on purpose"
    );
    assert!(
        matches!(get(parse::submit("panic".to_owned())), Err(AskError::Panicked(text)) if text == "on purpose")
    );
    assert_eq!(parse("8".to_owned()), Ok(8), "the worker lives");
}

#[run_in_worker("macros: stopped")]
fn answer() -> u32 {
    42
}

#[test]
fn a_stopped_worker_is_made_anew() {
    assert_eq!(answer(), 42);
    let first = default_pool()
        .get_worker("macros: stopped")
        .expect("it was made");
    first.stop();
    assert_eq!(answer(), 42);
    let second = default_pool()
        .get_worker("macros: stopped")
        .expect("it was made");
    assert_ne!(first, second);
}

#[test]
fn many_threads_may_call_at_the_same_time() {
    #[run_in_worker("macros: threads")]
    fn add(a: usize, b: usize) -> usize {
        a + b
    }
    thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || {
                for number in 0..500 {
                    assert_eq!(add(thread, number), thread + number);
                }
            });
        }
    });
    let worker = default_pool()
        .get_worker("macros: threads")
        .expect("it was made");
    assert_eq!(assert_settled(&worker).completed, 4_000);
}

#[derive(Default)]
struct Counter<T> {
    items: Vec<T>,
}

#[worker]
impl<T: Clone + Send + 'static> Counter<T> {
    #[worker_method("add")]
    fn add(&mut self, item: T) -> Result<usize, &'static str> {
        if self.items.len() == 3 {
            return Err("full");
        }
        self.items.push(item);
        Ok(self.items.len())
    }

    #[worker_method("items")]
    fn items(&self) -> Vec<T> {
        self.items.clone()
    }

    #[worker_method("clear")]
    fn clear(&mut self) {
        self.items.clear();
    }

    #[worker_method("panic")]
    fn panic(&mut self, text: String) -> Result<(), AskError> {
        self.items.clear();
        panic!("{text}")
    }

    fn with(item: T) -> Self {
        Self { items: vec![item] }
    }
}

#[test]
fn methods_share_one_value() {
    let worker = Counter::with('a').spawn("counter").expect("it starts");
    let add = |item| {
        get(worker
            .ask::<char, usize>("add", item)
            .expect("it is accepted"))
    };
    assert_eq!(
        (add('b').expect("a reply"), add('c').expect("a reply")),
        (2, 3)
    );
    assert!(matches!(add('d'), Err(AskError::Failed(error)) if error.to_string() == "full"));
    let items = || {
        get(worker
            .ask::<(), Vec<char>>("items", ())
            .expect("it is accepted"))
        .expect("a reply")
    };
    assert_eq!(items(), ['a', 'b', 'c']);
    get(worker.ask::<(), ()>("clear", ()).expect("it is accepted")).expect("a reply");
    assert_eq!(items(), []);
}

#[test]
fn a_method_that_panics_leaves_the_value_in_use() {
    let worker = Counter::with(1).spawn("counter").expect("it starts");
    let reply = worker
        .ask::<String, ()>("panic", "on purpose".to_owned())
        .expect("it is accepted");
    assert!(matches!(get(reply), Err(AskError::Panicked(text)) if text == "on purpose"));
    assert_eq!(
        get(worker.ask::<i32, usize>("add", 2).expect("it is accepted")).expect("a reply"),
        1
    );
}

#[test]
fn a_service_can_move_into_a_worker_of_a_pool() {
    let pool = WorkerPool::new(1);
    let worker: Worker = pool.create_worker("counter").expect("the name is free");
    Counter::<String>::default().register(&worker);
    worker.start().expect("it starts");
    assert!(
        worker.post_message("add", 1_u8).is_err(),
        "its payloads are strings"
    );
    assert_eq!(
        get(worker
            .ask::<String, usize>("add", "x".to_owned())
            .expect("it is accepted"))
        .expect("a reply"),
        1
    );
}
