//! How a message names its kind.

/// The place of a kind among those of a worker, valid for the worker that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KindId(pub(crate) u32);

impl KindId {
    /// No worker gives this one.
    #[cfg(test)]
    pub(crate) const NONE: Self = Self(u32::MAX);
}
