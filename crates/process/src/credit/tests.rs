//! Random lives of a stream from a child, against a model: both halves of the window, and the frames in between.
//!
//! Everything is on one thread, which does one step after the other: each half has a lock of its own and decides under
//! it, so a step here is all that one thread can do between two of another.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use proptest::prelude::*;
use pytoweb_engine::testing::cases;
use pytoweb_engine::{StreamChannel, StreamFound, StreamWake};

use super::Credit;

/// Counts how often an end was woken.
#[derive(Debug)]
struct Woken(Rc<Cell<u32>>);

impl StreamWake for Woken {
    fn wake(self) {
        self.0.set(self.0.get() + 1);
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The handler yields its next item, or tries again to put the one for which there was no room.
    Yield,
    /// It returns, or raises.
    Return,
    /// The child's process ends in the middle of its work.
    Crash,
    /// The child reads the next frame.
    ChildReads,
    /// The host reads the next frame.
    HostReads,
    /// The reader takes an item.
    Take,
    /// It closes the stream.
    Close,
    /// A deadline passes, or the worker is terminated.
    GiveUp,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => Just(Step::Yield),
        6 => Just(Step::HostReads),
        4 => Just(Step::ChildReads),
        8 => Just(Step::Take),
        1 => Just(Step::Return),
        1 => Just(Step::Close),
        1 => Just(Step::GiveUp),
        1 => Just(Step::Crash),
    ]
}

/// A frame to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Up {
    Item(u32),
    Answer,
}

/// A frame to the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Down {
    Grant(u32),
    Enough,
}

/// A stream: the code under test, and what lies between its halves.
struct Stream {
    window: u32,
    channel: StreamChannel<u32, Woken>,
    credit: Credit<Woken>,
    up: VecDeque<Up>,
    down: VecDeque<Down>,
    /// Items that were sent.
    sent: u32,
    /// The handler is at its end.
    handler_over: bool,
    crashed: bool,
    /// The reply stands.
    answered: bool,
    reader: Rc<Cell<u32>>,
    handler: Rc<Cell<u32>>,
}

/// What the reader is to see: how many items it got, and how many it is still to get.
#[derive(Debug, Default)]
struct Model {
    /// Items that came before the stream was closed or given up.
    came: u32,
    taken: u32,
    closed: bool,
    given_up: bool,
    answered: bool,
}

impl Model {
    fn next(&self) -> StreamFound<u32> {
        if self.closed {
            StreamFound::End
        } else if self.taken < self.came {
            StreamFound::Item(self.taken)
        } else if self.given_up || self.answered {
            StreamFound::End
        } else {
            StreamFound::Nothing
        }
    }
}

impl Stream {
    fn new(window: u32) -> Self {
        Self {
            window,
            channel: StreamChannel::new(window),
            credit: Credit::new(window),
            up: VecDeque::new(),
            down: VecDeque::new(),
            sent: 0,
            handler_over: false,
            crashed: false,
            answered: false,
            reader: Rc::default(),
            handler: Rc::default(),
        }
    }

    /// Does one step; it does nothing where it makes no sense.
    fn step(&mut self, step: Step, model: &mut Model) {
        match step {
            Step::Yield => self.put(),
            Step::Return => self.finish(),
            Step::Crash => {
                let is_idle = self.handler_over && self.up.is_empty();
                if self.crashed || is_idle {
                    return;
                }
                // The frames that it has sent are read all the same, then its end shows.
                self.crashed = true;
                self.finish();
                self.down.clear();
            }
            Step::ChildReads => match self.down.pop_front() {
                Some(Down::Grant(items)) => self.credit.grant(items),
                Some(Down::Enough) => self.credit.close(),
                None => {}
            },
            Step::HostReads => self.host_reads(model),
            Step::Take => self.take(model),
            Step::Close => {
                self.channel.close();
                model.closed = true;
                self.tell(Down::Enough);
            }
            Step::GiveUp => {
                if !self.answered {
                    self.channel.give_up();
                    model.given_up = true;
                    self.tell(Down::Enough);
                    self.answer(model);
                }
            }
        }
    }

    fn put(&mut self) {
        if self.handler_over {
            return;
        }
        let woken = self.handler.clone();
        match self.credit.take(|| Some(Woken(woken))) {
            Some(true) => {
                self.up.push_back(Up::Item(self.sent));
                self.sent += 1;
            }
            Some(false) => {}
            None => self.finish(),
        }
    }

    fn finish(&mut self) {
        if !self.handler_over {
            self.handler_over = true;
            self.up.push_back(Up::Answer);
        }
    }

    fn host_reads(&mut self, model: &mut Model) {
        match self.up.pop_front() {
            Some(Up::Item(item)) => {
                self.channel.push(item);
                if !model.closed && !model.given_up {
                    model.came += 1;
                }
            }
            Some(Up::Answer) => self.answer(model),
            None => {}
        }
    }

    fn answer(&mut self, model: &mut Model) {
        if !self.answered {
            self.answered = true;
            self.channel.end();
            model.answered = true;
        }
    }

    fn take(&mut self, model: &mut Model) {
        let woken = self.reader.clone();
        let found = self.channel.take(|| Some(Woken(woken)));
        assert_eq!(found, model.next(), "{model:?}");
        if let StreamFound::Item(_) = found {
            model.taken += 1;
            if let Some(read) = self.channel.to_grant() {
                self.tell(Down::Grant(read));
            }
        }
    }

    fn tell(&mut self, frame: Down) {
        if !self.crashed && !self.answered {
            self.down.push_back(frame);
        }
    }

    /// No end is ahead of the other by more than the window, and none that could go on is asleep.
    fn check(&self, model: &Model, waits: &Waits) {
        let read = if model.closed { self.sent } else { model.taken };
        assert!(
            self.sent - read <= self.window,
            "{} items are on their way through a window of {}",
            self.sent - read,
            self.window
        );
        if let Some(asleep) = waits.reader
            && model.next() != StreamFound::Nothing
        {
            assert!(self.reader.get() > asleep, "the reader sleeps: {model:?}");
        }
        if let Some(asleep) = waits.handler
            && self.can_go_on()
        {
            assert!(self.handler.get() > asleep, "the handler sleeps: {model:?}");
        }
    }

    /// Whether a handler that looks now is told to go on or to end.
    fn can_go_on(&self) -> bool {
        let sending = self.credit.lock();
        sending.closed || sending.left > 0
    }
}

/// How often each end that waits was woken before it began to.
#[derive(Debug, Default)]
struct Waits {
    reader: Option<u32>,
    handler: Option<u32>,
}

/// Does the steps, then lets all come to their ends.
fn live(window: u32, steps: &[Step]) {
    let (mut stream, mut model, mut waits) =
        (Stream::new(window), Model::default(), Waits::default());
    for step in steps {
        let found_nothing = model.next() == StreamFound::Nothing;
        let no_credit = !stream.handler_over && !stream.can_go_on();
        match step {
            Step::Take => waits.reader = found_nothing.then(|| stream.reader.get()),
            Step::Yield => waits.handler = no_credit.then(|| stream.handler.get()),
            _ => {}
        }
        stream.step(*step, &mut model);
        stream.check(&model, &waits);
    }
    // Nothing more is done but what lies there already: the reader reads on, and both sides read their frames.
    for _ in 0..2 {
        while !stream.up.is_empty()
            || !stream.down.is_empty()
            || matches!(model.next(), StreamFound::Item(_))
        {
            stream.step(Step::HostReads, &mut model);
            stream.step(Step::ChildReads, &mut model);
            stream.step(Step::Take, &mut model);
        }
    }
    let goes_on = !model.closed && !model.given_up && !model.answered;
    assert!(
        !goes_on || stream.can_go_on(),
        "all is read, and the handler may send nothing"
    );
    if !stream.crashed {
        stream.step(Step::Yield, &mut model);
        stream.step(Step::Return, &mut model);
    }
    while !stream.up.is_empty() {
        stream.step(Step::HostReads, &mut model);
        stream.step(Step::Take, &mut model);
    }
    while model.next() != StreamFound::End {
        assert_ne!(
            model.next(),
            StreamFound::Nothing,
            "it has no end: {model:?}"
        );
        stream.step(Step::Take, &mut model);
    }
    stream.step(Step::Take, &mut model);
    assert!(stream.answered);
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn every_life_of_a_stream_is_as_the_model_says(
        window in prop_oneof![1_u32..6, Just(32)],
        steps in prop::collection::vec(step(), 0..80),
    ) {
        live(window, &steps);
    }
}
