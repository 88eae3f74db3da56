//! The child: does what the kind of a message says.

use std::collections::VecDeque;
use std::sync::Arc;

use pytoweb_process::frame::{
    ReplyFrame, ReplyStatus, Request, ToChild, control, decode_for_child, encode_log, encode_reply,
};
use pytoweb_process::{ChildLink, Packer, Parcel, arrive};

/// What a child tells its host when it waits to be stopped.
pub(crate) const WAITS: &[u8] = b"waits";

struct Child {
    link: Arc<dyn ChildLink>,
    /// Frames that came while a message waited.
    kept: VecDeque<Vec<u8>>,
    count: u64,
    configuration: String,
    definitions: Vec<u32>,
}

pub(crate) fn run() {
    let mut child = Child {
        link: arrive().unwrap().link,
        kept: VecDeque::new(),
        count: 0,
        configuration: String::new(),
        definitions: Vec::new(),
    };
    loop {
        let frame = child.next();
        match decode_for_child(&frame).unwrap() {
            ToChild::Request(request) => {
                let (seq, flags) = (request.seq, request.flags);
                let (worker, attempt) = (request.worker, request.attempt);
                let kind = kind_of(&request).to_owned();
                let payload = request
                    .payload
                    .into_parcel(child.link.view(), None)
                    .unwrap();
                child.answer(seq, (worker, flags, attempt), &kind, &payload);
            }
            ToChild::Quit => return,
            _ => {}
        }
    }
}

fn kind_of<'a, P>(request: &Request<'a, P>) -> &'a str {
    request.kind
}

fn text(payload: &Parcel) -> String {
    let bytes = payload.stream();
    let mut copy = vec![0; bytes.len()];
    assert!(bytes.copy_to(&mut copy));
    String::from_utf8(copy).unwrap()
}

impl Child {
    fn receive(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        while !self.link.receive(&mut frame).unwrap() {
            self.link.wait(None);
        }
        frame
    }

    fn next(&mut self) -> Vec<u8> {
        self.kept.pop_front().unwrap_or_else(|| self.receive())
    }

    fn answer(
        &mut self,
        seq: u64,
        (worker, flags, attempt): (u32, u32, u32),
        kind: &str,
        payload: &Parcel,
    ) {
        if !self.link.begin(seq) {
            return self.say(seq, ReplyStatus::Skipped, "");
        }
        if flags & control::SETUP != 0 {
            assert_eq!(text(payload), "set-up");
            return self.say(seq, ReplyStatus::Completed, "");
        }
        if flags & control::CONFIGURE != 0 {
            self.configuration = text(payload);
            return self.say(seq, ReplyStatus::Completed, "");
        }
        if flags & control::DEFINE != 0 {
            assert_eq!(text(payload), "definition");
            self.definitions.push(worker);
            return self.say(seq, ReplyStatus::Completed, "");
        }
        let reply = match kind {
            "counts" => {
                self.count += 1;
                (self.count - 1).to_string()
            }
            "configuration" => self.configuration.clone(),
            "definitions" => format!("{:?}", self.definitions),
            "fails" => return self.say(seq, ReplyStatus::Failed, "it cannot"),
            "dies" => std::process::exit(3),
            "dies at first" if attempt == 1 => std::process::exit(3),
            "dies at first" => format!("attempt {attempt}"),
            "waits" => {
                let mut log = Vec::new();
                encode_log(WAITS, &mut log);
                self.link.send(&log, &[]).unwrap();
                self.wait_for_stop(seq);
                "stopped".to_owned()
            }
            other => panic!("{other:?} is not known"),
        };
        self.say(seq, ReplyStatus::Completed, &reply);
    }

    fn wait_for_stop(&mut self, seq: u64) {
        loop {
            let frame = self.receive();
            if matches!(decode_for_child(&frame).unwrap(), ToChild::StopAsked { seq: of } if of == seq)
            {
                return;
            }
            self.kept.push_back(frame);
        }
    }

    fn say(&self, seq: u64, status: ReplyStatus, text: &str) {
        let mut packer = Packer::new(None);
        let failed = status == ReplyStatus::Failed;
        if !failed {
            packer.write(text.as_bytes());
        }
        let payload = packer.finish();
        let reply = ReplyFrame {
            seq,
            status,
            run_ns: 1,
            note: if failed { text.as_bytes() } else { &[] },
            payload: &payload,
        };
        let mut head = Vec::new();
        encode_reply(&reply, &mut head).unwrap();
        let area = if failed { &[] } else { text.as_bytes() };
        self.link.send(&head, area).unwrap();
    }
}
