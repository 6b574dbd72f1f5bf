"""The convolutions of whole networks, forward, one image: a fastconv.Network in turns with PyTorch, ONNX Runtime and OpenVINO.

    python bench/stacks.py [--threads 2] [--seconds 12] [--only vgg16]

vgg16: 13 convolutions with ReLU and the pools between them; resnet50: 53 convolutions (batch norm folded into them), ReLU, the residuals, the
first pool; both up to the head. float32, images of 224 x 224. Every rival gets the same weights ahead: ONNX Runtime and OpenVINO the whole
network as one model, to pack and fuse as they like; PyTorch as it is, with channels last, and frozen for inference. The answer of each is
proven against float64 first; `best` compares the fastest turns, which a busy machine slows least. Each rival races fastconv in a process of
its own. One that is not installed is left out (pip install torch onnx onnxruntime openvino).
"""
from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))     # run as a script: the house itself

import numpy as np

import fastconv
from bench import harness

Call = Callable[[], np.ndarray]
SIZE = 224
ASKED = {"vgg16": 0.5, "resnet50": 0.8}      # of the time of the fastest rival, at most
BURST = 0.5                                  # seconds of passes in one turn, as of a stream of images
ERROR = 1e-4                                 # of the last result's largest element


class Step(NamedTuple):
    """One operation of a network; values are known by their numbers, 0 is the image."""

    source: int
    weight: np.ndarray | None                # (F, C, K, K); None: a pool
    bias: np.ndarray | None
    kernel: int
    stride: int
    padding: int
    relu: bool = False
    residual: int | None = None              # the value that is added before the ReLU


class Network:
    """Steps, each making the value of the next number."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.random = np.random.default_rng(0)

    def conv(self, source: int, C: int, F: int, kernel: int, stride: int = 1, relu: bool = True, residual: int | None = None) -> int:
        scale = np.sqrt(2 / (C * kernel * kernel)) * (1 if residual is None else 0.3)    # so that sums of many blocks do not grow
        weight = (scale * self.random.standard_normal((F, C, kernel, kernel))).astype(np.float32)
        bias = (0.1 * self.random.standard_normal(F)).astype(np.float32)
        return self._add(Step(source, weight, bias, kernel, stride, kernel // 2, relu, residual))

    def pool(self, source: int, kernel: int, padding: int = 0) -> int:
        return self._add(Step(source, None, None, kernel, 2, padding))

    def _add(self, step: Step) -> int:
        self.steps.append(step)
        return len(self.steps)


def vgg16() -> Network:
    """Configuration D of Simonyan and Zisserman 2014, table 1."""
    network, value, C = Network(), 0, 3
    for F, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            value, C = network.conv(value, C, F, 3), F
        value = network.pool(value, 2)
    return network


def resnet50() -> Network:
    """He et al. 2015, table 1, with the stride in the 3x3 convolution of a block, as torchvision has it."""
    network = Network()
    value, C = network.pool(network.conv(0, 3, 64, 7, 2), 3, 1), 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            stride = 2 if block == 0 and width > 64 else 1
            shortcut = network.conv(value, C, 4 * width, 1, stride, relu=False) if block == 0 else value
            inner = network.conv(network.conv(value, C, width, 1), width, width, 3, stride)
            value, C = network.conv(inner, width, 4 * width, 1, residual=shortcut), 4 * width
    return network


NETWORKS = {"vgg16": vgg16, "resnet50": resnet50}


def of_fastconv(network: Network, image: np.ndarray) -> Call:
    """Prepared layers and poolings in a fastconv.Network."""
    net = fastconv.Network(image.shape, image.dtype)
    values = [net.x]
    for step in network.steps:
        if step.weight is None:
            value = net.add(fastconv.max_pool2d, values[step.source], step.kernel, step.stride, step.padding)
        else:
            assert step.bias is not None
            layer = fastconv.Conv2d(step.weight.astype(image.dtype), step.bias.astype(image.dtype), step.stride, step.padding,
                                    activation="relu" if step.relu else None)
            value = net.add(layer, values[step.source], residual=None if step.residual is None else values[step.residual])
        values.append(value)
    y = np.empty(values[-1].shape, image.dtype)
    return lambda: net(image, y)


def of_torch(network: Network, image: np.ndarray, threads: int) -> dict[str, Call]:
    import torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    F = torch.nn.functional

    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for number, step in enumerate(network.steps):
                if step.weight is not None:
                    self.register_buffer(f"weight{number}", torch.from_numpy(step.weight.copy()))
                    self.register_buffer(f"bias{number}", torch.from_numpy(step.bias))

        def forward(self, x: Any) -> Any:
            values = [x]
            for number, step in enumerate(network.steps):
                if step.weight is None:
                    y = F.max_pool2d(values[step.source], step.kernel, step.stride, step.padding)
                else:
                    y = F.conv2d(values[step.source], getattr(self, f"weight{number}"), getattr(self, f"bias{number}"), step.stride, step.padding)
                    y = y if step.residual is None else y.add_(values[step.residual])
                    y = y.relu_() if step.relu else y
                values.append(y)
            return values[-1]

    def call(module: Any, x: Any) -> Call:
        return lambda: module(x).numpy()

    found = {}
    for name, layout in (("torch", torch.contiguous_format), ("torch, channels last", torch.channels_last)):
        module, x = Module().eval().to(memory_format=layout), torch.from_numpy(image).contiguous(memory_format=layout)
        found[name] = call(module, x)
        found[name + ", frozen"] = call(torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(module, x))), x)
    return found


def model(network: Network, image: np.ndarray) -> bytes:
    """The network as an ONNX model."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants = [], []
    for number, step in enumerate(network.steps):
        source, result = str(step.source), str(number + 1)
        window = {"kernel_shape": [step.kernel] * 2, "strides": [step.stride] * 2, "pads": [step.padding] * 4}
        if step.weight is None:
            nodes.append(helper.make_node("MaxPool", [source], [result], **window))
            continue
        assert step.bias is not None
        constants += [numpy_helper.from_array(step.weight, f"weight{number}"), numpy_helper.from_array(step.bias, f"bias{number}")]
        chain = [("Conv", [source, f"weight{number}", f"bias{number}"], window)]
        if step.residual is not None:
            chain.append(("Add", [f"{number}a", str(step.residual)], {}))
        if step.relu:
            chain.append(("Relu", [f"{number}{'ab'[len(chain) - 1]}"], {}))
        for place, (kind, sources, options) in enumerate(chain):
            nodes.append(helper.make_node(kind, sources, [result if place == len(chain) - 1 else f"{number}{'ab'[place]}"], **options))
    x = helper.make_tensor_value_info("0", TensorProto.FLOAT, image.shape)
    y = helper.make_tensor_value_info(str(len(network.steps)), TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "network", [x], [y], constants)
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString())


def of_onnxruntime(network: Network, image: np.ndarray, threads: int) -> dict[str, Call]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model(network, image), options, providers=["CPUExecutionProvider"])
    return {"onnxruntime": lambda: session.run(None, {"0": image})[0]}


def of_openvino(network: Network, image: np.ndarray, threads: int) -> dict[str, Call]:
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(core.read_model(model(network, image)), "CPU", settings).create_infer_request()
    request.set_input_tensor(openvino.Tensor(image, shared_memory=True))

    def run() -> np.ndarray:
        request.infer()
        return np.asarray(request.get_output_tensor().data)

    return {"openvino": run}


RIVALS = {"torch": of_torch, "onnxruntime": of_onnxruntime, "openvino": of_openvino}


def race(name: str, rival: str, threads: int, seconds: float) -> dict[str, tuple[float, float, float]]:
    """Median seconds of fastconv and of each way of a rival, fastconv's share of that, and of the fastest turns; each answer is proven against float64."""
    harness.keep_memory()
    fastconv.set_num_threads(threads)
    network, image = NETWORKS[name](), np.random.default_rng(1).standard_normal((1, 3, SIZE, SIZE)).astype(np.float32)
    truth = of_fastconv(network, image.astype(np.float64))()
    calls = {"fastconv": of_fastconv(network, image), **RIVALS[rival](network, image, threads)}
    for called, call in calls.items():
        error = np.abs(call() - truth).max() / np.abs(truth).max()
        assert error <= ERROR, f"{called} errs by {error:.1e}"
    turns = harness.in_turns(list(calls.values()), seconds, one_thread=threads == 1, burst=BURST)
    return dict(zip(calls, zip(turns.seconds, turns.ratios, turns.best)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=12.0, help="for each network and rival (default: %(default)s)")
    parser.add_argument("--only", choices=NETWORKS)
    options = parser.parse_args()
    print(f"fastconv {fastconv.__version__}, {fastconv.runtime.info()['instruction set']}, {options.threads} threads; median ms of a pass")
    for name in NETWORKS:
        shares = []
        for rival in RIVALS if options.only in (None, name) else ():
            with multiprocessing.get_context("spawn").Pool(1) as pool:       # of its own: the threads of one rival disturb the others
                try:
                    found = pool.apply(race, (name, rival, options.threads, options.seconds))
                except ImportError as error:
                    print(f"left out: {error}", file=sys.stderr)
                    continue
            (ours, *_), *theirs = found.values()
            for way, (seconds, share, best) in zip(list(found)[1:], theirs):
                print(f"{name}: {1e3 * ours:8.2f} ms against {1e3 * seconds:8.2f} of {way:<30} {share:.2f} of its time (best {best:.2f})", flush=True)
                shares.append((share, best))
        if shares:
            share, best = map(max, zip(*shares))
            print(f"{name}: {share:.2f} of the fastest rival's time (best {best:.2f}, asked {ASKED[name]:g})")


if __name__ == "__main__":
    main()
