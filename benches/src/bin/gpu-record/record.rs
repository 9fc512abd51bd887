//! The record: a CSV file that grows, and the table made of it.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use parhelion_backend_api::DeviceInfo;

use crate::peer::PEER;

const CPU: &str = "cpu";
const HEADER: &str = "date,device,driver,threads,step,variant,backend,median_ms,least_ms,runs,note";

/// One measurement, or one answer.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) variant: String,
    pub(crate) backend: String,
    /// Milliseconds of every run.
    pub(crate) runs: Vec<f64>,
    pub(crate) note: String,
}

impl Figure {
    pub(crate) fn answer(variant: &str, backend: &str, note: String) -> Self {
        Figure { variant: variant.into(), backend: backend.into(), runs: Vec::new(), note }
    }

    fn median(&self) -> Option<f64> {
        let mut sorted = self.runs.clone();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (sorted.get(sorted.len().checked_sub(1)? / 2)?, sorted.get(sorted.len() / 2)?);
        Some((low + high) / 2.0)
    }

    fn least(&self) -> Option<f64> {
        self.runs.iter().copied().min_by(f64::total_cmp)
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<28} {:<8}", self.variant, self.backend)?;
        if let Some(median) = self.median() {
            write!(f, " {median:>12.3} ms")?;
        }
        if self.note.is_empty() { Ok(()) } else { write!(f, "  {}", self.note) }
    }
}

/// Lower case, words joined by dashes.
pub(crate) fn slug(text: &str) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-")
}

/// Year, month and day of now, in UTC.
fn today() -> String {
    let days =
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400) as i64;
    // Days since 1 March 0000 (H. Hinnant, "chrono-compatible low-level date algorithms").
    let z = days + 719_468;
    let (era, day_of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Medians of reference and device, and a note.
type Cell = (Option<f64>, Option<f64>, String);

/// A record on disk.
#[derive(Debug)]
pub(crate) struct Record {
    csv: PathBuf,
    table: PathBuf,
    device: String,
    driver: String,
}

fn field(text: &str) -> String {
    text.replace([',', '\n', '"'], ";")
}

impl Record {
    /// The record of that name, begun if there is none.
    pub(crate) fn open(dir: &Path, name: &str, info: &DeviceInfo) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let (csv, table) = (dir.join(format!("{name}.csv")), dir.join(format!("{name}.md")));
        if !csv.exists() {
            fs::write(&csv, format!("{HEADER}\n")).with_context(|| csv.display().to_string())?;
        }
        Ok(Record { csv, table, device: field(&info.name), driver: field(&info.driver) })
    }

    fn rows(&self) -> Result<Vec<Vec<String>>> {
        let text = fs::read_to_string(&self.csv).with_context(|| self.csv.display().to_string())?;
        let rows = text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
        Ok(rows.filter(|row| row.len() == HEADER.split(',').count()).collect())
    }

    /// Whether a step has been recorded on this device.
    pub(crate) fn has(&self, step: &str) -> bool {
        let rows = self.rows().unwrap_or_default();
        rows.iter().any(|row| row.get(1) == Some(&self.device) && row.get(4).is_some_and(|s| s == step))
    }

    /// Appends figures.
    pub(crate) fn add(&mut self, step: &str, figures: &[Figure]) -> Result<()> {
        let mut file = fs::OpenOptions::new().append(true).open(&self.csv)?;
        let mut text = String::new();
        for figure in figures {
            let number = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.4}"));
            writeln!(
                text,
                "{},{},{},{},{step},{},{},{},{},{},{}",
                today(),
                self.device,
                self.driver,
                rayon::current_num_threads(),
                field(&figure.variant),
                figure.backend,
                number(figure.median()),
                number(figure.least()),
                figure.runs.len(),
                field(&figure.note),
            )?;
        }
        file.write_all(text.as_bytes())?;
        Ok(())
    }

    /// Writes the table: one row per step and variant, the reference's median beside the accelerator's.
    pub(crate) fn write_table(&self) -> Result<PathBuf> {
        let rows = self.rows()?;
        let mut text = format!("# {}\n\n", self.device);
        let threads = rows.last().and_then(|row| row.get(3)).cloned().unwrap_or_default();
        let dates: std::collections::BTreeSet<&str> =
            rows.iter().filter_map(|row| row.first()).map(String::as_str).collect();
        let dates: Vec<&str> = dates.into_iter().collect();
        writeln!(
            text,
            "{}; CPU backend on {threads} threads; {}. Made by `gpu-record`; raw figures in the",
            self.driver,
            dates.join(", ")
        )?;
        writeln!(
            text,
            "CSV file of the same name. Milliseconds, medians; the reference is the CPU backend where the variant names no other; ratio = reference / accelerator.\n"
        )?;
        writeln!(
            text,
            "| step | variant | reference | accelerator | ratio | note |\n|---|---|---|---|---|---|"
        )?;
        // The last figure of a kind counts; order is that of first appearance.
        let mut order: Vec<(String, String)> = Vec::new();
        let mut cells: BTreeMap<(String, String), Cell> = BTreeMap::new();
        for row in &rows {
            let at = |i: usize| row.get(i).cloned().unwrap_or_default();
            let key = (at(4), at(5));
            if !cells.contains_key(&key) {
                order.push(key.clone());
            }
            let cell = cells.entry(key).or_default();
            let median = at(7).parse().ok();
            if [CPU, PEER].contains(&at(6).as_str()) {
                cell.0 = median
            } else {
                cell.1 = median
            }
            if !at(10).is_empty() {
                cell.2 = at(10);
            }
        }
        for key in order {
            let Some((cpu, device, note)) = cells.get(&key) else { continue };
            let number = |value: &Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.3}"));
            let ratio =
                cpu.zip(*device).map_or("–".to_owned(), |(cpu, device)| format!("{:.2}×", cpu / device));
            writeln!(
                text,
                "| {} | {} | {} | {} | {ratio} | {note} |",
                key.0,
                key.1,
                number(cpu),
                number(device)
            )?;
        }
        fs::write(&self.table, text).with_context(|| self.table.display().to_string())?;
        Ok(self.table.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parhelion_backend_api::SpaceId;
    use parhelion_backend_api::hal::MemoryInfo;

    #[test]
    fn a_record_grows_and_knows_what_it_has() {
        let dir = std::env::temp_dir().join(format!("parhelion-record-{}", std::process::id()));
        let info = DeviceInfo {
            backend: "sppark",
            space: SpaceId::HOST,
            name: "A, B".into(),
            driver: "none".into(),
            memory: MemoryInfo::default(),
            simulated: true,
        };
        let mut record = Record::open(&dir, "test", &info).unwrap();
        assert!(!record.has("msm-16"));
        let figure = |backend: &str, runs: &[f64]| Figure {
            variant: "uniform".into(),
            backend: backend.into(),
            runs: runs.to_vec(),
            note: String::new(),
        };
        record.add("msm-16", &[figure("cpu", &[30.0, 10.0, 20.0]), figure("sppark", &[5.0])]).unwrap();
        assert!(Record::open(&dir, "test", &info).unwrap().has("msm-16") && !record.has("msm-18"));
        let table = fs::read_to_string(record.write_table().unwrap()).unwrap();
        assert!(table.contains("| msm-16 | uniform | 20.000 | 5.000 | 4.00× |"), "{table}");
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(slug("sppark NVIDIA H100 80GB"), "sppark-nvidia-h100-80gb");
        assert_eq!(today().len(), 10);
    }
}
