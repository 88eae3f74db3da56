//! How many cases the tests with random input try.

use proptest::prelude::ProptestConfig;
use proptest::test_runner::RngAlgorithm;

/// Names the environment variable that multiplies the cases: `make fuzz` sets it.
const FACTOR: &str = "PYTOWEB_FUZZ";

/// The configuration for `usual` cases, or for as many times that as the environment variable `PYTOWEB_FUZZ` says. Only
/// with the feature `proptest`.
///
/// # Panics
/// If the variable is set to something else than a number: a run that tried less than was asked for would look like
/// one that found nothing.
#[must_use]
pub fn cases(usual: u32) -> ProptestConfig {
    let factor = std::env::var(FACTOR).map_or(1, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{FACTOR} is a whole number, not {text:?}"))
    });
    ProptestConfig {
        cases: usual.saturating_mul(factor),
        failure_persistence: None,
        // Not optimised, the default one takes more time than everything that is tested.
        rng_algorithm: RngAlgorithm::XorShift,
        ..ProptestConfig::default()
    }
}
