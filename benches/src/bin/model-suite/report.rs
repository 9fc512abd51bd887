//! What is told about each model.

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use crate::process::Fault;

/// One model's result. Absent figures are those of steps that were not reached.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Outcome {
    pub(crate) name: String,
    pub(crate) verified: bool,
    pub(crate) k: Option<u64>,
    pub(crate) rows_used: Option<u64>,
    pub(crate) prove_ms: Option<f64>,
    pub(crate) keygen_ms: Option<f64>,
    pub(crate) witness_ms: Option<f64>,
    pub(crate) verify_ms: Option<f64>,
    pub(crate) peak_rss_mb: Option<f64>,
    pub(crate) proof_bytes: Option<u64>,
    pub(crate) pk_bytes: Option<u64>,
    pub(crate) max_abs_error: Option<f64>,
    pub(crate) unsupported: Vec<String>,
    pub(crate) error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ezkl_prove_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ezkl_keygen_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ezkl_k: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ezkl_peak_rss_mb: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ezkl_max_abs_error: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ezkl_error: Option<String>,
    /// ezkl's proving time over ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio: Option<f64>,
}

pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.get(sorted.len().checked_sub(1)? / 2)?, sorted.get(sorted.len() / 2)?);
    Some((low + high) / 2.0)
}

fn times(value: &Value) -> Option<f64> {
    let list: Vec<f64> = value.as_array()?.iter().filter_map(Value::as_f64).collect();
    median(&list)
}

impl Outcome {
    pub(crate) fn failed(&mut self, fault: Fault) {
        self.verified = false;
        self.error = Some(fault.to_string());
    }

    /// Takes over what our worker printed.
    pub(crate) fn take_ours(&mut self, value: Value, watched: Option<f64>) {
        let number = |key: &str| value.get(key).and_then(Value::as_f64);
        let count = |key: &str| value.get(key).and_then(Value::as_u64);
        self.verified = value.get("verified").and_then(Value::as_bool).unwrap_or(false);
        self.k = count("k");
        self.rows_used = count("rows_used");
        self.prove_ms = value.get("prove_ms").and_then(times);
        self.keygen_ms = number("keygen_ms");
        self.witness_ms = number("witness_ms");
        self.verify_ms = number("verify_ms");
        self.proof_bytes = count("proof_bytes");
        self.pk_bytes = count("pk_bytes");
        self.max_abs_error = number("max_abs_error");
        self.peak_rss_mb = match (number("peak_rss_mb"), watched) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
        self.error = value.get("error").and_then(Value::as_str).map(str::to_owned);
        let list = value.get("unsupported").and_then(Value::as_array).into_iter().flatten();
        self.unsupported = list.filter_map(Value::as_str).map(str::to_owned).collect();
    }

    /// Takes over what the ezkl driver printed.
    pub(crate) fn take_ezkl(&mut self, value: &Value) {
        let number = |key: &str| value.get(key).and_then(Value::as_f64);
        self.ezkl_prove_ms = value.get("prove_ms").and_then(times);
        self.ezkl_keygen_ms = number("keygen_ms");
        self.ezkl_k = value.get("k").and_then(Value::as_u64);
        self.ezkl_peak_rss_mb = number("peak_rss_mb");
        self.ezkl_max_abs_error = number("max_abs_error");
        self.ratio = self.ezkl_prove_ms.zip(self.prove_ms).map(|(theirs, ours)| theirs / ours);
    }

    /// One line.
    pub(crate) fn summary(&self) -> String {
        match (&self.error, self.verified) {
            (Some(e), _) => e.clone(),
            (None, true) => format!(
                "verified: k = {}, prove {:.0} ms{}",
                self.k.unwrap_or(0),
                self.prove_ms.unwrap_or(f64::NAN),
                self.ratio.map(|r| format!(", {r:.1}× ezkl")).unwrap_or_default()
            ),
            (None, false) => "not verified".into(),
        }
    }
}

#[expect(clippy::print_stdout, reason = "the report is this program's output")]
pub(crate) fn print(outcomes: &[Outcome], json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(outcomes)?);
        return Ok(());
    }
    let with_ezkl = outcomes.iter().any(|o| o.ezkl_prove_ms.is_some() || o.ezkl_error.is_some());
    let width = outcomes.iter().map(|o| o.name.len()).max().unwrap_or(4);
    print!(
        "{:width$}  {:>8} {:>3} {:>10} {:>10} {:>9} {:>9} {:>7} {:>10}",
        "model", "verified", "k", "prove ms", "keygen ms", "verify ms", "RSS MB", "proof", "max error"
    );
    println!("{}", if with_ezkl { format!("  {:>11} {:>7}", "ezkl ms", "ratio") } else { String::new() });
    let number = |v: Option<f64>, digits: usize| v.map_or("–".into(), |v| format!("{v:.digits$}"));
    for o in outcomes {
        print!(
            "{:width$}  {:>8} {:>3} {:>10} {:>10} {:>9} {:>9} {:>7} {:>10}",
            o.name,
            if o.verified { "yes" } else { "no" },
            o.k.map_or("–".into(), |k| k.to_string()),
            number(o.prove_ms, 1),
            number(o.keygen_ms, 1),
            number(o.verify_ms, 2),
            number(o.peak_rss_mb, 0),
            o.proof_bytes.map_or("–".into(), |b| b.to_string()),
            o.max_abs_error.map_or("–".into(), |e| format!("{e:.2e}")),
        );
        if with_ezkl {
            print!("  {:>11} {:>7}", number(o.ezkl_prove_ms, 0), number(o.ratio, 1));
        }
        println!();
        for node in &o.unsupported {
            println!("{:width$}    unsupported: {node}", "");
        }
        if let (Some(e), true) = (&o.error, o.unsupported.is_empty()) {
            println!("{:width$}    {e}", "");
        }
        if let Some(e) = &o.ezkl_error {
            println!("{:width$}    ezkl: {e}", "");
        }
    }
    let verified = outcomes.iter().filter(|o| o.verified).count();
    println!("{verified} of {} verified", outcomes.len());
    let ratios: Vec<f64> = outcomes.iter().filter_map(|o| o.ratio).collect();
    if let Some(ratio) = median(&ratios) {
        println!("median ratio to ezkl over {} models: {ratio:.1}", ratios.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_both_provers_meet() {
        let mut o = Outcome::default();
        o.take_ours(
            serde_json::json!({"verified": true, "k": 9, "prove_ms": [30.0, 10.0, 20.0], "peak_rss_mb": 5.0}),
            Some(7.0),
        );
        o.take_ezkl(&serde_json::json!({"prove_ms": [3000.0]}));
        assert_eq!((o.prove_ms, o.ratio, o.peak_rss_mb), (Some(20.0), Some(150.0), Some(7.0)));
        assert!(o.summary().contains("150.0× ezkl"));
    }
}
