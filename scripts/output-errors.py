#!/usr/bin/env python3
"""Output errors of a directory of models, beside those of a record of pairs with ezkl.

    scripts/output-errors.py DIR --pairs benches/record/2026-11-21-ezkl-pairs.csv --out errors.csv [--binary parhelion]

DIR has a folder per model with `network.onnx` and `input.json`. The error is what `inspect` reports for the input: the greatest absolute difference of an
output element from the float model. The exit code is 1 where one is greater than ezkl's.
"""

import argparse
import csv
import json
import os
import subprocess
import sys


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("dir")
    p.add_argument("--pairs", required=True)
    p.add_argument("--out", default="errors.csv")
    p.add_argument("--binary", default="parhelion")
    args = p.parse_args()
    with open(args.pairs, newline="") as f:
        pairs = {r["model"]: r for r in csv.DictReader(f)}
    rows = []
    for name in sorted(os.listdir(args.dir)):
        model, data = (os.path.join(args.dir, name, n) for n in ("network.onnx", "input.json"))
        if not os.path.exists(model):
            continue
        words = [args.binary, "--no-cache", "--quiet", "inspect", model, "--input", data, "--json", "--surplus", "ignore"]
        said = subprocess.run(words, capture_output=True, text=True)
        before = pairs.get(name, {})
        row = dict(model=name, max_abs_error="", share="", earlier=before.get("max_abs_error", ""), ezkl=before.get("ezkl_max_abs_error", ""), reason="")
        if said.returncode:
            # A record names no place of a machine.
            row["reason"] = said.stderr.strip().splitlines()[-1].replace(os.path.join(args.dir, ""), "")[:200]
        else:
            outputs = json.loads(said.stdout)["accuracy"]["outputs"]
            row["max_abs_error"] = f"{max(o['max_abs_error'] for o in outputs):.3e}"
            row["share"] = f"{max(o['share'] for o in outputs):.3e}"
        rows.append(row)
    with open(args.out, "w", newline="") as f:
        writer = csv.DictWriter(f, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    both = [r for r in rows if r["max_abs_error"] and r["ezkl"]]
    above = [r for r in both if float(r["max_abs_error"]) > float(r["ezkl"])]
    finer = sum(r["earlier"] != "" and float(r["max_abs_error"]) <= float(r["earlier"]) for r in both)
    print(f"{len(rows)} models, {len(both)} beside ezkl: {len(above)} above its error; {finer} no greater than in the record")
    for r in above:
        print(f"  {r['model']}: {r['max_abs_error']}, ezkl {r['ezkl']}, earlier {r['earlier']}")
    for r in rows:
        if r["reason"]:
            print(f"  {r['model']}: {r['reason']}")
    return 1 if above else 0


if __name__ == "__main__":
    sys.exit(main())
