//! The host's side: endpoints that messages are posted to, their futures, and what runs or sends the messages.

pub(crate) mod around;
pub(crate) mod awaiting;
pub(crate) mod doorbell;
pub(crate) mod end_hooks;
pub(crate) mod endpoint;
pub(crate) mod failure;
pub(crate) mod flags;
pub(crate) mod fleet;
pub(crate) mod future;
pub(crate) mod gathering;
pub(crate) mod handler;
pub(crate) mod hook;
pub(crate) mod message;
pub(crate) mod note;
pub(crate) mod packing;
pub(crate) mod parked;
pub(crate) mod planning;
pub(crate) mod pool_host;
pub(crate) mod remote;
pub(crate) mod reply_room;
pub(crate) mod running;
pub(crate) mod start_hook;
pub(crate) mod task;
pub(crate) mod threads;
pub(crate) mod unread;
pub(crate) mod waiting;
