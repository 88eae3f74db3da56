//! What a program writes that uses no library of workers: a channel, a thread or a task that reads it, a oneshot per reply.

use std::hint::black_box;
use std::sync::mpsc;
use std::thread;

use crossbeam_channel::{Sender, unbounded};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::oneshot as tokio_oneshot;

use crate::rounds::rate;

enum Posted {
    Number(u64),
    /// Tells when all before it are handled.
    Last(mpsc::Sender<()>),
}

fn handle(posted: Posted) {
    match posted {
        Posted::Number(number) => {
            black_box(number + 1);
        }
        Posted::Last(done) => {
            // Fails only when no bench waits any more.
            let _ = done.send(());
        }
    }
}

fn reader() -> Sender<Posted> {
    let (sender, inbox) = unbounded();
    thread::spawn(move || inbox.iter().for_each(handle));
    sender
}

/// Posts all over a crossbeam channel, until the last is handled.
pub(crate) fn post_crossbeam() -> impl FnMut(usize) -> f64 {
    let sender = reader();
    move |count| {
        rate(count, || {
            for number in 0..count as u64 {
                sender.send(Posted::Number(number)).expect("it is read");
            }
            wait_for_last(&sender);
        })
    }
}

fn wait_for_last(sender: &Sender<Posted>) {
    let (done, told) = mpsc::channel();
    sender.send(Posted::Last(done)).expect("it is read");
    told.recv().expect("it is handled");
}

/// The same from `producers` threads at once.
pub(crate) fn post_from_many(producers: usize) -> impl FnMut(usize) -> f64 {
    let sender = reader();
    move |count| {
        rate(count, || {
            thread::scope(|scope| {
                for _ in 0..producers {
                    scope.spawn(|| {
                        for number in 0..(count / producers) as u64 {
                            sender.send(Posted::Number(number)).expect("it is read");
                        }
                    });
                }
            });
            wait_for_last(&sender);
        })
    }
}

struct Question(u64, tokio_oneshot::Sender<u64>);

fn task() -> (Runtime, UnboundedSender<Question>) {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .expect("threads can be started");
    let (sender, mut inbox) = unbounded_channel::<Question>();
    runtime.spawn(async move {
        while let Some(Question(number, reply)) = inbox.recv().await {
            let _ = reply.send(number + 1);
        }
    });
    (runtime, sender)
}

/// Asks all over tokio channels, then takes all replies.
pub(crate) fn ask_tokio() -> impl FnMut(usize) -> f64 {
    let (runtime, sender) = task();
    move |count| {
        rate(count, || {
            runtime.block_on(async {
                let mut replies = Vec::with_capacity(count);
                for number in 0..count as u64 {
                    let (reply, receiver) = tokio_oneshot::channel();
                    sender.send(Question(number, reply)).expect("it is read");
                    replies.push(receiver);
                }
                for reply in replies {
                    black_box(reply.await.expect("the task replies"));
                }
            });
        })
    }
}
