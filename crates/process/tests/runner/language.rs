//! The smallest language: a message is a word, and a reply says how it ended.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use pytoweb_engine::{
    Carrier, Delivery, Failure, Handled, Handler, Message, Outcome, Pool, PoolOptions, ReplyState,
    Shared, Slot, Ticket, Wake, Worker, WorkerOptions,
};
use pytoweb_process::{
    Answer, Codec, Crash, Definition, Ends, Fleet, LaneNote, Options, Overseer, OwnedRequest,
    Packer, Payload, Program, Runner, Setup, Transport,
};

use crate::child::WAITS;

/// No test waits longer for anything.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug, Default)]
pub(crate) struct Reply {
    slot: Slot<String, Shared>,
    lane: LaneNote,
}

impl Ticket for Reply {
    fn state(&self) -> &ReplyState {
        self.slot.state()
    }

    fn fail(&self, queued: bool, failure: Failure) -> bool {
        self.slot.fail(queued, failure)
    }
}

pub(crate) struct Word {
    request: Arc<OwnedRequest>,
    reply: Option<Arc<Reply>>,
    settled: bool,
}

impl Message for Word {
    fn ticket(&self) -> Option<Arc<dyn Ticket>> {
        self.reply
            .as_ref()
            .map(|reply| -> Arc<dyn Ticket> { reply.clone() })
    }

    fn state(&self) -> Option<&ReplyState> {
        self.reply.as_ref().map(|reply| reply.state())
    }
}

pub(crate) struct Words {
    runner: Arc<Runner<Self>>,
}

impl Handler for Words {
    type Message = Word;

    fn handle(&self, _: &mut Word) -> Handled<Self> {
        unreachable!("every message is carried")
    }

    fn finish(&self, word: Word) -> Wake {
        match word.reply {
            Some(reply) if word.settled && reply.slot.publish() => Wake::threads_of(reply),
            _ => Wake::none(),
        }
    }

    fn carrier(&self) -> Option<&dyn Carrier<Self>> {
        Some(&*self.runner)
    }

    fn abandon(&self, word: Word, failure: Failure) {
        if let Some(reply) = word.reply {
            let _ = reply.fail(true, failure) || reply.fail(false, failure);
        }
    }
}

impl Codec for Words {
    fn request(word: &Word) -> Option<&Arc<OwnedRequest>> {
        Some(&word.request)
    }

    fn lane_note(word: &Word) -> Option<&LaneNote> {
        word.reply.as_ref().map(|reply| &reply.lane)
    }
}

impl Ends for Words {
    fn runner(&self) -> Option<&Arc<Runner<Self>>> {
        Some(&self.runner)
    }

    fn completed(delivery: Delivery<Self>, answer: Answer) {
        let bytes = answer.parcel.as_ref().unwrap().stream();
        let mut copy = vec![0; bytes.len()];
        assert!(bytes.copy_to(&mut copy));
        let text = String::from_utf8(copy).unwrap();
        end(delivery, Outcome::Completed, format!("completed: {text}"));
    }

    fn failed(delivery: Delivery<Self>, answer: Answer) {
        let note = String::from_utf8(answer.note).unwrap();
        end(delivery, Outcome::Failed, format!("failed: {note}"));
    }

    fn stopped(delivery: Delivery<Self>) {
        end(delivery, Outcome::Failed, "stopped".to_owned());
    }

    fn expired(delivery: Delivery<Self>) {
        end(delivery, Outcome::Expired, "expired".to_owned());
    }

    fn crashed(delivery: Delivery<Self>, crash: &Crash) {
        end(delivery, Outcome::Failed, format!("crashed: {crash}"));
    }
}

fn end(mut delivery: Delivery<Words>, outcome: Outcome, text: String) {
    if let Some(word) = delivery.message_mut()
        && let Some(reply) = &word.reply
    {
        word.settled = reply.slot.settle(Ok(text));
    }
    delivery.finish(outcome, None);
}

/// What a caller waits with.
pub(crate) struct Asked(Arc<Reply>);

impl Asked {
    /// The reply, read by this thread or another.
    pub(crate) fn reply(&self, host: &Host) -> Result<String, Failure> {
        let state = self.0.slot.state();
        let done = host.runner.help(&self.0.lane, state, LIMIT) || state.wait(Some(LIMIT));
        assert!(done, "no reply in time");
        self.0.slot.get().unwrap().clone()
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
            payload: payload("set-up"),
        })
    }

    fn log(&self, bytes: Vec<u8>) {
        let _ = self.logged.send(bytes);
    }

    fn asked(&self, _: usize, _: Vec<u8>) {}

    fn lane_failed(&self, _: usize, _: &Arc<Crash>, _: Duration) {}

    fn lane_recovered(&self, _: usize) {}
}

fn payload(text: &str) -> Payload {
    let mut packer = Packer::new(None);
    packer.write(text.as_bytes());
    packer.finish()
}

pub(crate) fn definition(number: u32) -> Arc<Definition> {
    Arc::new(Definition {
        number,
        payload: Arc::new(payload("definition")),
        bytes: 10,
    })
}

/// A worker whose messages run in a child of its own.
pub(crate) struct Host {
    pub(crate) worker: Worker<Words>,
    pub(crate) runner: Arc<Runner<Words>>,
    fleet: Arc<Fleet<Delivery<Words>>>,
    pool: Pool,
    logs: Receiver<Vec<u8>>,
}

impl Host {
    pub(crate) fn new(transport: Transport) -> Self {
        let (logged, logs) = channel();
        let options = Options {
            name: "words".to_owned(),
            size: 1,
            transport,
            max_messages: None,
            max_memory: None,
            max_restarts: Some(3),
            grace: LIMIT,
            start_limit: None,
            restart_window: Duration::from_secs(3600),
        };
        let fleet = Arc::new(Fleet::new(options, Box::new(Watch { logged })));
        let pool = Pool::new(PoolOptions::new(1));
        let runner = Arc::new(Runner::new("words", fleet.clone(), None, &pool));
        let handler = Words {
            runner: runner.clone(),
        };
        let worker = Worker::new("words", handler, WorkerOptions::default(), &pool);
        assert!(worker.start().unwrap());
        Self {
            worker,
            runner,
            fleet,
            pool,
            logs,
        }
    }

    pub(crate) fn configure(&self, text: &str) {
        self.runner.configure(payload(text), false);
    }

    pub(crate) fn post(&self, kind: &'static str) {
        let word = word(kind, 1, None, None);
        assert!(self.worker.try_post(word).is_ok());
    }

    pub(crate) fn ask(&self, kind: &'static str) -> Asked {
        self.ask_with(kind, 1, None)
    }

    pub(crate) fn ask_with(
        &self,
        kind: &'static str,
        max_attempts: u32,
        definition: Option<&Arc<Definition>>,
    ) -> Asked {
        let reply = Arc::<Reply>::default();
        let word = word(kind, max_attempts, definition, Some(reply.clone()));
        assert!(self.worker.try_post(word).is_ok());
        Asked(reply)
    }

    /// Asks for all at once, so that one batch takes them.
    pub(crate) fn ask_all(&self, kinds: &[&'static str]) -> Vec<Asked> {
        let replies: Vec<Arc<Reply>> = kinds.iter().map(|_| Arc::default()).collect();
        let mut words: VecDeque<Word> = kinds
            .iter()
            .zip(&replies)
            .map(|(kind, reply)| word(kind, 1, None, Some(reply.clone())))
            .collect();
        assert_eq!(
            self.worker.try_post_many(&mut words).ok(),
            Some(kinds.len())
        );
        replies.into_iter().map(Asked).collect()
    }

    pub(crate) fn cancel(&self, asked: &Asked) -> bool {
        let ticket: Arc<dyn Ticket> = asked.0.clone();
        self.worker.address().cancel(&ticket)
    }

    /// Waits until a message runs that says so.
    pub(crate) fn until_begun(&self, asked: &Asked) {
        let end = Instant::now() + LIMIT;
        loop {
            match self.logs.try_recv() {
                Ok(log) => return assert_eq!(log, WAITS),
                Err(_) => assert!(Instant::now() < end, "it does not begin"),
            }
            self.read_for(asked);
        }
    }

    /// Reads replies for a moment: no other thread may be reading.
    pub(crate) fn read_for(&self, asked: &Asked) {
        let limit = Duration::from_millis(10);
        self.runner.help(&asked.0.lane, asked.0.state(), limit);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.worker.terminate();
        self.fleet.close();
        self.fleet.join(None);
        self.pool.shutdown();
        self.pool.join();
    }
}

fn word(
    kind: &str,
    max_attempts: u32,
    definition: Option<&Arc<Definition>>,
    reply: Option<Arc<Reply>>,
) -> Word {
    Word {
        request: Arc::new(OwnedRequest {
            kind: kind.into(),
            id: None,
            context: Box::default(),
            payload: payload("data"),
            definition: definition.cloned(),
            flags: 0,
            max_attempts,
            attempt: AtomicU32::new(1),
            earlier: AtomicU32::new(0),
            company: Box::default(),
        }),
        reply,
        settled: false,
    }
}
