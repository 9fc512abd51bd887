//! Going on after a finding, to see what else there is: one input per line of the source that panics.

use std::collections::BTreeSet;
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

/// Where the last panic was, and which lines have been kept.
static SEEN: Mutex<(String, BTreeSet<String>)> = Mutex::new((String::new(), BTreeSet::new()));

/// The directory that the environment names.
pub(crate) fn directory() -> Option<&'static PathBuf> {
    static DIR: OnceLock<Option<PathBuf>> = OnceLock::new();
    DIR.get_or_init(|| std::env::var_os("PARHELION_FUZZ_SURVEY").map(PathBuf::from)).as_ref()
}

/// Takes over from the hook that aborts.
pub(crate) fn begin() {
    if directory().is_none() {
        return;
    }
    panic::set_hook(Box::new(|info| {
        let Some(at) = info.location() else { return };
        let file = at.file().rsplit("/src/").next().unwrap_or_default().replace('/', "-");
        let name = format!("{file}-{}", at.line());
        let Ok(mut seen) = SEEN.lock() else { return };
        if !seen.1.contains(&name) {
            let stack = std::backtrace::Backtrace::force_capture().to_string();
            let ours: Vec<&str> = stack.lines().filter(|l| l.contains("parhelion")).take(6).collect();
            eprintln!("finding: {info}\n{}", ours.join("\n"));
        }
        seen.0 = name;
    }));
}

/// Keeps the input of the last panic, where it is the first at its line.
pub(crate) fn keep(dir: &Path, bytes: &[u8]) {
    let Ok(mut seen) = SEEN.lock() else { return };
    let name = std::mem::take(&mut seen.0);
    let path = dir.join(&name);
    if seen.1.insert(name)
        && std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&path, bytes)).is_err()
    {
        eprintln!("{} is not written", path.display());
    }
}
