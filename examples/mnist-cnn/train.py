"""Trains the MNIST example: a LeNet-like network of about 20,000 parameters, written with numpy alone and exported to ONNX.

    pip install numpy onnx
    python examples/mnist-cnn/train.py --images t10k-images-idx3-ubyte.gz --labels t10k-labels-idx1-ubyte.gz

The two files are MNIST's 10,000-image file and its labels (IDX, gzip). Images 0 to 6,999 are trained on, 7,000 to 8,999 are never seen
and give the printed accuracy; the rest is not touched. Same seed, same machine, same model.
"""

import argparse
import gzip
import json
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TRAIN = slice(0, 7000)
HELD_OUT = slice(7000, 9000)


def read_idx(path):
    """An IDX file of bytes, gzip or plain, as an array."""
    raw = pathlib.Path(path).read_bytes()
    if raw[:2] == b"\x1f\x8b":
        raw = gzip.decompress(raw)
    rank = raw[3]
    shape = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(rank)]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def patches(x, k):
    """[n, c, h, w] to [n, h', w', c·k·k]: one row per window."""
    view = np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(2, 3))
    n, c, h, w = view.shape[:4]
    return np.ascontiguousarray(view.transpose(0, 2, 3, 1, 4, 5)).reshape(n, h, w, c * k * k)


def conv(x, w, b):
    """Valid cross-correlation; also the windows, for the gradient."""
    cols = patches(x, w.shape[2])
    y = cols @ w.reshape(w.shape[0], -1).T + b
    return np.ascontiguousarray(y.transpose(0, 3, 1, 2)), cols


def conv_grad(dy, cols, x_shape, w, need_dx):
    """Gradients of `conv` for its weights, bias and (on demand) input."""
    o, c, k, _ = w.shape
    flat = dy.transpose(0, 2, 3, 1).reshape(-1, o)
    dw = (flat.T @ cols.reshape(-1, c * k * k)).reshape(w.shape)
    db = flat.sum(0)
    if not need_dx:
        return dw, db, None
    dcols = (flat @ w.reshape(o, -1)).reshape(dy.shape[0], dy.shape[2], dy.shape[3], c, k, k)
    dx = np.zeros(x_shape, np.float32)
    for i in range(k):
        for j in range(k):
            dx[:, :, i : i + dy.shape[2], j : j + dy.shape[3]] += dcols[..., i, j].transpose(0, 3, 1, 2)
    return dw, db, dx


def blocks(x):
    """[n, c, 2h, 2w] to [n, c, h, w, 4]."""
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, h // 2, w // 2, 4)


def unblocks(x):
    """The inverse of `blocks`."""
    n, c, h, w, _ = x.shape
    return x.reshape(n, c, h, w, 2, 2).transpose(0, 1, 2, 4, 3, 5).reshape(n, c, 2 * h, 2 * w)


def forward(p, x):
    """Logits, and everything that the backward pass needs."""
    a1, cols1 = conv(x, p["conv1.weight"], p["conv1.bias"])
    r1 = np.maximum(a1, 0)
    b1 = blocks(r1)
    m1 = b1.max(-1)
    a2, cols2 = conv(m1, p["conv2.weight"], p["conv2.bias"])
    r2 = np.maximum(a2, 0)
    f = blocks(r2).mean(-1).reshape(len(x), -1)
    a3 = f @ p["fc1.weight"].T + p["fc1.bias"]
    r3 = np.maximum(a3, 0)
    logits = r3 @ p["fc2.weight"].T + p["fc2.bias"]
    return logits, (a1, cols1, b1, m1, a2, cols2, f, a3, r3)


def backward(p, x, saved, dlogits):
    """Gradients of every parameter."""
    a1, cols1, b1, m1, a2, cols2, f, a3, r3 = saved
    g = {"fc2.weight": dlogits.T @ r3, "fc2.bias": dlogits.sum(0)}
    d3 = (dlogits @ p["fc2.weight"]) * (a3 > 0)
    g["fc1.weight"], g["fc1.bias"] = d3.T @ f, d3.sum(0)
    df = (d3 @ p["fc1.weight"]).reshape(len(x), 16, 4, 4, 1)
    d2 = unblocks(np.repeat(df / 4, 4, -1)) * (a2 > 0)
    g["conv2.weight"], g["conv2.bias"], dm1 = conv_grad(d2, cols2, m1.shape, p["conv2.weight"], True)
    hot = np.zeros_like(b1)
    np.put_along_axis(hot, b1.argmax(-1)[..., None], dm1[..., None], -1)
    d1 = unblocks(hot) * (a1 > 0)
    g["conv1.weight"], g["conv1.bias"], _ = conv_grad(d1, cols1, x.shape, p["conv1.weight"], False)
    return g


def shifted(x, rng):
    """Every image moved by up to two pixels each way."""
    padded = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)))
    dy, dx = rng.integers(0, 5, (2, len(x)))
    return np.stack([padded[i, :, dy[i] : dy[i] + 28, dx[i] : dx[i] + 28] for i in range(len(x))])


def train(x, y, epochs, seed):
    """Adam with a cosine rate and label-preserving shifts."""
    rng = np.random.default_rng(seed)

    def init(*shape):
        return (rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)

    p = {
        "conv1.weight": init(6, 1, 5, 5),
        "conv1.bias": np.zeros(6, np.float32),
        "conv2.weight": init(16, 6, 5, 5),
        "conv2.bias": np.zeros(16, np.float32),
        "fc1.weight": init(64, 256),
        "fc1.bias": np.zeros(64, np.float32),
        "fc2.weight": init(10, 64),
        "fc2.bias": np.zeros(10, np.float32),
    }
    m = {k: np.zeros_like(v) for k, v in p.items()}
    v = {k: np.zeros_like(w) for k, w in p.items()}
    batch, step = 64, 0
    steps = epochs * (len(x) // batch)
    for epoch in range(epochs):
        order = rng.permutation(len(x))
        loss = 0.0
        for start in range(0, len(x) - batch + 1, batch):
            ids = order[start : start + batch]
            xb, yb = shifted(x[ids], rng), y[ids]
            logits, saved = forward(p, xb)
            e = np.exp(logits - logits.max(1, keepdims=True))
            prob = e / e.sum(1, keepdims=True)
            loss -= np.log(prob[np.arange(batch), yb] + 1e-9).mean()
            prob[np.arange(batch), yb] -= 1
            grads = backward(p, xb, saved, prob / batch)
            step += 1
            rate = 2e-3 * 0.5 * (1 + np.cos(np.pi * step / steps))
            for name, grad in grads.items():
                m[name] += 0.1 * (grad - m[name])
                v[name] += 0.001 * (grad**2 - v[name])
                mh, vh = m[name] / (1 - 0.9**step), v[name] / (1 - 0.999**step)
                p[name] -= (rate * (mh / (np.sqrt(vh) + 1e-8) + 1e-4 * p[name])).astype(np.float32)
        print(f"epoch {epoch + 1}: loss {loss / (len(x) // batch):.4f}", flush=True)
    return p


def export(p, path):
    """The network as ONNX, batch size 1."""
    # Some readers want the defaults spelt out.
    plain = {"kernel_shape": [5, 5], "strides": [1, 1], "pads": [0, 0, 0, 0], "dilations": [1, 1], "group": 1}
    pool = {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [0, 0, 0, 0]}
    nodes = [
        helper.make_node("Conv", ["image", "conv1.weight", "conv1.bias"], ["conv1"], "conv1", **plain),
        helper.make_node("Relu", ["conv1"], ["relu1"], "relu1"),
        helper.make_node("MaxPool", ["relu1"], ["pool1"], "pool1", **pool),
        helper.make_node("Conv", ["pool1", "conv2.weight", "conv2.bias"], ["conv2"], "conv2", **plain),
        helper.make_node("Relu", ["conv2"], ["relu2"], "relu2"),
        helper.make_node("AveragePool", ["relu2"], ["pool2"], "pool2", **pool),
        helper.make_node("Flatten", ["pool2"], ["flat"], "flatten", axis=1),
        helper.make_node("Gemm", ["flat", "fc1.weight", "fc1.bias"], ["fc1"], "fc1", transB=1),
        helper.make_node("Relu", ["fc1"], ["relu3"], "relu3"),
        helper.make_node("Gemm", ["relu3", "fc2.weight", "fc2.bias"], ["logits"], "fc2", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "mnist_cnn",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 28, 28])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 10])],
        [numpy_helper.from_array(w, name) for name, w in p.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="parhelion-examples")
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, path)


def main():
    here = pathlib.Path(__file__).parent
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--images", required=True)
    args.add_argument("--labels", required=True)
    args.add_argument("--epochs", type=int, default=20)
    args.add_argument("--seed", type=int, default=1)
    args = args.parse_args()
    x = (read_idx(args.images).astype(np.float32) / 255)[:, None]
    y = read_idx(args.labels).astype(np.int64)
    p = train(x[TRAIN], y[TRAIN], args.epochs, args.seed)
    logits, _ = forward(p, x[HELD_OUT])
    print(f"parameters: {sum(w.size for w in p.values())}")
    print(f"top-1 on images {HELD_OUT.start} to {HELD_OUT.stop - 1}: {(logits.argmax(1) == y[HELD_OUT]).mean():.4f}")
    export(p, here / "model.onnx")
    first = x[HELD_OUT.start].reshape(-1)
    (here / "input.json").write_text(json.dumps({"input_data": [[round(float(v), 6) for v in first]]}) + "\n")


if __name__ == "__main__":
    main()
