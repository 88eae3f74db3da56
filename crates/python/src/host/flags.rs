//! What a request is, in the flags of its frame, besides those of a lane
//! ([`control`](pytoweb_process::frame::control)): bits that it leaves to the language.

/// The payload is a function with its arguments.
pub(crate) const FUNCTION: u32 = 1;
/// A coroutine that the function returns is run.
pub(crate) const AWAITS: u32 = 2;
/// The host does not want the value that the handler returns.
pub(crate) const NO_REPLY: u32 = 16;
