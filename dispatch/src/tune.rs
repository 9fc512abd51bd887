//! Measuring what is here, and measuring again whether the table still chooses well.

use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parhelion_backend_api::hal::{Error, Op, Result};
use parhelion_backend_api::{
    Curve, Direction, MsmShape, NttShape, PolyCall, PolyShape, QuotientShape, ScalarKind,
};
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};

use crate::cost::{CostTable, Point, Provenance, Series};
use crate::engine::{Engine, Settings};
use crate::policy::{Checks, Choice, Name, Policy, Trust};
use crate::query::{Query, Shape};
use crate::slot::Slot;
use crate::workload::Workload;

/// Columns of the programs that are measured.
const PROGRAM_COLUMNS: usize = 12;
/// Registers of the programs that are measured.
const PROGRAM_REGISTERS: usize = 16;

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunePlan {
    /// Which operations.
    pub ops: Vec<Op>,
    /// Range of log₂ of the lengths.
    pub log_n: RangeInclusive<u32>,
    /// Distance between them.
    pub step: u32,
    /// Numbers of columns.
    pub batches: Vec<usize>,
    /// Numbers of steps of a program.
    pub steps: Vec<usize>,
    /// Magnitudes of scalars.
    pub scalars: Vec<ScalarKind>,
    /// Measurements per point after the one that warms up; the median is kept.
    pub repeats: usize,
    /// A series ends after the point that took longer.
    pub limit: Duration,
}

impl Default for TunePlan {
    fn default() -> Self {
        TunePlan {
            ops: Op::PLONK.to_vec(),
            log_n: 6..=18,
            step: 2,
            batches: vec![1, 4, 16],
            // Down to one: below the least that was measured, the time is taken to stay, which is wrong for a host.
            steps: vec![1, 16, 128, 1024],
            scalars: vec![
                ScalarKind::Unsigned { bits: 1 },
                ScalarKind::Unsigned { bits: 16 },
                ScalarKind::Signed { bits: 16 },
                ScalarKind::Unsigned { bits: 64 },
                ScalarKind::Full,
            ],
            repeats: 3,
            limit: Duration::from_secs(1),
        }
    }
}

impl TunePlan {
    /// The kinds of calls, each as a function from log₂ n and a width to a shape.
    fn kinds(&self) -> Vec<Kind> {
        let mut kinds = Vec::new();
        for op in &self.ops {
            match *op {
                Op::MSM => kinds.extend(self.scalars.iter().map(|kind| Kind::Msm(*kind))),
                Op::NTT => kinds.extend([
                    Kind::Ntt(Direction::Forward, false),
                    Kind::Ntt(Direction::Inverse, false),
                    Kind::Ntt(Direction::Forward, true),
                    Kind::Ntt(Direction::Inverse, true),
                ]),
                Op::QUOTIENT => kinds.push(Kind::Quotient),
                Op::POLY => kinds.extend(PolyCall::ALL.map(Kind::Poly)),
                _ => {}
            }
        }
        kinds
    }

    fn widths(&self, kind: Kind) -> &[usize] {
        match kind {
            Kind::Quotient => &self.steps,
            Kind::Poly(PolyCall::LinearCombination | PolyCall::Evaluate) => &self.batches,
            Kind::Poly(_) => &[1],
            Kind::Msm(_) | Kind::Ntt(..) => &self.batches,
        }
    }
}

/// Calls that differ only in size.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Msm(ScalarKind),
    Ntt(Direction, bool),
    Quotient,
    Poly(PolyCall),
}

impl Kind {
    fn shape(self, log_n: u32, width: usize) -> Shape {
        match self {
            Kind::Msm(scalars) => {
                let len = 1usize.checked_shl(log_n).unwrap_or(usize::MAX);
                Shape::Msm(MsmShape { len, batch: width, scalars })
            }
            Kind::Ntt(direction, coset) => Shape::Ntt(NttShape { log_n, batch: width, direction, coset }),
            Kind::Quotient => Shape::Quotient(QuotientShape {
                log_n,
                columns: PROGRAM_COLUMNS,
                steps: width,
                registers: PROGRAM_REGISTERS,
            }),
            Kind::Poly(call) => Shape::Poly(PolyShape { call, log_n, batch: width }),
        }
    }
}

/// One point that has been measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// The backend.
    pub backend: &'static str,
    /// The call.
    pub shape: Shape,
    /// Whether its operands were in the device's space.
    pub resident: bool,
    /// Its time.
    pub time: Duration,
}

/// The same engine, forced to one provider and without checks.
fn alone<C: Curve>(engine: &Engine<C>, slot: &Slot<C>) -> Result<Engine<C>> {
    let info = &slot.provider.info;
    engine.configure(Settings {
        policy: Policy {
            choice: Choice::Force(Name::indexed(info.backend, info.space.index)),
            checks: Checks::OFF,
            trust: Trust::Named(vec![info.backend.into()]),
            ..Policy::default()
        },
        ..Settings::default()
    })
}

/// Measures every provider of an engine that is not quarantined. A shape that a provider does not support, or has no memory for, ends its
/// series.
///
/// # Errors
/// Any other error of a provider.
pub fn tune<C: Curve>(
    engine: &Engine<C>,
    plan: &TunePlan,
    mut progress: impl FnMut(&Progress),
) -> Result<CostTable> {
    let mut workload = Workload::new();
    let mut all = Vec::new();
    for slot in engine.shared.slots.iter().filter(|slot| slot.quarantined().is_none()) {
        let engine = alone(engine, slot)?;
        for kind in plan.kinds() {
            let residencies: &[bool] = if slot.is_host() { &[true] } else { &[false, true] };
            for &resident in residencies {
                let mut points = Vec::new();
                for &width in plan.widths(kind) {
                    for log_n in plan.log_n.clone().step_by(plan.step.max(1) as usize) {
                        let shape = kind.shape(log_n, width);
                        let home = (resident && !slot.is_host()).then_some(slot);
                        let times = match workload.times(&engine, &shape, home, plan.repeats, plan.limit) {
                            Ok(times) => times,
                            Err(error) if error.try_elsewhere() => break,
                            Err(error) => return Err(error),
                        };
                        let Some(&time) = times.get(times.len() / 2) else { break };
                        progress(&Progress { backend: slot.name(), shape, resident, time });
                        points.push(Point { log_n, width, ns: (time.as_secs_f64() * 1e9).max(1.0) });
                        if time > plan.limit {
                            break;
                        }
                    }
                }
                if !points.is_empty() {
                    let info = &slot.provider.info;
                    let shape = kind.shape(0, 1);
                    all.push(Series {
                        backend: info.backend.into(),
                        device: info.name.clone(),
                        driver: info.driver.clone(),
                        op: shape.op().name().into(),
                        variant: shape.variant(),
                        resident,
                        points,
                    });
                }
            }
        }
    }
    let provenance = Provenance {
        created: utc(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()),
        version: env!("CARGO_PKG_VERSION").into(),
        machine: machine(),
        threads: rayon::current_num_threads(),
        repeats: plan.repeats,
    };
    Ok(CostTable::new(provenance, all))
}

/// One shape, measured again.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The call.
    pub shape: Shape,
    /// The backend that the engine would pick, and its time.
    pub picked: (&'static str, Duration),
    /// The fastest backend, and its time.
    pub best: (&'static str, Duration),
}

impl Sample {
    /// How many times longer the pick takes than the best would.
    pub fn regret(&self) -> f64 {
        (self.picked.1.as_secs_f64() / self.best.1.as_secs_f64().max(1e-9)).max(1.0)
    }
}

/// What the engine's choices cost over the best ones.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Regret {
    /// The samples.
    pub samples: Vec<Sample>,
}

impl Regret {
    /// The mean over the samples; 1 is perfect.
    pub fn mean(&self) -> f64 {
        let sum: f64 = self.samples.iter().map(Sample::regret).sum();
        if self.samples.is_empty() { 1.0 } else { sum / self.samples.len() as f64 }
    }

    /// The worst sample; 1 is perfect.
    pub fn worst(&self) -> f64 {
        self.samples.iter().map(Sample::regret).fold(1.0, f64::max)
    }
}

/// Measures a random sample of shapes on every candidate and compares with what the engine, with its table and policy, would pick.
/// Shapes lie between the measured ones too, where the table interpolates.
///
/// # Errors
/// [`Error::Invalid`] when the engine has no table; otherwise a provider's own.
pub fn tune_check<C: Curve>(
    engine: &Engine<C>,
    plan: &TunePlan,
    samples: usize,
    seed: u64,
    mut progress: impl FnMut(&Sample),
) -> Result<Regret> {
    if engine.settings().table.is_none() {
        return Err(Error::Invalid { what: "tune", why: "the engine has no table to check".into() });
    }
    let kinds = plan.kinds();
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let mut below = |n: usize| rng.next_u64() as usize % n.max(1);
    let mut workload = Workload::new();
    let mut regret = Regret::default();
    for _ in 0..samples {
        let Some(&kind) = kinds.get(below(kinds.len())) else { break };
        let widths = plan.widths(kind);
        let Some(&width) = widths.get(below(widths.len())) else { continue };
        let log_n = plan.log_n.start() + below((plan.log_n.end() - plan.log_n.start() + 1) as usize) as u32;
        let shape = kind.shape(log_n, width);
        let decision = engine.explain(&Query::host(shape));
        let mut measured = Vec::new();
        for candidate in decision.legal() {
            let Some(slot) = engine.shared.slots.get(candidate.provider) else { continue };
            match workload.times(&alone(engine, slot)?, &shape, None, plan.repeats, plan.limit) {
                Ok(times) => measured.extend(times.get(times.len() / 2).map(|time| (slot.name(), *time))),
                Err(error) if error.try_elsewhere() => {}
                Err(error) => return Err(error),
            }
        }
        let best = measured.iter().min_by_key(|(_, time)| *time).copied();
        // Legal candidates are in order, so the first is the pick.
        if let (Some(&picked), Some(best)) = (measured.first(), best) {
            let sample = Sample { shape, picked, best };
            progress(&sample);
            regret.samples.push(sample);
        }
    }
    Ok(regret)
}

/// The processor, as the system names it.
fn machine() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

/// Seconds since 1970 as RFC 3339, UTC.
fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut year, mut day) = (1970, days);
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_gregorian() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }

    #[test]
    fn regret_is_the_ratio_to_the_best() {
        let ms = Duration::from_millis;
        let sample = |picked, best| Sample {
            shape: Kind::Quotient.shape(3, 4),
            picked: ("a", ms(picked)),
            best: ("b", ms(best)),
        };
        let regret = Regret { samples: vec![sample(10, 10), sample(30, 10)] };
        assert!((regret.mean() - 2.0).abs() < 1e-9 && (regret.worst() - 3.0).abs() < 1e-9);
        assert!((Regret::default().mean() - 1.0).abs() < 1e-9);
    }
}
