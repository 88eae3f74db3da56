//! Small payloads that lie in their message: the queue of the mailbox holds the values themselves.
//!
//! A payload in memory of its own is allocated by the sender and freed by the worker's thread, and the two then meet at
//! the allocator's lock, which takes as long as all else that happens to a post. A payload of at most three words (a
//! number, a `String`, a `Vec`, a `Box`) is spared that.
#![expect(unsafe_code, reason = "values without their type")]

use std::any::{TypeId, type_name};
use std::mem::{self, MaybeUninit};
use std::num::NonZeroU8;
use std::ptr;
use std::sync::LazyLock;

use pytoweb_engine::{Plan, Priority, contained};

use crate::kind_id::KindId;

/// Room for a `String`, and no more: a mailbox has as many of them as entries.
type SmallRoom = [usize; 3];

/// The type of a value that lies in [`SmallRoom`].
struct Of {
    id: fn() -> TypeId,
    name: fn() -> &'static str,
    bytes: usize,
    needs_drop: bool,
    /// Drops the value at that address.
    drop: unsafe fn(*mut SmallRoom),
}

struct For<T>(T);

impl<T: 'static> For<T> {
    const FITS: bool =
        size_of::<T>() <= size_of::<SmallRoom>() && align_of::<T>() <= align_of::<SmallRoom>();
    const OF: &'static Of = &Of {
        id: TypeId::of::<T>,
        name: type_name::<T>,
        bytes: size_of::<T>(),
        needs_drop: mem::needs_drop::<T>(),
        drop: Self::drop,
    };

    /// # Safety
    /// A `T` lies at `words`, and is used by nothing else, now or later.
    unsafe fn drop(words: *mut SmallRoom) {
        // SAFETY: as the caller says.
        unsafe { ptr::drop_in_place(words.cast::<T>()) };
    }
}

/// The plan of a message that asks for nothing but a priority.
#[derive(Clone, Copy)]
pub(crate) struct Alone(NonZeroU8);

impl Alone {
    pub(crate) fn of(priority: Priority) -> Option<Self> {
        let above = u8::try_from(priority.level() + 1).ok()?;
        NonZeroU8::new(above).map(Self)
    }

    pub(crate) fn plan(self) -> &'static Plan {
        static PLANS: LazyLock<[Plan; Priority::LEVELS]> = LazyLock::new(|| {
            std::array::from_fn(|level| {
                let mut plan = Plan::default();
                let level = u8::try_from(level).ok().and_then(Priority::new);
                plan.priority = level.unwrap_or_default();
                plan
            })
        });
        &PLANS[usize::from(self.0.get()) - 1]
    }
}

/// A message that no caller waits for, with its payload.
pub(crate) struct Small {
    /// The payload, of the type that `of` names, while `full`. A value that is `Send`: see [`Small::new`].
    words: MaybeUninit<SmallRoom>,
    of: &'static Of,
    pub(crate) kind: KindId,
    full: bool,
    priority: Option<Alone>,
}

impl Small {
    /// The message, or the payload where that is too large.
    #[inline]
    pub(crate) fn new<T: Send + 'static>(kind: KindId, data: T) -> Result<Self, T> {
        if !For::<T>::FITS {
            return Err(data);
        }
        let mut words = MaybeUninit::<SmallRoom>::uninit();
        // SAFETY: the place is large enough and aligned for a `T`, as was just checked.
        unsafe { words.as_mut_ptr().cast::<T>().write(data) };
        Ok(Self {
            words,
            of: For::<T>::OF,
            kind,
            full: true,
            priority: None,
        })
    }

    /// Moves the payload out. `None`: it is of another type, or was moved out.
    #[inline]
    pub(crate) fn take<T: 'static>(&mut self) -> Option<T> {
        // Two types never have the same description, for it names the type; one type may have several.
        let is_one = ptr::eq(self.of, For::<T>::OF) || (self.of.id)() == TypeId::of::<T>();
        if !self.full || !is_one {
            return None;
        }
        self.full = false;
        // SAFETY: `new` wrote a `T`, and `full` was true: this is the first time that it is moved out, and it is not
        // dropped in here any more.
        Some(unsafe { self.words.as_ptr().cast::<T>().read() })
    }

    /// Makes it as urgent as that.
    pub(crate) const fn urge(&mut self, priority: Option<Alone>) {
        self.priority = priority;
    }

    /// What it asks of its mailbox.
    #[inline]
    pub(crate) fn plan(&self) -> Option<&'static Plan> {
        self.priority.map(Alone::plan)
    }

    /// The size of the payload's type.
    pub(crate) const fn bytes(&self) -> usize {
        self.of.bytes
    }

    /// What the type of the payload is called.
    pub(crate) fn type_name(&self) -> &'static str {
        (self.of.name)()
    }
}

impl Drop for Small {
    #[inline]
    fn drop(&mut self) {
        if self.full && self.of.needs_drop {
            self.full = false;
            let words = self.words.as_mut_ptr();
            // The panic hook has reported a destructor that panics, and there is no other place to tell.
            // SAFETY: `full` was true, so a value of this type lies there, which nothing uses after this.
            let _ = contained(|| unsafe { (self.of.drop)(words) });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn small<T: Send + 'static>(data: T) -> Small {
        Small::new(KindId::NONE, data).unwrap_or_else(|_| panic!("it is small"))
    }

    #[test]
    fn a_payload_comes_out_once_as_it_went_in() {
        let mut message = small("text".to_owned());
        assert_eq!(message.type_name(), type_name::<String>());
        assert_eq!(message.take::<Vec<u8>>(), None);
        assert_eq!(message.take::<&'static str>(), None);
        assert_eq!(message.take::<String>().as_deref(), Some("text"));
        assert_eq!(message.take::<String>(), None);
        let mut moved = small((1_u8, 2_u64, 'x'));
        moved = mem::replace(&mut moved, small(()));
        assert_eq!(moved.take::<(u8, u64, char)>(), Some((1, 2, 'x')));
        assert_eq!(small(()).take::<()>(), Some(()));
    }

    #[test]
    fn a_payload_is_dropped_once() {
        let held = Arc::new(());
        let mut message = small(held.clone());
        assert_eq!(Arc::strong_count(&held), 2);
        drop(message.take::<Arc<()>>());
        assert_eq!(Arc::strong_count(&held), 1);
        drop(message);
        drop(small(Box::new(held.clone())));
        drop(small(Some(held.clone())).take::<Box<u8>>());
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[test]
    fn a_payload_whose_destructor_panics_is_contained() {
        struct Sore {
            _held: Arc<()>,
        }
        impl Drop for Sore {
            fn drop(&mut self) {
                panic!("it is sore");
            }
        }
        let held = Arc::new(());
        drop(small(Sore {
            _held: held.clone(),
        }));
        assert_eq!(
            Arc::strong_count(&held),
            1,
            "what is in it goes all the same"
        );
    }

    #[test]
    fn a_payload_that_is_large_or_aligned_comes_back() {
        #[repr(align(16))]
        #[derive(Debug, PartialEq, Clone, Copy)]
        struct Aligned(u8);
        assert_eq!(Small::new(KindId::NONE, [7_u64; 4]).err(), Some([7; 4]));
        assert_eq!(Small::new(KindId::NONE, Aligned(1)).err(), Some(Aligned(1)));
        assert!(Small::new(KindId::NONE, [7_usize; 3]).is_ok());
    }

    #[test]
    fn a_message_goes_from_thread_to_thread() {
        let mut message = small(vec![1, 2, 3]);
        let taken = std::thread::spawn(move || message.take::<Vec<i32>>());
        assert_eq!(taken.join().ok().flatten(), Some(vec![1, 2, 3]));
    }
}
