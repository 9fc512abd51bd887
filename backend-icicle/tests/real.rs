//! The suite on a real library, where `PARHELION_ICICLE_LIB` names one: its CPU device, or the kind that `PARHELION_ICICLE_DEVICE`
//! names. `PARHELION_REQUIRE_BACKENDS=1` makes absence a failure.

use parhelion_backend_icicle::{IcicleBackend, IcicleOptions};
use parhelion_conformance::Sizes;

fn installed() -> Result<IcicleBackend, String> {
    if std::env::var_os("PARHELION_ICICLE_LIB").is_none() {
        return Err("PARHELION_ICICLE_LIB is not set".into());
    }
    let options = IcicleOptions::from_env()?;
    let devices = options.devices.clone().or_else(|| Some(vec!["CPU".into()]));
    Ok(IcicleBackend::with_options(IcicleOptions { devices, ..options }))
}

/// A library that precomputes multiples of long-lived bases.
fn precomputing() -> Result<IcicleBackend, String> {
    installed()?;
    let options = IcicleOptions::from_env()?;
    let devices = options.devices.clone().or_else(|| Some(vec!["CPU".into()]));
    Ok(IcicleBackend::with_options(IcicleOptions { devices, precompute: 1 << 28, ..options }))
}

parhelion_conformance::suite!(real, try installed(), Sizes::STANDARD);

/// Multiples of long-lived bases give the same results.
#[test]
fn precomputed_bases_give_the_same_results() {
    use halo2curves::bn256::{Fr, G1Affine};
    use parhelion_backend_api::hal::Ref;
    use parhelion_backend_api::{Backend, Reuse, ScalarKind};
    use parhelion_conformance::inputs::{columns, known_points, rng};

    let Some(subject) = parhelion_conformance::suite::subject::<G1Affine, _>(precomputing(), Sizes::STANDARD)
    else {
        return;
    };
    assert_eq!(precomputing().unwrap().name(), "icicle");
    let msm = subject.provider.msm::<G1Affine>().unwrap();
    let mut rng = rng(9);
    for len in [1usize, 2, 100, 3000] {
        let (points, multiples) = known_points::<G1Affine>(len, &mut rng);
        let bases = msm.prepare(&subject.queue, &points, Reuse::Often).unwrap();
        for (name, column) in columns::<Fr>(len, &mut rng) {
            let sum: Fr = column.iter().zip(&multiples).map(|(a, b)| a * b).sum();
            let expected = G1Affine::generator() * sum;
            let found = msm.msm(&subject.queue, &bases, Ref::host(&column), ScalarKind::Full).unwrap();
            assert_eq!(found, expected, "{name}, {len}");
        }
    }
}
