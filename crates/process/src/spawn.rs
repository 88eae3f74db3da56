//! Starting a child by exec, what the host holds of it, and how a child ends itself.
//!
//! The child gets one end of a socket as its standard input, and over that socket every other descriptor. It inherits
//! its standard output and error, where the host has them, and nothing else: all other descriptors are closed by exec. It is the leader of a
//! process group of its own from its first instruction on, so what the terminal sends (Ctrl-C, Ctrl-Z, a hang-up) goes
//! past it, and the programs that its handlers start are of that group: they end with a child that is killed or crashes.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::door::Door;
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_getfd};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// The first descriptor that is no standard stream.
const FIRST_OTHER: i32 = 3;

/// What a child is started with.
#[derive(Clone, Debug)]
pub struct Program {
    /// The interpreter.
    pub executable: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// All of its environment.
    pub environment: Vec<(OsString, OsString)>,
}

/// A child that was started and is not reaped yet. Dropping it kills and reaps it.
#[derive(Debug)]
pub(crate) struct ChildProcess {
    process: std::process::Child,
    /// Readable once it has ended; not every system, and not every sandbox, gives one.
    pidfd: Option<Arc<OwnedFd>>,
    /// Where it gets the descriptors that it asks for.
    door: Door,
}

impl ChildProcess {
    /// Starts `program`. `door` is the host's end. Returns the host's end of its socket, too.
    pub(crate) fn start(program: &Program, door: Door) -> io::Result<(Self, UnixStream)> {
        let (own, theirs) = UnixStream::pair()?;
        let process = Command::new(&program.executable)
            .args(&program.arguments)
            .env_clear()
            .envs(
                program
                    .environment
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(passed_on(io::stdout())?)
            .stderr(passed_on(io::stderr())?)
            .process_group(0)
            .spawn()?;
        let child = Self {
            // Not reaped yet, so the number is still its own.
            pidfd: pidfd_of(process.id()).map(Arc::new),
            process,
            door,
        };
        Ok((child, own))
    }

    /// Where it gets the descriptors that it asks for.
    pub(crate) const fn door(&self) -> &Door {
        &self.door
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Readable once it has ended; `None` where nothing tells.
    pub(crate) fn ended(&self) -> Option<Arc<OwnedFd>> {
        self.pidfd.clone()
    }

    /// Ends it at once, with the programs that it started and that have not left its process group. Does nothing if
    /// they have ended. Only before it is reaped: until then the number of the group is its own.
    pub(crate) fn kill(&mut self) {
        // The only error is that all of them are gone.
        if let Some(group) = pid_of(self.process.id()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// Its exit code or signal, if it has ended; both `None` if another part of the program took that. Unless it exited
    /// with 0 and was `told` to end, the programs that it started end here, too.
    pub(crate) fn try_wait(&mut self, told: bool) -> Option<(Option<i32>, Option<i32>)> {
        let own = WaitId::Pid(pid_of(self.process.id())?);
        // It stays unreaped, so that its group can still be killed.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(own, look) {
            Ok(None) => return None,
            Ok(Some(status)) if told && status.exit_status() == Some(0) => {}
            Ok(Some(_)) => self.kill(),
            // Its number may be another's by now.
            Err(_) => return Some((None, None)),
        }
        match self.process.try_wait() {
            Ok(Some(status)) => Some((status.code(), status.signal())),
            Ok(None) => None,
            Err(_) => Some((None, None)),
        }
    }
}

/// A standard stream of a child: that of the host; `/dev/null` where the host has closed it, or has another file by then
/// in its place, which exec closes. Without any the child's own files, its shared memory say, would be its standard error,
/// and what its handlers say there would be written into them.
fn passed_on(stream: impl AsFd) -> io::Result<Stdio> {
    match fcntl_getfd(stream) {
        Ok(flags) if !flags.contains(FdFlags::CLOEXEC) => Ok(Stdio::inherit()),
        _ => {
            let null = File::options().read(true).write(true).open("/dev/null")?;
            // Past the numbers of the streams: one that lies in its own place already would keep its flag.
            let null = fcntl_dupfd_cloexec(&null, FIRST_OTHER)?;
            Ok(Stdio::from(null))
        }
    }
}

fn pid_of(number: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(number).ok()?)
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        if self.try_wait(false).is_none() {
            self.kill();
            let _ = self.process.wait();
        }
    }
}

/// A descriptor that is readable once the process has ended.
#[cfg(target_os = "linux")]
pub(crate) fn pidfd_of(pid: u32) -> Option<OwnedFd> {
    use rustix::process::{PidfdFlags, pidfd_open};

    pidfd_open(pid_of(pid)?, PidfdFlags::empty()).ok()
}

#[cfg(not(target_os = "linux"))]
fn pidfd_of(_pid: u32) -> Option<OwnedFd> {
    None
}

/// Ends this process without running anything of it, and the programs that its handlers started.
pub(crate) fn end_now() -> ! {
    use rustix::process::{Signal, getpgrp, getpid, kill_current_process_group, kill_process};

    if getpgrp() == getpid() {
        let _ = kill_current_process_group(Signal::KILL);
    }
    let _ = kill_process(getpid(), Signal::KILL);
    std::process::abort()
}
