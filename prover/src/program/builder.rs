//! From expressions to straight-line programs.
//!
//! Expressions become nodes of a graph in which equal subexpressions are one node (hash-consing, with commutative
//! operands sorted and trivial identities applied), so nothing is computed twice. Nodes that depend on constants and
//! challenges alone go to the uniform part, which runs once per call. The rest is emitted depth first; `a·b + c`
//! becomes one step where `a·b` has no other use; registers are reused as soon as their value is dead, so that the
//! working set of an interpreter stays in cache.

use std::collections::HashMap;

use ff::{Field, PrimeField};
use halo2curves::bn256::Fr;
use parhelion_backend_api::{Program, Source, Step};

/// A node of the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Id(u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Node {
    Leaf(Source),
    Add(Id, Id),
    Sub(Id, Id),
    Mul(Id, Id),
    Square(Id),
    Double(Id),
    Negate(Id),
}

/// Builds one program over columns named by `K`.
#[derive(Debug)]
pub(crate) struct Builder<K> {
    nodes: Vec<Node>,
    uniform: Vec<bool>,
    index: HashMap<Node, Id>,
    constants: Vec<Fr>,
    constant_index: HashMap<[u8; 32], u32>,
    rotations: Vec<i32>,
    columns: Vec<K>,
    challenges: u32,
}

impl<K: Copy + PartialEq> Builder<K> {
    /// A builder of programs with `challenges` challenges.
    pub(crate) fn new(challenges: usize) -> Self {
        Builder {
            nodes: Vec::new(),
            uniform: Vec::new(),
            index: HashMap::new(),
            constants: Vec::new(),
            constant_index: HashMap::new(),
            rotations: Vec::new(),
            columns: Vec::new(),
            challenges: challenges as u32,
        }
    }

    fn node(&mut self, node: Node) -> Id {
        if let Some(id) = self.index.get(&node) {
            return *id;
        }
        let uniform = match node {
            Node::Leaf(source) => source.is_uniform(),
            Node::Add(a, b) | Node::Sub(a, b) | Node::Mul(a, b) => self.is_uniform(a) && self.is_uniform(b),
            Node::Square(a) | Node::Double(a) | Node::Negate(a) => self.is_uniform(a),
        };
        let id = Id(self.nodes.len() as u32);
        self.nodes.push(node);
        self.uniform.push(uniform);
        self.index.insert(node, id);
        id
    }

    fn is_uniform(&self, id: Id) -> bool {
        self.uniform[id.0 as usize]
    }

    fn get(&self, id: Id) -> Node {
        self.nodes[id.0 as usize]
    }

    fn value(&self, id: Id) -> Option<Fr> {
        match self.get(id) {
            Node::Leaf(Source::Constant(i)) => Some(self.constants[i as usize]),
            _ => None,
        }
    }

    pub(crate) fn constant(&mut self, value: Fr) -> Id {
        let constants = &mut self.constants;
        let i = *self.constant_index.entry(value.to_repr()).or_insert_with(|| {
            constants.push(value);
            constants.len() as u32 - 1
        });
        self.node(Node::Leaf(Source::Constant(i)))
    }

    pub(crate) fn challenge(&mut self, index: usize) -> Id {
        self.node(Node::Leaf(Source::Challenge(index as u32)))
    }

    /// The point of the row.
    pub(crate) fn point(&mut self) -> Id {
        self.node(Node::Leaf(Source::Point))
    }

    pub(crate) fn column(&mut self, column: K, rotation: i32) -> Id {
        let column = position(&mut self.columns, column);
        let rotation = position(&mut self.rotations, rotation);
        self.node(Node::Leaf(Source::Column { column, rotation }))
    }

    pub(crate) fn add(&mut self, a: Id, b: Id) -> Id {
        match (self.value(a), self.value(b)) {
            (Some(x), Some(y)) => return self.constant(x + y),
            (Some(x), None) if x == Fr::ZERO => return b,
            (None, Some(y)) if y == Fr::ZERO => return a,
            _ => {}
        }
        match (self.get(a), self.get(b)) {
            _ if a == b => self.double(a),
            (_, Node::Negate(b)) => self.sub(a, b),
            (Node::Negate(a), _) => self.sub(b, a),
            _ => self.node(Node::Add(a.min(b), a.max(b))),
        }
    }

    pub(crate) fn sub(&mut self, a: Id, b: Id) -> Id {
        match (self.value(a), self.value(b)) {
            (Some(x), Some(y)) => return self.constant(x - y),
            (Some(x), None) if x == Fr::ZERO => return self.negate(b),
            (None, Some(y)) => {
                let minus = self.constant(-y);
                return self.add(a, minus);
            }
            _ => {}
        }
        match self.get(b) {
            _ if a == b => self.constant(Fr::ZERO),
            Node::Negate(b) => self.add(a, b),
            // The negation of a uniform factor costs nothing, and the sum becomes one fused step.
            Node::Mul(u, v) if self.is_uniform(u) != self.is_uniform(v) => {
                let (u, v) = if self.is_uniform(u) { (u, v) } else { (v, u) };
                let minus = self.negate(u);
                let product = self.mul(minus, v);
                self.node(Node::Add(a.min(product), a.max(product)))
            }
            _ => self.node(Node::Sub(a, b)),
        }
    }

    pub(crate) fn mul(&mut self, a: Id, b: Id) -> Id {
        let (a, b) = if self.value(b).is_some() { (b, a) } else { (a, b) };
        match (self.value(a), self.value(b)) {
            (Some(x), Some(y)) => return self.constant(x * y),
            (Some(x), None) if x == Fr::ZERO => return a,
            (Some(x), None) if x == Fr::ONE => return b,
            (Some(x), None) if x == -Fr::ONE => return self.negate(b),
            (Some(x), None) if x == Fr::from(2) => return self.double(b),
            _ => {}
        }
        match (self.get(a), self.get(b)) {
            _ if a == b => self.node(Node::Square(a)),
            (Node::Negate(x), Node::Negate(y)) if !self.is_uniform(a) && !self.is_uniform(b) => {
                self.mul(x, y)
            }
            (Node::Negate(x), _) if !self.is_uniform(a) => {
                let product = self.mul(x, b);
                self.negate(product)
            }
            (_, Node::Negate(y)) if !self.is_uniform(b) => {
                let product = self.mul(a, y);
                self.negate(product)
            }
            _ => self.node(Node::Mul(a.min(b), a.max(b))),
        }
    }

    fn double(&mut self, a: Id) -> Id {
        match self.value(a) {
            Some(x) => self.constant(x.double()),
            None => self.node(Node::Double(a)),
        }
    }

    pub(crate) fn negate(&mut self, a: Id) -> Id {
        match (self.value(a), self.get(a)) {
            (Some(x), _) => self.constant(-x),
            (_, Node::Negate(x)) => x,
            (_, Node::Sub(x, y)) => self.node(Node::Sub(y, x)),
            _ => self.node(Node::Negate(a)),
        }
    }

    /// `Σ_i terms[i]·weight^(len − 1 − i)`, as Horner's rule gives it.
    pub(crate) fn horner(&mut self, terms: &[Id], weight: Id) -> Id {
        let zero = self.constant(Fr::ZERO);
        terms.iter().fold(zero, |sum, term| {
            let shifted = self.mul(sum, weight);
            self.add(shifted, *term)
        })
    }

    /// Emits the program with the given results, and the columns that a call must pass, in order.
    pub(crate) fn finish(self, results: &[Id]) -> (Program<Fr>, Vec<K>) {
        let mut emitter = Emitter::new(&self, results);
        for result in results {
            emitter.emit(*result);
        }
        let results = results.iter().map(|id| emitter.source(*id)).collect();
        let Emitter { uniform_steps, uniform_registers, steps, registers, .. } = emitter;
        let program = Program {
            constants: self.constants,
            rotations: self.rotations,
            columns: self.columns.len() as u32,
            challenges: self.challenges,
            uniform: uniform_steps,
            uniform_registers,
            steps,
            registers,
            results,
        };
        (program, self.columns)
    }
}

fn position<T: PartialEq>(list: &mut Vec<T>, item: T) -> u32 {
    let found = list.iter().position(|x| *x == item);
    found.unwrap_or_else(|| {
        list.push(item);
        list.len() - 1
    }) as u32
}

/// Walks the graph once and assigns registers.
struct Emitter<'b, K> {
    builder: &'b Builder<K>,
    /// How often each node is still to be read, by steps and results.
    pending: Vec<u32>,
    /// For a sum that is emitted as one fused step: the product's factors and the addend.
    fused: Vec<Option<(Id, Id, Id)>>,
    place: Vec<Option<Source>>,
    free: Vec<u32>,
    uniform_steps: Vec<Step>,
    uniform_registers: u32,
    steps: Vec<Step>,
    registers: u32,
}

impl<'b, K: Copy + PartialEq> Emitter<'b, K> {
    fn new(builder: &'b Builder<K>, results: &[Id]) -> Self {
        let count = builder.nodes.len();
        let mut emitter = Emitter {
            builder,
            pending: vec![0; count],
            fused: vec![None; count],
            place: vec![None; count],
            free: Vec::new(),
            uniform_steps: Vec::new(),
            uniform_registers: 0,
            steps: Vec::new(),
            registers: 0,
        };
        let uses = emitter.count_uses(results);
        for (i, node) in builder.nodes.iter().enumerate() {
            if builder.uniform[i] {
                continue;
            }
            if let Node::Add(x, y) = *node {
                let factors = |id: Id| match builder.get(id) {
                    Node::Mul(a, b) if uses[id.0 as usize] == 1 && !builder.is_uniform(id) => Some((a, b)),
                    _ => None,
                };
                // Of two products the later one is fused: the earlier one is the running sum.
                emitter.fused[i] =
                    factors(y).map(|(a, b)| (a, b, x)).or_else(|| factors(x).map(|(a, b)| (a, b, y)));
            }
        }
        emitter.pending = emitter.count_uses(results);
        emitter
    }

    /// How often each node is read by the nodes that the results need.
    fn count_uses(&self, results: &[Id]) -> Vec<u32> {
        let mut uses = vec![0u32; self.builder.nodes.len()];
        let mut stack: Vec<Id> = results.to_vec();
        while let Some(id) = stack.pop() {
            uses[id.0 as usize] += 1;
            if uses[id.0 as usize] == 1 {
                stack.extend(self.operands(id).into_iter().flatten());
            }
        }
        uses
    }

    fn operands(&self, id: Id) -> [Option<Id>; 3] {
        if let Some((a, b, c)) = self.fused[id.0 as usize] {
            // The running sum first: its register is the only one that lives on.
            return [Some(c), Some(a), Some(b)];
        }
        match self.builder.get(id) {
            Node::Leaf(_) => [None; 3],
            Node::Add(a, b) | Node::Sub(a, b) | Node::Mul(a, b) => [Some(a), Some(b), None],
            Node::Square(a) | Node::Double(a) | Node::Negate(a) => [Some(a), None, None],
        }
    }

    fn source(&self, id: Id) -> Source {
        match self.builder.get(id) {
            Node::Leaf(source) => source,
            // Every operand is emitted before its reader, so the default is never used.
            _ => self.place[id.0 as usize].unwrap_or(Source::Constant(0)),
        }
    }

    fn done(&self, id: Id) -> bool {
        matches!(self.builder.get(id), Node::Leaf(_)) || self.place[id.0 as usize].is_some()
    }

    fn emit(&mut self, root: Id) {
        let mut stack = vec![root];
        while let Some(&id) = stack.last() {
            if self.done(id) {
                stack.pop();
                continue;
            }
            let missing = self.operands(id).into_iter().flatten().find(|o| !self.done(*o));
            match missing {
                Some(operand) => stack.push(operand),
                None => {
                    self.step(id);
                    stack.pop();
                }
            }
        }
    }

    fn step(&mut self, id: Id) {
        let uniform = self.builder.is_uniform(id);
        let dst = if uniform {
            self.uniform_registers += 1;
            self.uniform_registers - 1
        } else {
            self.free.pop().unwrap_or_else(|| {
                self.registers += 1;
                self.registers - 1
            })
        };
        let at = |x| self.source(x);
        let step = match (self.fused[id.0 as usize], self.builder.get(id)) {
            (Some((a, b, c)), _) => Step::MulAdd { dst, a: at(a), b: at(b), c: at(c) },
            (_, Node::Add(a, b)) => Step::Add { dst, a: at(a), b: at(b) },
            (_, Node::Sub(a, b)) => Step::Sub { dst, a: at(a), b: at(b) },
            (_, Node::Mul(a, b)) => Step::Mul { dst, a: at(a), b: at(b) },
            (_, Node::Square(a)) => Step::Square { dst, a: at(a) },
            (_, Node::Double(a)) => Step::Double { dst, a: at(a) },
            (_, Node::Negate(a)) => Step::Negate { dst, a: at(a) },
            // Leaves are always done.
            (_, Node::Leaf(a)) => Step::Double { dst, a },
        };
        if uniform {
            self.uniform_steps.push(step);
            self.place[id.0 as usize] = Some(Source::Uniform(dst));
            return;
        }
        self.steps.push(step);
        self.place[id.0 as usize] = Some(Source::Register(dst));
        for operand in self.operands(id).into_iter().flatten() {
            let pending = &mut self.pending[operand.0 as usize];
            *pending -= 1;
            if *pending == 0
                && let Some(Source::Register(register)) = self.place[operand.0 as usize]
            {
                self.free.push(register);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of every result in one row, straight from the program.
    fn run(program: &Program<Fr>, challenges: &[Fr], column: impl Fn(u32, i32) -> Fr, point: Fr) -> Vec<Fr> {
        program.check().unwrap();
        let uniform = program.uniforms(challenges);
        let mut registers = vec![Fr::ZERO; program.registers as usize];
        let read = |registers: &[Fr], source| match source {
            Source::Constant(i) => program.constants[i as usize],
            Source::Challenge(i) => challenges[i as usize],
            Source::Uniform(i) => uniform[i as usize],
            Source::Register(i) => registers[i as usize],
            Source::Column { column: c, rotation } => column(c, program.rotations[rotation as usize]),
            Source::Point => point,
        };
        for step in &program.steps {
            let value = step.value(|s| read(&registers, s));
            registers[step.dst() as usize] = value;
        }
        program.results.iter().map(|r| read(&registers, *r)).collect()
    }

    #[test]
    fn shared_terms_are_computed_once_and_registers_are_reused() {
        let mut b = Builder::<u32>::new(1);
        let (x, y, c) = (b.column(0, 0), b.column(1, -2), b.challenge(0));
        let product = b.mul(x, y);
        let again = b.mul(y, x);
        assert_eq!(product, again);
        let two = b.add(c, c);
        let mut sum = b.constant(Fr::ZERO);
        for i in 0..20u64 {
            let k = b.constant(Fr::from(i + 3));
            let t = b.add(product, k);
            let t = b.mul(t, two);
            sum = b.add(sum, t);
        }
        let (program, columns) = b.finish(&[sum, product]);
        assert_eq!(columns, [0, 1]);
        assert!(program.registers <= 4, "{} registers", program.registers);
        assert_eq!(program.uniform.len(), 1);
        let value = |c, r| Fr::from(100 + u64::from(c == 1)) + Fr::from((r == -2) as u64);
        let got = run(&program, &[Fr::from(5)], value, Fr::ZERO);
        let product = Fr::from(100) * Fr::from(102);
        let expected: Fr = (0..20u64).map(|i| (product + Fr::from(i + 3)) * Fr::from(10)).sum();
        assert_eq!(got, [expected, product]);
    }

    #[test]
    fn identities_hold() {
        let mut b = Builder::<u32>::new(1);
        let (x, y, u) = (b.column(0, 0), b.column(1, 0), b.challenge(0));
        let zero = b.constant(Fr::ZERO);
        let one = b.constant(Fr::ONE);
        assert_eq!(b.add(x, zero), x);
        assert_eq!(b.mul(x, one), x);
        assert_eq!(b.mul(x, zero), zero);
        assert_eq!(b.sub(x, x), zero);
        let (nx, ny) = (b.negate(x), b.negate(y));
        assert_eq!(b.negate(nx), x);
        let (xy, both) = (b.mul(x, y), b.mul(nx, ny));
        assert_eq!(xy, both);
        let ux = b.mul(u, x);
        let results = [b.sub(y, ux), b.sub(zero, x), b.add(nx, y), b.sub(x, ny), b.mul(x, x), b.add(x, x)];
        let (program, _) = b.finish(&results);
        let (vx, vy, vu) = (Fr::from(7), Fr::from(11), Fr::from(13));
        let got = run(&program, &[vu], |c, _| if c == 0 { vx } else { vy }, Fr::ZERO);
        assert_eq!(got, [vy - vu * vx, -vx, vy - vx, vx + vy, vx * vx, vx + vx]);
    }
}
