//! The peer kameo: one actor with an unbounded mailbox on a tokio runtime of its own.

use std::convert::Infallible;
use std::hint::black_box;

use kameo::Actor;
use kameo::actor::Spawn;
use kameo::mailbox;
use kameo::message::{Context, Message};
use tokio::runtime::Builder;

use crate::rounds::rate;

#[derive(Actor)]
struct Increment;

struct Number(u64);

impl Message<Number> for Increment {
    type Reply = Result<u64, Infallible>;

    async fn handle(&mut self, message: Number, _: &mut Context<Self, Self::Reply>) -> Self::Reply {
        Ok(message.0 + 1)
    }
}

/// Enqueues all, then awaits all replies, from a thread outside the runtime's own.
pub(crate) fn ask_all(threads: usize) -> impl FnMut(usize) -> f64 {
    let runtime = Builder::new_multi_thread()
        .worker_threads(threads)
        .build()
        .expect("threads can be started");
    let actor =
        runtime.block_on(async { Increment::spawn_with_mailbox(Increment, mailbox::unbounded()) });
    move |count| {
        rate(count, || {
            runtime.block_on(async {
                let mut replies = Vec::with_capacity(count);
                for number in 0..count as u64 {
                    replies.push(
                        actor
                            .ask(Number(number))
                            .enqueue()
                            .await
                            .expect("the actor lives"),
                    );
                }
                for reply in replies {
                    black_box(reply.await.expect("the actor replies"));
                }
            });
        })
    }
}
