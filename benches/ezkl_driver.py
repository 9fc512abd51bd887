"""Runs ezkl on one model and prints one JSON object.

    python ezkl_driver.py MODEL_DIR WORK_DIR [--proofs N]

MODEL_DIR holds `network.onnx`, `input.json` and, if there is one, `reference.json`. Private input, public output, private parameters;
calibration for `resources`; a development reference string, kept in WORK_DIR and shared by the models of one run. The driver waits for a
line on standard input before each proof, so that a caller can interleave ezkl's proofs with its own: to each line it answers with one line,
the milliseconds of that proof; the JSON object comes last. `prove_ms` is what ezkl itself reports as the time of the proof, without
reading its keys (gigabytes for some models); `prove_call_ms` is the whole call.
"""

import argparse
import json
import logging
import os
import re
import resource
import sys
import time


class ProofTimes(logging.Handler):
    """Collects the seconds in ezkl's own message about each proof."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def emit(self, record):
        found = re.search(r"proof took (\d+(?:\.\d+)?)", record.getMessage())
        if found:
            self.seconds.append(float(found.group(1)))


def main():
    args = argparse.ArgumentParser()
    args.add_argument("model")
    args.add_argument("work")
    args.add_argument("--proofs", type=int, default=1)
    args = args.parse_args()

    own = ProofTimes()
    logger = logging.getLogger("ezkl.pfsys")
    logger.setLevel(logging.INFO)
    logger.addHandler(own)
    logger.propagate = False
    import ezkl

    model = os.path.join(args.model, "network.onnx")
    data = os.path.join(args.model, "input.json")
    name = os.path.basename(os.path.normpath(args.model))
    work = os.path.join(args.work, name)
    os.makedirs(work, exist_ok=True)

    def path(file):
        return os.path.join(work, file)

    out = {"name": name, "version": ezkl.__version__}

    def timed(key, call):
        start = time.perf_counter()
        result = call()
        out[key] = round((time.perf_counter() - start) * 1e3, 3)
        return result

    run_args = ezkl.PyRunArgs()
    run_args.input_visibility = "private"
    run_args.output_visibility = "public"
    run_args.param_visibility = "private"
    run_args.variables = [("batch_size", 1)]

    ezkl.gen_settings(model, path("settings.json"), py_run_args=run_args)
    timed(
        "calibrate_ms",
        lambda: ezkl.calibrate_settings(data, model, path("settings.json"), "resources", max_logrows=24),
    )
    ezkl.compile_circuit(model, path("model.compiled"), path("settings.json"))
    with open(path("settings.json")) as file:
        settings = json.load(file)
    k = settings["run_args"]["logrows"]
    out["k"] = k
    out["rows"] = settings["num_rows"]
    srs = os.path.join(args.work, f"kzg{k}.srs")
    if not os.path.exists(srs):
        ezkl.gen_srs(srs + ".tmp", k)
        os.rename(srs + ".tmp", srs)
    timed("keygen_ms", lambda: ezkl.setup(path("model.compiled"), path("vk"), path("pk"), srs_path=srs))
    out["pk_bytes"] = os.path.getsize(path("pk"))
    timed("witness_ms", lambda: ezkl.gen_witness(data, path("model.compiled"), path("witness.json")))

    proofs, calls = [], []
    print("ready", flush=True)
    for _ in range(args.proofs):
        if not sys.stdin.readline():
            break
        start = time.perf_counter()
        ezkl.prove(path("witness.json"), path("model.compiled"), path("pk"), proof_path=path("proof.json"), srs_path=srs)
        calls.append((time.perf_counter() - start) * 1e3)
        proofs.append(own.seconds[-1] * 1e3 if len(own.seconds) == len(calls) else calls[-1])
        print(f"{proofs[-1]:.3f}", flush=True)
    out["prove_ms"] = proofs
    out["prove_call_ms"] = calls
    timed(
        "verify_ms",
        lambda: ezkl.verify(path("proof.json"), path("settings.json"), path("vk"), srs_path=srs),
    )
    with open(path("proof.json")) as file:
        proof = json.load(file)
    out["proof_bytes"] = len(proof["proof"])
    outputs = [[float(v) for v in tensor] for tensor in proof["pretty_public_inputs"]["rescaled_outputs"]]
    reference = os.path.join(args.model, "reference.json")
    if os.path.exists(reference):
        with open(reference) as file:
            expected = json.load(file)["outputs"]
        errors = [abs(a - float(b)) for got, want in zip(outputs, expected) for a, b in zip(got, want["data"])]
        out["max_abs_error"] = max(errors, default=None)
    out["peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for file in os.listdir(work):
        os.remove(path(file))
    os.rmdir(work)
    print(json.dumps(out), flush=True)


if __name__ == "__main__":
    main()
