//! Parts of one honest witness in another: every cell is right somewhere, and only what ties the parts together can refuse it.

use std::collections::BTreeMap;

use halo2_axiom::halo2curves::bn256::Fr;
use rand_core::RngCore;

use super::super::layout::{Cell, Col};
use super::super::template::Spec;
use super::{Case, rng};

/// A part of a witness that changes owner as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Import(usize),
    Strip(usize),
    Store,
    Packing,
    Rounds,
    Committed,
    Public,
    Digest,
}

/// Cells of both witnesses that differ, by group.
fn groups(a: &Case, b: &Case) -> BTreeMap<Group, Vec<(Cell, Fr)>> {
    let l = &a.bench.layout;
    let mut out: BTreeMap<Group, Vec<(Cell, Fr)>> = BTreeMap::new();
    let mut put = |group: Group, cell: Cell| {
        let (x, y) = (a.bench.first.get(cell), b.bench.first.get(cell));
        if x != y {
            out.entry(group).or_default().push((cell, y));
        }
    };
    for (at, strip) in l.lowered.strips.iter().enumerate() {
        let group =
            if matches!(strip.spec, Spec::Import { .. }) { Group::Import(at) } else { Group::Strip(at) };
        for slot in 0..strip.span {
            for (unit, places) in l.placed(at).packed.places.iter().enumerate() {
                places.iter().for_each(|p| put(group, l.slot_cell(at, slot, unit as u16, p.position)));
            }
        }
    }
    let rows = l.usable() as u32;
    for column in 0..a.bench.first.store.len() as u16 {
        (0..rows).for_each(|row| put(Group::Store, Cell { col: Col::Store(column), row }));
    }
    for column in 0..a.bench.first.hash.len() as u16 {
        for row in 0..rows {
            let group = if l.hash.packs(row as usize) { Group::Packing } else { Group::Rounds };
            put(group, Cell { col: Col::Hash(column), row });
        }
    }
    for column in 0..a.bench.first.committed.len() as u16 {
        (0..rows).for_each(|row| put(Group::Committed, Cell { col: Col::Committed(column), row }));
    }
    for row in 0..l.instance as u32 {
        let group = if (row as usize) < l.lowered.public.len() { Group::Public } else { Group::Digest };
        put(group, Cell { col: Col::Instance, row });
    }
    out
}

/// Subsets of the groups, of each of which the rest is another.
fn subsets(all: &[Group]) -> Vec<Vec<Group>> {
    let n = all.len();
    let pick = |mask: u64| (0..n).filter(|i| mask >> i & 1 == 1).map(|i| all[i]).collect::<Vec<_>>();
    if n <= 6 {
        return (1..(1u64 << n) - 1).map(pick).collect();
    }
    let is = |f: &dyn Fn(&Group) -> bool| -> u64 {
        all.iter().enumerate().filter(|(_, g)| f(g)).map(|(i, _)| 1 << i).sum()
    };
    let whole = (1u64 << n) - 1;
    let imports = is(&|g| matches!(g, Group::Import(_)));
    let store = is(&|g| matches!(g, Group::Store));
    let told = is(&|g| matches!(g, Group::Packing | Group::Rounds | Group::Digest));
    let rounds = is(&|g| matches!(g, Group::Rounds | Group::Digest));
    let instance = is(&|g| matches!(g, Group::Public | Group::Digest));
    let committed = is(&|g| matches!(g, Group::Committed));
    let mut masks = vec![
        imports,
        imports | store,
        told,
        rounds,
        instance,
        committed,
        told | instance,
        told | committed,
        store,
    ];
    masks.extend((0..n).map(|i| 1 << i));
    masks.extend(masks.clone().into_iter().map(|m| whole & !m));
    let mut random = rng(n as u64);
    masks.extend((0..24).map(|_| random.next_u64() & whole));
    masks.retain(|&m| m != 0 && m != whole);
    masks.sort_unstable();
    masks.dedup();
    masks.into_iter().map(pick).collect()
}

/// Every subset of B's witness in A's; with and without B's scalar rows.
pub(super) fn transplant(a: &Case, b: &Case) -> Result<usize, String> {
    let groups = groups(a, b);
    let all: Vec<Group> = groups.keys().copied().collect();
    let l = &a.bench.layout;
    let late: Vec<(Cell, Fr)> = [Col::A, Col::B, Col::Acc]
        .into_iter()
        .filter(|&col| !b.bench.honest.column(col).is_empty())
        .flat_map(|col| (0..=l.lowered.scalars.len() as u32).map(move |row| Cell { col, row }))
        .map(|cell| (cell, b.bench.honest.get(cell)))
        .collect();
    let mut tried = 0;
    for subset in subsets(&all) {
        let first: Vec<(Cell, Fr)> = subset.iter().flat_map(|g| groups[g].iter().copied()).collect();
        for late in [&[][..], &late] {
            tried += 1;
            let changes = [&first[..], late].concat();
            if a.bench.accepts(&changes) {
                let scalars = if late.is_empty() { "" } else { " and the scalar rows" };
                return Err(format!("{}: {subset:?}{scalars} of another witness", a.name));
            }
        }
    }
    Ok(tried)
}
