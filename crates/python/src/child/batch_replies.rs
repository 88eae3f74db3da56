//! The replies of a batch on their way out of a child: one that cannot go costs no other.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::error;
use crate::host::batches;
use crate::pickle::pickling::{self, Way};

/// `results` with a `SerializationError` in the place of each error of a message that does not come through; with `each`,
/// of each other result that cannot be pickled as well. What a handler of batches returned is not changed.
pub(super) fn sendable<'py>(results: Bound<'py, PyAny>, each: bool) -> PyResult<Bound<'py, PyAny>> {
    let py = results.py();
    let Ok(list) = results.cast::<PyList>() else {
        return Ok(results);
    };
    let mut sent: Option<Bound<'py, PyList>> = None;
    for (index, result) in list.iter().enumerate() {
        let refused = match batches::item_error(&result)? {
            Some(failed) => comes_through(&failed)
                .err()
                .map(|raised| error::unsendable_error(py, &failed, raised)),
            None if each => pickling::pack(py, Way::ToHost, &result, || None)
                .err()
                .map(|raised| error::unpicklable(py, "the reply", raised)),
            None => None,
        };
        let Some(refused) = refused else { continue };
        let sent = match &mut sent {
            Some(sent) => sent,
            none => none.insert(PyList::new(py, list.iter())?),
        };
        let in_its_place = py
            .import(intern!(py, "pytoweb._batch"))?
            .call_method1(intern!(py, "BatchItemError"), (index, refused.value(py)))?;
        sent.set_item(index, in_its_place)?;
    }
    Ok(sent.map_or(results, Bound::into_any))
}

/// An exception may well be pickled and not be made again: where its `__init__` takes other arguments than it keeps.
fn comes_through(failed: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = failed.py();
    let payload = pickling::pack(py, Way::ToHost, failed, || None)?;
    pickling::unpack(py, &payload.to_parcel()).map(drop)
}
