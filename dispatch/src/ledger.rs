//! What ran, where, for how long and why there.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use parhelion_backend_api::hal::{Op, SpaceId};

use crate::query::{Reason, Shape};

/// Calls that one ledger keeps one by one. A handle that lives as long as its process must not grow without bound; the totals
/// stay exact.
const KEPT: usize = 1 << 16;

/// One finished call.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// What was computed.
    pub shape: Shape,
    /// The backend that really computed it.
    pub backend: &'static str,
    /// The space that it computed in.
    pub space: SpaceId,
    /// When it began, since the engine was made.
    pub start: Duration,
    /// How long it took, without the preparation of handles and the check of the result.
    pub duration: Duration,
    /// How long it took to prepare bases or a program for this backend; zero when they were ready.
    pub prepare: Duration,
    /// How long the check took; zero when there was none.
    pub check: Duration,
    /// Bytes that were moved between spaces for it.
    pub moved: u64,
    /// Why this backend.
    pub reason: Reason,
}

/// The totals of one operation on one backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// Number of calls.
    pub calls: u64,
    /// Number of columns.
    pub columns: u64,
    /// Time in the operation.
    pub time: Duration,
    /// Time in the preparation of bases and programs.
    pub prepare: Duration,
    /// Time in checks of its results.
    pub check: Duration,
    /// Bytes moved between spaces.
    pub moved: u64,
    /// How often for which reason.
    pub reasons: BTreeMap<String, u64>,
}

/// Copies between the host and one space that the caller asked for, to keep columns there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfers {
    /// Number of copies.
    pub count: u64,
    /// Bytes to the space.
    pub uploaded: u64,
    /// Bytes from the space.
    pub downloaded: u64,
    /// Time in them.
    pub time: Duration,
}

/// What ran, in the order in which it finished.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    records: Vec<Record>,
    totals: BTreeMap<(Op, &'static str), Total>,
    transfers: BTreeMap<SpaceId, Transfers>,
}

impl Ledger {
    pub(crate) fn add(&mut self, record: Record) {
        let total = self.totals.entry((record.shape.op(), record.backend)).or_default();
        total.calls += 1;
        total.columns += record.shape.batch() as u64;
        total.time += record.duration;
        total.prepare += record.prepare;
        total.check += record.check;
        total.moved += record.moved;
        *total.reasons.entry(record.reason.to_string()).or_default() += 1;
        if self.records.len() < KEPT {
            self.records.push(record);
        }
    }

    pub(crate) fn add_transfer(&mut self, space: SpaceId, up: u64, down: u64, time: Duration) {
        let total = self.transfers.entry(space).or_default();
        total.count += 1;
        total.uploaded += up;
        total.downloaded += down;
        total.time += time;
    }

    /// Copies that kept columns in a space, outside of operations.
    pub fn transfers(&self) -> impl Iterator<Item = (SpaceId, &Transfers)> {
        self.transfers.iter().map(|(space, transfers)| (*space, transfers))
    }

    /// The calls, one by one; the first 65,536 of them.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The totals per operation and backend.
    pub fn totals(&self) -> impl Iterator<Item = (Op, &'static str, &Total)> {
        self.totals.iter().map(|((op, backend), total)| (*op, *backend, total))
    }

    /// Number of calls.
    pub fn calls(&self) -> u64 {
        self.totals.values().map(|total| total.calls).sum()
    }

    /// The backends that computed an operation, most time first.
    pub fn backends(&self, op: Op) -> Vec<&'static str> {
        let mut found: Vec<_> = self.totals().filter(|(o, ..)| *o == op).collect();
        found.sort_by_key(|(_, _, total)| std::cmp::Reverse(total.time));
        found.into_iter().map(|(_, backend, _)| backend).collect()
    }

    /// Time in one operation, over all backends.
    pub fn time(&self, op: Op) -> Duration {
        self.totals().filter(|(o, ..)| *o == op).map(|(.., total)| total.time).sum()
    }

    /// Bytes moved between spaces, for operations and to keep columns in a space.
    pub fn moved(&self) -> u64 {
        let operations: u64 = self.totals.values().map(|total| total.moved).sum();
        operations + self.transfers.values().map(|t| t.uploaded + t.downloaded).sum::<u64>()
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<9} {:<12} {:>7} {:>9} {:>12} {:>14}  why",
            "operation", "backend", "calls", "columns", "ms", "bytes moved"
        )?;
        for (op, backend, total) in self.totals() {
            let why: Vec<String> = total.reasons.iter().map(|(why, n)| format!("{why} ({n})")).collect();
            writeln!(
                f,
                "{op:<9} {backend:<12} {:>7} {:>9} {:>12.3} {:>14}  {}",
                total.calls,
                total.columns,
                total.time.as_secs_f64() * 1e3,
                total.moved,
                why.join("; ")
            )?;
        }
        for (space, transfers) in self.transfers() {
            writeln!(
                f,
                "{:<9} {:<12} {:>7} {:>9} {:>12.3} {:>14}  columns kept there",
                "copies",
                space.to_string(),
                transfers.count,
                "",
                transfers.time.as_secs_f64() * 1e3,
                transfers.uploaded + transfers.downloaded
            )?;
        }
        Ok(())
    }
}
