//! The child's side: takes requests from the link, calls handlers, and answers.
//!
//! Runs on the main thread of an interpreter that a fleet started (`pytoweb/_child.py`). Coroutines go to an event loop
//! on a thread of its own and answer from there.
//!
//! Past 600 lines, because the way of one message through a child is told in one place.
#![expect(unsafe_code, reason = "a call is looked at from another thread")]

#[path = "child/events.rs"]
pub(crate) mod events;
#[path = "child/progress.rs"]
pub(crate) mod progress;
#[path = "child/streams.rs"]
pub(crate) mod streams;

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_ulong;
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};
use pytoweb_process::frame::{
    RawPayload, ReplyFrame, ReplyStatus, Request, ToChild, control, decode_for_child, encode_ask,
    encode_broken, encode_log, encode_ready, encode_reply,
};
use pytoweb_process::{Arrival, ChildLink, Door, Parcel, Payload};

use self::events::EventSender;
use self::streams::{ChildStreamWriter, Sender, Streams};
use crate::error;
use crate::error::NamedOwner;
use crate::host::around::Surroundings;
use crate::host::batches::{self, Results};
use crate::host::flags;
use crate::host::note;
use crate::host::start_hook::StartHook;
use crate::host::worker_message::{HostChannel, Site, WorkerMessage};
use crate::interpreter::context;
use crate::interpreter::generation::Generation;
use crate::interpreter::loops::LoopLabel;
use crate::interpreter::marks::{self, Label, Mark, Residence};
use crate::interpreter::{memory, watchdog};
use crate::pickle::functions::{self, Functions};
use crate::pickle::pickling;
use crate::pickle::pickling::Way;

mod batch_replies;

/// How often to look for another request before sleeping: see `YIELDS` in the engine's `sync.rs`.
const YIELDS: usize = 16;
/// How long the host may take to lend a descriptor: its interpreter lock may be held for long.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// What runs on a thread of a child.
struct CurrentInChild {
    kind: Py<PyString>,
    data: Py<PyAny>,
    id: Option<Py<PyString>>,
    worker: Arc<ChildWorker>,
    attempt: u32,
    seq: u64,
    is_asked: bool,
    link: Arc<dyn ChildLink>,
    events: Arc<EventSender>,
    stream: Option<Sender>,
}

thread_local! {
    static CURRENT: RefCell<Option<CurrentInChild>> = const { RefCell::new(None) };
}

impl CurrentInChild {
    fn view(&self, py: Python<'_>) -> WorkerMessage {
        WorkerMessage::of_child(
            self.kind.clone_ref(py),
            self.data.clone_ref(py),
            self.id.as_ref().map(|id| id.clone_ref(py)),
            self.worker.name.clone(),
            self.attempt,
            Site::Child {
                link: self.link.clone(),
                seq: self.seq,
                is_asked: self.is_asked,
                to_host: self.events.clone(),
            },
        )
    }
}

/// The message whose handler runs on this thread, in a child.
pub(crate) fn running_message(py: Python<'_>) -> PyResult<Option<WorkerMessage>> {
    Ok(CURRENT.with(|current| current.borrow().as_ref().map(|current| current.view(py))))
}

/// A message that runs: thread, number on it, worker, type, id, attempt.
type ChildRunRow = (
    c_ulong,
    u64,
    String,
    Py<PyString>,
    Option<Py<PyString>>,
    u32,
);

/// The messages whose handlers run on threads of this process, which is a child: for each the thread's identifier, the
/// number of the message on that thread, the worker's name, the message's type, its id, and the attempt.
#[pyfunction]
pub(crate) fn running_in_child(py: Python<'_>) -> Vec<ChildRunRow> {
    let mut found = Vec::new();
    marks::visit(|seen| {
        // SAFETY: a call stays where it is while it is marked, and the thread that runs it does not go on before it has
        // the interpreter lock, which this thread holds: no Python code runs here.
        let call = unsafe { seen.mark.call().cast::<ChildCall<'_, '_>>().as_ref() };
        found.extend(call.map(|call| {
            let kind = call.kind.as_unbound().clone_ref(py);
            let id = call.id.as_ref().map(|id| id.as_unbound().clone_ref(py));
            let name = call.worker.name.clone();
            let number = seen.mark.number();
            (seen.ident, number, name, kind, id, call.head.attempt)
        }));
    });
    found
}

/// Brings a report of the handler that runs on this thread, in a child, to the host. False: none does.
pub(crate) fn report_running(py: Python<'_>, report: Bound<'_, PyTuple>) -> PyResult<bool> {
    let running = CURRENT.with(|current| {
        let current = current.borrow();
        let current = current.as_ref()?;
        Some((current.events.clone(), current.seq, current.is_asked))
    });
    let Some((events, seq, is_asked)) = running else {
        return Ok(false);
    };
    if is_asked {
        events.report(py, seq, report)?;
    }
    Ok(true)
}

/// Where the handler that runs on this thread, in a child, puts the items of its stream.
pub(crate) fn running_stream(py: Python<'_>) -> PyResult<Option<Py<ChildStreamWriter>>> {
    let sender = CURRENT.with(|current| current.borrow().as_ref()?.stream.clone());
    sender
        .map(|sender| Py::new(py, ChildStreamWriter::new(sender)))
        .transpose()
}

/// The worker whose handler runs on this thread, in a child.
pub(crate) fn running_owner(py: Python<'_>) -> Option<Py<PyAny>> {
    CURRENT.with(|current| {
        let current = current.borrow();
        let owner = &current.as_ref()?.worker.owner;
        (!owner.is_none(py)).then(|| owner.clone_ref(py))
    })
}

/// What `Child.configure` returns.
type WorkerParts = (
    String,
    bool,
    Py<PyAny>,
    Py<PyDict>,
    Option<Py<PyAny>>,
    bool,
    Option<Py<PyAny>>,
    Option<Py<PyAny>>,
);

/// A worker, as its child knows it.
struct ChildWorker {
    name: String,
    /// By it the watchdog knows the worker.
    label: Label,
    is_pool: bool,
    owner: Py<PyAny>,
    handlers: Py<PyDict>,
    start_hook: Arc<StartHook>,
    surroundings: Surroundings,
    /// Some handler is a coroutine, and the host sends one message at a time.
    one_by_one: bool,
    /// Why it cannot run anything.
    unfit: Option<Py<PyAny>>,
}

impl ChildWorker {
    fn named(&self) -> NamedOwner<'_> {
        NamedOwner {
            name: &self.name,
            is_pool: self.is_pool,
        }
    }
}

/// The child's end of everything.
#[pyclass(module = "pytoweb._core", frozen)]
pub(crate) struct ChildEnd {
    link: Arc<dyn ChildLink>,
    report: std::os::fd::OwnedFd,
    /// Held by the thread that waits for an answer.
    door: Mutex<Door>,
    workers: Mutex<HashMap<u32, Arc<ChildWorker>>>,
    /// What interrupts a coroutine that runs, by message.
    interrupters: Arc<Mutex<HashMap<u64, Py<PyAny>>>>,
    streams: Arc<Streams>,
    events: Arc<EventSender>,
    generation: Generation,
    functions: Functions,
}

/// Takes over the standard input that the host gave this process.
#[pyfunction]
pub(crate) fn child_arrive() -> PyResult<ChildEnd> {
    crate::interpreter::fork::note_child();
    let Arrival { link, report, door } = pytoweb_process::arrive().map_err(|error| {
        PyOSError::new_err(format!("this process was not started by a pool: {error}"))
    })?;
    Ok(ChildEnd {
        events: EventSender::new(&link),
        link,
        report,
        door: Mutex::new(door),
        workers: Mutex::default(),
        interrupters: Arc::default(),
        streams: Arc::default(),
        functions: Functions::default(),
        generation: Generation::now(),
    })
}

/// Everything of a request but its payload.
struct RequestHead {
    seq: u64,
    worker: u32,
    attempt: u32,
    flags: u32,
}

/// The thread waits for requests; until it is dropped.
struct Resting;

impl Resting {
    fn begin() -> Self {
        marks::rests();
        Self
    }
}

impl Drop for Resting {
    fn drop(&mut self) {
        marks::wakes();
    }
}

enum AfterFrame {
    GoOn,
    Quit,
}

fn broken(error: impl std::fmt::Display) -> PyErr {
    PyRuntimeError::new_err(format!("the connection to the host is broken: {error}"))
}

impl ChildEnd {
    /// Takes the next frame, and lets others run while there is none.
    fn next(&self, py: Python<'_>, frame: &mut Vec<u8>) -> PyResult<()> {
        if self.streams.take_held(frame) {
            return Ok(());
        }
        while !self.link.receive(frame).map_err(broken)? {
            let found = py.detach(|| -> Result<bool, _> {
                let _resting = Resting::begin();
                for _ in 0..YIELDS {
                    if self.link.receive(frame)? {
                        return Ok(true);
                    }
                    std::thread::yield_now();
                }
                memory::tidy_if_large();
                self.link.wait(None);
                Ok::<_, pytoweb_process::Broken>(false)
            });
            if found.map_err(broken)? {
                return Ok(());
            }
            py.check_signals()?;
        }
        Ok(())
    }

    fn step(&self, py: Python<'_>, child: &Bound<'_, PyAny>, frame: &[u8]) -> PyResult<AfterFrame> {
        match decode_for_child(frame).map_err(broken)? {
            ToChild::Request(request) => self.request(py, child, request)?,
            ToChild::Release { offset } => {
                if let Some(store) = self.link.store() {
                    store.release(offset);
                }
            }
            ToChild::StopAsked { seq } => self.interrupt(py, seq),
            ToChild::Grant { seq, items } => self.streams.grant(seq, items),
            ToChild::Enough { seq } => {
                self.streams.close(seq);
                self.interrupt(py, seq);
            }
            ToChild::Quit => return Ok(AfterFrame::Quit),
        }
        Ok(AfterFrame::GoOn)
    }

    /// Cancels the coroutine of a message, if it runs one.
    fn interrupt(&self, py: Python<'_>, seq: u64) {
        let interrupter = self.lock_interrupters().remove(&seq);
        if let Some(interrupter) = interrupter
            && let Err(error) = interrupter.call0(py)
        {
            error.write_unraisable(py, None);
        }
    }

    fn lock_interrupters(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Py<PyAny>>> {
        self.interrupters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn request(
        &self,
        py: Python<'_>,
        child: &Bound<'_, PyAny>,
        request: Request<'_, RawPayload<'_>>,
    ) -> PyResult<()> {
        let head = RequestHead {
            seq: request.seq,
            worker: request.worker,
            attempt: request.attempt,
            flags: request.flags,
        };
        let mut answers = Answers {
            link: self.link.clone(),
            seq: head.seq,
            generation: self.generation,
            began: Instant::now(),
            wanted: head.flags & flags::NO_REPLY == 0,
            together: head.flags & control::TOGETHER != 0,
            one_of_list: false,
            streams: None,
            events: self.events.clone(),
        };
        if !self.link.begin(head.seq) {
            return answers.skipped(py);
        }
        let parcel = request
            .payload
            .into_parcel(self.link.view(), None)
            .map_err(broken)?;
        if head.flags & control::DEFINE != 0 {
            self.functions
                .define(py, head.worker, &parcel, head.flags & control::ANEW != 0);
            return answers.reply(py, child, Ok(py.None().into_bound(py)));
        }
        if head.flags & (control::SETUP | control::CONFIGURE) != 0 {
            let done = self.control(py, child, &head, &parcel);
            return answers.reply(py, child, done.map(|()| py.None().into_bound(py)));
        }
        let worker = self
            .workers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&head.worker)
            .cloned();
        let Some(worker) = worker else {
            let error = PyRuntimeError::new_err("this worker was never configured");
            return answers.reply(py, child, Err(error));
        };
        let vars = request.context;
        let window = flags::window(head.flags);
        let stream = window.map(|window| {
            Sender::new(&self.link, &self.streams, head.seq, window, self.generation)
        });
        answers.streams = stream.is_some().then(|| self.streams.clone());
        let call = ChildCall {
            end: self,
            child,
            head,
            worker,
            kind: PyString::new(py, request.kind),
            id: request.id.map(|id| PyString::new(py, id)),
            stream,
        };
        let ran = call.run(py, &parcel, vars, &mut answers.one_of_list);
        match ran {
            Ok(Called::Value(value)) => answers.reply(py, child, Ok(value)),
            Ok(Called::Later {
                coroutine,
                context,
                message,
            }) => call.go_on(py, answers, (coroutine, context, message)),
            Err(error) => answers.reply(py, child, Err(error)),
        }
    }

    fn control(
        &self,
        py: Python<'_>,
        child: &Bound<'_, PyAny>,
        head: &RequestHead,
        parcel: &Parcel,
    ) -> PyResult<()> {
        if head.flags & control::SETUP != 0 {
            let setup = pickling::unpack(py, parcel)?;
            child.call_method1(intern!(py, "set_up"), (setup,))?;
            // Only now: the host knows that this process is ready.
            marks::serve();
            watchdog::ensure(py);
            return Ok(());
        }
        let known = pickling::unpack(py, parcel)
            .and_then(|config| child.call_method1(intern!(py, "configure"), (head.worker, config)));
        let before = self
            .workers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&head.worker)
            .cloned();
        let own = match known {
            Ok(parts) => {
                let (name, is_pool, owner, handlers, on_start, one_by_one, around, unfit): WorkerParts =
                    parts.extract()?;
                ChildWorker {
                    label: Label::new(&name),
                    name,
                    is_pool,
                    owner,
                    handlers,
                    // One that has yet to run is kept, whatever else is new.
                    start_hook: match (on_start, before) {
                        (None, Some(before)) => before.start_hook.clone(),
                        (hook, _) => Arc::new(StartHook::new(hook)),
                    },
                    surroundings: Surroundings::new(around),
                    one_by_one,
                    unfit,
                }
            }
            Err(raised) => ChildWorker {
                label: Label::new(""),
                name: String::new(),
                is_pool: false,
                owner: py.None(),
                handlers: PyDict::new(py).unbind(),
                start_hook: Arc::default(),
                surroundings: Surroundings::default(),
                one_by_one: false,
                unfit: Some(raised.into_value(py).into_any()),
            },
        };
        let own = Arc::new(own);
        own.label.is_of::<ChildWorker>(&own);
        self.workers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(head.worker, own);
        Ok(())
    }
}

/// What a call came to.
enum Called<'py> {
    Value(Bound<'py, PyAny>),
    Later {
        coroutine: Bound<'py, PyAny>,
        context: Option<Bound<'py, PyAny>>,
        message: Option<CurrentInChild>,
    },
}

/// One message that is being handled.
struct ChildCall<'a, 'py> {
    end: &'a ChildEnd,
    child: &'a Bound<'py, PyAny>,
    head: RequestHead,
    worker: Arc<ChildWorker>,
    kind: Bound<'py, PyString>,
    id: Option<Bound<'py, PyString>>,
    stream: Option<Sender>,
}

impl<'py> ChildCall<'_, 'py> {
    fn unpack(&self, py: Python<'py>, parcel: &Parcel) -> PyResult<Bound<'py, PyAny>> {
        pickling::unpack(py, parcel).map_err(|raised| {
            error::unreadable_payload(py, self.worker.named(), &self.kind.to_string(), raised)
        })
    }

    /// The data of messages that run together.
    fn items(&self, py: Python<'py>, parcel: &Parcel) -> PyResult<Bound<'py, PyList>> {
        let parcels = parcel
            .apart()
            .ok_or_else(|| broken("a batch of no messages"))?;
        let items = PyList::empty(py);
        for parcel in &parcels {
            items.append(self.unpack(py, parcel)?)?;
        }
        Ok(items)
    }

    /// Calls the handler with the data of one message, or with a list of `items`. `one_of_list`: is set where it returns a
    /// list for one message.
    fn handle(
        &self,
        handler: &Bound<'py, PyAny>,
        data: Bound<'py, PyAny>,
        items: Option<Bound<'py, PyList>>,
        one_of_list: &mut bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = handler.py();
        let surroundings = &self.worker.surroundings;
        match (batches::list_handler(handler)?, items) {
            (None, None) => surroundings.handle(handler, data),
            (None, Some(items)) => {
                // It was replaced since they were posted.
                let each = py
                    .import(intern!(py, "pytoweb._batch"))?
                    .call_method1(intern!(py, "one_by_one"), (handler,))?;
                surroundings.handle(&each, items.into_any())
            }
            (Some(list), Some(items)) => surroundings.handle(&list, items.into_any()),
            (Some(list), None) => {
                *one_of_list = true;
                surroundings.handle(&list, PyList::new(py, [data])?.into_any())
            }
        }
    }

    fn run(
        &self,
        py: Python<'py>,
        parcel: &Parcel,
        vars: &[u8],
        one_of_list: &mut bool,
    ) -> PyResult<Called<'py>> {
        if let Some(unfit) = &self.worker.unfit {
            return Err(PyErr::from_value(unfit.bind(py).clone()));
        }
        let items = if self.head.flags & control::TOGETHER == 0 {
            None
        } else {
            Some(self.items(py, parcel)?)
        };
        let payload = match &items {
            Some(items) => items.get_item(0)?,
            None => self.unpack(py, parcel)?,
        };
        let is_function = self.head.flags & flags::FUNCTION != 0;
        let (function, data) = if is_function {
            let function = self.end.functions.get(&payload.get_item(0)?);
            let function = function.map_err(|raised| {
                error::unreadable_payload(py, self.worker.named(), &self.kind.to_string(), raised)
            })?;
            (Some(function), payload.get_item(1)?)
        } else {
            (None, payload.clone())
        };
        let context = if vars.is_empty() {
            None
        } else {
            Some(self.child.call_method1(
                intern!(py, "context"),
                (pyo3::types::PyBytes::new(py, vars),),
            )?)
        };
        let before = CURRENT.with(|current| {
            current.replace(Some(CurrentInChild {
                kind: self.kind.clone().unbind(),
                data: data.clone().unbind(),
                id: self.id.as_ref().map(|id| id.clone().unbind()),
                worker: self.worker.clone(),
                attempt: self.head.attempt,
                seq: self.head.seq,
                is_asked: self.head.flags & flags::NO_REPLY == 0,
                link: self.end.link.clone(),
                events: self.end.events.clone(),
                stream: self.stream.clone(),
            }))
        });
        // Until after `CURRENT` was put back: `running_in_child` reads of `self` alone.
        marks::own(|mark| mark.begin_in_child::<ChildWorker, Self>(&self.worker, self));
        let result = context::inside(py, context.as_ref(), || {
            let started = self.worker.start_hook.run(py, false, |coroutine| {
                let message = running_message(py)?;
                let args = (coroutine, context.as_ref(), message, &self.worker.owner);
                self.child
                    .call_method1(intern!(py, "finish_hook"), args)
                    .map(drop)
            });
            if !self.end.generation.is_here() {
                // A copy that the hook forked: the message is its parent's.
                let raised = started.err().map(|raised| raised.into_value(py));
                self.child
                    .call_method1(intern!(py, "end_copy"), (raised,))?;
                return Err(error::copied());
            }
            started?;
            if is_function {
                let function =
                    function.ok_or_else(|| PyRuntimeError::new_err("a call without a function"))?;
                let options = payload.get_item(2)?;
                let (function, args) = functions::called(function, data.cast_into()?, &options)?;
                let awaits = self.head.flags & flags::AWAITS != 0;
                return self.worker.surroundings.call(
                    &function,
                    args,
                    options.cast::<PyDict>().ok(),
                    awaits,
                );
            }
            match self.worker.handlers.bind(py).get_item(&self.kind)? {
                Some(handler) => {
                    let returned = self.handle(&handler, data, items, one_of_list)?;
                    context::no_generator(returned, || self.kind.to_string())
                }
                None => Err(error::unknown(self.worker.named(), &self.kind.to_string())),
            }
        });
        marks::own(Mark::end_in_child);
        let message = CURRENT.with(|current| current.replace(before));
        let value = result?;
        let awaits = !is_function || self.head.flags & flags::AWAITS != 0;
        if awaits && context::is_coroutine(&value) {
            return Ok(Called::Later {
                coroutine: value,
                context,
                message,
            });
        }
        Ok(Called::Value(value))
    }

    /// Hands a coroutine to the event loop. The host sends a worker with such handlers one message at a time; where it
    /// did not know of it, the others wait here.
    fn go_on(
        &self,
        py: Python<'py>,
        answers: Answers,
        (coroutine, context, message): (
            Bound<'py, PyAny>,
            Option<Bound<'py, PyAny>>,
            Option<CurrentInChild>,
        ),
    ) -> PyResult<()> {
        let Some(message) = message else {
            return answers.reply(py, self.child, Ok(coroutine));
        };
        let pending = Bound::new(
            py,
            ChildPending {
                message,
                child: self.child.clone().unbind(),
                answers: Mutex::new(Some(answers)),
                answered: Condvar::new(),
                interrupters: self.end.interrupters.clone(),
                residence: OnceLock::new(),
            },
        )?;
        let started = self.child.call_method1(
            intern!(py, "run_coroutine"),
            (
                coroutine,
                context,
                &pending,
                &self.worker.owner,
                self.kind.clone(),
            ),
        );
        let pending = pending.get();
        if let Err(error) = started {
            return pending.finish(py, Err(error));
        }
        if !self.worker.one_by_one {
            py.detach(|| pending.wait());
        }
        Ok(())
    }
}

/// Where the answer to one message goes.
struct Answers {
    link: Arc<dyn ChildLink>,
    seq: u64,
    generation: Generation,
    began: Instant,
    /// Whether the host wants the value.
    wanted: bool,
    /// They are several messages.
    together: bool,
    /// The handler of batches got a list of one.
    one_of_list: bool,
    /// Where its stream is, if it has one.
    streams: Option<Arc<Streams>>,
    /// Events that it emitted go before it.
    events: Arc<EventSender>,
}

impl Answers {
    fn send(
        &self,
        py: Python<'_>,
        status: ReplyStatus,
        note: &[u8],
        mut payload: Payload,
    ) -> PyResult<()> {
        if let Some(streams) = &self.streams {
            streams.forget(self.seq);
        }
        self.events.end(py, self.seq);
        let run_ns = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        // The host releases it, perhaps before this returns.
        let _ = payload.detach();
        let mut head = Vec::new();
        let encoded = encode_reply(
            &ReplyFrame {
                seq: self.seq,
                status,
                run_ns,
                note,
                payload: &payload,
            },
            &mut head,
        );
        encoded.map_err(broken)?;
        let sent = {
            let area: &[u8] = match payload.place() {
                pytoweb_process::AreaPlace::Inline(area) => area,
                _ => &[],
            };
            if self.link.try_send(&head, area).map_err(broken)? {
                Ok(())
            } else {
                py.detach(|| self.link.send(&head, area))
            }
        };
        sent.map_err(broken)
    }

    fn skipped(&self, py: Python<'_>) -> PyResult<()> {
        self.send(py, ReplyStatus::Skipped, &[], Payload::empty())
    }

    /// Answers with what the handler returned or raised.
    fn reply(
        &self,
        py: Python<'_>,
        child: &Bound<'_, PyAny>,
        result: PyResult<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        if !self.generation.is_here() {
            // A copy that the handler forked. The answer is its parent's to give, and the link its parent's to use.
            let raised = result.err().map(|raised| raised.into_value(py));
            return child
                .call_method1(intern!(py, "end_copy"), (raised,))
                .map(drop);
        }
        let result = match result {
            Ok(results) if self.together || self.one_of_list => {
                batch_replies::sendable(results, false)
            }
            result => result,
        };
        let result = if self.one_of_list {
            Results::of(result).get(py, 0)
        } else {
            result
        };
        let raised = match result {
            Ok(_) if !self.wanted => {
                return self.send(py, ReplyStatus::Completed, &[], Payload::empty());
            }
            Ok(value) => {
                let pack = |value: &Bound<'_, PyAny>| {
                    pickling::pack(py, Way::ToHost, value, || self.link.store().cloned())
                };
                let packed = match pack(&value) {
                    Err(raised) if self.together && !error::is_interrupt(py, &raised) => {
                        batch_replies::sendable(value, true).and_then(|each| pack(&each))
                    }
                    packed => packed,
                };
                match packed {
                    Ok(payload) => return self.send(py, ReplyStatus::Completed, &[], payload),
                    Err(raised) => error::unpicklable(py, "the reply", raised),
                }
            }
            Err(raised) => raised,
        };
        let value = raised.into_value(py);
        let described = child.call_method1(intern!(py, "describe"), (&value,));
        let texts: PyResult<(String, String, String)> = described.and_then(|texts| texts.extract());
        let (kind, text, traceback) = texts.unwrap_or_default();
        let note = note::write([&kind, &text, &traceback]);
        let payload = pickling::pack(py, Way::ToHost, value.bind(py).as_any(), || {
            self.link.store().cloned()
        })
        .unwrap_or_else(|_| Payload::empty());
        self.send(py, ReplyStatus::Failed, &note, payload)
    }
}

/// A message of a child whose coroutine runs.
#[pyclass(module = "pytoweb._core", frozen)]
pub(crate) struct ChildPending {
    message: CurrentInChild,
    child: Py<PyAny>,
    answers: Mutex<Option<Answers>>,
    answered: Condvar,
    interrupters: Arc<Mutex<HashMap<u64, Py<PyAny>>>>,
    residence: OnceLock<Residence>,
}

impl ChildPending {
    /// Blocks until it is finished.
    fn wait(&self) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        while answers.is_some() {
            answers = self
                .answered
                .wait(answers)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn finish(&self, py: Python<'_>, result: PyResult<Bound<'_, PyAny>>) -> PyResult<()> {
        let interrupter = self
            .interrupters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.message.seq);
        drop(interrupter);
        if let Some(residence) = self.residence.get() {
            residence.end();
        }
        let answers = self
            .answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        self.answered.notify_all();
        let answers =
            answers.ok_or_else(|| PyRuntimeError::new_err("the message is finished already"))?;
        answers.reply(py, self.child.bind(py), result)
    }
}

#[pymethods]
impl ChildPending {
    /// Ends the message with a result.
    fn completed(&self, py: Python<'_>, result: Bound<'_, PyAny>) -> PyResult<()> {
        self.finish(py, Ok(result))
    }

    /// Ends the message with an exception.
    fn failed(&self, py: Python<'_>, error: Bound<'_, PyAny>) -> PyResult<()> {
        self.finish(py, Err(PyErr::from_value(error)))
    }

    /// The message as `current_message()` shows it.
    fn message(&self, py: Python<'_>) -> WorkerMessage {
        self.message.view(py)
    }

    /// The same, and notes for the watchdog that the coroutine is on that loop until it ends.
    fn comes_to(&self, py: Python<'_>, home: &LoopLabel) -> WorkerMessage {
        // Of no consequence where it has one.
        let _ = self
            .residence
            .set(home.takes_in::<ChildWorker>(&self.message.worker));
        self.message(py)
    }

    /// Whether it is the message of that ticket: in a child there are none.
    fn is_of(&self, ticket: usize) -> bool {
        let _ = ticket;
        false
    }

    /// Has `interrupter` called when the message is cancelled or expires.
    fn on_interrupt(&self, interrupter: Py<PyAny>) -> bool {
        let replaced = self
            .interrupters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(self.message.seq, interrupter);
        drop(replaced);
        true
    }
}

impl ChildEnd {
    /// Refuses in a copy of this process that a handler forked.
    fn check(&self) -> PyResult<()> {
        if self.generation.is_here() {
            Ok(())
        } else {
            Err(error::copied())
        }
    }
}

#[pymethods]
impl ChildEnd {
    /// The descriptor for last words.
    fn report_descriptor(&self) -> i32 {
        self.report.as_raw_fd()
    }

    /// Tells the host that this process is ready.
    fn ready(&self, py: Python<'_>) -> PyResult<()> {
        self.check()?;
        let mut frame = Vec::new();
        encode_ready(&[], &mut frame);
        py.detach(|| self.link.send(&frame, &[])).map_err(broken)
    }

    /// Tells the host that the initializer failed, in three texts.
    fn unfit(
        &self,
        py: Python<'_>,
        kind: &str,
        text: &str,
        traceback: &str,
        pickle: &[u8],
    ) -> PyResult<()> {
        self.check()?;
        let mut frame = Vec::new();
        let mut note = note::write([kind, text, traceback]);
        note.extend_from_slice(pickle);
        encode_broken(&note, &mut frame);
        py.detach(|| self.link.send(&frame, &[])).map_err(broken)
    }

    /// Sends a log record, pickled; false if it is too long. Refuses in a forked copy of this process.
    fn log(&self, py: Python<'_>, bytes: &[u8]) -> PyResult<bool> {
        self.check()?;
        let mut frame = Vec::new();
        encode_log(bytes, &mut frame);
        if !self.link.fits(frame.len()) {
            return Ok(false);
        }
        py.detach(|| self.link.send(&frame, &[])).map_err(broken)?;
        Ok(true)
    }

    /// Asks the host for a descriptor, and waits for it.
    fn borrow(&self, py: Python<'_>, key: &str) -> PyResult<RawFd> {
        self.check()?;
        let key = format!("{key}:");
        let mut frame = Vec::new();
        encode_ask(key.as_bytes(), &mut frame);
        let taken = py.detach(|| {
            let door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
            self.link
                .send(&frame, &[])
                .map_err(io::Error::other)
                .and_then(|()| door.take(key.as_bytes(), ANSWER_LIMIT))
        });
        let taken = taken.map_err(|error| {
            PyOSError::new_err(format!("the host did not lend its descriptor: {error}"))
        })?;
        Ok(taken.into_raw_fd())
    }

    /// Lets go of the workers, their handlers and the functions that were called, so that the end of the interpreter finds what they hold as it finds
    /// everything of a program: in its modules.
    fn release(&self) {
        let workers =
            std::mem::take(&mut *self.workers.lock().unwrap_or_else(PoisonError::into_inner));
        drop(workers);
        self.functions.clear();
    }

    /// Handles requests until the host says that it is over.
    fn run(&self, py: Python<'_>, child: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut frame = Vec::new();
        loop {
            self.next(py, &mut frame)?;
            match self.step(py, child, &frame)? {
                AfterFrame::GoOn => {}
                AfterFrame::Quit => return Ok(()),
            }
        }
    }
}
