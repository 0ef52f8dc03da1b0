"""Runs the variant `toy` that `trainer export --onnx` wrote into a folder, whole and cut in two, in onnxruntime.

The folder's `pictures.f32` holds the pictures as raw floats. Prints one JSON object: the logits of all pictures, by split point.
"""

import json
import pathlib
import sys

import numpy
import onnxruntime


def run(path, values):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": values})[0]


def main(folder):
    whole = folder / "toy.onnx"
    session = onnxruntime.InferenceSession(whole, providers=["CPUExecutionProvider"])
    shape = session.get_inputs()[0].shape[1:]
    pictures = numpy.fromfile(folder / "pictures.f32", numpy.float32).reshape([-1, *shape])
    outputs = {"whole": run(whole, pictures)}
    for head in folder.glob("toy-*-head.onnx"):
        split = head.name.split("-")[1]
        outputs[split] = run(folder / f"toy-{split}-tail.onnx", run(head, pictures))
    json.dump({name: logits.ravel().tolist() for name, logits in outputs.items()}, sys.stdout)


main(pathlib.Path(sys.argv[1]))
