//! Links without a CUDA driver, so that the program can be built where there is no card: the runtime from `CUDA_HOME`, statically, and, where no `libcuda.so` is
//! found, a stand-in with its name and the symbols in `driver-symbols.txt`. The real one is loaded where the program runs.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=driver-symbols.txt");
    println!("cargo:rerun-if-env-changed=CUDA_HOME");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo:rustc-link-search=native={}", out.display());
    // What asks for the shared runtime gets the static one.
    fs::write(out.join("libcudart.so"), "INPUT(-lcudart_static)\n")?;
    let home = env::var("CUDA_HOME").unwrap_or_else(|_| "/usr/local/cuda".into());
    for dir in ["lib64", "lib"] {
        let dir = Path::new(&home).join(dir);
        if dir.join("libcudart_static.a").exists() {
            println!("cargo:rustc-link-search=native={}", dir.display());
        }
    }
    let system = ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib/aarch64-linux-gnu"];
    if system.iter().any(|dir| Path::new(dir).join("libcuda.so").exists()) {
        return Ok(());
    }
    let symbols = fs::read_to_string("driver-symbols.txt")?;
    let stand_in: String =
        symbols.lines().map(|symbol| format!("int {symbol}(void) {{ return 1; }}\n")).collect();
    let source = out.join("libcuda.c");
    fs::write(&source, stand_in)?;
    let built = Command::new(env::var("CC").unwrap_or_else(|_| "cc".into()))
        .args(["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o"])
        .arg(out.join("libcuda.so"))
        .arg(&source)
        .status()?;
    if built.success() { Ok(()) } else { Err(format!("the C compiler: {built}").into()) }
}
