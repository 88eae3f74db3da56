//! Descriptors that a child asks its host for while it runs, one at a time.
//!
//! A pair of datagram sockets for each child. The child asks with a key, in a frame of its link, and waits here for the
//! answer: a datagram that begins with the key and has the descriptor, or goes on with the reason why there is none.
//! The host's owner sends it: only it knows what its descriptors are.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// The longest answer: a key and why there is nothing for it.
const LONGEST: usize = 1024;

/// One end of the door between a host and a child.
#[derive(Debug)]
pub struct Door(UnixDatagram);

impl Door {
    /// The host's end and the child's.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (own, theirs) = UnixDatagram::pair()?;
        Ok((Self(own), Self(theirs)))
    }

    /// What came over another socket.
    pub(crate) fn from_fd(fd: OwnedFd) -> Self {
        Self(UnixDatagram::from(fd))
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Another descriptor of the same end.
    pub(crate) fn duplicate(&self) -> io::Result<OwnedFd> {
        self.0.as_fd().try_clone_to_owned()
    }

    /// Waits for the answer to `key`, at most for `limit`, and passes over those to earlier ones.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] after the limit; otherwise what the host said, or what the system says.
    pub fn take(&self, key: &[u8], limit: Duration) -> io::Result<OwnedFd> {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let wait = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            let mut looked_at = [PollFd::new(&self.0, PollFlags::IN)];
            match poll(&mut looked_at, Some(&wait)) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            if let Some(answer) = self.receive(key)? {
                return answer.map_err(io::Error::other);
            }
        }
    }

    fn receive(&self, key: &[u8]) -> io::Result<Option<Result<OwnedFd, String>>> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; LONGEST];
        #[cfg(target_os = "linux")]
        let flags = RecvFlags::CMSG_CLOEXEC;
        #[cfg(not(target_os = "linux"))]
        let flags = RecvFlags::empty();
        let received = recvmsg(
            &self.0,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut ancillary,
            flags,
        )?;
        let fd = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        #[cfg(not(target_os = "linux"))]
        if let Some(fd) = &fd {
            rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC)?;
        }
        let Some(why) = bytes[..received.bytes].strip_prefix(key) else {
            return Ok(None);
        };
        Ok(Some(
            fd.ok_or_else(|| String::from_utf8_lossy(why).into_owned()),
        ))
    }
}

#[cfg(test)]
#[cfg(not(pytoweb_loom))]
mod tests {
    use std::io::IoSlice;

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// What the owner of a host does.
    fn give(door: &Door, text: &[u8], fds: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(ancillary.push(SendAncillaryMessage::ScmRights(fds)));
        }
        let door = door.duplicate().unwrap();
        sendmsg(
            &door,
            &[IoSlice::new(text)],
            &mut ancillary,
            SendFlags::empty(),
        )
        .unwrap();
    }

    #[test]
    fn a_descriptor_comes_to_whom_asked_for_it() {
        let (host, child) = Door::pair().unwrap();
        let (given, other) = UnixDatagram::pair().unwrap();
        give(&host, b"6: too late", &[]);
        give(&host, b"7:", &[given.as_fd()]);
        drop(given);
        let taken = UnixDatagram::from(child.take(b"7:", LIMIT).unwrap());
        taken.send(b"over it").unwrap();
        let mut bytes = [0; 16];
        assert_eq!(other.recv(&mut bytes).unwrap(), 7);
    }

    #[test]
    fn a_refusal_says_why() {
        let (host, child) = Door::pair().unwrap();
        give(&host, b"7:there is none", &[]);
        let error = child.take(b"7:", LIMIT).unwrap_err();
        assert_eq!(error.to_string(), "there is none");
    }

    #[test]
    fn a_host_that_does_not_answer_is_not_waited_for_without_end() {
        let (_host, child) = Door::pair().unwrap();
        let error = child.take(b"7:", Duration::from_millis(1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
