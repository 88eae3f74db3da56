//! The host: hands messages to a fleet of one, and sees how each ends.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use pytoweb_process::frame::ReplyStatus;
use pytoweb_process::{
    Answer, Cargo, Cause, Crash, Fleet, Flight, Options, Overseer, OwnedRequest, Payload, Program,
    Setup, Transport,
};

use crate::child::LIE_OF_A_SOCKET;

/// No test waits longer for anything.
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) const TRANSPORTS: [Transport; 2] = [Transport::SharedMemory, Transport::Socket];

/// The kind of a message that is past its deadline.
const LATE: &str = "is late";

/// How a message ended, by its number.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Answered(ReplyStatus),
    Expired,
    Crashed(Cause),
}

struct Message {
    number: usize,
    kind: &'static str,
    tell: Sender<(usize, End)>,
}

impl Message {
    fn ends(self, end: End) {
        // The test may have seen enough.
        let _ = self.tell.send((self.number, end));
    }

    fn flight(self) -> Flight<Self> {
        let request = OwnedRequest {
            kind: self.kind.into(),
            id: None,
            context: Box::default(),
            payload: Payload::empty(),
            definition: None,
            flags: 0,
            max_attempts: 1,
            attempt: AtomicU32::new(1),
            earlier: AtomicU32::new(0),
            company: Box::default(),
        };
        Flight {
            request: Arc::new(request),
            attempt: 1,
            worker: 1,
            config_version: 0,
            messages: 1,
            may_go_elsewhere: false,
            batch: None,
            cargo: self,
        }
    }
}

impl Cargo for Message {
    fn configuration(&self) -> (u32, Arc<Payload>) {
        unreachable!("there is none")
    }

    fn is_wanted(&self) -> bool {
        true
    }

    fn is_overdue(&self) -> bool {
        self.kind == LATE
    }

    fn put_back(_: Vec<Self>) {}

    fn answered(self, answer: Answer) {
        self.ends(End::Answered(answer.status));
    }

    fn expired(self) {
        self.ends(End::Expired);
    }

    fn crashed(self, crash: &Arc<Crash>) {
        self.ends(End::Crashed(crash.cause.clone()));
    }
}

struct Watch {
    logged: Sender<Vec<u8>>,
}

impl Overseer for Watch {
    fn setup(&self, _: usize) -> io::Result<Setup> {
        Ok(Setup {
            program: Program {
                executable: std::env::current_exe()?.into(),
                arguments: vec!["child".into()],
                environment: std::env::vars_os().collect(),
            },
            payload: Payload::empty(),
        })
    }

    fn asked(&self, _: usize, _: Vec<u8>) {}

    fn log(&self, bytes: Vec<u8>) {
        let _ = self.logged.send(bytes);
    }

    fn lane_failed(&self, _: usize, _: &Arc<Crash>, _: Duration) {}

    fn lane_recovered(&self, _: usize) {}
}

struct Host {
    fleet: Fleet<Message>,
    tell: Sender<(usize, End)>,
    ends: Receiver<(usize, End)>,
    logs: Receiver<Vec<u8>>,
    next: usize,
}

impl Host {
    fn new(transport: Transport) -> Self {
        let (tell, ends) = channel();
        let (logged, logs) = channel();
        let options = Options {
            name: "hostile".to_owned(),
            size: 1,
            transport,
            max_messages: None,
            max_memory: None,
            max_restarts: Some(3),
            grace: Duration::from_millis(100),
            start_limit: None,
            restart_window: Duration::from_secs(3600),
        };
        let watch = Watch { logged };
        Self {
            fleet: Fleet::new(options, Box::new(watch)),
            tell,
            ends,
            logs,
            next: 0,
        }
    }

    /// Hands one message of each kind over, and says which number the first one has.
    fn hand(&mut self, kinds: &[&'static str]) -> usize {
        let first = self.next;
        self.next += kinds.len();
        let messages = (first..).zip(kinds).map(|(number, kind)| {
            let message = Message {
                number,
                kind,
                tell: self.tell.clone(),
            };
            message.flight()
        });
        self.fleet.hand(0, messages.collect());
        first
    }

    /// How the next `count` messages ended, by number.
    fn ends(&self, count: usize) -> Vec<(usize, End)> {
        let mut all: Vec<_> = (0..count)
            .map(|_| self.ends.recv_timeout(LIMIT).expect("every message ends"))
            .collect();
        all.sort_unstable_by_key(|(number, _)| *number);
        all
    }

    fn works(&mut self) {
        let number = self.hand(&["works"]);
        assert_eq!(
            self.ends(1),
            [(number, End::Answered(ReplyStatus::Completed))]
        );
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.fleet.close();
        self.fleet.join(None);
    }
}

/// Waits for a state that nothing announces.
fn until(what: &str, reached: impl Fn() -> bool) {
    let end = Instant::now() + LIMIT;
    while !reached() {
        assert!(Instant::now() < end, "{what}: never");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub(crate) fn a_lie_ends_its_child(transport: Transport, lie: &'static str) {
    let mut host = Host::new(transport);
    host.works();
    let liar = host.fleet.pids();
    let first = host.hand(&[lie, "works", "works"]);
    let ends = host.ends(3);
    let (_, told) = &ends[0];
    // What came before the lie counts, and so does a message that the lie was not about.
    let fails_itself = matches!(
        lie,
        "skips before it begins"
            | "skips after it began"
            | "answers from a store that is not there"
            | "answers from beyond its store"
            | LIE_OF_A_SOCKET
    );
    let stopped = matches!(told, End::Crashed(Cause::Protocol(what)) if !what.is_empty());
    let answered = *told == End::Answered(ReplyStatus::Completed);
    assert!(stopped || (answered && !fails_itself), "{lie}: {told:?}");
    assert_eq!(
        ends[1..]
            .iter()
            .map(|(number, _)| *number)
            .collect::<Vec<_>>(),
        [first + 1, first + 2]
    );
    until(lie, || {
        host.fleet.pids() != liar && host.fleet.census(0..1).1 == 1
    });
    host.works();
}

pub(crate) fn what_was_taken_back_does_not_come_back(transport: Transport) {
    let mut host = Host::new(transport);
    host.works();
    let first = host.hand(&["takes the next and keeps it", "is taken back"]);
    assert_eq!(
        host.ends(1),
        [(first, End::Answered(ReplyStatus::Completed))]
    );
    assert_eq!(host.logs.recv_timeout(LIMIT).unwrap(), b"kept");
    host.fleet.stop([0], &|message| message.number == first + 1);
    // In the next child, or in this one before it is ended.
    let last = host.hand(&["works"]);
    let ends = host.ends(2);
    assert_eq!(ends[0], (first + 1, End::Answered(ReplyStatus::Skipped)));
    assert_eq!(ends[1].0, last);
    until("the liar lives", || host.fleet.census(0..1).1 == 1);
    host.works();
}

pub(crate) fn what_is_late_is_not_sent(transport: Transport) {
    let mut host = Host::new(transport);
    // First it waits for the child to start, and then there is one.
    for _ in 0..2 {
        let first = host.hand(&[LATE, "works", LATE]);
        let ends = [
            (first, End::Expired),
            (first + 1, End::Answered(ReplyStatus::Completed)),
            (first + 2, End::Expired),
        ];
        assert_eq!(host.ends(3), ends);
    }
    assert_eq!(host.fleet.census(0..1), (1, 0));
}

pub(crate) fn a_message_that_makes_every_child_lie_ends(transport: Transport) {
    let mut host = Host::new(transport);
    let lies = ["skips before it begins"; 5];
    host.hand(&lies);
    for (_, end) in host.ends(lies.len()) {
        assert!(matches!(end, End::Crashed(_)), "{end:?}");
    }
}
