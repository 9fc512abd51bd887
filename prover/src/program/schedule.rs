//! Which terms of the numerator are evaluated together, and in which order, so that few columns are needed at a time.
//!
//! Any order gives the same sum. Greedily, next comes what adds the fewest columns to those that must be kept, and
//! among equals what needs the fewest that are not there. A column that is dropped is never needed again, so no order
//! costs more transforms than another.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Key;
use super::constraints::{Group, Placed};
use crate::Result;

/// From this number of gates on they are taken as one: the search is quadratic in their number.
const MANY_GATES: usize = 128;

/// Divides the groups into programs, in order, each of one class. Gates join a program while it reads no more than `wanted` columns, or than
/// either reads alone. `columns` gives what a program of some groups reads.
pub(super) fn split(
    all: Vec<Placed>,
    wanted: usize,
    columns: impl Fn(&[Placed]) -> Result<Vec<Key>>,
) -> Result<Vec<Vec<Placed>>> {
    let (gates, others): (Vec<Placed>, Vec<Placed>) =
        all.into_iter().partition(|placed| matches!(placed.group, Group::Gate(_)));
    let mut units: Vec<Vec<Placed>> = if gates.len() > MANY_GATES {
        let mut classes: BTreeMap<usize, Vec<Placed>> = BTreeMap::new();
        gates.into_iter().for_each(|gate| classes.entry(gate.cosets).or_default().push(gate));
        classes.into_values().collect()
    } else {
        gates.into_iter().map(|gate| vec![gate]).collect()
    };
    units.extend(others.into_iter().map(|group| vec![group]));
    let mut left = Vec::with_capacity(units.len());
    for unit in units {
        let read: HashSet<Key> = columns(&unit)?.into_iter().filter(|key| *key != Key::Sum).collect();
        left.push((unit, read));
    }
    // How many of the remaining units read a column.
    let mut readers: HashMap<Key, usize> = HashMap::new();
    for key in left.iter().flat_map(|(_, read)| read) {
        *readers.entry(*key).or_default() += 1;
    }
    let mut live: HashSet<Key> = HashSet::new();
    let mut parts: Vec<(Vec<Placed>, HashSet<Key>)> = Vec::new();
    while !left.is_empty() {
        let cost = |at: &usize| {
            let (_, read) = &left[*at];
            let new = read.difference(&live).count();
            let spent = read.iter().filter(|key| readers.get(key) == Some(&1)).count();
            (new as i64 - spent as i64, new, *at)
        };
        let next = (0..left.len()).min_by_key(cost).unwrap_or(0);
        let (unit, read) = left.remove(next);
        live.extend(&read);
        for key in &read {
            if let Some(count) = readers.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    live.remove(key);
                }
            }
        }
        let joins = |groups: &[Placed]| {
            let class = groups.first().map(|placed| placed.cosets);
            unit.iter().all(|placed| matches!(placed.group, Group::Gate(_)) && Some(placed.cosets) == class)
        };
        match parts.last_mut() {
            Some((groups, so_far))
                if joins(groups)
                    && so_far.union(&read).count() <= wanted.max(so_far.len()).max(read.len()) =>
            {
                groups.extend(unit);
                so_far.extend(read);
            }
            _ => parts.push((unit, read)),
        }
    }
    Ok(parts.into_iter().map(|(groups, _)| groups).collect())
}

/// The most columns that are there at once when programs that read these run one after the other.
pub(super) fn peak<'k>(programs: impl Iterator<Item = &'k [Key]>) -> usize {
    let programs: Vec<&[Key]> = programs.collect();
    let mut last: HashMap<Key, usize> = HashMap::new();
    for (at, keys) in programs.iter().enumerate() {
        last.extend(keys.iter().filter(|key| **key != Key::Sum).map(|key| (*key, at)));
    }
    let mut live: HashSet<Key> = HashSet::new();
    let mut peak = 0;
    for (at, keys) in programs.iter().enumerate() {
        live.extend(keys.iter().filter(|key| **key != Key::Sum));
        peak = peak.max(live.len());
        live.retain(|key| last.get(key).is_some_and(|last| *last > at));
    }
    peak
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(group: Group, position: usize, cosets: usize) -> Placed {
        Placed { group, position, cosets }
    }

    /// Gates that read one advice column each, and sets of three of them with their σ.
    fn read(groups: &[Placed]) -> Result<Vec<Key>> {
        let mut keys = vec![Key::Sum];
        for placed in groups {
            match &placed.group {
                Group::Gate(i) => keys.extend([Key::Advice(*i), Key::Fixed(*i)]),
                Group::PermutationSet(s) => {
                    keys.push(Key::Active);
                    keys.extend((3 * s..3 * s + 3).flat_map(|i| [Key::Advice(i), Key::Sigma(i)]));
                }
                _ => keys.push(Key::First),
            }
        }
        Ok(keys)
    }

    #[test]
    fn nothing_is_lost_and_columns_do_not_pile_up() {
        let gates = (0..30).map(|i| placed(Group::Gate(i), i, 2));
        let all: Vec<Placed> =
            gates.chain((0..10).map(|s| placed(Group::PermutationSet(s), 30 + s, 2))).collect();
        let parts = split(all.clone(), 10, read).unwrap();
        let mut back: Vec<usize> = parts.iter().flatten().map(|placed| placed.position).collect();
        back.sort_unstable();
        assert_eq!(back, (0..40).collect::<Vec<_>>());
        assert!(parts.len() < 40, "gates were not joined");

        let reads: Vec<Vec<Key>> = parts.iter().map(|p| read(p).unwrap()).collect();
        let most = peak(reads.iter().map(Vec::as_slice));
        assert!(most < 45, "{most} of 91 columns at once");
    }

    #[test]
    fn columns_are_dropped_after_their_last_reader() {
        let a = Key::Advice;
        let programs: [&[Key]; 3] = [&[a(0), a(1), Key::Sum], &[a(1), a(2), a(3)], &[a(3), a(4)]];
        assert_eq!(peak(programs.into_iter()), 3);
        assert_eq!(peak([&[a(0), a(1)][..], &[a(2)], &[a(0)]].into_iter()), 2);
    }

    #[test]
    fn many_gates_stay_together() {
        let gates =
            |classes| (0..MANY_GATES + 1).map(|i| placed(Group::Gate(i), i, 2 + i % classes)).collect();
        assert_eq!(split(gates(1), 10, read).unwrap().len(), 1);
        let parts = split(gates(3), 10, read).unwrap();
        assert_eq!(parts.iter().map(Vec::len).sum::<usize>(), MANY_GATES + 1);
        assert_eq!(parts.len(), 3, "a program of each class");
        assert!(parts.iter().all(|part| part.iter().all(|placed| placed.cosets == part[0].cosets)));
    }
}
