//! What a person sees: progress and logs on standard error, tables on standard output.

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::args::Global;

static BAR: OnceLock<ProgressBar> = OnceLock::new();

/// Logs go through the progress bar, so that neither overwrites the other.
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match BAR.get() {
            Some(bar) => bar.suspend(|| std::io::stderr().write(bytes)),
            None => std::io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

struct MakeStderr;

impl<'a> MakeWriter<'a> for MakeStderr {
    type Writer = Stderr;

    fn make_writer(&'a self) -> Stderr {
        Stderr
    }
}

/// Starts logging, and progress if standard error is a terminal.
pub(crate) fn init(global: &Global) -> Result<()> {
    let level = match (global.quiet, global.verbose) {
        (true, _) => "error",
        (_, 0) => "warn",
        (_, 1) => "info",
        (_, 2) => "debug",
        _ => "trace",
    };
    let filter = match std::env::var("RUST_LOG") {
        Ok(set) => EnvFilter::try_new(&set).map_err(|e| anyhow::anyhow!("RUST_LOG={set}: {e}"))?,
        // The importer's own warnings are about parts of a graph that it goes on to handle.
        Err(_) => EnvFilter::new(level),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(MakeStderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        .try_init()
        .map_err(|e| anyhow::anyhow!("cannot start logging: {e}"))?;
    if !global.quiet && std::io::stderr().is_terminal() {
        let bar = ProgressBar::new_spinner();
        bar.set_style(ProgressStyle::with_template("{spinner} {msg} [{elapsed}]")?);
        bar.enable_steady_tick(Duration::from_millis(100));
        // `init` runs once.
        let _ = BAR.set(bar);
    } else if !global.quiet {
        watch();
    }
    Ok(())
}

/// What is going on, and since when; for those who have no progress line.
static NOW: Mutex<Option<(String, Instant)>> = Mutex::new(None);

/// After these many seconds a step is named where there is no progress line; then every minute.
const PATIENCE: u64 = 10;

/// Names steps that take long on standard error, if it is no terminal.
fn watch() {
    std::thread::spawn(|| {
        let mut told = None;
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let now = NOW.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let Some((name, start)) = now else { continue };
            let seconds = start.elapsed().as_secs();
            let due = if seconds < 60 { PATIENCE } else { seconds / 60 * 60 };
            if seconds >= due && told != Some((start, due)) {
                told = Some((start, due));
                // Nobody has to read it.
                let _ = writeln!(std::io::stderr(), "{name} … {seconds} s");
            }
        }
    });
}

/// Says what is going on.
pub(crate) fn phase(name: impl Into<String>) {
    let name = name.into();
    tracing::info!("{name}");
    *NOW.lock().unwrap_or_else(PoisonError::into_inner) = Some((name.clone(), Instant::now()));
    if let Some(bar) = BAR.get() {
        bar.set_message(name);
    }
}

/// Says how far a long step is.
pub(crate) fn progress(done: usize, of: usize, what: impl Into<String>) {
    let what = what.into();
    tracing::info!("{done} of at most {of}: {what}");
    let Some(bar) = BAR.get() else { return };
    if bar.length().is_none() {
        let line = "{spinner} [{bar:24}] {pos}/{len} {msg} [{elapsed}]";
        if let Ok(style) = ProgressStyle::with_template(line) {
            bar.set_style(style.progress_chars("━╸ "));
        }
    }
    bar.set_length(of as u64);
    bar.set_position(done as u64);
    bar.set_message(what);
}

/// Takes the progress line away.
pub(crate) fn clear() {
    if let Some(bar) = BAR.get() {
        bar.finish_and_clear();
    }
}

/// Why standard output did not take what it was given.
static LOST: OnceLock<std::io::Error> = OnceLock::new();

/// Writes a line to standard output. What cannot be written is remembered for [`finish`]: files that a command writes come first.
pub(crate) fn out(line: impl AsRef<str>) {
    clear();
    raw(format!("{}\n", line.as_ref()).as_bytes());
}

/// Writes bytes to standard output, as [`out`].
pub(crate) fn raw(bytes: &[u8]) {
    let mut stdout = std::io::stdout();
    if LOST.get().is_none()
        && let Err(e) = stdout.write_all(bytes).and_then(|()| stdout.flush())
    {
        // The first error is the one that is told.
        let _ = LOST.set(e);
    }
}

/// Whether standard output took everything. A reader that went away (`| head`) knows that it did.
pub(crate) fn finish() -> Result<bool> {
    match LOST.get() {
        None => Ok(true),
        Some(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Some(e) => Err(anyhow::anyhow!("standard output: {e}")),
    }
}

/// Writes a JSON object to standard output. Strings in it may be anybody's: what could steer a terminal is escaped.
pub(crate) fn json(value: &serde_json::Value) {
    let mut text = String::new();
    for c in value.to_string().chars() {
        // Outside strings, the text is ASCII without any of these; below U+0020 the serialiser has escaped them.
        if matches!(c, '\u{7f}'..='\u{9f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        {
            text += &format!("\\u{:04x}", u32::from(c));
        } else {
            text.push(c);
        }
    }
    out(text);
}

/// Aligned columns: numbers to the right, everything else to the left.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<S: Into<String>>(head: impl IntoIterator<Item = S>) -> Self {
        Table { rows: vec![head.into_iter().map(Into::into).collect()] }
    }

    pub(crate) fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    pub(crate) fn print(&self) {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |c: usize| self.rows.iter().filter_map(|r| r.get(c)).map(|s| s.chars().count()).max();
        let widths: Vec<usize> = (0..columns).map(|c| width(c).unwrap_or(0)).collect();
        let numeric = |cell: &String| cell.starts_with(|c: char| c.is_ascii_digit() || "-–".contains(c));
        let right: Vec<bool> = (0..columns)
            .map(|c| {
                let mut cells = self.rows.iter().skip(1).filter_map(|r| r.get(c)).filter(|s| !s.is_empty());
                c > 0 && cells.all(numeric)
            })
            .collect();
        for (i, row) in self.rows.iter().enumerate() {
            let mut line = String::new();
            for (c, ((cell, w), right)) in row.iter().zip(&widths).zip(&right).enumerate() {
                let gap = " ".repeat(w - cell.chars().count());
                let between = if c == 0 { "" } else { "  " };
                line +=
                    &if *right { format!("{between}{gap}{cell}") } else { format!("{between}{cell}{gap}") };
            }
            out(line.trim_end());
            if i == 0 {
                out("─".repeat(widths.iter().sum::<usize>() + 2 * (columns.max(1) - 1)));
            }
        }
    }
}

/// A duration for people: three significant digits.
pub(crate) fn ms(value: f64) -> String {
    match value {
        v if v >= 10_000.0 => format!("{:.1} s", v / 1000.0),
        v if v >= 1_000.0 => format!("{:.2} s", v / 1000.0),
        v if v >= 100.0 => format!("{v:.0} ms"),
        v if v >= 10.0 => format!("{v:.1} ms"),
        v => format!("{v:.2} ms"),
    }
}

/// A size for people.
pub(crate) fn bytes(value: u64) -> String {
    match value {
        v if v < 10_000 => format!("{v} B"),
        v if v < 10_000_000 => format!("{:.1} KB", v as f64 / 1e3),
        v if v < 10_000_000_000 => format!("{:.1} MB", v as f64 / 1e6),
        v => format!("{:.1} GB", v as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_read_well() {
        assert_eq!(ms(0.5), "0.50 ms");
        assert_eq!(ms(12_345.0), "12.3 s");
        assert_eq!(bytes(3072), "3072 B");
        assert_eq!(bytes(4_400_000_000), "4400.0 MB");
    }
}
