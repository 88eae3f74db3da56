//! Random lives of a channel whose handler is on a thread of the same process, against a model. The other kind, from a
//! child, is tested in `pytoweb-process`, with the credit of the child.
//!
//! Everything is on one thread: each call decides under one lock, so a step is all that a thread can do between two steps
//! of another.

use std::cell::Cell;
use std::rc::Rc;

use proptest::prelude::*;

use super::{StreamChannel, StreamFound, StreamPut, StreamWake};
use crate::testing::cases;

/// Counts how often an end was woken.
struct Woken(Rc<Cell<u32>>);

impl StreamWake for Woken {
    fn wake(self) {
        self.0.set(self.0.get() + 1);
    }
}

fn wake(count: &Rc<Cell<u32>>) -> impl FnOnce() -> Option<Woken> + use<> {
    let woken = Woken(count.clone());
    || Some(woken)
}

/// Fills the channel, and reads until it is empty; or, with `puts`, until the handler was woken, which puts one item then.
fn empty(channel: &StreamChannel<u32, Woken>, puts: bool) {
    let woken = Rc::new(Cell::new(0));
    while channel.put(0, wake(&woken)) == StreamPut::Done {}
    let mut put = false;
    loop {
        if puts && !put && woken.get() > 0 {
            put = true;
            assert_eq!(channel.put(1, wake(&woken)), StreamPut::Done);
        }
        if channel.take(wake(&Rc::default())) == StreamFound::Nothing {
            return;
        }
    }
}

#[test]
fn a_window_grows_where_the_reader_is_quicker_than_the_handler_is_woken() {
    let channel = StreamChannel::<u32, Woken>::growing(4, 11);
    for window in [4, 8, 11, 11] {
        assert_eq!(channel.window(), window);
        empty(&channel, false);
    }
}

#[test]
fn a_window_stays_where_the_handler_comes_in_time() {
    let channel = StreamChannel::<u32, Woken>::growing(4, 11);
    empty(&channel, true);
    assert_eq!(channel.window(), 4);
}

#[test]
fn a_window_stays_where_the_reader_was_never_waited_for() {
    let channel = StreamChannel::<u32, Woken>::growing(4, 11);
    for _ in 0..3 {
        assert_eq!(channel.put(0, || None), StreamPut::Done);
        assert_eq!(channel.take(|| None), StreamFound::Item(0));
        assert_eq!(channel.take(|| None), StreamFound::Nothing);
    }
    assert_eq!(channel.window(), 4);
}

#[test]
fn a_window_of_a_fixed_size_stays() {
    let channel = StreamChannel::new(4);
    empty(&channel, false);
    assert_eq!(channel.window(), 4);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The handler puts its next item, if there is room.
    Put,
    /// It returns, or raises: the reply stands.
    Return,
    /// The reader takes an item.
    Take,
    /// It closes the stream.
    Close,
    /// A deadline passes, or the worker is terminated: the reply stands, and the handler goes on until it looks.
    GiveUp,
}

/// The items that were put and wanted, those of them that were taken, and how it ended.
#[derive(Debug, Default)]
struct Model {
    put: u32,
    taken: u32,
    closed: bool,
    given_up: bool,
    returned: bool,
}

impl Model {
    fn room(&self, window: u32) -> Option<bool> {
        let wanted = !self.closed && !self.given_up;
        wanted.then_some(self.put - self.taken < window)
    }

    fn next(&self) -> StreamFound<u32> {
        if self.closed {
            StreamFound::End
        } else if self.taken < self.put {
            StreamFound::Item(self.taken)
        } else if self.given_up || self.returned {
            StreamFound::End
        } else {
            StreamFound::Nothing
        }
    }
}

fn live(window: u32, steps: &[Step]) {
    let channel = StreamChannel::new(window);
    let mut model = Model::default();
    let (reader, handler) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    // How often an end that waits was woken before it began to.
    let (mut reader_waits, mut handler_waits) = (None, None);
    for step in steps {
        match step {
            Step::Put if !model.returned => {
                let put = channel.put(model.put, || Some(Woken(handler.clone())));
                let expected = match model.room(window) {
                    Some(true) => StreamPut::Done,
                    Some(false) => StreamPut::Full(model.put),
                    None => StreamPut::Unwanted,
                };
                assert_eq!(put, expected, "{model:?}");
                handler_waits = matches!(put, StreamPut::Full(_)).then(|| handler.get());
                model.put += u32::from(put == StreamPut::Done);
            }
            Step::Put => {}
            Step::Return => {
                channel.end();
                model.returned = true;
            }
            Step::Take => {
                let found = channel.take(|| Some(Woken(reader.clone())));
                assert_eq!(found, model.next(), "{model:?}");
                reader_waits = (found == StreamFound::Nothing).then(|| reader.get());
                model.taken += u32::from(matches!(found, StreamFound::Item(_)));
            }
            Step::Close => {
                channel.close();
                model.closed = true;
            }
            Step::GiveUp => {
                channel.give_up();
                channel.end();
                model.given_up = true;
            }
        }
        assert_eq!(channel.is_closed(), model.closed || model.given_up);
        if model.next() != StreamFound::Nothing {
            assert!(
                reader_waits.is_none_or(|before| reader.get() > before),
                "the reader sleeps"
            );
        }
        // A handler that waits sleeps on until there is room for half a window.
        let roomy = model.put - model.taken <= window / 2;
        if model.room(window).is_none() || roomy {
            assert!(
                handler_waits.is_none_or(|before| handler.get() > before),
                "the handler sleeps"
            );
        }
    }
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn every_life_of_a_channel_is_as_the_model_says(
        window in prop_oneof![1_u32..6, Just(32)],
        steps in prop::collection::vec(
            prop_oneof![
                8 => Just(Step::Put),
                7 => Just(Step::Take),
                1 => Just(Step::Return),
                1 => Just(Step::Close),
                1 => Just(Step::GiveUp),
            ],
            0..80,
        ),
    ) {
        live(window, &steps);
    }
}
