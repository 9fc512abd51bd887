//! A worker process and the line protocol that it speaks.
//!
//! The worker prepares itself and prints `ready`. To each line on its standard input it makes one proof and prints a line. After the last it
//! prints one JSON object. Other lines are its own chatter. Every wait has a limit, after which the worker is killed.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How a worker failed.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It could not be started.
    Start(String),
    /// It ended early; what it said on standard error.
    Ended { code: Option<i32>, said: String },
    /// It took too long.
    Timeout(Duration),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::Start(why) => write!(f, "cannot start: {why}"),
            Fault::Timeout(limit) => write!(f, "no answer within {} s", limit.as_secs()),
            Fault::Ended { code: Some(code), said } => write!(f, "exit code {code}: {said}"),
            Fault::Ended { code: None, said } => write!(f, "killed by a signal (out of memory?): {said}"),
        }
    }
}

/// A running worker.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    input: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    errors: Option<JoinHandle<String>>,
    limit: Duration,
    last: Option<Value>,
    peak_kib: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
}

impl Worker {
    /// Starts the command with pipes on its three streams.
    pub(crate) fn start(mut command: Command, limit: Duration) -> Result<Self, Fault> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| Fault::Start(format!("{}: {e}", command.get_program().display())))?;
        let input = child.stdin.take();
        let (send, lines) = mpsc::channel();
        if let Some(output) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if send.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        let errors = child.stderr.take().map(|mut stream| {
            std::thread::spawn(move || {
                let mut said = Vec::new();
                // What could be read before a failure is what there is to say.
                let _ = stream.read_to_end(&mut said);
                tail(&String::from_utf8_lossy(&said))
            })
        });
        let peak_kib = Arc::new(AtomicU64::new(0));
        let done = Arc::new(AtomicBool::new(false));
        watch_memory(child.id(), peak_kib.clone(), done.clone());
        Ok(Worker { child, input, lines, errors, limit, last: None, peak_kib, done })
    }

    /// The largest resident memory seen, in MiB.
    pub(crate) fn peak_rss_mb(&self) -> Option<f64> {
        match self.peak_kib.load(Ordering::Relaxed) {
            0 => None,
            kib => Some(kib as f64 / 1024.0),
        }
    }

    /// Waits until the worker has prepared itself. A worker that has nothing to prove ends with its JSON object instead.
    pub(crate) fn ready(&mut self) -> Result<(), Fault> {
        self.until(|line| line == "ready")
    }

    /// Asks for one proof.
    pub(crate) fn proof(&mut self) -> Result<(), Fault> {
        if self.last.is_some() {
            return Ok(());
        }
        if let Some(input) = &mut self.input {
            // A worker that is gone is noticed by the missing answer.
            let _ = input.write_all(b"go\n").and_then(|()| input.flush());
        }
        self.until(|line| line.parse::<f64>().is_ok())
    }

    /// The JSON object.
    pub(crate) fn finish(&mut self) -> Result<Value, Fault> {
        self.input = None;
        if self.last.is_none() {
            self.until(|_| false)?;
        }
        self.last.take().ok_or_else(|| Fault::Start("no result".into()))
    }

    fn until(&mut self, wanted: impl Fn(&str) -> bool) -> Result<(), Fault> {
        let deadline = Instant::now() + self.limit;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if wanted(&line) => return Ok(()),
                Ok(line) => {
                    if let Ok(value @ Value::Object(_)) = serde_json::from_str(&line) {
                        self.last = Some(value);
                        return Ok(());
                    }
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    self.stop();
                    return Err(Fault::Timeout(self.limit));
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    let code = self.child.wait().ok().and_then(|s| s.code());
                    let said = self.errors.take().and_then(|t| t.join().ok()).unwrap_or_default();
                    return Err(Fault::Ended { code, said });
                }
            }
        }
    }

    fn stop(&mut self) {
        // Both fail only when the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.done.store(true, Ordering::Relaxed);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.input = None;
        self.stop();
    }
}

/// The last lines of what a process said.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    lines.iter().skip(lines.len().saturating_sub(3)).copied().collect::<Vec<_>>().join(" | ")
}

/// Follows a process's high-water mark until it ends (Linux).
fn watch_memory(pid: u32, peak: Arc<AtomicU64>, done: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        while !done.load(Ordering::Relaxed) {
            let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { break };
            let mark = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
            if let Some(kib) = mark.and_then(|l| l.trim().trim_end_matches("kB").trim().parse().ok()) {
                peak.fetch_max(kib, Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    fn shell(script: &str, limit: u64) -> Worker {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Worker::start(command, Duration::from_millis(limit)).unwrap()
    }

    #[test]
    fn speaks_the_protocol() {
        let mut w = shell("echo chatter; echo ready; read x; echo 1.5; echo '{\"a\":1}'", 10_000);
        w.ready().unwrap();
        w.proof().unwrap();
        assert_eq!(w.finish().unwrap(), serde_json::json!({"a": 1}));
    }

    #[test]
    fn a_crash_is_reported_with_what_was_said() {
        let mut w = shell("echo why >&2; exit 3", 10_000);
        let fault = w.ready().unwrap_err();
        assert!(matches!(&fault, Fault::Ended { code: Some(3), said } if said == "why"), "{fault}");
    }

    #[test]
    fn a_signal_is_told_apart() {
        let mut w = shell("kill -9 $$", 10_000);
        assert!(matches!(w.ready().unwrap_err(), Fault::Ended { code: None, .. }));
    }

    #[test]
    fn a_worker_that_hangs_is_killed() {
        let mut w = shell("exec sleep 60", 100);
        assert!(matches!(w.ready().unwrap_err(), Fault::Timeout(_)));
    }
}
