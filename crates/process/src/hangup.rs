//! Writing to a socket whose other end may be gone: an error, and never the signal, which ends a program that has set
//! `SIGPIPE` to its default.

use std::io;
use std::os::unix::net::UnixStream;

use rustix::net::SendFlags;

/// What every `sendmsg` to a child or its host is given.
#[cfg(not(target_vendor = "apple"))]
pub(crate) const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;
/// The socket itself is told, see [`expect`].
#[cfg(target_vendor = "apple")]
pub(crate) const NO_SIGNAL: SendFlags = SendFlags::empty();

/// Prepares a socket for it, where the flag is not enough.
#[cfg_attr(
    not(target_vendor = "apple"),
    expect(
        clippy::unnecessary_wraps,
        unused_variables,
        reason = "Apple's sockets are told"
    )
)]
pub(crate) fn expect(socket: &UnixStream) -> io::Result<()> {
    #[cfg(target_vendor = "apple")]
    rustix::net::sockopt::set_socket_nosigpipe(socket, true)?;
    Ok(())
}
