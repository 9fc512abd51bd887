//! Measured times of one machine, and what they predict.
//!
//! A table holds series of measurements: one per backend, device, operation, variant (scalar kind, direction, polynomial call)
//! and residency (operands on the host or already in the device's space). A point is a time at log₂ n and a width (columns, or
//! steps of a program). Between points the time is interpolated linearly in (log n, log width, log time): costs are products of
//! powers, so that is nearly exact. Outside the measured range nothing is extrapolated but the obvious: below it the time of the nearest
//! point stays (a latency), above it the time per element stays.
//!
//! The file is JSON, carries its provenance, and is only believed for a device whose backend, name and driver are the ones that
//! were measured. A formula could be fitted later; a threshold constant in code never.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use parhelion_backend_api::hal::DeviceInfo;
use parhelion_backend_api::{MsmShape, ScalarKind};
use serde::{Deserialize, Serialize};

use crate::query::Shape;

/// Version of the file format.
const FORMAT: u32 = 1;

/// The widest scalar that a series is named after; wider promises are looked up as full.
const FULL_BITS: u16 = 254;

/// Why a table is refused.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file cannot be read or written.
    #[error("cost table {path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The file is not a table.
    #[error("cost table {path}: {source}")]
    Json {
        /// The file.
        path: String,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// The table contradicts itself.
    #[error("cost table {path}: {why}")]
    Invalid {
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
}

/// Where, when and how a table was measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// Date and time, UTC, RFC 3339.
    pub created: String,
    /// Version of this crate.
    pub version: String,
    /// Processor, as the system names it.
    pub machine: String,
    /// Threads that the host had for the work.
    pub threads: usize,
    /// Measurements per point; the median is kept.
    pub repeats: usize,
}

/// Measurements of one kind of call on one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Name of the backend.
    pub backend: String,
    /// The device's own name.
    pub device: String,
    /// Its driver, with the version.
    pub driver: String,
    /// Name of the operation.
    pub op: String,
    /// Scalar kind, direction, or polynomial call, as [`Shape::variant`] names it.
    pub variant: String,
    /// Whether operands were already in the device's space.
    pub resident: bool,
    /// The measurements.
    pub points: Vec<Point>,
}

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// log₂ of the length.
    pub log_n: u32,
    /// Columns, or steps of a program.
    pub width: usize,
    /// Nanoseconds.
    pub ns: f64,
}

/// The measured times of one machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CostTable {
    format: u32,
    /// Where the figures are from.
    pub provenance: Provenance,
    /// The figures.
    pub series: Vec<Series>,
}

impl CostTable {
    /// A table of measurements.
    pub fn new(provenance: Provenance, series: Vec<Series>) -> Self {
        CostTable { format: FORMAT, provenance, series }
    }

    /// Reads a table.
    ///
    /// # Errors
    /// [`TableError`] naming the file.
    pub fn read(path: &Path) -> Result<Self, TableError> {
        let name = || path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| TableError::Io { path: name(), source })?;
        let table: CostTable =
            serde_json::from_str(&text).map_err(|source| TableError::Json { path: name(), source })?;
        table.check().map_err(|why| TableError::Invalid { path: name(), why })?;
        Ok(table)
    }

    /// Writes a table. An existing file is replaced only when the new one is complete.
    ///
    /// # Errors
    /// [`TableError`] naming the file.
    pub fn write(&self, path: &Path) -> Result<(), TableError> {
        let name = || path.display().to_string();
        let io = |source| TableError::Io { path: name(), source };
        let text =
            serde_json::to_string_pretty(self).map_err(|source| TableError::Json { path: name(), source })?;
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        std::fs::write(&partial, text + "\n").map_err(io)?;
        std::fs::rename(&partial, path).map_err(io)
    }

    /// Checks what the type does not say.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("format {} is not {FORMAT}", self.format));
        }
        for series in &self.series {
            let name = format!("{} {} {}", series.backend, series.op, series.variant);
            if series.points.is_empty() {
                return Err(format!("{name}: no points"));
            }
            for point in &series.points {
                if !(point.ns.is_finite() && point.ns > 0.0) || point.width == 0 || point.log_n > 63 {
                    return Err(format!("{name}: impossible point {point:?}"));
                }
            }
        }
        Ok(())
    }

    /// Predicted time of a call on a device, or `None` where nothing was measured.
    pub fn predict(&self, info: &DeviceInfo, shape: &Shape, resident: bool) -> Option<Duration> {
        let op = shape.op().name();
        let of_device: Vec<&Series> = self
            .series
            .iter()
            .filter(|s| s.op == op && s.backend == info.backend)
            .filter(|s| s.device == info.name && s.driver == info.driver)
            .collect();
        // A device's operands never come to the host for free, but host operands are legal everywhere: only that direction may
        // stand in for the other.
        let series = pick_variant(&of_device, shape, resident)
            .or_else(|| resident.then(|| pick_variant(&of_device, shape, false)).flatten())?;
        let log_n = match shape {
            Shape::Msm(MsmShape { len, .. }) => (*len.max(&1) as f64).log2(),
            _ => f64::from(shape.log_n()),
        };
        let ns = interpolate(&series.points, log_n, (shape.width().max(1) as f64).log2())?;
        Some(Duration::from_secs_f64((ns / 1e9).min(1e9)))
    }
}

/// The series of a shape's variant; for scalars, the narrowest measured width that holds the promise.
fn pick_variant<'a>(series: &[&'a Series], shape: &Shape, resident: bool) -> Option<&'a Series> {
    let series = series.iter().filter(|s| s.resident == resident);
    let Shape::Msm(MsmShape { scalars, .. }) = shape else {
        let variant = shape.variant();
        return series.copied().find(|s| s.variant == variant);
    };
    let (asked, signed) = match *scalars {
        ScalarKind::Full => (FULL_BITS, false),
        ScalarKind::Unsigned { bits } => (bits.min(FULL_BITS), false),
        ScalarKind::Signed { bits } => (bits.min(FULL_BITS), true),
    };
    series
        .filter_map(|s| {
            let (bits, series_signed) = match s.variant.split_at_checked(1)? {
                ("u", bits) => (bits.parse::<u16>().ok()?, false),
                ("s", bits) => (bits.parse::<u16>().ok()?, true),
                _ if s.variant == "full" => (FULL_BITS, signed),
                _ => return None,
            };
            let holds = bits >= asked && (series_signed || !signed);
            holds.then_some((bits, *s))
        })
        .min_by_key(|(bits, s)| (*bits, s.variant.starts_with('s') != signed))
        .map(|(_, s)| s)
}

/// Interpolates along log n in every measured width, then along the width.
fn interpolate(points: &[Point], log_n: f64, log_width: f64) -> Option<f64> {
    let mut rows: BTreeMap<usize, Vec<(f64, f64)>> = BTreeMap::new();
    for point in points {
        rows.entry(point.width).or_default().push((f64::from(point.log_n), point.ns));
    }
    let row = rows
        .into_iter()
        .filter_map(|(width, mut row)| {
            row.sort_by(|a, b| a.0.total_cmp(&b.0));
            Some(((width as f64).log2(), along(&row, log_n)?))
        })
        .collect::<Vec<_>>();
    along(&row, log_width)
}

/// The time at `x` (a logarithm to base 2) from times at sorted logarithms.
fn along(points: &[(f64, f64)], x: f64) -> Option<f64> {
    let (first, last) = (points.first()?, points.last()?);
    if x <= first.0 {
        return Some(first.1);
    }
    if x >= last.0 {
        return Some(last.1 * (x - last.0).exp2());
    }
    let (a, b) = points.windows(2).find_map(|pair| match pair {
        [a, b] if x <= b.0 => Some((a, b)),
        _ => None,
    })?;
    let t = if b.0 > a.0 { (x - a.0) / (b.0 - a.0) } else { 0.0 };
    Some((a.1.ln() * (1.0 - t) + b.1.ln() * t).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use parhelion_backend_api::hal::{MemoryInfo, SpaceId};
    use parhelion_backend_api::{Direction, NttShape};

    fn info() -> DeviceInfo {
        DeviceInfo {
            backend: "b",
            space: SpaceId::HOST,
            name: "device".into(),
            driver: "1".into(),
            memory: MemoryInfo::default(),
            simulated: false,
        }
    }

    fn series(op: &str, variant: &str, resident: bool, points: &[(u32, usize, f64)]) -> Series {
        Series {
            backend: "b".into(),
            device: "device".into(),
            driver: "1".into(),
            op: op.into(),
            variant: variant.into(),
            resident,
            points: points.iter().map(|&(log_n, width, ns)| Point { log_n, width, ns }).collect(),
        }
    }

    fn ntt(log_n: u32, batch: usize) -> Shape {
        Shape::Ntt(NttShape { log_n, batch, direction: Direction::Forward, coset: false })
    }

    fn msm(len: usize, scalars: ScalarKind) -> Shape {
        Shape::Msm(MsmShape { len, batch: 1, scalars })
    }

    fn ns(table: &CostTable, shape: Shape) -> f64 {
        table.predict(&info(), &shape, false).unwrap().as_secs_f64() * 1e9
    }

    fn close(a: f64, b: f64) -> bool {
        (a / b - 1.0).abs() < 1e-3
    }

    #[test]
    fn between_points_the_time_is_a_power_law_and_outside_it_is_clamped() {
        let points = [(10, 1, 1e6), (12, 1, 4e6), (10, 4, 3e6), (12, 4, 12e6)];
        let table = CostTable::new(Provenance::default(), vec![series("ntt", "forward", false, &points)]);
        assert!(close(ns(&table, ntt(11, 1)), 2e6));
        assert!(close(ns(&table, ntt(10, 2)), 1e6 * 3f64.sqrt()));
        assert!(close(ns(&table, ntt(4, 1)), 1e6), "below, the latency stays");
        assert!(close(ns(&table, ntt(14, 1)), 16e6), "above, the time per element stays");
        assert!(close(ns(&table, ntt(12, 16)), 48e6));
    }

    proptest::proptest! {
        #[test]
        fn predictions_lie_between_their_neighbours_and_grow_with_the_work(
            times in proptest::collection::vec(1u32..1_000_000, 4),
            log_n in 10u32..=14,
            batch in 1usize..=8,
        ) {
            let mut times: Vec<f64> = times.into_iter().map(f64::from).collect();
            times.sort_by(f64::total_cmp);
            let points = [(10, 1, times[0]), (14, 1, times[1]), (10, 8, times[2]), (14, 8, times[3])];
            let table = CostTable::new(Provenance::default(), vec![series("ntt", "forward", false, &points)]);
            let time = ns(&table, ntt(log_n, batch));
            // A nanosecond is the resolution of a duration.
            proptest::prop_assert!(time >= times[0] - 1.0 && time <= times[3] + 1.0);
            proptest::prop_assert!(ns(&table, ntt(log_n + 1, batch)) >= time - 1.0);
            proptest::prop_assert!(ns(&table, ntt(log_n, 2 * batch)) >= time - 1.0);
        }
    }

    #[test]
    fn the_narrowest_width_that_holds_the_promise_is_looked_up() {
        let table = CostTable::new(
            Provenance::default(),
            vec![
                series("msm", "full", false, &[(10, 1, 100e3)]),
                series("msm", "u1", false, &[(10, 1, 1e3)]),
                series("msm", "u16", false, &[(10, 1, 16e3)]),
                series("msm", "s16", false, &[(10, 1, 17e3)]),
            ],
        );
        for (kind, expected) in [
            (ScalarKind::Unsigned { bits: 1 }, 1e3),
            (ScalarKind::Unsigned { bits: 2 }, 16e3),
            (ScalarKind::Signed { bits: 1 }, 17e3),
            (ScalarKind::Unsigned { bits: 17 }, 100e3),
            (ScalarKind::Signed { bits: 200 }, 100e3),
            (ScalarKind::Unsigned { bits: 256 }, 100e3),
            (ScalarKind::Full, 100e3),
        ] {
            assert!(close(ns(&table, msm(1 << 10, kind)), expected), "{kind:?}");
        }
    }

    #[test]
    fn a_table_of_another_device_or_driver_predicts_nothing() {
        let table = CostTable::new(Provenance::default(), vec![series("msm", "full", true, &[(10, 1, 1e6)])]);
        let shape = msm(1 << 10, ScalarKind::Full);
        assert!(table.predict(&info(), &shape, true).is_some());
        assert_eq!(
            table.predict(&info(), &shape, false),
            None,
            "resident times say nothing of host operands"
        );
        let other = DeviceInfo { driver: "2".into(), ..info() };
        assert_eq!(table.predict(&other, &shape, true), None);
    }

    #[test]
    fn a_table_round_trips_and_a_bad_one_names_its_file() {
        let dir = std::env::temp_dir().join(format!("parhelion-cost-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("table.json");
        let table = CostTable::new(
            Provenance { created: "2026-01-01T00:00:00Z".into(), ..Provenance::default() },
            vec![series("msm", "full", true, &[(10, 1, 1e6)])],
        );
        table.write(&path).unwrap();
        assert_eq!(CostTable::read(&path).unwrap(), table);
        let good = std::fs::read_to_string(&path).unwrap();
        for bad in [
            good.replace("\"format\": 1", "\"format\": 9"),
            good.replace("1000000.0", "-1.0"),
            good[..good.len() / 2].to_owned(),
            String::new(),
        ] {
            assert_ne!(bad, good);
            std::fs::write(&path, bad).unwrap();
            let error = CostTable::read(&path).unwrap_err().to_string();
            assert!(error.contains("table.json"), "{error}");
        }
        assert!(matches!(CostTable::read(&dir.join("none.json")), Err(TableError::Io { .. })));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
