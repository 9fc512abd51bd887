#!/usr/bin/env python3
"""Operators at the ends of their types, and decisions at decimals, compared with ONNX Runtime.

    scripts/operator-cases.py [--binary parhelion] [--only TEXT] [--keep DIR]

Comparisons with values that an input has, roundings beside whole numbers and halves, every integer type at its least and greatest
values, casts between all types, trees at their thresholds. `parhelion witness` has to give ONNX Runtime's numbers: integers and booleans exactly,
floats within 1e-3, or refuse. The exit code is 1 where an answer is wrong. Needs numpy, onnx and onnxruntime.
"""

import argparse
import collections
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto as T
from onnx import helper, numpy_helper

F = np.float32
N = helper.make_node
INTS = [np.dtype(d) for d in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")]
COMPARE = ["Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal"]
CODE = helper.np_dtype_to_tensor_dtype


def floats(*v):
    return np.array(v, F)


def steps(low, high, by, parts):
    return np.array([F(i / parts) for i in range(low, high, by)], F)


DECIMALS, CENTS = steps(-20, 40, 1, 10), steps(-200, 200, 3, 100)


def up(v):
    return np.nextafter(v, F(9e9))


def down(v):
    return np.nextafter(v, F(-9e9))


def comparisons(case):
    def decide(name, op, operands, before, inputs, constants):
        case(f"{op} {name}", [*before, N(op, operands, ["b"]), N("Cast", ["b"], ["y"], to=T.FLOAT)], inputs, constants)

    tenth, third = np.array(0.1, F), np.array(3, F)
    for op in COMPARE:
        for name, v in (("tenths", DECIMALS), ("hundredths", CENTS)):
            for moved, x in (("themselves", v), ("above", up(v)), ("below", down(v))):
                decide(f"{name} {moved}", op, ["x", "k"], [], {"x": x}, {"k": v})
            decide(f"{name} the constant first", op, ["k", "x"], [], {"x": v}, {"k": v})
            decide(f"{name} two inputs", op, ["x", "z"], [], {"x": v, "z": np.roll(v, 1)}, {})
            decide(f"{name} two equal inputs", op, ["x", "z"], [], {"x": v, "z": v.copy()}, {})
        decide("one threshold", op, ["x", "k"], [], {"x": DECIMALS}, {"k": np.array(0.7, F)})
        whole = np.arange(-20, 40, dtype=F)
        decide("after a product", op, ["z", "k"], [N("Mul", ["x", "c"], ["z"])], {"x": whole}, {"c": tenth, "k": whole * tenth})
        decide("after a sum", op, ["z", "k"], [N("Add", ["x", "c"], ["z"])], {"x": DECIMALS}, {"c": tenth, "k": DECIMALS + tenth})
        decide("after a quotient", op, ["z", "k"], [N("Div", ["x", "c"], ["z"])], {"x": whole}, {"c": third, "k": whole / third})
        decide("tiny", op, ["x", "k"], [], {"x": floats(0, 1e-7, 1e-6, 2e-6, -1e-7, 1)}, {"k": np.array(1e-6, F)})
        fine = floats(0.500001, 0.500001, 0.500001, 0.5000015)
        decide("fine", op, ["x", "k"], [], {"x": floats(0.5, 0.500001, 0.5000005, 0.500002)}, {"k": fine})
        for far in (1e20, -np.inf):
            decide(f"{far}", op, ["x", "k"], [], {"x": floats(1, 3, -5)}, {"k": np.array(far, F)})
        nodes = [N(op, ["x", "k"], ["b"]), N("Where", ["b", "x", "o"], ["y"])]
        case(f"{op} a choice", nodes, {"x": DECIMALS}, {"k": np.array(1.3, F), "o": np.array(0, F)})
        for dtype, big in ((np.int32, 1_700_000_000), (np.int64, 1 << 59)):
            ids, name = np.array([big, big - 1, 65536, 7], dtype), np.dtype(dtype).name
            decide(f"{name} identifiers", op, ["x", "k"], [], {"x": ids}, {"k": np.array(big, dtype)})
            decide(f"{name} two of them", op, ["x", "z"], [], {"x": ids, "z": np.array([big, big, 65536, 8], dtype)}, {})
            before, x = [N("Cast", ["x"], ["z"], to=T.FLOAT)], np.array([1, 2, 3, 4, -2, -3], dtype)
            decide(f"{name} with fractions", op, ["z", "k"], before, {"x": x}, {"k": floats(2.5, 2.5, 2.5, 4, -2.5, -2.5)})
            decide(f"{name} with a tenth", op, ["z", "k"], before, {"x": x}, {"k": tenth})
        past = np.array([2**53, 2**53 + 1, 2**53 + 2], np.int64)
        decide("past 2^53", op, ["x", "k"], [], {"x": past}, {"k": np.array(2**53 + 1, np.int64)})


def roundings(case):
    whole = np.arange(-3, 4, dtype=F)
    for op in ("Floor", "Ceil", "Round", "Sign"):
        for name, v in (("tenths", DECIMALS), ("hundredths", CENTS), ("above whole", up(whole)), ("below whole", down(whole)),
                        ("above halves", up(whole + F(0.5))), ("below halves", down(whole + F(0.5))),
                        ("tiny", floats(1e-7, -1e-7, 0, -1e-30, 1e-30))):
            case(f"{op} {name}", [N(op, ["x"], ["y"])], {"x": v})
        for c in (10, 100, 5, 0.1, 3, 1000):
            for name, v in (("tenths", DECIMALS), ("hundredths", CENTS)):
                case(f"{op} {name} times {c}", [N("Mul", ["x", "c"], ["z"]), N(op, ["z"], ["y"])], {"x": v}, {"c": np.array(c, F)})
        case(f"{op} over a hundredth", [N("Div", ["x", "c"], ["z"]), N(op, ["z"], ["y"])], {"x": CENTS}, {"c": np.array(0.01, F)})
        case(f"{op} less 0.3", [N("Sub", ["x", "c"], ["z"]), N(op, ["z"], ["y"])], {"x": DECIMALS}, {"c": np.array(0.3, F)})
    for dtype in INTS[:5]:
        to = CODE(dtype)
        case(f"to {dtype} tenths", [N("Cast", ["x"], ["y"], to=to)], {"x": DECIMALS[20:] if dtype.kind == "u" else DECIMALS})
        case(f"to {dtype} below whole", [N("Cast", ["x"], ["y"], to=to)], {"x": down(np.arange(1, 4, dtype=F))})
    case("to bool", [N("Cast", ["x"], ["b"], to=T.BOOL), N("Cast", ["b"], ["y"], to=T.FLOAT)], {"x": floats(0, 1e-7, -1e-7, 1, -2, 0.1)})


def integers(case):
    for dtype in INTS:
        info, s = np.iinfo(dtype), dtype.kind == "i"
        wide = info.bits == 64
        top, low = (1 << 58, -(1 << 58) if s else 0) if wide else (info.max, info.min)
        ends = np.array([top, low, 3, top - 1, low + 1, 7], dtype)
        for name, k in (("ones", np.ones(6, dtype)), ("mixed", np.array([2, -1 if s else 1, 2, 3, -2 if s else 2, 7], dtype))):
            for op in ("Add", "Sub", "Mul"):
                case(f"{dtype} {op} {name}", [N(op, ["x", "k"], ["y"])], {"x": ends}, {"k": k})
                case(f"{dtype} {op} {name} input", [N(op, ["x", "z"], ["y"])], {"x": ends, "z": k})
                case(f"{dtype} {op} {name} one", [N(op, ["x", "k"], ["y"])], {"x": ends}, {"k": k[:1]})
        divisors = [np.array([1, 2, 3, 4, 5, 7], dtype)] + ([np.array([-2, -3, 2, 3, -5, 7], dtype)] if s else [])
        numerators = np.array([top, low + 1, 3, top - 1, -7 if s else 9, 7], dtype)
        for k in divisors:
            for op, attrs in (("Div", {}), ("Mod", {}), ("Mod", {"fmod": 1})):
                name = f"{dtype} {op} {attrs} {'positive' if k[0] > 0 else 'negative'}"
                case(name, [N(op, ["x", "k"], ["y"], **attrs)], {"x": numerators}, {"k": k})
                case(f"{name} input", [N(op, ["x", "z"], ["y"], **attrs)], {"x": numerators, "z": k})
        for op in ("Abs", "Neg", "Sign", "Identity"):
            case(f"{dtype} {op}", [N(op, ["x"], ["y"])], {"x": ends})
        case(f"{dtype} Abs of a difference", [N("Sub", ["x", "k"], ["z"]), N("Abs", ["z"], ["y"])], {"x": ends}, {"k": np.array(1, dtype)})
        for lo, hi in ((5, 2), (2, 5), (3, 3)):
            case(f"{dtype} Clip {lo} {hi}", [N("Clip", ["x", "l", "u"], ["y"])], {"x": ends}, {"l": np.array(lo, dtype), "u": np.array(hi, dtype)})
        for op in ("Max", "Min"):
            case(f"{dtype} {op}", [N(op, ["x", "z"], ["y"])], {"x": ends, "z": ends[::-1].copy()})
        if not s:
            for direction in ("LEFT", "RIGHT"):
                for name, k in (("", np.array([0, 1, 3, 7, min(info.bits - 1, 20), 2], dtype)), (" far", np.array(info.bits, dtype))):
                    case(f"{dtype} shift {direction}{name}", [N("BitShift", ["x", "k"], ["y"], direction=direction)], {"x": ends}, {"k": k})
        for e in (np.array(2, dtype), np.array(3, dtype), *(np.array(e, F) for e in (2, 0.5, 1.5, -1, 0)), np.array(4, np.int64)):
            case(f"{dtype} Pow {e} {e.dtype}", [N("Pow", ["x", "k"], ["y"])], {"x": np.array([1, 2, 3, 4, 9, 10], dtype)}, {"k": e})
        case(f"{dtype} Pow wraps", [N("Pow", ["x", "k"], ["y"])], {"x": np.array([1 << 28 if wide else top, 3], dtype)}, {"k": np.array(2, np.int64)})
        case(f"{dtype} MatMul", [N("MatMul", ["x", "k"], ["y"])], {"x": np.array([[1 << 40 if wide else top, 3]], dtype)}, {"k": np.array([[2], [5]], dtype)})
        case(f"{dtype} ReduceMax", [N("ReduceMax", ["x"], ["y"], axes=[0])], {"x": ends})
        case(f"{dtype} ReduceSum", [N("ReduceSum", ["x"], ["y"])], {"x": np.array([1, 2, 3], dtype)})
        case(f"{dtype} ReduceMean", [N("ReduceMean", ["x"], ["y"])], {"x": np.array([-3, -4] if s else [3, 4], dtype)})
        case(f"{dtype} CumSum", [N("CumSum", ["x", "a"], ["y"])], {"x": np.array([1 << 40 if wide else top, 1, 2], dtype)}, {"a": np.array(0, np.int64)})
        case(f"{dtype} ArgMax", [N("ArgMax", ["x"], ["y"], axis=0)], {"x": ends})
        case(f"{dtype} Where", [N("Greater", ["x", "k"], ["b"]), N("Where", ["b", "x", "k"], ["y"])], {"x": ends}, {"k": np.array(5, dtype)})
        case(f"{dtype} Equal", [N("Equal", ["x", "k"], ["b"]), N("Cast", ["b"], ["y"], to=T.FLOAT)], {"x": ends}, {"k": ends[::-1].copy()})
        for to in [*INTS, np.dtype(F)]:
            case(f"{dtype} to {to}", [N("Cast", ["x"], ["y"], to=CODE(to))], {"x": ends})
    for k in (1_600_000_000, 10**18):
        case(f"add {k}", [N("Add", ["x", "k"], ["y"])], {"x": np.array([1, 2], np.int64)}, {"k": np.array(k, np.int64)})
    past = np.array([2**53 + 1, -(2**53) - 1, 1], np.int64)
    case("add past 2^53", [N("Add", ["x", "k"], ["y"])], {"x": past}, {"k": np.array([1, 1, 2**53], np.int64)})
    case("gather identifiers", [N("Gather", ["k", "x"], ["y"])], {"x": np.array([0, 1], np.int64)}, {"k": np.array([1_600_000_001, 1 << 60], np.int64)})
    for name, v in (("near the limit", np.array([2**60 + 1, 5], np.int64)), ("the greatest int64", np.array([2**63 - 1, 5], np.int64)),
                    ("the greatest uint64", np.array([2**64 - 1], np.uint64))):
        case(name, [N("Identity", ["x"], ["y"])], {"x": v})
    case("uint64 constant", [N("Add", ["x", "k"], ["y"])], {"x": np.array([1], np.uint64)}, {"k": np.array([2**63 + 5], np.uint64)})


def others(case):
    for lo, hi, x in ((100, 50, floats(1, 60, 200)), (100, 50, floats(1)), (-0.3, 0.7, DECIMALS)):
        case(f"Clip {lo} {hi} {len(x)}", [N("Clip", ["x", "l", "u"], ["y"])], {"x": x}, {"l": np.array(lo, F), "u": np.array(hi, F)})
    image = np.arange(20, dtype=F).reshape(1, 1, 4, 5)
    for a, b in ((1.5, 1.5), (0.6, 0.6), (2.3, 1.7), (2, 2)):
        for mode in ("nearest", "linear"):
            case(f"Resize 10 {mode} {a} {b}", [N("Resize", ["x", "s"], ["y"], mode=mode)], {"x": image}, {"s": floats(1, 1, a, b)}, opset=10)
    for mode in ("LEQ", "LT", "GTE", "GT", "EQ", "NEQ"):
        for t in (0.1, 0.7, 1.3, -0.6):
            x = np.array([[F(t)], [up(F(t))], [down(F(t))], [0]], F)
            tree = N("TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", n_targets=1, nodes_falsenodeids=[2, 0, 0], nodes_featureids=[0, 0, 0],
                     nodes_modes=[f"BRANCH_{mode}", "LEAF", "LEAF"], nodes_nodeids=[0, 1, 2], nodes_treeids=[0, 0, 0], nodes_truenodeids=[1, 0, 0],
                     nodes_values=[t, 0.0, 0.0], target_ids=[0, 0], target_nodeids=[1, 2], target_treeids=[0, 0], target_weights=[10.0, 20.0])
            case(f"tree {mode} {t}", [tree], {"x": x}, out=T.FLOAT)
    x = floats(0.7, up(F(0.7)), 0.69)
    case("Binarizer", [N("Binarizer", ["x"], ["y"], domain="ai.onnx.ml", threshold=0.7)], {"x": x}, out=T.FLOAT)


def built(nodes, inputs, constants, opset, out):
    """The model, and ONNX Runtime's answer."""
    given = [helper.make_tensor_value_info(k, CODE(v.dtype), v.shape) for k, v in inputs.items()]
    result = helper.make_tensor_value_info("y", out, None) if out else onnx.ValueInfoProto(name="y")
    graph = helper.make_graph(nodes, "case", given, [result], [numpy_helper.from_array(v, k) for k, v in constants.items()])
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    typed = model if out else onnx.shape_inference.infer_shapes(model)
    session = ort.InferenceSession(typed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return model, session.run(None, inputs)[0]


def wrong(expected, found):
    """What is wrong with an answer, or None."""
    if expected.size != len(found):
        return f"{len(found)} elements instead of {expected.size}"
    for i, (e, f) in enumerate(zip(expected.ravel(), found)):
        if expected.dtype.kind in "biu":
            same = int(e) == int(f.split(".")[0])
        else:
            same = abs(float(e) - float(f)) <= 1e-3 * max(1.0, abs(float(e)) * 1e-2)
        if not same:
            return f"element {i} is {f} instead of {e}"
    return None


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--binary", default="parhelion")
    p.add_argument("--only", default="", help="cases whose names contain this")
    p.add_argument("--keep", help="folder for the cases that are wrong")
    args = p.parse_args()
    counts, refusals = collections.Counter(), collections.Counter()
    with tempfile.TemporaryDirectory() as scratch:
        model_at, input_at, out_at = (os.path.join(scratch, n) for n in ("network.onnx", "input.json", "w.json"))

        def case(name, nodes, inputs, constants=None, opset=17, out=None):
            if args.only not in name:
                return
            try:
                model, expected = built(nodes, inputs, constants or {}, opset, out)
            except Exception:
                counts["not run by ONNX Runtime"] += 1
                return
            onnx.save(model, model_at)
            with open(input_at, "w") as f:
                json.dump({"input_data": {k: v.tolist() for k, v in inputs.items()}}, f)
            words = [args.binary, "--quiet", "--no-cache", "witness", "--out", out_at, model_at, "--input", input_at]
            said = subprocess.run(words, capture_output=True, text=True, timeout=300)
            if said.returncode == 1:
                counts["refused"] += 1
                line = said.stderr.strip().splitlines()[-1] if said.stderr.strip() else "nothing said"
                refusals[line.split(": ")[-1][:90]] += 1
                if args.only:
                    print(f"{name}: {said.stderr.strip()}")
                return
            if said.returncode != 0:
                why = f"exit code {said.returncode}: {said.stderr[-200:]}"
            else:
                with open(out_at) as f:
                    why = wrong(expected, json.load(f)["output_values"][0])
            if why is None:
                counts["right"] += 1
                return
            counts["wrong"] += 1
            print(f"{name}: {why}", flush=True)
            if args.keep:
                folder = os.path.join(args.keep, name.replace(" ", "-"))
                os.makedirs(folder, exist_ok=True)
                for source in (model_at, input_at):
                    with open(source, "rb") as i, open(os.path.join(folder, os.path.basename(source)), "wb") as o:
                        o.write(i.read())

        for kind in (comparisons, roundings, integers, others):
            kind(case)
    print(", ".join(f"{n} {what}" for what, n in counts.most_common()))
    for why, n in refusals.most_common():
        print(f"  {n:4} {why}")
    return 1 if counts["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
