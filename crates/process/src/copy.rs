//! Copies into and out of memory that another process may change meanwhile.
//!
//! A plain copy of bytes that are written at the same time is undefined behaviour, whatever is done with the bytes. So the
//! shared side of every copy is read and written by relaxed atomics, a word at a time where it is aligned: such a copy may be
//! torn or mixed, and is wrong data in a private buffer and nothing worse. A loop over words takes a third to a half longer
//! than the C library's copy, so many bytes are moved by the processor's own instruction for that where it has one: what a
//! block of assembly does, the compiler assumes nothing about.

#![expect(unsafe_code, reason = "shared memory is reached through raw pointers")]

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

const WORD: usize = size_of::<usize>();
/// Words that are moved without a look at the end.
const STRIDE: usize = 8;
/// Fewer bytes are moved faster by a loop than by an instruction that has to be set up.
#[cfg(all(target_arch = "x86_64", not(miri)))]
const MANY: usize = 512;

/// Moves many bytes. False, and nothing done, where they are few or the processor has no instruction for it.
///
/// # Safety
/// `from` is readable and `to` writable, each for `len` bytes, and the two do not overlap.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
unsafe fn move_many(from: *const u8, to: *mut u8, len: usize) -> bool {
    if len < MANY {
        return false;
    }
    // SAFETY: reads and writes exactly those ranges, forwards, as the calling convention has the direction flag clear.
    unsafe {
        std::arch::asm!(
            "rep movsb",
            inout("rcx") len => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags)
        );
    }
    true
}

/// The same on other processors.
///
/// # Safety
/// None is needed.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
unsafe fn move_many(_from: *const u8, _to: *mut u8, _len: usize) -> bool {
    false
}

/// Bytes before the first aligned word, and whole words after those.
fn parts(shared: NonNull<u8>, len: usize) -> (usize, usize) {
    let before = shared.as_ptr().align_offset(WORD).min(len);
    (before, (len - before) / WORD)
}

/// Copies `len` bytes of shared memory into private memory.
///
/// # Safety
/// `from` is mapped for reading and `into` for writing, each for `len` bytes, and no other thread looks at `into`.
pub(crate) unsafe fn out(from: NonNull<u8>, into: *mut u8, len: usize) {
    // SAFETY: by the caller's promise; private memory does not overlap with shared memory.
    if unsafe { move_many(from.as_ptr(), into, len) } {
        return;
    }
    let (before, words) = parts(from, len);
    let from = from.as_ptr();
    // SAFETY: within both ranges, by the caller's promise.
    let byte = |at: usize| unsafe {
        // ORDERING: Relaxed, here and below: what orders the copy after the write is the caller's.
        into.add(at)
            .write(AtomicU8::from_ptr(from.add(at)).load(Ordering::Relaxed));
    };
    // SAFETY: as above; `at` is where a word of the shared range is aligned.
    let word = |at: usize| unsafe {
        let value = AtomicUsize::from_ptr(from.add(at).cast()).load(Ordering::Relaxed);
        into.add(at).cast::<usize>().write_unaligned(value);
    };
    each(len, before, words, byte, word);
}

/// Copies `len` bytes of private memory into shared memory.
///
/// # Safety
/// `from` is readable and `to` is mapped for writing, each for `len` bytes; no other thread changes `from`.
pub(crate) unsafe fn into(from: *const u8, to: NonNull<u8>, len: usize) {
    // SAFETY: by the caller's promise; private memory does not overlap with shared memory.
    if unsafe { move_many(from, to.as_ptr(), len) } {
        return;
    }
    let (before, words) = parts(to, len);
    let to = to.as_ptr();
    // SAFETY: within both ranges, by the caller's promise.
    let byte = |at: usize| unsafe {
        // ORDERING: Relaxed, here and below: what orders the copy before the read is the caller's.
        AtomicU8::from_ptr(to.add(at)).store(from.add(at).read(), Ordering::Relaxed);
    };
    // SAFETY: as above; `at` is where a word of the shared range is aligned.
    let word = |at: usize| unsafe {
        let value = from.add(at).cast::<usize>().read_unaligned();
        AtomicUsize::from_ptr(to.add(at).cast()).store(value, Ordering::Relaxed);
    };
    each(len, before, words, byte, word);
}

/// Copies `len` bytes from shared memory to shared memory; few of them by way of a private buffer.
///
/// # Safety
/// `from` is mapped for reading and `to` for writing, each for `len` bytes, and the two do not overlap.
pub(crate) unsafe fn between(from: NonNull<u8>, to: NonNull<u8>, len: usize) {
    // SAFETY: by the caller's promise.
    if unsafe { move_many(from.as_ptr(), to.as_ptr(), len) } {
        return;
    }
    let mut piece = [0_u8; 4096];
    let mut at = 0;
    while at < len {
        let size = piece.len().min(len - at);
        // SAFETY: both within their ranges, by the caller's promise; `piece` has `size` bytes and is this thread's.
        unsafe {
            out(from.add(at), piece.as_mut_ptr(), size);
            into(ptr::from_ref(&piece).cast(), to.add(at), size);
        }
        at += size;
    }
}

#[inline]
fn each(len: usize, before: usize, words: usize, byte: impl Fn(usize), word: impl Fn(usize)) {
    (0..before).for_each(&byte);
    let mut at = before;
    for _ in 0..words / STRIDE {
        for step in 0..STRIDE {
            word(at + step * WORD);
        }
        at += STRIDE * WORD;
    }
    for _ in 0..words % STRIDE {
        word(at);
        at += WORD;
    }
    (at..len).for_each(&byte);
}

#[cfg(all(test, not(pytoweb_loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_length_at_every_offset_is_copied_and_nothing_beside_it() {
        let bytes: Vec<u8> = (0..1_100_u32).map(|byte| (byte % 251) as u8).collect();
        for offset in 0..2 * WORD {
            for len in (0..150).chain([600, 1_000]) {
                for private in 0..3 {
                    let mut shared = vec![255_u8; 1_100];
                    let mut back = vec![254_u8; 1_100];
                    let start = NonNull::new(shared.as_mut_ptr()).expect("not null");
                    // SAFETY: within the three buffers, which do not overlap.
                    unsafe {
                        into(bytes.as_ptr().add(private), start.add(offset), len);
                        out(start.add(offset), back.as_mut_ptr().add(private), len);
                    }
                    assert_eq!(shared[offset..offset + len], bytes[private..private + len]);
                    assert_eq!(back[private..private + len], bytes[private..private + len]);
                    assert!(shared[..offset].iter().all(|byte| *byte == 255));
                    assert!(shared[offset + len..].iter().all(|byte| *byte == 255));
                    assert!(back[private + len..].iter().all(|byte| *byte == 254));
                }
            }
        }
    }

    #[test]
    fn shared_memory_is_copied_to_shared_memory_in_pieces() {
        let mut bytes: Vec<u8> = (0..10_000_u32).map(|byte| (byte % 251) as u8).collect();
        let mut copy = vec![0_u8; bytes.len()];
        let from = NonNull::new(bytes.as_mut_ptr()).expect("not null");
        let to = NonNull::new(copy.as_mut_ptr()).expect("not null");
        // SAFETY: two buffers of that length.
        unsafe { between(from, to, copy.len()) };
        assert_eq!(bytes, copy);
    }
}
