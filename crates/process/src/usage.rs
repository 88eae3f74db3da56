//! What a process uses: memory and time of a processor, as the system counts them.

use std::time::Duration;

/// A child that is there, and what it uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChildUsage {
    /// The number of its process.
    pub pid: u32,
    /// Bytes of resident memory; `None` where the system does not tell, or it has just ended.
    pub resident_bytes: Option<u64>,
    /// Time of a processor that it has used, in steps of the system's clock (10 ms as a rule); `None` likewise.
    pub cpu: Option<Duration>,
}

impl ChildUsage {
    pub(crate) fn of(pid: u32) -> Self {
        Self {
            pid,
            resident_bytes: resident(pid),
            cpu: cpu(pid),
        }
    }
}

/// Bytes of resident memory of a process.
#[cfg(target_os = "linux")]
pub(crate) fn resident(pid: u32) -> Option<u64> {
    let numbers = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = numbers.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Nothing tells here; a limit is not enforced.
#[cfg(not(target_os = "linux"))]
pub(crate) fn resident(_pid: u32) -> Option<u64> {
    None
}

/// Time of a processor that a process has used, in its own code and in the system's for it.
#[cfg(target_os = "linux")]
fn cpu(pid: u32) -> Option<Duration> {
    /// Fields between the name, which ends at the last parenthesis, and `utime`, which `stime` follows.
    const BEFORE: usize = 11;

    let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = line.rsplit_once(") ")?;
    let mut ticks = rest.split(' ').skip(BEFORE).map(str::parse::<u64>);
    let ticks = ticks.next()?.ok()? + ticks.next()?.ok()?;
    let nanos = ticks.checked_mul(1_000_000_000)?;
    Some(Duration::from_nanos(
        nanos / rustix::param::clock_ticks_per_second(),
    ))
}

#[cfg(not(target_os = "linux"))]
fn cpu(_pid: u32) -> Option<Duration> {
    None
}

#[cfg(all(test, target_os = "linux", not(pytoweb_loom)))]
mod tests {
    use std::hint::black_box;
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_usage_of_this_process_is_told_and_grows() {
        let pid = std::process::id();
        let before = ChildUsage::of(pid);
        assert!(before.resident_bytes > Some(100_000));
        let begin = Instant::now();
        let grown = |now: &ChildUsage| {
            now.cpu
                .zip(before.cpu)
                .is_some_and(|(now, then)| now > then)
        };
        while !grown(&ChildUsage::of(pid)) {
            assert!(begin.elapsed() < Duration::from_secs(60));
            black_box((0..100_000_u64).sum::<u64>());
        }
    }

    #[test]
    fn one_that_has_ended_uses_nothing_that_is_known() {
        let mut child = std::process::Command::new("true")
            .spawn()
            .expect("it is everywhere");
        child.wait().expect("it ends");
        let usage = ChildUsage::of(child.id());
        assert_eq!((usage.resident_bytes, usage.cpu), (None, None));
    }
}
