"""Trains the digits example: a perceptron 64–32–10 on scikit-learn's 8×8 digits, exported to ONNX.

    pip install numpy onnx scikit-learn
    python examples/digits-mlp/train.py

Of the 1,797 images a shuffled 797 are trained on; the other 1,000 are never seen, give the printed accuracy and are written as
`held-out-images.idx.gz` and `held-out-labels.idx.gz`, the format that `parhelion accuracy` reads.
"""

import gzip
import json
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier


def write_idx(path, array):
    """An array of bytes as a gzipped IDX file."""
    head = bytes([0, 0, 8, array.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    path.write_bytes(gzip.compress(head + array.astype(np.uint8).tobytes(), mtime=0))


def main():
    here = pathlib.Path(__file__).parent
    digits = load_digits()
    order = np.random.default_rng(1).permutation(len(digits.target))
    seen, unseen = order[:797], order[797:]
    x = digits.data.astype(np.float32) / 16
    net = MLPClassifier((32,), alpha=1e-2, max_iter=3000, random_state=1).fit(x[seen], digits.target[seen])
    print(f"top-1 on {len(unseen)} unseen images: {net.score(x[unseen], digits.target[unseen]):.4f}")

    weights = {}
    for i, (w, b) in enumerate(zip(net.coefs_, net.intercepts_), 1):
        weights[f"fc{i}.weight"] = np.ascontiguousarray(w.T, dtype=np.float32)
        weights[f"fc{i}.bias"] = b.astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["image", "fc1.weight", "fc1.bias"], ["fc1"], "fc1", transB=1),
            helper.make_node("Relu", ["fc1"], ["relu1"], "relu1"),
            helper.make_node("Gemm", ["relu1", "fc2.weight", "fc2.bias"], ["logits"], "fc2", transB=1),
        ],
        "digits_mlp",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 64])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 10])],
        [numpy_helper.from_array(w, name) for name, w in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="parhelion-examples")
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, here / "model.onnx")

    first = [round(float(v), 6) for v in x[unseen[0]]]
    (here / "input.json").write_text(json.dumps({"input_data": [first]}) + "\n")
    write_idx(here / "held-out-images.idx.gz", digits.images[unseen])
    write_idx(here / "held-out-labels.idx.gz", digits.target[unseen])


if __name__ == "__main__":
    main()
