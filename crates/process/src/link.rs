//! The two ends of a connection between a host and one child: the one thing that differs from platform to platform.
//!
//! Both carry frames (`frame.rs`) in order, both ways. [`HostLink::runs_ahead`] says what a platform
//! without shared memory cannot do; everything else is the same contract, and the same tests.

#[cfg(target_os = "linux")]
pub(crate) mod shared;
pub(crate) mod socket;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::frame::{Malformed, RawPayload, ToHost};
use crate::payload::Parcel;
use crate::store::{Store, View};

/// The other side is gone, or broke the protocol; nothing more goes over this link.
#[derive(Debug)]
#[non_exhaustive]
pub enum Broken {
    /// It closed its end.
    Closed,
    /// It wrote what no working side writes.
    Nonsense(String),
    /// The system refused.
    Io(io::Error),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the other process closed its end"),
            Self::Nonsense(what) => write!(f, "the other process broke the protocol: {what}"),
            Self::Io(error) => write!(f, "the connection failed: {error}"),
        }
    }
}

impl std::error::Error for Broken {}

impl From<Malformed> for Broken {
    fn from(malformed: Malformed) -> Self {
        Self::Nonsense(malformed.to_string())
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The host's end. Every method may be called from any thread.
pub trait HostLink: Send + Sync + fmt::Debug + 'static {
    /// Whether requests may be sent before the child has ended the one before: it needs a way to take them back.
    fn runs_ahead(&self) -> bool;

    /// Puts a request in line; `head` and `area` are its frame. Never blocks: what has no room yet is kept.
    ///
    /// # Errors
    /// [`Broken`]: the child is to be replaced.
    fn offer(&self, seq: u64, head: &[u8], area: &[u8]) -> Result<(), Broken>;

    /// Puts a frame in line that the child does not answer. Never blocks.
    ///
    /// # Errors
    /// [`Broken`]: the child is to be replaced.
    fn tell(&self, frame: &[u8]) -> Result<(), Broken>;

    /// Wakes the child, if it sleeps, for what was put in line.
    fn flush(&self);

    /// Gives the frames that have come to `each`, in order, and returns how many there were. Never blocks.
    ///
    /// # Errors
    /// [`Broken`]: the child is to be replaced.
    fn receive(
        &self,
        each: &mut dyn FnMut(ToHost<'_>) -> Result<(), Broken>,
    ) -> Result<usize, Broken>;

    /// The payload of a reply, checked; what it holds of the child is given back when it is dropped.
    ///
    /// # Errors
    /// [`Broken`]: the child is to be replaced.
    fn parcel(&self, raw: &RawPayload<'_>) -> Result<Parcel, Broken>;

    /// Blocks until there may be something to receive, [`HostLink::wake`] was called, or `limit` has passed.
    fn wait(&self, limit: Option<Duration>);

    /// Lets the present or next wait end.
    fn wake(&self);

    /// Takes a request back that the child has not begun. True: it never will.
    fn revoke(&self, seq: u64) -> bool;

    /// Whether the child has begun, or may have begun, a request that it has not answered.
    fn has_begun(&self, seq: u64) -> bool;

    /// Sets the signal that the handler of `seq` may look at.
    fn ask_to_stop(&self, seq: u64);
}

/// The child's end. [`ChildLink::receive`] is for one thread, the rest for any.
pub trait ChildLink: Send + Sync + fmt::Debug + 'static {
    /// Replaces the contents of `frame` with the next one, if there is one. Never blocks.
    ///
    /// # Errors
    /// [`Broken`]: the child is to end.
    fn receive(&self, frame: &mut Vec<u8>) -> Result<bool, Broken>;

    /// Blocks until there may be something to receive, [`ChildLink::wake`] was called, or `limit` has passed.
    fn wait(&self, limit: Option<Duration>);

    /// Lets the present or next wait end.
    fn wake(&self);

    /// Begins a request. False: the host took it back.
    fn begin(&self, seq: u64) -> bool;

    /// Whether the host set the signal of a request that runs.
    fn is_stop_asked(&self, seq: u64) -> bool;

    /// Sends a frame if there is room now.
    ///
    /// # Errors
    /// [`Broken`]: the child is to end.
    fn try_send(&self, head: &[u8], area: &[u8]) -> Result<bool, Broken>;

    /// Sends a frame. Blocks while there is no room.
    ///
    /// # Errors
    /// [`Broken`]: the child is to end.
    fn send(&self, head: &[u8], area: &[u8]) -> Result<(), Broken>;

    /// Whether a frame of that many bytes can be sent.
    fn fits(&self, bytes: usize) -> bool;

    /// The host's store, where large payloads of requests lie.
    fn view(&self) -> Option<&Arc<View>>;

    /// Where large payloads of replies go.
    fn store(&self) -> Option<&Arc<Store>>;
}
