//! The attribute macros of `pytoweb-workers`.
