//! Operations and stages as a Chrome trace: open the file in `chrome://tracing` or Perfetto.
//!
//! The file is valid JSON after every event, so a process that ends without ceremony leaves a readable trace: an event is written
//! over the closing bracket of the array, which is written again after it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const CLOSE: &[u8] = b"\n]\n";

#[derive(Debug)]
struct Sink {
    file: File,
    empty: bool,
    threads: HashMap<ThreadId, usize>,
    broken: bool,
}

/// An open trace file, shared by every handle of an engine.
#[derive(Debug)]
pub struct Trace {
    sink: Mutex<Sink>,
}

impl Trace {
    /// Creates the file, over an existing one.
    ///
    /// # Errors
    /// The system's own.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut file = File::create(path)?;
        file.write_all(b"[")?;
        file.write_all(CLOSE)?;
        let sink = Sink { file, empty: true, threads: HashMap::new(), broken: false };
        Ok(Trace { sink: Mutex::new(sink) })
    }

    /// Records something that began `start` after the engine was made, on this thread. A file that can no longer be written
    /// gets one warning; tracing never fails an operation.
    pub fn event(&self, name: &str, category: &str, start: Duration, duration: Duration, args: &Value) {
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        let next = sink.threads.len();
        let thread = *sink.threads.entry(thread::current().id()).or_insert(next);
        let event = json!({
            "name": name,
            "cat": category,
            "ph": "X",
            "ts": start.as_secs_f64() * 1e6,
            "dur": duration.as_secs_f64() * 1e6,
            "pid": std::process::id(),
            "tid": thread,
            "args": args,
        });
        if let Err(error) = sink.write(&event)
            && !std::mem::replace(&mut sink.broken, true)
        {
            tracing::warn!("the trace file is incomplete: {error}");
        }
    }
}

impl Sink {
    fn write(&mut self, event: &Value) -> io::Result<()> {
        let mut line = Vec::with_capacity(256);
        line.extend_from_slice(if self.empty { b"\n" } else { b",\n" });
        serde_json::to_writer(&mut line, event)?;
        line.extend_from_slice(CLOSE);
        self.file.seek(SeekFrom::End(-(CLOSE.len() as i64)))?;
        self.file.write_all(&line)?;
        self.empty = false;
        Ok(())
    }
}

/// A stage of the caller, recorded in the trace when it is dropped.
#[derive(Debug)]
#[must_use = "a stage ends when it is dropped"]
pub struct Stage<'a> {
    pub(crate) trace: Option<&'a Trace>,
    pub(crate) name: &'static str,
    pub(crate) epoch: Instant,
    pub(crate) start: Instant,
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        if let Some(trace) = self.trace {
            let start = self.start.duration_since(self.epoch);
            trace.event(self.name, "stage", start, self.start.elapsed(), &json!({}));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_valid_json_after_every_event_from_every_thread() {
        let path = std::env::temp_dir().join(format!("parhelion-trace-{}.json", std::process::id()));
        let trace = Trace::create(&path).unwrap();
        let read = || serde_json::from_str::<Vec<Value>>(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert!(read().is_empty());
        for i in 0..3 {
            let start = Duration::from_micros(i);
            trace.event("a", "stage", start, start, &json!({ "i": i }));
            assert_eq!(read().len() as u64, i + 1);
        }
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        trace.event("b", "msm", Duration::ZERO, Duration::from_secs(1), &json!({}));
                    }
                });
            }
        });
        let events = read();
        assert_eq!(events.len(), 103);
        assert_eq!(events[102]["dur"], 1e6);
        std::fs::remove_file(path).unwrap();
    }
}
