//! Streams: items in order as they come, through a window, and how they end.

mod common;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use common::LIMIT;
use futures_core::Stream;
use pytoweb_workers::{
    AskError, SendError, StopOptions, StreamReply, StreamSender, Unread, Worker, WorkerPool,
};

/// Runs a test on a thread of its own, and fails it if it takes too long.
fn bounded(test: impl FnOnce() + Send + 'static) {
    let (tell, told) = mpsc::channel();
    let running = thread::spawn(move || {
        test();
        let _ = tell.send(());
    });
    match told.recv_timeout(LIMIT) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => {
            if let Err(panic) = running.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

fn up_to(last: u32, items: &StreamSender<u32>) -> Result<(), Unread<u32>> {
    (0..last).try_for_each(|number| items.send(number))
}

/// A started worker that counts, and tells of each number and of its end.
fn counting() -> (Worker, mpsc::Receiver<Option<u32>>) {
    let (tell, told) = mpsc::channel();
    let worker = Worker::new("counting");
    worker.on_stream("count", move |first: u32, items: &StreamSender<u32>| {
        for number in first.. {
            let _ = tell.send(Some(number));
            if items.send(number).is_err() {
                break;
            }
        }
        let _ = tell.send(None);
        Ok::<_, Infallible>(())
    });
    worker.on_stream("up-to", up_to);
    worker.on_message("echo", |n: u32| Ok::<_, Infallible>(n));
    worker.start().expect("a thread");
    (worker, told)
}

fn collected(stream: StreamReply<u32>) -> Result<Vec<u32>, AskError> {
    stream.collect()
}

#[test]
fn items_come_in_order_through_a_window_of_any_size() {
    bounded(|| {
        let (worker, _told) = counting();
        let all: Vec<u32> = (0..1000).collect();
        for window in [0, 1, 2, 32, 100_000] {
            let stream = worker.message("up-to", 1000_u32).stream(window);
            assert_eq!(collected(stream.expect("sent")).expect("no error"), all);
        }
        let none = worker.stream("up-to", 0_u32).expect("sent");
        assert_eq!(collected(none).expect("no error"), []);
    });
}

#[test]
fn a_slow_reader_slows_the_handler() {
    bounded(|| {
        let (worker, told) = counting();
        let mut stream = worker
            .message("count", 0_u32)
            .stream::<u32>(4)
            .expect("sent");
        let made = AtomicU32::new(0);
        let count_made = || {
            let new = u32::try_from(told.try_iter().flatten().count()).expect("few");
            made.fetch_add(new, Ordering::Relaxed) + new
        };
        for number in 0..200 {
            assert_eq!(stream.next().expect("endless").expect("no error"), number);
            // So many were read, wait in the window, and one is with the handler.
            assert!(count_made() <= number + 1 + 4 + 1);
        }
    });
}

#[test]
fn several_threads_of_a_handler_share_the_window() {
    bounded(|| {
        let worker = Worker::new("sharing");
        let sent = Arc::new(AtomicU32::new(0));
        let count = sent.clone();
        worker.on_stream("share", move |rounds: u32, items: &StreamSender<u32>| {
            thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        for round in 0..rounds {
                            if items.send(round).is_ok() {
                                count.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    });
                }
            });
            Ok::<_, Infallible>(())
        });
        worker.start().expect("a thread");
        let mut stream = worker
            .message("share", 1000_u32)
            .stream::<u32>(1)
            .expect("sent");
        for read in 1..=4000 {
            assert!(stream.next().expect("more").is_ok());
            assert!(sent.load(Ordering::Relaxed) <= read + 1);
        }
        assert!(stream.next().is_none());
    });
}

#[test]
fn a_stream_that_is_dropped_ends_its_handler() {
    bounded(|| {
        let (worker, told) = counting();
        let mut stream = worker.stream::<u32, u32>("count", 0).expect("sent");
        assert_eq!(stream.next().expect("endless").expect("no error"), 0);
        let behind = worker.stream::<u32, u32>("count", 7).expect("sent");
        drop(behind);
        drop(stream);
        while told.recv_timeout(LIMIT).expect("in time").is_some() {}
        assert_eq!(
            worker
                .ask::<u32, u32>("echo", 3)
                .expect("sent")
                .wait()
                .expect("a reply"),
            3
        );
        let counters = worker.stats().counters;
        assert_eq!((counters.cancelled, counters.completed), (1, 2));
        assert!(told.try_recv().is_err(), "the one behind it never began");
    });
}

#[test]
fn the_error_of_a_handler_comes_after_its_items() {
    bounded(|| {
        let worker = Worker::new("failing");
        worker.on_stream("fail", |_: (), items: &StreamSender<u32>| {
            items.send(1)?;
            Err::<(), Box<dyn std::error::Error + Send + Sync>>("no more".into())
        });
        worker.on_stream(
            "panic",
            |_: (), items: &StreamSender<u32>| -> Result<(), Infallible> {
                let _ = items.send(1);
                panic!("at the disco")
            },
        );
        worker.on_error(|_| {});
        worker.start().expect("a thread");
        let mut stream = worker.stream::<(), u32>("fail", ()).expect("sent");
        assert_eq!(stream.next().expect("an item").expect("no error"), 1);
        let error = stream.next().expect("an error").expect_err("an error");
        assert_eq!(error.to_string(), "the handler failed: no more");
        assert!(stream.next().is_none());
        let mut stream = worker.stream::<(), u32>("panic", ()).expect("sent");
        assert!(matches!(stream.next(), Some(Ok(1))));
        assert!(matches!(stream.next(), Some(Err(AskError::Panicked(_)))));
    });
}

#[test]
fn a_deadline_and_an_end_of_the_worker_end_it() {
    bounded(|| {
        let (worker, told) = counting();
        let stream = worker
            .message("count", 0_u32)
            .stream_timeout::<u32>(2, Duration::from_millis(50))
            .expect("sent");
        while told.recv_timeout(LIMIT).expect("in time").is_some() {}
        let ends = stream.filter_map(Result::err).collect::<Vec<_>>();
        assert!(matches!(ends[..], [AskError::Expired]), "{ends:?}");

        let mut stream = worker.stream::<u32, u32>("count", 0).expect("sent");
        assert!(matches!(stream.next(), Some(Ok(0))));
        worker.terminate();
        let ends = stream.filter_map(Result::err).collect::<Vec<_>>();
        assert!(matches!(ends[..], [AskError::Stopped]), "{ends:?}");
        worker
            .stop_with(StopOptions {
                drain: false,
                timeout: Some(LIMIT),
            })
            .expect("in time");
    });
}

#[test]
fn a_handler_that_waits_for_its_reader_leaves_its_place_in_the_pool() {
    bounded(|| {
        let pool = WorkerPool::new(1);
        pool.on_stream("up-to", up_to);
        let waiting: Vec<_> = (0..5)
            .map(|_| pool.message("up-to", 100_u32).stream::<u32>(1))
            .collect::<Result<_, _>>()
            .expect("sent");
        assert_eq!(
            pool.submit(|| 1)
                .map_err(|_| "shut down")
                .expect("sent")
                .wait()
                .expect("a reply"),
            1
        );
        for stream in waiting {
            assert_eq!(collected(stream).expect("no error").len(), 100);
        }
        pool.shutdown();
    });
}

#[test]
fn asks_and_streams_are_told_apart_by_their_types() {
    bounded(|| {
        let (worker, _told) = counting();
        let refused = worker.ask::<u32, u32>("up-to", 1);
        assert!(matches!(refused, Err(SendError::WrongType(1, _))));
        let refused = worker.stream::<u32, u32>("echo", 1);
        assert!(matches!(refused, Err(SendError::WrongType(1, _))));
        let refused = worker.stream::<u32, String>("up-to", 1);
        assert!(matches!(refused, Err(SendError::WrongType(1, _))));
    });
}

#[test]
fn a_handler_that_reads_a_stream_of_its_own_worker_is_told() {
    bounded(|| {
        let (worker, _told) = counting();
        let own = worker.downgrade();
        worker.on_message("read", move |n: u32| {
            let worker = own.upgrade().expect("it runs");
            let mut stream = worker.stream::<u32, u32>("up-to", n).expect("sent");
            let first = stream.next();
            assert!(stream.next().is_none());
            Ok::<_, Infallible>(matches!(first, Some(Err(AskError::Cycle(_)))))
        });
        let told = worker.ask::<u32, bool>("read", 3).expect("sent");
        assert!(told.wait().expect("a reply"));
    });
}

#[test]
fn several_run_at_once_where_the_worker_does() {
    bounded(|| {
        let worker = Worker::builder("several").concurrency(3).build();
        worker.concurrent().on_stream("up-to", up_to);
        worker.start().expect("a thread");
        let mut streams: Vec<_> = (0..3)
            .map(|_| worker.message("up-to", 10_u32).stream::<u32>(1))
            .collect::<Result<_, _>>()
            .expect("sent");
        for number in 0..10 {
            for stream in &mut streams {
                assert_eq!(stream.next().expect("more").expect("no error"), number);
            }
        }
    });
}

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[test]
fn it_is_polled_without_blocking() {
    bounded(|| {
        let (worker, _told) = counting();
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        let mut stream = worker.stream::<u32, u32>("up-to", 500).expect("sent");
        let mut seen = Vec::new();
        loop {
            match Pin::new(&mut stream).poll_next(&mut context) {
                Poll::Ready(Some(item)) => seen.push(item.expect("no error")),
                Poll::Ready(None) => break,
                Poll::Pending => thread::park_timeout(LIMIT),
            }
        }
        assert_eq!(seen, (0..500).collect::<Vec<_>>());
    });
}
