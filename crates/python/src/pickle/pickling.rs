//! Objects into payloads and back: pickle protocol 5, with buffers out of band.
//!
//! A pickler writes to a [`Sink`], which takes what it gets into a [`Packer`]: small frames, and large `bytes` as they
//! are, so that each is copied once. Picklers and their sinks are kept and used again: making one costs as much as
//! pickling a small object. Objects that plain pickle refuses, and functions of `__main__`, go to `cloudpickle` where
//! that is installed (`_pickling.py`).

use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::{PyKeyError, PyMemoryError, PyOverflowError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList};
use pytoweb_process::{ALIGNMENT, AreaPlace, Packer, Parcel, Payload, Store};

use crate::error;
use crate::pickle::buffers;
use crate::pickle::simple;

/// How a pickle names the module `__main__`: a text of eight bytes.
const MAIN: &[u8] = b"\x8c\x08__main__";
/// Frames of pickle end at 64 KiB; a longer piece is a user's data, and not looked through.
const FRAME_LIMIT: usize = 128 << 10;
/// Buffers of one payload that go out of band: their lengths have to fit into the ring.
const MOST_BUFFERS: usize = 1024;
/// Bytes of a payload that goes in a frame: the length of a frame is a `u32`, and there is its head.
const LONGEST_INLINE: u64 = (u32::MAX - (1 << 20)) as u64;
/// Idle picklers kept at most: threads that pickle at the same time.
const MOST_IDLE_PICKLERS: usize = 16;

#[derive(Default)]
struct Filling {
    packer: Option<Packer>,
    buffers: Vec<Py<PyAny>>,
    names_main: bool,
}

/// What a pickler writes to.
#[pyclass(module = "pytoweb._core", frozen)]
pub(crate) struct Sink(Mutex<Filling>);

impl Sink {
    fn lock(&self) -> std::sync::MutexGuard<'_, Filling> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Sink {
    /// Takes what the pickler has.
    fn write(&self, piece: &Bound<'_, PyAny>) -> PyResult<()> {
        let mut filling = self.lock();
        let Filling {
            packer, names_main, ..
        } = &mut *filling;
        buffers::with_bytes(piece, |bytes| {
            *names_main |= bytes.len() <= FRAME_LIMIT && holds(bytes, MAIN);
            if let Some(packer) = packer {
                packer.write(bytes);
            }
        })
    }

    /// Takes a buffer out of band. True: it has enough of them, and this one goes into the stream.
    fn buffer(&self, buffer: Py<PyAny>) -> bool {
        let mut filling = self.lock();
        let full = filling.buffers.len() >= MOST_BUFFERS;
        if full {
            drop(filling);
            return true;
        }
        filling.buffers.push(buffer);
        false
    }
}

/// The dispatch table of a pickler, over one that others may change at any time.
#[pyclass(module = "pytoweb._core", frozen)]
pub(crate) struct Reducers {
    shared: Py<PyDict>,
    own: Py<PyDict>,
}

#[pymethods]
impl Reducers {
    /// `shared` comes before `own`.
    #[new]
    const fn new(shared: Py<PyDict>, own: Py<PyDict>) -> Self {
        Self { shared, own }
    }

    fn __getitem__<'py>(
        &self,
        py: Python<'py>,
        class: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Some(reducer) = self.shared.bind(py).get_item(class)? {
            return Ok(reducer);
        }
        match self.own.bind(py).get_item(class)? {
            Some(reducer) => Ok(reducer),
            None => Err(PyKeyError::new_err(())),
        }
    }
}

/// Whether `needle` is in `bytes`; looks for its first byte, which is rare.
fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.len() >= needle.len()
        && bytes
            .windows(needle.len())
            .any(|window| window[2] == b'_' && window == needle)
}

thread_local! {
    static PACKING: Cell<bool> = const { Cell::new(false) };
    static UNPACKING: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread pickles a payload: names are looked up then only to compare.
#[pyfunction]
pub(crate) fn is_packing() -> bool {
    PACKING.get()
}

/// Whether the calling thread unpickles what the other process sent.
#[pyfunction]
pub(crate) fn is_unpacking() -> bool {
    UNPACKING.get()
}

type Flag = std::thread::LocalKey<Cell<bool>>;

/// Notes what this thread does, as long as it lives.
struct FlagSet(&'static Flag, bool);

impl FlagSet {
    fn new(flag: &'static Flag) -> Self {
        Self(flag, flag.replace(true))
    }
}

impl Drop for FlagSet {
    fn drop(&mut self) {
        self.0.set(self.1);
    }
}

/// A pickler, with the methods of it that are called.
struct Pickler {
    sink: Py<Sink>,
    dump: Py<PyAny>,
    clear: Py<PyAny>,
}

static IDLE_PICKLERS: Mutex<Vec<Pickler>> = Mutex::new(Vec::new());

fn take_pickler(py: Python<'_>) -> PyResult<Pickler> {
    if let Some(pickler) = IDLE_PICKLERS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .pop()
    {
        return Ok(pickler);
    }
    let sink = Bound::new(py, Sink(Mutex::default()))?;
    let pickler = helper(py, &MAKE_PICKLER, "make_pickler")?.call1((&sink,))?;
    Ok(Pickler {
        dump: pickler.getattr(intern!(py, "dump"))?.unbind(),
        clear: pickler.getattr(intern!(py, "clear_memo"))?.unbind(),
        sink: sink.unbind(),
    })
}

static MAKE_PICKLER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static DUMP_OTHERWISE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

fn helper<'py>(
    py: Python<'py>,
    slot: &PyOnceLock<Py<PyAny>>,
    name: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let found = slot.get_or_try_init(py, || -> PyResult<_> {
        Ok(py.import("pytoweb._pickling")?.getattr(name)?.unbind())
    })?;
    Ok(found.bind(py).clone())
}

/// Which way a payload goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Functions of the script share one namespace there.
    ToChild,
    /// Functions come with copies of the globals that they use.
    ToHost,
}

/// Pickles `object` into a payload.
///
/// # Errors
/// What the pickler raised; the caller says what it was about.
pub(crate) fn pack(
    py: Python<'_>,
    way: Way,
    object: &Bound<'_, PyAny>,
    store: impl FnOnce() -> Option<Arc<Store>>,
) -> PyResult<Payload> {
    if object.is_none() {
        return Ok(Payload::empty());
    }
    if let Some(stream) = simple::write(object) {
        return Ok(Payload::of_stream(stream));
    }
    let _noted = FlagSet::new(&PACKING);
    let store = store();
    let pickler = take_pickler(py)?;
    let sink = pickler.sink.bind(py).get();
    *sink.lock() = Filling {
        packer: Some(Packer::new(store.clone())),
        ..Filling::default()
    };
    let mut dumped = pickler.dump.call1(py, (object,)).map(drop);
    let again = match &dumped {
        Ok(()) => sink.lock().names_main,
        Err(raised) => !error::is_interrupt(py, raised),
    };
    if again {
        // Into a fresh packer: what the first attempt wrote is no use.
        let spare = std::mem::replace(
            &mut *sink.lock(),
            Filling {
                packer: Some(Packer::new(store)),
                ..Filling::default()
            },
        );
        let otherwise = helper(py, &DUMP_OTHERWISE, "dump_otherwise")?;
        match otherwise.call1((object, &pickler.sink, way == Way::ToChild)) {
            Ok(done) if done.is_truthy()? => dumped = Ok(()),
            // There is no cloudpickle: the first attempt stands.
            Ok(_) => *sink.lock() = spare,
            Err(raised) if dumped.is_ok() || error::is_interrupt(py, &raised) => {
                dumped = Err(raised);
            }
            Err(_) => {}
        }
    }
    let filling = std::mem::take(&mut *sink.lock());
    pickler.clear.call0(py)?;
    let mut pool = IDLE_PICKLERS.lock().unwrap_or_else(PoisonError::into_inner);
    if pool.len() < MOST_IDLE_PICKLERS {
        pool.push(pickler);
    }
    drop(pool);
    dumped?;
    let mut packer = filling
        .packer
        .ok_or_else(|| PyRuntimeError::new_err("the payload is lost"))?;
    let mut raw = Vec::with_capacity(filling.buffers.len());
    let mut more = 0;
    for buffer in filling.buffers {
        let view = buffer.bind(py).call_method0(intern!(py, "raw"))?;
        more += view.len()? + ALIGNMENT;
        raw.push(view);
    }
    packer.reserve(more);
    for view in raw {
        buffers::with_bytes(&view, |bytes| packer.buffer(bytes))?;
    }
    if packer.lacks_memory() {
        return Err(PyMemoryError::new_err(
            "there is no memory for the pickled data",
        ));
    }
    let payload = packer.finish();
    let in_memory = matches!(payload.place(), AreaPlace::Inline(_));
    if in_memory && payload.area_len() > LONGEST_INLINE {
        return Err(PyOverflowError::new_err(format!(
            "{} bytes are too many where no shared memory takes them: {LONGEST_INLINE} are allowed",
            payload.area_len()
        )));
    }
    Ok(payload)
}

/// The object of a pickle that the other process sent.
#[pyfunction]
pub(crate) fn load<'py>(
    py: Python<'py>,
    pickle: &Bound<'py, PyBytes>,
) -> PyResult<Bound<'py, PyAny>> {
    let _noted = FlagSet::new(&UNPACKING);
    helper(py, &LOADS, "loads")?.call1((pickle,))
}

/// The object that was pickled into `parcel`.
///
/// # Errors
/// What the unpickler raised; the caller says what it was about.
pub(crate) fn unpack<'py>(py: Python<'py>, parcel: &Parcel) -> PyResult<Bound<'py, PyAny>> {
    if let Some(len) = parcel.lost() {
        return Err(PyMemoryError::new_err(format!(
            "there is no memory for {len} bytes of pickled data"
        )));
    }
    let stream = parcel.stream();
    if stream.is_empty() {
        return Ok(py.None().into_bound(py));
    }
    if let Some(bytes) = stream.as_slice()
        && let Some(object) = simple::read(py, bytes)
    {
        return Ok(object);
    }
    let _noted = FlagSet::new(&UNPACKING);
    let loads = helper(py, &LOADS, "loads")?;
    let stream = buffers::lend(py, &stream)?;
    if parcel.buffers() == 0 {
        return loads.call1((stream,));
    }
    let out_of_band = PyList::empty(py);
    for index in 0..parcel.buffers() {
        if let Some(bytes) = parcel.buffer(index) {
            out_of_band.append(buffers::own(py, &bytes)?)?;
        }
    }
    let options = PyDict::new(py);
    options.set_item(intern!(py, "buffers"), out_of_band)?;
    loads.call((stream,), Some(&options))
}
