"""Writes random models of `ai.onnx.ml`'s operators, with ONNX Runtime's results, as one JSON object per line.

Usage: python front_ml.py OUT.jsonl [SEED [CASES_PER_KIND]]
Needs onnx, onnxruntime and numpy. `data/ml.jsonl` is the output for seed 1 and 1 case of each kind; a larger file is tested with
PARHELION_ML=OUT.jsonl cargo test --release -p parhelion-zkml --test front_ml -- --nocapture
"""

import json
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

CODES = {np.dtype("float32"): TensorProto.FLOAT, np.dtype("int64"): TensorProto.INT64}
FEATURES = 3


def numbers(rng, *shape):
    # On a grid that no threshold is on.
    return (rng.integers(-128, 129, shape) / 64).astype(np.float32)


def weights(rng, n):
    return (rng.integers(-64, 65, n) / 64 + 1 / 256).astype(float).tolist()


def forest(rng, prefix, columns, positive, modes=("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")):
    names = ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")
    a = {f"nodes_{k}": [] for k in names}
    leaf = {f"{prefix}_{k}": [] for k in ("treeids", "nodeids", "ids", "weights")}

    def node(tree, ids, depth):
        own = next(ids)
        at = len(a["nodes_nodeids"])
        inner = depth < 3 and rng.random() < 0.8
        # One mode per tree: ONNX Runtime has mixed ones only in few versions.
        row = (tree, own, int(rng.integers(FEATURES)) if inner else 0, float(rng.integers(-64, 64) / 64 + 1 / 128) if inner else 0.0, mode if inner else "LEAF", 0, 0)
        for k, v in zip(names, row):
            a[f"nodes_{k}"].append(v)
        if inner:
            a["nodes_truenodeids"][at] = node(tree, ids, depth + 1)
            a["nodes_falsenodeids"][at] = node(tree, ids, depth + 1)
        else:
            for c in columns:
                w = weights(rng, 1)[0]
                for k, v in zip(("treeids", "nodeids", "ids", "weights"), (tree, own, c, abs(w) if positive else w)):
                    leaf[f"{prefix}_{k}"].append(v)
        return own

    mode = str(rng.choice(modes))
    for tree in range(2 if len(columns) > 1 else 3):
        node(tree, iter(range(100)), 0 if tree else -1)
    return a | leaf


def classifier(columns, labels, positive, transform):
    def make(rng):
        a = forest(rng, "class", columns, positive)
        return a | {"classlabels_int64s": labels, "post_transform": transform}

    return make


KINDS = {
    "Scaler": (("float32",), lambda rng: {"offset": weights(rng, FEATURES), "scale": weights(rng, FEATURES)}),
    "Scaler-one": (("float32",), lambda rng: {"offset": weights(rng, 1), "scale": weights(rng, 1)}),
    "Binarizer": (("float32",), lambda rng: {"threshold": 0.25}),
    "Normalizer-L1": (("float32",), lambda rng: {"norm": "L1"}),
    "Normalizer-L2": (("float32",), lambda rng: {"norm": "L2"}),
    "Imputer": (("float32",), lambda rng: {"replaced_value_float": 1.0, "imputed_value_floats": weights(rng, FEATURES)}),
    "FeatureVectorizer": (("float32", "float32"), lambda rng: {"inputdimensions": [FEATURES, FEATURES]}),
    "ArrayFeatureExtractor": (("float32", "index"), lambda rng: {}),
    "LabelEncoder": (("int64",), lambda rng: {"keys_int64s": [0, 1, 2], "values_floats": weights(rng, 3), "default_float": 9.0}),
    "LabelEncoder-ints": (("int64",), lambda rng: {"keys_int64s": [0, 3, 5], "values_int64s": [7, -2, 4], "default_int64": 1}),
    "OneHotEncoder": (("int64",), lambda rng: {"cats_int64s": [0, 2, 5]}),
    "LinearRegressor": (("float32",), lambda rng: {"coefficients": weights(rng, 2 * FEATURES), "intercepts": weights(rng, 2), "targets": 2}),
    "LinearClassifier": (("float32",), lambda rng: {"coefficients": weights(rng, 3 * FEATURES), "intercepts": weights(rng, 3), "classlabels_ints": [4, 1, 2], "post_transform": "SOFTMAX"}),
    "LinearClassifier-one": (("float32",), lambda rng: {"coefficients": weights(rng, FEATURES), "intercepts": weights(rng, 1), "classlabels_ints": [0, 1], "post_transform": "LOGISTIC"}),
    "SVMRegressor-rbf": (("float32",), lambda rng: {"coefficients": weights(rng, 4), "support_vectors": weights(rng, 4 * FEATURES), "n_supports": 4, "rho": [0.25], "kernel_type": "RBF", "kernel_params": [0.3, 0.0, 3.0]}),
    "SVMRegressor-poly": (("float32",), lambda rng: {"coefficients": weights(rng, 4), "support_vectors": weights(rng, 4 * FEATURES), "n_supports": 4, "rho": [0.25], "kernel_type": "POLY", "kernel_params": [0.3, 0.5, 2.0]}),
    "SVMRegressor-linear": (("float32",), lambda rng: {"coefficients": weights(rng, FEATURES), "n_supports": 0, "rho": [0.25], "kernel_type": "LINEAR", "kernel_params": [0.3, 0.0, 3.0]}),
    "SVMClassifier": (("float32",), lambda rng: {"coefficients": weights(rng, 4), "support_vectors": weights(rng, 4 * FEATURES), "vectors_per_class": [2, 2], "classlabels_ints": [3, 5], "rho": [0.05], "kernel_type": "RBF", "kernel_params": [0.3, 0.0, 3.0]}),
    "TreeEnsembleRegressor": (("float32",), lambda rng: forest(rng, "target", (0, 1), False) | {"n_targets": 2, "base_values": weights(rng, 2)}),
    "TreeEnsembleRegressor-average": (("float32",), lambda rng: forest(rng, "target", (0,), False) | {"n_targets": 1, "aggregate_function": "AVERAGE"}),
    "TreeEnsembleClassifier-three": (("float32",), classifier((0, 1, 2), [5, 7, 1], False, "SOFTMAX")),
    "TreeEnsembleClassifier-one": (("float32",), classifier((0,), [0, 1], False, "LOGISTIC")),
    "TreeEnsembleClassifier-one-plain": (("float32",), classifier((0,), [3, 4], False, "NONE")),
    "TreeEnsembleClassifier-one-positive": (("float32",), classifier((0,), [0, 1], True, "NONE")),
    "TreeEnsembleClassifier-one-positive-logistic": (("float32",), classifier((0,), [0, 1], True, "LOGISTIC")),
}


def data(t):
    return {"shape": list(t.shape), "dtype": str(t.dtype), "data": t.ravel().tolist()}


def case(rng, kind, number):
    kinds, make = KINDS[kind]
    op = kind.split("-")[0]
    inputs, infos = {}, []
    for i, k in enumerate(kinds):
        if k == "index":
            t = np.array([2, 0], dtype=np.int64)
        elif k == "int64":
            t = rng.integers(0, 6, (4, FEATURES) if op == "LabelEncoder" else (4,)).astype(np.int64)
        else:
            t = numbers(rng, 3, FEATURES)
        inputs[f"x{i}"] = t
        infos.append(helper.make_tensor_value_info(f"x{i}", CODES[t.dtype], t.shape))
    outputs = ["label", "scores"] if "Classifier" in op else ["y"]
    node = helper.make_node(op, list(inputs), outputs, domain="ai.onnx.ml", **make(rng))
    declared = [onnx.ValueInfoProto(name=o) for o in outputs]
    graph = helper.make_graph([node], kind, infos, declared)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    results = session.run(None, inputs)
    return {"name": f"{kind}-{number}", "model": model.SerializeToString().hex(), "inputs": [data(t) for t in inputs.values()], "outputs": [data(t) for t in results]}


def main():
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    per_kind = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    rng = np.random.default_rng(seed)
    with open(sys.argv[1], "w") as out:
        for kind in KINDS:
            for number in range(per_kind):
                out.write(json.dumps(case(rng, kind, number)) + "\n")


if __name__ == "__main__":
    main()
