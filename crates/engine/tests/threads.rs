//! The threads of a pool: when they start, that they end, and what happens when the system gives none.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::{Closures, Job, LONG, ask, bounded, occupy, pool, post, worker};
use pytoweb_engine::{PlainHost, Pool, PoolOptions, PostError, StopMode, Worker, WorkerOptions};

/// How many threads of this process are named `<name>-<number>`; none where the system does not tell.
fn threads_named(name: &str) -> usize {
    let prefix = format!("{name}-");
    let Ok(tasks) = fs::read_dir("/proc/self/task") else {
        return 0;
    };
    tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|comm| comm.starts_with(&prefix))
        .count()
}

/// A thread that was joined is listed for a moment longer.
fn assert_no_thread_named(name: &str) {
    let begun = Instant::now();
    while threads_named(name) > 0 {
        assert!(begun.elapsed() < LONG / 2, "threads of {name:?} are left");
        thread::yield_now();
    }
}

fn named(name: &str, size: usize) -> Pool {
    Pool::new(PoolOptions {
        name: name.to_owned(),
        ..PoolOptions::new(size)
    })
}

#[test]
fn threads_start_when_there_is_work_and_no_more_than_its_size() {
    bounded(|| {
        let pool = pool(8);
        assert_eq!(pool.threads(), 0);
        let only = worker(&pool, "only");
        assert_eq!(pool.threads(), 1, "a started worker has a thread to run it");
        for n in 0..100 {
            assert_eq!(ask(&only, move || n).reply(), Ok(n));
        }
        assert!(pool.threads() <= pool.size());
    });
}

#[test]
fn a_pool_that_was_shut_down_leaves_no_thread() {
    bounded(|| {
        for round in 0..20 {
            let pool = named("ended", 4);
            let workers: Vec<_> = (0..8).map(|n| worker(&pool, &format!("w{n}"))).collect();
            let done = Arc::new(AtomicUsize::new(0));
            for n in 0..800 {
                let done = done.clone();
                post(&workers[n % 8], move || {
                    done.fetch_add(1, Ordering::Relaxed);
                });
            }
            let asked = ask(&workers[0], || 1);
            workers[0]
                .set_deadline(&asked.ticket(), LONG)
                .expect("a thread");
            if round % 2 == 0 {
                drop(workers);
            }
            pool.shutdown();
            pool.shutdown();
            pool.join();
            assert_eq!(
                done.load(Ordering::Relaxed),
                800,
                "the queued work is done first"
            );
            assert_eq!(pool.threads(), 0);
            assert_no_thread_named("ended");
        }
    });
}

#[test]
fn spare_threads_of_handlers_that_wait_end_with_the_pool() {
    bounded(|| {
        let pool = named("spare", 1);
        let (outer, inner) = (worker(&pool, "outer"), Arc::new(worker(&pool, "inner")));
        let target = inner.clone();
        let asked = ask(&outer, move || {
            let asked = ask(&target, || 3);
            let address = target.address();
            assert!(
                pytoweb_engine::wait(&address, &asked.ticket(), Some(LONG)).expect("no circle")
            );
            asked.reply().expect("a value")
        });
        assert_eq!(asked.reply(), Ok(3));
        assert!(pool.threads() >= 2);
        pool.shutdown();
        pool.join();
        assert_no_thread_named("spare");
    });
}

#[test]
fn a_forgotten_pool_ends_its_threads() {
    bounded(|| {
        let (forgotten, seen) = mpsc::channel::<()>();
        {
            let pool = named("forgot", 2);
            let worker = worker(&pool, "w");
            post(&worker, move || drop(forgotten));
        }
        assert!(seen.recv_timeout(LONG).is_err());
        assert_no_thread_named("forgot");
    });
}

#[test]
fn threads_that_come_and_go_with_bursts_lose_no_message() {
    bounded(|| {
        const ROUNDS: usize = 2_000;
        let pool = pool(3);
        let workers: Vec<_> = (0..3).map(|n| worker(&pool, &format!("w{n}"))).collect();
        for _ in 0..ROUNDS {
            // All three at once: each waits for the others, so every one needs a thread of its own.
            let all = Arc::new(Barrier::new(3));
            let asked: Vec<_> = workers
                .iter()
                .map(|worker| {
                    let all = all.clone();
                    ask(worker, move || {
                        all.wait();
                        1
                    })
                })
                .collect();
            for asked in asked {
                assert_eq!(asked.reply(), Ok(1));
            }
        }
    });
}

/// Where the child of the test below says something.
const SAYS: &str = "says: ";

/// The child: told over its standard input when threads are refused and when no longer.
#[test]
#[ignore = "started by `refused_threads_are_an_error_and_the_pool_works_again`"]
fn child_without_threads() {
    let told = || {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).expect("told");
    };
    let pool = pool(2);
    let own = Worker::new("own", Closures, WorkerOptions::default(), &pool);
    let shared = Worker::shared("pool", Closures, WorkerOptions::default(), &pool);
    let (job, asked) = Job::ask(|| common::Out::Value(1));
    println!("{SAYS}ready");
    told();
    let start = own.start().is_err();
    let refused = shared.post(job, Some(Duration::from_secs(1)));
    let (refused, job) = match refused {
        Err(PostError::NoThread(job, _)) => (true, Some(job)),
        _ => (false, None),
    };
    let deadline = own.set_deadline(&asked.ticket(), LONG).is_err();
    println!("{SAYS}start {start} post {refused} deadline {deadline}");
    told();
    assert!(own.start().expect("a thread"));
    shared.post(job.expect("given back"), None).expect("posted");
    assert_eq!(asked.reply(), Ok(1));
    assert_eq!(ask(&own, || 2).reply(), Ok(2));
    own.stop(StopMode::Drain, Some(LONG)).expect("in time");
    shared.stop(StopMode::Drain, Some(LONG)).expect("in time");
    println!("{SAYS}works again");
}

struct Limited {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Limited {
    fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().expect("a path"))
            .args([
                "child_without_threads",
                "--exact",
                "--ignored",
                "--nocapture",
            ])
            .arg("--test-threads=1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test's own binary");
        Self {
            input: child.stdin.take().expect("piped"),
            output: BufReader::new(child.stdout.take().expect("piped")),
            child,
        }
    }

    fn says(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert!(
                self.output.read_line(&mut line).expect("text") > 0,
                "the child ended"
            );
            if let Some((_, said)) = line.split_once(SAYS) {
                return said.trim().to_owned();
            }
        }
    }

    /// Limits its address space; says whether the tool for it exists.
    fn limit(&mut self, bytes: &str) -> bool {
        Command::new("prlimit")
            .args(["--pid", &self.child.id().to_string()])
            .arg(format!("--as={bytes}:unlimited"))
            .status()
            .is_ok_and(|status| status.success())
    }

    /// Its address space, in bytes.
    fn size(&self) -> u64 {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.child.id())).expect("Linux");
        let pages: u64 = statm
            .split(' ')
            .next()
            .and_then(|pages| pages.parse().ok())
            .expect("a number");
        pages * 4096
    }

    fn tell(&mut self) {
        writeln!(self.input).expect("it listens");
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[cfg(target_os = "linux")]
fn refused_threads_are_an_error_and_the_pool_works_again() {
    bounded(|| {
        let mut child = Limited::start();
        assert_eq!(child.says(), "ready");
        // Room for small things, none for a thread's stack of 2 MiB.
        let limit = child.size() + (1 << 20);
        if !child.limit(&limit.to_string()) {
            assert!(std::env::var_os("CI").is_none(), "prlimit is missing");
            return;
        }
        child.tell();
        assert_eq!(child.says(), "start true post true deadline true");
        assert!(child.limit("unlimited"));
        child.tell();
        assert_eq!(child.says(), "works again");
        assert!(child.child.wait().expect("it ends").success());
    });
}

#[test]
fn joining_from_several_threads_and_from_inside_returns() {
    bounded(|| {
        let pool = pool(2);
        let worker = worker(&pool, "w");
        let inside = pool.clone();
        let asked = ask(&worker, move || {
            inside.shutdown();
            1
        });
        assert_eq!(asked.reply(), Ok(1));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| pool.join());
            }
        });
        assert_eq!(pool.threads(), 0);
    });
}

#[test]
fn every_caller_that_joins_waits_for_all_threads() {
    bounded(|| {
        let pool = pool(2);
        let worker = worker(&pool, "w");
        let gate = occupy(&worker);
        pool.shutdown();
        let started = Barrier::new(3);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    started.wait();
                    pool.join();
                    assert!(gate.is_open(), "a thread still runs");
                    assert_eq!(pool.threads(), 0);
                });
            }
            started.wait();
            // In which a caller that does not wait would come back.
            for _ in 0..1_000 {
                thread::yield_now();
            }
            gate.open();
        });
    });
}

#[test]
fn threads_of_a_pool_that_join_do_not_wait_for_each_other() {
    bounded(|| {
        let pool = pool(2);
        let both = Arc::new(Barrier::new(2));
        let asked: Vec<_> = (0..2)
            .map(|number| {
                let (inside, both) = (pool.clone(), both.clone());
                ask(&worker(&pool, &format!("w{number}")), move || {
                    both.wait();
                    inside.join();
                    1
                })
            })
            .collect();
        for asked in asked {
            assert_eq!(asked.reply(), Ok(1));
        }
        pool.shutdown();
        pool.join();
    });
}

#[test]
fn a_name_that_no_thread_may_have_does_not_keep_it_from_starting() {
    bounded(|| {
        let pool = named("nul\0inside", 1);
        assert_eq!(ask(&worker(&pool, "worker"), || 7).reply(), Ok(7));
        pool.shutdown();
        pool.join();
    });
}

/// Uses some 64 bytes of stack for each of `levels`.
fn recurse(levels: u64) -> u64 {
    let frame = std::hint::black_box([levels; 8]);
    if frame[0] == 0 {
        return 0;
    }
    1 + recurse(frame[0] - 1)
}

#[test]
fn stacks_are_as_large_as_the_host_says() {
    bounded(|| {
        let pool = Pool::new(PoolOptions {
            host: Arc::new(PlainHost {
                stack_bytes: Some(256 << 20),
            }),
            ..PoolOptions::new(1)
        });
        // Far more than fits into the 2 MiB of the default.
        let levels = 200_000;
        assert_eq!(
            ask(&worker(&pool, "deep"), move || recurse(levels)).reply(),
            Ok(levels)
        );
    });
}
