//! What a full mailbox does with one message more.

use std::fmt;
use std::str::FromStr;

/// Messages that a mailbox holds unless told otherwise: room for a burst of some milliseconds at full speed, and at
/// a few hundred bytes a message no more than a few megabytes when it is full.
pub const DEFAULT_CAPACITY: usize = 16_384;

/// The overflow policy of a mailbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Overflow {
    /// The sender waits until there is room, or until its timeout.
    #[default]
    Block,
    /// The sender gets an error, and the message back.
    Reject,
    /// The message that does not fit is dropped and counted.
    DropNewest,
    /// The oldest queued message is dropped and counted, and the new one takes its place.
    DropOldest,
}

impl Overflow {
    /// Every policy, in the order of the documentation.
    pub const ALL: [Self; 4] = [
        Self::Block,
        Self::Reject,
        Self::DropNewest,
        Self::DropOldest,
    ];

    /// The policy's name: `block`, `reject`, `drop_newest` or `drop_oldest`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Reject => "reject",
            Self::DropNewest => "drop_newest",
            Self::DropOldest => "drop_oldest",
        }
    }
}

impl fmt::Display for Overflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name of no overflow policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownOverflow(String);

impl fmt::Display for UnknownOverflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "unknown overflow policy {:?}: use one of block, reject, drop_newest, drop_oldest",
            self.0
        )
    }
}

impl std::error::Error for UnknownOverflow {}

impl FromStr for Overflow {
    type Err = UnknownOverflow;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|policy| policy.name() == name)
            .ok_or_else(|| UnknownOverflow(name.to_owned()))
    }
}
