"""Exports small models with random weights the way their users do, for `model-suite`.

Usage: export-torch-models.py OUT [--missing] [FILTER ...]

With filters, models whose name contains one of them; with --missing, those that are not there yet.

Each model becomes one folder per exporter (torch's TorchScript and dynamo exporters at several operator sets, ONNX Runtime's optimiser and
quantisers, skl2onnx, onnxmltools) with network.onnx, input.json and reference.json, the outputs of ONNX Runtime in floats:

    OUT/NAME-EXPORTER/{network.onnx, input.json, reference.json}

Needs torch, onnx, onnxruntime and onnxscript; transformers, and scikit-learn with skl2onnx, lightgbm, xgboost and onnxmltools, each add
their models where they are installed. Nothing is downloaded. Then: model-suite OUT
"""

import importlib
import json
import shutil
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

warnings.filterwarnings("ignore")
MISSING = "--missing" in sys.argv
OUT, *FILTERS = [a for a in sys.argv[1:] if a != "--missing"]
OUT = Path(OUT)
FAILED = []


def wanted(name):
    if MISSING and (OUT / name / "reference.json").exists():
        return False
    return not FILTERS or any(f in name for f in FILTERS)


def plain(x):
    """A JSON list; floats as short as single precision needs."""
    x = np.asarray(x)
    if x.dtype.kind == "f":
        return [float(f"{v:.9g}") for v in x.astype(np.float64).ravel()]
    return x.ravel().tolist()


def finish(folder, inputs):
    """Writes the input and ONNX Runtime's outputs beside a model; `inputs` by position or by name."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(folder / "network.onnx"), options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    if not isinstance(inputs, dict):
        inputs = dict(zip(names, inputs))
    feed = {n: np.asarray(inputs[n]) for n in names}
    results = session.run(None, feed)
    outputs = []
    for r in results:
        if isinstance(r, list):  # A sequence of maps from classes to probabilities.
            r = np.array([[m[k] for k in sorted(m)] for m in r])
        outputs.append({"shape": list(np.shape(r)), "data": plain(r)})
    (folder / "input.json").write_text(json.dumps({"input_data": [feed[n].tolist() for n in names]}))
    (folder / "reference.json").write_text(json.dumps({"outputs": outputs}))


def write(name, make, inputs):
    """`make(path)` writes the model; what fails here is no result of Parhelion's and is only listed."""
    if not wanted(name):
        return
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        make(folder / "network.onnx")
        finish(folder, inputs)
        print("ok  ", name, flush=True)
    except Exception as e:
        FAILED.append(name)
        shutil.rmtree(folder, ignore_errors=True)
        print("FAIL", name, type(e).__name__, str(e).strip().split("\n")[0][:200], flush=True)
        if FILTERS:
            traceback.print_exc()


def numpy_inputs(inputs):
    return [x.detach().to(torch.float32).numpy() if x.dtype == torch.bfloat16 else x.detach().numpy() for x in inputs]


def export(name, model, inputs, ways=("ts17", "dynamo"), dynamic=None, optimized=False):
    """One folder per way: `tsN` (TorchScript exporter, operator set N), `dynamo`, `dynamoN`."""
    model.eval()
    inputs = tuple(inputs)
    for way in ways:
        if not wanted(f"{name}-{way}"):
            continue

        def make(path, way=way):
            args = {}
            if way.startswith("ts"):
                args = {"dynamo": False, "opset_version": int(way[2:])}
                if dynamic:
                    names = [f"x{i}" for i in range(len(inputs))]
                    args["input_names"] = names
                    args["dynamic_axes"] = {n: {a: f"d{a}" for a in axes} for n, axes in zip(names, dynamic)}
            else:
                args = {"dynamo": True, "verbose": False}
                if way != "dynamo":
                    args["opset_version"] = int(way[6:])
                if dynamic:
                    args["dynamic_shapes"] = tuple({a: torch.export.Dim.DYNAMIC for a in axes} for axes in dynamic)
            with torch.no_grad():
                torch.onnx.export(model, inputs, str(path), **args)

        write(f"{name}-{way}", make, numpy_inputs(inputs))
    if optimized and wanted(f"{name}-ort"):

        def optimize(path):
            with tempfile.TemporaryDirectory() as tmp, torch.no_grad():
                first = str(Path(tmp) / "m.onnx")
                torch.onnx.export(model, inputs, first, dynamo=False, opset_version=17)
                options = ort.SessionOptions()
                options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
                options.optimized_model_filepath = str(path)
                ort.InferenceSession(first, options, providers=["CPUExecutionProvider"])

        write(f"{name}-ort", optimize, numpy_inputs(inputs))


try:
    import torch
    import torch.nn.functional as F
    from torch import nn
except ImportError:
    torch = None


def Fn(forward, **parts):
    """A module from a function and its submodules."""

    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            for k, v in parts.items():
                if isinstance(v, torch.Tensor) and not isinstance(v, nn.Parameter):
                    self.register_buffer(k, v)
                else:
                    setattr(self, k, v)

        def forward(self, *args):
            return forward(self, *args)

    return Module()


def settle(model, *inputs):
    """Statistics of batch normalisation as after some training."""
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(*[torch.randn(4, *x.shape[1:]) for x in inputs])
    return model.eval()


def dense():
    x = torch.randn(1, 12)
    mlp = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.BatchNorm1d(24), nn.Linear(24, 16), nn.Tanh(), nn.Dropout(), nn.Linear(16, 4), nn.Softmax(-1))
    export("mlp", settle(mlp, x), [x], ("ts11", "ts13", "ts17", "ts20", "dynamo", "dynamo23"), optimized=True)
    export("mlp-dynamic", mlp, [torch.randn(3, 12)], dynamic=[(0,)])
    half = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4))
    export("mlp-fp16", half.half(), [x.half()])
    bf = Fn(lambda m, x: m.net(x.bfloat16()).float(), net=nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4)).bfloat16())
    export("mlp-bf16", bf, [x])
    for f in ("GELU", "SiLU", "Mish", "ELU", "Softplus", "Hardswish", "Hardsigmoid", "LeakyReLU", "PReLU", "SELU", "CELU", "Softsign", "Tanhshrink",
              "LogSigmoid", "ReLU6", "Hardtanh", "Softshrink", "Hardshrink", "Threshold", "GLU", "LogSoftmax", "Softmin"):
        args = {"Threshold": (0.1, 0.5), "LogSoftmax": (-1,), "Softmin": (-1,)}.get(f, ())
        wide = nn.Linear(12, 8)
        export(f"act-{f.lower()}", nn.Sequential(wide, getattr(nn, f)(*args), nn.Linear(4 if f == "GLU" else 8, 3)), [x], ("ts17", "dynamo") if f in ("GELU", "Mish", "GLU", "LogSigmoid", "Softshrink") else ("dynamo",))
    export("act-gelutanh", nn.Sequential(nn.Linear(12, 8), nn.GELU("tanh"), nn.Linear(8, 3)), [x], ("ts17", "ts20", "dynamo"))
    auto = nn.Sequential(nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 2), nn.ReLU(), nn.Linear(2, 6), nn.ReLU(), nn.Linear(6, 12), nn.Sigmoid())
    export("autoencoder", Fn(lambda m, x: (m.net(x) - x).pow(2).mean(-1), net=auto), [x])


def vision():
    x = torch.randn(1, 3, 12, 12)
    cnn = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, dilation=2, padding=2, groups=2), nn.ReLU6(),
                        nn.AvgPool2d(2, ceil_mode=True), nn.Flatten(), nn.Linear(72, 10))
    export("cnn", settle(cnn, x), [x], ("ts11", "ts17", "dynamo", "dynamo20"), optimized=True)
    export("cnn-dynamic", cnn, [torch.randn(1, 3, 12, 12)], dynamic=[(0,)])

    def block(m, x):
        return F.relu(m.b2(m.c2(F.relu(m.b1(m.c1(x))))) + m.bd(m.cd(x)))

    resnet = Fn(lambda m, x: m.fc(torch.flatten(m.pool(m.block(m.stem(x))), 1)), stem=nn.Sequential(nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1)),
                block=Fn(block, c1=nn.Conv2d(8, 12, 3, 2, 1, bias=False), b1=nn.BatchNorm2d(12), c2=nn.Conv2d(12, 12, 3, 1, 1, bias=False), b2=nn.BatchNorm2d(12),
                         cd=nn.Conv2d(8, 12, 1, 2, bias=False), bd=nn.BatchNorm2d(12)), pool=nn.AdaptiveAvgPool2d(1), fc=nn.Linear(12, 5))
    y = torch.randn(1, 3, 16, 16)
    export("resnet", settle(resnet, y), [y], optimized=True)

    def inverted(m, x):
        h = m.act(m.b1(m.expand(x)))
        h = m.act(m.b2(m.depth(h)))
        h = h * F.hardsigmoid(m.up(F.relu(m.down(F.adaptive_avg_pool2d(h, 1)))))
        return x + m.b3(m.project(h))

    mobile = Fn(inverted, expand=nn.Conv2d(3, 12, 1, bias=False), b1=nn.BatchNorm2d(12), depth=nn.Conv2d(12, 12, 3, 1, 1, groups=12, bias=False), b2=nn.BatchNorm2d(12),
                project=nn.Conv2d(12, 3, 1, bias=False), b3=nn.BatchNorm2d(3), down=nn.Conv2d(12, 4, 1), up=nn.Conv2d(4, 12, 1), act=nn.Hardswish())
    export("mobilenet", settle(mobile, y), [y])

    def unet(m, x):
        a = F.relu(m.a(x))
        b = F.relu(m.b(F.max_pool2d(a, 2)))
        up = F.interpolate(b, scale_factor=2, mode=m.mode, **({} if m.mode == "nearest" else {"align_corners": m.corners}))
        return torch.sigmoid(m.c(torch.cat([a, up], 1)))

    for mode, corners in (("nearest", False), ("bilinear", False), ("bilinear", True)):
        u = Fn(unet, a=nn.Conv2d(3, 4, 3, padding=1), b=nn.Conv2d(4, 6, 3, padding=1), c=nn.Conv2d(10, 1, 1))
        u.mode, u.corners = mode, corners
        export(f"unet-{mode}{'-corners' if corners else ''}", u, [torch.randn(1, 3, 8, 8)], ("ts11", "ts17", "dynamo"))
    export("convtranspose", nn.Sequential(nn.Linear(4, 32), nn.Unflatten(1, (8, 2, 2)), nn.ConvTranspose2d(8, 4, 3, 2, 1, 1), nn.ReLU(), nn.ConvTranspose2d(4, 1, 4, 2, 1), nn.Tanh()), [torch.randn(1, 4)])
    vae = Fn(lambda m, x, e: (lambda h: m.dec(m.mu(h) + torch.exp(0.5 * m.lv(h)) * e))(F.relu(m.enc(x))), enc=nn.Linear(16, 12), mu=nn.Linear(12, 3), lv=nn.Linear(12, 3),
             dec=nn.Sequential(nn.Linear(3, 12), nn.ReLU(), nn.Linear(12, 16), nn.Sigmoid()))
    export("vae", vae, [torch.randn(1, 16), torch.randn(1, 3)])
    export("conv1d-tcn", Fn(lambda m, x: m.c2(F.relu(F.pad(m.c1(F.pad(x, (2, 0))), (4, 0)))), c1=nn.Conv1d(2, 4, 3), c2=nn.Conv1d(4, 2, 3, dilation=2)), [torch.randn(1, 2, 10)])
    export("weightnorm-conv1d", nn.utils.parametrizations.weight_norm(nn.Conv1d(2, 4, 3)), [torch.randn(1, 2, 10)])
    export("conv3d", nn.Sequential(nn.Conv3d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool3d(2), nn.Flatten(), nn.Linear(24, 2)), [torch.randn(1, 1, 4, 4, 4)])
    export("pixelshuffle", nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.PixelShuffle(2), nn.PixelUnshuffle(2), nn.ChannelShuffle(2)), [torch.randn(1, 1, 4, 4)])
    export("norms", nn.Sequential(nn.Conv2d(3, 8, 1), nn.GroupNorm(4, 8), nn.InstanceNorm2d(8, affine=True), nn.LayerNorm([8, 6, 6]), nn.LocalResponseNorm(3)), [torch.randn(1, 3, 6, 6)])
    export("groupnorm", nn.Sequential(nn.Conv2d(3, 8, 1), nn.GroupNorm(4, 8), nn.SiLU()), [torch.randn(1, 3, 6, 6)], ("ts17", "dynamo", "dynamo21"))
    export("adaptivepool", nn.Sequential(nn.AdaptiveAvgPool2d((3, 2)), nn.AdaptiveMaxPool2d(1)), [torch.randn(1, 3, 6, 6)])
    export("reflectpad", nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(3, 4, 3), nn.ReplicationPad2d(1), nn.ZeroPad2d(1)), [torch.randn(1, 3, 6, 6)])
    patch = Fn(lambda m, x: m.head(m.enc(torch.cat([m.cls.expand(x.shape[0], -1, -1), m.patch(x).flatten(2).transpose(1, 2)], 1) + m.pos)[:, 0]), patch=nn.Conv2d(3, 16, 4, 4),
               cls=nn.Parameter(torch.randn(1, 1, 16)), pos=nn.Parameter(torch.randn(1, 10, 16)), head=nn.Linear(16, 5),
               enc=nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, activation="gelu", batch_first=True, norm_first=True), 2))
    export("vit", patch, [x])


def sequences():
    x = torch.randn(1, 5, 6)
    for kind in ("RNN", "LSTM", "GRU"):
        for bi, layers, first in ((False, 1, True), (True, 2, True), (False, 1, False)):
            net = getattr(nn, kind)(6, 4, layers, bidirectional=bi, batch_first=first)
            m = Fn(lambda m, x: m.fc(m.rnn(x)[0][:, -1] if m.rnn.batch_first else m.rnn(x)[0][-1]), rnn=net, fc=nn.Linear(8 if bi else 4, 2))
            tag = ("-bi2" if bi else "") + ("" if first else "-seqfirst")
            export(f"{kind.lower()}{tag}", m, [x if first else x.transpose(0, 1).contiguous()], ("ts17", "dynamo") if first else ("ts13",))
    export("lstm-states", Fn(lambda m, x, h, c: m.rnn(x, (h, c)), rnn=nn.LSTM(6, 4, batch_first=True)), [x, torch.randn(1, 1, 4), torch.randn(1, 1, 4)])
    cell = nn.LSTMCell(6, 4)

    def cells(m, x):
        h = c = torch.zeros(1, 4)
        for t in range(3):
            h, c = m.cell(x[:, t], (h, c))
        return h

    export("lstmcell", Fn(cells, cell=cell), [x])
    y = torch.randn(1, 6, 16)
    export("mha", Fn(lambda m, x: m.a(x, x, x)[0], a=nn.MultiheadAttention(16, 4, batch_first=True)), [y], optimized=True)
    export("mha-weights", Fn(lambda m, x, z: m.a(x, z, z, need_weights=True), a=nn.MultiheadAttention(16, 4, batch_first=True)), [y, torch.randn(1, 3, 16)])
    mask = torch.zeros(1, 6, dtype=torch.bool)
    mask[0, 4:] = True
    export("mha-padding", Fn(lambda m, x, k: m.a(x, x, x, key_padding_mask=k, need_weights=False)[0], a=nn.MultiheadAttention(16, 4, batch_first=True)), [y, mask])
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    export("encoder", nn.TransformerEncoder(layer, 2), [y], ("ts17", "dynamo", "dynamo23"), optimized=True)
    export("encoder-causal", Fn(lambda m, x: m.e(x, mask=m.mask, is_causal=True), e=nn.TransformerEncoder(layer, 1), mask=nn.Transformer.generate_square_subsequent_mask(6)), [y])
    export("decoder", Fn(lambda m, x, z: m.d(x, z), d=nn.TransformerDecoderLayer(16, 4, 32, batch_first=True)), [y, torch.randn(1, 4, 16)])
    export("encoder-dynamic", nn.TransformerEncoder(layer, 1), [y], dynamic=[(1,)])
    sdpa = Fn(lambda m, x: F.scaled_dot_product_attention(*m.p(x).view(1, 6, 3, 4, 4).permute(2, 0, 3, 1, 4).unbind(0), is_causal=True), p=nn.Linear(16, 48))
    export("sdpa-causal", sdpa, [y], ("ts17", "dynamo", "dynamo23"))

    def rms(x, w):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * w

    def rotate(x, cos, sin):
        a, b = x.chunk(2, -1)
        return x * cos + torch.cat((-b, a), -1) * sin

    def llama(m, ids):
        h = m.embed(ids)
        s = ids.shape[1]
        pos = torch.arange(s, dtype=torch.float32)
        freq = torch.outer(pos, m.inv)
        emb = torch.cat((freq, freq), -1)
        n = rms(h, m.n1)
        q = rotate(m.q(n).view(1, s, 4, 4).transpose(1, 2), emb.cos(), emb.sin())
        k = rotate(m.k(n).view(1, s, 2, 4).transpose(1, 2), emb.cos(), emb.sin())
        v = m.v(n).view(1, s, 2, 4).transpose(1, 2)
        k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
        w = q @ k.transpose(-1, -2) / 2
        w = w.masked_fill(torch.triu(torch.ones(s, s, dtype=torch.bool), 1), float("-inf"))
        h = h + m.o((w.softmax(-1) @ v).transpose(1, 2).reshape(1, s, 16))
        n = rms(h, m.n2)
        h = h + m.down(F.silu(m.gate(n)) * m.up(n))
        return m.head(rms(h, m.n3))

    lin = lambda i, o: nn.Linear(i, o, bias=False)
    net = Fn(llama, embed=nn.Embedding(20, 16), inv=torch.tensor([1.0, 0.01]), n1=nn.Parameter(torch.rand(16) + 0.5), n2=nn.Parameter(torch.rand(16) + 0.5), n3=nn.Parameter(torch.rand(16) + 0.5),
             q=lin(16, 16), k=lin(16, 8), v=lin(16, 8), o=lin(16, 16), gate=lin(16, 24), up=lin(16, 24), down=lin(24, 16), head=lin(16, 20))
    export("llama-block", net, [torch.randint(0, 20, (1, 5))], ("ts17", "dynamo", "dynamo23"))
    export("rmsnorm", nn.Sequential(nn.Linear(6, 8), nn.RMSNorm(8)), [x], ("ts17", "dynamo", "dynamo23"))


def graphs():
    ids = torch.randint(0, 10, (1, 4))
    export("embeddingbag", Fn(lambda m, i: m.fc(m.e(i)), e=nn.EmbeddingBag(10, 4, mode="mean"), fc=nn.Linear(4, 2)), [ids])
    export("recommender", Fn(lambda m, u, i, d: torch.sigmoid(m.fc(torch.cat([m.u(u), m.i(i), m.u(u) * m.i(i), d], -1))).squeeze(-1), u=nn.Embedding(10, 4), i=nn.Embedding(12, 4), fc=nn.Linear(14, 1)),
           [torch.tensor([3]), torch.tensor([7]), torch.randn(1, 2)])
    edges = torch.tensor([[0, 1, 2, 3, 0, 2], [1, 2, 3, 0, 2, 1]])

    def gnn(m, x, e):
        h = m.a(x)
        agg = torch.zeros_like(h).index_add(0, e[1], h[e[0]])
        h = F.relu(agg + m.s(x))
        return m.o(h).mean(0)

    export("gnn", Fn(gnn, a=nn.Linear(3, 4), s=nn.Linear(3, 4), o=nn.Linear(4, 2)), [torch.randn(4, 3), edges])
    export("gnn-fixed", Fn(lambda m, x: gnn(m, x, m.edges), a=nn.Linear(3, 4), s=nn.Linear(3, 4), o=nn.Linear(4, 2), edges=edges), [torch.randn(4, 3)])
    export("gnn-scatter", Fn(lambda m, x, e: torch.zeros(4, 3).scatter_add(0, e[1][:, None].expand(-1, 3), x[e[0]]) @ m.w, w=torch.randn(3, 2)), [torch.randn(4, 3), edges])
    export("einsum", Fn(lambda m, a, b: torch.einsum("bij,bkj->bik", a, b) + torch.einsum("bij,jk->bik", a, m.w), w=torch.randn(5, 4)), [torch.randn(1, 3, 5), torch.randn(1, 4, 5)])
    x = torch.randn(1, 8)
    export("topk", Fn(lambda m, x: torch.topk(m.fc(x), 3), fc=nn.Linear(8, 6)), [x])
    export("argmax", Fn(lambda m, x: m.fc(x).argmax(-1), fc=nn.Linear(8, 6)), [x])
    export("sort-median", Fn(lambda m, x: (torch.sort(m.fc(x), descending=True)[0], m.fc(x).median(-1)[0]), fc=nn.Linear(8, 6)), [x])
    export("cumsum", Fn(lambda m, x: torch.cumsum(m.fc(x), -1), fc=nn.Linear(8, 6)), [x])
    export("where-inf", Fn(lambda m, x, k: torch.where(k, m.fc(x), torch.tensor(float("-inf"))).softmax(-1), fc=nn.Linear(8, 6)), [x, torch.tensor([[True, True, False, True, False, True]])])
    export("logic", Fn(lambda m, x: ((x > 0) & (x < 1) | (x.abs() >= 1.5)).float().sum(-1) + (x != 0).any(-1).float() + x.clamp(-1, 1).var(-1) + x.std(-1, unbiased=False) + x.norm(dim=-1)), [x])
    export("math", Fn(lambda m, x: torch.stack([torch.sin(x), torch.cos(x), torch.atan(x), torch.exp(-x * x), torch.log1p(x.abs()), torch.sqrt(x.abs() + 1), torch.rsqrt(x * x + 1), torch.sign(x), torch.floor(x),
                                                torch.round(x), torch.erf(x), torch.expm1(x), torch.maximum(x, -x), torch.fmod(x, 1.0), torch.remainder(x, 1.0), x // 0.5, torch.square(x), x ** 3, torch.log2(x.abs() + 1),
                                                torch.atan2(x, x.flip(-1) + 3), torch.logaddexp(x, -x), torch.nan_to_num(x), torch.hypot(x, x + 1)])), [x], ("ts17", "dynamo"))
    export("shapes", Fn(lambda m, x: torch.cat([t.reshape(1, -1) for t in (x.view(2, 4).t(), x.unfold(1, 4, 2), x.repeat(1, 2), x.roll(2, 1), x.flip(1), torch.tril(x.view(2, 4)), x[:, ::3], x.chunk(3, 1)[1],
                                                                            x.view(2, 2, 2).movedim(0, 2), F.pad(x, (1, 1), value=2.0), x.new_ones(1, 2), x[:, torch.tensor([1, 5])], x.diff(), x.expand(2, 8))], 1)), [x])
    export("cosine", Fn(lambda m, a, b: F.cosine_similarity(m.fc(a), m.fc(b)), fc=nn.Linear(8, 6)), [x, torch.randn(1, 8)])
    export("cdist", Fn(lambda m, x: torch.cdist(x.view(2, 4), m.c).argmin(-1), c=torch.randn(3, 4)), [x])
    export("normalize", Fn(lambda m, x: F.normalize(m.fc(x), dim=-1), fc=nn.Linear(8, 6)), [x])
    export("onehot", Fn(lambda m, i: F.one_hot(i, 10).float() @ m.w, w=torch.randn(10, 3)), [ids])
    export("bucketize", Fn(lambda m, x: torch.bucketize(x, m.b).float(), b=torch.tensor([-1.0, 0.0, 1.0])), [x])
    export("loop", Fn(lambda m, x: torch.stack([m.fc(x) * i for i in range(3)]).sum(0).tanh(), fc=nn.Linear(8, 6)), [x])
    script = torch.jit.script(Scripted()) if hasattr(torch, "jit") else None
    if script is not None:
        export("scripted", script, [x], ("ts17",))
    export("gridsample", Fn(lambda m, x, g: F.grid_sample(x, g, align_corners=False)), [torch.randn(1, 1, 4, 4), torch.rand(1, 2, 2, 2) * 2 - 1], ("ts17", "dynamo"))


if torch:

    class Scripted(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(8, 8)

        def forward(self, x):
            for _ in range(3):
                x = torch.relu(self.fc(x))
            if x.sum() > 0.5:
                x = x * 2
            return x


def hugging():
    t = importlib.import_module("transformers")
    ids = torch.randint(0, 30, (1, 6))
    ones = torch.ones(1, 6, dtype=torch.long)

    def wrap(net, field="logits"):
        return Fn(lambda m, i, a: getattr(m.net(input_ids=i, attention_mask=a), field), net=net)

    small = dict(vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, max_position_embeddings=16)
    makers = {
        "hf-bert": lambda: (wrap(t.BertForSequenceClassification(t.BertConfig(**small))), [ids, ones]),
        "hf-distilbert": lambda: (wrap(t.DistilBertForSequenceClassification(t.DistilBertConfig(vocab_size=30, dim=16, n_layers=1, n_heads=2, hidden_dim=32, max_position_embeddings=16))), [ids, ones]),
        "hf-gpt2": lambda: (Fn(lambda m, i: m.net(input_ids=i, use_cache=False).logits, net=t.GPT2LMHeadModel(t.GPT2Config(vocab_size=30, n_embd=16, n_layer=1, n_head=2, n_positions=16))), [ids]),
        "hf-llama": lambda: (Fn(lambda m, i: m.net(input_ids=i, use_cache=False).logits, net=t.LlamaForCausalLM(t.LlamaConfig(**small, num_key_value_heads=1))), [ids]),
        "hf-t5": lambda: (wrap(t.T5EncoderModel(t.T5Config(vocab_size=30, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)), "last_hidden_state"), [ids, ones]),
        "hf-vit": lambda: (Fn(lambda m, x: m.net(pixel_values=x).logits, net=t.ViTForImageClassification(t.ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=8, patch_size=4))), [torch.randn(1, 3, 8, 8)]),
        "hf-albert": lambda: (wrap(t.AlbertForSequenceClassification(t.AlbertConfig(**small, embedding_size=8))), [ids, ones]),
        "hf-qwen2": lambda: (Fn(lambda m, i: m.net(input_ids=i, use_cache=False).logits, net=t.Qwen2ForCausalLM(t.Qwen2Config(**small, num_key_value_heads=1))), [ids]),
        "hf-gptneox": lambda: (Fn(lambda m, i: m.net(input_ids=i, use_cache=False).logits, net=t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**small))), [ids]),
    }
    for name, make in makers.items():
        if wanted(name) or any(name in f for f in FILTERS):
            model, inputs = make()
            export(name, model, inputs, ("ts17", "dynamo"))


def quantised():
    q = importlib.import_module("onnxruntime.quantization")
    nets = {
        "mlp": (nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 4)), torch.randn(1, 12)),
        "cnn": (nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 4, 3), nn.Sigmoid(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)), torch.randn(1, 3, 12, 12)),
        "attention": (nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), torch.randn(1, 4, 16)),
    }
    for name, (net, x) in nets.items():
        net.eval()
        for way in ("qdq", "qoperator", "dynamic"):

            def make(path, net=net, x=x, way=way):
                with tempfile.TemporaryDirectory() as tmp, torch.no_grad():
                    first, second = str(Path(tmp) / "m.onnx"), str(Path(tmp) / "p.onnx")
                    torch.onnx.export(net, (x,), first, dynamo=False, opset_version=17, input_names=["x"])
                    if way == "dynamic":
                        q.quantize_dynamic(first, str(path))
                        return
                    q.shape_inference.quant_pre_process(first, second, skip_symbolic_shape=True)

                    class Reader(q.CalibrationDataReader):
                        def __init__(self):
                            self.left = [{"x": np.random.randn(*x.shape).astype(np.float32)} for _ in range(8)]

                        def get_next(self):
                            return self.left.pop() if self.left else None

                    form = q.QuantFormat.QDQ if way == "qdq" else q.QuantFormat.QOperator
                    q.quantize_static(second, str(path), Reader(), quant_format=form, per_channel=name == "cnn")

            write(f"quant-{name}-{way}", make, [x.numpy()])


def trees():
    from sklearn import cluster, compose, datasets, decomposition, ensemble, feature_selection, impute, linear_model, naive_bayes, neighbors, neural_network, pipeline, preprocessing, svm, tree
    from skl2onnx import to_onnx

    x, y = datasets.load_iris(return_X_y=True)
    x = x.astype(np.float32)
    target = (x @ np.array([0.3, -0.2, 0.5, 0.1]) + 0.05 * y).astype(np.float32)
    half = y > 0
    scaled = lambda m: pipeline.make_pipeline(preprocessing.StandardScaler(), m)
    models = {
        "sk-logistic": (scaled(linear_model.LogisticRegression()), y), "sk-logistic-binary": (scaled(linear_model.LogisticRegression()), half.astype(int)),
        "sk-linear": (linear_model.LinearRegression(), target), "sk-ridge": (scaled(linear_model.Ridge()), target),
        "sk-tree": (tree.DecisionTreeClassifier(max_depth=4, random_state=0), y), "sk-tree-regressor": (tree.DecisionTreeRegressor(max_depth=4, random_state=0), target),
        "sk-forest": (ensemble.RandomForestClassifier(8, max_depth=4, random_state=0), y), "sk-forest-binary": (ensemble.RandomForestClassifier(8, max_depth=4, random_state=0), half.astype(int)),
        "sk-forest-regressor": (ensemble.RandomForestRegressor(8, max_depth=4, random_state=0), target), "sk-extratrees": (ensemble.ExtraTreesClassifier(6, max_depth=4, random_state=0), y),
        "sk-gboost": (ensemble.GradientBoostingClassifier(n_estimators=5, random_state=0), y), "sk-gboost-binary": (ensemble.GradientBoostingClassifier(n_estimators=5, random_state=0), half.astype(int)),
        "sk-gboost-regressor": (ensemble.GradientBoostingRegressor(n_estimators=8, random_state=0), target), "sk-histgboost": (ensemble.HistGradientBoostingRegressor(max_iter=5, random_state=0), target),
        "sk-svc": (scaled(svm.SVC(probability=False, random_state=0)), half.astype(int)), "sk-svc-multi": (scaled(svm.SVC(random_state=0)), y), "sk-svr": (scaled(svm.SVR()), target), "sk-linearsvc": (scaled(svm.LinearSVC()), y),
        "sk-kmeans": (cluster.KMeans(3, random_state=0, n_init=1), None), "sk-knn": (neighbors.KNeighborsClassifier(3), y), "sk-gaussian-nb": (naive_bayes.GaussianNB(), y), "sk-mlp": (scaled(neural_network.MLPClassifier((8,), max_iter=50, random_state=0)), y),
        "sk-pca": (pipeline.make_pipeline(decomposition.PCA(2), linear_model.LogisticRegression()), y), "sk-minmax-poly": (pipeline.make_pipeline(preprocessing.MinMaxScaler(), preprocessing.PolynomialFeatures(2), linear_model.Ridge()), target),
        "sk-impute-normalize": (pipeline.make_pipeline(impute.SimpleImputer(), preprocessing.Normalizer(), linear_model.LogisticRegression()), y), "sk-select": (pipeline.make_pipeline(feature_selection.SelectKBest(k=2), preprocessing.RobustScaler(), linear_model.LogisticRegression()), y),
        "sk-columns": (pipeline.make_pipeline(compose.ColumnTransformer([("a", preprocessing.StandardScaler(), [0, 1]), ("b", preprocessing.Binarizer(threshold=1.0), [2, 3])]), linear_model.LogisticRegression()), y),
        "sk-adaboost": (ensemble.AdaBoostClassifier(n_estimators=4, random_state=0), y), "sk-voting": (ensemble.VotingClassifier([("a", linear_model.LogisticRegression()), ("b", tree.DecisionTreeClassifier(max_depth=3, random_state=0))], voting="soft"), y),
        "sk-isolation": (ensemble.IsolationForest(n_estimators=8, random_state=0), None), "sk-gp": (importlib.import_module("sklearn.gaussian_process").GaussianProcessRegressor(), target),
    }
    sample = x[[75]]
    for name, (model, labels) in models.items():
        for way in ("", "-zipmap"):
            if not wanted(name + way) or way and name not in ("sk-logistic", "sk-forest"):
                continue

            def make(path, model=model, labels=labels, way=way):
                model.fit(x) if labels is None else model.fit(x, labels)
                opts = {id(model): {"zipmap": False}} if not way and hasattr(model, "predict_proba") else None
                path.write_bytes(to_onnx(model, x[:1], options=opts, target_opset={"": 17, "ai.onnx.ml": 3}).SerializeToString())

            write(name + way, make, [sample])

    def tabular(name, fit, convert):
        def make(path):
            from onnxmltools.convert.common.data_types import FloatTensorType

            onx = convert(fit(), initial_types=[("x", FloatTensorType([1, 4]))], target_opset=15)
            path.write_bytes(onx.SerializeToString())

        write(name, make, [sample])

    try:
        import lightgbm as lgb
        from onnxmltools import convert_lightgbm

        free = lambda m, **k: convert_lightgbm(m, zipmap=False, **k)
        tabular("lightgbm-multi", lambda: lgb.LGBMClassifier(n_estimators=4, verbose=-1).fit(x, y), free)
        tabular("lightgbm-binary", lambda: lgb.LGBMClassifier(n_estimators=6, verbose=-1).fit(x, half.astype(int)), free)
        tabular("lightgbm-regressor", lambda: lgb.LGBMRegressor(n_estimators=6, verbose=-1).fit(x, target), convert_lightgbm)
        tabular("lightgbm-zipmap", lambda: lgb.LGBMClassifier(n_estimators=4, verbose=-1).fit(x, y), convert_lightgbm)
    except ImportError as e:
        print("lightgbm is left out:", e)
    try:
        import xgboost as xgb
        from onnxmltools import convert_xgboost

        tabular("xgboost-multi", lambda: xgb.XGBClassifier(n_estimators=4, max_depth=3).fit(x, y), convert_xgboost)
        tabular("xgboost-binary", lambda: xgb.XGBClassifier(n_estimators=6, max_depth=3).fit(x, half.astype(int)), convert_xgboost)
        tabular("xgboost-regressor", lambda: xgb.XGBRegressor(n_estimators=6, max_depth=3).fit(x, target), convert_xgboost)
    except ImportError as e:
        print("xgboost is left out:", e)


def main():
    np.random.seed(1)
    sections = [trees]
    if torch:
        torch.manual_seed(1)
        sections += [dense, vision, sequences, graphs, quantised, hugging]
    else:
        print("torch is left out")
    for section in sections:
        try:
            section()
        except Exception as e:
            print(section.__name__, "is left out from here on:", type(e).__name__, e)
    print(len(FAILED), "could not be exported:", *FAILED)


if __name__ == "__main__":
    main()
