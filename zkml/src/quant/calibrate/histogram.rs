//! How the values of a tensor are distributed.

use serde::{Deserialize, Serialize};

use crate::onnx::TensorF;

/// Number of bins.
const BINS: usize = 40;

/// Counts of values in bins of equal width.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// Value's name.
    pub name: String,
    /// Start of the first bin.
    pub lo: f64,
    /// End of the last bin.
    pub hi: f64,
    /// Values per bin.
    pub counts: Vec<u64>,
}

impl Histogram {
    pub(super) fn new(name: &str, lo: f64, hi: f64) -> Self {
        Histogram { name: name.to_owned(), lo, hi, counts: vec![0; BINS] }
    }

    pub(super) fn add(&mut self, t: &TensorF) {
        let width = self.hi - self.lo;
        for i in 0..t.len() {
            let v = t.at(i);
            if !(v >= self.lo && v <= self.hi) {
                continue;
            }
            let at = if width > 0.0 { ((v - self.lo) / width * BINS as f64) as usize } else { BINS / 2 };
            self.counts[at.min(BINS - 1)] += 1;
        }
    }

    pub(super) fn merge(&mut self, other: &Histogram) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a += b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::DType;

    #[test]
    fn every_value_in_range_is_counted_once() {
        let mut h = Histogram::new("x", -1.0, 1.0);
        let values: Vec<f64> = (0..=100).map(|i| f64::from(i) / 50.0 - 1.0).chain([5.0, f64::NAN]).collect();
        h.add(&TensorF::float(vec![103], DType::F32, values).unwrap());
        assert_eq!(h.counts.iter().sum::<u64>(), 101);
        assert!(h.counts[0] >= 2 && h.counts[BINS - 1] >= 2);
        let mut point = Histogram::new("c", 2.0, 2.0);
        point.add(&TensorF::float(vec![3], DType::F32, vec![2.0; 3]).unwrap());
        assert_eq!(point.counts[BINS / 2], 3);
    }
}
