//! Pickles of small simple objects, written and read without the pickle module.
//!
//! Most messages are a number, a short text, or a few of them in a tuple, list or dictionary. Their pickles are a few
//! bytes of a fixed form, so making them here gives what any unpickler reads, some ten times as fast. Objects of
//! another form go the long way: other types, subclasses, large or deep objects, and lists and dictionaries that are in
//! there twice, which pickle keeps one.

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

/// The protocol that every pickle here starts with.
const PROTOCOL: [u8; 2] = [0x80, 5];
const STOP: u8 = b'.';
const NONE: u8 = b'N';
const TRUE: u8 = 0x88;
const FALSE: u8 = 0x89;
const BININT: u8 = b'J';
const BININT1: u8 = b'K';
const BININT2: u8 = b'M';
const LONG1: u8 = 0x8a;
const BINFLOAT: u8 = b'G';
const SHORT_BINUNICODE: u8 = 0x8c;
const BINUNICODE: u8 = b'X';
const SHORT_BINBYTES: u8 = b'C';
const BINBYTES: u8 = b'B';
const MEMOIZE: u8 = 0x94;
const MARK: u8 = b'(';
const EMPTY_TUPLE: u8 = b')';
const TUPLE1: u8 = 0x85;
const TUPLE2: u8 = 0x86;
const TUPLE3: u8 = 0x87;
const TUPLE: u8 = b't';
const EMPTY_LIST: u8 = b']';
const APPEND: u8 = b'a';
const APPENDS: u8 = b'e';
const EMPTY_DICT: u8 = b'}';
const SETITEM: u8 = b's';
const SETITEMS: u8 = b'u';
/// Longer texts and bytes gain nothing from the short way.
const LONGEST_TEXT: usize = 4096;
/// Longer pickles go the long way: below the size from which a payload has a place of its own in the store.
const MOST: usize = 12 << 10;
/// How deep tuples, lists and dictionaries may be nested.
const DEEPEST: usize = 8;
/// Lists and dictionaries in one object.
const MOST_CONTAINERS: usize = 16;

/// The pickle of `object`, if it is simple. Exact types only: a subclass is more than its value.
pub(crate) fn write(object: &Bound<'_, PyAny>) -> Option<Vec<u8>> {
    let mut writer = Writer {
        // What the smallest piece of memory holds: a queued message keeps it.
        out: Vec::with_capacity(24),
        seen: [0; MOST_CONTAINERS],
        containers: 0,
    };
    writer.out.extend_from_slice(&PROTOCOL);
    writer.object(object, DEEPEST)?;
    writer.out.push(STOP);
    Some(writer.out)
}

struct Writer {
    out: Vec<u8>,
    /// The addresses of lists and dictionaries so far.
    seen: [usize; MOST_CONTAINERS],
    containers: usize,
}

impl Writer {
    fn object(&mut self, object: &Bound<'_, PyAny>, deepest: usize) -> Option<()> {
        if self.out.len() > MOST {
            return None;
        }
        if let Ok(text) = object.cast_exact::<PyString>() {
            // One with lone surrogates goes the long way.
            self.text(text.to_str().ok()?.as_bytes(), SHORT_BINUNICODE, BINUNICODE)
        } else if let Ok(number) = object.cast_exact::<PyInt>() {
            self.number(number.extract().ok()?);
            Some(())
        } else if let Ok(dict) = object.cast_exact::<PyDict>() {
            self.dict(dict, deepest)
        } else if let Ok(tuple) = object.cast_exact::<PyTuple>() {
            self.tuple(tuple, deepest)
        } else if let Ok(list) = object.cast_exact::<PyList>() {
            self.list(list, deepest)
        } else if let Ok(bytes) = object.cast_exact::<PyBytes>() {
            self.text(bytes.as_bytes(), SHORT_BINBYTES, BINBYTES)
        } else if let Ok(number) = object.cast_exact::<PyFloat>() {
            self.out.push(BINFLOAT);
            self.out.extend_from_slice(&number.value().to_be_bytes());
            Some(())
        } else if let Ok(truth) = object.cast_exact::<PyBool>() {
            self.out.push(if truth.is_true() { TRUE } else { FALSE });
            Some(())
        } else if object.is_none() {
            self.out.push(NONE);
            Some(())
        } else {
            None
        }
    }

    fn text(&mut self, text: &[u8], short: u8, long: u8) -> Option<()> {
        match u8::try_from(text.len()) {
            Ok(len) => self.out.extend_from_slice(&[short, len]),
            Err(_) if text.len() <= LONGEST_TEXT => {
                self.out.push(long);
                let len = u32::try_from(text.len()).ok()?;
                self.out.extend_from_slice(&len.to_le_bytes());
            }
            Err(_) => return None,
        }
        self.out.extend_from_slice(text);
        Some(())
    }

    fn number(&mut self, number: i64) {
        if let Ok(byte) = u8::try_from(number) {
            self.out.extend_from_slice(&[BININT1, byte]);
        } else if let Ok(short) = u16::try_from(number) {
            self.out.push(BININT2);
            self.out.extend_from_slice(&short.to_le_bytes());
        } else if let Ok(word) = i32::try_from(number) {
            self.out.push(BININT);
            self.out.extend_from_slice(&word.to_le_bytes());
        } else {
            self.out.extend_from_slice(&[LONG1, 8]);
            self.out.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn tuple(&mut self, tuple: &Bound<'_, PyTuple>, deepest: usize) -> Option<()> {
        let deepest = deepest.checked_sub(1)?;
        let end = match tuple.len() {
            0 => EMPTY_TUPLE,
            1 => TUPLE1,
            2 => TUPLE2,
            3 => TUPLE3,
            _ => {
                self.out.push(MARK);
                TUPLE
            }
        };
        for item in tuple.iter_borrowed() {
            self.object(&item, deepest)?;
        }
        self.out.push(end);
        Some(())
    }

    fn list(&mut self, list: &Bound<'_, PyList>, deepest: usize) -> Option<()> {
        let deepest = deepest.checked_sub(1)?;
        self.enter(list.as_any(), list.len())?;
        self.out.push(EMPTY_LIST);
        if list.is_empty() {
            return Some(());
        }
        self.out.push(MARK);
        for item in list.iter() {
            self.object(&item, deepest)?;
        }
        self.out.push(APPENDS);
        Some(())
    }

    fn dict(&mut self, dict: &Bound<'_, PyDict>, deepest: usize) -> Option<()> {
        let deepest = deepest.checked_sub(1)?;
        self.enter(dict.as_any(), dict.len())?;
        self.out.push(EMPTY_DICT);
        if dict.is_empty() {
            return Some(());
        }
        self.out.push(MARK);
        for (key, value) in dict.iter() {
            self.object(&key, deepest)?;
            self.object(&value, deepest)?;
        }
        self.out.push(SETITEMS);
        Some(())
    }

    /// Notes a list or a dictionary of `len` items; `None` if it is in there already, or has too many.
    fn enter(&mut self, container: &Bound<'_, PyAny>, len: usize) -> Option<()> {
        let address = container.as_ptr().addr();
        // An item takes a byte at least, and mostly two.
        if len > MOST / 2
            || self.containers == MOST_CONTAINERS
            || self.seen[..self.containers].contains(&address)
        {
            return None;
        }
        self.seen[self.containers] = address;
        self.containers += 1;
        Some(())
    }
}

/// The object, if the pickle is of a simple form from its first byte to its last.
pub(crate) fn read<'py>(py: Python<'py>, pickle: &[u8]) -> Option<Bound<'py, PyAny>> {
    let rest = pickle.strip_prefix(&PROTOCOL)?;
    if rest.len() > MOST + LONGEST_TEXT + 16 {
        return None;
    }
    let mut reader = Reader {
        py,
        rest,
        stack: Vec::new(),
        marks: Vec::new(),
    };
    loop {
        let [opcode] = reader.array()?;
        if opcode == STOP {
            let object = reader.stack.pop()?;
            let whole = reader.rest.is_empty() && reader.stack.is_empty();
            return (whole && reader.marks.is_empty()).then_some(object);
        }
        reader.step(opcode)?;
    }
}

/// The machine that a pickle is a program of, as far as simple ones need it.
struct Reader<'a, 'py> {
    py: Python<'py>,
    rest: &'a [u8],
    stack: Vec<Bound<'py, PyAny>>,
    marks: Vec<usize>,
}

impl<'py> Reader<'_, 'py> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*array)
    }

    fn bytes(&mut self, len: usize) -> Option<&[u8]> {
        let (bytes, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(bytes)
    }

    fn text(&mut self, len: usize) -> Option<Bound<'py, PyAny>> {
        let py = self.py;
        let text = std::str::from_utf8(self.bytes(len)?).ok()?;
        Some(PyString::new(py, text).into_any())
    }

    fn blob(&mut self, len: usize) -> Option<Bound<'py, PyAny>> {
        let py = self.py;
        Some(PyBytes::new(py, self.bytes(len)?).into_any())
    }

    fn short_len(&mut self) -> Option<usize> {
        Some(usize::from(u8::from_le_bytes(self.array()?)))
    }

    fn long_len(&mut self) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(self.array()?)).ok()
    }

    /// What was pushed since the last mark, which is taken away.
    fn marked(&mut self) -> Option<std::vec::Drain<'_, Bound<'py, PyAny>>> {
        let mark = self.marks.pop()?;
        (mark <= self.stack.len()).then(|| self.stack.drain(mark..))
    }

    fn tuple(&mut self, len: usize) -> Option<Bound<'py, PyAny>> {
        let first = self.stack.len().checked_sub(len)?;
        if self.marks.last().is_some_and(|mark| *mark > first) {
            return None;
        }
        let tuple = PyTuple::new(self.py, self.stack.drain(first..)).ok()?;
        Some(tuple.into_any())
    }

    fn step(&mut self, opcode: u8) -> Option<()> {
        let py = self.py;
        let object = match opcode {
            NONE => py.None().into_bound(py),
            TRUE => PyBool::new(py, true).to_owned().into_any(),
            FALSE => PyBool::new(py, false).to_owned().into_any(),
            BININT1 => number(py, u8::from_le_bytes(self.array()?))?,
            BININT2 => number(py, u16::from_le_bytes(self.array()?))?,
            BININT => number(py, i32::from_le_bytes(self.array()?))?,
            LONG1 => {
                let [8] = self.array()? else { return None };
                number(py, i64::from_le_bytes(self.array()?))?
            }
            BINFLOAT => PyFloat::new(py, f64::from_be_bytes(self.array()?)).into_any(),
            SHORT_BINUNICODE => {
                let len = self.short_len()?;
                self.text(len)?
            }
            BINUNICODE => {
                let len = self.long_len()?;
                self.text(len)?
            }
            SHORT_BINBYTES => {
                let len = self.short_len()?;
                self.blob(len)?
            }
            BINBYTES => {
                let len = self.long_len()?;
                self.blob(len)?
            }
            EMPTY_TUPLE => self.tuple(0)?,
            TUPLE1 => self.tuple(1)?,
            TUPLE2 => self.tuple(2)?,
            TUPLE3 => self.tuple(3)?,
            TUPLE => {
                let items = self.marked()?;
                PyTuple::new(py, items).ok()?.into_any()
            }
            EMPTY_LIST => PyList::empty(py).into_any(),
            EMPTY_DICT => PyDict::new(py).into_any(),
            MARK => {
                self.marks.push(self.stack.len());
                return Some(());
            }
            // Nothing here is looked up in the memo.
            MEMOIZE => return Some(()),
            APPEND | SETITEM => return self.one(opcode),
            APPENDS | SETITEMS => return self.many(opcode),
            _ => return None,
        };
        self.stack.push(object);
        Some(())
    }

    fn one(&mut self, opcode: u8) -> Option<()> {
        let items = if opcode == APPEND { 1 } else { 2 };
        self.marks.push(self.stack.len().checked_sub(items)?);
        self.many(if opcode == APPEND { APPENDS } else { SETITEMS })
    }

    fn many(&mut self, opcode: u8) -> Option<()> {
        let below = self.marks.last()?.checked_sub(1)?;
        let container = self.stack.get(below)?.clone();
        let mut items = self.marked()?;
        if opcode == APPENDS {
            let list = container.cast_exact::<PyList>().ok()?;
            for item in items {
                list.append(item).ok()?;
            }
            return Some(());
        }
        let dict = container.cast_exact::<PyDict>().ok()?;
        while let Some(key) = items.next() {
            dict.set_item(key, items.next()?).ok()?;
        }
        Some(())
    }
}

fn number<'py, N: IntoPyObject<'py>>(py: Python<'py>, number: N) -> Option<Bound<'py, PyAny>> {
    number.into_bound_py_any(py).ok()
}
