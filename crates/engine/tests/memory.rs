//! What messages and idle workers cost, counted by the allocator. One test: the count is of the whole process.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Closures, Gate, LONG, bounded, pool};
use pytoweb_engine::{
    Failure, Handled, Handler, Message, Outcome, ReplyState, StopMode, Ticket, Wake, Worker,
    WorkerOptions,
};

/// Bytes that are allocated and not freed.
static LIVE: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[expect(unsafe_code, reason = "the trait is unsafe")]
// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn live() -> usize {
    LIVE.load(Ordering::Relaxed)
}

/// Checks that payloads come in the order of their numbers.
struct InOrder {
    next: AtomicUsize,
    open: Gate,
}

#[derive(Debug)]
struct Numbered(Box<[u8]>);

impl Message for Numbered {
    fn ticket(&self) -> Option<Arc<dyn Ticket>> {
        None
    }

    fn state(&self) -> Option<&ReplyState> {
        None
    }
}

impl Handler for InOrder {
    type Message = Numbered;

    fn handle(&self, message: &mut Numbered) -> Handled<Self> {
        self.open.pass();
        let number = usize::from_le_bytes(message.0[..8].try_into().expect("eight bytes"));
        assert_eq!(self.next.fetch_add(1, Ordering::Relaxed), number);
        Handled::Done(Outcome::Completed)
    }

    fn finish(&self, _message: Numbered) -> Wake {
        Wake::none()
    }

    fn abandon(&self, _message: Numbered, _failure: Failure) {}
}

fn a_million_messages() {
    const MESSAGES: usize = 1_000_000;
    const PAYLOAD: usize = 100;
    let pool = pool(2);
    let handler = InOrder {
        next: AtomicUsize::new(0),
        open: Gate::new(),
    };
    let options = WorkerOptions {
        capacity: MESSAGES,
        ..WorkerOptions::default()
    };
    let worker = Worker::new("million", handler, options, &pool);
    worker.start().expect("a thread");
    let before = live();
    for number in 0..MESSAGES {
        let mut payload = vec![0; PAYLOAD].into_boxed_slice();
        payload[..8].copy_from_slice(&number.to_le_bytes());
        worker.post(Numbered(payload), Some(LONG)).expect("room");
    }
    let each = (live() - before) / MESSAGES;
    assert!(each <= 300, "{each} bytes each");
    worker.handler().open.open();
    assert!(worker.wait_idle(Some(LONG)).expect("not inside"));
    assert_eq!(worker.handler().next.load(Ordering::Relaxed), MESSAGES);
    worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
    pool.shutdown();
    // A thread gives large buffers back before it sleeps or ends.
    pool.join();
    let left = live() - before;
    assert!(left < 256 * 1024, "{left} bytes are left after draining");
    drop(worker);
}

fn ten_thousand_idle_workers() {
    const WORKERS: usize = 10_000;
    let pool = pool(2);
    let warm = common::worker(&pool, "warm");
    assert_eq!(common::ask(&warm, || 1).reply(), Ok(1));
    let before = live();
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| common::worker(&pool, "idle worker"))
        .collect();
    let fresh = (live() - before) / WORKERS;
    for worker in &workers {
        common::post(worker, || ());
    }
    for worker in &workers {
        assert!(worker.wait_idle(Some(LONG)).expect("not inside"));
    }
    let used = (live() - before) / WORKERS;
    assert!(fresh <= used && used <= 4096, "{fresh} bytes, then {used}");
    drop(workers);
    drop(warm);
    pool.shutdown();
    pool.join();
}

fn asked_messages_that_are_cancelled() {
    // Tombstones are swept: cancelling all but a few leaves memory for a few.
    let pool = pool(1);
    let worker = Worker::new("w", Closures, WorkerOptions::default(), &pool);
    let keep: Vec<_> = (0..10).map(|n| common::ask(&worker, move || n)).collect();
    let before = live();
    for _ in 0..100 {
        let asked: Vec<_> = (0..1_000)
            .map(|n| common::ask(&worker, move || n))
            .collect();
        for asked in asked {
            assert!(worker.address().cancel(&asked.ticket()));
        }
    }
    let left = live() - before;
    assert!(left < 64 * 1024, "{left} bytes for cancelled messages");
    worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
    drop(keep);
}

fn deadlines_that_are_met() {
    // Nothing is posted after the burst, and the deadlines are far.
    const MESSAGES: u64 = 50_000;
    let pool = pool(1);
    let options = WorkerOptions {
        capacity: 100_000,
        ..WorkerOptions::default()
    };
    let worker = Worker::new("w", Closures, options, &pool);
    worker.start().expect("a thread");
    let set = |asked: &common::Asked| {
        worker
            .set_deadline(&asked.ticket(), LONG * 15)
            .expect("a thread");
    };
    set(&common::ask(&worker, || 0));
    let before = live();
    let asked: Vec<_> = (0..MESSAGES)
        .map(|number| common::ask(&worker, move || number))
        .inspect(set)
        .collect();
    for (number, asked) in (0..).zip(asked) {
        assert_eq!(asked.reply(), Ok(number));
    }
    let end = Instant::now() + LONG;
    while live().saturating_sub(before) > 512 * 1024 {
        assert!(Instant::now() < end, "{} bytes are left", live() - before);
        std::thread::sleep(Duration::from_millis(5));
    }
    worker.stop(StopMode::Drain, Some(LONG)).expect("in time");
}

#[test]
fn memory() {
    bounded(|| {
        a_million_messages();
        asked_messages_that_are_cancelled();
        deadlines_that_are_met();
        let before = live();
        ten_thousand_idle_workers();
        let left = live().saturating_sub(before);
        assert!(left < 64 * 1024, "{left} bytes are left of the workers");
    });
}
