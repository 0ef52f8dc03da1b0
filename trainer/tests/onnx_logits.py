"""Runs every NAME.onnx of a folder in onnxruntime on the one picture in NAME.f32, raw floats. Prints one JSON object: the outputs by name."""

import json
import pathlib
import sys

import numpy
import onnxruntime


def run(path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    taken = session.get_inputs()[0]
    picture = numpy.fromfile(path.with_suffix(".f32"), numpy.float32).reshape([1, *taken.shape[1:]])
    return session.run(None, {taken.name: picture})[0].ravel().tolist()


json.dump({path.stem: run(path) for path in pathlib.Path(sys.argv[1]).glob("*.onnx")}, sys.stdout)
