//! Processor time of one input.
//!
//! libFuzzer's own limit is by the clock on the wall, which says little on a busy machine. Here an input that took long by that clock is
//! judged by the time that the process ran since shortly before it.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Most processor time of one input.
pub const LIMIT: Duration = Duration::from_secs(10);

/// How old a reading may be.
const REFRESH: Duration = Duration::from_secs(1);

/// Linux counts in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

static LAST: Mutex<Option<(Instant, Duration)>> = Mutex::new(None);

/// An input under way.
#[derive(Debug)]
pub struct Watch {
    start: Instant,
    before: Option<Duration>,
}

/// Starts the clock.
pub fn begin() -> Watch {
    let start = Instant::now();
    let Ok(mut last) = LAST.lock() else { return Watch { start, before: None } };
    match *last {
        Some((at, cpu)) if start - at < REFRESH => Watch { start, before: Some(cpu) },
        _ => {
            let before = cpu();
            *last = before.map(|cpu| (start, cpu));
            Watch { start, before }
        }
    }
}

impl Watch {
    /// Stops it.
    ///
    /// # Panics
    /// When the input took longer than [`LIMIT`].
    pub fn end(self) {
        if self.start.elapsed() <= LIMIT {
            return;
        }
        let took = match (self.before, cpu()) {
            (Some(before), Some(after)) => after.saturating_sub(before).saturating_sub(REFRESH),
            _ => self.start.elapsed(),
        };
        assert!(took <= LIMIT, "the input took {took:?} of processor time");
    }
}

/// Processor time of this process so far, where the system tells.
fn cpu() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the process, in parentheses, may hold anything; utime and stime are the 12th and 13th field after it.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    Some(TICK * ticks()?.checked_add(ticks()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read() {
        let Some(before) = cpu() else { return };
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(60) && cpu() == Some(before) {
            std::hint::black_box((0..100_000u64).sum::<u64>());
        }
        assert!(cpu().is_some_and(|after| after > before));
    }
}
