//! Who has a message: one word for each message on its way, through which host and child agree without a lock.
//!
//! A request lies in the ring until the child comes to it. Until then the host may want it back (cancelled, expired,
//! the worker terminated); afterwards it can only ask the handler to stop. One word decides:
//!
//! ```text
//!   host: offer            child: begin                 host: ask_to_stop
//!   ------------> OFFERED --------------> BEGUN ----------------------------> BEGUN | STOP
//!                    |
//!                    +------------------> REVOKED
//!                       host: revoke
//! ```
//!
//! Both arrows out of `OFFERED` are compare-and-swaps from the same value, so exactly one is taken. Message `seq` uses
//! word `seq % SLOTS`, and the word also holds the generation `seq / SLOTS`, so that the next message in the same word
//! cannot be taken for this one. Generations repeat after 2^34 messages; two messages that far apart would have to be
//! under way at once to be confused.
//!
//! A hostile child can write any word. The host then believes that a message has begun, or not yet, which the child
//! could have brought about in honest ways too: the host waits for the reply with its own limits, and a message it
//! has revoked stays revoked in its own books.

use crate::sync::{Atomic, Ordering};

/// How many messages can be under way to one child. A page of words: some milliseconds of work for a child even
/// if its handlers do nothing, and what waits beyond that is better kept where it can be given to another child.
pub(crate) const SLOTS: usize = 1024;

/// The bits of a word that hold the generation. Above them is one of the three states, or zero: never used.
const GENERATION: u32 = (1 << 24) - 1;
/// The host has sent the message, and neither side has decided about it.
const OFFERED: u32 = 1 << 24;
/// The child runs the message, or has run it.
const BEGUN: u32 = 2 << 24;
/// The host has taken the message back: the child is to skip it.
const REVOKED: u32 = 3 << 24;
/// Set beside `BEGUN`: the handler is asked to come to an end.
const STOP: u32 = 1 << 31;

/// The words that both sides share.
pub(crate) trait Slots {
    /// A word's type.
    type Word: Atomic<u32>;

    /// The word number `index`, which is below [`SLOTS`].
    fn slot(&self, index: usize) -> &Self::Word;
}

/// The claims on messages. `offer`, `revoke`, `has_begun` and `ask_to_stop` are the host's, the others the child's.
#[derive(Clone, Debug)]
pub(crate) struct Claims<S>(S);

impl<S: Slots> Claims<S> {
    pub(crate) fn new(slots: S) -> Self {
        Self(slots)
    }

    /// Host: makes `seq` ready to be begun; to be called before its request is pushed.
    ///
    /// Takes the word from the message that had it before, so the host keeps at most [`SLOTS`] numbers in a row under
    /// way, or skips a number whose predecessor in the word is still waited for.
    pub(crate) fn offer(&self, seq: u64) {
        // ORDERING: the ring's publication of the request orders it before the child's `begin`.
        self.word(seq)
            .store(OFFERED | generation(seq), Ordering::Relaxed);
    }

    /// Host: takes `seq` back. True: it will never begin. False: it has begun.
    pub(crate) fn revoke(&self, seq: u64) -> bool {
        self.claim(seq, REVOKED)
    }

    /// Child: claims `seq` in order to run it. False: it was revoked, and is to be skipped.
    pub(crate) fn begin(&self, seq: u64) -> bool {
        self.claim(seq, BEGUN)
    }

    fn claim(&self, seq: u64, state: u32) -> bool {
        let offered = OFFERED | generation(seq);
        let claimed = state | generation(seq);
        // ORDERING: SYNC: claim-decide. Of two exchanges on one word one comes first in any ordering. Acquire and
        // release besides, so that what the winner does with the payload cannot be seen before it has won.
        self.word(seq)
            .compare_exchange(offered, claimed, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Host: whether `seq` is out of its reach. Anything but this message's `OFFERED` or `REVOKED` counts as begun.
    pub(crate) fn has_begun(&self, seq: u64) -> bool {
        // ORDERING: a look at one word, whose answer may be old in any case.
        let now = self.word(seq).load(Ordering::Relaxed);
        now != OFFERED | generation(seq) && now != REVOKED | generation(seq)
    }

    /// Host: asks the handler of `seq` to stop. False: it has not begun (revoke it), or its word serves another
    /// message by now (tell the child in a frame).
    pub(crate) fn ask_to_stop(&self, seq: u64) -> bool {
        let begun = BEGUN | generation(seq);
        // ORDERING: a flag that guards no data; the exchange keeps it from hitting another message's word.
        let was = self.word(seq).compare_exchange(
            begun,
            begun | STOP,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        was.is_ok() || was == Err(begun | STOP)
    }

    /// Child: whether the host asked `seq`, which it has begun, to stop.
    pub(crate) fn is_stop_asked(&self, seq: u64) -> bool {
        // ORDERING: a flag that guards no data.
        self.word(seq).load(Ordering::Relaxed) == BEGUN | STOP | generation(seq)
    }

    fn word(&self, seq: u64) -> &S::Word {
        self.0.slot((seq % SLOTS as u64) as usize)
    }
}

/// Which of the messages that use the same word `seq` is.
fn generation(seq: u64) -> u32 {
    (seq / SLOTS as u64) as u32 & GENERATION
}

#[cfg(target_os = "linux")]
impl Slots for crate::memory::SharedAtomics<[std::sync::atomic::AtomicU32; SLOTS]> {
    type Word = std::sync::atomic::AtomicU32;

    fn slot(&self, index: usize) -> &Self::Word {
        &self[index % SLOTS]
    }
}

#[cfg(all(test, not(pytoweb_loom)))]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    impl Slots for Vec<AtomicU32> {
        type Word = AtomicU32;

        fn slot(&self, index: usize) -> &AtomicU32 {
            &self[index]
        }
    }

    fn claims() -> Claims<Vec<AtomicU32>> {
        Claims::new((0..SLOTS).map(|_| AtomicU32::new(0)).collect())
    }

    /// The first message of a generation, its neighbour, and the last before generations repeat.
    const NUMBERS: [u64; 5] = [0, 1, SLOTS as u64, 7 * SLOTS as u64 + 5, (1 << 34) - 1];

    #[test]
    fn what_has_begun_cannot_be_revoked() {
        for seq in NUMBERS {
            let claims = claims();
            claims.offer(seq);
            assert!(!claims.has_begun(seq));
            assert!(claims.begin(seq));
            assert!(claims.has_begun(seq));
            assert!(!claims.revoke(seq));
            assert!(!claims.begin(seq), "began twice");
        }
    }

    #[test]
    fn what_was_revoked_never_begins() {
        for seq in NUMBERS {
            let claims = claims();
            claims.offer(seq);
            assert!(claims.revoke(seq));
            assert!(!claims.begin(seq));
            assert!(!claims.has_begun(seq));
            assert!(!claims.revoke(seq), "revoked twice");
            assert!(!claims.ask_to_stop(seq));
        }
    }

    #[test]
    fn only_what_has_begun_is_asked_to_stop() {
        for seq in NUMBERS {
            let claims = claims();
            claims.offer(seq);
            assert!(!claims.ask_to_stop(seq));
            assert!(claims.begin(seq));
            assert!(!claims.is_stop_asked(seq));
            assert!(claims.ask_to_stop(seq));
            assert!(claims.ask_to_stop(seq), "asking again changes nothing");
            assert!(claims.is_stop_asked(seq));
            assert!(claims.has_begun(seq));
        }
    }

    #[test]
    fn messages_of_one_word_are_told_apart() {
        let (claims, next) = (claims(), SLOTS as u64 + 3);
        claims.offer(3);
        assert!(claims.begin(3));
        assert!(claims.ask_to_stop(3));
        claims.offer(next);
        assert!(!claims.is_stop_asked(next));
        assert!(!claims.ask_to_stop(3), "the word is another's");
        assert!(claims.has_begun(3));
        assert!(!claims.has_begun(next));
        assert!(!claims.revoke(3) && !claims.begin(3));
        assert!(claims.begin(next));
        assert!(!claims.is_stop_asked(3) && !claims.is_stop_asked(next));
    }

    #[test]
    fn any_word_has_an_answer() {
        let claims = claims();
        for word in [
            0,
            1,
            STOP,
            OFFERED | 1,
            OFFERED | STOP,
            REVOKED | STOP,
            u32::MAX,
        ] {
            claims.0[3].store(word, Ordering::Relaxed);
            assert!(claims.has_begun(3), "{word:x}");
            assert!(!claims.revoke(3) && !claims.begin(3), "{word:x}");
            assert!(!claims.ask_to_stop(3) && !claims.is_stop_asked(3));
        }
    }
}
