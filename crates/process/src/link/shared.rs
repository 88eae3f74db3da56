//! The link over shared memory: two rings, two bells and the claim words of `ring/sides.rs`.

#[path = "shared/parts.rs"]
mod parts;

use std::collections::VecDeque;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError, Weak};
use std::time::Duration;

use self::parts::{FRAME_LIMIT, Whole, parts};
use super::{Broken, ChildLink, HostLink};
use crate::frame::{self, RawPayload, ToHost};
use crate::payload::{Parcel, Release};
use crate::ring::{ChildSide, Consumer, HostSide, Producer, RingSpan, SharedBell, SharedClaims};
use crate::store::{Store, View};

/// How long a child that finds no room for a reply sleeps before it looks again: the host reads faster than a child
/// writes, so this is rare, and a bell for it would cost every reply.
const ROOM_LOOK: Duration = Duration::from_micros(200);

/// How long the host sleeps at most while frames wait for room in the ring.
const KEPT_LOOK: Duration = Duration::from_millis(1);
/// How long the host sleeps at most: its bell is a word that a child can write, and one that says `AWAKE` while the host
/// sleeps keeps the child from waking it.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);
/// What a reader's buffer may keep: the longest frame that the ring carries at once.
const FRAME_KEPT: usize = 128 << 10;
/// Frames that one call takes from the ring.
const MOST_AT_ONCE: usize = 4096;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic under these locks leaves at worst a frame unsent, and then its child is replaced.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct RequestLine {
    ring: Producer<RingSpan>,
    /// What has no room yet, in order.
    waiting: VecDeque<Vec<u8>>,
}

impl RequestLine {
    /// Sends a frame, or keeps what has no room of it. True: nothing was kept before.
    fn push(&mut self, head: &[u8], area: &[u8]) -> Result<bool, Broken> {
        self.flush()?;
        let before = self.waiting.len();
        if head.len().saturating_add(area.len()) <= self.ring.max_frame() {
            self.push_or_keep(&[head, area])?;
        } else {
            check_length(head, area)?;
            for (header, of_head, of_area) in parts(head, area, self.ring.max_frame()) {
                self.push_or_keep(&[&header, of_head, of_area])?;
            }
        }
        Ok(before == 0 && !self.waiting.is_empty())
    }

    fn push_or_keep(&mut self, pieces: &[&[u8]]) -> Result<(), Broken> {
        if !self.waiting.is_empty() || !self.ring.push(pieces).map_err(nonsense)? {
            self.waiting.push_back(pieces.concat());
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<bool, Broken> {
        let before = self.waiting.len();
        while let Some(next) = self.waiting.front() {
            if !self.ring.push(&[next]).map_err(nonsense)? {
                break;
            }
            self.waiting.pop_front();
        }
        Ok(self.waiting.len() < before)
    }
}

#[derive(Debug)]
struct RingReader {
    ring: Consumer<RingSpan>,
    frame: Vec<u8>,
    whole: Whole,
}

/// The host's end.
#[derive(Debug)]
pub(crate) struct SharedHost {
    own: Weak<Self>,
    line: Mutex<RequestLine>,
    reader: Mutex<RingReader>,
    child_bell: SharedBell,
    host_bell: SharedBell,
    claims: SharedClaims,
    woken: AtomicBool,
    /// Kept for as long as the child may read from it.
    _store: Arc<Store>,
    /// The socket over which the child's store comes.
    socket: UnixStream,
    view: OnceLock<Arc<View>>,
}

impl SharedHost {
    pub(crate) fn new(side: HostSide, store: Arc<Store>, socket: UnixStream) -> Arc<Self> {
        Arc::new_cyclic(|own| Self {
            own: own.clone(),
            line: Mutex::new(RequestLine {
                ring: side.requests,
                waiting: VecDeque::new(),
            }),
            reader: Mutex::new(RingReader {
                ring: side.replies,
                frame: Vec::new(),
                whole: Whole::default(),
            }),
            child_bell: side.child_bell,
            host_bell: side.host_bell,
            claims: side.claims,
            woken: AtomicBool::new(false),
            _store: store,
            socket,
            view: OnceLock::new(),
        })
    }

    fn push(&self, head: &[u8], area: &[u8]) -> Result<(), Broken> {
        let first = lock(&self.line).push(head, area)?;
        if first {
            // The thread that sleeps is to look after it: see `wait`.
            self.wake();
        }
        Ok(())
    }

    /// The child's store, which it sent before its first frame.
    fn view(&self) -> Option<&Arc<View>> {
        if self.view.get().is_none()
            && let Ok(Some(fd)) = crate::descriptors::receive_descriptor(&self.socket)
            && let Ok(view) = View::open(fd)
        {
            let _ = self.view.set(Arc::new(view));
        }
        self.view.get()
    }
}

impl HostLink for SharedHost {
    fn runs_ahead(&self) -> bool {
        true
    }

    fn offer(&self, seq: u64, head: &[u8], area: &[u8]) -> Result<(), Broken> {
        self.claims.offer(seq);
        self.push(head, area)
    }

    fn tell(&self, frame: &[u8]) -> Result<(), Broken> {
        self.push(frame, &[])
    }

    fn flush(&self) {
        self.child_bell.ring();
    }

    fn receive(
        &self,
        each: &mut dyn FnMut(ToHost<'_>) -> Result<(), Broken>,
    ) -> Result<usize, Broken> {
        let mut reader = lock(&self.reader);
        let RingReader { ring, frame, whole } = &mut *reader;
        let mut count = 0;
        // A child that writes without end does not keep this thread from its other work.
        while count < MOST_AT_ONCE && ring.pop(frame).map_err(nonsense)? {
            count += 1;
            if whole.take(frame)? {
                each(frame::decode_for_host(frame)?)?;
            }
        }
        if frame.capacity() > FRAME_KEPT {
            *frame = Vec::new();
        }
        drop(reader);
        if lock(&self.line).flush()? {
            self.child_bell.ring();
        }
        Ok(count)
    }

    fn parcel(&self, raw: &RawPayload<'_>) -> Result<Parcel, Broken> {
        let stored = matches!(raw.place(), crate::payload::AreaPlace::Stored { .. });
        if !stored {
            return Ok(raw.into_parcel(None, None)?);
        }
        let own = self.own.clone();
        let here = std::process::id();
        let release: Release = Arc::new(move |offset| {
            // A copy of it in a forked process is not the one that the child waits for.
            if std::process::id() != here {
                return;
            }
            if let Some(link) = own.upgrade() {
                let mut frame = Vec::new();
                frame::encode_release(offset, &mut frame);
                // A child that cannot be told is about to be replaced, with its store.
                let _ = link.tell(&frame);
                link.flush();
            }
        });
        Ok(raw.into_parcel(self.view(), Some(&release))?)
    }

    fn wait(&self, limit: Option<Duration>) {
        // Nothing tells when a frame that is kept has room.
        let kept = (!lock(&self.line).waiting.is_empty()).then_some(KEPT_LOOK);
        let limit = limit.into_iter().chain(kept).chain([LONGEST_SLEEP]).min();
        self.host_bell.sleep(limit, || {
            // ORDERING: Relaxed, the bell orders it.
            self.woken.swap(false, Ordering::Relaxed) || !lock(&self.reader).ring.is_empty()
        });
    }

    fn wake(&self) {
        // ORDERING: Relaxed, the bell orders it.
        self.woken.store(true, Ordering::Relaxed);
        self.host_bell.wake();
    }

    fn revoke(&self, seq: u64) -> bool {
        self.claims.revoke(seq)
    }

    fn has_begun(&self, seq: u64) -> bool {
        self.claims.has_begun(seq)
    }

    fn ask_to_stop(&self, seq: u64) {
        self.claims.ask_to_stop(seq);
    }
}

/// The child's end.
#[derive(Debug)]
pub(crate) struct SharedChild {
    requests: Mutex<RingRequests>,
    replies: Mutex<Producer<RingSpan>>,
    child_bell: SharedBell,
    host_bell: SharedBell,
    claims: SharedClaims,
    woken: AtomicBool,
    view: Arc<View>,
    store: Option<Arc<Store>>,
}

#[derive(Debug)]
struct RingRequests {
    ring: Consumer<RingSpan>,
    whole: Whole,
}

impl SharedChild {
    /// Without a store, large replies go through the ring in parts.
    pub(crate) fn new(side: ChildSide, view: Arc<View>, store: Option<Arc<Store>>) -> Self {
        Self {
            requests: Mutex::new(RingRequests {
                ring: side.requests,
                whole: Whole::default(),
            }),
            replies: Mutex::new(side.replies),
            child_bell: side.child_bell,
            host_bell: side.host_bell,
            claims: side.claims,
            woken: AtomicBool::new(false),
            view,
            store,
        }
    }
}

impl SharedChild {
    /// Waits for room, and pushes a frame.
    fn push(&self, replies: &mut Producer<RingSpan>, pieces: &[&[u8]]) -> Result<(), Broken> {
        while !replies.push(pieces).map_err(nonsense)? {
            self.host_bell.ring();
            std::thread::sleep(ROOM_LOOK);
        }
        self.host_bell.ring();
        Ok(())
    }
}

impl ChildLink for SharedChild {
    fn receive(&self, frame: &mut Vec<u8>) -> Result<bool, Broken> {
        if frame.capacity() > FRAME_KEPT {
            *frame = Vec::new();
        }
        let mut requests = lock(&self.requests);
        while requests.ring.pop(frame).map_err(nonsense)? {
            if requests.whole.take(frame)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn wait(&self, limit: Option<Duration>) {
        self.child_bell.sleep(limit, || {
            // ORDERING: Relaxed, the bell orders it.
            self.woken.swap(false, Ordering::Relaxed) || !lock(&self.requests).ring.is_empty()
        });
    }

    fn wake(&self) {
        // ORDERING: Relaxed, the bell orders it.
        self.woken.store(true, Ordering::Relaxed);
        self.child_bell.wake();
    }

    fn begin(&self, seq: u64) -> bool {
        self.claims.begin(seq)
    }

    fn is_stop_asked(&self, seq: u64) -> bool {
        self.claims.is_stop_asked(seq)
    }

    fn try_send(&self, head: &[u8], area: &[u8]) -> Result<bool, Broken> {
        let mut replies = match self.replies.try_lock() {
            Ok(replies) => replies,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Another thread may be sending a long one, and waits for room.
            Err(TryLockError::WouldBlock) => return Ok(false),
        };
        if head.len().saturating_add(area.len()) > replies.max_frame() {
            return Ok(false);
        }
        let sent = replies.push(&[head, area]).map_err(nonsense)?;
        drop(replies);
        self.host_bell.ring();
        Ok(sent)
    }

    fn send(&self, head: &[u8], area: &[u8]) -> Result<(), Broken> {
        let mut replies = lock(&self.replies);
        let longest = replies.max_frame();
        if head.len().saturating_add(area.len()) <= longest {
            return self.push(&mut replies, &[head, area]);
        }
        check_length(head, area)?;
        for (header, of_head, of_area) in parts(head, area, longest) {
            self.push(&mut replies, &[&header, of_head, of_area])?;
        }
        Ok(())
    }

    fn fits(&self, bytes: usize) -> bool {
        bytes <= FRAME_KEPT / 2
    }

    fn view(&self) -> Option<&Arc<View>> {
        Some(&self.view)
    }

    fn store(&self) -> Option<&Arc<Store>> {
        self.store.as_ref()
    }
}

/// Refuses a frame that no other side would take.
fn check_length(head: &[u8], area: &[u8]) -> Result<(), Broken> {
    let len = head.len().saturating_add(area.len());
    if len <= FRAME_LIMIT {
        return Ok(());
    }
    let why = format!("a frame of {len} bytes is too long");
    Err(Broken::Io(io::Error::new(io::ErrorKind::InvalidInput, why)))
}

fn nonsense(violation: crate::ring::Violation) -> Broken {
    Broken::Nonsense(violation.to_string())
}
