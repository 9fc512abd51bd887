//! `parhelion tune`

use anyhow::{Result, ensure};
use halo2curves::bn256::G1Affine;
use parhelion_dispatch::{Engine, TunePlan, tune, tune_check};

use crate::args::Tune;
use crate::ui;

pub(super) fn run(args: &Tune, engine: &Engine<G1Affine>) -> Result<()> {
    let defaults = TunePlan::default();
    let plan = TunePlan { log_n: *defaults.log_n.start()..=args.max_log_n, ..defaults };
    if args.check {
        let bound = args.max_regret;
        ensure!(bound >= 1.0, "--max-regret {bound}: the best backend's own regret is 1");
        let regret = tune_check(engine, &plan, args.samples, 1, |sample| {
            ui::phase(format!("measuring {}", sample.shape));
        })?;
        ui::out(format!(
            "regret over {} samples: mean {:.3}, worst {:.3}",
            regret.samples.len(),
            regret.mean(),
            regret.worst()
        ));
        ensure!(
            regret.mean() <= bound,
            "the mean regret {:.3} is above {bound}: run `parhelion tune` again",
            regret.mean()
        );
        return Ok(());
    }
    let table =
        tune(engine, &plan, |point| ui::phase(format!("measuring {} on {}", point.shape, point.backend)))?;
    table.write(&args.out)?;
    let points: usize = table.series.iter().map(|s| s.points.len()).sum();
    ui::out(format!(
        "{}: {points} points in {} series; PARHELION_TABLE={} uses it",
        args.out.display(),
        table.series.len(),
        args.out.display()
    ));
    Ok(())
}
