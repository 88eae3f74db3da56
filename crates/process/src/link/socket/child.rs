//! The child's end.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

use super::frames::{Filled, Frames, PREFIX};
use super::stream::{Wakeup, set_up, write_some};
use super::{FRAME_LIMIT, lock, watch};
use crate::frame::{self, Notice, ToChild};
use crate::link::{Broken, ChildLink};
use crate::store::{Store, View};

/// The longest frame that is sent without letting other threads run: it fits what the kernel holds.
const TRY_LIMIT: usize = 32 << 10;
/// The longest log record, with its frame: its writer cuts a longer one.
const LOG_LIMIT: usize = 64 << 10;

#[derive(Debug)]
struct RequestReader {
    frames: Frames,
    /// Frames that were read on the way to one that asks a handler to stop.
    queue: VecDeque<Vec<u8>>,
    /// The request that was begun last, while the host does not know whether another may come.
    front: Option<u64>,
    /// Begun and not answered.
    running: BTreeSet<u64>,
    /// Asked to stop, and not answered.
    stops: BTreeSet<u64>,
    /// Requests below this were begun or skipped.
    next: u64,
}

impl RequestReader {
    /// The next frame, from the socket if need be. False: none is there.
    fn next_into(&mut self, socket: &UnixStream, frame: &mut Vec<u8>) -> Result<bool, Broken> {
        while !self.frames.next_into(frame)? {
            match self.frames.fill(socket)? {
                Filled::Some(_) | Filled::All => {}
                Filled::Nothing => return Ok(false),
                Filled::End => return Err(Broken::Closed),
            }
        }
        if let Ok(ToChild::StopAsked { seq }) = frame::decode_for_child(frame)
            && (seq >= self.next || self.running.contains(&seq))
        {
            self.stops.insert(seq);
        }
        Ok(true)
    }
}

/// The child's end.
#[derive(Debug)]
pub(crate) struct SocketChild {
    socket: UnixStream,
    wakeup: Wakeup,
    reader: Mutex<RequestReader>,
    /// Held by the thread that writes a frame.
    writing: Mutex<()>,
    /// This process ends when the other end is closed.
    ends_with_host: bool,
}

impl SocketChild {
    /// Takes over the socket and has this process end with its host.
    ///
    /// # Errors
    /// The system has no descriptors or threads left.
    pub(crate) fn new(socket: UnixStream) -> io::Result<Arc<Self>> {
        watch::start(&socket)?;
        Self::open(socket, true)
    }

    pub(super) fn open(socket: UnixStream, ends_with_host: bool) -> io::Result<Arc<Self>> {
        set_up(&socket)?;
        Ok(Arc::new(Self {
            socket,
            wakeup: Wakeup::new()?,
            reader: Mutex::new(RequestReader {
                frames: Frames::new(FRAME_LIMIT),
                queue: VecDeque::new(),
                front: None,
                running: BTreeSet::new(),
                stops: BTreeSet::new(),
                next: 0,
            }),
            writing: Mutex::new(()),
            ends_with_host,
        }))
    }

    /// Ends the process rather than have it complain that its host is gone.
    fn checked<T>(&self, result: Result<T, Broken>) -> Result<T, Broken> {
        if self.ends_with_host && matches!(result, Err(Broken::Closed)) {
            crate::spawn::end_now();
        }
        result
    }

    fn notify(&self, notice: Notice) -> Result<(), Broken> {
        let mut frame = Vec::new();
        frame::encode_notice(notice, &mut frame);
        self.write(&lock(&self.writing), &frame, &[], true)
            .map(drop)
    }

    /// Writes a frame. False: there is no room for any of it, and `must` is not set. A frame that was begun is always
    /// finished, which takes no longer than the host takes to read what it has.
    fn write(
        &self,
        _writing: &MutexGuard<'_, ()>,
        head: &[u8],
        area: &[u8],
        must: bool,
    ) -> Result<bool, Broken> {
        let len = head.len().saturating_add(area.len());
        if len > FRAME_LIMIT {
            let why = format!("a reply of {len} bytes is too long for a socket");
            return Err(Broken::Io(io::Error::new(io::ErrorKind::InvalidInput, why)));
        }
        #[expect(clippy::cast_possible_truncation, reason = "just checked")]
        let prefix = (len as u32).to_le_bytes();
        let parts = [&prefix[..], head, area];
        let mut written = 0;
        loop {
            written += self.checked(write_some(&self.socket, &parts, written))?;
            if written == PREFIX + len {
                break;
            }
            if written == 0 && !must {
                return Ok(false);
            }
            // An interruption, like anything else, only means to try again.
            let _ = poll(&mut [PollFd::new(&self.socket, PollFlags::OUT)], None);
        }
        if let Some(seq) = frame::seq_of_reply(head) {
            let mut reader = lock(&self.reader);
            reader.front.take_if(|front| *front == seq);
            reader.running.remove(&seq);
            reader.stops.remove(&seq);
        }
        Ok(true)
    }
}

impl ChildLink for SocketChild {
    fn receive(&self, frame: &mut Vec<u8>) -> Result<bool, Broken> {
        let left = {
            let mut reader = lock(&self.reader);
            reader.front.take()
        };
        if let Some(seq) = left {
            self.notify(Notice::Free { seq })?;
        }
        let mut reader = lock(&self.reader);
        if let Some(next) = reader.queue.pop_front() {
            *frame = next;
            return Ok(true);
        }
        self.checked(reader.next_into(&self.socket, frame))
    }

    fn wait(&self, limit: Option<Duration>) {
        if lock(&self.reader).queue.is_empty() {
            self.wakeup
                .sleep(Some((&self.socket, PollFlags::IN)), limit);
        }
    }

    fn wake(&self) {
        self.wakeup.ring();
    }

    fn begin(&self, seq: u64) -> bool {
        let mut reader = lock(&self.reader);
        reader.next = seq.saturating_add(1);
        if reader.stops.remove(&seq) {
            return false;
        }
        reader.running.insert(seq);
        reader.front = Some(seq);
        drop(reader);
        // A request that the host does not know of must not run: it would run again elsewhere.
        self.notify(Notice::Began { seq }).is_ok()
    }

    fn is_stop_asked(&self, seq: u64) -> bool {
        let mut reader = lock(&self.reader);
        let mut found = false;
        let mut frame = Vec::new();
        // The thread that receives finds an error again.
        while !reader.stops.contains(&seq)
            && reader
                .next_into(&self.socket, &mut frame)
                .is_ok_and(|found| found)
        {
            reader.queue.push_back(std::mem::take(&mut frame));
            found = true;
        }
        if found {
            // The receiving thread may be on its way to sleep on the socket, which has nothing for it any more.
            self.wakeup.ring();
        }
        reader.stops.contains(&seq)
    }

    fn try_send(&self, head: &[u8], area: &[u8]) -> Result<bool, Broken> {
        if head.len().saturating_add(area.len()) > TRY_LIMIT {
            return Ok(false);
        }
        let writing = match self.writing.try_lock() {
            Ok(writing) => writing,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(false),
        };
        self.write(&writing, head, area, false)
    }

    fn send(&self, head: &[u8], area: &[u8]) -> Result<(), Broken> {
        self.write(&lock(&self.writing), head, area, true).map(drop)
    }

    fn fits(&self, bytes: usize) -> bool {
        bytes <= LOG_LIMIT
    }

    fn view(&self) -> Option<&Arc<View>> {
        None
    }

    fn store(&self) -> Option<&Arc<Store>> {
        None
    }
}
