//! Everything that is not a [`Linear`](crate::qir::OpKind::Linear) operation, element by element or row by row.

use std::cmp::Reverse;

use crate::onnx::broadcast_map;

/// Rows of the last axis.
pub(super) fn rows<'a>(x: &'a [i64], shape: &[usize]) -> std::slice::ChunksExact<'a, i64> {
    x.chunks_exact(shape.last().copied().unwrap_or(1).max(1))
}

pub(super) fn max(row: &[i64]) -> i64 {
    row.iter().copied().max().unwrap_or(0)
}

pub(super) fn argmax(row: &[i64], last: bool) -> i64 {
    let mut best = 0;
    for (i, v) in row.iter().enumerate() {
        if *v > row[best] || (last && *v == row[best]) {
            best = i;
        }
    }
    best as i64
}

pub(super) fn sort(x: &[i64], shape: &[usize], descending: bool) -> Vec<Vec<i64>> {
    let mut values = Vec::with_capacity(x.len());
    let mut indices = Vec::with_capacity(x.len());
    for row in rows(x, shape) {
        let mut order: Vec<usize> = (0..row.len()).collect();
        if descending {
            order.sort_by_key(|&i| Reverse(row[i]));
        } else {
            order.sort_by_key(|&i| row[i]);
        }
        values.extend(order.iter().map(|&i| row[i]));
        indices.extend(order.iter().map(|&i| i as i64));
    }
    vec![values, indices]
}

/// ⌊√v⌋ for v ≥ 0.
pub(super) fn isqrt(v: i64) -> i64 {
    v.max(0).isqrt()
}

/// Floored quotients; denominators are at least 1.
pub(super) fn divide(num: &[i64], num_shape: &[usize], den: &[i64], den_shape: &[usize]) -> Vec<i64> {
    match broadcast_map(den_shape, num_shape) {
        None => num.iter().zip(den).map(|(n, d)| n.div_euclid(*d)).collect(),
        Some(map) => num.iter().zip(map).map(|(n, i)| n.div_euclid(den[i])).collect(),
    }
}

pub(super) fn interpolate(
    x: &[i64],
    step: u32,
    guard: u32,
    first_key: i64,
    values: &[i64],
    slopes: &[i64],
) -> Vec<i64> {
    let half = 1i128 << (step + guard - 1);
    x.iter()
        .map(|&v| {
            let key = v >> step;
            let rem = v - (key << step);
            let i = (key - first_key) as usize;
            let acc = (i128::from(values[i]) << step) + i128::from(slopes[i]) * i128::from(rem) + half;
            (acc >> (step + guard)) as i64
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_where_onnx_sends_them() {
        assert_eq!(argmax(&[1, 5, 5, 2], false), 1);
        assert_eq!(argmax(&[1, 5, 5, 2], true), 2);
        assert_eq!(sort(&[3, 1, 3, 2], &[4], true), vec![vec![3, 3, 2, 1], vec![0, 2, 3, 1]]);
        assert_eq!(sort(&[3, 1, 3, 2], &[4], false), vec![vec![1, 2, 3, 3], vec![1, 3, 0, 2]]);
    }

    #[test]
    fn roots_and_quotients_are_floored() {
        for v in [0i64, 1, 2, 3, 4, 15, 16, 17, (1 << 62) - 1] {
            let r = i128::from(isqrt(v));
            assert!(r * r <= i128::from(v) && (r + 1) * (r + 1) > i128::from(v));
        }
        assert_eq!(divide(&[-7, 7, -8], &[3], &[2], &[1]), vec![-4, 3, -4]);
    }

    #[test]
    fn interpolation_meets_its_definition() {
        // f(x) = 3x with knots every 4, guard 2: values 4·3·(4·key), slopes 4·12.
        let keys = -2..3i64;
        let values: Vec<i64> = keys.clone().map(|k| 4 * 3 * 4 * k).collect();
        let slopes: Vec<i64> = keys.map(|_| 4 * 12).collect();
        let x: Vec<i64> = (-8..12).collect();
        let y = interpolate(&x, 2, 2, -2, &values, &slopes);
        assert_eq!(y, x.iter().map(|v| 3 * v).collect::<Vec<_>>());
    }
}
