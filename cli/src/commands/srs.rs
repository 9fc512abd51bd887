//! `parhelion srs`

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, Result};
use parhelion_prover::srs::{Origin, PointFormat, Srs};
use parhelion_zkml::session::{self, Access, Security, open_limited, read_limited, write_with};
use serde_json::json;

use super::common;
use crate::args;
use crate::ui;

/// The largest ceremony's file, of 2^28 powers with all Lagrange bases, is shorter.
const LIMIT: u64 = 1 << 39;
/// What comes through a pipe is in memory.
const PIPE_LIMIT: u64 = 4 << 30;

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
            let mut srs = foreign(Reader::open(file)?, file, *k)?;
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
                let security = session::security_of(&srs.s_g2())?;
                let security = if srs.is_insecure() { Security::Insecure } else { security };
                ui::out(
                    json!({
                        "file": common::shown(file), "k": srs.k(), "consistent": true,
                        "secure": security.is_secure(), "security": security,
                        "ceremony": srs.ceremony().map(|c| c.name),
                        "origin": origin(&srs), "digest": session::to_hex(&srs.digest()),
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
    format!("consistent powers of one secret, k = {}, {}", srs.k(), origin(srs))
}

/// Where a string comes from: what is known, else what its file says.
fn origin(srs: &Srs) -> String {
    let known = srs.ceremony().map(|c| format!("the secret of {}", c.name));
    match (srs.origin(), known) {
        (Origin::Insecure, _) => "INSECURE: for development only".to_owned(),
        (Origin::Ceremony(name), Some(known)) => format!("imported from {}: {known}", name.escape_debug()),
        (_, Some(known)) => known,
        (Origin::Ceremony(name), None) => {
            format!("imported from {}, contributions not checked", name.escape_debug())
        }
        _ => "of unrecorded origin".to_owned(),
    }
}

fn store(srs: &Srs, out: &Path) -> Result<()> {
    write_with(out, Access::Default, |file| srs.write(file).map_err(anyhow::Error::from))
        .with_context(|| out.display().to_string())
}

/// Our own container, a `.ptau`, or raw halo2 parameters, told apart by their first bytes.
fn any(file: &Path) -> Result<Srs> {
    let mut reader = Reader::open(file)?;
    if reader.starts_with(b"PARHSRS")? {
        return Srs::read(reader).with_context(|| file.display().to_string());
    }
    foreign(reader, file, None)
}

fn foreign(mut reader: Reader, file: &Path, k: Option<u32>) -> Result<Srs> {
    let path = || file.display().to_string();
    if reader.starts_with(b"ptau")? {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        return Srs::import_ptau(reader, k, &name).with_context(path);
    }
    if reader.starts_with(b"PARHSRS")? {
        let srs = Srs::read(reader).with_context(path)?;
        return k.map_or(Ok(srs.clone()), |k| srs.downsize(k)).with_context(path);
    }
    Srs::read_halo2(reader, PointFormat::Raw)
        .with_context(|| format!("{}: neither a .ptau file nor raw halo2 parameters", path()))
}

/// A file that is opened once: a pipe, which has no second beginning, is taken into memory.
enum Reader {
    File(BufReader<File>),
    Memory(Cursor<Vec<u8>>),
}

impl Reader {
    fn open(path: &Path) -> Result<Self> {
        if std::fs::metadata(path).is_ok_and(|m| m.is_file()) {
            return Ok(Reader::File(open_limited(path, LIMIT)?.0));
        }
        Ok(Reader::Memory(Cursor::new(read_limited(path, PIPE_LIMIT)?)))
    }

    /// Whether these are the first bytes. The place in the file is its start before and after.
    fn starts_with(&mut self, magic: &[u8]) -> Result<bool> {
        let mut head = Vec::new();
        self.by_ref().take(magic.len() as u64).read_to_end(&mut head)?;
        self.rewind()?;
        Ok(head == magic)
    }
}

impl Read for Reader {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Reader::File(file) => file.read(bytes),
            Reader::Memory(bytes_read) => bytes_read.read(bytes),
        }
    }
}

impl Seek for Reader {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        match self {
            Reader::File(file) => file.seek(to),
            Reader::Memory(bytes) => bytes.seek(to),
        }
    }
}
