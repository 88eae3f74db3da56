//! Values as pickles, and back.

pub(crate) mod buffers;
pub(crate) mod definitions;
pub(crate) mod functions;
pub(crate) mod pickling;
pub(crate) mod simple;
