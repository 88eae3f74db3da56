//! Doubles for tests of handlers, carriers and clocks; only with the feature `testing`.
//!
//! [`HandClock`] is a clock that a test moves, [`Closures`] a handler whose messages are closures, and [`Gate`] what
//! one thread waits at until another opens it. [`bounded`] fails a test that hangs. They are those of the engine's own
//! tests, and what hangs or comes out wrong in them panics: nothing in here is for a program that runs.
//!
//! ```
//! use std::time::Duration;
//! use pytoweb_engine::testing::{Closures, Job, bounded, pool_with_clock};
//! use pytoweb_engine::{Failure, Worker, WorkerOptions};
//!
//! bounded(|| {
//!     let (pool, clock) = pool_with_clock(1);
//!     let worker = Worker::new("asked", Closures, WorkerOptions::default(), &pool);
//!     let (job, asked) = Job::ask(|| unreachable!("it has expired"));
//!     assert!(worker.try_post(job).is_ok());
//!     worker
//!         .set_deadline(&asked.ticket(), Duration::from_secs(5))
//!         .expect("a thread that watches");
//!
//!     clock.advance(Duration::from_secs(6));
//!     pool.expire_due();
//!     assert_eq!(asked.reply(), Err(Failure::Expired));
//! });
//! ```
//!
//! They synchronise by the standard library, in models of loom as well: no model explores a double.

#[cfg(feature = "proptest")]
#[path = "testing/cases.rs"]
mod cases;
#[path = "testing/gate.rs"]
mod gate;
#[path = "testing/hand_clock.rs"]
mod hand_clock;
#[path = "testing/job.rs"]
mod job;

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

#[cfg(feature = "proptest")]
pub use cases::cases;
pub use gate::Gate;
pub use hand_clock::{HandClock, pool_with_clock};
pub use job::{Asked, Closures, Job, Out};

/// Longer than any wait of a test that passes, on one slow core; shorter than a minute, which many runners give a test.
pub const LONG: Duration = Duration::from_secs(40);

/// Runs `body` on a thread of its own, and blocks until it returns, at most for [`LONG`].
///
/// # Panics
/// With the panic of `body`, or when it takes longer: then its thread goes on, and ends with the program.
pub fn bounded<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, over) = mpsc::channel();
    let thread = thread::spawn(move || {
        let result = body();
        let _ = done.send(());
        result
    });
    match over.recv_timeout(LONG) {
        Err(RecvTimeoutError::Timeout) => panic!("still busy after {LONG:?}: something hangs"),
        Ok(()) | Err(RecvTimeoutError::Disconnected) => match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        },
    }
}
