//! `parhelion srs`

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result};
use parhelion_prover::srs::{Origin, PointFormat, Srs};
use parhelion_zkml::session::{self, write_atomic};
use serde_json::json;

use crate::args;
use crate::ui;

pub(super) fn run(args: &args::Srs) -> Result<()> {
    match args {
        args::Srs::Gen { k, out } => {
            ui::phase("generating");
            store(&session::development_srs(*k)?, out)?;
            ui::out(format!(
                "{}: development reference string for k = {k}. INSECURE: everybody knows its secret.",
                out.display()
            ));
        }
        args::Srs::Import { file, out, k } => {
            ui::phase("reading");
            let mut srs = foreign(file, *k)?;
            if let Some(k) = k {
                srs = srs.downsize(*k).with_context(|| file.display().to_string())?;
            }
            ui::phase("checking");
            srs.check().with_context(|| file.display().to_string())?;
            store(&srs, out)?;
            ui::out(format!("{}: {}", out.display(), describe(&srs)));
        }
        args::Srs::Check { file, json } => {
            ui::phase("reading");
            let srs = any(file)?;
            ui::phase("checking");
            srs.check().with_context(|| file.display().to_string())?;
            if *json {
                ui::out(
                    json!({
                        "file": file, "k": srs.k(), "consistent": true, "secure": !srs.is_insecure(),
                        "origin": format!("{:?}", srs.origin()), "digest": session::to_hex(&srs.digest()),
                    })
                    .to_string(),
                );
            } else {
                ui::out(format!("{}: {}", file.display(), describe(&srs)));
            }
        }
    }
    Ok(())
}

fn describe(srs: &Srs) -> String {
    let origin = match srs.origin() {
        Origin::Insecure => "INSECURE: for development only".to_owned(),
        Origin::Ceremony(name) => format!("from {name}"),
        _ => "of unrecorded origin".to_owned(),
    };
    format!("consistent powers of one secret, k = {}, {origin}", srs.k())
}

fn store(srs: &Srs, out: &Path) -> Result<()> {
    let mut bytes = Vec::new();
    srs.write(&mut bytes)?;
    write_atomic(out, &[&bytes])?;
    Ok(())
}

/// Our own container, a `.ptau`, or raw halo2 parameters, told apart by their first bytes.
fn any(file: &Path) -> Result<Srs> {
    let mut head = [0; 8];
    let mut reader = open(file)?;
    let known = reader.read_exact(&mut head).is_ok();
    if known && head.starts_with(b"PARHSRS") {
        return Srs::read(open(file)?).with_context(|| file.display().to_string());
    }
    foreign(file, None)
}

fn foreign(file: &Path, k: Option<u32>) -> Result<Srs> {
    let mut head = [0; 4];
    let mut reader = open(file)?;
    let known = reader.read_exact(&mut head).is_ok();
    let srs = if known && &head == b"ptau" {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        Srs::import_ptau(open(file)?, k, &name)
    } else {
        Srs::read_halo2(open(file)?, PointFormat::Raw)
    };
    srs.with_context(|| format!("{}: neither a .ptau file nor raw halo2 parameters", file.display()))
}

fn open(file: &Path) -> Result<BufReader<File>> {
    Ok(BufReader::new(File::open(file).with_context(|| file.display().to_string())?))
}
