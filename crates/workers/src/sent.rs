//! Where a message was sent, for spans: nothing without the feature `tracing`.

#[cfg(feature = "tracing")]
use std::sync::atomic::{AtomicU64, Ordering};

/// The sender's span, which stays open for it, and the number of the message. Nothing, where no subscriber wants spans.
#[derive(Default)]
pub(crate) struct Sent(#[cfg(feature = "tracing")] pub(crate) Option<(tracing::Span, u64)>);

#[cfg(feature = "tracing")]
impl Sent {
    /// By the code that runs here.
    pub(crate) fn here() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // ORDERING: Relaxed, only uniqueness matters.
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(Some((tracing::Span::current(), id)))
    }

    pub(crate) fn span(&self) -> Option<tracing::Id> {
        self.0.as_ref().and_then(|(span, _)| span.id())
    }

    pub(crate) fn id(&self) -> Option<u64> {
        self.0.as_ref().map(|(_, id)| *id)
    }
}
