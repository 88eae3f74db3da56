//! What a recorder keeps, and what it lets go.

use super::*;

const MICRO: u64 = 1_000;

fn ran(kind: &'static str, lane: u32, end: u64, run: u64) -> Ran<'static> {
    Ran {
        worker: "w",
        kind,
        lane,
        end,
        run: Some(run),
        wait: MICRO,
        together: 1,
        fate: Fate::Completed,
    }
}

#[test]
fn what_fits_is_kept_as_it_was_told() {
    let mut recorder = Recorder::new(2_000);
    let lane = recorder.lane(ChartLane::Thread(7), || "seven".to_owned());
    assert_eq!(recorder.lane(ChartLane::Thread(7), String::new), lane);
    recorder.ran(&ran("a", lane, 30 * MICRO, 10 * MICRO), None);
    recorder.ran_beside("a", Some((MICRO, MICRO)), Fate::Failed, None);
    recorder.ran_beside("a", None, Fate::Failed, None);
    let recorded = recorder.end();
    assert_eq!(recorded.lanes, [(ChartLane::Thread(7), "seven".to_owned())]);
    assert_eq!(
        (recorded.workers, recorded.kinds),
        (vec!["w".to_owned()], vec!["a".to_owned()])
    );
    let bar = recorded.bars[0];
    assert_eq!((bar.begin, bar.run), (20 * MICRO, 10 * MICRO));
    assert_eq!(recorded.numbers[0].fates, [1, 2, 0, 0, 0, 0]);
    let waits: u64 = recorded.numbers[0].waits().map(|(_, count)| count).sum();
    assert_eq!(waits, 2);
    let (from, count) = recorded.numbers[0].runs().last().expect("one ran");
    assert!((8 * MICRO..=10 * MICRO).contains(&from), "{from}");
    assert_eq!(count, 1);
}

#[test]
fn of_a_million_messages_the_long_ones_and_an_even_choice_of_the_others_are_kept() {
    let most = 4_000;
    let mut recorder = Recorder::new(most);
    let lane = recorder.lane(ChartLane::Process(0), String::new);
    let all = 1_000_000;
    for number in 0..all {
        let (kind, run) = match number % 10_000 {
            0 => ("long", 900 * MICRO),
            1 => ("rare", MICRO / 2),
            _ => ("short", 9 * MICRO),
        };
        recorder.ran(&ran(kind, lane, (number + 1) * 10 * MICRO, run), None);
    }
    let recorded = recorder.end();
    assert_eq!(recorded.told, all);
    let bars = &recorded.bars;
    assert!((most / 2..=most).contains(&bars.len()), "{}", bars.len());
    let of_kind = |name: &str| {
        let kind = recorded.kinds.iter().position(|kind| kind == name);
        let kind = u32::try_from(kind.expect("a type")).expect("few");
        bars.iter().filter(move |bar| bar.kind == kind)
    };
    assert_eq!(of_kind("long").count(), 100);
    assert!(of_kind("rare").count() >= 25);
    // The first half of the time has as many as the second one.
    let middle = all * 5 * MICRO;
    let early = of_kind("short").filter(|bar| bar.begin < middle).count();
    let late = of_kind("short").count() - early;
    assert!(early.abs_diff(late) <= 2, "{early} {late}");
    let runs: u64 = recorded.numbers.iter().map(|each| each.fates[0]).sum();
    assert_eq!(runs, all);
}

#[test]
fn the_bound_holds_whatever_the_lengths_are() {
    let mut recorder = Recorder::new(0);
    let lane = recorder.lane(ChartLane::Coroutines, String::new);
    let mut seed = 1_u64;
    for number in 0..200_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let run = seed >> (24 + (seed >> 59));
        recorder.ran(&ran("a", lane, (number << 40) + run, run), None);
    }
    let recorded = recorder.end();
    let kept = recorded.bars.len();
    assert!((512..=1_024).contains(&kept), "{kept}");
}

#[test]
fn a_run_whose_length_is_unknown_began_after_the_one_before_it() {
    let mut recorder = Recorder::new(2_000);
    let lane = recorder.lane(ChartLane::Process(1), String::new);
    recorder.ran(&ran("a", lane, 50 * MICRO, 10 * MICRO), None);
    let lost = |end, wait| Ran {
        run: None,
        wait,
        fate: Fate::Crashed,
        ..ran("a", lane, end, 0)
    };
    recorder.ran(&lost(90 * MICRO, 80 * MICRO), None);
    recorder.ran(&lost(190 * MICRO, 20 * MICRO), None);
    let recorded = recorder.end();
    let times = recorded.bars.iter().map(|bar| (bar.begin, bar.run));
    assert_eq!(
        times.skip(1).collect::<Vec<_>>(),
        [(50 * MICRO, 40 * MICRO), (170 * MICRO, 20 * MICRO)]
    );
    // They are no part of the times.
    let runs: u64 = recorded.numbers[0].runs().map(|(_, count)| count).sum();
    assert_eq!(runs, 1);
}

#[test]
fn a_failure_has_the_message_that_it_is_told_with() {
    let mut recorder = Recorder::new(2_000);
    let lane = recorder.lane(ChartLane::Thread(1), String::new);
    let note = |recorder: &mut Recorder, kind| {
        recorder.failed(("w", kind), lane, 5, "no".to_owned(), Fate::Failed)
    };
    let (first, other) = (note(&mut recorder, "a"), note(&mut recorder, "b"));
    let failed = Ran {
        fate: Fate::Failed,
        ..ran("a", lane, 7 * MICRO, MICRO)
    };
    recorder.ran(&failed, first);
    // It is one of another type: what was noted belongs to none that was timed.
    recorder.ran(&failed, other);
    let beside = note(&mut recorder, "a");
    recorder.ran_beside("a", None, Fate::Crashed, beside);
    for _ in 0..MOST_FAILURES {
        recorder.failed(("w", "a"), lane, 9, String::new(), Fate::Retried);
    }
    let recorded = recorder.end();
    assert_eq!(recorded.failures.len(), MOST_FAILURES);
    assert_eq!(recorded.failures_left_out, 3);
    assert_eq!(
        recorded.failures[0].bar.map(|bar| bar.begin),
        Some(6 * MICRO)
    );
    assert_eq!(recorded.failures[1].bar, None);
    assert_eq!(recorded.failures[2].fate, Fate::Crashed);
}

#[test]
fn turns_that_follow_each_other_are_one() {
    let mut recorder = Recorder::new(2_000);
    let lane = recorder.lane(ChartLane::Thread(1), String::new);
    let millis = 1_000 * MICRO;
    recorder.busy(lane, "a", 0, millis);
    recorder.busy(lane, "a", millis + MICRO, 2 * millis);
    recorder.busy(lane, "b", 2 * millis, 3 * millis);
    recorder.busy(lane, "b", 9 * millis, 9 * millis + MICRO);
    recorder.busy(lane, "a", 9 * millis + 2 * MICRO, 9 * millis + 3 * MICRO);
    let recorded = recorder.end();
    let found = recorded.busy.iter();
    let found = found.map(|busy| (busy.worker, busy.begin, busy.end, busy.nanos));
    assert_eq!(
        found.collect::<Vec<_>>(),
        [
            (Some(0), 0, 2 * millis, 2 * millis - MICRO),
            (Some(1), 2 * millis, 3 * millis, millis),
            (None, 9 * millis, 9 * millis + 3 * MICRO, 2 * MICRO),
        ]
    );
}

#[test]
fn turns_are_bounded() {
    let mut recorder = Recorder::new(2_000);
    let lane = recorder.lane(ChartLane::Thread(1), String::new);
    for number in 0..100_000 {
        let begin = number * 1_000 * MICRO;
        recorder.busy(lane, "a", begin, begin + MICRO);
    }
    let recorded = recorder.end();
    assert!(recorded.busy.len() < 20_000);
    let busy: u64 = recorded.busy.iter().map(|busy| busy.nanos).sum();
    assert_eq!(busy, 100_000 * MICRO);
    assert!(recorded.busy_gap_nanos > 200_000);
}

#[test]
fn names_beyond_a_limit_are_one() {
    let mut recorder = Recorder::new(2_000);
    let lane = recorder.lane(ChartLane::Thread(1), String::new);
    let names: Vec<_> = (0..400).map(|number| number.to_string()).collect();
    for name in &names {
        recorder.ran_beside(name, Some((1, 1)), Fate::Completed, None);
    }
    for thread in 0..5_000 {
        assert!(recorder.lane(ChartLane::Thread(thread), String::new) >= lane);
    }
    let recorded = recorder.end();
    assert_eq!(recorded.kinds.len(), 257);
    assert_eq!(recorded.kinds[256], OTHERS);
    assert_eq!(recorded.numbers[256].fates[0], 144);
    assert_eq!(recorded.lanes.len(), 4_096);
}
