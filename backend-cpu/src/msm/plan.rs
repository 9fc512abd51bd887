//! How the work of a batch is divided among threads.
//!
//! A task is a range of bucket sets of a class of a column: tasks share nothing, so a batch of columns fills the threads by itself. A
//! single column has only as many tasks as it has sets; then each task is divided in turn: its items are sorted in pieces, and
//! its buckets are summed in groups.

use std::ops::Range;

use super::scalars::Windows;

/// Most items that a task aims at.
const TASK: usize = 1 << 16;
/// Fewest items that a task aims at: enough for its fixed costs to vanish.
const SMALL_TASK: usize = 1 << 12;
/// Tasks per thread that even out their ends.
const MANY_TASKS: usize = 12;
/// Pieces of sorting per thread, when tasks are divided.
const MANY_PIECES: usize = 4;
/// Fewest scalars in a piece of sorting.
const SMALL_PIECE: usize = 1 << 12;

/// Some sets of buckets of one class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) class: usize,
    pub(crate) sets: Range<usize>,
}

/// The tasks of a batch.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) tasks: Vec<Task>,
    /// Whether tasks are divided further. That takes more workspace: a thread that waits for a part begins another task.
    pub(crate) divide: bool,
    /// How many pieces the sorting of a task is divided into, at most.
    pieces: usize,
}

impl Plan {
    /// For classes of these lengths and windows, on `threads` threads.
    pub(crate) fn new(classes: &[(usize, Windows)], threads: usize) -> Self {
        // Items and reduction of one set.
        let load = |(len, windows): &(usize, Windows)| {
            len * windows.count.div_ceil(windows.sets.max(1)) as usize + 2 * windows.buckets()
        };
        let total: usize = classes.iter().map(|class| load(class) * class.1.sets as usize).sum();
        let target = (total / (MANY_TASKS * threads)).clamp(SMALL_TASK, TASK);
        let tasks: Vec<Task> = classes
            .iter()
            .enumerate()
            .flat_map(|(class, shape)| {
                let sets = shape.1.sets as usize;
                let step = (target / load(shape)).clamp(1, sets.max(1));
                (0..sets)
                    .step_by(step)
                    .map(move |first| Task { class, sets: first..(first + step).min(sets) })
            })
            .collect();
        let divide = threads > 1 && tasks.len() < MANY_TASKS / 2 * threads;
        let pieces = if divide { (MANY_PIECES * threads).div_ceil(tasks.len().max(1)) } else { 1 };
        Plan { tasks, divide, pieces }
    }

    /// How many pieces the sorting of `len` scalars is divided into.
    pub(crate) fn pieces(&self, len: usize) -> usize {
        self.pieces.min(len / SMALL_PIECE).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msm::table::Levels;

    /// Lengths of the columns of a batch of full scalars.
    fn classes(lens: &[usize], lanes: usize, levels: Levels) -> Vec<(usize, Windows)> {
        lens.iter().map(|len| (*len, Windows::choose(*len, Windows::FULL, lanes, levels).0)).collect()
    }

    #[test]
    fn every_set_is_in_one_task() {
        let levels = Levels { stride: 64, count: 4, images: false };
        for threads in [1, 2, 3, 7, 16, 64] {
            for lens in [&[1usize << 18][..], &[1, 0, 300, 1 << 12], &[1 << 14; 16], &[1 << 10; 300]] {
                for levels in [Levels::PLAIN, levels] {
                    let classes = classes(lens, 8, levels);
                    let plan = Plan::new(&classes, threads);
                    let mut next = vec![0; classes.len()];
                    for task in &plan.tasks {
                        assert_eq!(task.sets.start, next[task.class], "in order, without gaps");
                        assert!(task.sets.end > task.sets.start);
                        next[task.class] = task.sets.end;
                    }
                    for (next, class) in next.iter().zip(&classes) {
                        assert_eq!(*next, class.1.sets as usize);
                    }
                }
            }
        }
    }

    /// Loads of what one thread does without another's help, in additions.
    fn leaves(classes: &[(usize, Windows)], plan: &Plan, group: usize) -> Vec<usize> {
        plan.tasks
            .iter()
            .flat_map(|task| {
                let (len, windows) = &classes[task.class];
                let items = len * windows.count.div_ceil(windows.sets) as usize * task.sets.len();
                let load = items + 2 * windows.buckets() * task.sets.len();
                let parts =
                    if plan.divide { items.div_ceil(group).min(plan.pieces(*len) * 8).max(1) } else { 1 };
                std::iter::repeat_n(load / parts, parts)
            })
            .collect()
    }

    #[test]
    fn no_thread_starves() {
        for lanes in [1, 8] {
            for threads in [2, 4, 8, 16, 32, 64] {
                for lens in [&[1usize << 16][..], &[1 << 18], &[1 << 20], &[1 << 14; 16], &[1 << 12; 64]] {
                    for levels in [
                        Levels::PLAIN,
                        Levels { stride: 64, count: 4, images: false },
                        Levels { stride: 16, count: 16, images: false },
                    ] {
                        let classes = classes(lens, lanes, levels);
                        let plan = Plan::new(&classes, threads);
                        let shape = format!("{threads} threads, {lens:?}, {levels:?}, {lanes} lanes");
                        let pieces: usize = plan.tasks.iter().map(|t| plan.pieces(classes[t.class].0)).sum();
                        let longest = lens[0] / SMALL_PIECE;
                        assert!(
                            pieces >= (2 * threads).min(plan.tasks.len() * longest.max(1)),
                            "{pieces} pieces: {shape}"
                        );
                        let leaves = leaves(&classes, &plan, 1 << 13);
                        let total: usize = leaves.iter().sum();
                        // Greedy scheduling ends within the mean and the longest.
                        let longest = leaves.iter().max().copied().unwrap_or(0);
                        assert!(longest <= total / threads, "a part of {longest} of {total}: {shape}");
                    }
                }
            }
        }
    }
}
