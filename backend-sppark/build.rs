//! Compiles the kernels: by nvcc with the feature `cuda`, as plain C++ with `host-emulation`, not at all without either.
#![allow(clippy::print_stdout, reason = "Cargo listens")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The files that the library is made of.
const SOURCES: [&str; 12] = [
    "api.cu",
    "api.h",
    "curve.cuh",
    "emulation.cpp",
    "field.cuh",
    "msm.cuh",
    "ntt.cuh",
    "platform.cuh",
    "poly.cuh",
    "quotient.cuh",
    "stream.cuh",
    "../build.rs",
];

fn main() {
    for source in SOURCES {
        println!("cargo:rerun-if-changed=kernels/{source}");
    }
    if env::var_os("CARGO_FEATURE_CUDA").is_some()
        && let Err(why) = cuda()
    {
        println!("cargo::error={}", why.replace('\n', "%0A"));
    }
    #[cfg(feature = "host-emulation")]
    emulation();
}

/// The kernels as plain C++.
#[cfg(feature = "host-emulation")]
fn emulation() {
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .opt_level(3)
        .flag_if_supported("-Wno-psabi")
        .file("kernels/emulation.cpp")
        .compile("parhelion_sppark_emulation");
    let archive = out_dir().map(|dir| dir.join("libparhelion_sppark_emulation.a")).unwrap_or_default();
    println!("cargo:rustc-env=PARHELION_SPPARK_EMULATION={}", archive.display());
}

fn out_dir() -> Result<PathBuf, String> {
    env::var_os("OUT_DIR").map(PathBuf::from).ok_or_else(|| "OUT_DIR is not set".into())
}

/// The kernels for NVIDIA cards, with the runtime linked statically: the program needs the driver and nothing else.
fn cuda() -> Result<(), String> {
    for name in ["NVCC", "CUDA_HOME", "CUDA_PATH", "VIRTUAL_ENV", "PATH", "PARHELION_CUDA_ARCHS"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let nvcc = find_nvcc()?;
    let headers =
        env::var_os("DEP_SPPARK_ROOT").ok_or("the crate sppark did not say where its headers are")?;
    let archs = env::var("PARHELION_CUDA_ARCHS").unwrap_or_default();
    let archs = if archs.trim().is_empty() { "sm_80;sm_90" } else { archs.as_str() };
    let out = out_dir()?;
    let object = out.join("api.o");
    let mut compile = Command::new(&nvcc);
    compile.args(["-std=c++17", "-O3", "-Xcompiler", "-fPIC", "--threads", "0", "-I"]).arg(&headers);
    let mut newest = None;
    for arch in archs.split([';', ',']).map(str::trim).filter(|arch| !arch.is_empty()) {
        let number = arch
            .strip_prefix("sm_")
            .filter(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_alphanumeric()));
        let number =
            number.ok_or_else(|| format!("PARHELION_CUDA_ARCHS: {arch}: expected sm_80, sm_90, …"))?;
        compile.arg("-gencode").arg(format!("arch=compute_{number},code=sm_{number}"));
        newest = newest.max(Some(number.to_owned()));
    }
    // Later cards compile this when they first run it.
    if let Some(number) = newest {
        compile.arg("-gencode").arg(format!("arch=compute_{number},code=compute_{number}"));
    }
    compile.arg("-c").arg("kernels/api.cu").arg("-o").arg(&object);
    run(&mut compile)?;
    let archive = out.join("libparhelion_sppark_cuda.a");
    if archive.exists() {
        fs::remove_file(&archive).map_err(|error| format!("{}: {error}", archive.display()))?;
    }
    let ar = env::var_os("AR").unwrap_or_else(|| "ar".into());
    run(Command::new(ar).arg("crs").arg(&archive).arg(&object))?;
    println!("cargo:rustc-env=PARHELION_SPPARK_CUDA={}", archive.display());
    println!("cargo:rustc-link-search=native={}", out.display());
    println!("cargo:rustc-link-lib=static=parhelion_sppark_cuda");
    println!("cargo:rustc-link-search=native={}", runtime(&nvcc)?.display());
    println!("cargo:rustc-link-lib=static:-bundle=cudart_static");
    for library in ["stdc++", "dl", "rt", "pthread"] {
        println!("cargo:rustc-link-lib={library}");
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?} failed ({}):\n{text}", output.status))
}

/// `NVCC`, `CUDA_HOME` or `CUDA_PATH`, the search path, the active virtual environment: the first that is there.
fn find_nvcc() -> Result<PathBuf, String> {
    let search_path = env::var_os("PATH").unwrap_or_default();
    let on_path =
        |name: &Path| env::split_paths(&search_path).map(|dir| dir.join(name)).find(|file| file.is_file());
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    if let Some(named) = set("NVCC").filter(|value| value != "off").map(PathBuf::from) {
        let found = if named.components().count() == 1 { on_path(&named) } else { Some(named.clone()) };
        let found = found.filter(|file| file.is_file());
        return found.ok_or_else(|| format!("NVCC={}: no such file", named.display()));
    }
    for name in ["CUDA_HOME", "CUDA_PATH"] {
        if let Some(home) = set(name).map(PathBuf::from) {
            let nvcc = home.join("bin").join("nvcc");
            return if nvcc.is_file() {
                Ok(nvcc)
            } else {
                Err(format!("{name}: {} is not there", nvcc.display()))
            };
        }
    }
    if let Some(nvcc) = on_path(Path::new("nvcc")) {
        return Ok(nvcc);
    }
    if let Some(nvcc) = set("VIRTUAL_ENV").and_then(|env| in_environment(Path::new(&env))) {
        return Ok(nvcc);
    }
    Err("the feature `cuda` of parhelion-backend-sppark needs a CUDA compiler, and there is no nvcc: set NVCC or CUDA_HOME, put it on \
         the search path, or get it from PyPI by scripts/cuda-toolkit.sh"
        .into())
}

/// nvcc of the package `nvidia-cuda-nvcc` in a Python environment.
fn in_environment(environment: &Path) -> Option<PathBuf> {
    let entries = |dir: PathBuf, prefix: &'static str| {
        let found = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        found.filter(move |path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
        })
    };
    let packages =
        entries(environment.join("lib"), "python").map(|dir| dir.join("site-packages").join("nvidia"));
    let mut toolkits: Vec<PathBuf> = packages.flat_map(|dir| entries(dir, "cu1")).collect();
    toolkits.sort();
    toolkits.into_iter().rev().map(|dir| dir.join("bin").join("nvcc")).find(|file| file.is_file())
}

/// The directory of `libcudart_static.a`.
fn runtime(nvcc: &Path) -> Result<PathBuf, String> {
    let nvcc = nvcc.canonicalize().map_err(|error| format!("{}: {error}", nvcc.display()))?;
    let home = nvcc.parent().and_then(Path::parent).ok_or("nvcc has no home")?;
    let target = if env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "aarch64") {
        "sbsa-linux"
    } else {
        "x86_64-linux"
    };
    let places = [home.join("lib64"), home.join("lib"), home.join("targets").join(target).join("lib")];
    let found = places.iter().find(|dir| dir.join("libcudart_static.a").is_file());
    found.cloned().ok_or_else(|| format!("libcudart_static.a is not under {}", home.display()))
}
