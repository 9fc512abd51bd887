//! Linear models and support vector machines.

use super::super::control::{Stop, Unroll};
use super::super::model::{Attr, ValueId};
use super::super::tensor::DType;
use super::trees::two_sided;

/// x · coefficientsᵀ + intercepts, for rows of coefficients.
fn affine(u: &mut Unroll<'_, '_, '_>, rows: Option<usize>) -> Result<(ValueId, usize), Stop> {
    let (x, n) = u.features(0)?;
    let c = u.numbers("coefficients")?.ok_or_else(|| u.wrong("has no coefficients"))?;
    let rows = rows.unwrap_or(c.len() / n.max(1));
    if rows == 0 || rows.checked_mul(n) != Some(c.len()) {
        return Err(u.wrong(format!("{} coefficients for {n} features", c.len())));
    }
    let transposed = (0..c.len()).map(|i| c[i % rows * n + i / rows]).collect();
    let c = u.floats(&[n, rows], transposed)?;
    let y = u.op("MatMul", &[x, c])?;
    let Some(b) = u.numbers("intercepts")? else { return Ok((y, rows)) };
    if b.len() != rows && b.len() != 1 {
        return Err(u.wrong(format!("{} intercepts for {rows} rows of coefficients", b.len())));
    }
    let b = u.floats(&[b.len()], b)?;
    Ok((u.op("Add", &[y, b])?, rows))
}

pub(super) fn regressor(u: &mut Unroll<'_, '_, '_>) -> Result<ValueId, Stop> {
    let targets = usize::try_from(u.integer("targets", 1)?).map_err(|_| u.wrong("`targets` is negative"))?;
    let (y, _) = affine(u, Some(targets))?;
    u.transform(y)
}

/// Labels and scores; one row of coefficients is the score of the second of two classes.
pub(super) fn classifier(u: &mut Unroll<'_, '_, '_>) -> Result<Vec<ValueId>, Stop> {
    let labels = u.labels("classlabels_ints")?;
    let (scores, rows) = affine(u, None)?;
    match labels[..] {
        [no, yes] if rows == 1 => {
            let label = u.above(scores, 0.0, [no, yes])?;
            Ok(vec![label, two_sided(u, scores)?])
        }
        _ if labels.len() == rows => {
            let label = u.best(scores, &labels)?;
            Ok(vec![label, u.transform(scores)?])
        }
        _ => Err(u.wrong(format!("{} labels for {rows} rows of coefficients", labels.len()))),
    }
}

/// The kernel of the features with every support vector.
fn kernel(
    u: &mut Unroll<'_, '_, '_>,
    x: ValueId,
    n: usize,
    vectors: &[f64],
    count: usize,
) -> Result<ValueId, Stop> {
    if count.checked_mul(n) != Some(vectors.len()) {
        return Err(u.wrong(format!("{count} support vectors of {n} features have {} values", vectors.len())));
    }
    let params = u.numbers("kernel_params")?.unwrap_or_default();
    let at = |i: usize| params.get(i).copied().unwrap_or(0.0);
    let (gamma, shift, degree) = (at(0), at(1), at(2));
    let kind = u.text("kernel_type", "LINEAR")?;
    // Constants take what factors there are, so that every kernel is one product and one function of it.
    let factor = match kind.as_str() {
        "LINEAR" => 1.0,
        "RBF" => 2.0 * gamma,
        "POLY" | "SIGMOID" => gamma,
        other => return Err(u.wrong(format!("the kernel {other}"))),
    };
    let transposed = (0..vectors.len()).map(|i| factor * vectors[i % count * n + i / count]).collect();
    let matrix = u.floats(&[n, count], transposed)?;
    let product = u.op("MatMul", &[x, matrix])?;
    match kind.as_str() {
        "RBF" => {
            // −γ·|x − s|² = 2γ·x·s − γ·|s|² − γ·|x|²
            let norms = vectors.chunks_exact(n.max(1));
            let norms = norms.map(|s| gamma * s.iter().map(|v| v * v).sum::<f64>()).collect();
            let norms = u.floats(&[count], norms)?;
            let product = u.op("Sub", &[product, norms])?;
            let axes = u.ints(vec![1]);
            let own = u.emit("ReduceSumSquare", &[x, axes], &[("keepdims", Attr::Int(1))], None)?;
            let gamma = u.number(gamma)?;
            let own = u.op("Mul", &[own, gamma])?;
            let distance = u.op("Sub", &[product, own])?;
            u.op("Exp", &[distance])
        }
        "LINEAR" => Ok(product),
        kind => {
            let shift = u.number(shift)?;
            let sum = u.op("Add", &[product, shift])?;
            if kind == "SIGMOID" {
                return u.op("Tanh", &[sum]);
            }
            let degree = u.number(degree)?;
            u.op("Pow", &[sum, degree])
        }
    }
}

pub(super) fn svm_regressor(u: &mut Unroll<'_, '_, '_>) -> Result<ValueId, Stop> {
    let (x, n) = u.features(0)?;
    let c = u.numbers("coefficients")?.ok_or_else(|| u.wrong("has no coefficients"))?;
    let rho = u.numbers("rho")?.and_then(|r| r.first().copied()).ok_or_else(|| u.wrong("has no `rho`"))?;
    let supports =
        usize::try_from(u.integer("n_supports", 0)?).map_err(|_| u.wrong("`n_supports` is negative"))?;
    let k = if supports == 0 {
        x
    } else {
        let vectors = u.numbers("support_vectors")?.unwrap_or_default();
        kernel(u, x, n, &vectors, supports)?
    };
    if c.len() != if supports == 0 { n } else { supports } {
        return Err(u.wrong(format!("{} coefficients for {supports} support vectors", c.len())));
    }
    let c = u.floats(&[c.len(), 1], c)?;
    let y = u.op("MatMul", &[k, c])?;
    let rho = u.number(rho)?;
    let y = u.op("Add", &[y, rho])?;
    if u.integer("one_class", 0)? == 0 {
        return u.transform(y);
    }
    // 1 or −1.
    let zero = u.number(0.0)?;
    let positive = u.op("Greater", &[y, zero])?;
    let (one, minus) = (u.number(1.0)?, u.number(-1.0)?);
    u.op("Where", &[positive, one, minus])
}

/// Labels and decision values for two classes. The first class is where the kernel sum is positive; ONNX Runtime gives the scores as −s and s.
pub(super) fn svm_classifier(u: &mut Unroll<'_, '_, '_>) -> Result<Vec<ValueId>, Stop> {
    let (x, n) = u.features(0)?;
    let labels = u.labels("classlabels_ints")?;
    let [no, yes] = labels[..] else {
        return Err(Stop::Refused(format!("of {} classes; two are read", labels.len())));
    };
    if u.numbers("prob_a")?.is_some_and(|p| !p.is_empty()) {
        return Err(Stop::Refused("probabilities; fit it without them".into()));
    }
    let per_class = u.integers("vectors_per_class")?.unwrap_or_default();
    let supports = per_class.iter().try_fold(0usize, |sum, &v| sum.checked_add(usize::try_from(v).ok()?));
    let supports =
        supports.filter(|&s| s > 0).ok_or_else(|| Stop::Refused("it has no support vectors".into()))?;
    let vectors = u.numbers("support_vectors")?.unwrap_or_default();
    let c = u.numbers("coefficients")?.ok_or_else(|| u.wrong("has no coefficients"))?;
    let rho = u.numbers("rho")?.and_then(|r| r.first().copied()).ok_or_else(|| u.wrong("has no `rho`"))?;
    if c.len() != supports {
        return Err(u.wrong(format!("{} coefficients for {supports} support vectors", c.len())));
    }
    let k = kernel(u, x, n, &vectors, supports)?;
    let c = u.floats(&[c.len(), 1], c)?;
    let sum = u.op("MatMul", &[k, c])?;
    let rho = u.number(rho)?;
    let sum = u.op("Add", &[sum, rho])?;
    let label = u.above(sum, 0.0, [yes, no])?;
    let other = u.op("Neg", &[sum])?;
    let scores = u.beside(other, sum)?;
    let scores = u.cast(scores, DType::F32)?;
    Ok(vec![label, u.transform(scores)?])
}
