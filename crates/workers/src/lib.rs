#![forbid(unsafe_code)]
//! Named background workers.
mod current;
mod dispatch;
mod error;
mod kinds;
mod message;
mod reply;
mod send;
mod worker;
pub use current::{CurrentMessage, current_message, current_worker};
pub use error::{AskError, CreateError, IdleError, Part, SendError, StartError, TypeMismatch, WorkerError};
pub use reply::Reply;
pub use worker::{Worker, WorkerPool};
