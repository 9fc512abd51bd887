//! Changes of ONNX files that leave them files: decode, change, encode.

use parhelion_zkml::onnx::proto::{
    AttributeProto, Dimension, DimensionValue, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto,
};
use parhelion_zkml::onnx::supported_ops;
use prost::Message;
use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

use crate::seeds::{Attr, attribute, declare};

/// Names of attributes and their values.
pub const NAMES: &[&str] = &[
    "activation_alpha",
    "activation_beta",
    "activations",
    "align_corners",
    "allowzero",
    "alpha",
    "antialias",
    "approximate",
    "auto_pad",
    "axes",
    "axis",
    "batch_axis",
    "batch_dims",
    "beta",
    "bias",
    "blocksize",
    "block_size",
    "body",
    "ceil_mode",
    "center_point_box",
    "clip",
    "coordinate_transformation_mode",
    "count_include_pad",
    "cubic_coeff_a",
    "detect_negative",
    "detect_positive",
    "dilations",
    "direction",
    "dtype",
    "else_branch",
    "end",
    "epsilon",
    "equation",
    "exclude_outside",
    "exclusive",
    "extrapolation_value",
    "fmod",
    "gamma",
    "group",
    "hidden_size",
    "input_forget",
    "interpolation_mode",
    "k",
    "keepdims",
    "kernel_shape",
    "lambd",
    "largest",
    "layout",
    "linear_before_reset",
    "mode",
    "momentum",
    "nearest_mode",
    "noop_with_empty_axes",
    "num_groups",
    "num_outputs",
    "num_scan_inputs",
    "output_padding",
    "output_shape",
    "p",
    "pads",
    "perm",
    "ratio",
    "reduction",
    "reverse",
    "saturate",
    "scale",
    "scales",
    "scan_input_axes",
    "scan_input_directions",
    "scan_output_axes",
    "scan_output_directions",
    "seed",
    "select_last_index",
    "shape",
    "size",
    "sorted",
    "split",
    "start",
    "stash_type",
    "storage_order",
    "strides",
    "then_branch",
    "to",
    "training_mode",
    "transA",
    "transB",
    "upper",
    "value",
    "value_float",
    "value_floats",
    "value_int",
    "value_ints",
    "starts",
    "ends",
    "paddings",
    "output_dtype",
    "keep_aspect_ratio_policy",
];

const TEXTS: &[&str] = &[
    "NOTSET",
    "SAME_UPPER",
    "SAME_LOWER",
    "VALID",
    "constant",
    "reflect",
    "edge",
    "wrap",
    "nearest",
    "linear",
    "cubic",
    "bilinear",
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_crop_and_resize",
    "round_prefer_floor",
    "round_prefer_ceil",
    "floor",
    "ceil",
    "forward",
    "reverse",
    "bidirectional",
    "DCR",
    "CRD",
    "none",
    "tanh",
    "add",
    "mul",
    "max",
    "min",
    "LEFT",
    "RIGHT",
    "ij,jk->ik",
    "ii->i",
    "...i,...j->...",
    "i->",
    "ij->ji",
    "bij,bjk",
    ",->",
    "Sigmoid",
    "Relu",
    "stretch",
    "not_larger",
    "not_smaller",
];

const TYPES: &[i32] = &[1, 7, 9, 2, 3, 4, 5, 6, 10, 11, 12, 13, 16, 0, 8];

const INTS: &[i64] = &[
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    -1,
    -2,
    -3,
    -4,
    16,
    17,
    63,
    64,
    255,
    1 << 10,
    1 << 16,
    1 << 24,
    1 << 31,
    1 << 40,
    1 << 62,
    i64::MAX,
    i64::MIN,
];

const FLOATS: &[f32] = &[
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    2.0,
    1e-3,
    1e-7,
    1e-30,
    1e-45,
    1e5,
    1e9,
    3e9,
    1e20,
    1e38,
    f32::MAX,
    f32::MIN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
];

/// Random choices.
struct Dice(ChaCha8Rng);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0.next_u32() as usize % n.max(1)
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> Option<T> {
        let at = self.below(of.len());
        of.get(at).copied()
    }

    fn int(&mut self) -> i64 {
        // Small lengths are those that fit something.
        let bound = if self.one_in(4) { INTS.len() } else { 10 };
        INTS[self.below(bound)]
    }

    fn float(&mut self) -> f32 {
        if self.one_in(3) { FLOATS[self.below(FLOATS.len())] } else { (self.below(65) as f32 - 32.0) / 16.0 }
    }

    fn op(&mut self) -> String {
        let n = supported_ops().count();
        supported_ops().nth(self.below(n)).unwrap_or_default().to_owned()
    }
}

/// A changed file of at most `max` bytes; `None` where the bytes are no model, or no change fits.
pub fn mutate(bytes: &[u8], max: usize, seed: u32) -> Option<Vec<u8>> {
    let mut dice = Dice(ChaCha8Rng::seed_from_u64(seed.into()));
    let mut model = ModelProto::decode(bytes).ok()?;
    for _ in 0..1 + dice.below(4) {
        change(&mut model, &mut dice);
    }
    let out = model.encode_to_vec();
    (out.len() <= max).then_some(out)
}

/// A model with parts of two.
pub fn cross(a: &[u8], b: &[u8], max: usize, seed: u32) -> Option<Vec<u8>> {
    let mut dice = Dice(ChaCha8Rng::seed_from_u64(seed.into()));
    let (mut a, b) = (ModelProto::decode(a).ok()?, ModelProto::decode(b).ok()?);
    let (into, from) = (a.graph.as_mut()?, b.graph?);
    let (inputs, outputs) = (names(into), from.output.clone());
    let own = |name: &str| if name.is_empty() { String::new() } else { format!("{name}_") };
    // One of the values of the first model becomes an input of the second.
    let joint = dice.below(from.input.len());
    for (i, mut v) in from.input.into_iter().enumerate() {
        let name = own(&v.name);
        if i == joint
            && let Some(source) = (!inputs.is_empty()).then(|| inputs[dice.below(inputs.len())].clone())
        {
            into.node.push(NodeProto {
                name: name.clone(),
                op_type: "Identity".into(),
                input: vec![source],
                output: vec![name],
                ..Default::default()
            });
        } else {
            v.name = name;
            into.input.push(v);
        }
    }
    into.initializer.extend(from.initializer.into_iter().map(|t| TensorProto { name: own(&t.name), ..t }));
    into.node.extend(from.node.into_iter().map(|n| NodeProto {
        name: own(&n.name),
        input: n.input.iter().map(|s| own(s)).collect(),
        output: n.output.iter().map(|s| own(s)).collect(),
        ..n
    }));
    into.output.extend(outputs.into_iter().map(|o| ValueInfoProto { name: own(&o.name), ..o }));
    let out = a.encode_to_vec();
    (out.len() <= max).then_some(out)
}

/// All values of a graph.
fn names(graph: &GraphProto) -> Vec<String> {
    let inputs = graph.input.iter().map(|i| &i.name);
    let constants = graph.initializer.iter().map(|t| &t.name);
    let results = graph.node.iter().flat_map(|n| &n.output);
    inputs.chain(constants).chain(results).filter(|n| !n.is_empty()).cloned().collect()
}

fn change(model: &mut ModelProto, dice: &mut Dice) {
    if dice.one_in(24)
        && let Some(opset) = model.opset_import.first_mut()
    {
        opset.version = if dice.one_in(4) { dice.int() } else { 1 + dice.below(24) as i64 };
        return;
    }
    let Some(graph) = model.graph.as_mut() else {
        model.graph = Some(GraphProto::default());
        return;
    };
    change_graph(graph, dice, 0);
}

fn change_graph(graph: &mut GraphProto, dice: &mut Dice, depth: usize) {
    let all = names(graph);
    let name = |dice: &mut Dice| {
        let at = dice.below(all.len());
        all.get(at).cloned().unwrap_or_default()
    };
    // Sometimes the change is in the body of a control-flow operator.
    if dice.one_in(3) && depth < 3 {
        let bodies: Vec<&mut GraphProto> =
            graph.node.iter_mut().flat_map(|n| n.attribute.iter_mut().filter_map(|a| a.g.as_mut())).collect();
        let at = dice.below(bodies.len());
        if let Some(body) = bodies.into_iter().nth(at) {
            return change_graph(body, dice, depth + 1);
        }
    }
    match dice.below(16) {
        0 | 1 => {
            // A node of its own, as an output.
            let output = format!("n{}_{}", graph.node.len(), dice.below(1000));
            let input = (0..1 + dice.below(3)).map(|_| name(dice)).collect();
            let mut node =
                NodeProto { op_type: dice.op(), input, output: vec![output.clone()], ..Default::default() };
            if dice.one_in(2) {
                node.attribute.push(some_attribute(dice, graph));
            }
            let at = dice.below(graph.node.len() + 1);
            graph.node.insert(at, node);
            let result = ValueInfoProto { name: output, r#type: None };
            if dice.one_in(2) || graph.output.is_empty() {
                graph.output.push(result);
            } else {
                let at = dice.below(graph.output.len());
                graph.output[at] = result;
            }
        }
        2 => {
            let at = dice.below(graph.node.len());
            if at < graph.node.len() {
                graph.node.remove(at);
            }
        }
        3 => {
            let at = dice.below(graph.input.len());
            if let Some(input) = graph.input.get_mut(at) {
                change_input(input, dice);
            }
        }
        4 => {
            let shape: Vec<i64> = (0..dice.below(5)).map(|_| dice.int()).collect();
            let dtype = dice.pick(TYPES).unwrap_or(1);
            graph.input.push(declare(&format!("i{}", graph.input.len()), dtype, &shape));
        }
        5 | 6 => {
            let at = dice.below(graph.initializer.len());
            match graph.initializer.get_mut(at) {
                Some(t) => change_tensor(t, dice),
                None => graph.initializer.push(some_tensor(dice, "c0")),
            }
        }
        7 => {
            let t = some_tensor(dice, &format!("c{}", graph.initializer.len()));
            graph.initializer.push(t);
        }
        8 => {
            let at = dice.below(graph.output.len());
            if let Some(output) = graph.output.get_mut(at) {
                output.name = name(dice);
            }
        }
        9 => {
            // An input becomes a constant, so that more is evaluated on import.
            let at = dice.below(graph.input.len());
            if at < graph.input.len() && !dice.one_in(3) {
                let input = graph.input.remove(at);
                let shape: Vec<i64> = lengths(&input).unwrap_or_default();
                let mut t = some_tensor(dice, &input.name);
                fill(&mut t, &shape, dice);
                graph.initializer.push(t);
            }
        }
        _ => {
            let at = dice.below(graph.node.len());
            let extra = some_attribute(dice, graph);
            if let Some(node) = graph.node.get_mut(at) {
                change_node(node, dice, extra, &name);
            }
        }
    }
}

fn change_node(
    node: &mut NodeProto,
    dice: &mut Dice,
    extra: AttributeProto,
    name: &dyn Fn(&mut Dice) -> String,
) {
    match dice.below(12) {
        0 => node.op_type = dice.op(),
        1 | 2 => {
            let at = dice.below(node.input.len());
            if let Some(input) = node.input.get_mut(at) {
                *input = name(dice);
            }
        }
        3 => node.input.push(name(dice)),
        4 => drop(node.input.pop()),
        5 => {
            let at = dice.below(node.input.len());
            if let Some(input) = node.input.get_mut(at) {
                input.clear();
            }
        }
        6 => {
            if dice.one_in(2) {
                node.output.push(format!("e{}", dice.below(1000)));
            } else {
                node.output.pop();
            }
        }
        7 => node.attribute.push(extra),
        8 => {
            let at = dice.below(node.attribute.len());
            if at < node.attribute.len() {
                node.attribute.remove(at);
            }
        }
        9 if dice.one_in(4) => node.domain = "ai.onnx.ml".into(),
        _ => {
            let at = dice.below(node.attribute.len());
            match node.attribute.get_mut(at) {
                Some(a) => change_attribute(a, dice),
                None => node.attribute.push(extra),
            }
        }
    }
}

fn some_attribute(dice: &mut Dice, graph: &GraphProto) -> AttributeProto {
    let name = dice.pick(NAMES).unwrap_or("axis");
    let value = match name {
        "body" | "then_branch" | "else_branch" => Attr::Graph(GraphProto {
            // Bodies of bodies grow fast.
            node: graph.node.iter().filter(|n| n.attribute.iter().all(|a| a.g.is_none())).cloned().collect(),
            ..graph.clone()
        }),
        "mode"
        | "auto_pad"
        | "direction"
        | "equation"
        | "nearest_mode"
        | "coordinate_transformation_mode"
        | "approximate"
        | "reduction" => Attr::Text(dice.pick(TEXTS).unwrap_or("")),
        "alpha" | "beta" | "gamma" | "epsilon" | "clip" | "bias" | "lambd" | "ratio" => {
            Attr::Float(dice.float())
        }
        "axes" | "pads" | "strides" | "dilations" | "kernel_shape" | "perm" | "split" | "output_padding"
        | "output_shape" | "shape" => Attr::Ints((0..dice.below(5)).map(|_| dice.int()).collect()),
        "value" => {
            let t = some_tensor(dice, "");
            return AttributeProto { name: name.to_owned(), r#type: 4, t: Some(t), ..Default::default() };
        }
        _ => match dice.below(8) {
            0 => Attr::Float(dice.float()),
            1 => Attr::Ints((0..dice.below(5)).map(|_| dice.int()).collect()),
            2 => Attr::Text(dice.pick(TEXTS).unwrap_or("")),
            _ => Attr::Int(dice.int()),
        },
    };
    attribute(name, value)
}

fn change_attribute(a: &mut AttributeProto, dice: &mut Dice) {
    match dice.below(12) {
        0 => a.name = dice.pick(NAMES).unwrap_or("axis").to_owned(),
        1 => a.r#type = dice.below(15) as i32,
        _ => match a.r#type {
            1 => a.f = dice.float(),
            2 => a.i = dice.int(),
            3 => a.s = dice.pick(TEXTS).unwrap_or("").as_bytes().to_vec().into(),
            4 => match a.t.as_mut() {
                Some(t) => change_tensor(t, dice),
                None => a.t = Some(some_tensor(dice, "")),
            },
            6 => list(&mut a.floats, dice, Dice::float),
            7 => list(&mut a.ints, dice, Dice::int),
            8 => {
                let text = dice.pick(TEXTS).unwrap_or("").as_bytes().to_vec();
                a.strings.push(text.into());
            }
            _ => a.i = dice.int(),
        },
    }
}

fn list<T>(items: &mut Vec<T>, dice: &mut Dice, new: fn(&mut Dice) -> T) {
    let at = dice.below(items.len());
    match dice.below(5) {
        0 => items.insert(at.min(items.len()), new(dice)),
        1 if !items.is_empty() => drop(items.remove(at)),
        _ => match items.get_mut(at) {
            Some(item) => *item = new(dice),
            None => items.push(new(dice)),
        },
    }
}

fn lengths(v: &ValueInfoProto) -> Option<Vec<i64>> {
    let shape = v.r#type.as_ref()?.tensor_type.as_ref()?.shape.as_ref()?;
    let length = |d: &Dimension| match d.value {
        Some(DimensionValue::DimValue(n)) => n,
        _ => 1,
    };
    Some(shape.dim.iter().map(length).collect())
}

fn change_input(v: &mut ValueInfoProto, dice: &mut Dice) {
    let Some(t) = v.r#type.as_mut().and_then(|t| t.tensor_type.as_mut()) else { return };
    if dice.one_in(4) {
        t.elem_type = dice.pick(TYPES).unwrap_or(1);
        return;
    }
    let Some(shape) = t.shape.as_mut() else { return };
    let new = |dice: &mut Dice| Dimension {
        value: match dice.below(8) {
            0 => None,
            1 => Some(DimensionValue::DimParam("N".into())),
            _ => Some(DimensionValue::DimValue(dice.int())),
        },
    };
    list(&mut shape.dim, dice, new);
}

fn some_tensor(dice: &mut Dice, name: &str) -> TensorProto {
    let mut t = TensorProto { name: name.to_owned(), ..Default::default() };
    t.data_type = if dice.one_in(2) { [1, 7][dice.below(2)] } else { dice.pick(TYPES).unwrap_or(1) };
    let shape: Vec<i64> = (0..dice.below(4)).map(|_| dice.below(5) as i64).collect();
    fill(&mut t, &shape, dice);
    t
}

/// Gives a tensor a shape and as many values as it needs, where these are few.
fn fill(t: &mut TensorProto, shape: &[i64], dice: &mut Dice) {
    let n = shape.iter().try_fold(1i64, |n, d| n.checked_mul(*d)).filter(|n| (0..=256).contains(n));
    t.dims = shape.to_vec();
    t.raw_data = Default::default();
    (t.float_data, t.int32_data, t.int64_data) = Default::default();
    (t.double_data, t.uint64_data) = Default::default();
    for _ in 0..n.unwrap_or(1) {
        match t.data_type {
            1 => t.float_data.push(dice.float()),
            7 => t.int64_data.push(dice.int()),
            11 => t.double_data.push(dice.float().into()),
            12 | 13 => t.uint64_data.push(dice.int() as u64),
            _ => t.int32_data.push(dice.int() as i32),
        }
    }
}

fn change_tensor(t: &mut TensorProto, dice: &mut Dice) {
    match dice.below(10) {
        0 => {
            list(&mut t.dims, dice, Dice::int);
            if !dice.one_in(3) {
                let shape = t.dims.clone();
                fill(t, &shape, dice);
            }
        }
        1 => {
            t.data_type = dice.pick(TYPES).unwrap_or(1);
            let shape = t.dims.clone();
            fill(t, &shape, dice);
        }
        2 => {
            let shape: Vec<i64> = (0..dice.below(4)).map(|_| dice.below(5) as i64).collect();
            fill(t, &shape, dice);
        }
        3 if dice.one_in(8) => t.data_location = 1,
        _ if !t.raw_data.is_empty() => {
            let mut raw = t.raw_data.to_vec();
            let at = dice.below(raw.len()) & !3;
            let bits = dice.float().to_le_bytes();
            raw.iter_mut().skip(at).zip(bits).for_each(|(o, b)| *o = b);
            t.raw_data = raw.into();
        }
        _ => {
            let at = dice.below(64);
            set(&mut t.float_data, at, dice.float());
            set(&mut t.int64_data, at, dice.int());
            set(&mut t.int32_data, at, dice.int() as i32);
        }
    }
}

fn set<T>(items: &mut [T], at: usize, value: T) {
    if let Some(item) = items.get_mut(at % items.len().max(1)) {
        *item = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{Reached, run};
    use crate::seeds::models;

    #[test]
    fn mutants_are_models_that_often_import() {
        let (mut made, mut imported) = (0, 0);
        for (i, file) in models().iter().enumerate() {
            let Some(mutant) = mutate(file, 1 << 16, i as u32) else { continue };
            assert!(ModelProto::decode(&mutant[..]).is_ok());
            made += 1;
            imported += usize::from(run(&mutant) > Reached::Refused);
        }
        assert!(made > 100 && imported * 5 > made, "{imported} of {made}");
    }

    #[test]
    fn models_cross() {
        let files = models();
        let crossed = |seed| cross(&files[0], &files[2], 1 << 16, seed);
        let whole = (0..16).filter_map(crossed).filter(|m| run(m) > Reached::Refused).count();
        assert!(whole > 1, "{whole} of 16 are models");
    }
}
