//! Spans of `tracing`: an event where a message is sent, and a span in which its handler runs. Nothing without the feature
//! `tracing`, and next to nothing where no subscriber wants them.

#[cfg(feature = "tracing")]
pub(crate) use on::{are_wanted, during, during_batch, send};

#[cfg(not(feature = "tracing"))]
pub(crate) use off::{are_wanted, during, during_batch, send};

#[cfg(feature = "tracing")]
mod on {
    use pytoweb_engine::{Handled, Handler, Message, Outcome};
    use tracing::field::{Empty, display};
    use tracing::{Level, Span};

    use crate::farewell::Farewell;
    use crate::message::{Ended, Envelope};
    use crate::sent::Sent;
    use crate::table::Table;

    /// What filters know it by, as the events of failures.
    const TARGET: &str = "pytoweb_workers";

    /// Whether a subscriber may want spans.
    #[inline]
    pub(crate) fn are_wanted() -> bool {
        tracing::span_enabled!(target: TARGET, Level::INFO, "process")
    }

    /// A message that is about to be posted, where spans are wanted.
    #[cold]
    #[inline(never)]
    pub(crate) fn send(table: &Table, envelope: Envelope) -> Envelope {
        let sent = Sent::here();
        tracing::debug!(
            target: TARGET,
            worker = &*table.name,
            kind = table.kind_of(&envelope),
            id = sent.id(),
            "send"
        );
        envelope.sent_as(sent)
    }

    fn span_of(table: &Table, envelope: &Envelope) -> Span {
        let sent = envelope.sent();
        // The sender of an ask waits for it, as a rule; that of a post has gone on.
        let asker = envelope.state().and(sent.and_then(Sent::span));
        let span = tracing::info_span!(
            target: TARGET,
            parent: asker,
            "process",
            worker = &*table.name,
            kind = table.kind_of(envelope),
            id = sent.and_then(Sent::id),
            messages = Empty,
            outcome = Empty,
        );
        if envelope.state().is_none() {
            span.follows_from(sent.and_then(Sent::span));
        }
        span
    }

    const fn name(outcome: Outcome) -> &'static str {
        match outcome {
            Outcome::Completed => "ok",
            Outcome::Failed => "error",
            Outcome::Expired => "expired",
            Outcome::Cancelled => "cancelled",
        }
    }

    /// Handles a message in a span, where they are wanted.
    pub(crate) fn during<H: Handler>(
        table: &Table,
        envelope: &mut Envelope,
        handle: impl FnOnce(&mut Envelope) -> Handled<H>,
    ) -> Handled<H> {
        let message = envelope.message();
        if message.is_some_and(|message| message.as_any().is::<Farewell>()) {
            return handle(envelope);
        }
        let span = span_of(table, envelope);
        let handled = span.in_scope(|| handle(envelope));
        let outcome = match handled {
            Handled::Done(outcome) => name(outcome),
            // It failed, and is tried again.
            Handled::Suspend(_) => "again",
        };
        span.record("outcome", display(outcome));
        handled
    }

    /// Handles several messages of one kind in a span. `None`: they are handled one after the other.
    pub(crate) fn during_batch(
        table: &Table,
        envelopes: &mut [&mut Envelope],
        handle: impl FnOnce(&mut [&mut Envelope]) -> Option<Vec<Ended>>,
    ) -> Option<Vec<Ended>> {
        let first = match envelopes.first() {
            Some(first) if are_wanted() => first,
            _ => return handle(envelopes),
        };
        let span = span_of(table, first);
        span.record("messages", envelopes.len());
        for other in &envelopes[1..] {
            span.follows_from(other.sent().and_then(Sent::span));
        }
        let ended = span.in_scope(|| handle(envelopes))?;
        let failed = |ended: &&Ended| **ended != Ended::Settled(Outcome::Completed);
        let outcome = if ended.iter().any(|ended| failed(&ended)) {
            "error"
        } else {
            "ok"
        };
        span.record("outcome", display(outcome));
        Some(ended)
    }
}

#[cfg(not(feature = "tracing"))]
mod off {
    use pytoweb_engine::{Handled, Handler};

    use crate::message::{Ended, Envelope};
    use crate::table::Table;

    #[inline]
    pub(crate) const fn are_wanted() -> bool {
        false
    }

    #[inline]
    pub(crate) fn send(_: &Table, envelope: Envelope) -> Envelope {
        envelope
    }

    #[inline]
    pub(crate) fn during<H: Handler>(
        _: &Table,
        envelope: &mut Envelope,
        handle: impl FnOnce(&mut Envelope) -> Handled<H>,
    ) -> Handled<H> {
        handle(envelope)
    }

    #[inline]
    pub(crate) fn during_batch(
        _: &Table,
        envelopes: &mut [&mut Envelope],
        handle: impl FnOnce(&mut [&mut Envelope]) -> Option<Vec<Ended>>,
    ) -> Option<Vec<Ended>> {
        handle(envelopes)
    }
}
