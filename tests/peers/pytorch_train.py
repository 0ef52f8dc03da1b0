"""Training in PyTorch on the CPU in 32-bit floats, as `trainer benchmark` does it: the same network, batch, loss and optimizer.

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


def conv(inputs, outputs, kernel, stride, groups=1):
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]


class Residual(nn.Module):
    def __init__(self, body, shortcut, activation):
        super().__init__()
        self.body, self.shortcut, self.activation = nn.Sequential(*body), nn.Sequential(*shortcut), activation

    def forward(self, x):
        return self.activation(self.body(x) + self.shortcut(x))


def resnet18():
    layers = [*conv(3, 64, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for width, first in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for stride in (first, 1):
            body = [*conv(inputs, width, 3, stride), nn.ReLU(inplace=True), *conv(width, width, 3, 1)]
            shortcut = [] if stride == 1 and inputs == width else conv(inputs, width, 1, stride)
            layers.append(Residual(body, shortcut, nn.ReLU(inplace=True)))
            inputs = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))


def efficientnet_lite0():
    layers = [*conv(3, 32, 3, 2), nn.ReLU6(inplace=True)]
    inputs = 32
    for expand, width, blocks, first, kernel in (
        (1, 16, 1, 1, 3),
        (6, 24, 2, 2, 3),
        (6, 40, 2, 2, 5),
        (6, 80, 3, 2, 3),
        (6, 112, 3, 1, 5),
        (6, 192, 4, 2, 5),
        (6, 320, 1, 1, 3),
    ):
        for stride in (first, *[1] * (blocks - 1)):
            wide = inputs * expand
            body = [*conv(inputs, wide, 1, 1), nn.ReLU6(inplace=True)] if expand > 1 else []
            body += [*conv(wide, wide, kernel, stride, wide), nn.ReLU6(inplace=True), *conv(wide, width, 1, 1)]
            if stride == 1 and inputs == width:
                layers.append(Residual(body, [], nn.Identity()))
            else:
                layers += body
            inputs = width
    layers += [*conv(inputs, 1280, 1, 1), nn.ReLU6(inplace=True)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000))


NETWORKS = {"resnet18": resnet18, "tf_efficientnet_lite0": efficientnet_lite0}


def images_per_second(arguments, layout):
    torch.manual_seed(1)
    batch, seconds = arguments.batch, arguments.seconds
    if arguments.architecture:
        network, side, classes = NETWORKS[arguments.architecture](), 224, 1000
    else:
        network, side, classes = vgg16(arguments.widths), 32, 10
    network = network.to(memory_format=layout)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    pictures = torch.rand(batch, 3, side, side).to(memory_format=layout)
    labels = torch.arange(batch) % classes

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
    parser.add_argument("--widths", type=lambda it: [int(width) for width in it.split(",")])
    parser.add_argument("--architecture", choices=NETWORKS)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    layouts = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    measured = {name: images_per_second(arguments, layout) for name, layout in layouts.items()}
    print(json.dumps({"images_per_second": max(measured.values()), "version": torch.__version__, **measured}))


main()
