//! The link over one socket: for platforms without shared memory, and wherever it is asked for.
//!
//! A frame is sent as its length, a `u32` in little-endian, and its bytes. Payloads are part of their frames. Two
//! notices go to the host besides the frames of `frame.rs` that its users see, because there are no claim words here:
//!
//! 1. The host sends one request at a time, the *front*, and keeps the others. Those can be taken back; the front
//!    cannot, for the host does not know yet whether it has begun.
//! 2. The child sends `Began` before a request runs. After its end the host has read all it wrote, so a request that
//!    was sent and not begun goes to the next child, and only what has begun fails.
//! 3. The front is over with its reply, or with `Free`: the child comes for the next request while this one goes on in
//!    the background, as a coroutine does.
//! 4. That a handler is to stop is an ordinary frame. The child looks for it when the handler asks, and puts what it
//!    finds besides in a queue.
//!
//! The host reads the end of the stream shortly before it learns how the child ended. So it says nothing of it until
//! [`END_GRACE`] has passed; only a child that closed its end and lives is reported as broken.

mod child;
mod frames;
mod host;
mod requests;
mod stream;
mod watch;
mod writer;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) use self::child::SocketChild;
pub(crate) use self::host::SocketHost;

/// The bytes of the longest frame: what its length can say. Beyond it a message fails alone, with its child.
const FRAME_LIMIT: usize = u32::MAX as usize;

/// How long a child may be silent after the end of its stream before it is taken for broken instead of dead. It ends
/// within milliseconds, and until then nothing is lost by waiting.
const END_GRACE: Duration = Duration::from_secs(1);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that may panic runs under these locks but the decoding of frames, which leaves them consistent.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, not(pytoweb_loom)))]
#[path = "socket/tests.rs"]
mod tests;
