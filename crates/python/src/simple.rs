//! Pickles of small simple objects, written and read without the pickle module.
//!
//! Most messages are a number or a short text. Their pickles are a few bytes of a fixed form, so making them here gives
//! the very bytes that pickle would, some ten times as fast; any unpickler reads them. What is of another form goes the
//! long way.

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyString};

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
/// Longer ones gain nothing from the short way.
const MOST: usize = 4096;

/// The pickle of `object`, if it is simple. Exact types only: a subclass is more than its value.
pub(crate) fn write(object: &Bound<'_, PyAny>) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(32);
    out.extend_from_slice(&PROTOCOL);
    if let Ok(text) = object.cast_exact::<PyString>() {
        // One with lone surrogates goes the long way.
        let text = text.to_str().ok()?.as_bytes();
        match u8::try_from(text.len()) {
            Ok(len) => out.extend_from_slice(&[SHORT_BINUNICODE, len]),
            Err(_) if text.len() <= MOST => {
                out.push(BINUNICODE);
                out.extend_from_slice(&u32::try_from(text.len()).ok()?.to_le_bytes());
            }
            Err(_) => return None,
        }
        out.extend_from_slice(text);
        out.push(MEMOIZE);
    } else if let Ok(number) = object.cast_exact::<PyInt>() {
        let number: i64 = number.extract().ok()?;
        if let Ok(byte) = u8::try_from(number) {
            out.extend_from_slice(&[BININT1, byte]);
        } else if let Ok(short) = u16::try_from(number) {
            out.push(BININT2);
            out.extend_from_slice(&short.to_le_bytes());
        } else if let Ok(word) = i32::try_from(number) {
            out.push(BININT);
            out.extend_from_slice(&word.to_le_bytes());
        } else {
            out.extend_from_slice(&[LONG1, 8]);
            out.extend_from_slice(&number.to_le_bytes());
        }
    } else if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        let bytes = bytes.as_bytes();
        match u8::try_from(bytes.len()) {
            Ok(len) => out.extend_from_slice(&[SHORT_BINBYTES, len]),
            Err(_) if bytes.len() <= MOST => {
                out.push(BINBYTES);
                out.extend_from_slice(&u32::try_from(bytes.len()).ok()?.to_le_bytes());
            }
            Err(_) => return None,
        }
        out.extend_from_slice(bytes);
        out.push(MEMOIZE);
    } else if let Ok(number) = object.cast_exact::<PyFloat>() {
        out.push(BINFLOAT);
        out.extend_from_slice(&number.value().to_be_bytes());
    } else if let Ok(truth) = object.cast_exact::<PyBool>() {
        out.push(if truth.is_true() { TRUE } else { FALSE });
    } else if object.is_none() {
        out.push(NONE);
    } else {
        return None;
    }
    out.push(STOP);
    Some(out)
}

/// The object, if the pickle is of a simple form from its first byte to its last.
pub(crate) fn read<'py>(py: Python<'py>, pickle: &[u8]) -> Option<Bound<'py, PyAny>> {
    let (opcode, rest) = pickle.strip_prefix(&PROTOCOL)?.split_first()?;
    let body = rest.strip_suffix(&[STOP])?;
    Some(match *opcode {
        NONE if body.is_empty() => py.None().into_bound(py),
        TRUE if body.is_empty() => PyBool::new(py, true).to_owned().into_any(),
        FALSE if body.is_empty() => PyBool::new(py, false).to_owned().into_any(),
        BININT1 => {
            let [byte] = *body else { return None };
            byte.into_pyobject(py).ok()?.into_any()
        }
        BININT2 => u16::from_le_bytes(body.try_into().ok()?)
            .into_pyobject(py)
            .ok()?
            .into_any(),
        BININT => i32::from_le_bytes(body.try_into().ok()?)
            .into_pyobject(py)
            .ok()?
            .into_any(),
        BINFLOAT => PyFloat::new(py, f64::from_be_bytes(body.try_into().ok()?)).into_any(),
        SHORT_BINUNICODE => {
            let (len, text) = body.strip_suffix(&[MEMOIZE])?.split_first()?;
            let text = (text.len() == usize::from(*len)).then_some(text)?;
            PyString::new(py, std::str::from_utf8(text).ok()?).into_any()
        }
        SHORT_BINBYTES => {
            let (len, bytes) = body.strip_suffix(&[MEMOIZE])?.split_first()?;
            let bytes = (bytes.len() == usize::from(*len)).then_some(bytes)?;
            PyBytes::new(py, bytes).into_any()
        }
        _ => return None,
    })
}
