//! The peer actix: one actor on an arbiter of its own, with a mailbox without limit.

use std::hint::black_box;
use std::sync::mpsc;
use std::thread;

use actix::{Actor, Addr, Context, Handler, Message, System};

use crate::rounds::rate;

struct Increment;

impl Actor for Increment {
    type Context = Context<Self>;
}

#[derive(Debug)]
struct Number(u64);

impl Message for Number {
    type Result = ();
}

impl Handler<Number> for Increment {
    type Result = ();

    fn handle(&mut self, Number(number): Number, _: &mut Self::Context) {
        black_box(number + 1);
    }
}

/// Tells when all before it are handled.
struct Last(mpsc::Sender<()>);

impl Message for Last {
    type Result = ();
}

impl Handler<Last> for Increment {
    type Result = ();

    fn handle(&mut self, Last(done): Last, _: &mut Self::Context) {
        // Fails only when no bench waits any more.
        let _ = done.send(());
    }
}

/// An actor on a thread of its own, which lives as long as the program.
fn start() -> Addr<Increment> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let system = System::new();
        let actor = system.block_on(async { Increment.start() });
        tell.send(actor).expect("the bench waits for it");
        system.run().expect("the system runs");
    });
    told.recv().expect("the system starts")
}

/// Posts from `producers` threads at once, until the last is handled.
pub(crate) fn post_from_many(producers: usize) -> impl FnMut(usize) -> f64 {
    let actor = start();
    move |count| {
        rate(count, || {
            thread::scope(|scope| {
                for _ in 0..producers {
                    let actor = actor.clone();
                    scope.spawn(move || {
                        for number in 0..(count / producers) as u64 {
                            actor.do_send(Number(number));
                        }
                    });
                }
            });
            let (done, told) = mpsc::channel();
            actor.do_send(Last(done));
            told.recv().expect("it is handled");
        })
    }
}
