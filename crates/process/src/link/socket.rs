//! placeholder
use super::{ChildLink, HostLink};
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
pub(crate) struct SocketHost;
impl SocketHost {
    #[expect(clippy::new_ret_no_self, reason = "not there yet")]
    pub(crate) fn new(_socket: UnixStream) -> io::Result<Arc<dyn HostLink>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
pub(crate) struct SocketChild;
impl SocketChild {
    #[expect(clippy::new_ret_no_self, reason = "not there yet")]
    pub(crate) fn new(_socket: UnixStream) -> io::Result<Arc<dyn ChildLink>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
