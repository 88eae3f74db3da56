//! The thread of a child that ends it when its host is gone, whatever a handler is doing.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::getppid;

/// How often to look who the parent is. A process that the host forked holds the host's end open after its death.
const PARENT_LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 500_000_000,
};
/// How long to rest where the system reports bytes that it was not asked for: those are another thread's to read.
const REST: Duration = Duration::from_millis(20);

/// Starts it. `socket` is looked at and never read.
pub(super) fn start(socket: &UnixStream) -> io::Result<()> {
    let socket = OwnedFd::from(socket.try_clone()?);
    let host = getppid();
    thread::Builder::new()
        .name("pytoweb-host-watch".to_owned())
        .stack_size(64 << 10)
        .spawn(move || {
            loop {
                let mut looked_at = [PollFd::new(&socket, PollFlags::HUP)];
                let events = poll(&mut looked_at, Some(&PARENT_LOOK));
                if looked_at[0].revents().contains(PollFlags::HUP) || getppid() != host {
                    crate::spawn::end_now();
                }
                if events.is_ok_and(|events| events > 0) {
                    thread::sleep(REST);
                }
            }
        })?;
    Ok(())
}
