//! Memory spaces, and what an open provider says about itself.

use ff::{Field, PrimeField};
use parhelion_backend_api::hal::{Buffer, Part, RawBuffer, RefMut, Support};
use parhelion_backend_api::{
    Curve, Direction, MsmShape, NttPlan, NttShape, Op, PolyCall, PolyShape, Promise, QuotientShape,
    ScalarKind,
};

use super::{Alien, Expect, NOWHERE, Subject, ok, refused, same};
use crate::inputs::{columns, random, rng};

/// Values come back from a buffer as they went in, limb for limb, whole and in parts.
pub fn round_trips_values<C: Curve>(subject: &Subject<C>) {
    let mut rng = rng(50);
    for len in [0, 1, 7, 1000] {
        for (name, column) in columns::<C::ScalarExt>(len, &mut rng) {
            let buffer = subject.upload(&column);
            assert_eq!((buffer.len(), buffer.space()), (len, subject.space()));
            same(name, &subject.download(&buffer), &column);
        }
        let points = crate::inputs::known_points::<C>(len, &mut rng).0;
        let bytes = parhelion_backend_api::hal::as_bytes(&points).to_vec();
        assert_eq!(subject.download(&subject.upload(&bytes)), bytes, "points as bytes");
    }
    let (space, queue) = (&subject.provider.space, &subject.queue);
    let mut raw = ok("alloc", space.alloc(queue, 64, "parts"));
    assert_eq!((raw.bytes(), raw.name(), raw.space()), (64, "parts", subject.space()));
    ok("upload", space.upload(queue, &[1; 64], raw.as_mut(), 0));
    ok("upload", space.upload(queue, &[2; 16], raw.as_mut(), 40));
    let mut bytes = [0; 32];
    ok("download", space.download(queue, raw.as_ref(), 32, &mut bytes));
    assert_eq!(bytes.map(usize::from), std::array::from_fn(|i| if (8..24).contains(&i) { 2 } else { 1 }));
}

/// Copies beyond the end of a buffer are `Length`, buffers of nobody are `WrongSpace`.
pub fn refuses_bad_copies<C: Curve>(subject: &Subject<C>) {
    let (space, queue) = (&subject.provider.space, &subject.queue);
    let mut raw = ok("alloc", space.alloc(queue, 64, "small"));
    ok("upload", space.upload(queue, &[3; 64], raw.as_mut(), 0));
    for (at, len) in [(0, 65), (64, 1), (60, 8), (u64::MAX, 1), (u64::MAX - 7, 16)] {
        refused("upload", space.upload(queue, &vec![9; len], raw.as_mut(), at), Expect::Length);
        refused("download", space.download(queue, raw.as_ref(), at, &mut vec![9; len]), Expect::Length);
    }
    let mut bytes = [0; 64];
    ok("download", space.download(queue, raw.as_ref(), 0, &mut bytes));
    assert_eq!(bytes, [3; 64], "a refused upload wrote");
    let mut foreign = Alien(64);
    refused("upload", space.upload(queue, &[0; 8], &mut foreign, 0), Expect::WrongSpace);
    refused("download", space.download(queue, &foreign, 0, &mut [0; 8]), Expect::WrongSpace);
    assert_ne!(subject.space(), NOWHERE);
}

/// An allocation that cannot succeed is `OutOfMemory`, never a panic, and freed memory can be had again.
pub fn runs_out_of_memory_politely<C: Curve>(subject: &Subject<C>) {
    let (space, queue) = (&subject.provider.space, &subject.queue);
    for bytes in [u64::MAX, u64::MAX / 2, 1 << 60] {
        let result = space.alloc(queue, bytes, "absurd");
        let error = result.err().unwrap_or_else(|| panic!("{bytes} bytes were allocated"));
        assert!(error.try_elsewhere(), "{error}");
        assert!(error.to_string().contains("absurd"), "{error} does not name the buffer");
    }
    assert!(Buffer::<C::ScalarExt>::alloc(space.as_ref(), queue, usize::MAX, "absurd").is_err());
    let before = space.memory().free;
    for _ in 0..50 {
        drop(ok("alloc", space.alloc(queue, 1 << 20, "again")));
    }
    if let (Some(before), Some(after)) = (before, space.memory().free) {
        assert!(after + (8 << 20) >= before, "{before} bytes were free, {after} are left");
    }
}

/// When memory runs out in the middle of an operation, its operands are as they were.
pub fn leaves_operands_alone_without_memory<C: Curve>(subject: &Subject<C>) {
    let (space, queue) = (&subject.provider.space, &subject.queue);
    let Some(free) = space.memory().free else { return };
    // All but 64 KiB, in one piece; a device that cannot lend that is not asked further.
    let Ok(hog) = space.alloc(queue, free.saturating_sub(1 << 16), "hog") else { return };
    let Some(ntt) = subject.provider.ntt::<C::ScalarExt>() else { return };
    let log_n = 14;
    let input: Vec<C::ScalarExt> = random(1 << log_n, &mut rng(51));
    let mut column = input.clone();
    let plan = NttPlan::forward(log_n);
    match ntt.ntt_batch(queue, &plan, &mut [RefMut::host(&mut column)]) {
        Err(error) => {
            assert!(error.try_elsewhere(), "{error}");
            same("the column after running out of memory", &column, &input);
        }
        Ok(()) => drop(hog),
    }
}

/// Copies within the space and fills touch the bytes that they are told to, and no others; beyond the end they are `Length` and write nothing.
pub fn copies_and_fills<C: Curve>(subject: &Subject<C>) {
    let (space, queue) = (&subject.provider.space, &subject.queue);
    let bytes: Vec<u8> = (0..200).collect();
    let mut from = ok("alloc", space.alloc(queue, 200, "from"));
    ok("upload", space.upload(queue, &bytes, from.as_mut(), 0));
    let mut to = ok("alloc", space.alloc(queue, 160, "to"));
    let read = |raw: &dyn RawBuffer, len: usize| {
        let mut bytes = vec![0; len];
        ok("download", space.download(queue, raw, 0, &mut bytes));
        bytes
    };
    let mut expected = vec![7u8; 160];
    ok("upload", space.upload(queue, &expected, to.as_mut(), 0));
    for (at, start, len) in [(64, 32, 96), (0, 0, 8), (192, 152, 8), (200, 160, 0)] {
        let part = Part { raw: from.as_ref(), at, bytes: len };
        ok("copy", space.copy(queue, part, to.as_mut(), start));
        let source = &bytes[at as usize..(at + len) as usize];
        expected[start as usize..(start + len) as usize].copy_from_slice(source);
        assert_eq!(read(to.as_ref(), 160), expected, "{len} bytes from {at} to {start}");
    }
    let pattern = [0x0123_4567_89ab_cdef, 1, u64::MAX, 0];
    let words: Vec<u8> = pattern.into_iter().flat_map(u64::to_le_bytes).collect();
    for (at, len, pattern) in [(32, 72, pattern), (0, 160, [0; 4]), (8, 32, pattern), (160, 0, pattern)] {
        ok("fill", space.fill(queue, to.as_mut(), at, len, pattern));
        let written = words.iter().cycle().take(len as usize);
        for (slot, byte) in expected[at as usize..].iter_mut().zip(written) {
            *slot = if pattern == [0; 4] { 0 } else { *byte };
        }
        assert_eq!(read(to.as_ref(), 160), expected, "{len} bytes at {at}");
    }
    for (at, start, len) in [(0, 104, 64), (192, 0, 16), (u64::MAX - 7, 0, 8), (0, u64::MAX - 7, 8)] {
        let part = Part { raw: from.as_ref(), at, bytes: len };
        refused("copy", space.copy(queue, part, to.as_mut(), start), Expect::Length);
    }
    refused("fill", space.fill(queue, to.as_mut(), 136, 32, [9; 4]), Expect::Length);
    refused("fill", space.fill(queue, to.as_mut(), u64::MAX - 7, 32, [9; 4]), Expect::Length);
    let mut foreign = Alien(64);
    let part = Part { raw: from.as_ref(), at: 0, bytes: 8 };
    refused("copy into nowhere", space.copy(queue, part, &mut foreign, 0), Expect::WrongSpace);
    let part = Part { raw: &foreign, at: 0, bytes: 8 };
    refused("copy from nowhere", space.copy(queue, part, to.as_mut(), 0), Expect::WrongSpace);
    refused("fill nowhere", space.fill(queue, &mut foreign, 0, 32, [9; 4]), Expect::WrongSpace);
    assert_eq!(read(to.as_ref(), 160), expected, "a refused call has written");
}

/// What the backend promises is offered and supported, up to the size that it names.
pub fn keeps_promises<C: Curve>(subject: &Subject<C>) {
    let provider = &subject.provider;
    for Promise { op, log_n } in &subject.promises {
        let len = 1usize << log_n;
        for (log_n, len, batch) in [(0, 1, 1), (*log_n, len, 1), (*log_n, len, 4)] {
            let mut answers = Vec::new();
            match *op {
                Op::MSM => {
                    let shape = MsmShape { len, batch, scalars: ScalarKind::Full };
                    answers.push(provider.msm::<C>().map(|msm| msm.supports(&shape)));
                }
                Op::NTT => {
                    for direction in [Direction::Forward, Direction::Inverse] {
                        let shape = NttShape { log_n, batch, direction, coset: true };
                        answers.push(provider.ntt::<C::ScalarExt>().map(|ntt| ntt.supports(&shape)));
                    }
                }
                Op::QUOTIENT => {
                    let shape = QuotientShape { log_n, columns: 4 * batch, steps: 64 * batch, registers: 16 };
                    answers.push(provider.quotient::<C::ScalarExt>().map(|q| q.supports(&shape)));
                }
                Op::POLY => {
                    for call in PolyCall::ALL {
                        let shape = PolyShape { call, log_n, batch };
                        answers.push(provider.poly::<C::ScalarExt>().map(|poly| poly.supports(&shape)));
                    }
                }
                other => panic!("the suite has no shapes of {other}"),
            }
            for answer in answers {
                assert_eq!(answer, Some(Support::Yes), "{op} of 2^{log_n} × {batch} is promised");
            }
        }
    }
}

/// Asking what is supported and what it needs costs nothing and never fails, for absurd shapes too.
pub fn answers_about_any_shape<C: Curve>(subject: &Subject<C>) {
    let provider = &subject.provider;
    for (log_n, batch) in [(0, 0), (0, 1), (3, 1), (28, 1000), (63, usize::MAX), (u32::MAX, usize::MAX)] {
        let len = 1usize.checked_shl(log_n).unwrap_or(usize::MAX);
        for scalars in
            [ScalarKind::Full, ScalarKind::Unsigned { bits: 0 }, ScalarKind::Signed { bits: u16::MAX }]
        {
            let shape = MsmShape { len, batch, scalars };
            provider.msm::<C>().map(|msm| (msm.supports(&shape), msm.workspace(&shape)));
        }
        let shape = NttShape { log_n, batch, direction: Direction::Forward, coset: true };
        provider.ntt::<C::ScalarExt>().map(|ntt| (ntt.supports(&shape), ntt.workspace(&shape)));
        let shape = QuotientShape { log_n, columns: batch, steps: batch, registers: batch };
        provider
            .quotient::<C::ScalarExt>()
            .map(|quotient| (quotient.supports(&shape), quotient.workspace(&shape)));
        for call in PolyCall::ALL {
            let shape = PolyShape { call, log_n, batch };
            provider.poly::<C::ScalarExt>().map(|poly| (poly.supports(&shape), poly.workspace(&shape)));
        }
    }
}

/// A shape that is supported is computed: support is a promise.
pub fn keeps_its_word<C: Curve>(subject: &Subject<C>) {
    let Some(ntt) = subject.provider.ntt::<C::ScalarExt>() else { return };
    for log_n in 0..=subject.sizes.ntt_quadratic {
        for coset in [None, Some(C::ScalarExt::MULTIPLICATIVE_GENERATOR)] {
            let plan = NttPlan { log_n, direction: Direction::Inverse, coset };
            let mut columns = vec![vec![C::ScalarExt::ONE; 1 << log_n]; 3];
            let mut refs: Vec<RefMut<'_, _>> = columns.iter_mut().map(|c| RefMut::host(c)).collect();
            if ntt.supports(&plan.shape(3)).is_yes() {
                ok(format_args!("{plan:?}"), ntt.ntt_batch(&subject.queue, &plan, &mut refs));
                let mut one = vec![C::ScalarExt::ZERO; 1 << log_n];
                one[0] = C::ScalarExt::ONE;
                same("the constant polynomial", &columns[2], &one);
            }
        }
    }
}
