"""The picture of a training: loss and accuracy curves, the filters of the first layer, the confusion matrix, and what was misread."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from matplotlib.figure import Figure

from ..cs231n.solver import Solver
from ..cs231n.vis_utils import visualize_grid

__all__ = ["confusion", "draw"]

MOST_FILTERS, MOST_WRONG, ACROSS = 36, 12, 4
SMOOTH = 0.95                                # of the running mean of the loss


def draw(file: BinaryIO, solver: Solver, X: np.ndarray, y: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> None:
    """Write the picture as PNG. X (N, C, H, W), y and predicted (N,): the test images, their labels, and the network's."""
    figure = Figure((13, 8.2), layout="constrained")
    upper, lower = figure.subfigures(2, 1)
    loss, accuracy, filters = upper.subplots(1, 3)
    left, right = lower.subfigures(1, 2)

    steps, smooth = np.arange(1, len(solver.loss_history) + 1), _smooth(solver.loss_history)
    loss.plot(steps, solver.loss_history, ".", markersize=2, color="lightsteelblue", label="each step")
    loss.plot(steps, smooth, color="C0", label="running mean")
    loss.set(title="Loss", xlabel="step", yscale="log")
    loss.legend()
    epochs = np.linspace(0, solver.epoch, len(solver.val_acc_history))
    for history, name in ((solver.train_acc_history, "training"), (solver.val_acc_history, "validation")):
        accuracy.plot(epochs, 100 * np.array(history), "-o", markersize=4, label=f"{name}: {history[-1]:.1%} at the end")
    accuracy.set(title="Accuracy", xlabel="epoch", ylabel="%")
    accuracy.grid(alpha=0.3)
    accuracy.legend(loc="lower right")
    grid = visualize_grid(_filters(solver.model.params["W1"], X.shape[1:]), ubound=1.0)
    filters.imshow(grid, cmap="gray") if grid.shape[2] == 3 else filters.imshow(grid[:, :, 0], cmap="gray")
    filters.set_title("Filters of the first layer")
    filters.axis("off")

    _table(left.subplots(), confusion(y, predicted, len(classes)), classes)
    misread = np.flatnonzero(y != predicted)
    shown = misread[:MOST_WRONG]
    right.suptitle(f"Misread: {len(misread)} of {len(y)} test images" + (f", here {len(shown)}" if len(shown) < len(misread) else ""))
    for place, axes in enumerate(right.subplots(MOST_WRONG // ACROSS, ACROSS).ravel()):
        axes.axis("off")
        if place < len(shown):
            n = shown[place]
            image = X[n].transpose(1, 2, 0)
            image = (image - image.min()) / (np.ptp(image) or 1)
            axes.imshow(image if image.shape[2] == 3 else image[:, :, 0], cmap="gray")
            axes.set_title(f"{classes[y[n]]}, read as {classes[predicted[n]]}", fontsize=9)
    figure.savefig(file, format="png", dpi=100)


def confusion(y: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """(classes, classes): how often each class, a row, was taken for each other, a column."""
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (y, predicted), 1)
    return table


def _table(axes: Any, table: np.ndarray, classes: Sequence[str]) -> None:
    """The confusion matrix: right ones in blue, wrong ones in red, each colour by itself, as wrong ones are few."""
    right, wrong = np.diag(table), table - np.diag(np.diag(table))
    colours = np.ones((*table.shape, 3))
    colours -= 0.6 * (wrong / max(wrong.max(), 1))[..., None] * [0, 1, 1]
    colours -= 0.5 * np.diag(right / max(right.max(), 1))[..., None] * [1, 0.6, 0]
    axes.imshow(colours)
    for row, column in zip(*np.nonzero(table)):
        axes.text(column, row, str(table[row, column]), ha="center", va="center", fontsize=8)
    axes.set(title=f"Test: {right.sum() / table.sum():.1%} of {table.sum()} images right", xlabel="read as", ylabel="is")
    axes.set_xticks(range(len(classes)), classes, rotation=0 if max(map(len, classes)) == 1 else 45)
    axes.set_yticks(range(len(classes)), classes)


def _smooth(history: Sequence[float]) -> np.ndarray:
    """The running mean, which forgets slowly; the first steps weigh as much as there are of them."""
    means, mean, weight = [], 0.0, 0.0
    for value in history:
        mean, weight = SMOOTH * mean + (1 - SMOOTH) * value, SMOOTH * weight + (1 - SMOOTH)
        means.append(mean / weight)
    return np.array(means)


def _filters(W1: np.ndarray, image: tuple[int, ...]) -> np.ndarray:
    """Some of the first layer's filters as images (N, H, W, C); grey where an image has other than three channels."""
    weights = W1[:MOST_FILTERS] if W1.ndim == 4 else W1.T[:MOST_FILTERS].reshape(-1, *image)
    weights = weights.transpose(0, 2, 3, 1)
    return weights if weights.shape[3] == 3 else weights.mean(axis=3, keepdims=True)
