//! The run queue, one thread, against a plain queue. Threads that park are left to the models in `models/schedulers.rs`.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::{Rouse, Scheduler};
use crate::testing::cases;

const WORKERS: usize = 6;

#[derive(Clone, Debug)]
enum Step {
    /// A worker gets its first message.
    Ready(usize),
    /// A thread that was asked for starts, or does not.
    Start(bool),
    /// A thread that runs nothing looks for work.
    Look,
    /// A turn ends, with or without more to do.
    End {
        pick: usize,
        more: bool,
    },
    Block(usize),
    Unblock(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..WORKERS).prop_map(Step::Ready),
        3 => proptest::bool::weighted(0.9).prop_map(Step::Start),
        6 => Just(Step::Look),
        5 => (any::<usize>(), any::<bool>()).prop_map(|(pick, more)| Step::End { pick, more }),
        1 => any::<usize>().prop_map(Step::Block),
        1 => any::<usize>().prop_map(Step::Unblock),
    ]
}

struct Run {
    size: usize,
    scheduler: Scheduler<usize>,
    /// The workers that are ready, and how often each other one had a turn since.
    queue: VecDeque<(usize, BTreeMap<usize, usize>)>,
    starting: usize,
    looking: usize,
    running: Vec<usize>,
    blocked: Vec<usize>,
}

impl Run {
    fn active(&self) -> usize {
        self.looking + self.running.len()
    }

    fn rouse(&mut self, rouse: Rouse) {
        match rouse {
            Rouse::None => {}
            Rouse::NewThread => {
                assert!(self.active() < self.size, "more threads than may be active");
                assert!(
                    self.queue.len() > self.looking,
                    "a looking thread would have taken it"
                );
                assert_eq!(self.starting, 0, "one wakes at a time");
                self.starting += 1;
            }
            Rouse::Parked => unreachable!("no thread parks here"),
        }
        assert_eq!(self.scheduler.notify(rouse), rouse == Rouse::NewThread);
    }

    fn is_somewhere(&self, worker: usize) -> bool {
        self.queue.iter().any(|(queued, _)| *queued == worker)
            || self.running.contains(&worker)
            || self.blocked.contains(&worker)
    }

    fn push(&mut self, worker: usize) {
        self.queue.push_back((worker, BTreeMap::new()));
        let rouse = self.scheduler.push(worker);
        self.rouse(rouse);
    }

    fn look(&mut self) {
        if self.looking == 0 {
            return;
        }
        let found = self.scheduler.try_next();
        self.take(found);
    }

    /// A looking thread has looked.
    fn take(&mut self, found: Option<(usize, Rouse)>) {
        let may = self.active() <= self.size;
        let Some((worker, rouse)) = found else {
            assert!(
                self.queue.is_empty() || !may,
                "work, and a thread that may do it"
            );
            return;
        };
        assert!(may);
        let (expected, turns) = self.queue.pop_front().expect("it had a worker");
        assert_eq!(worker, expected, "first in, first out");
        assert!(
            turns.values().all(|turns| *turns <= 1),
            "it waited behind more than one turn of another: {turns:?}"
        );
        for (_, turns) in &mut self.queue {
            *turns.entry(worker).or_default() += 1;
        }
        self.looking -= 1;
        self.running.push(worker);
        self.rouse(rouse);
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Ready(worker) => {
                if !self.is_somewhere(worker) {
                    self.push(worker);
                }
            }
            Step::Start(starts) => {
                if self.starting > 0 {
                    self.starting -= 1;
                    if starts {
                        let rouse = self.scheduler.enter();
                        self.looking += 1;
                        self.rouse(rouse);
                    } else {
                        self.scheduler.start_failed();
                    }
                }
            }
            Step::Look => self.look(),
            Step::End { pick, more } => {
                if !self.running.is_empty() {
                    let worker = self.running.remove(pick % self.running.len());
                    self.looking += 1;
                    if more {
                        self.queue.push_back((worker, BTreeMap::new()));
                    }
                    let found = self.scheduler.finish(more.then_some(worker));
                    self.take(found);
                }
            }
            Step::Block(pick) => {
                if !self.running.is_empty() {
                    let worker = self.running.remove(pick % self.running.len());
                    self.blocked.push(worker);
                    let rouse = self.scheduler.block().expect("no limit");
                    self.rouse(rouse);
                }
            }
            Step::Unblock(pick) => {
                if !self.blocked.is_empty() {
                    let worker = self.blocked.remove(pick % self.blocked.len());
                    self.running.push(worker);
                    self.scheduler.unblock();
                }
            }
        }
        assert_eq!(
            self.scheduler.threads(),
            self.starting + self.active() + self.blocked.len()
        );
        assert_eq!(
            self.scheduler.is_stalled(),
            !self.queue.is_empty() && self.active() == 0 && self.starting == 0
        );
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn workers_run_in_turn(size in 1..4_usize, steps in proptest::collection::vec(step(), 0..200)) {
        let mut run = Run {
            size,
            scheduler: Scheduler::new(size, usize::MAX),
            queue: VecDeque::new(),
            starting: 0,
            looking: 0,
            running: Vec::new(),
            blocked: Vec::new(),
        };
        for step in &steps {
            run.step(step);
        }
    }
}

#[test]
fn one_job_after_the_other_needs_one_thread() {
    let scheduler = Scheduler::new(16, usize::MAX);
    assert_eq!(scheduler.push(0), Rouse::NewThread);
    assert_eq!(scheduler.enter(), Rouse::None);
    assert_eq!(scheduler.try_next(), Some((0, Rouse::None)));
    for job in 1..10 {
        // Its reply is published before the thread looks again, and the next job comes only then.
        assert_eq!(scheduler.finish(None), None);
        assert_eq!(scheduler.push(job), Rouse::None);
        assert_eq!(scheduler.try_next(), Some((job, Rouse::None)));
    }
    assert_eq!(scheduler.threads(), 1);
}

#[test]
fn jobs_at_once_get_a_thread_each_even_while_the_first_is_still_starting() {
    let scheduler = Scheduler::new(3, usize::MAX);
    assert_eq!(scheduler.push(0), Rouse::NewThread);
    assert_eq!(scheduler.push(1), Rouse::None);
    assert_eq!(scheduler.push(2), Rouse::None);
    assert_eq!(scheduler.enter(), Rouse::NewThread);
    assert_eq!(scheduler.enter(), Rouse::NewThread);
    assert_eq!(scheduler.enter(), Rouse::None);
    assert_eq!(scheduler.threads(), 3);
}
