//! What a verified proof says, for a person and for a program.

use halo2curves::bn256::Fr;
use serde::Serialize;

use super::artefact::{Disclosed, Port, RangeSource, Security, printable};
use super::statement::Statement;
use crate::machine::{Part, Vis, Visibility};

/// What the verifier held the statement against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strength {
    /// Nothing: circuit and key are whatever the proof's maker made.
    Unpinned,
    /// The key is the circuit's, whoever made the circuit.
    Rederived,
    /// The statement is one that the verifier named.
    Statement,
    /// Circuit and key were made from an ONNX file that the verifier has.
    Model,
}

impl Strength {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Strength::Unpinned => "unpinned",
            Strength::Rederived => "rederived",
            Strength::Statement => "statement",
            Strength::Model => "model",
        }
    }

    /// What the verdict rests on, in words.
    pub fn meaning(self) -> &'static str {
        match self {
            Strength::Unpinned => "UNPINNED: says only what its maker says",
            Strength::Rederived => "rederived: the key is this circuit's, whoever made the circuit",
            Strength::Statement => "pinned: the statement is the one that you named",
            Strength::Model => "model: circuit and key are those of your ONNX file with this calibration",
        }
    }
}

/// One tensor of a verified proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Told {
    /// The group.
    pub part: Part,
    /// Name in the ONNX file.
    pub name: String,
    /// Who sees it.
    pub visibility: Vis,
    /// Element type in the ONNX file; none for a parameter.
    pub dtype: Option<String>,
    /// Shape.
    pub shape: Vec<usize>,
    /// Number = element / 2^scale.
    pub scale: i32,
    /// The numbers of a public tensor, exactly.
    pub values: Option<Vec<String>>,
    /// The digest of a hashed tensor or the commitments of a committed one; for parameters, of all of their visibility together.
    pub digest: Option<String>,
}

impl Told {
    pub(super) fn new(part: Part, port: &Port, values: Option<Vec<String>>, disclosed: &[Disclosed]) -> Self {
        let name = if part == Part::Params { part.name() } else { &port.name };
        let mut own = disclosed.iter().filter(|d| d.part == part && d.visibility == port.visibility);
        Told {
            part,
            name: port.name.clone(),
            visibility: port.visibility,
            dtype: port.dtype.map(|d| d.to_string()),
            shape: port.shape.clone(),
            scale: port.scale,
            values,
            digest: own.find(|d| d.name == name).map(|d| d.value.clone()),
        }
    }
}

/// What a verified proof says.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Verdict {
    /// What the statement was held against.
    pub strength: Strength,
    /// How far the reference string is to be trusted.
    pub security: Security,
    /// Digest of the statement.
    pub statement: String,
    /// log₂ of the number of rows.
    pub k: u32,
    /// Who sees what.
    pub visibility: Visibility,
    /// Whether the weights are known to be those of the verifier's ONNX file.
    pub model_bound: bool,
    /// Digest of the ONNX file that the proof's maker claims, or that the verifier has where it is bound.
    pub model_hash: Option<String>,
    /// Where the maker says that the ranges are from.
    pub ranges: RangeSource,
    /// The difference from the float model that the maker accepted.
    pub accepted_error: Option<String>,
    /// The public values, without the one that binds the proof to its statement.
    pub instances: Vec<Vec<Fr>>,
    /// Inputs, parameters that are told, and outputs, in order.
    pub tensors: Vec<Told>,
    /// Names of the inputs that were compared with the verifier's.
    pub compared: Vec<String>,
    /// The outputs as decimal numbers, recomputed from the public values; an empty list for one that is not public.
    pub outputs: Vec<Vec<String>>,
    /// Digests and commitments of tensors.
    pub disclosed: Vec<Disclosed>,
    /// The proven sentence.
    pub sentence: String,
    /// Remarks on what the sentence does not say.
    pub remarks: Vec<String>,
}

/// What a proof of a statement says, in a sentence.
pub(super) fn sentence(statement: &Statement, model_bound: bool) -> String {
    let mut subjects = weights(statement, model_bound);
    subjects.extend(statement.inputs().iter().map(|p| tensor("input", p)));
    let outputs: Vec<String> = statement.outputs().iter().map(|p| tensor("output", p)).collect();
    let verb = if subjects.len() == 1 && !subjects.concat().contains("weights") { "gives" } else { "give" };
    if subjects.is_empty() {
        return format!("the model, which has no inputs and no weights, gives {}", list(&outputs));
    }
    format!("{} {verb} {}", list(&subjects), list(&outputs))
}

fn tensor(what: &str, port: &Port) -> String {
    let name = printable(&port.name);
    match port.visibility {
        Vis::Public => format!("the {what} `{name}` that is shown"),
        Vis::Hashed => format!("the {what} `{name}` with the digest that is shown"),
        Vis::Committed => format!("the {what} `{name}` with the commitment that is shown"),
        _ => format!("some {what} `{name}`"),
    }
}

fn weights(statement: &Statement, model_bound: bool) -> Vec<String> {
    let groups = statement.param_groups();
    let mixed = groups.len() > 1;
    let one = |group: &super::statement::ParamGroup| {
        let whole = match group.visibility {
            Vis::Fixed => "the weights in the key",
            Vis::Public => "the weights that are shown",
            Vis::Hashed => "the weights with the digest that is shown",
            Vis::Committed => "the weights with the commitment that is shown",
            _ => "some weights of this architecture",
        };
        let known = matches!(group.visibility, Vis::Fixed | Vis::Public | Vis::Hashed);
        let bound = if model_bound && known { ", which are those of your ONNX file," } else { "" };
        let names: Vec<String> = group.names.iter().take(4).map(|n| printable(n)).collect();
        let more =
            if group.names.len() > 4 { format!(", … {} tensors", group.names.len()) } else { "".into() };
        let which = if mixed { format!(" ({}{more})", names.join(", ")) } else { String::new() };
        format!("{whole}{which}{bound}")
    };
    groups.iter().map(one).collect()
}

/// `a, b and c`.
fn list(items: &[String]) -> String {
    match items {
        [] => "nothing".to_owned(),
        [one] => one.clone(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}

/// What is not proven, or shown though it is not meant to be.
pub(super) fn remarks(statement: &Statement, ranges: RangeSource, model_bound: bool) -> Vec<String> {
    let mut out = Vec::new();
    let hidden = |g: &&super::statement::ParamGroup| matches!(g.visibility, Vis::Private | Vis::Committed);
    let hides = statement.param_groups().iter().any(|g| hidden(&g));
    if hides && !model_bound {
        out.push("which weights is not proven: other weights may give any output in range".to_owned());
    }
    if statement.outputs().iter().all(|p| p.visibility == Vis::Private) {
        out.push("every output is private: that some output exists says nothing by itself".to_owned());
    }
    if ranges == RangeSource::PrivateInput {
        out.push(
            "ranges were taken from the private input: powers of two in the circuit tell of it".to_owned(),
        );
    }
    if statement.interface.saturate {
        out.push(
            "input elements past their range are moved to its end: the statement is about those".to_owned(),
        );
    }
    let numbers = statement.public_numbers();
    if !numbers.is_empty() && statement.param_groups().iter().any(|g| g.visibility != Vis::Fixed) {
        let names: Vec<String> = numbers.iter().take(6).map(|n| format!("`{}`", printable(n))).collect();
        let more = if numbers.len() > 6 { format!(" and {} more", numbers.len() - 6) } else { String::new() };
        out.push(format!("constants of the model in the circuit, public: {}{more}", names.join(", ")));
    }
    out
}
