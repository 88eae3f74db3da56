//! For scale, not a peer: a thread that calls boxed closures from a channel, a oneshot per reply.

use std::hint::black_box;
use std::thread;

use crossbeam_channel::{Sender, unbounded};

use crate::rounds::rate;

type Task = Box<dyn FnOnce() + Send>;

/// Sends all, then waits for all replies; the thread ends with the sender.
pub(crate) fn send_all() -> impl FnMut(usize) -> f64 {
    let (tasks, inbox): (Sender<Task>, _) = unbounded();
    thread::spawn(move || inbox.iter().for_each(|task| task()));
    move |count| {
        rate(count, || {
            let replies: Vec<_> = (0..count as u64)
                .map(|number| {
                    let (sender, receiver) = oneshot::channel();
                    let task: Task = Box::new(move || {
                        // Fails only where no caller waits any more, and every bench does.
                        let _ = sender.send(number + 1);
                    });
                    tasks.send(task).expect("the thread lives");
                    receiver
                })
                .collect();
            for reply in replies {
                black_box(reply.recv().expect("the closure replies"));
            }
        })
    }
}
