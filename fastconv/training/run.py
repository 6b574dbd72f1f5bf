"""One training from start to end: data, network, Solver, then the files. A run that was stopped is taken up where its last epoch ended."""
from __future__ import annotations

import json
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from ..cs231n.classifiers.cnn import BLOCKS, VGG, ThreeLayerConvNet
from ..cs231n.classifiers.fc_net import FullyConnectedNet
from ..cs231n.solver import HISTORIES, Solver
from ..files import replacing
from . import data, picture

__all__ = ["CHECKPOINT", "HISTORY", "MODELS", "PICTURE", "train"]

MODELS = ("convnet", "fc", *BLOCKS)
CHECKPOINT, HISTORY, PICTURE = "checkpoint.npz", "history.json", "picture.png"


class _Solver(Solver):
    """Keeps one checkpoint, the last, and says one line an epoch."""

    def _step(self) -> None:
        super()._step()
        if not np.isfinite(self.loss_history[-1]):
            raise ValueError(f"the loss has become {self.loss_history[-1]} at step {len(self.loss_history)}, so training ends")

    def _save_checkpoint(self) -> None:
        self.save_checkpoint(self.checkpoint_name)

    def _report(self) -> None:
        since = self.loss_history[-max(len(self.X_train) // self.batch_size, 1):]
        print(f"epoch {self.epoch} of {self.num_epochs}: loss {np.mean(since):.3f}, accuracy on training images {self.train_acc_history[-1]:.1%},"
              f" on validation images {self.val_acc_history[-1]:.1%}", flush=True)


def train(model: str, folder: Path | None, output: Path, epochs: int, seed: int) -> float:
    """Train, write checkpoint, history and picture into the folder output, print what happens, and return the accuracy on test images.

    model: one of MODELS. folder: CIFAR-10's; None: the digits. A checkpoint of the same model and images in output is taken up.
    ValueError: that checkpoint is of another training, or damaged. OSError: files of CIFAR-10 are missing, or output cannot be written.
    """
    begin = perf_counter()
    images, classes = data.images(folder)
    X, y = images["X_test"], images["y_test"]
    print(f"{model} on {'CIFAR-10' if folder else 'MNIST digits'}: {len(images['X_train'])} training images,"
          f" {len(images['X_val'])} for validation, {len(X)} for the test")
    np.random.seed(seed)
    network = _network(model, X.shape[1:], len(classes))
    solver = _Solver(
        network, images, update_rule="adam", optim_config={"learning_rate": 1.5e-3 if model == "convnet" else 1e-3}, lr_decay=0.6,
        batch_size=100, num_epochs=epochs, print_every=0, checkpoint_name=str(output / CHECKPOINT),
    )
    _resume(solver, output / CHECKPOINT)
    solver.train()
    predicted = np.concatenate([np.argmax(network.loss(X[i : i + 100]), axis=1) for i in range(0, len(X), 100)])
    accuracy = float(np.mean(predicted == y))
    facts = {"model": model, "data": str(folder) if folder else "digits", "epochs": solver.epoch, "test_accuracy": accuracy}
    with replacing(output / HISTORY) as file:
        histories = {name: list(map(float, getattr(solver, name))) for name in HISTORIES}
        file.write((json.dumps({**facts, **histories}, indent=1) + "\n").encode())
    with replacing(output / PICTURE) as file:
        picture.draw(file, solver, X, y, predicted, classes)
    print(f"{accuracy:.1%} of {len(X)} test images are right, after {perf_counter() - begin:.0f} s")
    print(*(f"{what}: {output / name}" for what, name in (("checkpoint", CHECKPOINT), ("history", HISTORY), ("picture", PICTURE))), sep="\n")
    return accuracy


def _resume(solver: _Solver, path: Path) -> None:
    """Go on from the checkpoint, if there is one."""
    if not path.exists():
        return
    try:
        solver.resume(path)
    except ValueError as error:
        raise ValueError(f"{error}. Delete it, or give another --output, to begin anew") from None
    if solver.epoch < solver.num_epochs:
        print(f"going on after epoch {solver.epoch}, from {path}")
    else:
        print(f"{path} has {solver.epoch} epochs already; for more, give --epochs, for a new training another --output")


def _network(model: str, image: tuple[int, ...], classes: int) -> Any:
    if model == "fc":
        return FullyConnectedNet([256, 128], int(np.prod(image)), classes, 0.8, "batchnorm", weight_scale=5e-2)
    if model == "convnet":
        return ThreeLayerConvNet(image, num_classes=classes, weight_scale=3e-2, reg=1e-3)
    return VGG(model, image, classes, normalization="batchnorm")
