//! What is known of a child that ended.

use std::fmt;
use std::time::Duration;

/// Why a child was ended, or that its host did not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// By itself: a crash, an exit, or another process's signal.
    Itself,
    /// A message was past its deadline, cancelled, or its worker terminated.
    Stopped,
    /// It used more memory than allowed, in bytes of resident memory.
    Memory {
        /// What it used.
        used: u64,
        /// What it may use.
        limit: u64,
    },
    /// It took up nothing that was sent to it, although it had nothing else to do.
    Silent,
    /// It wrote what no working child writes.
    Protocol(String),
    /// It could not be started.
    Start(String),
    /// It took longer than that to be ready for messages.
    SlowStart(Duration),
    /// Its initializer failed; the bytes are what the child says of it.
    Initializer(Vec<u8>),
    /// Too many in a row ended before they had begun a message.
    TooManyRestarts {
        /// How many there were after the first one.
        restarts: usize,
        /// How the last one ended.
        last: Box<Crash>,
    },
}

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crash {
    /// Why.
    pub cause: Cause,
    /// Its exit code, where it exited.
    pub exitcode: Option<i32>,
    /// The signal, where one ended it.
    pub signal: Option<i32>,
    /// Its process number; 0 if there never was one.
    pub pid: u32,
    /// What it wrote about its end: the stack of the interpreter, after some signals.
    pub stack: String,
}

impl Crash {
    /// A child that never was.
    #[must_use]
    pub const fn without_process(cause: Cause) -> Self {
        Self {
            cause,
            exitcode: None,
            signal: None,
            pid: 0,
            stack: String::new(),
        }
    }
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Cause::Itself => match (self.signal, self.exitcode) {
                (Some(signal), _) => match signal_name(signal) {
                    Some(name) => write!(f, "process {} ended by {name}", self.pid)?,
                    None => write!(f, "process {} ended by signal {signal}", self.pid)?,
                },
                (None, Some(code)) => write!(f, "process {} exited with code {code}", self.pid)?,
                (None, None) => write!(f, "process {} ended", self.pid)?,
            },
            Cause::Stopped => write!(f, "process {} was stopped", self.pid)?,
            Cause::Memory { used, limit } => write!(
                f,
                "process {} was stopped: it used {used} bytes of memory, {limit} are allowed",
                self.pid
            )?,
            Cause::Silent => write!(
                f,
                "process {} was stopped: it took up nothing that was sent to it",
                self.pid
            )?,
            Cause::Protocol(what) => {
                write!(f, "process {} was stopped: {what}", self.pid)?;
            }
            Cause::Start(why) => write!(f, "no process could be started: {why}")?,
            Cause::SlowStart(limit) => write!(
                f,
                "process {} was stopped: it was not ready within {limit:?} (start_timeout)",
                self.pid
            )?,
            Cause::Initializer(_) => f.write_str("the initializer failed")?,
            Cause::TooManyRestarts { restarts, last } => write!(
                f,
                "{restarts} restarts in a row, and no message begun in between; the last {last}"
            )?,
        }
        Ok(())
    }
}

/// What a signal is called, if it has a name on this system.
fn signal_name(signal: i32) -> Option<&'static str> {
    use rustix::process::Signal;

    const NAMES: &[(Signal, &str)] = &[
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::ILL, "SIGILL"),
        (Signal::TRAP, "SIGTRAP"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::FPE, "SIGFPE"),
        (Signal::KILL, "SIGKILL"),
        (Signal::USR1, "SIGUSR1"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::USR2, "SIGUSR2"),
        (Signal::PIPE, "SIGPIPE"),
        (Signal::ALARM, "SIGALRM"),
        (Signal::TERM, "SIGTERM"),
        (Signal::CHILD, "SIGCHLD"),
        (Signal::CONT, "SIGCONT"),
        (Signal::STOP, "SIGSTOP"),
        (Signal::TSTP, "SIGTSTP"),
        (Signal::TTIN, "SIGTTIN"),
        (Signal::TTOU, "SIGTTOU"),
        (Signal::URG, "SIGURG"),
        (Signal::XCPU, "SIGXCPU"),
        (Signal::XFSZ, "SIGXFSZ"),
        (Signal::VTALARM, "SIGVTALRM"),
        (Signal::PROF, "SIGPROF"),
        (Signal::WINCH, "SIGWINCH"),
        (Signal::IO, "SIGIO"),
        (Signal::SYS, "SIGSYS"),
        #[cfg(target_os = "linux")]
        (Signal::POWER, "SIGPWR"),
    ];
    NAMES
        .iter()
        .find(|(known, _)| known.as_raw() == signal)
        .map(|(_, name)| *name)
}
