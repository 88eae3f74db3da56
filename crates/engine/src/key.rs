//! Keys of messages: short ones lie in place, and each is hashed once.
//!
//! A mailbox looks a key up under its lock, when the message comes and when it is over, so the hash is made before, by the
//! thread that makes the key. It is one that callers cannot foresee: keys may come from outside of the program. For short
//! keys it is two multiplications; the standard library's takes as long as half of a post.

use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Bytes that lie in the key itself: as many as make it 24 bytes with its hash, for each message with a key has one.
const SHORT: usize = 14;

/// A key: messages of one mailbox with the same key run one after the other, in order.
///
/// Made of a text, bytes or a number with `into`; a number is equal to no text. A text of up to 14 bytes costs no allocation.
///
/// ```
/// use pytoweb_engine::Key;
///
/// assert_eq!(Key::from("customer-7"), Key::new(b"customer-7"));
/// assert_ne!(Key::from(7), Key::from("7"));
/// ```
#[derive(Clone)]
pub struct Key {
    /// Of `name`, the same in the whole process.
    hash: u64,
    name: Name,
}

#[derive(Clone, PartialEq, Eq)]
enum Name {
    Short {
        len: u8,
        bytes: [u8; SHORT],
    },
    /// Behind a second reference, so that it takes no more than the others.
    Long(Arc<Box<[u8]>>),
    Number(u64),
    Unique(u64),
}

impl Key {
    /// The key of these bytes.
    #[must_use]
    pub fn new(name: &[u8]) -> Self {
        let mut bytes = [0; SHORT];
        Self::of(
            match (u8::try_from(name.len()), bytes.get_mut(..name.len())) {
                (Ok(len), Some(place)) => {
                    place.copy_from_slice(name);
                    Name::Short { len, bytes }
                }
                _ => Name::Long(Arc::new(name.into())),
            },
        )
    }

    fn of(name: Name) -> Self {
        static SECRETS: OnceLock<(RandomState, [u64; 3])> = OnceLock::new();
        let (state, secrets) = SECRETS.get_or_init(|| {
            let state = RandomState::new();
            // Odd, so that none of them is zero.
            let secrets = [1, 2, 3].map(|number: u64| state.hash_one(number) | 1);
            (state, secrets)
        });
        let mix = |[first, second]: [u64; 2], kind| {
            let folded = fold(first ^ secrets[0], second ^ secrets[1]);
            fold(folded, secrets[2] ^ kind)
        };
        let hash = match &name {
            Name::Short { len, bytes } => {
                let mut words = [[0; 8]; 2];
                words.as_flattened_mut()[..SHORT].copy_from_slice(bytes);
                mix(words.map(u64::from_ne_bytes), u64::from(*len) << 8)
            }
            Name::Number(number) => mix([*number, 0], 2),
            Name::Unique(number) => mix([*number, 0], 4),
            Name::Long(bytes) => state.hash_one(&**bytes),
        };
        Self { hash, name }
    }

    /// One that no other is equal to.
    pub(crate) fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // ORDERING: Relaxed, only uniqueness matters.
        Self::of(Name::Unique(NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// A key that is equal to another one of this key and this `name`, and to no other such.
    #[must_use]
    pub fn with(&self, name: &str) -> Self {
        let (tag, own) = match &self.name {
            Name::Short { len, bytes } => (0, &bytes[..usize::from(*len)]),
            Name::Long(bytes) => (0, &***bytes),
            Name::Number(number) => (1, &number.to_ne_bytes()[..]),
            Name::Unique(number) => (2, &number.to_ne_bytes()[..]),
        };
        // The length tells where the first one ends.
        let length = own.len().to_ne_bytes();
        Self::new(&[&[tag], &length[..], own, name.as_bytes()].concat())
    }
}

/// A product of both, folded to half of its bits: each of them depends on all of theirs.
///
/// After wyhash (public domain). With secret factors, keys that are made to share a hash cannot be found by trying elsewhere.
const fn fold(first: u64, second: u64) -> u64 {
    let product = (first as u128) * (second as u128);
    (product as u64) ^ ((product >> 64) as u64)
}

impl PartialEq for Key {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.name == other.name
    }
}

impl Eq for Key {}

impl Hash for Key {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Name::Short { len, bytes } => {
                write!(f, "Key({})", bytes[..usize::from(*len)].escape_ascii())
            }
            Name::Long(bytes) => write!(f, "Key({})", bytes.escape_ascii()),
            Name::Number(number) => write!(f, "Key({number})"),
            Name::Unique(number) => write!(f, "Key(unique {number})"),
        }
    }
}

impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Self {
        Self::new(bytes)
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self::new(text.as_bytes())
    }
}

impl From<String> for Key {
    fn from(text: String) -> Self {
        Self::new(text.as_bytes())
    }
}

impl From<u64> for Key {
    fn from(number: u64) -> Self {
        Self::of(Name::Number(number))
    }
}

/// Makes nothing of the hash that a [`Key`] brings along.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Hashed(u64);

impl Hasher for Hashed {
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a key is hashed as a number");
    }

    #[inline]
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// For maps by [`Key`].
pub(crate) type ByKey = BuildHasherDefault<Hashed>;

#[cfg(all(test, not(pytoweb_loom)))]
mod tests {
    use super::*;

    #[test]
    fn keys_are_equal_by_what_they_are_made_of() {
        for len in [0, 1, 13, 14, 15, 300] {
            let text = "x".repeat(len);
            assert_eq!(Key::from(&*text), Key::new(text.as_bytes()));
            assert_eq!(Key::from(text.clone()), Key::from(text.as_bytes()));
            assert_ne!(Key::from(&*text), Key::from(format!("{text}x")));
        }
        assert_eq!(Key::from(7), Key::from(7));
        assert_ne!(Key::from(7), Key::new(&7_u64.to_ne_bytes()));
        assert_ne!(Key::unique(), Key::unique());
        assert_ne!(Key::from("a\0"), Key::from("a"));
    }

    #[test]
    fn a_key_with_a_name_is_that_of_both() {
        assert_eq!(Key::from("a").with("b"), Key::new(b"a").with("b"));
        assert_ne!(Key::from("a").with("bc"), Key::from("ab").with("c"));
        assert_ne!(
            Key::from(7).with(""),
            Key::new(&7_u64.to_ne_bytes()).with("")
        );
    }

    #[test]
    fn a_key_is_small() {
        assert!(size_of::<Option<Key>>() == 24);
    }
}
