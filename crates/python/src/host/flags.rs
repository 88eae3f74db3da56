//! What a request is, in the flags of its frame, besides those of a lane
//! ([`control`](pytoweb_process::frame::control)): bits that it leaves to the language.

/// The payload is a function with its arguments.
pub(crate) const FUNCTION: u32 = 1;
/// A coroutine that the function returns is run.
pub(crate) const AWAITS: u32 = 2;
/// The host does not want the value that the handler returns.
pub(crate) const NO_REPLY: u32 = 16;
/// Where the window of a stream begins: how many items its reader has room for; none is no stream.
const WINDOW: u32 = 16;
/// The largest window, in the bits that are left.
pub(crate) const MOST_AHEAD: u32 = 4095;

/// What says that a message is to stream, with this window of at most `MOST_AHEAD`.
pub(crate) const fn of_window(window: u32) -> u32 {
    window << WINDOW
}

/// The window of the stream of a message, if it is to have one.
pub(crate) const fn window(flags: u32) -> Option<u32> {
    match flags >> WINDOW {
        0 => None,
        window => Some(window),
    }
}
