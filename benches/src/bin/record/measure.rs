//! What is measured, and how a measurement travels from the child process to the record.

use serde::{Deserialize, Serialize};

use crate::kernels::{self, Bench, Mix, Row};
use crate::{machine, peak, profile, proofs};

/// One measurement on both sides, run by run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) isa: String,
    pub(crate) op: String,
    pub(crate) against: String,
    pub(crate) log_n: u32,
    pub(crate) unit: String,
    pub(crate) ours: Vec<f64>,
    pub(crate) theirs: Vec<f64>,
}

impl Sample {
    /// Medians of both sides, and theirs / ours; for memory, ours / theirs.
    pub(crate) fn medians(&self) -> (f64, f64, f64) {
        let median = |values: &[f64]| {
            let mut values = values.to_vec();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
        };
        let (ours, theirs) = (median(&self.ours), median(&self.theirs));
        (ours, theirs, if self.is_memory() { ours / theirs } else { theirs / ours })
    }

    pub(crate) fn is_memory(&self) -> bool {
        self.unit == "MiB"
    }

    pub(crate) fn line(&self) -> String {
        let (ours, theirs, ratio) = self.medians();
        let unit = &self.unit;
        if self.against.is_empty() {
            return format!("{}: {ours:.2} {unit}", self.op);
        }
        let Sample { op, against, log_n, .. } = self;
        format!("{op} 2^{log_n}: {ours:.2} {unit}, {against} {theirs:.2} {unit}, ratio {ratio:.2}")
    }

    pub(crate) fn csv(&self) -> String {
        let Sample { isa, op, against, log_n, unit, ours, theirs } = self;
        let rows = ours.iter().enumerate().map(|(run, ours)| {
            let theirs = theirs.get(run).map_or_else(String::new, |t| format!("{t:.4}"));
            format!("{isa},{op},{against},{log_n},{unit},{run},{ours:.4},{theirs}\n")
        });
        rows.collect()
    }
}

/// Which measurements, and at which sizes.
pub(crate) struct Plan {
    pub(crate) quick: bool,
    pub(crate) only: Option<String>,
}

impl Plan {
    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }

    fn log(&self, full: u32) -> u32 {
        if self.quick { full.min(10) } else { full }
    }
}

fn emit(sample: &Sample) {
    println!("{}", serde_json::to_string(sample).expect("plain data"));
}

/// Measures with this process's instruction set and prints samples, one JSON object per line.
pub(crate) fn all(plan: &Plan) {
    let isa = std::env::var("PARHELION_CPU_ISA").unwrap_or_else(|_| "auto".to_owned());
    let send = |op: &str, against: &str, log_n: u32, unit: &str, ours: Vec<f64>, theirs: Vec<f64>| {
        let (op, against, unit) = (op.to_owned(), against.to_owned(), unit.to_owned());
        emit(&Sample { isa: isa.clone(), op, against, log_n, unit, ours, theirs });
    };
    let row = |_: &str, row: Row| send(row.op, "halo2-axiom", row.log_n, "ms", row.ours, row.theirs);
    let runs = if plan.quick { 1 } else { 5 };
    let bench = Bench::new(runs, &row).expect("a processor");
    if plan.wants("machine") {
        for (what, unit, value) in machine::rates() {
            send(what, "", 0, unit, vec![value], Vec::new());
        }
    }
    if plan.wants("msm") {
        let recorded = profile::Profile::shipped();
        let draw = |rng: &mut _| recorded.draw(rng);
        let uniform = Mix { op: "msm", count: 1, scalar: &kernels::uniform };
        let mixes = [
            Mix { op: "msm, column mix", count: 1, scalar: &kernels::mixed },
            Mix { op: "msm, recorded zkml columns", count: 1, scalar: &draw },
        ];
        bench.msm(plan.log(14), &[Mix { op: "msm, batch of 16", count: 16, scalar: &kernels::uniform }]);
        bench.msm(plan.log(16), std::slice::from_ref(&uniform));
        bench.msm(plan.log(18), std::slice::from_ref(&uniform));
        bench.msm(plan.log(18), &mixes);
        let few = Bench::new(runs.min(3), &row).expect("a processor");
        few.msm(plan.log(20), std::slice::from_ref(&uniform));
        #[cfg(feature = "arkworks")]
        {
            let (ours, theirs) = crate::arkworks::msm(plan.log(18), runs.min(3));
            send("msm", "arkworks", plan.log(18), "ms", ours, theirs);
        }
    }
    if plan.wants("ntt") {
        let sizes: &[u32] = if plan.quick { &[8, 10] } else { &[14, 16, 18, 20] };
        sizes.iter().for_each(|log_n| bench.ntt(*log_n));
    }
    if plan.wants("poly") {
        bench.poly(plan.log(18));
        bench.quotient(plan.log(16));
    }
    let shapes: &[(&str, usize, bool)] = if plan.quick {
        &[("wide-8", 1, false), ("lookups-9", 1, false), ("permutation-8", 1, false)]
    } else {
        &[
            ("wide-12", 5, true),
            ("wide-15", 3, true),
            ("wide-18", 1, false),
            ("lookups-14", 3, true),
            ("permutation-14", 3, true),
        ]
    };
    let engine = parhelion_backends::default_engine().expect("an engine");
    for (name, rounds, warm) in shapes.iter().filter(|(name, ..)| plan.wants("proof") || plan.wants(name)) {
        let circuit = proofs::shape(name).expect("a shape of the list");
        let (rows, _) = proofs::paired(engine, circuit, *rounds, *warm);
        for row in rows {
            let op = format!("{}, {}", row.op, name.rsplit_once('-').map_or(*name, |(kind, _)| kind));
            send(&op, "halo2-axiom", circuit.k, "ms", row.ours, row.theirs);
        }
    }
    for (name, rounds, _) in shapes.iter().filter(|(name, ..)| plan.wants("memory") || plan.wants(name)) {
        let circuit = proofs::shape(name).expect("a shape of the list");
        let (ours, theirs) = (0..*rounds)
            .map(|_| peak::compare(name, circuit).map(|side| side.peak_mb))
            .map(|[ours, theirs]| (ours, theirs))
            .unzip();
        let op = format!("peak memory, {}", name.rsplit_once('-').map_or(*name, |(kind, _)| kind));
        send(&op, "halo2-axiom", circuit.k, "MiB", ours, theirs);
    }
}
