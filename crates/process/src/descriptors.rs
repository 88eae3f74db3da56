//! Descriptors that go over a socket from one process to another.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, recvmsg, sendmsg,
};

use crate::hangup::{self, NO_SIGNAL};

/// Descriptors that one message carries at most.
const MOST_DESCRIPTORS: usize = 5;
/// Sends descriptors, and a byte that says what they are.
pub(crate) fn send_descriptors(
    socket: &UnixStream,
    tag: u8,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    hangup::expect(socket)?;
    sendmsg(socket, &[IoSlice::new(&[tag])], &mut ancillary, NO_SIGNAL)?;
    Ok(())
}

/// The byte and the descriptors of the next message; `None` where the other end is closed.
pub(crate) fn receive_descriptors(
    socket: impl AsFd,
    flags: RecvFlags,
) -> io::Result<Option<(u8, Vec<OwnedFd>)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut tag = [0];
    #[cfg(target_os = "linux")]
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut tag)],
        &mut ancillary,
        flags,
    )?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let fds: Vec<OwnedFd> = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    #[cfg(not(target_os = "linux"))]
    for fd in &fds {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::CLOEXEC)?;
    }
    Ok(Some((tag[0], fds)))
}

/// The descriptor that the child sent, if it has. Never blocks.
#[cfg(target_os = "linux")]
pub(crate) fn receive_descriptor(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let received = receive_descriptors(socket, RecvFlags::DONTWAIT)?;
    Ok(received.and_then(|(_, mut fds)| fds.pop()))
}
