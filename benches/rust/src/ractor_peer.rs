//! The peer ractor: one actor on a tokio runtime of its own; its mailboxes have no limit.

use std::hint::black_box;

use ractor::concurrency::oneshot;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::runtime::Builder;

use crate::rounds::rate;

struct Increment;

struct Number(u64, RpcReplyPort<u64>);

// Without the cluster feature every sendable type is a ractor message.
impl Actor for Increment {
    type Msg = Number;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Number>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Number>,
        Number(number, reply): Number,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(reply.send(number + 1)?)
    }
}

async fn ask(actor: &ActorRef<Number>, count: usize) {
    let mut replies = Vec::with_capacity(count);
    for number in 0..count as u64 {
        let (sender, receiver) = oneshot();
        actor
            .send_message(Number(number, sender.into()))
            .expect("the actor lives");
        replies.push(receiver);
    }
    for reply in replies {
        black_box(reply.await.expect("the actor replies"));
    }
}

/// Sends all, then awaits all replies: from a thread outside the runtime's own, or from a task `inside`.
///
/// `ActorRef::call` sends only when it is awaited, so the reply ports are made by hand.
pub(crate) fn ask_all(threads: usize, inside: bool) -> impl FnMut(usize) -> f64 {
    let runtime = Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_time()
        .build()
        .expect("threads can be started");
    let (actor, _) = runtime
        .block_on(Actor::spawn(None, Increment, ()))
        .expect("the actor starts");
    move |count| {
        let actor = actor.clone();
        rate(count, || {
            if inside {
                let asked = runtime.spawn(async move { ask(&actor, count).await });
                runtime.block_on(asked).expect("the task ends");
            } else {
                runtime.block_on(ask(&actor, count));
            }
        })
    }
}
