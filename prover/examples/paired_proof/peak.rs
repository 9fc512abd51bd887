//! Peak memory of one proof, in a process of its own.
//!
//! The parent makes the reference string and the key once and writes them to files; each child reads the same files, so that
//! both provers hold the same key and the same string when the proof begins. The kernel's high-water mark of the resident
//! set is reset at that moment (Linux: `5` to `/proc/self/clear_refs`), so neither key generation nor reading counts.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use halo2_axiom::SerdeFormat;
use halo2_axiom::poly::kzg::commitment::ParamsKZG;
use halo2curves::bn256::Bn256;
use parhelion_prover::srs::PointFormat;
use parhelion_prover::{KeygenOptions, PreparedKey, ProvingKey, Srs, keygen};
use tracing::field::{Field, Visit};

use super::circuits::Wide;
use super::proofs::{our_proof, shape, their_proof};

/// What the kernel saw of a child, in MiB.
pub(crate) struct Peak {
    /// When the proof began, key and reference string loaded.
    pub(crate) before_mb: f64,
    /// At most, from then on.
    pub(crate) peak_mb: f64,
}

/// Ours and theirs.
pub(crate) fn compare(name: &str, circuit: Wide) -> [Peak; 2] {
    let dir = std::env::temp_dir().join(format!("parhelion-peak-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    write_files(&dir, circuit);
    let sides = ["ours", "theirs"].map(|side| {
        let exe = std::env::current_exe().unwrap();
        let out = Command::new(exe).args(["--child", side, name]).arg(&dir).output().unwrap();
        eprint!("{}", String::from_utf8_lossy(&out.stderr));
        let text = String::from_utf8_lossy(&out.stdout);
        let line: serde_json::Value =
            text.lines().last().and_then(|l| serde_json::from_str(l).ok()).expect("a child's line");
        let mb = |field: &str| line[field].as_f64().unwrap() / 1024.0;
        Peak { before_mb: mb("loaded_kb"), peak_mb: mb("peak_kb") }
    });
    std::fs::remove_dir_all(&dir).unwrap();
    sides
}

/// Runs a child's part, if the arguments are a child's.
pub(crate) fn is_child(args: &[String]) -> bool {
    let [flag, side, name, dir, ..] = args else { return false };
    if flag != "--child" {
        return false;
    }
    child(side, shape(name).unwrap(), dir.as_ref(), std::env::var_os("PEAK_STAGES").is_some());
    true
}

fn paths(dir: &Path) -> [PathBuf; 2] {
    [dir.join("srs"), dir.join("pk")]
}

fn write_files(dir: &Path, circuit: Wide) {
    let [srs_path, pk_path] = paths(dir);
    let srs = Srs::insecure_from_seed(circuit.k, 1).unwrap();
    let engine = parhelion_backends::default_engine().expect("an engine");
    let pk = keygen(engine, &srs, &circuit, KeygenOptions::default()).unwrap();
    srs.write_halo2(BufWriter::new(File::create(srs_path).unwrap()), PointFormat::RawTrusted).unwrap();
    let mut file = BufWriter::new(File::create(pk_path).unwrap());
    pk.write(&mut file, SerdeFormat::RawBytesUnchecked).unwrap();
    file.flush().unwrap();
}

/// A child: reads, proves, prints what the kernel saw.
fn child(side: &str, circuit: Wide, dir: &Path, stages: bool) {
    let [srs_path, pk_path] = paths(dir);
    let open = |path: &Path| BufReader::new(File::open(path).unwrap());
    let pk = |_: ()| {
        ProvingKey::read::<_, Wide>(&mut open(&pk_path), SerdeFormat::RawBytesUnchecked, circuit.shape)
            .unwrap()
    };
    let loaded;
    if side == "ours" {
        let engine = parhelion_backends::default_engine().expect("an engine");
        let srs = Srs::read_halo2(open(&srs_path), PointFormat::RawTrusted).unwrap();
        let key = PreparedKey::new(engine, &srs, pk(())).unwrap();
        drop(srs);
        if stages {
            tracing::subscriber::set_global_default(Stages(Mutex::new(()))).unwrap();
        }
        loaded = reset();
        let _report = our_proof(engine, &key, circuit);
    } else {
        let params =
            ParamsKZG::<Bn256>::read_custom(&mut open(&srs_path), SerdeFormat::RawBytesUnchecked).unwrap();
        let pk = pk(());
        loaded = reset();
        their_proof(&params, &pk, circuit);
    }
    println!("{}", serde_json::json!({ "loaded_kb": loaded, "peak_kb": high_water() }));
}

/// Resets the high-water mark; gives the resident set of this moment in KiB.
fn reset() -> u64 {
    std::fs::write("/proc/self/clear_refs", "5").expect("Linux");
    status("VmRSS:")
}

fn high_water() -> u64 {
    status("VmHWM:")
}

fn status(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = text.lines().find_map(|line| line.strip_prefix(field)).expect("a field of Linux");
    line.trim().trim_end_matches("kB").trim().parse().expect("KiB")
}

/// Prints the high-water mark of every stage.
struct Stages(Mutex<()>);

struct Name(String);

impl Visit for Name {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "stage" {
            self.0 = format!("{value:?}");
        }
    }
}

impl tracing::Subscriber for Stages {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "parhelion::stage"
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut name = Name(String::new());
        event.record(&mut name);
        let _guard = self.0.lock();
        let peak = high_water();
        let now = reset();
        eprintln!(
            "{:<18} peak {:>9.1} MB, then {:>9.1} MB, of which files {:>7.1} MB",
            name.0,
            peak as f64 / 1024.0,
            now as f64 / 1024.0,
            status("RssFile:") as f64 / 1024.0
        );
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}
