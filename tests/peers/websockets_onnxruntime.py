"""The server that a user would build instead of the edge worker: websockets and onnxruntime.

Takes features as raw 32-bit floats, one frame a message, and answers with the probabilities of the classes.
Inference runs in the event loop: on one core a thread of its own would only add a hand-over.
"""

import asyncio
import sys

import numpy
import onnxruntime
import websockets


def load(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    shape = [1, *session.get_inputs()[0].shape[1:]]

    def probabilities(message):
        features = numpy.frombuffer(message, numpy.float32).reshape(shape)
        logits = session.run(None, {"input": features})[0].ravel()
        weights = numpy.exp(logits - logits.max())
        return (weights / weights.sum()).tobytes()

    return probabilities


async def main(path):
    probabilities = load(path)

    async def serve(socket):
        async for message in socket:
            await socket.send(probabilities(message))

    async with websockets.serve(serve, "127.0.0.1", 0, compression=None) as server:
        host, port = server.sockets[0].getsockname()
        print(f"listening on ws://{host}:{port}", flush=True)
        await server.wait_closed()


asyncio.run(main(sys.argv[1]))
