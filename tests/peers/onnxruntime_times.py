"""Times networks in onnxruntime on one thread.

Each line of standard input names an ONNX file, a number of images and a number of runs; the answer is a line with the microseconds of every run.
"""

import sys
import time

import numpy
import onnxruntime

sessions = {}


def load(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(session, inputs):
    began = time.perf_counter()
    session.run(None, inputs)
    return 1e6 * (time.perf_counter() - began)


for line in sys.stdin:
    path, images, runs = line.split()
    if path not in sessions:
        sessions = {path: load(path)}
    session = sessions[path]
    shape = [int(images), *session.get_inputs()[0].shape[1:]]
    values = numpy.arange(numpy.prod(shape), dtype=numpy.float32) % 7 / 4
    inputs = {"input": values.reshape(shape)}
    session.run(None, inputs)
    print(*[run(session, inputs) for _ in range(int(runs))], flush=True)
