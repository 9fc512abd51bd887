//! Programs over blocks of rows.
//!
//! A step runs over a whole block before the next one starts, so that the dispatch on its kind is paid once per block and the
//! registers of a block stay in the second-level cache. Registers are kept below 2p.

use ff::Field;
use halo2curves::bn256::Fr;
use parhelion_backend_api::{Domain, Program, Source, Step};
use rayon::prelude::*;

use super::field::{Words, add, canonical, mul, reduce, sub, words};

/// Rows of a block.
const BLOCK: usize = 64;

/// An operand as a run of words: one per row, or one for all.
#[derive(Clone, Copy)]
struct View {
    from: *const Words,
    stride: usize,
}

impl View {
    /// # Safety
    /// Row i of the block exists.
    #[inline(always)]
    unsafe fn at(self, i: usize) -> Words {
        // SAFETY: by the caller's contract.
        unsafe { *self.from.add(i * self.stride) }
    }
}

/// Evaluates a program that passed [`Program::check`] over 2^`log_n` rows. Columns and outputs have that length, and their
/// numbers are the program's.
pub(crate) fn evaluate(
    program: &Program<Fr>,
    domain: &Domain<Fr>,
    columns: &[&[Words]],
    challenges: &[Fr],
    out: &mut [&mut [Words]],
) {
    let n = 1usize << domain.log_n;
    assert!(
        columns.iter().all(|c| c.len() == n) && out.iter().all(|o| o.len() == n),
        "checked by the caller"
    );
    let uniform: Vec<Words> = program
        .constants
        .iter()
        .chain(challenges)
        .chain(&program.uniforms(challenges))
        .map(|x| words(*x))
        .collect();
    let block = BLOCK.min(n);
    // The outputs of each block.
    let mut blocks: Vec<Vec<&mut [Words]>> = (0..n / block).map(|_| Vec::with_capacity(out.len())).collect();
    for o in out {
        for (b, part) in blocks.iter_mut().zip(o.chunks_mut(block)) {
            b.push(part);
        }
    }
    let run = |scratch: &mut Scratch, (i, out): (usize, &mut Vec<&mut [Words]>)| {
        scratch.run(program, domain, columns, &uniform, i * block, out);
    };
    if n * program.steps.len() <= SERIAL {
        let mut scratch = Scratch::new(program, block);
        blocks.iter_mut().enumerate().for_each(|block| run(&mut scratch, block));
    } else {
        let blocks = blocks.par_iter_mut().enumerate().with_min_len(4);
        blocks.for_each_init(|| Scratch::new(program, block), run);
    }
}

/// Operations up to which one thread does all.
pub(crate) const SERIAL: usize = 1 << 12;

/// Memory of one thread. All of it is reached through raw pointers taken once per block: an operand may be the destination.
struct Scratch {
    block: usize,
    registers: Vec<Words>,
    points: Vec<Words>,
    /// Copies of operands that wrap around the end of their column, one per operand of a step.
    wrapped: [Vec<Words>; 3],
}

impl Scratch {
    fn new(program: &Program<Fr>, block: usize) -> Self {
        Scratch {
            block,
            registers: vec![[0; 4]; program.registers as usize * block],
            points: vec![[0; 4]; block],
            wrapped: std::array::from_fn(|_| vec![[0; 4]; block]),
        }
    }

    fn run(
        &mut self,
        program: &Program<Fr>,
        domain: &Domain<Fr>,
        columns: &[&[Words]],
        uniform: &[Words],
        start: usize,
        out: &mut [&mut [Words]],
    ) {
        let sources = program.steps.iter().flat_map(Step::sources).chain(program.results.iter().copied());
        if sources.into_iter().any(|s| s == Source::Point) {
            let mut x = domain.shift * domain.omega.pow_vartime([start as u64]);
            for point in &mut self.points {
                *point = words(x);
                x *= domain.omega;
            }
        }
        let block = self.block;
        let memory = Memory {
            block,
            start,
            registers: self.registers.as_mut_ptr(),
            points: self.points.as_ptr(),
            wrapped: self.wrapped.each_mut().map(|copy| copy.as_mut_ptr()),
        };
        for step in &program.steps {
            let mut views = [View { from: std::ptr::null(), stride: 0 }; 3];
            for (slot, source) in step.sources().enumerate() {
                views[slot] = memory.view(program, columns, uniform, slot, source);
            }
            let [a, b, c] = views;
            let first = step.dst() as usize * block;
            assert!(first + block <= self.registers.len(), "a checked program writes its registers");
            // SAFETY: every view that the step has covers the rows of the block, and so does `dst`, as asserted. A view may be
            // the destination itself: rows are read before they are written, one by one, through raw pointers.
            unsafe {
                let dst = memory.registers.add(first);
                match step {
                    Step::Add { .. } => each(block, dst, |i| reduce(&add(&a.at(i), &b.at(i)))),
                    Step::Sub { .. } => each(block, dst, |i| reduce(&sub(&a.at(i), &b.at(i)))),
                    Step::Mul { .. } => each(block, dst, |i| mul(&a.at(i), &b.at(i))),
                    Step::MulAdd { .. } => {
                        each(block, dst, |i| reduce(&add(&mul(&a.at(i), &b.at(i)), &c.at(i))));
                    }
                    Step::Square { .. } => each(block, dst, |i| mul(&a.at(i), &a.at(i))),
                    Step::Double { .. } => each(block, dst, |i| reduce(&add(&a.at(i), &a.at(i)))),
                    Step::Negate { .. } => each(block, dst, |i| reduce(&sub(&[0; 4], &a.at(i)))),
                }
            }
        }
        for (result, out) in program.results.iter().zip(out) {
            let view = memory.view(program, columns, uniform, 0, *result);
            for (i, value) in out.iter_mut().enumerate() {
                // SAFETY: the view covers the rows of the block.
                *value = canonical(&unsafe { view.at(i) });
            }
        }
    }
}

/// A [`Scratch`] at work on the block that starts at row `start`.
struct Memory {
    block: usize,
    start: usize,
    registers: *mut Words,
    points: *const Words,
    wrapped: [*mut Words; 3],
}

impl Memory {
    fn view(
        &self,
        program: &Program<Fr>,
        columns: &[&[Words]],
        uniform: &[Words],
        slot: usize,
        source: Source,
    ) -> View {
        let single = |i: usize| View { from: &uniform[i], stride: 0 };
        let (constants, challenges) = (program.constants.len(), program.challenges as usize);
        match source {
            Source::Constant(i) => single(i as usize),
            Source::Challenge(i) => single(constants + i as usize),
            Source::Uniform(i) => single(constants + challenges + i as usize),
            Source::Register(i) => {
                assert!(i < program.registers, "a checked program reads its registers");
                View { from: self.registers.wrapping_add(i as usize * self.block), stride: 1 }
            }
            Source::Point => View { from: self.points, stride: 1 },
            Source::Column { column, rotation } => {
                let column = columns[column as usize];
                let rotation = i64::from(program.rotations[rotation as usize]);
                let n = column.len();
                let first = (self.start as i64 + rotation).rem_euclid(n as i64) as usize;
                if let Some(run) = column.get(first..first + self.block) {
                    return View { from: run.as_ptr(), stride: 1 };
                }
                let copy = self.wrapped[slot];
                for i in 0..self.block {
                    // SAFETY: each copy has a place for every row of a block; no view of this step's other operands is in it.
                    unsafe { *copy.add(i) = column[(first + i) % n] };
                }
                View { from: copy, stride: 1 }
            }
        }
    }
}

/// # Safety
/// `block` rows are writable at `dst`.
#[inline(always)]
unsafe fn each(block: usize, dst: *mut Words, value: impl Fn(usize) -> Words) {
    for i in 0..block {
        let value = value(i);
        // SAFETY: by the caller's contract.
        unsafe { *dst.add(i) = value };
    }
}
