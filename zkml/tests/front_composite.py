"""Writes random models of operators that are written as others, with ONNX Runtime's results, as one JSON object per line.

Usage: python front_composite.py OUT.jsonl [SEED [CASES_PER_KIND]]
Needs onnx, onnxruntime and numpy. `data/composite.jsonl` is the output for seed 1 and 2 cases of each kind; a larger file is tested with
PARHELION_COMPOSITE=OUT.jsonl cargo test --release -p parhelion-zkml --test front_composite -- --nocapture
What ONNX Runtime lacks, or does otherwise than the standard says, is run by the reference evaluator of the onnx package.
"""

import json
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

F = np.float32
MICROSOFT, TREES = "com.microsoft", "ai.onnx.ml"


def normal(rng, *shape, scale=1.0):
    # Inputs of twelve fraction bits are the same in floats and in integers.
    return (np.rint(rng.normal(size=shape) * scale * 4096) / 4096).astype(F)


def byte(rng):
    return np.dtype(rng.choice(["int8", "uint8"]))


def bytes_of(rng, dtype, *shape):
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


def zero(rng, dtype, shape=()):
    middle = 0 if dtype == np.int8 else 128
    return np.asarray(rng.integers(middle - 20, middle + 21, shape)).astype(dtype)


def scale(rng, low, high, shape=()):
    return np.exp(rng.uniform(np.log(low), np.log(high), shape)).astype(F)


class Case:
    """Nodes with their inputs and constants; `outputs` of which the first `shown` are the model's."""

    def __init__(self, opset=17, outputs=("y",), functions=()):
        self.opset, self.outputs, self.functions = opset, list(outputs), list(functions)
        self.nodes, self.inputs, self.constants = [], {}, {}
        self.reference = False

    def node(self, op, inputs, outputs=None, domain="", **attrs):
        self.nodes.append(helper.make_node(op, inputs, outputs or self.outputs, name=f"{op}_{len(self.nodes)}", domain=domain, **attrs))
        return self

    def model(self):
        code = lambda v: helper.np_dtype_to_tensor_dtype(v.dtype)
        given = [helper.make_tensor_value_info(k, code(v), v.shape) for k, v in self.inputs.items()]
        results = [onnx.ValueInfoProto(name=o) for o in self.outputs]
        weights = [numpy_helper.from_array(np.asarray(v), k) for k, v in self.constants.items()]
        graph = helper.make_graph(self.nodes, "composite", given, results, weights)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid(MICROSOFT, 1), helper.make_opsetid(TREES, 5)]
        opsets += [helper.make_opsetid("mine", 1)] if self.functions else []
        return helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=self.functions)

    def run(self):
        model = self.model()
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        if self.reference:
            return model, ReferenceEvaluator(model).run(self.outputs, self.inputs), "reference"
        try:
            session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
            return model, session.run(self.outputs, self.inputs), "onnxruntime"
        except Exception as error:
            if not any(s in str(error) for s in ("NOT_IMPLEMENTED", "not a registered", "lrn.h")):
                raise
            return model, ReferenceEvaluator(model).run(self.outputs, self.inputs), "reference"


def attention(rng, k):
    batch, n, q, size = 2, 2, int(rng.integers(2, 4)), 4
    kv, groups = int(rng.integers(3, 6)), [2, 1][k % 2]
    flat = k % 3 == 1
    c = Case(opset=23, outputs=["y"])
    shape = (lambda h, l: (batch, l, h * size)) if flat else (lambda h, l: (batch, h, l, size))
    c.inputs = {"q": normal(rng, *shape(n, q)), "k": normal(rng, *shape(groups, kv)), "v": normal(rng, *shape(groups, kv))}
    attrs = {"q_num_heads": n, "kv_num_heads": groups} if flat else {}
    names, total = ["q", "k", "v"], kv
    cached = k % 4 >= 2
    if k % 5 == 0:
        attrs["is_causal"] = 1
    if k % 2:
        attrs["softcap"] = 2.0
    if k % 3 == 2:
        attrs["scale"] = 0.3
    if cached:
        past = 2
        total += past
    if k % 4 == 3:
        names.append("mask")
        mask = rng.random((q, total)) < 0.7
        mask[:, 0] = True
        c.constants["mask"] = mask if k % 8 == 3 else np.where(mask, rng.normal(size=mask.shape) * 0.5, -1e4).astype(F)
    if cached:
        names += [""] * (4 - len(names)) + ["pk", "pv"]
        c.inputs |= {"pk": normal(rng, batch, groups, past, size), "pv": normal(rng, batch, groups, past, size)}
        c.outputs = ["y", "present_key", "present_value"]
    # Products after the masks are infinite where those hide something.
    mode = k % 4 if k % 5 and k % 4 != 3 else 3
    if cached or k % 6 == 4:
        c.outputs = ["y", "present_key", "present_value", "qk"] if cached else ["y"]
        attrs["qk_matmul_output_mode"] = mode
    outputs = c.outputs
    return c.node("Attention", names, outputs, **attrs)


def attention_lengths(rng, k):
    """Keys that count, per sample."""
    c = Case(opset=24)
    q, kv = int(rng.integers(2, 4)), 5
    c.inputs = {"q": normal(rng, 2, 2, q, 4), "k": normal(rng, 2, 2, kv, 4), "v": normal(rng, 2, 2, kv, 4)}
    c.constants = {"n": rng.integers(q, kv + 1, 2).astype(np.int64)}
    return c.node("Attention", ["q", "k", "v", "", "", "", "n"], is_causal=k % 2)


def attention_window(rng, k):
    """Windows over the keys, with what comes before them; some queries see nothing."""
    c = Case(opset=25)
    c.reference = True
    q, kv, past = 3, 4, [0, 2][k % 2]
    c.inputs = {"q": normal(rng, 2, 2, q, 4), "k": normal(rng, 2, 2, kv, 4), "v": normal(rng, 2, 2, kv, 4)}
    names = ["q", "k", "v"]
    if past:
        c.inputs |= {"pk": normal(rng, 2, 2, past, 4), "pv": normal(rng, 2, 2, past, 4)}
        names += ["", "pk", "pv"]
        c.outputs = ["y", "present_key", "present_value"]
    elif k % 4 == 2:
        c.constants = {"n": np.array([1, kv], np.int64)}
        names += ["", "", "", "n"]
    attrs = {"left_window_size": int(rng.integers(0, 3))} | ({} if k % 3 else {"right_window_size": int(rng.integers(0, 2))})
    return c.node("Attention", names, is_causal=int(k % 3 == 1), **attrs)


def attention_blind(rng, k):
    """Masks under which a query sees nothing: an input, a constant of booleans, one of numbers."""
    c = Case(opset=23)
    c.reference = True
    c.inputs = {"q": normal(rng, 1, 2, 3, 4), "k": normal(rng, 1, 2, 4, 4), "v": normal(rng, 1, 2, 4, 4)}
    mask = rng.random((3, 4)) < 0.6
    mask[0], mask[1] = False, True
    if k % 3 == 2:
        c.constants["mask"] = np.where(mask, rng.normal(size=mask.shape), -np.inf).astype(F)
    else:
        (c.constants if k % 3 else c.inputs)["mask"] = mask
    return c.node("Attention", ["q", "k", "v", "mask"], is_causal=k % 2)


def lrn(rng, k):
    c = Case()
    c.inputs = {"x": normal(rng, 1, 5, 3, 2)}
    size = [1, 2, 3, 4, 5, 9][int(rng.integers(6))]
    attrs = {} if k == 0 else {"alpha": float(rng.uniform(0.05, 2)), "beta": float(rng.uniform(0.3, 1)), "bias": float(rng.uniform(0.8, 2))}
    return c.node("LRN", ["x"], size=size if k else 3, **attrs)


def lp_pool(rng, k):
    c = Case(opset=22 if k % 2 else 18)
    c.inputs = {"x": normal(rng, 1, 2, 6, 7)}
    attrs = {"p": int(rng.integers(1, 4)), "kernel_shape": [int(v) for v in rng.integers(1, 4, 2)]}
    if k % 3 == 0:
        attrs["strides"] = [int(v) for v in rng.integers(1, 3, 2)]
    if k % 3 == 1:
        attrs["auto_pad"] = str(rng.choice(["SAME_UPPER", "SAME_LOWER", "VALID"]))
    elif k % 2:
        attrs["pads"] = [int(rng.integers(0, attrs["kernel_shape"][i % 2])) for i in range(4)]
    if k % 4 == 2:
        attrs["dilations"] = [2, 1]
    return c.node("LpPool", ["x"], **attrs)


def global_lp_pool(rng, k):
    c = Case()
    c.inputs = {"x": normal(rng, 2, 2, 3, 4)}
    return c.node("GlobalLpPool", ["x"], p=1 + k % 3)


def lp_normalization(rng, k):
    c = Case()
    c.inputs = {"x": normal(rng, 3, 4)}
    return c.node("LpNormalization", ["x"], axis=int(rng.integers(-2, 2)), p=1 + k % 2)


def hardmax(rng, k):
    c = Case(opset=13 if k % 2 else 11)
    c.inputs = {"x": rng.integers(-3, 4, (2, 3, 4)).astype(F)}
    return c.node("Hardmax", ["x"], axis=int(rng.integers(-3, 3)) if k % 2 else int(rng.integers(0, 3)))


def shrink(rng, k):
    c = Case()
    c.inputs = {"x": (rng.integers(-30, 31, 24) / 10).astype(F)}
    attrs = {"lambd": float(rng.integers(1, 15)) / 10} | ({"bias": float(rng.uniform(-1, 1))} if k % 2 else {})
    return c.node("Shrink", ["x"], **attrs)


def swish(rng, k):
    c = Case(opset=24)
    c.inputs = {"x": normal(rng, 4, 5, scale=3)}
    return c.node("Swish", ["x"], **({"alpha": float(rng.uniform(-2, 2))} if k % 2 else {}))


def dynamic_quantize(rng, k):
    c = Case(outputs=["q", "s", "z"])
    c.inputs = {"x": normal(rng, 3, 5) + F([0, 3, -3][k % 3])}
    return c.node("DynamicQuantizeLinear", ["x"])


def qsoftmax(rng, k):
    c, dtype = Case(), byte(rng)
    c.inputs = {"x": bytes_of(rng, dtype, 2, 3, 5)}
    c.constants = {"sx": scale(rng, 0.01, 0.1), "zx": zero(rng, dtype), "sy": F(1 / 256), "zy": np.array(-128 if dtype == np.int8 else 0, dtype)}
    attrs = {"opset": 13, "axis": int(rng.integers(-3, 3))} if k % 2 else {"opset": 12, "axis": int(rng.integers(1, 3))}
    return c.node("QLinearSoftmax", ["x", "sx", "zx", "sy", "zy"], domain=MICROSOFT, **attrs)


def qconcat(rng, k):
    c, dtype = Case(), byte(rng)
    names, axis = ["sy", "zy"], int(rng.integers(-2, 2))
    c.constants = {"sy": scale(rng, 0.02, 0.2), "zy": zero(rng, dtype)}
    for i in range(3):
        shape = [2, 3]
        shape[axis] = int(rng.integers(1, 5))
        c.inputs[f"x{i}"] = bytes_of(rng, dtype, *shape)
        c.constants |= {f"s{i}": scale(rng, 0.02, 0.2), f"z{i}": zero(rng, dtype)}
        names += [f"x{i}", f"s{i}", f"z{i}"]
    return c.node("QLinearConcat", names, domain=MICROSOFT, axis=axis)


def qpair(rng, k):
    c, dtype = Case(), byte(rng)
    shapes = [((2, 6), (2, 6)), ((2, 6), (6,)), ((2, 1), (2, 6))][k % 3]
    c.inputs = {"a": bytes_of(rng, dtype, *shapes[0]), "b": bytes_of(rng, dtype, *shapes[1])}
    c.constants = {s: scale(rng, 0.01, 0.1) for s in ("sa", "sb", "sy")} | {z: zero(rng, dtype) for z in ("za", "zb", "zy")}
    return c.node("QLinearMul" if k % 2 else "QLinearAdd", ["a", "sa", "za", "b", "sb", "zb", "sy", "zy"], domain=MICROSOFT)


def qunary(rng, k):
    c, dtype = Case(), byte(rng)
    op, attrs = [("QLinearSigmoid", {}), ("QLinearLeakyRelu", {"alpha": 0.1}), ("QLinearGlobalAveragePool", {}),
                 ("QLinearAveragePool", {"kernel_shape": [2, 3], "strides": [2, 1]})][k % 4]
    c.inputs = {"x": bytes_of(rng, dtype, 1, 2, 4, 5)}
    c.constants = {"sx": scale(rng, 0.01, 0.1), "zx": zero(rng, dtype), "sy": scale(rng, 0.005, 0.05), "zy": zero(rng, dtype)}
    return c.node(op, ["x", "sx", "zx", "sy", "zy"], domain=MICROSOFT, **attrs)


def product_to_float(rng, k):
    ta, tb = byte(rng), byte(rng)
    if ta == np.int8:
        tb = np.dtype("int8")
    inner, n = int(rng.integers(3, 9)), (4,) if k % 2 else ()
    c = Case()
    c.inputs = {"a": bytes_of(rng, ta, 3, inner)}
    c.constants = {"b": bytes_of(rng, tb, inner, 4), "sa": scale(rng, 0.01, 0.05), "sb": scale(rng, 0.002, 0.02, n), "za": zero(rng, ta),
                   "zb": zero(rng, tb, n), "bias": normal(rng, 4)}
    names = ["a", "b", "sa", "sb", "za", "zb"] + (["bias"] if k % 3 else [])
    return c.node("MatMulIntegerToFloat", names, domain=MICROSOFT)


def dynamic_product(rng, k):
    tb, n = byte(rng), (4,) if k % 2 else ()
    c = Case()
    c.inputs = {"a": normal(rng, 3, 6)}
    c.constants = {"b": bytes_of(rng, tb, 6, 4), "sb": scale(rng, 0.002, 0.02, n), "zb": zero(rng, tb, n), "bias": normal(rng, 4)}
    return c.node("DynamicQuantizeMatMul", ["a", "b", "sb", "zb"] + (["bias"] if k % 3 else []), domain=MICROSOFT)


def dynamic_lstm(rng, k):
    hidden, width, length, batch = 3, 4, 3, 1 + k % 2
    directions, dtype = 1 + (k % 3 == 2), byte(rng)
    c = Case(outputs=["y", "h", "c"])
    c.inputs = {"x": normal(rng, length, batch, width)}
    n = (directions,) if k % 2 == 0 else (directions, 4 * hidden)
    # Per column, all zero points are one.
    z = lambda: zero(rng, dtype, n) if len(n) == 1 else np.full(n, zero(rng, dtype))
    c.constants = {"w": bytes_of(rng, dtype, directions, width, 4 * hidden), "r": bytes_of(rng, dtype, directions, hidden, 4 * hidden),
                   "b": normal(rng, directions, 8 * hidden, scale=0.3), "ws": scale(rng, 0.003, 0.01, n), "wz": z(),
                   "rs": scale(rng, 0.003, 0.01, n), "rz": z()}
    attrs = {"hidden_size": hidden, "direction": "bidirectional" if directions == 2 else ["forward", "reverse"][k % 2]}
    return c.node("DynamicQuantizeLSTM", ["x", "w", "r", "b", "", "", "", "", "ws", "wz", "rs", "rz"], domain=MICROSOFT, **attrs)


def integer_mean(rng, k):
    c, dtype = Case(opset=17 if k % 2 else 18), np.dtype(["int32", "int64"][k % 2])
    c.inputs = {"x": rng.integers(-40, 41, (3, 4, 2)).astype(dtype)}
    axes = sorted(int(v) for v in rng.choice(3, int(rng.integers(1, 3)), replace=False))
    if k % 2:
        return c.node("ReduceMean", ["x"], axes=axes, keepdims=k // 2 % 2)
    c.constants = {"axes": np.array(axes, np.int64)}
    return c.node("ReduceMean", ["x", "axes"], keepdims=k // 2 % 2)


def tree_ensemble(rng, k):
    """Trees of version 5: inner nodes in one table, leaves in another."""
    features, targets = 3, 1 + k % 2
    modes, ids, splits, true, true_leaf, false, false_leaf = [], [], [], [], [], [], []
    leaf_ids, leaf_weights, roots, members = [], [], [], []
    kinds = [0, 1, 2, 3, 4, 5] if k % 3 else [0, 6]

    def leaf():
        leaf_ids.append(int(rng.integers(targets)))
        leaf_weights.append(float(rng.integers(-64, 65)) / 64)
        return len(leaf_ids) - 1, 1

    def grow(depth):
        if depth == 3 or (depth and rng.random() < 0.3):
            return leaf()
        at = len(modes)
        mode = int(rng.choice(kinds))
        modes.append(mode)
        ids.append(int(rng.integers(features)))
        splits.append(float(rng.integers(-8, 9)) / 8 if mode != 6 else 0.0)
        if mode == 6:
            members.append((at, sorted(float(v) for v in rng.choice(9, 4, replace=False) - 4)))
        for table in (true, true_leaf, false, false_leaf):
            table.append(0)
        true[at], true_leaf[at] = grow(depth + 1)
        false[at], false_leaf[at] = grow(depth + 1)
        return at, 0

    for _ in range(3):
        roots.append(grow(0)[0])
    tensor = lambda name, kind, values: helper.make_tensor(name, kind, [len(values)], values)
    attrs = {"n_targets": targets, "aggregate_function": 1 - k // 3 % 2, "post_transform": 0, "tree_roots": roots,
             "nodes_modes": tensor("m", TensorProto.UINT8, modes), "nodes_featureids": ids,
             "nodes_splits": tensor("s", TensorProto.FLOAT, splits), "nodes_truenodeids": true, "nodes_trueleafs": true_leaf,
             "nodes_falsenodeids": false, "nodes_falseleafs": false_leaf, "leaf_targetids": leaf_ids,
             "leaf_weights": tensor("w", TensorProto.FLOAT, leaf_weights)}
    if any(m == 6 for m in modes):
        # Sets follow the nodes in order, each closed by a NaN.
        values = [v for _, s in sorted(members) for v in s + [float("nan")]]
        attrs["membership_values"] = tensor("v", TensorProto.FLOAT, values)
    c = Case(opset=17)
    step = 1 if 6 in kinds else 8
    c.inputs = {"x": (rng.integers(-8, 9, (6, features)) / step).astype(F)}
    return c.node("TreeEnsemble", ["x"], domain=TREES, **attrs)


def functions(rng, k):
    """A function of two results that calls another, with an attribute handed on."""
    opset = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    slope = onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    leaky = helper.make_node("LeakyRelu", ["a"], ["b"])
    leaky.attribute.append(slope)
    inner = helper.make_function("mine", "Leaky", ["a"], ["b"], [leaky], opset, attributes=["slope"])
    call = helper.make_node("Leaky", ["d"], ["p"], domain="mine")
    handed = onnx.AttributeProto(name="slope", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    call.attribute.append(handed)
    outer = helper.make_function("mine", "Apart", ["x", "w"], ["p", "s"],
                                 [helper.make_node("Sub", ["x", "w"], ["d"]), call, helper.make_node("Add", ["x", "w"], ["s"])],
                                 opset, attributes=["slope"])
    c = Case(outputs=["y", "z"], functions=[inner, outer])
    c.inputs, c.constants = {"x": normal(rng, 2, 4)}, {"w": normal(rng, 4), "v": normal(rng, 4)}
    c.node("Apart", ["x", "w"], ["p", "s"], domain="mine", slope=float(rng.uniform(0.05, 0.5)))
    c.node("Apart", ["s", "v"], ["y", "t"], domain="mine", slope=float(rng.uniform(0.05, 0.5)))
    return c.node("Mul", ["t", "p"], ["z"])


REDUCTIONS = ["none", "add", "mul", "max", "min"]


def scatter_elements(rng, k):
    """Indices are an input: places that no constant knows."""
    c, dtype = Case(opset=18), [np.dtype(F), np.dtype("int64")][k // 5 % 2]
    reduction, axis = REDUCTIONS[k % 5], int(rng.integers(0, 2))
    value = (lambda *s: normal(rng, *s)) if dtype == F else (lambda *s: rng.integers(-5, 6, s).astype(dtype))
    # Without a reduction, the standard leaves places that are hit twice open.
    rows = np.stack([rng.permutation(4) for _ in range(3)]) if reduction == "none" else rng.integers(-4, 4, (3, 4))
    index = (rows[:, :2] if axis == 1 else rows.T[:2]).astype(np.int64)
    shape = (3, 4) if axis == 1 else (4, 3)
    if k % 2:  # Updates need not reach the ends of the other axes.
        index = index[:2] if axis == 1 else index[:, :2]
    c.inputs = {"x": value(*shape), "i": index, "u": value(*index.shape)}
    return c.node("ScatterElements", ["x", "i", "u"], axis=axis, reduction=reduction)


def scatter_nd(rng, k):
    c, dtype = Case(opset=18), [np.dtype(F), np.dtype("int64")][k // 5 % 2]
    reduction, depth = REDUCTIONS[k % 5], 1 + k // 2 % 2
    value = (lambda *s: normal(rng, *s)) if dtype == F else (lambda *s: rng.integers(-5, 6, s).astype(dtype))
    if reduction == "none":
        flat = rng.permutation(4 if depth == 1 else 12)[:3]
    else:
        flat = rng.integers(0, 4 if depth == 1 else 12, 3)
    index = flat[:, None] if depth == 1 else np.stack([flat // 3, flat % 3], 1)
    c.inputs = {"x": value(4, 3), "i": index.astype(np.int64), "u": value(3, 3) if depth == 1 else value(3)}
    return c.node("ScatterND", ["x", "i", "u"], reduction=reduction)


KINDS = {f.__name__: f for f in (attention, attention_lengths, attention_window, attention_blind, lrn, lp_pool, global_lp_pool, lp_normalization, hardmax, shrink, swish, dynamic_quantize,
                                 qsoftmax, qconcat, qpair, qunary, product_to_float, dynamic_product, dynamic_lstm, integer_mean,
                                 tree_ensemble, functions, scatter_elements, scatter_nd)}
# Kinds with more variants than others.
MORE = {"attention": 12, "attention_window": 8, "attention_blind": 6, "lp_pool": 6, "qunary": 4, "qpair": 4, "scatter_elements": 10, "scatter_nd": 10, "dynamic_lstm": 4, "tree_ensemble": 4,
        "lrn": 4, "hardmax": 4, "integer_mean": 4, "dynamic_quantize": 3}


def tensor(array):
    return {"shape": list(array.shape), "dtype": str(array.dtype), "data": [v.item() for v in array.reshape(-1)]}


def main(path, seed=1, cases=2):
    rng = np.random.default_rng(seed)
    by = {}
    with open(path, "w") as out:
        for kind, make in KINDS.items():
            for k in range(max(cases, MORE.get(kind, 0) * cases // 2)):
                case = make(rng, k)
                try:
                    model, results, source = case.run()
                except Exception as error:  # ONNX Runtime lacks some combinations of types and attributes.
                    print(f"{kind}-{k}: {error}"[:900], file=sys.stderr)
                    continue
                by.setdefault(source, set()).add(kind)
                out.write(json.dumps({"name": f"{kind}-{k}", "source": source, "model": model.SerializeToString().hex(),
                                      "inputs": [tensor(v) for v in case.inputs.values()],
                                      "outputs": [tensor(np.asarray(v)) for v in results]}) + "\n")
    print({k: sorted(v) for k, v in by.items()}, file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1], *(int(a) for a in sys.argv[2:]))
