//! The first words of a host and its child: descriptors over the socket that is the child's standard input.
//!
//! 1. The host starts the child and sends one message over the socket: a byte that names the transport, and the
//!    descriptors that go with it.
//! 2. The child moves the socket away from its standard input, opens what it got, and starts a thread that ends the
//!    process at once when the host is gone. It sends back the descriptor of its own store.
//! 3. Everything after that goes over the link.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::net::RecvFlags;

use crate::descriptors::{receive_descriptors, send_descriptors};
use crate::door::Door;
use crate::link::{ChildLink, HostLink};
use crate::options::Transport;
use crate::payload::Payload;
#[cfg(target_os = "linux")]
use crate::spawn::end_now;
use crate::spawn::{ChildProcess, Program};
use crate::store::Store;

/// What a report on a crash is cut to: the stacks of some hundred frames.
const REPORT_LIMIT: u64 = 64 << 10;

#[cfg(target_os = "linux")]
const BY_SHARED_MEMORY: u8 = 1;
const BY_SOCKET: u8 = 2;

/// A file that the child writes its last words to, and the host reads after its end.
#[derive(Debug)]
pub(crate) struct LastWords(File);

impl LastWords {
    fn create() -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        if let Ok(memory) = crate::memory::SharedFile::nameless("pytoweb-report") {
            return Ok(Self(File::from(memory)));
        }
        // A crash without a report is better than no child.
        let file = Self::without_name().or_else(|_| {
            let mut options = std::fs::OpenOptions::new();
            options.read(true).write(true).open("/dev/null")
        })?;
        Ok(Self(file))
    }

    /// A file that is gone with its last descriptor. A pipe would have to be read while the child runs.
    fn without_name() -> io::Result<File> {
        use std::sync::atomic::{AtomicUsize, Ordering};

        static NUMBER: AtomicUsize = AtomicUsize::new(0);

        let path = std::env::temp_dir().join(format!(
            "pytoweb-report-{}-{}",
            std::process::id(),
            // ORDERING: Relaxed, only uniqueness matters.
            NUMBER.fetch_add(1, Ordering::Relaxed)
        ));
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        std::fs::remove_file(path)?;
        Ok(file)
    }

    /// What was written.
    pub(crate) fn read(mut self) -> String {
        let mut bytes = Vec::new();
        let read = self
            .0
            .rewind()
            .and_then(|()| self.0.take(REPORT_LIMIT).read_to_end(&mut bytes));
        match read {
            Ok(_) => String::from_utf8_lossy(&bytes).trim_end().to_owned(),
            Err(_) => String::new(),
        }
    }
}

/// What a child is started with.
#[derive(Debug)]
pub struct Setup {
    /// The program.
    pub program: Program,
    /// What it is told first.
    pub payload: Payload,
}

/// What [`start_child`] makes.
pub(crate) type Started = (ChildProcess, Arc<dyn HostLink>, Option<LastWords>);

/// Starts a child and the host's end of its link.
pub(crate) fn start_child(
    transport: Transport,
    program: &Program,
    store: Option<&Arc<Store>>,
) -> io::Result<Started> {
    let report = LastWords::create()?;
    let (door, theirs) = Door::pair()?;
    match (transport, store) {
        #[cfg(target_os = "linux")]
        (Transport::SharedMemory, Some(store)) => {
            let (side, memory) = crate::ring::HostSide::create()?;
            let own = crate::spawn::pidfd_of(std::process::id());
            let (child, socket) = ChildProcess::start(program, door)?;
            let mut descriptors = vec![report.0.as_fd(), theirs.fd(), memory.fd(), store.fd()];
            descriptors.extend(own.as_ref().map(AsFd::as_fd));
            send_descriptors(&socket, BY_SHARED_MEMORY, &descriptors)?;
            let link = crate::link::shared::SharedHost::new(side, store.clone(), socket);
            Ok((child, link, Some(report)))
        }
        _ => {
            let (child, socket) = ChildProcess::start(program, door)?;
            send_descriptors(&socket, BY_SOCKET, &[report.0.as_fd(), theirs.fd()])?;
            let link = crate::link::socket::SocketHost::new(socket)?;
            Ok((child, link, Some(report)))
        }
    }
}

/// The child's end of everything.
#[derive(Debug)]
pub struct Arrival {
    /// The link.
    pub link: Arc<dyn ChildLink>,
    /// Where to write last words.
    pub report: OwnedFd,
    /// Where the descriptors come from that this process asks for.
    pub door: Door,
}

/// Takes the child's end from the standard input of this process, which is the null device from then on. To be called
/// once, by a process that [`Fleet`](crate::Fleet) started.
///
/// # Errors
/// When the standard input is not what a host gives its child.
pub fn arrive() -> io::Result<Arrival> {
    let inherited = rustix::stdio::stdin();
    let socket = rustix::io::fcntl_dupfd_cloexec(inherited, 3)?;
    let null = File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    let socket = UnixStream::from(socket);
    let (tag, fds) =
        receive_descriptors(&socket, RecvFlags::empty())?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let mut fds = fds.into_iter();
    let mut next = || fds.next().ok_or(io::ErrorKind::InvalidData);
    let report = next()?;
    let door = Door::from_fd(next()?);
    match tag {
        #[cfg(target_os = "linux")]
        BY_SHARED_MEMORY => {
            let side = crate::ring::ChildSide::open(next()?)?;
            let view = Arc::new(crate::store::View::open(next()?)?);
            let host = next().ok();
            // Without one, large replies go through the ring.
            let store = Store::create("pytoweb-replies").ok();
            if let Some(store) = &store {
                send_descriptors(&socket, BY_SHARED_MEMORY, &[store.fd()])?;
            }
            end_with(socket, host)?;
            let link = Arc::new(crate::link::shared::SharedChild::new(side, view, store));
            Ok(Arrival { link, report, door })
        }
        BY_SOCKET => {
            let link = crate::link::socket::SocketChild::new(socket)?;
            Ok(Arrival { link, report, door })
        }
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the standard input does not come from this version of pytoweb",
        )),
    }
}

/// Ends this process, whatever it is doing, when the host has ended: when `host` is readable, or the other end of the
/// socket is gone, which a process that the host forked may hold.
#[cfg(target_os = "linux")]
fn end_with(socket: UnixStream, host: Option<OwnedFd>) -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, poll};

    std::thread::Builder::new()
        .name("pytoweb-host-watch".to_owned())
        .stack_size(64 << 10)
        .spawn(move || {
            let mut watched = vec![PollFd::new(&socket, PollFlags::RDHUP)];
            watched.extend(host.as_ref().map(|host| PollFd::new(host, PollFlags::IN)));
            while poll(&mut watched, None).is_err() {}
            end_now();
        })?;
    Ok(())
}
