//! `parhelion devices`

use anyhow::Result;
use halo2curves::bn256::G1Affine;
use parhelion_dispatch::{Engine, Knobs};
use serde_json::json;

use crate::args::Devices;
use crate::ui;

pub(crate) fn run(args: &Devices, engine: &Engine<G1Affine>) -> Result<()> {
    let devices = engine.devices();
    let knobs = Knobs::from_env(&parhelion_backends::knobs())?;
    if args.json {
        let devices: Vec<_> = devices
            .iter()
            .map(|d| {
                json!({
                    "backend": d.info.backend, "space": d.info.space.to_string(), "name": d.info.name,
                    "driver": d.info.driver, "ops": d.ops.iter().map(|o| o.name()).collect::<Vec<_>>(),
                    "memory_bytes": d.info.memory.total, "simulated": d.info.simulated,
                    "trusted": d.trusted, "quarantined": d.quarantined,
                })
            })
            .collect();
        let knobs: Vec<_> = knobs
            .resolved()
            .iter()
            .map(|r| json!({"name": r.knob.name, "set": r.set, "default": r.knob.default, "doc": r.knob.doc}))
            .collect();
        ui::out(json!({"devices": devices, "knobs": knobs}).to_string());
        return Ok(());
    }
    let mut table = ui::Table::new(["backend", "space", "operations", "memory", "device"]);
    for d in &devices {
        table.row([
            d.info.backend.to_owned(),
            d.info.space.to_string(),
            d.ops.iter().map(|op| op.name()).collect::<Vec<_>>().join(" "),
            d.info.memory.total.map_or("–".into(), ui::bytes),
            format!("{}; {}", d.info.name, d.info.driver),
        ]);
    }
    table.print();
    ui::out("");
    let mut table = ui::Table::new(["knob", "value", "meaning"]);
    for r in knobs.resolved() {
        let value = r.set.unwrap_or_else(|| format!("({})", r.knob.default));
        table.row([r.knob.name.to_owned(), value, r.knob.doc.to_owned()]);
    }
    table.print();
    Ok(())
}
