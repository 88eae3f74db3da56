//! Random lives of streams, on real threads, against a model: the test tells the handler each step, and knows from the
//! model whether it can do it, and so for what to wait.

mod common;

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::task::Poll;
use std::time::Duration;

use common::{LIMIT, assert_settled};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use pytoweb_engine::testing::cases;
use pytoweb_workers::{AskError, HandClock, StreamReply, StreamSender, Worker};

const HOUR: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The handler sends its next item.
    Put,
    Return,
    Fail,
    /// The reader takes an item.
    Take,
    /// It is dropped.
    Drop,
    /// The deadline passes.
    Expire,
}

/// What the handler is to do.
#[derive(Debug)]
enum Command {
    Put(u32),
    Return,
    Fail,
}

/// What the handler says: that it runs, and whether an item was sent.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Begun,
    Sent,
    Unread,
}

/// What a handler is told, and where it says what came of it.
type Orders = Mutex<(Receiver<Command>, Sender<Said>)>;

fn obey(orders: Orders, items: &StreamSender<u32>) -> Result<(), &'static str> {
    let (commands, said) = orders.into_inner().expect("no panic");
    let _ = said.send(Said::Begun);
    for command in commands {
        match command {
            Command::Put(item) => {
                let sent = items.send(item).is_ok();
                let _ = said.send(if sent { Said::Sent } else { Said::Unread });
                if !sent {
                    break;
                }
            }
            Command::Return => break,
            Command::Fail => return Err("no more"),
        }
    }
    Ok(())
}

/// One stream, and what the model knows of it.
struct Life {
    window: u32,
    stream: Option<StreamReply<u32>>,
    commands: Sender<Command>,
    said: Receiver<Said>,
    /// Items that were sent, and those of them that were read.
    put: u32,
    taken: u32,
    /// The handler waits for room.
    waits: bool,
    /// The handler is at its end, which is this, unless it is given up.
    over: bool,
    end: Option<AskError>,
    expired: bool,
    /// The reader has had the end.
    told: bool,
}

impl Life {
    fn new(worker: &Worker, window: u32) -> Self {
        let (commands, told) = channel();
        let (say, said) = channel();
        let orders: Orders = Mutex::new((told, say));
        let stream = worker
            .message("obey", orders)
            .stream_timeout::<u32>(window as usize, HOUR)
            .expect("sent");
        // One that has not begun when its stream is dropped never does.
        assert_eq!(said.recv_timeout(LIMIT), Ok(Said::Begun));
        Self {
            window,
            stream: Some(stream),
            commands,
            said,
            put: 0,
            taken: 0,
            waits: false,
            over: false,
            end: None,
            expired: false,
            told: false,
        }
    }

    fn is_wanted(&self) -> bool {
        self.stream.is_some() && !self.expired
    }

    fn step(&mut self, step: Step, clock: &HandClock) {
        let is_free = !self.over && !self.waits;
        match step {
            Step::Put if is_free => {
                self.tell(Command::Put(self.put));
                self.waits = true;
                self.look();
            }
            Step::Return if is_free => {
                self.tell(Command::Return);
                self.over = true;
            }
            Step::Fail if is_free => {
                self.tell(Command::Fail);
                self.over = true;
                self.end = Some(AskError::Stopped);
            }
            Step::Take => self.take(),
            Step::Drop => {
                self.stream = None;
                self.look();
            }
            // The reply of a handler that has returned may stand, or be too late.
            Step::Expire if !self.over && self.is_wanted() => {
                clock.advance(HOUR);
                self.expired = true;
                self.look();
            }
            Step::Put | Step::Return | Step::Fail | Step::Expire => {}
        }
    }

    fn tell(&self, command: Command) {
        self.commands.send(command).expect("the handler is there");
    }

    /// What the handler says that waits, or why it says nothing.
    fn look(&mut self) {
        if !self.waits {
            return;
        }
        let ahead = self.put - self.taken;
        if !self.is_wanted() {
            match self.said.recv_timeout(LIMIT) {
                Ok(Said::Unread) => (self.waits, self.over) = (false, true),
                // There was room, and it looked before that.
                Ok(Said::Sent) if ahead < self.window => self.sent(),
                said => panic!("a handler that is not wanted said {said:?}"),
            }
        } else if ahead == 0 || ahead <= self.window / 2 {
            assert_eq!(self.said.recv_timeout(LIMIT), Ok(Said::Sent));
            self.sent();
        } else if ahead < self.window {
            // There was room when it looked first, or it sleeps until there is more.
            match self.said.try_recv() {
                Ok(Said::Sent) => self.sent(),
                said => assert_eq!(said, Err(TryRecvError::Empty)),
            }
        } else {
            assert_eq!(self.said.try_recv(), Err(TryRecvError::Empty));
        }
    }

    fn sent(&mut self) {
        self.put += 1;
        self.waits = false;
    }

    fn take(&mut self) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        // It may have been sent since the last look.
        let mut found = stream.next_timeout(Duration::ZERO);
        let may_come = self.taken < self.put || self.over || self.expired;
        if found.is_pending() && may_come {
            found = stream.next_timeout(LIMIT);
        }
        match found {
            Poll::Ready(Some(Ok(item))) => {
                assert_eq!(item, self.taken, "in order");
                assert!(!self.told, "an item after the end");
                if self.taken == self.put {
                    assert!(self.waits, "an item that was never sent");
                    assert_eq!(self.said.recv_timeout(LIMIT), Ok(Said::Sent));
                    self.sent();
                }
                self.taken += 1;
                self.look();
            }
            Poll::Pending => assert!(!may_come, "nothing came of {} items", self.put - self.taken),
            Poll::Ready(end) => {
                assert_eq!(self.taken, self.put, "the end came before the items");
                match end {
                    None => assert!(self.told || self.over && self.end.is_none() && !self.expired),
                    Some(Err(AskError::Expired)) => assert!(self.expired && !self.told),
                    Some(Err(AskError::Failed(_))) => {
                        assert!(self.end.is_some() && !self.expired && !self.told);
                    }
                    other => panic!("it ended with {other:?}"),
                }
                self.told = true;
            }
        }
    }

    /// The handler is to come to its end, whatever it does now.
    fn finish(mut self) {
        if self.stream.is_some() && !self.waits {
            if !self.over && !self.expired {
                self.tell(Command::Return);
                self.over = true;
            }
            while !self.told {
                self.take();
            }
            self.take();
        }
        self.stream = None;
        self.look();
        drop(self.commands);
        assert_eq!(
            self.said.recv_timeout(LIMIT),
            Err(RecvTimeoutError::Disconnected)
        );
    }
}

#[test]
fn every_life_of_a_stream_is_as_the_model_says() {
    let clock = HandClock::new();
    let worker = Worker::builder("obedient").clock(&clock).build();
    worker.on_stream("obey", obey);
    worker.on_error(|_| {});
    worker.start().expect("a thread");
    let steps = prop_oneof![
        8 => Just(Step::Put),
        8 => Just(Step::Take),
        1 => Just(Step::Return),
        1 => Just(Step::Fail),
        1 => Just(Step::Drop),
        1 => Just(Step::Expire),
    ];
    let lives = (
        prop_oneof![1_u32..6, Just(32)],
        prop::collection::vec(steps, 0..40),
    );
    TestRunner::new(cases(1000))
        .run(&lives, |(window, steps)| {
            let mut life = Life::new(&worker, window);
            for step in steps {
                life.step(step, &clock);
            }
            life.finish();
            Ok(())
        })
        .expect("as the model says");
    worker.run_until_idle(LIMIT).expect("it ends");
    assert_settled(&worker);
}
