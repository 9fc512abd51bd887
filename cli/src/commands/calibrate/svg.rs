//! Plots as inline SVG. Colours are the page's variables, so that they follow its light and dark form.

use std::fmt::Write;

/// Text that cannot end an element or an attribute.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The last characters of a name that is too long.
pub(super) fn short(name: &str, most: usize) -> String {
    let n = name.chars().count();
    if n <= most {
        name.to_owned()
    } else {
        format!("…{}", name.chars().skip(n - most + 1).collect::<String>())
    }
}

/// A mark of a scatter plot.
pub(super) struct Mark {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) class: &'static str,
    pub(super) title: String,
}

/// An axis from its data: linear or logarithmic.
struct Axis {
    lo: f64,
    hi: f64,
    log: bool,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64>, log: bool) -> Self {
        let (mut lo, mut hi) = (f64::INFINITY, f64::NEG_INFINITY);
        for v in values.filter(|v| v.is_finite()) {
            (lo, hi) = (lo.min(v), hi.max(v));
        }
        if !lo.is_finite() {
            (lo, hi) = (if log { 0.1 } else { 0.0 }, 1.0);
        }
        if log {
            let (a, b) = (lo.log10().floor(), hi.log10().ceil());
            let b = if b > a { b } else { a + 1.0 };
            return Axis { lo: 10f64.powf(a), hi: 10f64.powf(b), log };
        }
        let pad = if hi > lo { 0.06 * (hi - lo) } else { hi.abs().max(1.0) * 0.1 };
        let floor = if lo >= 0.0 { (lo - pad).max(0.0) } else { lo - pad };
        Axis { lo: floor, hi: hi + pad, log }
    }

    /// Where a value is, from 0 to 1.
    fn at(&self, v: f64) -> f64 {
        let f = |v: f64| if self.log { v.max(self.lo).log10() } else { v };
        ((f(v) - f(self.lo)) / (f(self.hi) - f(self.lo))).clamp(0.0, 1.0)
    }

    fn ticks(&self) -> Vec<f64> {
        if self.log {
            let (a, b) = (self.lo.log10().round() as i32, self.hi.log10().round() as i32);
            let step = ((b - a) / 6).max(1);
            return (a..=b).step_by(step as usize).map(|e| 10f64.powi(e)).collect();
        }
        let raw = (self.hi - self.lo) / 5.0;
        let unit = 10f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * unit).find(|s| *s >= raw).unwrap_or(raw);
        let first = (self.lo / step).ceil() as i64;
        (first..).map(|i| i as f64 * step).take_while(|v| *v <= self.hi).collect()
    }
}

/// A number with at least three digits, as short as it can be: what an axis steps by is not lost.
pub(super) fn tick(v: f64) -> String {
    let (v, unit) = match v.abs() {
        0.0 => return "0".into(),
        a if a < 0.01 => return format!("{v:.0e}"),
        a if a >= 1e6 => (v / 1e6, "M"),
        a if a >= 1e4 => (v / 1e3, "k"),
        _ => (v, ""),
    };
    let digits = match v.abs() {
        a if a >= 100.0 => 1,
        a if a >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{v:.digits$}");
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

/// A magnitude beside a bar.
fn figure(v: f64) -> String {
    match v {
        v if v >= 1.0 => format!("{v:.2}"),
        v if v >= 0.01 => format!("{v:.3}"),
        v => format!("{v:.1e}"),
    }
}

/// Points over two axes, with a horizontal line at a bound.
pub(super) fn scatter(
    marks: &[Mark],
    (x_label, y_label): (&str, &str),
    y_log: bool,
    bound: Option<(f64, &str)>,
) -> String {
    let (w, h, left, right, top, bottom) = (760.0, 340.0, 70.0, 16.0, 14.0, 46.0);
    let floor = marks.iter().map(|m| m.y).filter(|y| *y > 0.0).fold(f64::INFINITY, f64::min);
    let floor = if floor.is_finite() { floor / 2.0 } else { 1e-9 };
    let lift = |y: f64| if y_log { y.max(floor) } else { y };
    let xs = Axis::new(marks.iter().map(|m| m.x), false);
    let ys = Axis::new(
        marks.iter().map(|m| lift(m.y)).chain(bound.map(|b| b.0).filter(|b| !y_log || *b > 0.0)),
        y_log,
    );
    let px = |x: f64| left + xs.at(x) * (w - left - right);
    let py = |y: f64| h - bottom - ys.at(lift(y)) * (h - top - bottom);
    let mut s = format!(
        "<svg viewBox=\"0 0 {w} {h}\" role=\"img\" aria-label=\"{} over {}\">",
        escape(y_label),
        escape(x_label)
    );
    for t in ys.ticks() {
        let y = py(t);
        let _ = write!(
            s,
            "<line class=\"grid\" x1=\"{left}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
            w - right
        );
        let _ = write!(
            s,
            "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 8.0,
            y + 4.0,
            tick(t)
        );
    }
    for t in xs.ticks() {
        let x = px(t);
        let _ = write!(
            s,
            "<text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            h - bottom + 18.0,
            tick(t)
        );
    }
    let _ = write!(
        s,
        "<line class=\"axis\" x1=\"{left}\" x2=\"{:.1}\" y1=\"{1:.1}\" y2=\"{1:.1}\"/>",
        w - right,
        h - bottom
    );
    let _ = write!(
        s,
        "<text class=\"label\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        (left + w - right) / 2.0,
        h - 6.0,
        escape(x_label)
    );
    let _ = write!(
        s,
        "<text class=\"label\" x=\"14\" y=\"{0:.1}\" text-anchor=\"middle\" transform=\"rotate(-90 14 {0:.1})\">{1}</text>",
        (top + h - bottom) / 2.0,
        escape(y_label)
    );
    if let Some((at, name)) = bound {
        let y = py(at);
        let _ = write!(
            s,
            "<line class=\"bound\" x1=\"{left}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
            w - right
        );
        let _ = write!(
            s,
            "<text class=\"boundname\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            w - right - 4.0,
            if y < top + 16.0 { y + 14.0 } else { y - 5.0 },
            escape(name)
        );
    }
    for m in marks {
        let (x, y) = (px(m.x), py(m.y));
        let title = escape(&m.title);
        let shape = match m.class {
            "start" => format!("<path d=\"M{x:.1} {:.1} l7 7 l-7 7 l-7 -7 z\"", y - 7.0),
            "chosen" => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"8\""),
            _ => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\""),
        };
        let _ = write!(
            s,
            "{shape} class=\"{}\"><title>{title}</title></{}>",
            m.class,
            if m.class == "start" { "path" } else { "circle" }
        );
    }
    s + "</svg>"
}

/// One horizontal bar per name, on a logarithmic scale.
pub(super) fn bars(rows: &[(String, f64)], label: &str) -> String {
    let longest = rows.iter().map(|r| r.0.chars().count().min(34)).max().unwrap_or(0);
    let (left, right, top, line) = (24.0 + 6.8 * longest as f64, 74.0, 6.0, 20.0);
    let w = 760.0;
    let h = top + line * rows.len() as f64 + 44.0;
    let axis = Axis::new(rows.iter().map(|r| r.1).filter(|v| *v > 0.0), true);
    let px = |v: f64| left + axis.at(v) * (w - left - right);
    let end = top + line * rows.len() as f64;
    let mut s = format!("<svg viewBox=\"0 0 {w} {h}\" role=\"img\" aria-label=\"{}\">", escape(label));
    for t in axis.ticks() {
        let x = px(t);
        let _ = write!(s, "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top}\" y2=\"{end}\"/>");
        let _ = write!(
            s,
            "<text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            end + 16.0,
            tick(t)
        );
    }
    for (i, (name, v)) in rows.iter().enumerate() {
        let y = top + line * i as f64;
        let text = if *v > 0.0 { figure(*v) } else { "exact".to_owned() };
        let width = if *v > 0.0 { (px(*v) - left).max(1.5) } else { 0.0 };
        let _ = write!(
            s,
            "<text class=\"name\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}<title>{}</title></text>",
            left - 8.0,
            y + 14.0,
            escape(&short(name, 34)),
            escape(name)
        );
        let _ = write!(
            s,
            "<rect class=\"bar\" x=\"{left}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"12\" rx=\"2\"><title>{}: {text}</title></rect>",
            y + 4.0,
            escape(name)
        );
        let _ = write!(
            s,
            "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\">{text}</text>",
            left + width + 6.0,
            y + 14.0
        );
    }
    let _ = write!(
        s,
        "<text class=\"label\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        (left + w - right) / 2.0,
        h - 8.0,
        escape(label)
    );
    s + "</svg>"
}

/// A small histogram; heights are square roots of counts, so that tails are seen.
pub(super) fn histogram(counts: &[u64], lo: f64, hi: f64) -> String {
    let (w, h, base) = (220.0, 84.0, 64.0);
    let most = counts.iter().copied().max().unwrap_or(0).max(1) as f64;
    let step = w / counts.len().max(1) as f64;
    let mut s = format!("<svg viewBox=\"0 0 {w} {h}\" role=\"img\" aria-label=\"histogram\">");
    for (i, &c) in counts.iter().enumerate() {
        let height = (c as f64 / most).sqrt() * (base - 4.0);
        let _ = write!(
            s,
            "<rect class=\"bar\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\"/>",
            i as f64 * step,
            base - height,
            step - 1.0
        );
    }
    let _ = write!(s, "<line class=\"axis\" x1=\"0\" x2=\"{w}\" y1=\"{base}\" y2=\"{base}\"/>");
    if lo < 0.0 && hi > 0.0 {
        let x = -lo / (hi - lo) * w;
        let _ = write!(s, "<line class=\"zero\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"4\" y2=\"{base}\"/>");
    }
    let _ = write!(s, "<text class=\"tick\" x=\"0\" y=\"{}\">{}</text>", h - 4.0, tick(lo));
    let _ =
        write!(s, "<text class=\"tick\" x=\"{w}\" y=\"{}\" text-anchor=\"end\">{}</text>", h - 4.0, tick(hi));
    s + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plots_hold_their_data_and_nothing_escapes() {
        let mark = Mark { x: 10.0, y: 0.0, class: "kept", title: "<b>&\"".into() };
        let s = scatter(&[mark], ("rows", "loss"), true, Some((0.5, "bound")));
        assert!(s.contains("&lt;b&gt;&amp;&quot;") && !s.contains("<b>") && !s.contains("NaN"));
        let s = bars(&[("a".into(), 1e-4), ("b".into(), 0.0)], "error");
        assert!(s.contains("1.0e-4") && s.contains("exact") && !s.contains("NaN"));
        let s = histogram(&[0, 4, 1], -1.0, 1.0);
        assert_eq!(s.matches("<rect").count(), 3);
        assert_eq!(bars(&[], "nothing").matches("<rect").count(), 0);
    }

    #[test]
    fn ticks_are_round_numbers_within_the_axis() {
        let a = Axis::new([0.0, 93.0].into_iter(), false);
        assert_eq!(a.ticks(), [0.0, 20.0, 40.0, 60.0, 80.0]);
        let a = Axis::new([3e-5, 2e-3].into_iter(), true);
        assert_eq!(a.ticks().iter().map(|t| tick(*t)).collect::<Vec<_>>(), ["1e-5", "1e-4", "1e-3", "0.01"]);
        assert_eq!(short("abcdef", 4), "…def");
        // Neighbours on an axis differ in print.
        let a = Axis::new([10_100.0, 11_900.0].into_iter(), false);
        let mut ticks: Vec<_> = a.ticks().iter().map(|t| tick(*t)).collect();
        let all = ticks.len();
        ticks.dedup();
        assert_eq!((ticks.len(), ticks[0].as_str()), (all, "10k"));
        assert_eq!([0.2, 12.5, -1_048_576.0].map(tick), ["0.2", "12.5", "-1.05M"]);
    }
}
