//! How much memory keys and proofs of a circuit take, and how much there is.
//!
//! Almost all of it is columns of 2^k scalars. Whoever makes or reads keys has every fixed column and column of the permutation by value and by
//! coefficients, and once more while the key is cut down to its coefficients. A proof holds the key, all advice columns twice (as the witness
//! and as the prover's), running products, the pieces of the quotient, and a workspace. The numbers below are fitted to the peaks of keys and
//! proofs of example models, which they meet within a fifth.
//!
//! What there is: the system's own estimate (Linux), within the limits of the control group and of the process's address space.

use std::fs;
use std::path::{Path, PathBuf};

use crate::machine::Counts;

/// Bytes that a circuit takes beside what the process holds when it is planned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// Making keys.
    pub keygen: u64,
    /// Proving.
    pub prove: u64,
}

impl Need {
    /// Of a planned circuit.
    pub fn of(c: &Counts) -> Self {
        let n = (1u64 << c.k) as f64;
        let column = 32.0 * n;
        let (fixed, equality) = (c.fixed as f64, c.equality as f64);
        let (advice, running) = ((c.first + c.late) as f64, c.running_products() as f64);
        let cosets = (c.degree.max(2) - 1) as f64;
        let key = fixed + equality;
        let keys = STRING + 3.0 * key + 6.0;
        let held = STRING + key + 3.0 + 2.0 * advice + running + cosets + 1.0;
        let proof = (held + WORKSPACE * (advice + key)).max(keys);
        let bytes = |columns: f64| (columns * column) as u64 + CONSTANT;
        let cells = CELL * (c.narrow_cells + c.full_cells) as u64;
        Need { keygen: bytes(keys), prove: bytes(proof) + cells }
    }

    /// The greater of both.
    pub fn peak(self) -> u64 {
        self.keygen.max(self.prove)
    }
}

/// Both bases, what the backend makes of them, and commitments under way, in columns.
const STRING: f64 = 22.0;
/// Part of the columns that the quotient has on a coset at once.
const WORKSPACE: f64 = 0.25;
/// Bytes per assigned cell, beside its place in a column.
const CELL: u64 = 8;
/// Whatever the circuit.
const CONSTANT: u64 = 4 << 20;

/// Memory that the process may still take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes.
    pub bytes: u64,
    /// Who says so.
    pub of: String,
}

impl Room {
    /// The least of what the system and its limits leave; `None` where none of them is known.
    pub fn now() -> Option<Self> {
        let room = |bytes: Option<u64>, of: &str| Some(Room { bytes: bytes?, of: of.to_owned() });
        let read = |path: &str| fs::read_to_string(path).ok();
        let system = read("/proc/meminfo").and_then(|text| system(&text));
        let space = address_space(&read("/proc/self/limits"), &read("/proc/self/status"));
        [
            room(system, "the system's memory"),
            room(control_group(), "the control group's limit"),
            room(space, "the limit of the address space"),
        ]
        .into_iter()
        .flatten()
        .min_by_key(|r| r.bytes)
    }
}

/// Memory that the process has now, in bytes; `None` where the system does not tell.
pub(super) fn resident() -> Option<u64> {
    kilobytes(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS")
}

/// `Name:   123 kB` in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// What can be taken without swapping, and what is left to swap to.
fn system(meminfo: &str) -> Option<u64> {
    Some(kilobytes(meminfo, "MemAvailable")? + kilobytes(meminfo, "SwapFree").unwrap_or(0))
}

/// What `ulimit -v` leaves.
fn address_space(limits: &Option<String>, status: &Option<String>) -> Option<u64> {
    let line = limits.as_deref()?.lines().find_map(|l| l.strip_prefix("Max address space"))?;
    let limit: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(limit.saturating_sub(kilobytes(status.as_deref()?, "VmSize")?))
}

/// What the tightest control group that this process is in leaves.
fn control_group() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut least: Option<u64> = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(kinds), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let (root, files) = match kinds {
            "" => ("/sys/fs/cgroup", ("memory.max", "memory.current")),
            kinds if kinds.split(',').any(|k| k == "memory") => {
                ("/sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.usage_in_bytes"))
            }
            _ => continue,
        };
        let own = Path::new(root).join(path.trim_start_matches('/'));
        // A group's limit holds for the groups below; within a container the path may be one of outside.
        for dir in own.ancestors().take_while(|d| d.starts_with(root)).map(PathBuf::from) {
            let number = |file: &str| fs::read_to_string(dir.join(file)).ok()?.trim().parse::<u64>().ok();
            let (Some(limit), Some(used)) = (number(files.0), number(files.1)) else { continue };
            let stat = fs::read_to_string(dir.join("memory.stat")).unwrap_or_default();
            // Pages of files that nobody uses are given back.
            let idle = stat.lines().find_map(|l| {
                let (name, value) = l.split_once(' ')?;
                ["inactive_file", "total_inactive_file"].contains(&name).then(|| value.parse::<u64>().ok())?
            });
            let left = limit.saturating_sub(used.saturating_sub(idle.unwrap_or(0)));
            least = Some(least.map_or(left, |l| l.min(left)));
        }
    }
    least
}

/// A number of bytes for people.
pub(super) fn amount(bytes: u64) -> String {
    match bytes as f64 {
        b if b >= 1e9 => format!("{:.1} GB", b / 1e9),
        b => format!("{:.0} MB", b / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_is_read() {
        let text =
            "MemTotal:       24683652 kB\nMemFree:  1 kB\nMemAvailable:    1000 kB\nSwapFree:   24 kB\n";
        assert_eq!(system(text), Some(1024 * 1024));
        assert_eq!(system("MemTotal: 5 kB\n"), None);
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max address space         8192                 unlimited            bytes\n";
        let status = "VmPeak:\t 9 kB\nVmSize:\t       3 kB\n".to_owned();
        let left = |limits: &str| address_space(&Some(limits.to_owned()), &Some(status.clone()));
        assert_eq!(left(limits), Some(8192 - 3072));
        assert_eq!(left(&limits.replace("8192", "unlimited")), None);
    }

    #[test]
    fn more_rows_and_more_columns_take_more() {
        let small =
            Counts { k: 14, degree: 4, first: 18, late: 14, fixed: 37, equality: 11, ..Counts::default() };
        let base = Need::of(&small);
        let grown =
            [Counts { k: 15, ..small }, Counts { fixed: 40, ..small }, Counts { equality: 20, ..small }];
        for counts in grown {
            let need = Need::of(&counts);
            assert!(need.keygen > base.keygen && need.prove > base.prove, "{counts:?}");
        }
        // Proving holds at least what keys take, so a few columns of advice may be free.
        let advice = |first| Need::of(&Counts { first, ..small }).prove;
        assert!(advice(20) >= base.prove && advice(40) > base.prove && advice(80) > advice(40));
    }
}
