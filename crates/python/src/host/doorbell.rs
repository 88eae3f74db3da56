//! A pair of sockets by which one thread wakes another thread's event loop.

/// Wakes a loop that reads its other end.
#[cfg(unix)]
#[derive(Debug)]
pub(crate) struct Doorbell {
    ring: std::os::unix::net::UnixStream,
    hear: std::os::unix::net::UnixStream,
}

#[cfg(unix)]
impl Doorbell {
    /// The doorbell, and the descriptor to read; `None` if the system refuses.
    pub(crate) fn new() -> Option<(Self, i32)> {
        use std::os::fd::AsRawFd;

        let (ring, hear) = std::os::unix::net::UnixStream::pair().ok()?;
        ring.set_nonblocking(true).ok()?;
        hear.set_nonblocking(true).ok()?;
        let number = hear.as_raw_fd();
        Some((Self { ring, hear }, number))
    }

    /// Wakes the loop. A full socket has rung often enough.
    pub(crate) fn ring(&self) {
        let _ = std::io::Write::write(&mut &self.ring, &[0]);
    }

    /// Takes the rings so far.
    pub(crate) fn hush(&self) {
        let _ = std::io::Read::read(&mut &self.hear, &mut [0; 64]);
    }
}

/// Elsewhere loops take no readers.
#[cfg(not(unix))]
#[derive(Debug)]
pub(crate) enum Doorbell {}

#[cfg(not(unix))]
impl Doorbell {
    pub(crate) const fn new() -> Option<(Self, i32)> {
        None
    }

    pub(crate) fn ring(&self) {
        match *self {}
    }

    pub(crate) fn hush(&self) {
        match *self {}
    }
}
