//! Programs in pieces, for devices that bind few columns at a time.
//!
//! A program is cut into runs of its steps. A value that a later run needs goes to a column of its own, a *spill*, which that run reads like any
//! other column. Cuts are made as late as the limits allow, so that a program within the limits stays whole.

use std::collections::{BTreeMap, BTreeSet};

use ff::PrimeField;

use crate::{Program, Source, Step};

/// What one call of a device can take. Fields are numbers of things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProgramLimits {
    /// Columns that are read.
    pub columns: usize,
    /// Columns that are written.
    pub results: usize,
    /// Registers of a row.
    pub registers: usize,
    /// Steps of a row.
    pub steps: usize,
}

impl ProgramLimits {
    /// Anything.
    pub const NONE: ProgramLimits =
        ProgramLimits { columns: usize::MAX, results: usize::MAX, registers: usize::MAX, steps: usize::MAX };

    /// With at most so many columns to read and to write.
    pub const fn with_columns(self, columns: usize, results: usize) -> Self {
        ProgramLimits { columns, results, ..self }
    }

    /// With at most so many registers.
    pub const fn with_registers(self, registers: usize) -> Self {
        ProgramLimits { registers, ..self }
    }

    /// With at most so many steps.
    pub const fn with_steps(self, steps: usize) -> Self {
        ProgramLimits { steps, ..self }
    }

    /// Whether a program is within the limits.
    pub fn admit<F>(&self, program: &Program<F>) -> bool {
        program.columns as usize <= self.columns
            && program.results.len() <= self.results
            && program.registers as usize <= self.registers
            && program.steps.len() <= self.steps
    }
}

impl Default for ProgramLimits {
    fn default() -> Self {
        ProgramLimits::NONE
    }
}

/// A column of a call of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// A column of the whole program.
    Column(u32),
    /// A result of the whole program, written by a piece before.
    Result(u32),
    /// A temporary column, below [`Pieces::spills`].
    Spill(u32),
}

/// A part of a program, as a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece<F> {
    /// The program; challenges are those of the whole.
    pub program: Program<F>,
    /// The columns that it reads, in order.
    pub reads: Vec<Place>,
    /// The columns that it writes, in order: results and spills.
    pub writes: Vec<Place>,
}

impl<F> Piece<F> {
    /// Whether it reads so many columns and writes so many results of the whole program, each once and in order.
    pub fn is_whole(&self, columns: usize, results: usize) -> bool {
        let columns = (0..columns as u32).map(Place::Column);
        let results = (0..results as u32).map(Place::Result);
        self.reads.iter().copied().eq(columns) && self.writes.iter().copied().eq(results)
    }
}

/// A program in pieces, which are run in order over the same domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pieces<F> {
    /// The pieces.
    pub pieces: Vec<Piece<F>>,
    /// Temporary columns that are needed at a time.
    pub spills: u32,
}

/// A program that no cut brings within the limits: a single step needs more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("step {step} of the program needs more than {limits:?}")]
pub struct TooNarrow {
    /// The step; the number of steps for the results.
    pub step: usize,
    /// The limits.
    pub limits: ProgramLimits,
}

/// What a step reads, once registers are replaced by the step that wrote them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    Value(usize),
    Other(Source),
}

/// A program with one value per step.
struct Values<'a, F> {
    program: &'a Program<F>,
    reads: Vec<Vec<Read>>,
    results: Vec<Read>,
    /// The last step that reads the value of a step, if any does.
    last: Vec<Option<usize>>,
    /// The first result that is the value of a step.
    result: BTreeMap<usize, u32>,
}

impl<'a, F: PrimeField> Values<'a, F> {
    fn new(program: &'a Program<F>) -> Self {
        let mut writer: Vec<usize> = vec![0; program.registers as usize];
        let mut last = vec![None; program.steps.len()];
        let read = |writer: &[usize], source| match source {
            Source::Register(r) => Read::Value(writer.get(r as usize).copied().unwrap_or(0)),
            other => Read::Other(other),
        };
        let mut reads = Vec::with_capacity(program.steps.len());
        for (at, step) in program.steps.iter().enumerate() {
            let own: Vec<Read> = step.sources().map(|source| read(&writer, source)).collect();
            for value in own.iter().filter_map(|read| read.value()) {
                last[value] = Some(at);
            }
            reads.push(own);
            if let Some(slot) = writer.get_mut(step.dst() as usize) {
                *slot = at;
            }
        }
        let results: Vec<Read> = program.results.iter().map(|source| read(&writer, *source)).collect();
        let mut result = BTreeMap::new();
        for (o, read) in results.iter().enumerate() {
            if let Some(value) = read.value() {
                result.entry(value).or_insert(o as u32);
            }
        }
        Values { program, reads, results, last, result }
    }

    /// The results that the value of a step is.
    fn results_of(&self, value: usize) -> impl Iterator<Item = u32> + '_ {
        let is_it = move |(_, read): &(usize, &Read)| **read == Read::Value(value);
        self.results.iter().enumerate().filter(is_it).map(|(o, _)| o as u32)
    }

    /// The latest end of a piece that begins at `from`, as far as columns, outputs and steps decide.
    fn end(&self, from: usize, limits: &ProgramLimits) -> Option<usize> {
        let mut inputs: BTreeSet<(bool, usize)> = BTreeSet::new();
        let (mut outputs, mut latest) = (0usize, None);
        for at in from..self.reads.len().min(from.saturating_add(limits.steps)) {
            let mut own: BTreeSet<usize> = BTreeSet::new();
            for read in &self.reads[at] {
                match *read {
                    Read::Value(value) if value < from => {
                        inputs.insert((true, value));
                    }
                    Read::Value(value) => {
                        own.insert(value);
                    }
                    Read::Other(Source::Column { column, .. }) => {
                        inputs.insert((false, column as usize));
                    }
                    Read::Other(_) => {}
                }
            }
            if inputs.len() > limits.columns {
                break;
            }
            // Values whose last reader is in the piece need not leave it.
            let done = |value: &&usize| self.last[**value] == Some(at) && !self.result.contains_key(value);
            outputs -= own.iter().filter(done).count();
            let results = self.results_of(at).count();
            outputs += if results > 0 { results } else { usize::from(self.last[at].is_some()) };
            if outputs <= limits.results {
                latest = Some(at + 1);
            }
        }
        latest
    }

    /// The piece of some steps; `None` when it needs too many registers.
    fn piece(
        &self,
        (from, end): (usize, usize),
        place: &BTreeMap<usize, Place>,
        limits: &ProgramLimits,
    ) -> Option<Piece<F>> {
        let mut columns: Vec<Place> = Vec::new();
        let mut column = |place: Place| match columns.iter().position(|known| *known == place) {
            Some(at) => at as u32,
            None => {
                columns.push(place);
                columns.len() as u32 - 1
            }
        };
        let here = self.program.rotations.iter().position(|rotation| *rotation == 0);
        let mut rotations = self.program.rotations.clone();
        let here = here.unwrap_or_else(|| {
            rotations.push(0);
            rotations.len() - 1
        }) as u32;
        let mut register: BTreeMap<usize, u32> = BTreeMap::new();
        let (mut free, mut registers) = (Vec::new(), 0u32);
        let mut steps = Vec::with_capacity(end - from);
        let is_output = |value: usize| {
            self.result.contains_key(&value) || self.last[value].is_some_and(|last| last >= end)
        };
        for at in from..end {
            let mut sources = Vec::with_capacity(3);
            for read in &self.reads[at] {
                sources.push(match *read {
                    Read::Value(value) if value >= from => Source::Register(*register.get(&value)?),
                    Read::Value(value) => {
                        Source::Column { column: column(*place.get(&value)?), rotation: here }
                    }
                    Read::Other(Source::Column { column: c, rotation }) => {
                        Source::Column { column: column(Place::Column(c)), rotation }
                    }
                    Read::Other(other) => other,
                });
            }
            let done: BTreeSet<usize> = self.reads[at]
                .iter()
                .filter_map(|read| read.value())
                .filter(|value| *value >= from && self.last[*value] == Some(at) && !is_output(*value))
                .collect();
            free.extend(done.iter().filter_map(|value| register.remove(value)));
            let dst = free.pop().unwrap_or_else(|| {
                registers += 1;
                registers - 1
            });
            register.insert(at, dst);
            steps.push(rebuild(&self.program.steps[at], dst, &sources));
            if self.last[at].is_none() && !is_output(at) {
                // Nobody reads it.
                free.extend(register.remove(&at));
            }
        }
        let (mut results, mut writes) = (Vec::new(), Vec::new());
        for value in from..end {
            let mut known = self.results_of(value).map(Place::Result).peekable();
            let spill = (known.peek().is_none() && is_output(value)).then(|| place.get(&value)).flatten();
            for to in known.chain(spill.copied()) {
                results.push(Source::Register(*register.get(&value)?));
                writes.push(to);
            }
        }
        let program = Program {
            constants: self.program.constants.clone(),
            rotations,
            columns: columns.len() as u32,
            challenges: self.program.challenges,
            uniform: self.program.uniform.clone(),
            uniform_registers: self.program.uniform_registers,
            steps,
            registers,
            results,
        };
        limits.admit(&program).then_some(Piece { program, reads: columns, writes })
    }
}

impl Read {
    fn value(&self) -> Option<usize> {
        match self {
            Read::Value(value) => Some(*value),
            Read::Other(_) => None,
        }
    }
}

/// The same operation on other operands.
fn rebuild(step: &Step, dst: u32, sources: &[Source]) -> Step {
    let source = |i: usize| sources.get(i).copied().unwrap_or(Source::Point);
    match step {
        Step::Add { .. } => Step::Add { dst, a: source(0), b: source(1) },
        Step::Sub { .. } => Step::Sub { dst, a: source(0), b: source(1) },
        Step::Mul { .. } => Step::Mul { dst, a: source(0), b: source(1) },
        Step::MulAdd { .. } => Step::MulAdd { dst, a: source(0), b: source(1), c: source(2) },
        Step::Square { .. } => Step::Square { dst, a: source(0) },
        Step::Double { .. } => Step::Double { dst, a: source(0) },
        Step::Negate { .. } => Step::Negate { dst, a: source(0) },
    }
}

impl<F: PrimeField> Program<F> {
    /// The program in pieces within limits; in one where it is within them. The program is one that [`Program::check`] accepts.
    ///
    /// # Errors
    /// [`TooNarrow`] when a single step, or the results that no step computes, need more than the limits.
    pub fn split(&self, limits: &ProgramLimits) -> Result<Pieces<F>, TooNarrow> {
        if limits.admit(self) {
            let piece = Piece {
                program: self.clone(),
                reads: (0..self.columns).map(Place::Column).collect(),
                writes: (0..self.results.len() as u32).map(Place::Result).collect(),
            };
            return Ok(Pieces { pieces: vec![piece], spills: 0 });
        }
        let values = Values::new(self);
        let len = self.steps.len();
        // Every value has a spill of its own name at first.
        let place: BTreeMap<usize, Place> = (0..len)
            .map(|value| {
                (value, values.result.get(&value).map_or(Place::Spill(value as u32), |o| Place::Result(*o)))
            })
            .collect();
        let mut pieces = Vec::new();
        let mut from = 0;
        while from < len {
            let narrow = TooNarrow { step: from, limits: *limits };
            let mut end = values.end(from, limits).ok_or_else(|| narrow.clone())?;
            let piece = loop {
                if let Some(piece) = values.piece((from, end), &place, limits) {
                    break piece;
                }
                // Fewer steps take fewer registers.
                end = from + (end - from) / 2;
                if end == from {
                    return Err(narrow);
                }
            };
            pieces.push(piece);
            from = end;
        }
        self.finish(&values, &mut pieces, limits)?;
        let spills = share(&mut pieces);
        Ok(Pieces { pieces, spills })
    }

    /// Adds the results that are no step's value: one piece after another, as many in each as fit.
    fn finish(
        &self,
        values: &Values<'_, F>,
        pieces: &mut Vec<Piece<F>>,
        limits: &ProgramLimits,
    ) -> Result<(), TooNarrow> {
        let mut left: Vec<(u32, Source)> = Vec::new();
        for (o, read) in values.results.iter().enumerate() {
            if let Read::Other(source) = *read {
                left.push((o as u32, source));
            }
        }
        while !left.is_empty() {
            let (mut reads, mut results, mut writes) = (Vec::<Place>::new(), Vec::new(), Vec::new());
            left.retain(|(o, source)| {
                let (new, source) = match *source {
                    Source::Column { column, rotation } => {
                        let at = reads.iter().position(|place| *place == Place::Column(column));
                        let column_at = at.unwrap_or(reads.len()) as u32;
                        (
                            at.is_none().then_some(Place::Column(column)),
                            Source::Column { column: column_at, rotation },
                        )
                    }
                    other => (None, other),
                };
                let fits = results.len() < limits.results
                    && reads.len() + usize::from(new.is_some()) <= limits.columns;
                if fits {
                    reads.extend(new);
                    results.push(source);
                    writes.push(Place::Result(*o));
                }
                !fits
            });
            if writes.is_empty() {
                return Err(TooNarrow { step: self.steps.len(), limits: *limits });
            }
            let program = Program {
                columns: reads.len() as u32,
                steps: Vec::new(),
                registers: 0,
                results,
                ..self.clone()
            };
            pieces.push(Piece { program, reads, writes });
        }
        Ok(())
    }
}

/// Gives spills that do not live at the same time the same column; how many there are.
fn share<F>(pieces: &mut [Piece<F>]) -> u32 {
    let mut last: BTreeMap<Place, usize> = BTreeMap::new();
    for (at, piece) in pieces.iter().enumerate() {
        last.extend(piece.reads.iter().map(|place| (*place, at)));
    }
    let mut names: BTreeMap<u32, u32> = BTreeMap::new();
    let (mut free, mut count) = (Vec::new(), 0);
    for (at, piece) in pieces.iter_mut().enumerate() {
        let mut ending = Vec::new();
        for place in piece.reads.iter_mut() {
            if let Place::Spill(value) = *place {
                let name = names.get(&value).copied().unwrap_or(0);
                if last.get(place) == Some(&at) {
                    ending.push(name);
                }
                *place = Place::Spill(name);
            }
        }
        for place in piece.writes.iter_mut() {
            if let Place::Spill(value) = *place {
                let name = free.pop().unwrap_or_else(|| {
                    count += 1;
                    count - 1
                });
                names.insert(value, name);
                *place = Place::Spill(name);
            }
        }
        // What is read here is not written here.
        free.extend(ending);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use halo2curves::bn256::Fr;
    use halo2curves::ff::Field;
    use proptest::prelude::*;

    /// Runs a program row by row.
    fn run(program: &Program<Fr>, columns: &[Vec<Fr>], challenges: &[Fr]) -> Vec<Vec<Fr>> {
        let n = 8i64;
        let uniforms = program.uniforms(challenges);
        let mut out = vec![Vec::new(); program.results.len()];
        for row in 0..n {
            let mut registers = vec![Fr::ZERO; program.registers as usize];
            let read = |source: Source, registers: &[Fr]| match source {
                Source::Constant(i) => program.constants[i as usize],
                Source::Challenge(i) => challenges[i as usize],
                Source::Uniform(i) => uniforms[i as usize],
                Source::Register(i) => registers[i as usize],
                Source::Point => Fr::from(row as u64 + 77),
                Source::Column { column, rotation } => {
                    let at = row + i64::from(program.rotations[rotation as usize]);
                    columns[column as usize][at.rem_euclid(n) as usize]
                }
            };
            for step in &program.steps {
                registers[step.dst() as usize] = step.value(|source| read(source, &registers));
            }
            for (out, source) in out.iter_mut().zip(&program.results) {
                out.push(read(*source, &registers));
            }
        }
        out
    }

    fn run_pieces(
        pieces: &Pieces<Fr>,
        results: usize,
        columns: &[Vec<Fr>],
        challenges: &[Fr],
    ) -> Vec<Vec<Fr>> {
        let mut outs = vec![Vec::new(); results];
        let mut spills = vec![Vec::new(); pieces.spills as usize];
        for piece in &pieces.pieces {
            let reads: Vec<Vec<Fr>> = piece
                .reads
                .iter()
                .map(|place| match *place {
                    Place::Column(c) => columns[c as usize].clone(),
                    Place::Result(o) => outs[o as usize].clone(),
                    Place::Spill(s) => spills[s as usize].clone(),
                })
                .collect();
            for (place, column) in piece.writes.iter().zip(run(&piece.program, &reads, challenges)) {
                match *place {
                    Place::Result(o) => outs[o as usize] = column,
                    Place::Spill(s) => spills[s as usize] = column,
                    Place::Column(_) => panic!("a piece writes an operand"),
                }
            }
        }
        outs
    }

    /// A program from random numbers, correct by construction.
    fn program(words: &[u32], columns: u32, registers: u32, results: usize) -> Program<Fr> {
        let mut written: Vec<u32> = Vec::new();
        let mut steps = Vec::new();
        let source = |word: u32, written: &[u32]| match word % 8 {
            0 => Source::Constant(word / 8 % 2),
            1 => Source::Challenge(0),
            2 => Source::Point,
            3 => Source::Uniform(0),
            4 | 5 if !written.is_empty() => Source::Register(written[(word / 8) as usize % written.len()]),
            _ => Source::Column { column: word / 8 % columns, rotation: word / 64 % 3 },
        };
        for word in words.chunks_exact(4) {
            let [a, b, c] = [word[0], word[1], word[2]].map(|word| source(word, &written));
            let dst = word[3] / 8 % registers;
            steps.push(match word[3] % 7 {
                0 => Step::Add { dst, a, b },
                1 => Step::Sub { dst, a, b },
                2 => Step::Mul { dst, a, b },
                3 => Step::MulAdd { dst, a, b, c },
                4 => Step::Square { dst, a },
                5 => Step::Double { dst, a },
                _ => Step::Negate { dst, a },
            });
            if !written.contains(&dst) {
                written.push(dst);
            }
        }
        let results =
            (0..results).map(|o| source(words[o % words.len()].rotate_left(o as u32), &written)).collect();
        Program {
            constants: vec![Fr::from(3), -Fr::from(5)],
            rotations: vec![1, -2, 3],
            columns,
            challenges: 1,
            uniform: vec![Step::Square { dst: 0, a: Source::Challenge(0) }],
            uniform_registers: 1,
            steps,
            registers,
            results,
        }
    }

    proptest! {
        #[test]
        fn pieces_compute_what_the_whole_computes(
            words in prop::collection::vec(any::<u32>(), 4..160),
            columns in 1u32..12,
            registers in 1u32..7,
            results in 1usize..5,
            limits in (3usize..9, 2usize..6, 3usize..8, 1usize..30),
        ) {
            let program = program(&words, columns, registers, results);
            prop_assert_eq!(program.check(), Ok(()));
            let limits = ProgramLimits::NONE
                .with_columns(limits.0, limits.1)
                .with_registers(limits.2)
                .with_steps(limits.3);
            let Ok(pieces) = program.split(&limits) else {
                // Only many results of one value, which one piece has to write, are too many.
                let values = Values::new(&program);
                let most = (0..program.steps.len()).map(|value| values.results_of(value).count()).max();
                prop_assert!(most.unwrap_or(0) > limits.results);
                return Ok(());
            };
            for piece in &pieces.pieces {
                prop_assert!(limits.admit(&piece.program));
                prop_assert_eq!(piece.program.check(), Ok(()));
                prop_assert_eq!(piece.reads.len(), piece.program.columns as usize);
                prop_assert_eq!(piece.writes.len(), piece.program.results.len());
                prop_assert!(piece.writes.iter().all(|place| !piece.reads.contains(place)));
            }
            let columns: Vec<Vec<Fr>> =
                (0..columns).map(|c| (0..8).map(|r| Fr::from(u64::from(c * 100 + r + 1))).collect()).collect();
            let challenges = [Fr::from(11)];
            let whole = run(&program, &columns, &challenges);
            prop_assert_eq!(run_pieces(&pieces, results, &columns, &challenges), whole);
        }
    }

    #[test]
    fn a_program_within_the_limits_stays_whole() {
        let program = program(&[7, 9, 1 << 9, 3, 90, 33, 21, 60], 3, 2, 1);
        let pieces = program.split(&ProgramLimits::NONE).unwrap();
        assert_eq!((pieces.pieces.len(), pieces.spills), (1, 0));
        assert_eq!(pieces.pieces[0].program, program);
    }

    #[test]
    fn limits_below_a_single_step_are_refused() {
        let column = |column| Source::Column { column, rotation: 0 };
        let program = Program::<Fr> {
            rotations: vec![0],
            columns: 3,
            steps: vec![Step::MulAdd { dst: 0, a: column(0), b: column(1), c: column(2) }],
            registers: 1,
            results: vec![Source::Register(0)],
            ..Program::default()
        };
        let limits = ProgramLimits::NONE.with_columns(2, 1);
        assert_eq!(program.split(&limits), Err(TooNarrow { step: 0, limits }));
    }
}
