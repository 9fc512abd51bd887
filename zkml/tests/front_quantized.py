"""Writes random models of ONNX's quantised operators, with ONNX Runtime's results, as one JSON object per line.

Usage: python front_quantized.py OUT.jsonl [SEED [CASES_PER_KIND]]
Needs onnx, onnxruntime and numpy. `data/quantized.jsonl` is the output for seed 1 and 6 cases of each kind; a larger file is tested with
PARHELION_QUANTIZED=OUT.jsonl cargo test --release -p parhelion-zkml --test front_quantized -- --nocapture
"""

import json
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

DTYPES = {np.dtype("int8"): TensorProto.INT8, np.dtype("uint8"): TensorProto.UINT8, np.dtype("float32"): TensorProto.FLOAT,
          np.dtype("int32"): TensorProto.INT32}


def any_of(rng, dtype, shape):
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


def near_zero(rng, dtype, shape=()):
    middle = 0 if dtype == np.int8 else 128
    return np.asarray(rng.integers(middle - 20, middle + 21, shape)).astype(dtype)


def scale(rng, low, high, shape=()):
    return np.exp(rng.uniform(np.log(low), np.log(high), shape)).astype(np.float32)


def byte(rng):
    return np.dtype(rng.choice(["int8", "uint8"]))


def quantize(rng, k):
    # Numbers of twelve fraction bits are exact in integers and in floats; powers of two as scales make ties.
    x = (rng.integers(-(1 << 16), 1 << 16, (2, 3, 8)) / (1 << 12)).astype(np.float32)
    per_axis, dtype = k % 2 == 1, byte(rng)
    n = (3,) if per_axis else ()
    s = np.exp2(rng.integers(-6, -1, n)).astype(np.float32) if k % 3 == 0 else scale(rng, 0.01, 0.3, n)
    if k % 3 == 0:
        x = (np.rint(x * 32) / 64).astype(np.float32)
    attrs = {"axis": 1} if per_axis else {}
    return "QuantizeLinear", {"x": x}, {"s": s, "z": near_zero(rng, dtype, n)}, attrs, ["x", "s", "z"]


def dequantize(rng, k):
    per_axis, dtype = k % 2 == 1, byte(rng)
    n = (3,) if per_axis else ()
    # Scales of few bits, so that results are exact in integers too.
    s = (rng.integers(1, 256, n) / 4096).astype(np.float32)
    attrs = {"axis": 1} if per_axis else {}
    return "DequantizeLinear", {"x": any_of(rng, dtype, (2, 3, 8))}, {"s": s, "z": near_zero(rng, dtype, n)}, attrs, ["x", "s", "z"]


def qmatmul(rng, k):
    ta, tb, inner, cols = byte(rng), byte(rng), int(rng.integers(3, 24)), 7
    if ta == np.int8:
        tb = np.dtype("int8")
    n = (cols,) if k % 2 == 1 else ()
    consts = {"sa": scale(rng, 0.01, 0.05), "za": near_zero(rng, ta), "b": any_of(rng, tb, (inner, cols)), "sb": scale(rng, 0.002, 0.02, n),
              "zb": near_zero(rng, tb, n), "sy": scale(rng, 0.02, 0.2), "zy": near_zero(rng, ta)}
    return "QLinearMatMul", {"a": any_of(rng, ta, (4, inner))}, consts, {}, ["a", "sa", "za", "b", "sb", "zb", "sy", "zy"]


def qconv(rng, k):
    tx, group = byte(rng), int(rng.choice([1, 2]))
    n = (4,) if k % 2 == 1 else ()
    tw = np.dtype("int8") if n or tx == np.int8 else byte(rng)
    sx, sw = scale(rng, 0.01, 0.05), scale(rng, 0.002, 0.02, n)
    zw = np.zeros(n, tw) if n else near_zero(rng, tw)
    consts = {"sx": sx, "zx": near_zero(rng, tx), "w": any_of(rng, tw, (4, 4 // group, 3, 3)), "sw": sw, "zw": zw,
              "sy": scale(rng, 0.05, 0.3), "zy": near_zero(rng, tx), "b": rng.integers(-3000, 3000, 4).astype(np.int32)}
    attrs = {"pads": [int(p) for p in rng.integers(0, 2, 4)], "strides": [int(s) for s in rng.integers(1, 3, 2)], "group": group}
    return "QLinearConv", {"x": any_of(rng, tx, (1, 4, 6, 6))}, consts, attrs, ["x", "sx", "zx", "w", "sw", "zw", "sy", "zy", "b"]


def matmul_integer(rng, k):
    ta, tb, inner = byte(rng), byte(rng), int(rng.integers(3, 24))
    n = (5,) if k % 2 == 1 else ()
    consts = {"b": any_of(rng, tb, (inner, 5)), "za": near_zero(rng, ta), "zb": near_zero(rng, tb, n)}
    return "MatMulInteger", {"a": any_of(rng, ta, (3, inner))}, consts, {}, ["a", "b", "za", "zb"]


def conv_integer(rng, k):
    consts = {"w": any_of(rng, np.dtype("uint8"), (3, 2, 3, 3)), "zx": near_zero(rng, np.uint8), "zw": near_zero(rng, np.uint8)}
    attrs = {"pads": [int(p) for p in rng.integers(0, 2, 4)], "strides": [int(s) for s in rng.integers(1, 3, 2)]}
    return "ConvInteger", {"x": any_of(rng, np.dtype("uint8"), (1, 2, 7, 7))}, consts, attrs, ["x", "w", "zx", "zw"]


def tensor(array):
    return {"shape": list(array.shape), "dtype": str(array.dtype), "data": [v.item() for v in array.reshape(-1)]}


def main(path, seed=1, cases=6):
    rng = np.random.default_rng(seed)
    with open(path, "w") as out:
        for kind in (quantize, dequantize, qmatmul, qconv, matmul_integer, conv_integer):
            done = 0
            while done < cases:
                op, inputs, consts, attrs, order = kind(rng, done)
                node = helper.make_node(op, order, ["y"], name=op, **attrs)
                given = [helper.make_tensor_value_info(k, DTYPES[v.dtype], v.shape) for k, v in inputs.items()]
                result = onnx.ValueInfoProto(name="y")
                graph = helper.make_graph([node], "quantized", given, [result],
                                          [numpy_helper.from_array(np.asarray(v), k) for k, v in consts.items()])
                model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
                try:
                    model = onnx.shape_inference.infer_shapes(model)
                    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
                except Exception as error:  # ONNX Runtime lacks some combinations of types.
                    print(f"{op}: {error}", file=sys.stderr)
                    continue
                y = session.run(None, inputs)[0]
                out.write(json.dumps({"name": f"{op}-{done}", "model": model.SerializeToString().hex(),
                                      "inputs": [tensor(v) for v in inputs.values()], "output": tensor(y)}) + "\n")
                done += 1


if __name__ == "__main__":
    main(sys.argv[1], *(int(a) for a in sys.argv[2:]))
