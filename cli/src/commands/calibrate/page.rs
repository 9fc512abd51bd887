//! The report as one page that needs nothing else: no scripts, no fonts, no other files.

use std::collections::HashMap;
use std::fmt::Write;

use parhelion_zkml::quant::QuantOptions;
use parhelion_zkml::quant::calibrate::{Calibrated, Goal, Metric, Trial};

use super::svg::{Mark, bars, escape, histogram, scatter, short, tick};

/// Most layers in the plot of errors.
const LAYERS: usize = 48;
/// Most histograms.
const HISTOGRAMS: usize = 36;

const STYLE: &str = r":root{--paper:#fbfaf8;--ink:#1c1b1a;--soft:#6b6762;--line:#e4e0da;--card:#ffffff;--a:#2f6db5;--b:#c2571a;--grey:#b9b3ab}
@media (prefers-color-scheme:dark){:root{--paper:#171614;--ink:#eceae6;--soft:#a19c94;--line:#34312d;--card:#201f1c;--a:#7fb2ea;--b:#f0935a;--grey:#5d5850}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans',sans-serif}
main{max-width:860px;margin:0 auto;padding:40px 24px 72px}h1{font-size:1.75rem;line-height:1.2;margin:0 0 4px}h2{font-size:1.15rem;margin:44px 0 6px}
p{margin:6px 0 14px;max-width:68ch}.soft{color:var(--soft)}code{font:0.9em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(180px,1fr));gap:12px;margin:24px 0 8px}.tile{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px}
.tile b{display:block;font-size:1.45rem;line-height:1.25;font-variant-numeric:tabular-nums}.tile span{color:var(--soft);font-size:.86rem}
figure{margin:12px 0;background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px}svg{display:block;width:100%;height:auto;font:12px system-ui,sans-serif}
.grid{stroke:var(--line)}.axis{stroke:var(--soft)}.zero{stroke:var(--soft);stroke-dasharray:2 3}.tick{fill:var(--soft);font-variant-numeric:tabular-nums}.label{fill:var(--soft)}.name{fill:var(--ink)}
.bar{fill:var(--a)}.bound{stroke:var(--b);stroke-dasharray:6 4}.boundname{fill:var(--b)}.kept{fill:var(--a);fill-opacity:.65}.refused{fill:var(--grey);fill-opacity:.6}.start{fill:var(--b)}
.chosen{fill:none;stroke:var(--ink);stroke-width:2.5}.key{display:flex;flex-wrap:wrap;gap:4px 20px;color:var(--soft);font-size:.86rem;margin:4px 2px 0}.key svg{display:inline-block;width:14px;height:14px;vertical-align:-2px;margin-right:6px}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}th,td{text-align:right;padding:5px 10px;border-bottom:1px solid var(--line)}th{color:var(--soft);font-weight:500}th:first-child,td:first-child{text-align:left;overflow-wrap:anywhere}
.scroll{overflow-x:auto}.many{display:grid;grid-template-columns:repeat(auto-fill,minmax(200px,1fr));gap:12px}.many figure{margin:0;padding:10px 12px}.many figcaption{font-size:.8rem;overflow-wrap:anywhere;margin-bottom:4px}";

/// A loss as people read it.
fn loss(metric: Metric, v: f64) -> String {
    match metric {
        Metric::Top1 => format!("{v:.2} points"),
        _ => format!("{v:.1e}"),
    }
}

fn tile(s: &mut String, number: &str, what: &str) {
    let _ = write!(s, "<div class=\"tile\"><b>{}</b><span>{}</span></div>", escape(number), escape(what));
}

/// The page.
pub(super) fn page(model: &str, goal: &Goal, c: &Calibrated) -> String {
    let (was, size) = &c.baseline;
    let metric = goal.metric;
    let found = c.score.loss(metric);
    let mut s = String::with_capacity(1 << 16);
    let _ = write!(
        s,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>Calibration of {0}</title><style>{STYLE}</style></head><body><main>\
         <h1>Calibration of <code>{0}</code></h1>",
        escape(short(model, 60).as_str())
    );
    let what = match metric {
        Metric::Top1 => "points of top-1 against the float model",
        Metric::MaxAbs => "as the greatest deviation of an output",
        Metric::Mse => "as the mean squared deviation of the outputs",
    };
    let _ = write!(
        s,
        "<p class=\"soft\">Goal: lose at most {} {what}, over {} samples{}. {} circuits were tried.</p>",
        tick(goal.budget),
        c.score.samples,
        c.held_out.map_or(String::new(), |h| format!("; {} more took no part in the search", h.samples)),
        c.trials.len()
    );
    s += "<div class=\"tiles\">";
    tile(&mut s, &loss(metric, found), "lost on the samples");
    if let Some(h) = &c.held_out {
        tile(&mut s, &loss(metric, h.loss(metric)), "lost on samples that took no part");
    }
    if metric == Metric::Top1 {
        tile(&mut s, &format!("{:.2} %", c.score.top1), &format!("top-1; float {:.2} %", c.score.float_top1));
    }
    tile(&mut s, &c.size.rows.to_string(), &format!("rows; {} at the default precision", size.rows));
    tile(&mut s, &format!("2^{}", c.size.k), &format!("rows of the circuit; 2^{} before", size.k));
    let change = 100.0 * (c.size.cost / size.cost - 1.0);
    tile(&mut s, &format!("{change:+.0} %"), "predicted proving cost, against the default");
    s += "</div>";
    let _ = match c.quantised.restricted.len() {
        0 => write!(
            s,
            "<p>Every input can be proven: range checks admit whatever inputs within their range lead to, and elements past their range are moved to its end.</p>"
        ),
        n => write!(
            s,
            "<p>{n} layers check a range with a margin of {}× over what the samples and variations of them reach. Elements of an input past their range are moved to its end; an input that drives a layer out of its range is refused by name before anything is proven.</p>",
            c.options.headroom
        ),
    };
    accuracy(&mut s, goal, c, was.loss(metric));
    errors(&mut s, c);
    ranges(&mut s, c);
    options(&mut s, c);
    s + "</main></body></html>\n"
}

fn accuracy(s: &mut String, goal: &Goal, c: &Calibrated, before: f64) {
    let metric = goal.metric;
    let title = |t: &Trial, l: f64| {
        let o = &t.options;
        let rows = t.size.map_or(String::new(), |z| format!(", {} rows, k = {}", z.rows, z.k));
        format!(
            "inputs {}, activations {}, weights {}, outputs {} bits: {}{rows}",
            o.input_bits,
            o.activation_bits,
            o.weight_bits,
            o.output_bits,
            loss(metric, l)
        )
    };
    let base = c.baseline.1.cost;
    let mut marks: Vec<Mark> = c
        .trials
        .iter()
        .filter_map(|t| {
            let l = t.score?.loss(metric);
            let kept = l <= goal.budget && t.score?.failed == 0;
            Some(Mark {
                x: t.size?.cost / base,
                y: l,
                class: if kept { "kept" } else { "refused" },
                title: title(t, l),
            })
        })
        .collect();
    marks.push(Mark { x: 1.0, y: before, class: "start", title: "the default precision".into() });
    let (x, y) = (c.size.cost / base, c.score.loss(metric));
    marks.push(Mark { x, y, class: "chosen", title: "chosen".into() });
    let refused = c.trials.iter().filter(|t| t.size.is_none()).count();
    let grey = match marks.iter().any(|m| m.class == "refused") {
        true => {
            "<span><svg viewBox=\"0 0 14 14\"><circle class=\"refused\" cx=\"7\" cy=\"7\" r=\"4\"/></svg>past the bound</span>"
        }
        false => "",
    };
    let log = metric != Metric::Top1;
    let label = match metric {
        Metric::Top1 => "points of top-1 lost",
        Metric::MaxAbs => "greatest deviation",
        Metric::Mse => "mean squared deviation",
    };
    *s += "<h2>What accuracy costs</h2><p class=\"soft\">One mark per circuit. Cost is what the planner predicts for proving, against the default precision.</p><figure>";
    *s += &scatter(&marks, ("predicted cost", label), log, Some((goal.budget, "the bound")));
    let _ = write!(
        s,
        "<div class=\"key\"><span><svg viewBox=\"0 0 14 14\"><circle class=\"kept\" cx=\"7\" cy=\"7\" r=\"4\"/></svg>within the bound</span>\
         <span><svg viewBox=\"0 0 14 14\"><path class=\"start\" d=\"M7 1l6 6l-6 6l-6 -6z\"/></svg>default precision</span>\
         <span><svg viewBox=\"0 0 14 14\"><circle class=\"chosen\" cx=\"7\" cy=\"7\" r=\"5\"/></svg>chosen</span>\
         {grey}<span>{refused} circuits past the bound were not planned</span></div></figure>"
    );
    let rows: Vec<(f64, f64)> =
        c.trials.iter().filter_map(|t| Some((t.size?.rows as f64, t.score?.loss(metric)))).collect();
    // Where precision decides about columns alone, there is nothing to see.
    if rows.iter().any(|r| r.0 != c.size.rows as f64) || c.baseline.1.rows != c.size.rows {
        let mut marks: Vec<Mark> = rows
            .into_iter()
            .map(|(x, y)| Mark { x, y, class: "kept", title: format!("{x} rows: {}", loss(metric, y)) })
            .collect();
        let (was, size) = &c.baseline;
        marks.push(Mark {
            x: size.rows as f64,
            y: was.loss(metric),
            class: "start",
            title: "the default precision".into(),
        });
        marks.push(Mark { x: c.size.rows as f64, y, class: "chosen", title: "chosen".into() });
        *s += "<figure>";
        *s += &scatter(&marks, ("rows", label), log, Some((goal.budget, "the bound")));
        *s += "</figure>";
    }
}

fn errors(s: &mut String, c: &Calibrated) {
    let mut rows: Vec<(String, f64)> =
        c.quantised.report.iter().map(|r| (r.name.clone(), r.max_abs_error)).collect();
    let all = rows.len();
    if all > LAYERS {
        // The worst, in the order of the model.
        let mut sorted: Vec<f64> = rows.iter().map(|r| r.1).collect();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let limit = sorted.get(LAYERS - 1).copied().unwrap_or(0.0);
        rows.retain(|r| r.1 >= limit);
        rows.truncate(LAYERS);
    }
    *s += "<h2>Error per layer</h2>";
    let note =
        if all > rows.len() { format!(" The {} largest of {all}.", rows.len()) } else { String::new() };
    let _ = write!(
        s,
        "<p class=\"soft\">Greatest deviation of each tensor from the float model's, in the tensor's own unit.{note}</p><figure>"
    );
    *s += &bars(&rows, "greatest deviation");
    *s += "</figure>";
}

fn ranges(s: &mut String, c: &Calibrated) {
    let tensors: HashMap<&str, _> = c.quantised.report.iter().map(|r| (r.name.as_str(), r)).collect();
    let shown: Vec<_> = c.histograms.iter().filter(|h| tensors.contains_key(h.name.as_str())).collect();
    if shown.is_empty() {
        return;
    }
    *s += "<h2>Values of each tensor</h2><p class=\"soft\">Over the samples and their variations; heights are square roots of counts. Below each name: the range that the circuit admits, and fraction bits.</p><div class=\"many\">";
    for h in shown.iter().take(HISTOGRAMS) {
        let Some(r) = tensors.get(h.name.as_str()) else { continue };
        let t = c.quantised.program.tensor(r.tensor);
        let unit = f64::from(-t.scale).exp2();
        let _ = write!(
            s,
            "<figure><figcaption>{}<br><span class=\"soft\">[{}, {}], {} bits</span></figcaption>{}</figure>",
            escape(&short(&h.name, 40)),
            tick(t.lo as f64 * unit),
            tick(t.hi as f64 * unit),
            t.scale,
            histogram(&h.counts, h.lo, h.hi)
        );
    }
    *s += "</div>";
    if shown.len() > HISTOGRAMS {
        let _ = write!(s, "<p class=\"soft\">The first {HISTOGRAMS} of {} tensors.</p>", shown.len());
    }
}

fn options(s: &mut String, c: &Calibrated) {
    let d = QuantOptions::default();
    let o = &c.options;
    *s +=
        "<h2>Numbers</h2><div class=\"scroll\"><table><tr><th></th><th>default</th><th>calibrated</th></tr>";
    let mut row = |name: &str, a: String, b: String| {
        let _ = write!(s, "<tr><td>{}</td><td>{a}</td><td>{b}</td></tr>", escape(name));
    };
    row("fraction bits of inputs", d.input_bits.to_string(), o.input_bits.to_string());
    row("fraction bits of activations", d.activation_bits.to_string(), o.activation_bits.to_string());
    row("bits of a weight", d.weight_bits.to_string(), o.weight_bits.to_string());
    row("fraction bits of outputs", d.output_bits.to_string(), o.output_bits.to_string());
    row("headroom", format!("{}×", d.headroom), format!("{}×", o.headroom));
    for (name, bits) in &o.scales {
        row(&format!("fraction bits of {name}"), "–".into(), bits.to_string());
    }
    let (was, size) = &c.baseline;
    row("advice columns", size.advice.to_string(), c.size.advice.to_string());
    row("greatest deviation", format!("{:.1e}", was.max_abs), format!("{:.1e}", c.score.max_abs));
    row("mean squared deviation", format!("{:.1e}", was.mse), format!("{:.1e}", c.score.mse));
    *s += "</table></div>";
    *s += "<h2>Layers of the circuit</h2><div class=\"scroll\"><table><tr><th>layer</th><th>elements</th><th>cells</th><th>rows</th><th>lookups</th><th>share</th></tr>";
    let mut layers: Vec<_> = c.plan.layers.iter().collect();
    layers.sort_by(|a, b| b.share.total_cmp(&a.share));
    for l in layers.iter().take(40) {
        let _ = write!(
            s,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{:.1} %</td></tr>",
            escape(&l.name),
            l.elements,
            l.cells,
            l.rows,
            l.lookups,
            100.0 * l.share
        );
    }
    *s += "</table></div>";
}
