//! What each kernel costs at least: products and bytes (`docs/roofline.md`), over the measured rate of one product and of memory.

use crate::measure::Sample;

/// Products of the field and bytes that cross memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    products: f64,
    bytes: f64,
}

/// The cost of an operation of the record; `None` for those that are not one kernel.
pub(crate) fn cost(op: &str, log_n: u32) -> Option<Cost> {
    let n = f64::from(log_n).exp2();
    let transform = |n: f64| (n / 2.0 * f64::from(log_n) + n, 128.0 * n);
    let (products, bytes) = match op {
        "msm" => msm(n, 1.0),
        "msm, batch of 16" => msm(n, 16.0),
        "ntt" | "intt" => transform(n),
        "coset-x4" => (4.0 * transform(n).0, 4.0 * transform(n).1),
        "ntt-batch-16" => (16.0 * transform(n).0, 16.0 * transform(n).1),
        "evaluate" => (n, 32.0 * n),
        "divide-by-linear" => (2.0 * n, 96.0 * n),
        "batch-invert" => (3.0 * n, 64.0 * n),
        "running-product" => (2.0 * n, 96.0 * n),
        "linear-combination-8" => (8.0 * n, 9.0 * 32.0 * n),
        _ => return None,
    };
    Some(Cost { products, bytes })
}

/// `count` columns of n uniform scalars: six products per affine addition; two gathers of a point per item, and its digits and
/// references.
fn msm(n: f64, count: f64) -> (f64, f64) {
    let additions = |width: u32| {
        let buckets = f64::from(width - 1).exp2();
        f64::from(255u32.div_ceil(width)) * (n + 2.0 * buckets.min(n))
    };
    let width = (2..=16).min_by(|a, b| additions(*a).total_cmp(&additions(*b))).unwrap_or(16);
    let items = f64::from(255u32.div_ceil(width)) * n;
    (6.0 * additions(width) * count, (2.0 * 64.0 + 10.0) * items * count)
}

/// The measured rates of one instruction set: nanoseconds per product on one thread, and bytes per nanosecond on all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    product: f64,
    memory: f64,
    threads: f64,
}

impl Rates {
    /// From the record's own rows.
    pub(crate) fn of<'s>(samples: impl Iterator<Item = &'s Sample>) -> Option<Self> {
        let (mut product, mut memory) = (None, None);
        for sample in samples.filter(|s| s.against.is_empty()) {
            let value = sample.ours.first().copied();
            match sample.op.as_str() {
                "machine: product of this path, one thread" => product = value,
                "machine: copy, all threads, read and written" => memory = value,
                _ => {}
            }
        }
        Some(Rates { product: product?, memory: memory?, threads: rayon::current_num_threads() as f64 })
    }

    /// Milliseconds that nothing can be faster than, and whether memory is what bounds it.
    pub(crate) fn floor_ms(&self, cost: Cost) -> (f64, bool) {
        let (compute, memory) = (cost.products * self.product / self.threads, cost.bytes / self.memory);
        (compute.max(memory) / 1e6, memory > compute)
    }
}
