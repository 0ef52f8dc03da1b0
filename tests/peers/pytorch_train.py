"""Training VGG-16 in PyTorch on the CPU in 32-bit floats, as `trainer benchmark` does it: the same network, batch, loss and optimizer.

Measures both memory layouts and prints the faster one's pictures per second as JSON.
"""

import argparse
import json
import time

import torch
from torch import nn

WARM_UP = 2


def vgg16(widths):
    layers, inputs = [], 3
    for index, width in enumerate(widths):
        layers += [nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        if index in (1, 3, 6, 9, 12):
            layers.append(nn.MaxPool2d(2))
        inputs = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(inputs, 10))


def images_per_second(widths, batch, seconds, layout):
    torch.manual_seed(1)
    network = vgg16(widths).to(memory_format=layout)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    pictures = torch.rand(batch, 3, 32, 32).to(memory_format=layout)
    labels = torch.arange(batch) % 10

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss(network(pictures), labels).backward()
        optimizer.step()

    for _ in range(WARM_UP):
        step()
    started, steps = time.perf_counter(), 0
    while steps == 0 or time.perf_counter() - started < seconds:
        step()
        steps += 1
    return steps * batch / (time.perf_counter() - started)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--widths", type=lambda it: [int(width) for width in it.split(",")], required=True)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    layouts = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    measured = {
        name: images_per_second(arguments.widths, arguments.batch, arguments.seconds, layout)
        for name, layout in layouts.items()
    }
    print(json.dumps({"images_per_second": max(measured.values()), "version": torch.__version__, **measured}))


main()
