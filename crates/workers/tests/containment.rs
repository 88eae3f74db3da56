//! Code of users that panics where their handler is not, and with what panics again when it is dropped: each time
//! alone on its thread, and with another worker on the same one, which must not notice.

mod common;

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::panic::panic_any;
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use common::{Gate, LIMIT, assert_settled, get, join, wait_stopped};
use pytoweb_workers::{AskError, Worker, WorkerPool, WorkerState};

/// Panics when it is dropped, with another one for as often as it says.
#[derive(Debug)]
struct Bomb(u32);

impl Drop for Bomb {
    fn drop(&mut self) {
        if let Some(left) = self.0.checked_sub(1) {
            panic_any(Self(left));
        }
    }
}

/// As often as what is caught might be dropped.
const BOMB: u32 = 3;

fn explode() -> ! {
    panic_any(Bomb(BOMB))
}

/// An error that panics as it is told, and as it is dropped.
#[derive(Debug)]
struct Unspeakable(#[expect(dead_code, reason = "it is there to be dropped")] Bomb);

impl Unspeakable {
    const fn new() -> Self {
        Self(Bomb(BOMB))
    }
}

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        explode()
    }
}

impl Error for Unspeakable {}

/// An error that panics as it is boxed.
struct Unboxable;

impl From<Unboxable> for Box<dyn Error + Send + Sync> {
    fn from(_: Unboxable) -> Self {
        explode()
    }
}

/// Does `harm` to a worker with a thread of its own, and to one of two workers on one thread: all live on.
fn harm(failed: u64, harm: impl Fn(&Worker)) {
    let check = |worker: &Worker, failed: u64| {
        let seven = get(worker
            .ask::<&str, u64>("parse", "7")
            .expect("it is accepted"));
        assert_eq!(seven.expect("it lives"), 7);
        worker.run_until_idle(LIMIT).expect("it becomes idle");
        assert_eq!(worker.state(), WorkerState::Running);
        assert_eq!(assert_settled(worker).failed, failed);
    };
    let ready = |worker: &Worker| {
        worker.on_message("parse", |text: &str| text.parse::<u64>());
        worker.on_message("fail", |()| Err::<(), _>(Unspeakable::new()));
        worker.on_message("explode", |()| -> Result<(), Infallible> { explode() });
        worker.start().expect("it starts");
    };
    let alone = Worker::new("harmed");
    ready(&alone);
    harm(&alone);
    check(&alone, failed);
    wait_stopped(&alone);

    let pool = WorkerPool::new(1);
    let [harmed, other] =
        ["harmed", "other"].map(|name| pool.create_worker(name).expect("the name is free"));
    ready(&harmed);
    ready(&other);
    harm(&harmed);
    check(&other, 0);
    check(&harmed, failed);
    wait_stopped(&harmed);
    wait_stopped(&other);
    join(move || pool.shutdown());
}

fn post<T: Send + fmt::Debug + 'static>(worker: &Worker, kind: &str, data: T) {
    worker.post_message(kind, data).expect("it is accepted");
}

#[test]
fn an_error_whose_text_and_destructor_panic() {
    harm(2, |worker| {
        post(worker, "fail", ());
        let Err(AskError::Failed(error)) =
            get(worker.ask::<(), ()>("fail", ()).expect("it is accepted"))
        else {
            panic!("it failed");
        };
        // Here it would end the test.
        std::mem::forget(error);
    });
}

#[test]
fn an_error_that_is_not_taken() {
    harm(1, |worker| {
        drop(worker.ask::<(), ()>("fail", ()).expect("it is accepted"));
    });
}

#[test]
fn an_error_and_a_reply_that_come_too_late() {
    let pool = WorkerPool::new(1);
    let other = pool.create_worker("other").expect("the name is free");
    other.on_message("parse", |text: &str| text.parse::<u64>());
    other.start().expect("it starts");
    for fails in [false, true] {
        let worker = pool.create_worker("late").expect("the name is free");
        let (enter, entered) = channel();
        let (go, wait) = channel();
        worker.on_message("late", move |()| {
            enter.send(()).expect("the test listens");
            wait.recv_timeout(LIMIT).expect("the test lets go");
            if fails {
                Err(Unspeakable::new())
            } else {
                Ok(Bomb(BOMB))
            }
        });
        worker.start().expect("it starts");
        let reply = worker.ask::<(), Bomb>("late", ()).expect("it is accepted");
        entered.recv_timeout(LIMIT).expect("the handler is entered");
        worker.terminate();
        assert!(matches!(get(reply), Err(AskError::Stopped)));
        go.send(()).expect("the handler waits");
        wait_stopped(&worker);
        assert_eq!(assert_settled(&worker).failed, 1);
        let seven = other.ask::<&str, u64>("parse", "7");
        assert_eq!(get(seven.expect("it is accepted")).expect("it lives"), 7);
    }
    join(move || pool.shutdown());
}

#[test]
fn an_error_that_panics_as_it_is_boxed() {
    harm(2, |worker| {
        worker.on_message("unboxable", |()| Err::<(), _>(Unboxable));
        post(worker, "unboxable", ());
        let reply = worker
            .ask::<(), ()>("unboxable", ())
            .expect("it is accepted");
        assert!(matches!(get(reply), Err(AskError::Panicked(_))));
    });
}

#[test]
fn a_panic_whose_payload_panics() {
    harm(2, |worker| {
        post(worker, "explode", ());
        let reply = worker.ask::<(), ()>("explode", ()).expect("it is accepted");
        assert!(
            matches!(get(reply), Err(AskError::Panicked(text)) if text == "a panic without text")
        );
    });
    let pool = WorkerPool::new(1);
    pool.on_message("explode", |()| -> Result<(), Infallible> { explode() });
    pool.post_message("explode", ()).expect("it is accepted");
    let reply = pool.submit(|| explode()).expect("it is accepted");
    assert!(matches!(get::<()>(reply), Err(AskError::Panicked(_))));
    assert_eq!(
        get(pool.submit(|| 7).expect("it is accepted")).expect("it lives"),
        7
    );
    assert_eq!(pool.stats().own.counters.failed, 2);
    join(move || pool.shutdown());
}

#[test]
fn an_on_error_that_panics_so() {
    harm(3, |worker| {
        // What it holds is dropped as it is replaced, and with the worker.
        for _ in 0..2 {
            let bomb = Bomb(BOMB);
            worker.on_error(move |_| {
                let _bomb = &bomb;
                explode()
            });
            post(worker, "on_error is replaced after this", ());
            worker.run_until_idle(LIMIT).expect("it becomes idle");
        }
        let reply = worker.ask::<(), ()>("fail", ()).expect("it is accepted");
        let error = get(reply).expect_err("it failed");
        assert!(error.downcast_ref::<Unspeakable>().is_some());
        // Here it would end the test.
        std::mem::forget(error);
    });
}

#[test]
fn payloads_and_replies_that_panic_as_they_are_dropped() {
    harm(2, |worker| {
        worker.on_message("take", |bomb: Bomb| {
            std::mem::forget(bomb);
            Ok::<_, Infallible>(Bomb(BOMB))
        });
        post(worker, "without a handler", Bomb(BOMB));
        // The reply of a post is the handler's own to drop.
        post(worker, "take", Bomb(BOMB));
        drop(worker.ask::<Bomb, Bomb>("take", Bomb(BOMB)));
        let gate = Gate::new(worker);
        post(worker, gate.kind, ());
        gate.wait_entered();
        let queued = worker
            .ask::<Bomb, Bomb>("take", Bomb(BOMB))
            .expect("it is accepted");
        assert!(queued.cancel());
        gate.open();
    });
}

#[test]
fn handlers_that_panic_as_they_are_dropped() {
    harm(0, |worker| {
        for number in 0..2 {
            let bomb = Bomb(BOMB);
            worker.on_message("hold", move |()| {
                let _bomb = &bomb;
                Ok::<_, Infallible>(number)
            });
            let reply = worker.ask::<(), i32>("hold", ()).expect("it is accepted");
            assert_eq!(get(reply).expect("a reply"), number);
        }
    });
    // The thread is the last to hold the worker.
    let pool = WorkerPool::new(1);
    for name in ["first", "second"] {
        let worker = pool.create_worker(name).expect("the name is free");
        let bomb = Bomb(BOMB);
        worker.on_message("hold", move |()| {
            let _bomb = &bomb;
            Ok::<_, Infallible>(())
        });
        worker.start().expect("it starts");
        let gate = Gate::new(&worker);
        post(&worker, gate.kind, ());
        gate.wait_entered();
        let reply = worker.ask::<(), ()>("hold", ()).expect("it is accepted");
        let removing = pool.clone();
        let removal = std::thread::spawn(move || drop(removing.remove_worker(name)));
        drop(worker);
        gate.open();
        get(reply).expect("a reply");
        join(move || removal.join()).expect("no panic");
    }
    assert_eq!(
        get(pool.submit(|| 7).expect("it is accepted")).expect("it lives"),
        7
    );
    join(move || pool.shutdown());
}

#[test]
fn a_callback_that_panics_so() {
    harm(0, |worker| {
        let gate = Gate::new(worker);
        post(worker, gate.kind, ());
        gate.wait_entered();
        let bomb = Bomb(BOMB);
        worker
            .ask::<&str, u64>("parse", "1")
            .expect("it is accepted")
            .on_done(move |_| {
                // Not as this unwinds: that would end the process.
                std::mem::forget(bomb);
                explode()
            });
        let bomb = Bomb(BOMB);
        worker
            .ask::<&str, u64>("parse", "1")
            .expect("it is accepted")
            .on_done(move |_| drop(bomb));
        let (tell, told) = channel();
        worker
            .ask::<&str, u64>("parse", "2")
            .expect("it is accepted")
            .on_done(move |result| tell.send(result.ok()).expect("the test listens"));
        gate.open();
        assert_eq!(told.recv_timeout(LIMIT).expect("it is called"), Some(2));
    });
}

#[test]
fn a_waker_that_panics_so() {
    struct Loud;
    impl Wake for Loud {
        fn wake(self: Arc<Self>) {
            explode()
        }
    }
    harm(0, |worker| {
        let gate = Gate::new(worker);
        post(worker, gate.kind, ());
        gate.wait_entered();
        let mut reply = worker
            .ask::<&str, u64>("parse", "1")
            .expect("it is accepted");
        let waker = Waker::from(Arc::new(Loud));
        let polled = Pin::new(&mut reply).poll(&mut Context::from_waker(&waker));
        assert!(matches!(polled, Poll::Pending));
        gate.open();
        assert_eq!(get(reply).expect("a reply"), 1);
    });
}

#[test]
fn messages_that_expire_with_what_panics_so() {
    harm(0, |worker| {
        let gate = Gate::new(worker);
        post(worker, gate.kind, ());
        gate.wait_entered();
        let moment = Duration::from_millis(1);
        worker
            .ask_timeout::<Bomb, Bomb>("take", Bomb(BOMB), moment)
            .expect("it is accepted")
            .on_done(|_| explode());
        let next = worker
            .ask_timeout::<&str, u64>("parse", "1", moment)
            .expect("it is accepted");
        assert!(matches!(get(next), Err(AskError::Expired)));
        gate.open();
    });
}

/// Names, in the process that a test starts, what is wrong with its standard error.
const INSIDE: &str = "PYTOWEB_TEST_STANDARD_ERROR";

/// Runs the test `name` again, in a process that cannot write to standard error.
fn without_standard_error(name: &str, stderr: impl Into<Stdio>) {
    let mut command = Command::new(std::env::current_exe().expect("its path"));
    let mut child = command
        // Captured output would never get there.
        .args([name, "--exact", "--nocapture"])
        .env(INSIDE, name)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .expect("it starts");
    // The pipe that it writes to is not read.
    drop(child.stderr.take());
    let mut output = child.stdout.take().expect("a pipe");
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let _ = output.read_to_string(&mut text);
        tell.send(text)
    });
    let text = told.recv_timeout(LIMIT * 2);
    if text.is_err() {
        child.kill().expect("it is there");
    }
    let status = child.wait().expect("it ended");
    assert!(status.success(), "{status}, {text:?}");
}

fn failures_without_on_error() {
    harm(3, |worker| {
        post(worker, "without a handler", ());
        post(worker, "explode", ());
        post(worker, "fail", ());
    });
}

#[test]
#[cfg(target_os = "linux")]
fn standard_error_that_is_full() {
    if std::env::var_os(INSIDE).is_some() {
        return failures_without_on_error();
    }
    let full = File::options()
        .write(true)
        .open("/dev/full")
        .expect("Linux has it");
    without_standard_error("standard_error_that_is_full", full);
}

#[test]
fn standard_error_that_is_closed() {
    if std::env::var_os(INSIDE).is_some() {
        return failures_without_on_error();
    }
    without_standard_error("standard_error_that_is_closed", Stdio::piped());
}
