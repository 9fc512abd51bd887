"""Writes the node tests of the `onnx` package to a folder: CASE/model.onnx and CASE/test_data_set_0/{input,output}_I.pb.

Usage: python front_onnx_node.py OUT
Then:  PARHELION_ONNX_NODE_TESTS=OUT cargo test --release -p parhelion-zkml --test front_onnx_node -- --nocapture
"""

import pathlib
import sys

import numpy
import onnx
from onnx.backend.test.case import node


def main(out: pathlib.Path) -> None:
    written = 0
    for case in node.collect_testcases(None):
        if case.model is None or not case.data_sets:
            continue
        data = out / case.name / "test_data_set_0"
        data.mkdir(parents=True, exist_ok=True)
        (data.parent / "model.onnx").write_bytes(case.model.SerializeToString())
        for kind, values in zip(("input", "output"), case.data_sets[0]):
            for i, value in enumerate(values):
                if isinstance(value, numpy.ndarray | numpy.generic):
                    value = onnx.numpy_helper.from_array(numpy.asarray(value))
                # Sequences, maps and absent values leave an empty file, which the test passes over.
                tensor = isinstance(value, onnx.TensorProto)
                (data / f"{kind}_{i}.pb").write_bytes(value.SerializeToString() if tensor else b"")
        written += 1
    print(f"{written} cases in {out}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
