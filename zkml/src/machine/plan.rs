//! Plans: everything about a circuit that does not depend on the input.

use std::collections::HashMap;
use std::sync::Arc;

use parhelion_prover::{ProofReport, Stage};
use serde::{Deserialize, Serialize};

use crate::qir::{OpKind, Program, TensorId};

use super::cost::{Counts, Prediction, Rates};
use super::layout::{Choice, Layout, lay_out};
use super::lower::{lower, reads};
use super::place::{Specs, place, size};
use super::search::search;
use super::shortage::Shortage;
use super::validate::validate;
use super::visibility::{Exposure, Part, Vis, Visibility};

/// Limits and preferences of the planner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanOptions {
    /// Least log₂ of the number of rows.
    pub min_k: u32,
    /// Greatest log₂ of the number of rows.
    pub max_k: u32,
    /// Number of work units per row; several are tried where none is given.
    pub units: Option<u32>,
    /// Wanted length of a proof: the fastest layout within it is taken, unless it is slower than the fastest of all by more than
    /// `proof_patience`. Where none is, every doubling beyond it counts as that much time.
    pub target_proof_bytes: Option<usize>,
    /// Percentage of proving time that a shorter proof may cost.
    pub proof_patience: u32,
    /// Milliseconds that a shorter proof may cost, whatever the percentage says: a slow proof is to be fast first.
    pub proof_patience_ms: u32,
    /// Times of the prover's operations.
    pub rates: Rates,
    /// Skips the search.
    pub choice: Option<Choice>,
}

impl Default for PlanOptions {
    fn default() -> Self {
        PlanOptions {
            min_k: 5,
            max_k: 22,
            units: None,
            target_proof_bytes: Some(6 << 10),
            proof_patience: 60,
            proof_patience_ms: 1000,
            rates: Rates::default(),
            choice: None,
        }
    }
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The program contradicts itself.
    #[error("{op}: {reason}")]
    Invalid {
        /// Operation or tensor.
        op: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The circuit has no form of this.
    #[error("the circuit cannot express {0}")]
    Unsupported(String),
    /// A visibility that its group cannot have.
    #[error("{group} cannot be {visibility}")]
    Visibility {
        /// Inputs or outputs.
        group: &'static str,
        /// What was asked for.
        visibility: Vis,
    },
    /// A visibility for parameters of a model that has none.
    #[error("the model has no parameters that could be {0}")]
    NoParameters(Vis),
    /// A visibility that a tensor cannot have.
    #[error("{tensor} cannot be {visibility}")]
    TensorVisibility {
        /// Its name.
        tensor: String,
        /// What was asked for.
        visibility: Vis,
    },
    /// A visibility for tensors that the model does not have.
    #[error("no {part} is called `{pattern}`; there are {}", known.join(", "))]
    NoSuchTensor {
        /// The group.
        part: Part,
        /// The name that was asked for.
        pattern: String,
        /// The names of the group.
        known: Vec<String>,
    },
    /// No layout fits.
    #[error(transparent)]
    TooLarge(#[from] Box<Shortage>),
    /// More distinct constants than rows.
    #[error("{constants} distinct constants do not fit {rows} rows")]
    TooManyConstants {
        /// Their number.
        constants: usize,
        /// Usable rows.
        rows: usize,
    },
    /// A strip does not divide into rows of this many units; the planner tries fewer.
    #[error("a contraction does not divide into rows of this many units")]
    Misaligned,
    /// The planner contradicts itself.
    #[error("internal: {0}")]
    Internal(String),
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProveError {
    /// A value outside the range that the circuit admits.
    #[error("{layer}, element {element}: {value} is outside [{lo}, {hi}]")]
    OutOfRange {
        /// Operation or tensor.
        layer: String,
        /// Flat index.
        element: usize,
        /// The value.
        value: i128,
        /// Least admitted.
        lo: i128,
        /// Greatest admitted.
        hi: i128,
    },
    /// A value of the trace that is not what the program computes.
    #[error("{layer}, element {element}: the trace has {got}, the program computes {computed}")]
    Mismatch {
        /// Operation.
        layer: String,
        /// Flat index.
        element: usize,
        /// In the trace.
        got: i128,
        /// Computed from the operands in the trace.
        computed: i128,
    },
    /// A tensor is not in the trace.
    #[error("the trace lacks tensor {tensor}")]
    MissingTensor {
        /// Its name.
        tensor: String,
    },
    /// A tensor of another length.
    #[error("tensor {tensor} has {got} elements, expected {expected}")]
    WrongLength {
        /// Its name.
        tensor: String,
        /// In the trace.
        got: usize,
        /// In the program.
        expected: usize,
    },
    /// A sum beyond 128 bits.
    #[error("{layer}: a sum exceeds 128 bits")]
    Overflow {
        /// Operation.
        layer: String,
    },
    /// The proof does not verify, so it is withheld.
    #[error("the proof does not verify: {0}")]
    Rejected(String),
    /// An error of the proof system.
    #[error("proof system: {0}")]
    Plonk(String),
    /// A trace that is not of the plan's program.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

/// Rows and cells of one operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerReport {
    /// Name of the operation, or of the imported tensor.
    pub name: String,
    /// Elements.
    pub elements: usize,
    /// Unit cells.
    pub cells: usize,
    /// Unit rows.
    pub rows: usize,
    /// Lookups.
    pub lookups: usize,
    /// Scalar rows.
    pub scalar_rows: usize,
    /// Weights in store columns.
    pub weights: usize,
    /// Share of the assigned cells of the first phase.
    pub cell_share: f64,
    /// Share of the area that rows of units, weights and scalars take.
    pub area_share: f64,
    /// Share of the predicted time.
    pub share: f64,
}

/// What a plan costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanReport {
    /// log₂ of the number of rows.
    pub k: u32,
    /// Advice columns of the first phase.
    pub advice: usize,
    /// Advice columns of the later phases.
    pub late: usize,
    /// Fixed columns.
    pub fixed: usize,
    /// Columns of the permutation argument.
    pub equality: usize,
    /// Instance length.
    pub instance: usize,
    /// Phases of the first round of the protocol.
    pub phases: usize,
    /// Rows of units.
    pub unit_rows: usize,
    /// Rows of the store and of junk coefficients.
    pub bulk_rows: usize,
    /// Rows of scalars.
    pub scalar_rows: usize,
    /// Table entries.
    pub table_entries: usize,
    /// Usable rows.
    pub usable_rows: usize,
    /// Weights in the store.
    pub stored_weights: usize,
    /// Lanes that compute digests, and their rows.
    pub hash_lanes: usize,
    /// Rows of digests.
    pub hash_rows: usize,
    /// Columns of committed tensors.
    pub committed_columns: usize,
    /// The planner's numbers.
    pub choice: Choice,
    /// Predicted time of a proof, in milliseconds.
    pub cost: f64,
    /// What a proof is made of.
    pub counts: Counts,
    /// The predicted time by stage.
    pub predicted: Prediction,
    /// Per operation.
    pub layers: Vec<LayerReport>,
}

#[derive(Serialize, Deserialize)]
struct PlanFile {
    version: u32,
    program: Arc<Program>,
    visibility: Visibility,
    choice: Choice,
}

const VERSION: u32 = 1;
/// Greatest log₂ of the number of rows that a given choice may have.
pub(super) const MAX_K: u32 = 26;

/// A circuit for a program: static, serialisable, and the same for everybody who makes it from the same program and choice.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "PlanFile", into = "PlanFile")]
pub struct Plan {
    program: Arc<Program>,
    visibility: Visibility,
    layout: Arc<Layout>,
    rates: Rates,
}

impl From<Plan> for PlanFile {
    fn from(plan: Plan) -> Self {
        let choice = plan.layout.sized.choice;
        PlanFile { version: VERSION, program: plan.program, visibility: plan.visibility, choice }
    }
}

impl TryFrom<PlanFile> for Plan {
    type Error = PlanError;

    fn try_from(file: PlanFile) -> Result<Self, PlanError> {
        if file.version != VERSION {
            return Err(PlanError::Invalid {
                op: "plan".into(),
                reason: format!("version {} instead of {VERSION}", file.version),
            });
        }
        let options = PlanOptions { choice: Some(file.choice), ..PlanOptions::default() };
        plan_shared(file.program, &file.visibility, &options)
    }
}

impl Plan {
    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The visibility of its tensors.
    pub fn visibility(&self) -> &Visibility {
        &self.visibility
    }

    /// log₂ of the number of rows.
    pub fn k(&self) -> u32 {
        self.layout.sized.choice.k
    }

    pub(crate) fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    pub(crate) fn shared_program(&self) -> &Arc<Program> {
        &self.program
    }

    /// What it costs.
    pub fn report(&self) -> PlanReport {
        let l = &self.layout;
        let s = &l.sized;
        let counts = Counts::of(l);
        let predicted = self.rates.predict(&counts);
        let layers = self.layers(&predicted);
        PlanReport {
            k: s.choice.k,
            advice: counts.first,
            late: counts.late,
            fixed: counts.fixed,
            equality: l.equal.len(),
            instance: l.instance,
            phases: if l.three_phases() { 3 } else { 1 + usize::from(counts.late > 0) },
            unit_rows: s.unit_rows,
            bulk_rows: s.bulk_rows,
            scalar_rows: l.lowered.scalars.len(),
            table_entries: s.table_entries,
            usable_rows: s.usable(),
            stored_weights: l.lowered.bulks.iter().map(|b| b.elements.len()).sum(),
            hash_lanes: s.hash.lanes,
            hash_rows: s.hash.rows,
            committed_columns: s.committed_columns(&l.lowered),
            choice: s.choice,
            cost: predicted.total(),
            counts,
            predicted,
            layers,
        }
    }
}

impl Plan {
    /// The operation that reads each parameter first, views aside.
    fn readers(&self) -> HashMap<u32, u32> {
        let mut roots: HashMap<u32, Vec<u32>> = HashMap::new();
        let mut readers = HashMap::new();
        for (at, op) in self.program.ops.iter().enumerate() {
            let read = |id: &TensorId| roots.get(&id.0).cloned().unwrap_or_else(|| vec![id.0]);
            let all: Vec<u32> = reads(&op.kind).iter().flat_map(read).collect();
            if matches!(op.kind, OpKind::View { .. }) {
                op.outputs.iter().for_each(|out| {
                    roots.insert(out.0, all.clone());
                });
            } else {
                all.into_iter().for_each(|id| {
                    readers.entry(id).or_insert(at as u32);
                });
            }
        }
        readers
    }

    fn layers(&self, predicted: &Prediction) -> Vec<LayerReport> {
        let l = &self.layout;
        let mut weights: HashMap<u32, usize> = HashMap::new();
        if !l.lowered.bulks.is_empty() {
            let readers = self.readers();
            for bulk in &l.lowered.bulks {
                if let Some(&op) = readers.get(&bulk.tensor) {
                    *weights.entry(op).or_default() += bulk.elements.len();
                }
            }
        }
        let mut scalars: HashMap<u32, usize> = HashMap::new();
        let mut folded: HashMap<u32, usize> = HashMap::new();
        for r in &l.lowered.scalars {
            *scalars.entry(r.op).or_default() += 1;
            *folded.entry(r.op).or_default() += usize::from(r.folded.is_some());
        }
        let mut layers: Vec<LayerReport> = Vec::new();
        let mut areas: Vec<(usize, usize)> = Vec::new();
        let limbs = if l.lowered.store_fixed { 0 } else { l.sized.store_limbs.max(1) as usize };
        let width = l.sized.shape.cells() as usize * l.units() as usize;
        for (at, strip) in l.lowered.strips.iter().enumerate() {
            let placed = l.placed(at);
            let rows = l.depth(at) as usize * placed.packed.codes.len();
            let cells = strip.span as usize * placed.packed.places.iter().map(Vec::len).sum::<usize>();
            // Scalars and weights belong to an operation once, however many strips it has.
            let scalar_rows = strip.op.and_then(|op| scalars.remove(&op)).unwrap_or(0);
            let weights = strip.op.and_then(|op| weights.remove(&op)).unwrap_or(0);
            let folded = strip.op.and_then(|op| folded.remove(&op)).unwrap_or(0);
            let own = placed.template.ranges.len() + placed.template.fns.len();
            areas.push((cells + weights * limbs, rows * width + weights * limbs + 3 * scalar_rows));
            layers.push(LayerReport {
                name: strip.name.clone(),
                elements: strip.elements as usize,
                cells,
                rows,
                lookups: strip.span as usize * own + folded,
                scalar_rows,
                weights,
                cell_share: 0.0,
                area_share: 0.0,
                share: 0.0,
            });
        }
        let all = areas.iter().fold((0, 0), |x, y| (x.0 + y.0, x.1 + y.1));
        let by_cells = predicted.synthesis + predicted.commit;
        let total = predicted.total();
        for (layer, area) in layers.iter_mut().zip(areas) {
            layer.cell_share = area.0 as f64 / all.0.max(1) as f64;
            layer.area_share = area.1 as f64 / all.1.max(1) as f64;
            layer.share = (layer.cell_share * by_cells + layer.area_share * (total - by_cells)) / total;
        }
        layers
    }
}

impl PlanReport {
    /// The time of a proof that each layer is answerable for, in milliseconds: the stages that work cell by cell by its cells, the others
    /// by its area.
    pub fn measured(&self, proof: &ProofReport) -> Vec<f64> {
        let ms = |stage: Stage| proof.stage(stage).as_secs_f64() * 1e3;
        let by_cells = ms(Stage::Synthesis) + ms(Stage::CommitAdvice);
        let rest = proof.total.as_secs_f64() * 1e3 - by_cells;
        self.layers.iter().map(|l| l.cell_share * by_cells + l.area_share * rest).collect()
    }
}

/// Plans a circuit.
///
/// # Errors
///
/// [`PlanError`]: a program that contradicts itself, an operation that the circuit cannot express, or no layout within the limits.
pub fn plan(program: &Program, visibility: &Visibility, options: &PlanOptions) -> Result<Plan, PlanError> {
    plan_shared(Arc::new(program.clone()), visibility, options)
}

/// [`plan`] without a copy of the program.
///
/// # Errors
///
/// As [`plan`].
pub fn plan_shared(
    program: Arc<Program>,
    visibility: &Visibility,
    options: &PlanOptions,
) -> Result<Plan, PlanError> {
    validate(&program)?;
    let exposure = Exposure::of(&program, visibility)?;
    let unknown = |(id, vis): &&(TensorId, Vis)| *vis == Vis::Fixed && program.tensor(*id).data.is_none();
    if let Some((id, _)) = exposure.params.iter().find(unknown) {
        let reason = "is fixed, and has no data".to_owned();
        return Err(PlanError::Invalid { op: program.tensor(*id).name.clone(), reason });
    }
    let (lowered, sized) = match options.choice {
        Some(choice) => {
            if choice.limb < 2 || choice.limb > 20 || choice.store_limb < 2 || choice.store_limb > 20 {
                return Err(PlanError::Invalid {
                    op: "plan".into(),
                    reason: "limb width out of range".into(),
                });
            }
            if !(1..=64).contains(&choice.units)
                || !(1..=8).contains(&choice.lanes)
                || choice.ranges > 16
                || choice.plain > 16
                || choice.store > 256
                || choice.k > MAX_K
            {
                return Err(PlanError::Invalid {
                    op: "plan".into(),
                    reason: "column counts or rows out of range".into(),
                });
            }
            let lowered = lower(&program, &exposure, choice.units)?;
            let max_k = options.max_k.max(choice.k).min(MAX_K);
            let specs = Specs::new(&lowered);
            let templates = place(&lowered, &specs.all, choice.limb, choice.ranges, choice.plain);
            let sized = templates.and_then(|t| size(&lowered, &specs, &t, choice, max_k));
            (lowered, sized.ok_or_else(|| Shortage::unknown(max_k))?)
        }
        None => search(&program, &exposure, options)?,
    };
    let layout = lay_out(lowered, sized)?;
    let visibility = visibility.clone();
    Ok(Plan { program, visibility, layout: Arc::new(layout), rates: options.rates })
}
