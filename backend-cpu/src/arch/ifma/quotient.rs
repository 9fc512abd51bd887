//! Programs over eight rows at a time.
//!
//! Rows are taken in blocks; a step runs over a whole block before the next one starts, so that the dispatch on its kind is paid once per
//! block and the registers of a block stay in the second-level cache.
//!
//! Registers hold normalised limbs in 2^260 form. A column's boundary form times 16 is the 2^260 form of the same element, below 16p, so that
//! loading costs a shift and no product. How large a register's representative may be is known when the program is compiled
//! (a product of values below ap and bp is below (ab/84 + 1)p, a sum below (a + b)p), and reductions are placed only where a bound would
//! exceed what fits.

use halo2curves::bn256::Fr;
use halo2curves::ff::Field;
use parhelion_backend_api::{Domain, Program, Source, Step};
use rayon::prelude::*;

use super::Token;
use super::field::{FrModulus, V8, split};
use super::ntt::{Target, sixteen};
use crate::arch::generic::field::{Words, words};
use crate::arch::generic::quotient::SERIAL;

type V = V8<FrModulus>;

/// Values of a register stay below this multiple of p; 2^260 > 84p.
const LIMIT: f64 = 80.0;

#[derive(Clone, Copy, Debug)]
enum Operand {
    Register(u32),
    Uniform(u32),
    Column { column: u32, rotation: i32 },
    Point,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Add,
    /// With the multiple of p that keeps the difference non-negative: 1 << this.
    Sub(u32),
    Mul,
    MulAdd,
    Square,
}

#[derive(Clone, Copy, Debug)]
struct Instruction {
    kind: Kind,
    /// Whether the result must be brought below 2p.
    reduce: bool,
    dst: u32,
    a: Operand,
    b: Operand,
    c: Operand,
}

/// A program as instructions. Uniform values (constants, challenges, uniform registers) are numbered in that order.
#[derive(Debug)]
pub(crate) struct CompiledProgram {
    instructions: Vec<Instruction>,
    registers: usize,
    results: Vec<Operand>,
    /// Index of a uniform zero, appended after all others.
    zero: u32,
    needs_point: bool,
}

impl CompiledProgram {
    /// Compiles a program that passed [`Program::check`].
    pub(crate) fn new(_: Token, program: &Program<Fr>) -> Self {
        let constants = program.constants.len();
        let challenges = program.challenges as usize;
        let zero = (constants + challenges + program.uniform_registers as usize) as u32;
        let operand = |source: Source| match source {
            Source::Constant(i) => Operand::Uniform(i),
            Source::Challenge(i) => Operand::Uniform(constants as u32 + i),
            Source::Uniform(i) => Operand::Uniform((constants + challenges) as u32 + i),
            Source::Register(i) => Operand::Register(i),
            Source::Column { column, rotation } => {
                Operand::Column { column, rotation: program.rotations[rotation as usize] }
            }
            Source::Point => Operand::Point,
        };
        let mut bounds = vec![0.0f64; program.registers as usize];
        let mut instructions = Vec::with_capacity(program.steps.len());
        for step in &program.steps {
            let bound = |o: Operand| match o {
                Operand::Register(r) => bounds[r as usize],
                Operand::Uniform(_) => 1.0,
                Operand::Column { .. } => 16.0,
                Operand::Point => 2.0,
            };
            let z = Operand::Uniform(zero);
            let product = |a: f64, b: f64| a * b / 84.0 + 1.0;
            let difference = |a: Operand, b: Operand| {
                // Limbs are compared as one integer, so k·p ≥ b suffices.
                let log = bound(b).log2().ceil().max(0.0) as u32;
                (Kind::Sub(log), a, b, z, bound(a) + f64::from(1u32 << log))
            };
            let (kind, a, b, c, size) = match *step {
                Step::Add { a, b, .. } => {
                    let (a, b) = (operand(a), operand(b));
                    (Kind::Add, a, b, z, bound(a) + bound(b))
                }
                Step::Double { a, .. } => {
                    let a = operand(a);
                    (Kind::Add, a, a, z, 2.0 * bound(a))
                }
                Step::Sub { a, b, .. } => difference(operand(a), operand(b)),
                Step::Negate { a, .. } => difference(z, operand(a)),
                Step::Mul { a, b, .. } => {
                    let (a, b) = (operand(a), operand(b));
                    (Kind::Mul, a, b, z, product(bound(a), bound(b)))
                }
                Step::Square { a, .. } => {
                    let a = operand(a);
                    (Kind::Square, a, a, z, product(bound(a), bound(a)))
                }
                Step::MulAdd { a, b, c, .. } => {
                    let (a, b, c) = (operand(a), operand(b), operand(c));
                    (Kind::MulAdd, a, b, c, product(bound(a), bound(b)) + bound(c))
                }
            };
            // Whatever is kept must leave room for one more difference or sum.
            let reduce = size > LIMIT / 5.0;
            bounds[step.dst() as usize] = if reduce { 2.0 } else { size };
            instructions.push(Instruction { kind, reduce, dst: step.dst(), a, b, c });
        }
        let results: Vec<Operand> = program.results.iter().map(|r| operand(*r)).collect();
        let is_point = |o: &Operand| matches!(o, Operand::Point);
        let needs_point =
            results.iter().any(is_point) || instructions.iter().any(|i| [i.a, i.b, i.c].iter().any(is_point));
        CompiledProgram { instructions, registers: program.registers as usize, results, zero, needs_point }
    }
}

impl CompiledProgram {
    /// Evaluates `program`, from which this was compiled, over 2^`log_n` ≥ 8 rows. Columns and outputs have that length, and their
    /// numbers are the program's.
    pub(crate) fn evaluate(
        &self,
        program: &Program<Fr>,
        domain: &Domain<Fr>,
        columns: &[&[Words]],
        challenges: &[Fr],
        out: &mut [&mut [Words]],
    ) {
        let n = 1usize << domain.log_n;
        assert!(
            n >= 8 && columns.iter().all(|c| c.len() == n) && out.iter().all(|o| o.len() == n),
            "checked by the caller"
        );
        // SAFETY: a compiled program proves that the instructions are there; the lengths are asserted.
        unsafe { evaluate(self, program, domain, columns, challenges, out) }
    }
}

/// # Safety
/// The instructions exist; every column and every output has 2^`log_n` ≥ 8 elements.
unsafe fn evaluate(
    compiled: &CompiledProgram,
    program: &Program<Fr>,
    domain: &Domain<Fr>,
    columns: &[&[Words]],
    challenges: &[Fr],
    out: &mut [&mut [Words]],
) {
    let n = 1usize << domain.log_n;
    let uniform: Vec<[u64; 5]> = program
        .constants
        .iter()
        .chain(challenges)
        .chain(&program.uniforms(challenges))
        .chain(&[Fr::ZERO])
        .map(|x| split(words(*x * sixteen())))
        .collect();
    debug_assert_eq!(uniform.len(), compiled.zero as usize + 1);
    // Registers of a block in about half of a second-level cache.
    let width = (512 * 1024 / (compiled.registers.max(1) * 320)).clamp(2, 32).min(n / 8);
    let targets: Vec<Target> = out.iter_mut().map(|o| Target(o.as_mut_ptr())).collect();
    let rows = width * 8;
    let one = |(registers, points): &mut (Vec<V>, Vec<V>), block: usize| {
        let start = block * rows;
        let width = width.min((n - start) / 8);
        // SAFETY: the caller vouches for the instruction set and the lengths; blocks are disjoint.
        unsafe { run(compiled, &uniform, domain, columns, &targets, start, width, registers, points) }
    };
    let blocks = 0..n.div_ceil(rows);
    if n * compiled.instructions.len() <= 4 * SERIAL {
        let mut memory = Default::default();
        blocks.for_each(|block| one(&mut memory, block));
    } else {
        blocks.into_par_iter().for_each_init(Default::default, one);
    }
}

#[expect(clippy::too_many_arguments, reason = "one call site; a struct would only rename them")]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
unsafe fn run(
    compiled: &CompiledProgram,
    uniform: &[[u64; 5]],
    domain: &Domain<Fr>,
    columns: &[&[Words]],
    targets: &[Target],
    start: usize,
    width: usize,
    registers: &mut Vec<V>,
    points: &mut Vec<V>,
) {
    let n = 1usize << domain.log_n;
    registers.resize(compiled.registers * width, V::zero());
    if compiled.needs_point {
        points.clear();
        let mut first = [[0; 4]; 8];
        let mut x = domain.shift * domain.omega.pow_vartime([start as u64]) * sixteen();
        for slot in &mut first {
            *slot = words(x);
            x *= domain.omega;
        }
        let step = V::splat(split(words(domain.omega.pow_vartime([8]) * sixteen())));
        let mut point = V::load(&first);
        for _ in 0..width {
            points.push(point);
            point = point.mul(step);
        }
    }
    for i in &compiled.instructions {
        for v in 0..width {
            let fetch = |o: Operand| match o {
                Operand::Register(r) => registers[r as usize * width + v],
                Operand::Uniform(u) => V::splat(uniform[u as usize]),
                Operand::Column { column, rotation } => {
                    load_rotated(columns[column as usize], start + v * 8, rotation, n)
                }
                Operand::Point => points[v],
            };
            let a = fetch(i.a);
            let mut value = match i.kind {
                Kind::Add => a.add_lazy(fetch(i.b)).carry(),
                Kind::Sub(log) => difference(a, fetch(i.b), log).carry(),
                Kind::Mul => a.mul(fetch(i.b)),
                Kind::Square => a.square(),
                Kind::MulAdd => a.mul(fetch(i.b)).add_lazy(fetch(i.c)).carry(),
            };
            if i.reduce {
                value = value.reduce();
            }
            registers[i.dst as usize * width + v] = value;
        }
    }
    // 2^256 mod p as an integer: `mul` by it takes 2^260 form to boundary form.
    let out_of = V::splat(split(words(Fr::ONE)));
    for (result, target) in compiled.results.iter().zip(targets) {
        for v in 0..width {
            let value = match *result {
                Operand::Register(r) => registers[r as usize * width + v],
                Operand::Uniform(u) => V::splat(uniform[u as usize]),
                Operand::Column { column, rotation } => {
                    load_rotated(columns[column as usize], start + v * 8, rotation, n)
                }
                Operand::Point => points[v],
            };
            let value = value.mul(out_of).canonical();
            // SAFETY: rows start + 8v .. + 8 of this output belong to this block alone.
            value.store(unsafe { &mut *target.0.add(start + v * 8).cast::<[Words; 8]>() });
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
fn difference(a: V, b: V, log: u32) -> V {
    match log {
        0 => a.sub_lazy::<1>(b),
        1 => a.sub_lazy::<2>(b),
        2 => a.sub_lazy::<4>(b),
        3 => a.sub_lazy::<8>(b),
        4 => a.sub_lazy::<16>(b),
        5 => a.sub_lazy::<32>(b),
        _ => a.sub_lazy::<64>(b),
    }
}

/// Rows `start + rotation ..` of a column, eight of them, modulo n, in 2^260 form.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx512ifma,avx512vbmi2")]
fn load_rotated(column: &[Words], start: usize, rotation: i32, n: usize) -> V {
    let first = (start as i64 + i64::from(rotation)).rem_euclid(n as i64) as usize;
    match column.get(first..first + 8).and_then(|rows| rows.first_chunk::<8>()) {
        Some(rows) => V::load_shifted(rows),
        None => {
            let rows: [Words; 8] = std::array::from_fn(|i| column[(first + i) % n]);
            V::load_shifted(&rows)
        }
    }
}
