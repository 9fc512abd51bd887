//! What the record was measured on, and what that machine can do at most: one multiplication, one pass over memory.

use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use halo2curves::bn256::Fr;
use parhelion_backend_api::hal::{Ref, RefMut};
use parhelion_backend_api::{Backend, quotient::PolyOps};
use parhelion_backend_cpu::{CpuBackend, Isa};
use rayon::prelude::*;

/// The instruction sets that can run here, the fastest first.
pub(crate) fn instruction_sets() -> Vec<String> {
    let mut isas = vec!["scalar".to_owned()];
    if parhelion_backend_cpu::CpuPoly::new(Isa::Ifma).is_ok() {
        isas.insert(0, "ifma".to_owned());
    }
    isas
}

/// Lines that describe the machine and the versions of both sides.
pub(crate) fn describe() -> Vec<(&'static str, String)> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (cpu, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':'))
            .map_or_else(|| "unknown".to_owned(), |(_, v)| v.trim().to_owned())
    };
    let vectors: Vec<&str> = ["avx2", "avx512f", "avx512ifma", "adx", "bmi2"]
        .into_iter()
        .filter(|flag| field(&cpu, "flags").split_whitespace().any(|f| f == *flag))
        .collect();
    let rustc = Command::new("rustc")
        .arg("--version")
        .output()
        .map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned());
    let lock = include_str!("../../../../Cargo.lock");
    let version = |name: &str| {
        let at = lock.lines().position(|line| line == format!("name = \"{name}\""));
        let line = at.and_then(|at| lock.lines().nth(at + 1));
        line.and_then(|line| line.split('"').nth(1)).unwrap_or("not built").to_owned()
    };
    vec![
        (
            "processor",
            format!(
                "{}, family {} model {}, {} cores online, {}",
                field(&cpu, "model name"),
                field(&cpu, "cpu family"),
                field(&cpu, "model\t"),
                std::thread::available_parallelism().map_or(0, usize::from),
                vectors.join(" ")
            ),
        ),
        ("threads of both sides", rayon::current_num_threads().to_string()),
        ("memory", field(&memory, "MemTotal")),
        ("rustc", rustc.unwrap_or_else(|_| "unknown".to_owned())),
        ("parhelion", env!("CARGO_PKG_VERSION").to_owned()),
        ("halo2-axiom", version("halo2-axiom")),
        ("halo2curves-axiom", version("halo2curves-axiom")),
        (
            "arkworks",
            if cfg!(feature = "arkworks") {
                format!("ark-ec {} with asm", version("ark-ec"))
            } else {
                "not measured".to_owned()
            },
        ),
    ]
}

/// Nanoseconds per product on one thread, from the first-level cache, and GB/s of a copy on all threads (read and written bytes).
pub(crate) fn rates() -> Vec<(&'static str, &'static str, f64)> {
    let provider = {
        let backend = CpuBackend::new();
        let device = backend.probe().expect("a processor").remove(0);
        backend.open(&device).expect("a processor")
    };
    let queue = provider.space.queue().expect("host memory");
    let poly: Arc<dyn PolyOps<Fr>> = provider.poly::<Fr>().expect("the CPU offers every operation");
    let mut a: Vec<Fr> = (1..=512u64).map(|i| Fr::from(i).square()).collect();
    let b = a.clone();
    let repeat = 20_000;
    let best = |f: &mut dyn FnMut()| {
        (0..5)
            .map(|_| {
                let start = Instant::now();
                f();
                start.elapsed().as_secs_f64()
            })
            .fold(f64::INFINITY, f64::min)
    };
    let ours = best(&mut || {
        for _ in 0..repeat {
            poly.multiply(&queue, RefMut::host(&mut a), Ref::host(&b)).expect("equal lengths");
        }
    });
    let theirs = best(&mut || {
        for _ in 0..repeat {
            a.iter_mut().zip(&b).for_each(|(a, b)| *a *= b);
        }
    });
    let chain = best(&mut || {
        let mut x = a[0];
        for _ in 0..repeat * 64 {
            x *= b[1];
        }
        std::hint::black_box(x);
    });
    let from = vec![1u64; 1 << 25];
    let mut to = vec![0u64; 1 << 25];
    let copy = best(&mut || {
        to.par_chunks_mut(1 << 16)
            .zip(from.par_chunks(1 << 16))
            .for_each(|(to, from)| to.copy_from_slice(from));
        std::hint::black_box(&to);
    });
    let per = |seconds: f64, count: usize| seconds * 1e9 / count as f64;
    vec![
        ("machine: product of this path, one thread", "ns", per(ours, repeat * a.len())),
        ("machine: product of halo2curves, one thread", "ns", per(theirs, repeat * a.len())),
        ("machine: latency of a product of halo2curves", "ns", per(chain, repeat * 64)),
        ("machine: copy, all threads, read and written", "GB/s", 2.0 * 8.0 * from.len() as f64 / copy / 1e9),
    ]
}
