//! The derived bodies of the polynomial operations: operands on the host, plain loops.

use std::borrow::Cow;

use ff::PrimeField;
use parhelion_hal::{
    DeviceRepr, Error, Place, Queue, Ref, RefMut, Result, Space, SpaceId, as_bytes, as_bytes_mut,
};

fn zeros<F: PrimeField>(len: usize) -> Result<Vec<F>> {
    let mut column = Vec::new();
    column.try_reserve_exact(len).map_err(|_| Error::OutOfMemory {
        backend: "host",
        what: "column",
        requested: (len as u64).saturating_mul(size_of::<F>() as u64),
        free: None,
    })?;
    column.resize(len, F::ZERO);
    Ok(column)
}

/// The values on the host, copied only when they are not there.
pub(super) fn view<'a, F: PrimeField + DeviceRepr>(
    space: &dyn Space,
    queue: &Queue,
    column: &Ref<'a, F>,
) -> Result<Cow<'a, [F]>> {
    match column.place() {
        Place::Device { raw, start, len } if raw.space() != SpaceId::HOST => {
            let mut copy = zeros(len)?;
            space.download(queue, raw, (start * size_of::<F>()) as u64, as_bytes_mut(&mut copy))?;
            Ok(Cow::Owned(copy))
        }
        _ => column.as_host().map(Cow::Borrowed),
    }
}

fn write_back<F: PrimeField + DeviceRepr>(
    space: &dyn Space,
    queue: &Queue,
    values: &[F],
    column: &mut RefMut<'_, F>,
) -> Result<()> {
    match column.device() {
        Some((raw, start, _)) => space.upload(queue, as_bytes(values), raw, (start * size_of::<F>()) as u64),
        None => Ok(()),
    }
}

/// Runs `f` on the values of a column and puts them back.
pub(super) fn in_place<F: PrimeField + DeviceRepr, R>(
    space: &dyn Space,
    queue: &Queue,
    mut column: RefMut<'_, F>,
    f: impl FnOnce(&mut [F]) -> R,
) -> Result<R> {
    if column.space() == SpaceId::HOST {
        return Ok(f(column.as_host()?));
    }
    let mut values = view(space, queue, &column.as_ref())?.into_owned();
    let result = f(&mut values);
    write_back(space, queue, &values, &mut column)?;
    Ok(result)
}

/// Runs `f` on a column whose old values are not needed.
pub(super) fn fresh<F: PrimeField + DeviceRepr, R>(
    space: &dyn Space,
    queue: &Queue,
    mut column: RefMut<'_, F>,
    f: impl FnOnce(&mut [F]) -> R,
) -> Result<R> {
    if column.space() == SpaceId::HOST {
        return Ok(f(column.as_host()?));
    }
    // A foreign buffer is refused before anything is computed.
    if let (Some((raw, ..)), expected) = (column.device(), space.id())
        && raw.space() != expected
    {
        return Err(Error::WrongSpace { name: raw.name(), expected, found: raw.space() });
    }
    let mut values = zeros(column.len())?;
    let result = f(&mut values);
    write_back(space, queue, &values, &mut column)?;
    Ok(result)
}

pub(super) fn divide_by_linear<F: PrimeField>(poly: &mut [F], root: F) {
    let mut carry = F::ZERO;
    for coefficient in poly.iter_mut().rev() {
        let quotient = carry;
        carry = *coefficient + root * carry;
        *coefficient = quotient;
    }
}

/// Montgomery's trick: one inversion, three products an element.
pub(super) fn batch_invert<F: PrimeField>(values: &mut [F]) {
    let mut product = F::ONE;
    let before: Vec<F> = values
        .iter()
        .map(|value| {
            let before = product;
            if !value.is_zero_vartime() {
                product *= value;
            }
            before
        })
        .collect();
    // A product of values that are not zero has an inverse.
    let mut inverse = product.invert().unwrap_or(F::ZERO);
    for (value, before) in values.iter_mut().zip(before).rev() {
        if !value.is_zero_vartime() {
            let next = inverse * *value;
            *value = before * inverse;
            inverse = next;
        }
    }
}

pub(super) fn running_product<F: PrimeField>(values: &mut [F], first: F) -> F {
    values.iter_mut().fold(first, |product, value| {
        let factor = std::mem::replace(value, product);
        product * factor
    })
}

pub(super) fn scan<F: PrimeField>(
    factors: Option<&[F]>,
    summands: Option<&[F]>,
    first: F,
    out: &mut [F],
) -> F {
    out.iter_mut().enumerate().fold(first, |mut u, (i, out)| {
        *out = u;
        if let Some(factors) = factors {
            u *= factors[i];
        }
        if let Some(summands) = summands {
            u += summands[i];
        }
        u
    })
}
