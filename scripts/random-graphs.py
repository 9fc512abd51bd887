#!/usr/bin/env python3
"""Random small graphs over the operator table, compared with ONNX Runtime.

    scripts/random-graphs.py [--count 500] [--seed 0] [--binary parhelion] [--keep DIR]

Each graph has one to seven operators on one or two inputs, with random shapes, element types and constants of odd magnitudes (1e-5 to 1e5,
decimals, identifiers). ONNX Runtime runs it without graph optimisations; `parhelion witness` runs it in integers. An answer is right where
floats are within 1 % of the output's largest value (1e-3 where that is zero) and integers are equal. A refusal is counted by its reason. An answer that is not right is a
difference, but where it is right in double precision: sums that cancel, thresholds within the runtime's own roundings. `parhelion prove` then
says whether it is a silent one. The exit code is 1 where there is a silent difference.

Needs numpy, onnx and onnxruntime. Graph N of seed S is the same on every machine with the same versions of these; `--only N` runs one.
"""

import argparse
import collections
import json
import os
import re
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto as T
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

OPSET = 20
TOLERANCE = 0.01
ZERO = 1e-3
FLOAT = np.dtype(np.float32)
INTS = [np.dtype(d) for d in (np.int64, np.int32, np.int8, np.uint8, np.int16, np.uint16, np.uint32)]
BOOL = np.dtype(np.bool_)
ONNX = helper.np_dtype_to_tensor_dtype

UNARY = """Abs Neg Relu Sigmoid Tanh Exp Log Sqrt Reciprocal Erf Softplus Softsign HardSigmoid HardSwish Elu Selu LeakyRelu Celu Mish
ThresholdedRelu Sin Cos Tan Atan Asin Acos Sinh Cosh Asinh Acosh Atanh Floor Ceil Round Sign Gelu Identity""".split()
BINARY = "Add Sub Mul Div Min Max Pow PRelu Mean Sum".split()
COMPARE = "Less LessOrEqual Greater GreaterOrEqual Equal".split()
REDUCE = "ReduceSum ReduceMean ReduceMax ReduceMin ReduceL1 ReduceL2 ReduceLogSumExp ReduceSumSquare ReduceProd ReduceLogSum".split()


class Graph:
    """A graph under construction; every value is known as an array, from ONNX Runtime."""

    def __init__(self, rng):
        self.rng = rng
        self.nodes, self.inits, self.inputs, self.values = [], [], {}, {}

    def pick(self, wanted=lambda v: True):
        """A value; those that came last are likelier."""
        names = [n for n, v in self.values.items() if wanted(v)]
        if not names:
            return None
        return names[max(self.rng.integers(len(names)), self.rng.integers(len(names)))]

    def magnitude(self):
        return 10.0 ** self.rng.choice([-5, -3, -1, 0, 0, 0, 0, 1, 1, 2, 3, 5])

    def array(self, shape, dtype=FLOAT):
        r = self.rng
        if dtype == BOOL:
            return r.random(shape) < 0.5
        if dtype != FLOAT:
            info = np.iinfo(dtype)
            top = r.choice([3, 100, 70000, 1_700_000_000, 2**40])
            lo, hi = max(info.min, -top if r.random() < 0.5 else 0), min(info.max, top)
            return r.integers(lo, hi, size=shape, endpoint=True).astype(dtype)
        kind = r.integers(4)
        if kind == 0:  # decimals
            a = r.integers(-20, 20, size=shape) / 10
        elif kind == 1:  # few different values
            a = r.choice(r.normal(size=3) * self.magnitude(), size=shape)
        else:
            a = r.normal(size=shape) * self.magnitude()
        return np.asarray(a, dtype=FLOAT)

    def constant(self, array):
        name = f"c{len(self.inits)}"
        self.inits.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, op, ins, outs=1, **attrs):
        base = f"n{len(self.nodes)}"
        names = [f"{base}_{i}" for i in range(outs)]
        self.nodes.append(helper.make_node(op, ins, names, name=f"{op}{len(self.nodes)}", **attrs))
        return names

    def model(self, outputs):
        ins = [helper.make_tensor_value_info(n, ONNX(v.dtype), v.shape) for n, v in self.inputs.items()]
        outs = [helper.make_tensor_value_info(n, 0, None) for n in outputs]
        for o in outs:
            o.ClearField("type")
        graph = helper.make_graph(self.nodes, "random", ins, outs, self.inits)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)

    def settle(self, names):
        """Values of new nodes; False where ONNX Runtime does not take the last of them or a value is not finite."""
        try:
            found = run(self.model(names), self.inputs)
        except Exception:
            found = None
        ok = found is not None and all(
            isinstance(v, np.ndarray)
            and 0 < v.size <= 4096
            and (v.dtype.kind in "biu" or np.isfinite(v).all())
            and (v.dtype == FLOAT or v.dtype in INTS or v.dtype == BOOL)
            for v in found
        )
        if not ok:
            self.nodes.pop()
            return False
        self.values.update(zip(names, found))
        return True

    def step(self):
        """Adds one operator, as far as that is possible."""
        r = self.rng
        x = self.pick()
        v = self.values[x]
        rank, f = v.ndim, v.dtype == FLOAT
        other = lambda: self.constant(self.array(shape_for(r, v.shape), v.dtype))
        second = lambda: self.pick(lambda o: o.dtype == v.dtype and o.shape == v.shape) if r.random() < 0.4 else other()
        axis = int(r.integers(-rank, rank)) if rank else 0
        choice = r.integers(16)
        if choice <= 3 and f:
            op = r.choice(UNARY)
            attrs = {"alpha": float(np.float32(abs(r.normal()) + 0.01))} if op in ("Elu", "LeakyRelu", "Celu", "ThresholdedRelu") else {}
            return self.node(op, [x], **attrs)
        if choice <= 6:
            if v.dtype == BOOL:
                return self.node(r.choice(["And", "Or", "Xor"]), [x, second()])
            ops = BINARY if f else ["Add", "Sub", "Mul", "Div", "Min", "Max", "Mod"]
            return self.node(r.choice(ops), [x, second()][:: 1 if r.random() < 0.7 else -1])
        if choice == 7:
            if r.random() < 0.4 and v.dtype != BOOL:
                lo, hi = sorted(self.array((2,), v.dtype).tolist())
                return self.node("Clip", [x, self.constant(np.array(lo, v.dtype)), self.constant(np.array(hi, v.dtype))])
            to = r.choice(np.array([FLOAT, BOOL, *INTS], dtype=object))
            return self.node("Cast", [x], to=int(ONNX(to)))
        if choice == 8 and v.dtype != BOOL:
            c = second()
            if r.random() < 0.4 and v.size:  # a threshold that is among the values
                c = self.constant(np.array(r.choice(v.ravel()), v.dtype))
            (cond,) = self.node(r.choice(COMPARE), [x, c])
            if not self.settle([cond]):
                return []
            if r.random() < 0.5:
                return self.node("Where", [cond, x, other()])
            return self.node("Cast", [cond], to=T.FLOAT)
        if choice == 9 and rank and (f or v.dtype in (np.int64, np.int32)):
            keep = int(r.integers(2))
            if r.random() < 0.25:
                return self.node(r.choice(["ArgMax", "ArgMin"]), [x], axis=axis, keepdims=keep, select_last_index=int(r.integers(2)))
            if not f:
                return self.node(r.choice(["ReduceSum", "ReduceMax", "ReduceMin"]), [x, self.constant(np.array([axis]))], keepdims=keep)
            op = r.choice(REDUCE + ["Softmax", "LogSoftmax", "CumSum"])
            if op.endswith("oftmax"):
                return self.node(op, [x], axis=axis)
            if op == "CumSum":
                return self.node(op, [x, self.constant(np.array(axis))], exclusive=int(r.integers(2)), reverse=int(r.integers(2)))
            return self.node(op, [x, self.constant(np.array([axis]))], keepdims=keep)
        if choice == 10 and f and rank:
            n, m = v.shape[-1], int(r.integers(1, 6))
            scale = self.magnitude()
            w = self.constant((r.normal(size=(n, m)) * scale).astype(FLOAT))
            if rank == 2 and r.random() < 0.5:
                b = self.constant((r.normal(size=m) * scale).astype(FLOAT))
                return self.node("Gemm", [x, w, b], alpha=float(np.float32(r.choice([1, 0.5, 0.1]))))
            return self.node("MatMul", [x, w])
        if choice == 11 and f and rank in (3, 4):
            c, k = v.shape[1], int(r.integers(1, min(v.shape[2:]) + 1))
            kernel, pads = [k] * (rank - 2), [int(r.integers(k))] * (2 * (rank - 2))
            strides = [int(r.integers(1, 3))] * (rank - 2)
            op = r.choice(["Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "BatchNormalization", "InstanceNormalization"])
            if op == "Conv":
                w = self.constant(self.array((int(r.integers(1, 4)), c, *kernel)))
                return self.node(op, [x, w], kernel_shape=kernel, pads=pads, strides=strides)
            if op.endswith("Pool") and not op.startswith("Global"):
                return self.node(op, [x], kernel_shape=kernel, pads=pads, strides=strides)
            if op == "GlobalAveragePool":
                return self.node(op, [x])
            one = lambda: self.constant(r.normal(size=c).astype(FLOAT))
            if op == "BatchNormalization":
                return self.node(op, [x, one(), one(), one(), self.constant((r.random(c) + 0.01).astype(FLOAT))])
            return self.node(op, [x, one(), one()])
        if choice == 12 and f and rank >= 1:
            n = v.shape[-1]
            if r.random() < 0.5:
                return self.node("LayerNormalization", [x, self.constant(r.normal(size=n).astype(FLOAT))], axis=-1)
            s = np.float32(10.0 ** r.uniform(-4, 1))
            z = np.array(r.integers(0, 200), np.uint8)
            q = self.node("QuantizeLinear", [x, self.constant(s), self.constant(z)])
            if not self.settle(q):
                return []
            return self.node("DequantizeLinear", [q[0], self.nodes[-1].input[1], self.nodes[-1].input[2]])
        if choice == 13 and rank:
            kind = r.integers(4)
            if kind == 0:
                return self.node("Gather", [x, self.constant(r.integers(-v.shape[axis], v.shape[axis], size=shape_of(r, 2)))], axis=axis)
            if kind == 1:
                (idx,) = (self.constant(r.integers(0, v.shape[axis], size=v.shape)),)
                return self.node("GatherElements", [x, idx], axis=axis)
            if kind == 2 and f:
                k = self.constant(np.array([int(r.integers(1, v.shape[axis] + 1))]))
                return self.node("TopK", [x, k], 2, axis=axis, largest=int(r.integers(2)))
            start, step = int(r.integers(-5, 5)), int(r.choice([-2, -1, 1, 1, 2]))
            at = [self.constant(np.array([i])) for i in (start, -100 if step < 0 else 100, axis, step)]
            return self.node("Slice", [x, *at])
        if choice == 14:
            kind = r.integers(5)
            if kind == 0 and rank > 1:
                return self.node("Transpose", [x], perm=[int(i) for i in r.permutation(rank)])
            if kind == 1:
                return self.node("Reshape", [x, self.constant(np.array([-1, int(r.choice(divisors(v.size)))]))])
            if kind == 2 and rank:
                y = self.pick(lambda o: o.dtype == v.dtype and o.shape == v.shape)
                return self.node("Concat", [x, y], axis=axis)
            if kind == 3 and rank and f:
                pads = r.integers(0, 2, size=2 * rank)
                mode = r.choice(["constant", "edge", "reflect"])
                return self.node("Pad", [x, self.constant(pads)], mode=mode)
            if rank:
                return self.node("Tile", [x, self.constant(r.integers(1, 3, size=rank))])
        if choice == 15 and v.dtype != BOOL:
            if f:
                return self.node("Pow", [x, self.constant(np.float32(r.choice([2, 3, 0.5, -1, 1.5, 4])))])
            return self.node(r.choice(["Abs", "Sign", "Identity"]), [x])
        return []


def divisors(n):
    return [d for d in range(1, n + 1) if n % d == 0]


def shape_of(r, most):
    return tuple(int(n) for n in r.integers(1, 5, size=r.integers(0, most + 1)))


def shape_for(r, shape):
    """A shape that broadcasts with another."""
    cut = shape[int(r.integers(len(shape) + 1)) :]
    return tuple(n if r.random() < 0.7 else 1 for n in cut)


def run(model, inputs):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def exact(model, inputs):
    """The outputs in double precision, or None where the reference evaluator does not run the graph."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    as_double = lambda a: a.astype(np.float64) if a.dtype == FLOAT else a
    for i in wide.graph.initializer:
        if i.data_type == T.FLOAT:
            i.CopyFrom(numpy_helper.from_array(as_double(numpy_helper.to_array(i)), i.name))
    for i in wide.graph.input:
        if i.type.tensor_type.elem_type == T.FLOAT:
            i.type.tensor_type.elem_type = T.DOUBLE
    for a in (a for n in wide.graph.node if n.op_type == "Cast" for a in n.attribute if a.name == "to" and a.i == T.FLOAT):
        a.i = T.DOUBLE
    try:
        with np.errstate(all="ignore"):
            return ReferenceEvaluator(wide).run(None, {k: as_double(v) for k, v in inputs.items()})
    except Exception:
        return None


def generate(seed, number):
    """A graph, its inputs and ONNX Runtime's outputs."""
    rng = np.random.default_rng([seed, number])
    g = Graph(rng)
    for i in range(1 if rng.random() < 0.7 else 2):
        dtype = FLOAT if rng.random() < 0.75 else rng.choice(np.array([BOOL, *INTS], dtype=object))
        a = g.array(shape_of(rng, 4), dtype)
        g.inputs[f"x{i}"] = g.values[f"x{i}"] = np.asarray(a)
    wanted, tries = int(rng.integers(1, 8)), 0
    while len(g.nodes) < wanted and tries < 60:
        tries += 1
        before = len(g.nodes)
        names = g.step()
        if names and not g.settle(names):
            del g.nodes[before:]
    # Results that nothing reads are the outputs.
    read = {i for n in g.nodes for i in n.input}
    outputs = [o for n in g.nodes for o in n.output if o in g.values and o not in read]
    if not outputs:
        return None
    model = g.model(outputs)
    return model, g.inputs, run(model, g.inputs), outputs


def as_declared(wide, narrow):
    """A result in double precision with the kind of numbers that the model declares."""
    return np.asarray(wide).astype(narrow.dtype if narrow.dtype.kind in "biu" else np.float64)


def listed(v):
    return v.tolist()


def compare(expected, found):
    """What is wrong, or None."""
    for e, f in zip(expected, found, strict=True):
        if e.size != len(f):
            return f"{len(f)} elements instead of {e.size}"
        if e.dtype.kind in "biu":
            e = [int(v) for v in e.ravel()]
            f = [int(v.split(".")[0]) for v in f]
            if e != f:
                i = next(i for i in range(len(e)) if e[i] != f[i])
                return f"element {i} is {f[i]} instead of {e[i]}"
            continue
        e, f = e.ravel().astype(float), np.array([float(v) for v in f])
        largest, error = np.abs(e).max(), np.abs(e - f).max()
        # Where zero is the answer, no scale makes a difference small beside it.
        if not error <= (TOLERANCE * largest or ZERO):
            return f"off by {error:.3g}, the largest value is {largest:.3g}"
    return None


def reason(text):
    """A refusal without its numbers and names."""
    line = text.strip().splitlines()[-1] if text.strip() else "nothing said"
    line = re.sub(r"^.*?(?:\.onnx|\.json): ", "", line.removeprefix("error: "))
    return re.sub(r"`[^`]*`|[-+]?\d[\d.e+-]*|\[[^\]]*\]", "…", line)[:110]


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--count", type=int, default=500)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--only", type=int, help="one graph, by its number")
    p.add_argument("--binary", default="parhelion")
    p.add_argument("--keep", help="folder for the graphs that differ")
    args = p.parse_args()
    counts, refusals, silent = collections.Counter(), collections.Counter(), []
    print(f"seed {args.seed}, {args.count} graphs, onnxruntime {ort.__version__}")
    numbers = range(args.count) if args.only is None else [args.only]
    with tempfile.TemporaryDirectory() as scratch:
        model_at, input_at, out_at = (os.path.join(scratch, n) for n in ("m.onnx", "in.json", "w.json"))
        for number in numbers:
            made = generate(args.seed, number)
            if made is None:
                counts["no graph"] += 1
                continue
            model, inputs, expected, _ = made
            onnx.save(model, model_at)
            with open(input_at, "w") as f:
                json.dump({"input_data": {n: listed(v) for n, v in inputs.items()}}, f)
            ops = "→".join(n.op_type for n in model.graph.node)

            def command(*words):
                words = [args.binary, "--quiet", "--no-cache", *words, model_at, "--input", input_at]
                try:
                    return subprocess.run(words, capture_output=True, text=True, timeout=120)
                except subprocess.TimeoutExpired:
                    return subprocess.CompletedProcess(words, 124, "", "error: no answer within 120 s")

            said = command("witness", "--out", out_at)
            if said.returncode not in (0, 1, 124):
                counts["crashed"] += 1
                silent.append(number)
                print(f"{number}: exit code {said.returncode}: {ops}: {said.stderr[-200:]}")
                continue
            if said.returncode != 0:
                counts["refused"] += 1
                refusals[reason(said.stderr)] += 1
                if args.only is not None:
                    print(said.stderr)
                continue
            with open(out_at) as f:
                found = json.load(f)["output_values"]
            wrong = compare(expected, found)
            if wrong is None:
                counts["right"] += 1
                continue
            wide = exact(model, inputs)
            if wide is not None and compare([as_declared(w, e) for w, e in zip(wide, expected)], found) is None:
                counts["right in double precision"] += 1
                print(f"{number}: ONNX Runtime's own roundings decide: {wrong}: {ops}", flush=True)
                continue
            proof = command("prove")
            told = proof.returncode != 0
            counts["refused by prove" if told else "silent"] += 1
            if told:
                refusals["prove: " + reason(proof.stderr)] += 1
            else:
                silent.append(number)
            print(f"{number}: {wrong}{', refused by prove' if told else ''}: {ops}", flush=True)
            if args.keep:
                folder = os.path.join(args.keep, f"{args.seed}-{number}")
                os.makedirs(folder, exist_ok=True)
                onnx.save(model, os.path.join(folder, "network.onnx"))
                with open(input_at) as i, open(os.path.join(folder, "input.json"), "w") as o:
                    o.write(i.read())
                with open(os.path.join(folder, "expected.json"), "w") as o:
                    json.dump({"by": "onnxruntime", "output_data": [listed(v.ravel()) for v in expected]}, o)
    print(", ".join(f"{n} {what}" for what, n in counts.most_common()))
    for why, n in refusals.most_common():
        print(f"  {n:4} {why}")
    if silent:
        print(f"silent differences or crashes: {silent}")
    return 1 if silent else 0


if __name__ == "__main__":
    sys.exit(main())
