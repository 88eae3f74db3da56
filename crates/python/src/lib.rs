//! The native module `pytoweb._core`.
use pyo3::prelude::*;

/// The engine of `pytoweb.workers`.
#[pymodule]
mod _core {
    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
}
