//! Starting a child by exec, and what the host holds of it.
//!
//! The child gets one end of a socket as its standard input, and over that socket every other descriptor. It inherits
//! its standard output and error and nothing else: all other descriptors are closed by exec. It is the leader of a
//! process group of its own from its first instruction on, so what the terminal sends (Ctrl-C, Ctrl-Z, a hang-up) goes
//! past it.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::sync::Arc;

/// What a child is started with.
#[derive(Clone, Debug)]
pub struct Program {
    /// The interpreter.
    pub executable: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// A child that was started and is not reaped yet. Dropping it kills and reaps it.
#[derive(Debug)]
pub(crate) struct Child {
    process: std::process::Child,
    /// Readable once it has ended; not every system, and not every sandbox, gives one.
    pidfd: Option<Arc<OwnedFd>>,
}

impl Child {
    /// Starts `program` and returns the host's end of its socket.
    pub(crate) fn start(program: &Program) -> io::Result<(Self, UnixStream)> {
        let (own, theirs) = UnixStream::pair()?;
        let process = Command::new(&program.executable)
            .args(&program.arguments)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .process_group(0)
            .spawn()?;
        let child = Self {
            // Not reaped yet, so the number is still its own.
            pidfd: pidfd_of(process.id()).map(Arc::new),
            process,
        };
        Ok((child, own))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Readable once it has ended; `None` where nothing tells.
    pub(crate) fn ended(&self) -> Option<Arc<OwnedFd>> {
        self.pidfd.clone()
    }

    /// Ends it at once. Does nothing if it has ended.
    pub(crate) fn kill(&mut self) {
        // The only error is that it is gone.
        let _ = self.process.kill();
    }

    /// Its exit code or signal, if it has ended; both `None` if somebody else took that.
    pub(crate) fn try_wait(&mut self) -> Option<(Option<i32>, Option<i32>)> {
        match self.process.try_wait() {
            Ok(Some(status)) => Some((status.code(), status.signal())),
            Ok(None) => None,
            Err(_) => Some((None, None)),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.try_wait().is_none() {
            self.kill();
            let _ = self.process.wait();
        }
    }
}

/// A descriptor that is readable once the process has ended.
#[cfg(target_os = "linux")]
pub(crate) fn pidfd_of(pid: u32) -> Option<OwnedFd> {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

#[cfg(not(target_os = "linux"))]
fn pidfd_of(_pid: u32) -> Option<OwnedFd> {
    None
}
