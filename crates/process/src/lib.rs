//! Child processes that run messages: what carries frames between a host and a child, and who watches over both.

#[cfg(target_os = "linux")]
mod bell;
#[cfg(unix)]
#[cfg_attr(
    not(target_os = "linux"),
    expect(dead_code, reason = "only its size matters without shared memory")
)]
mod claims;
#[cfg_attr(
    not(target_os = "linux"),
    expect(dead_code, reason = "there is no shared memory to write")
)]
mod copy;
mod credit;
pub mod frame;
#[cfg(target_os = "linux")]
mod memory;
#[cfg(all(test, pytoweb_loom, target_os = "linux"))]
mod models;
mod payload;
#[cfg(target_os = "linux")]
mod ring;
#[cfg_attr(not(target_os = "linux"), path = "store/absent.rs")]
mod store;
#[cfg(unix)]
#[cfg_attr(
    not(target_os = "linux"),
    expect(dead_code, unused_imports, reason = "there are no atomics to share")
)]
mod sync;

#[cfg(unix)]
mod cargo;
#[cfg(unix)]
mod crash;
#[cfg(unix)]
mod descriptors;
#[cfg(unix)]
mod door;
#[cfg(unix)]
mod fleet;
#[cfg(unix)]
mod flight;
#[cfg(unix)]
mod hangup;
#[cfg(unix)]
mod lane;
#[cfg(unix)]
mod link;
#[cfg(unix)]
mod options;
#[cfg(unix)]
mod runner;
#[cfg(unix)]
mod spawn;
#[cfg(unix)]
mod start;
#[cfg(unix)]
mod usage;

#[cfg(unix)]
pub use cargo::{Answer, Cargo, EmittedEvent, Feed, Listener};
#[cfg(unix)]
pub use crash::{Cause, Crash};
pub use credit::Credit;
#[cfg(unix)]
pub use door::Door;
#[cfg(unix)]
pub use fleet::{Fleet, Overseer};
#[cfg(unix)]
pub use flight::{Definition, Flight, OwnedRequest};
#[cfg(unix)]
pub use link::{Broken, ChildLink, HostLink};
#[cfg(unix)]
pub use options::{END_LIMIT, Options, Transport};
pub use payload::{ALIGNMENT, AreaPlace, Bytes, INLINE_LIMIT, Packer, Parcel, Payload, Release};
#[cfg(unix)]
pub use runner::{Codec, Ends, LaneNote, Runner};
#[cfg(unix)]
pub use spawn::Program;
#[cfg(unix)]
pub use start::{Arrival, Setup, arrive};
pub use store::{Block, Store, View, cool_stores};
#[cfg(unix)]
pub use usage::ChildUsage;
