//! Another prover on the same card: a program that proves the same circuit on request (`benches/peer-gpu`), in turn with ours.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use parhelion_backend_api::Provider;
use parhelion_dispatch::{Checks, Policy, Settings};
use parhelion_prover::{Engine, KeygenOptions, Multiopen, PreparedKey, Srs, keygen};

use crate::circuit::Mixed;
use crate::proofs::Prepared;
use crate::record::Figure;

/// What the program times.
pub(crate) const PEER: &str = "halo2-axiom-gpu";

/// The program, running.
struct Peer {
    child: Child,
    ask: Option<ChildStdin>,
    answer: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts the program and waits until its keys are made.
    fn start(program: &Path, k: u32) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg(k.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| program.display().to_string())?;
        let (ask, answer) = (child.stdin.take(), child.stdout.take().context("no output")?);
        let mut peer = Peer { child, ask, answer: BufReader::new(answer) };
        match peer.line()?.as_str() {
            "ready" => Ok(peer),
            other => bail!("{}: `{other}` where `ready` is expected", program.display()),
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.answer.read_line(&mut line)? == 0 {
            bail!("the other prover ended: {}", self.child.wait()?);
        }
        Ok(line.trim().to_owned())
    }

    /// Milliseconds and bytes of a proof.
    fn prove(&mut self) -> Result<(f64, usize)> {
        let ask = self.ask.as_mut().context("no input")?;
        writeln!(ask, "prove")?;
        ask.flush()?;
        let line = self.line()?;
        let (time, bytes) = line.split_once(' ').with_context(|| line.clone())?;
        Ok((time.parse()?, bytes.parse()?))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The end of its input ends it; it holds memory of the card until then.
        self.ask = None;
        let _ = self.child.wait();
    }
}

/// Proofs of 2^k rows, ours and theirs in turn, after one of each that does not count.
pub(crate) fn against(
    program: &Path,
    cpu: &Provider,
    device: &Provider,
    backend: &str,
    k: u32,
    runs: u32,
) -> Result<Vec<Figure>> {
    let mut peer = Peer::start(program, k)?;
    let srs = Srs::insecure_from_seed(k, 7)?;
    let circuit = Mixed::new(k);
    let engine = Engine::new(vec![cpu.clone(), device.clone()]);
    let policy = Policy { checks: Checks::OFF, ..Policy::prefer([backend, "cpu"]) };
    let engine = engine.configure(Settings { policy, ..Settings::default() })?;
    let pk = keygen(&Engine::new(vec![cpu.clone()]), &srs, &circuit, KeygenOptions::default())?;
    let key = Prepared(PreparedKey::new(&engine, &srs, pk)?);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut bytes = [0; 2];
    for run in 0..=runs {
        let start = Instant::now();
        let (proof, _) = key.prove(&engine, &circuit, &[], Multiopen::Shplonk)?;
        let time = start.elapsed().as_secs_f64() * 1e3;
        let (peer_time, peer_bytes) = peer.prove()?;
        bytes = [proof.len(), peer_bytes];
        if run > 0 {
            ours.push(time);
            theirs.push(peer_time);
        }
    }
    let variant = format!("12 + 6 columns, reference {PEER}");
    let note = format!("{} bytes, theirs {}; in turn", bytes[0], bytes[1]);
    Ok(vec![
        Figure { variant: variant.clone(), backend: PEER.into(), runs: theirs, note: String::new() },
        Figure { variant, backend: backend.into(), runs: ours, note },
    ])
}
