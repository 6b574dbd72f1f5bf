"""A training step (loss and all gradients) of the course's networks, in turns with PyTorch and with the course's own layers (course.py).

    python bench/networks.py [--threads 2] [--seconds 8] [--only "hidden 100"]

float32. No side computes the gradient to the images. Each answer is proven before it is timed: the loss, and the gradient to every weight,
against fastconv's network in float64. Needs the extra `bench`, and PyTorch (extra `peers`), which is left out where it is not installed.
"""
from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

import fastconv
from bench import course, harness
from fastconv.cs231n.classifiers.cnn import VGG, ThreeLayerConvNet
from fastconv.cs231n.classifiers.steps import Affine, Convolution, Pool
from fastconv.cs231n.losses import softmax_loss

Gradients = dict[str, np.ndarray]
Step = Callable[[], tuple[Any, dict[str, Any]]]          # -> the loss, and the gradients by name

# Name: (the network for a dtype, images, how many times the course's speed is asked for).
NETWORKS: dict[str, tuple[Callable[[Any], Any], int, float]] = {
    "three layers, hidden 100": (lambda dtype: ThreeLayerConvNet(hidden_dim=100, weight_scale=0.02, dtype=dtype), 50, 8.0),
    "three layers, hidden 500": (lambda dtype: ThreeLayerConvNet(hidden_dim=500, weight_scale=0.02, dtype=dtype), 50, 5.0),
    "VGG-11": (lambda dtype: VGG("vgg11", dtype=dtype), 32, 2.0),
}
OF_TORCH = 0.8                               # fastconv's share of PyTorch's time, at most
ERROR = 1e-4                                 # of each gradient's largest element: sums of float32 in any order, through the whole network


def plan(network: Any) -> list[tuple[str, str]]:
    """(kind, number) of each layer in the course's order, ReLU before the pool: what the rivals do."""
    found = [("conv" if isinstance(step, Convolution) else "affine" if isinstance(step, Affine) else "pool" if isinstance(step, Pool) else "relu",
              str(step.number)) for step in network._steps]
    for place in range(len(found) - 1):
        if (found[place][0], found[place + 1][0]) == ("pool", "relu"):
            found[place], found[place + 1] = found[place + 1], found[place]
    return found


def of_course(network: Any, X: np.ndarray, y: np.ndarray) -> Step:
    """The step by the course's own layers in NumPy."""
    layers, params = plan(network), network.params

    def step() -> tuple[Any, Gradients]:
        a, kept = X, []
        for kind, n in layers:
            x = a
            if kind == "conv":
                a, patches = course.conv_forward(x, params[f"W{n}"], params[f"b{n}"], 1, (params[f"W{n}"].shape[2] - 1) // 2)
                kept.append((x, patches))
            elif kind == "affine":
                a = x.reshape(len(x), -1) @ params[f"W{n}"] + params[f"b{n}"]
                kept.append((x, None))
            else:
                a = np.maximum(x, 0) if kind == "relu" else course.max_pool_forward(x, 2)
                kept.append((x, a))
        loss, d = softmax_loss(a, y)
        gradients = {}
        for place in reversed(range(len(layers))):
            (kind, n), (x, more) = layers[place], kept.pop()
            if kind == "conv":
                w = params[f"W{n}"]
                d, gradients[f"W{n}"], gradients[f"b{n}"] = course.conv_backward(d, x, w, more, 1, (w.shape[2] - 1) // 2, need_dx=place > 0)
            elif kind == "affine":
                gradients[f"W{n}"], gradients[f"b{n}"] = x.reshape(len(x), -1).T @ d, d.sum(axis=0)
                d = (d @ params[f"W{n}"].T).reshape(x.shape)
            else:
                d = d * (x > 0) if kind == "relu" else course.max_pool_backward(d, x, more, 2)
        return loss, gradients

    return step


def of_torch(network: Any, X: np.ndarray, y: np.ndarray, threads: int) -> Step:
    """The step by PyTorch and its autograd."""
    import torch

    torch.set_num_threads(threads)
    F, layers = torch.nn.functional, plan(network)
    params = {name: torch.from_numpy((w.T if name[0] == "W" and w.ndim == 2 else w).copy()).requires_grad_() for name, w in network.params.items()}
    images, labels = torch.from_numpy(X), torch.from_numpy(y)

    def step() -> tuple[Any, dict[str, Any]]:
        a = images
        for kind, n in layers:
            if kind == "conv":
                a = F.conv2d(a, params[f"W{n}"], params[f"b{n}"], padding=(params[f"W{n}"].shape[2] - 1) // 2)
            elif kind == "affine":
                a = F.linear(a.flatten(1), params[f"W{n}"], params[f"b{n}"])
            else:
                a = F.relu(a) if kind == "relu" else F.max_pool2d(a, 2)
        loss = F.cross_entropy(a, labels)
        for w in params.values():
            w.grad = None
        loss.backward()
        return loss.item(), {name: w.grad.numpy().T if name[0] == "W" and w.ndim == 2 else w.grad.numpy() for name, w in params.items()}

    return step


def prove(step: Step, truth: tuple[float, Gradients], name: str) -> None:
    """AssertionError unless loss and gradients are those of the truth in float64."""
    (loss, gradients), (true_loss, true) = step(), truth
    assert abs(loss - true_loss) <= 1e-5 * abs(true_loss), f"{name}: the loss is {loss}, not {true_loss}"
    assert gradients.keys() == true.keys()
    for key, found in gradients.items():
        error = np.abs(found - true[key]).max() / np.abs(true[key]).max()
        assert error <= ERROR, f"{name}: the gradient to {key} errs by {error:.1e}"


def steps(name: str, threads: int) -> dict[str, Step]:
    """The contenders for a network, each proven."""
    make, N, _ = NETWORKS[name]
    np.random.seed(0)
    network, wide = make(np.float32), make(np.float64)
    wide.params = {key: w.astype(np.float64) for key, w in network.params.items()}
    X, y = np.random.randn(N, 3, 32, 32).astype(np.float32), np.random.randint(10, size=N)
    found: dict[str, Step] = {"fastconv": lambda: network.loss(X, y), "course": of_course(network, X, y)}
    try:
        found["torch"] = of_torch(network, X, y, threads)
    except ModuleNotFoundError:
        print("PyTorch is not installed: left out", file=sys.stderr)
    truth = wide.loss(X, y)
    for rival, step in found.items():
        prove(step, truth, f"{name}, {rival}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=8.0, help="for each network (default: %(default)s)")
    parser.add_argument("--only", default="", metavar="TEXT", help="networks whose name has this text")
    options = parser.parse_args()
    harness.keep_memory()
    print(f"fastconv {fastconv.__version__}, {fastconv.runtime.info()['instruction set']}, {options.threads} threads; ms: medians")
    with harness.threads(options.threads):
        for name in NETWORKS:
            if options.only in name:
                found = steps(name, options.threads)
                turns = harness.in_turns(list(found.values()), options.seconds, one_thread=options.threads == 1)
                ms = dict(zip(found, (1e3 * seconds for seconds in turns.seconds)))
                share = dict(zip(found, turns.ratios))
                line = f"{name}: " + ", ".join(f"{rival} {time:.2f} ms" for rival, time in ms.items())
                line += f"; {1 / share['course']:.1f} x the course's speed (asked {NETWORKS[name][2]:g})"
                print(line + (f"; {share['torch']:.2f} of PyTorch's time (asked {OF_TORCH})" if "torch" in share else ""), flush=True)


if __name__ == "__main__":
    main()
