//! Writing to a socket that does not block, and sleeping until something happens to it.

use std::io::{self, IoSlice, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, sendmsg, sockopt};

use crate::hangup::{self, NO_SIGNAL};
use crate::link::Broken;

/// What the kernel may hold of either direction: a few of the frames that are written at once. Some systems give no
/// more than 8 KiB if they are not asked.
const KERNEL_ROOM: usize = 256 << 10;
/// What is given to the kernel in one call: it takes less in any case, and some refuse numbers beyond 31 bits.
const MOST_AT_ONCE: usize = 1 << 30;

/// The parts of one frame: its length and twice bytes.
pub(super) type Parts<'a> = [&'a [u8]; 3];

/// Prepares an end of the connection.
pub(super) fn set_up(socket: &UnixStream) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    // Only speed depends on it.
    let _ = sockopt::set_socket_send_buffer_size(socket, KERNEL_ROOM);
    hangup::expect(socket)
}

/// Writes what the socket takes now of the bytes behind the first `skip`, and returns how many it took.
///
/// # Errors
/// [`Broken::Closed`] and [`Broken::Io`].
pub(super) fn write_some(
    socket: &UnixStream,
    parts: &Parts<'_>,
    skip: usize,
) -> Result<usize, Broken> {
    let total: usize = parts.iter().map(|part| part.len()).sum();
    let mut done = skip;
    while done < total {
        let slices = behind(parts, done).map(IoSlice::new);
        let sent = sendmsg(
            socket,
            &slices,
            &mut SendAncillaryBuffer::default(),
            NO_SIGNAL,
        );
        match sent {
            Ok(sent) => done += sent,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN | Errno::NOBUFS) => break,
            Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => return Err(Broken::Closed),
            Err(error) => return Err(Broken::Io(error.into())),
        }
    }
    Ok(done - skip)
}

/// What lies behind the first `skip` bytes, and of that what one call may carry.
pub(super) fn behind<'a>(parts: &Parts<'a>, mut skip: usize) -> Parts<'a> {
    let mut room = MOST_AT_ONCE;
    parts.map(|part| {
        let (over, left) = part.split_at(skip.min(part.len()));
        skip -= over.len();
        let cut = &left[..left.len().min(room)];
        room -= cut.len();
        cut
    })
}

/// Lets a thread that sleeps on a socket return.
#[derive(Debug)]
pub(super) struct Wakeup {
    ring: UnixStream,
    hear: UnixStream,
}

impl Wakeup {
    pub(super) fn new() -> io::Result<Self> {
        let (ring, hear) = UnixStream::pair()?;
        ring.set_nonblocking(true)?;
        hear.set_nonblocking(true)?;
        Ok(Self { ring, hear })
    }

    pub(super) fn ring(&self) {
        // A full socket has rung often enough.
        let _ = (&self.ring).write(&[0]);
    }

    /// Blocks until it was rung, `limit` has passed, or `socket` has one of the events. May return early.
    pub(super) fn sleep(&self, socket: Option<(&UnixStream, PollFlags)>, limit: Option<Duration>) {
        let limit = limit.map(|limit| Timespec {
            tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        let mut looked_at = vec![PollFd::new(&self.hear, PollFlags::IN)];
        looked_at.extend(socket.map(|(socket, events)| PollFd::new(socket, events)));
        // An interruption, like anything else, only means to look again.
        let _ = poll(&mut looked_at, limit.as_ref());
        while (&self.hear).read(&mut [0; 64]).is_ok_and(|read| read == 64) {}
    }
}
