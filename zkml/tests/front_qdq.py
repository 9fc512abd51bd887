"""Writes networks that onnxruntime.quantization has quantised, with ONNX Runtime's integers layer by layer, as one JSON object per line.

Usage: python front_qdq.py OUT.jsonl [SEED]
Needs onnx, onnxruntime and numpy. `data/qdq.jsonl` is the output for seed 1; a larger file is tested with
PARHELION_QDQ=OUT.jsonl cargo test --release -p parhelion-zkml --test front_qdq -- --nocapture

The runtime's optimisations are off: they may choose kernels that saturate. `ties` are the elements whose exact number, computed in double
precision from the runtime's integers before the layer, is so near the middle of two integers that single precision's own rounding decides.
"""

import json
import os
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

onnxruntime.set_default_logger_severity(4)

NEAR = 1e-4


class Reader(CalibrationDataReader):
    def __init__(self, samples):
        self.samples = iter(samples)

    def get_next(self):
        return next(self.samples, None)


def network(rng, kind):
    """A float model and the shape of its input."""
    inits, nodes = [], []

    def weight(name, *shape, scale=0.5):
        inits.append(numpy_helper.from_array((rng.normal(size=shape) * scale).astype(np.float32), name))
        return name

    def constant(name, value):
        inits.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(op, inputs, out, **attrs):
        nodes.append(helper.make_node(op, inputs, [out], name=out + "_" + op, **attrs))
        return out

    if kind == "conv":
        shape = [1, 2, 8, 8]
        h = node("Conv", ["x", weight("w1", 4, 2, 3, 3), weight("b1", 4)], "c1", pads=[1, 1, 1, 1])
        h = node("Relu", [h], "r1")
        h = node("MaxPool", [h], "p1", kernel_shape=[2, 2], strides=[2, 2])
        g = node("Conv", [h, weight("w2", 4, 4, 3, 3, scale=0.3), weight("b2", 4)], "c2", pads=[1, 1, 1, 1])
        h = node("Add", [h, g], "a1")
        h = node("Relu", [h], "r2")
        k = node("Conv", [h, weight("w3", 3, 4, 1, 1)], "c3")
        h = node("Concat", [h, k], "cat", axis=1)
        h = node("GlobalAveragePool", [h], "gap")
        h = node("Flatten", [h], "flat")
        node("Gemm", [h, weight("w4", 5, 7), weight("b4", 5)], "y", transB=1)
    elif kind == "mlp":
        shape = [3, 12]
        h = node("MatMul", ["x", weight("w1", 12, 10)], "m1")
        h = node("Add", [h, weight("b1", 10)], "a1")
        h = node("Sigmoid", [h], "s1")
        h = node("MatMul", [h, weight("w2", 10, 6)], "m2")
        h = node("LeakyRelu", [h], "l2", alpha=0.1)
        node("Mul", [h, "l2"], "y")
    elif kind == "mobile":
        shape = [1, 3, 6, 6]
        h = node("Conv", ["x", weight("w1", 6, 3, 3, 3), weight("b1", 6)], "c1", strides=[2, 2], pads=[1, 1, 1, 1])
        h = node("Clip", [h, constant("lo", np.float32(0)), constant("hi", np.float32(6))], "r6")
        h = node("Conv", [h, weight("w2", 6, 1, 3, 3)], "dw", group=6, pads=[1, 1, 1, 1])
        h = node("AveragePool", [h], "ap", kernel_shape=[2, 2])
        h = node("Transpose", [h], "t", perm=[0, 2, 3, 1])
        h = node("Reshape", [h, constant("dims", np.array([4, 6], np.int64))], "rs")
        node("MatMul", [h, weight("w3", 6, 4)], "y")
    else:  # Two residual blocks, averages and a classifier.
        shape = [1, 3, 8, 8]
        h = node("Conv", ["x", weight("w0", 4, 3, 3, 3, scale=0.3), weight("b0", 4)], "c0", pads=[1, 1, 1, 1], strides=[2, 2])
        h = node("Relu", [h], "r0")
        for i in (1, 2):
            g = node("Conv", [h, weight(f"w{i}a", 4, 4, 3, 3, scale=0.2), weight(f"b{i}a", 4)], f"c{i}a", pads=[1, 1, 1, 1])
            g = node("Relu", [g], f"r{i}a")
            g = node("Conv", [g, weight(f"w{i}b", 4, 4, 3, 3, scale=0.2), weight(f"b{i}b", 4)], f"c{i}b", pads=[1, 1, 1, 1])
            h = node("Add", [g, h], f"a{i}")
            h = node("Relu", [h], f"r{i}")
        h = node("AveragePool", [h], "ap", kernel_shape=[2, 2], strides=[2, 2])
        h = node("Flatten", [h], "flat")
        h = node("Gemm", [h, weight("w3", 16, 8, scale=0.3), weight("b3", 8)], "g1")
        node("Softmax", [h], "y", axis=-1)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, kind, [x], [y], inits)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), shape


def exact(node, operands, opset):
    """One operator in double precision."""
    names = [f"i{k}" if v is not None else "" for k, v in enumerate(operands)]
    copy = helper.make_node(node.op_type.removeprefix("QLinear"), names, ["o"])
    if node.op_type == "QGemm":
        copy.op_type = "Gemm"
    copy.attribute.extend(a for a in node.attribute if a.name not in ("channels_last", "opset"))
    given = {n: v for n, v in zip(names, operands) if v is not None}
    infos = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in given.items()]
    graph = helper.make_graph([copy], "one", infos, [onnx.ValueInfoProto(name="o")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    return np.asarray(ReferenceEvaluator(model).run(None, given)[0], dtype=np.float64)


def steps_of(model, x, integers):
    """What the elements of every quantised tensor are before they are rounded, in steps, by name."""
    values = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer} | {"x": x.astype(np.float64)}
    steps = {}

    def real(q, s, z, axis=1):
        q, s, z = values[q].astype(np.float64), values[s].astype(np.float64), values[z].astype(np.float64) if z else np.float64(0)
        shape = [-1 if i == axis % max(q.ndim, 1) else 1 for i in range(q.ndim)]
        spread = lambda v: v.reshape(shape) if v.size > 1 else v.reshape(())
        return (q - spread(z)) * spread(s)

    for n in model.graph.node:
        i, o = list(n.input), n.output[0]
        attrs = {a.name: helper.get_attribute_value(a) for a in n.attribute}
        at = lambda k: i[k] if k < len(i) else ""
        if n.op_type == "DequantizeLinear":
            values[o] = real(i[0], i[1], at(2), attrs.get("axis", 1))
            continue
        if n.op_type == "QuantizeLinear":
            y, scale = values[i[0]].astype(np.float64), i[1]
        elif n.op_type in ("QLinearConv", "QLinearMatMul", "QGemm"):
            gemm = n.op_type == "QGemm"
            s, operands = 7 if gemm else 6, [0, 3]
            own = values[i[3]].ndim - 1 if n.op_type == "QLinearMatMul" else (0 if attrs.get("transB", 0) or not gemm else 1)
            operands = [real(i[0], i[1], i[2]), real(i[3], i[4], i[5], own)]
            bias = at(6) if gemm else at(8)
            if bias:
                unit = values[i[1]].astype(np.float64) * values[i[4]].astype(np.float64)
                operands.append(values[bias].astype(np.float64) * unit)
            y, scale = exact(n, operands, 17), i[s]
        elif n.op_type in ("QLinearAdd", "QLinearMul"):
            y, scale = exact(n, [real(*i[:3]), real(*i[3:6])], 17), i[6]
        elif n.op_type == "QLinearConcat":
            y, scale = exact(n, [real(*i[k:k + 3]) for k in range(2, len(i), 3)], 17), i[0]
        elif n.op_type.startswith("QLinear"):
            y, scale = exact(n, [real(*i[:3])], 17), i[3]
        else:
            operands = [values[v] if v else None for v in i]
            if o in integers:  # It moves integers.
                values[o] = integers[o]
                continue
            values[o] = exact(n, [v.astype(np.float64) if v is not None and v.dtype == np.float32 else v for v in operands], 17)
            continue
        if o in integers:
            steps[o] = y / values[scale].astype(np.float64)
            values[o] = integers[o]
    return steps


def quantised(rng, folder, kind, per_channel, activations, form):
    model, shape = network(rng, kind)
    source, target = os.path.join(folder, "a.onnx"), os.path.join(folder, "b.onnx")
    onnx.save(model, source)
    samples = [{"x": rng.normal(size=shape).astype(np.float32)} for _ in range(8)]
    # Weights of seven bits: kernels of products of unlike signs saturate their partial sums on some processors.
    narrow = form == QuantFormat.QOperator and activations == QuantType.QUInt8
    quantize_static(source, target, Reader(samples), quant_format=form, per_channel=per_channel, activation_type=activations,
                    weight_type=QuantType.QInt8, reduce_range=narrow)
    final = onnx.load(target)
    q = onnx.load(target)
    # The integers of every layer are outputs.
    del q.graph.output[:]
    known = {i.name for i in q.graph.initializer}
    made = {"x": TensorProto.FLOAT}
    for n in q.graph.node:
        integer = n.op_type == "QuantizeLinear" or n.op_type.startswith("QLinear") or (n.op_type == "QGemm" and len(n.input) > 7)
        moved = n.op_type in ("MaxPool", "Reshape", "Flatten", "Transpose", "Concat", "Relu") and made.get(n.input[0]) == "q"
        if integer or moved:
            made[n.output[0]] = "q"
            dtype = TensorProto.INT8 if activations == QuantType.QInt8 else TensorProto.UINT8
            q.graph.output.append(helper.make_tensor_value_info(n.output[0], dtype, None))
    assert known and q.graph.output
    x = rng.normal(size=shape).astype(np.float32)
    # Inputs of sixteen fraction bits are the same in integers.
    x = (np.rint(x * 65536) / 65536).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(q.SerializeToString(), options)
    results = dict(zip([o.name for o in q.graph.output], session.run(None, {"x": x})))
    steps = steps_of(q, x, results)

    def ties(name):
        if name not in steps:
            return []
        s = steps[name]
        return [int(v) for v in np.flatnonzero(np.abs(s - np.floor(s) - 0.5).ravel() < NEAR)]

    return {
        "name": f"{kind}-{form.name}-{'channel' if per_channel else 'tensor'}-{activations.name}",
        "quantised": final.SerializeToString().hex(),
        "model": q.SerializeToString().hex(),
        "input": {"shape": shape, "data": [float(v) for v in x.ravel()]},
        "outputs": [{"name": n, "data": [int(v) for v in r.ravel()], "ties": ties(n)} for n, r in results.items()],
    }


def main():
    rng = np.random.default_rng(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    with open(sys.argv[1], "w") as out, tempfile.TemporaryDirectory() as folder:
        for form in [QuantFormat.QDQ, QuantFormat.QOperator]:
            for kind in ["conv", "mlp", "mobile", "residual"]:
                for per_channel in [False, True]:
                    for activations in [QuantType.QUInt8, QuantType.QInt8]:
                        try:
                            case = quantised(rng, folder, kind, per_channel, activations, form)
                        except Exception as error:  # The quantiser or the runtime lacks the combination.
                            print(f"{kind} {form.name} {per_channel} {activations.name}: {error}"[:600], file=sys.stderr)
                            continue
                        out.write(json.dumps(case) + "\n")


main()
