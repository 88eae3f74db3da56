//! The peer without an actor: a closure spawned on a rayon pool and a oneshot channel per message.

use std::hint::black_box;

use rayon::ThreadPool;

use crate::rounds::rate;

fn pool(threads: usize) -> ThreadPool {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .expect("threads can be started")
}

fn spawn(pool: &ThreadPool, number: u64) -> oneshot::Receiver<u64> {
    let (sender, receiver) = oneshot::channel();
    pool.spawn(move || {
        // Fails only where no caller waits any more, and every bench does.
        let _ = sender.send(number + 1);
    });
    receiver
}

/// Spawns all, then waits for all replies.
pub(crate) fn spawn_all(threads: usize) -> impl FnMut(usize) -> f64 {
    let pool = pool(threads);
    move |count| {
        rate(count, || {
            let replies: Vec<_> = (0..count as u64)
                .map(|number| spawn(&pool, number))
                .collect();
            for reply in replies {
                black_box(reply.recv().expect("the closure replies"));
            }
        })
    }
}

/// Spawns and waits, once per call, on one thread.
pub(crate) fn spawn_one() -> impl FnMut(u64) {
    let pool = pool(1);
    move |number| {
        black_box(spawn(&pool, number).recv().expect("the closure replies"));
    }
}
