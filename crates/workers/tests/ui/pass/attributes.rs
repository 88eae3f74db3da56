//! Attributes and visibility stay where they belong.

#![deny(warnings, missing_docs, unreachable_pub)]
//! A program.

pub mod api {
    //! Its interface.
    use pytoweb_workers::run_in_worker;

    /// Doubles.
    #[run_in_worker("attributes",)]
    #[must_use]
    #[inline]
    #[allow(clippy::needless_return)]
    pub fn double(x: u64) -> u64 {
        return 2 * x;
    }

    #[run_in_worker("attributes")]
    #[cfg(any())]
    pub fn absent(x: DoesNotExist) {}

    /// Sums a lot.
    #[run_in_worker("attributes")]
    pub fn sum(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8) -> u8 {
        a + b + c + d + e + f + g + h
    }
}

fn main() {
    assert_eq!(api::double(2), 4);
    assert_eq!(api::sum(1, 1, 1, 1, 1, 1, 1, 1), 8);
    drop(api::double::submit(3));
}
