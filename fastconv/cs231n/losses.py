"""The losses of CS231n: multiclass SVM and softmax, each with its gradient to the scores; L2 regularisation."""

from typing import Any

import numpy as np

from .. import check
from ..kernels import decay as kernels
from ..kernels.tasks import NO_TABLE, NOTHING, run_tasks
from .promote import promote

__all__ = ["softmax_loss", "svm_loss"]


def svm_loss(x: np.ndarray, y: np.ndarray) -> tuple[Any, np.ndarray]:
    """Scores x (N, C), labels y (N,) -> the mean over examples of the sum of max(0, x[j] - x[y] + 1) over the wrong classes j, and dx."""
    x, rows, y = _checked(x, y)
    margins = np.maximum(0, x - x[rows, y][:, None] + 1)
    margins[rows, y] = 0
    dx = (margins > 0).astype(x.dtype)
    dx[rows, y] = -dx.sum(axis=1)
    return margins.sum() / len(x), dx / len(x)


def softmax_loss(x: np.ndarray, y: np.ndarray) -> tuple[Any, np.ndarray]:
    """Scores x (N, C), labels y (N,) -> the mean of -log(softmax(x)[y]), and dx. Scores may be of any size: the largest is taken off."""
    x, rows, y = _checked(x, y)
    x = x - x.max(axis=1, keepdims=True)
    dx = np.exp(x)
    total = dx.sum(axis=1, keepdims=True)
    loss = (np.log(total[:, 0]) - x[rows, y]).sum() / len(x)
    dx /= total
    dx[rows, y] -= 1
    dx /= len(x)
    return loss, dx


def regularize(w: np.ndarray, dw: np.ndarray, factor: float) -> Any:
    """Add factor * w to the gradient dw, in place, and return the sum of all squared w: in one pass, where NumPy would take five."""
    if not (check.plain(w) and check.plain(dw) and w.shape == dw.shape and w.dtype is dw.dtype):
        dw += factor * w
        return np.sum(w * w)
    tasks = -(-w.size // kernels.BLOCK)
    sums, nothing = np.empty(tasks, w.dtype), NOTHING[w.dtype]
    run_tasks(kernels.decay, tasks, 2 * w.nbytes, w.reshape(-1), nothing, dw.reshape(-1), np.array([factor], w.dtype), sums, NO_TABLE, NO_TABLE)
    return sums.sum(dtype=np.float64)


def _checked(x: Any, y: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x in floats, the numbers of its rows, and y as indices."""
    (x,), y = promote(x), np.asarray(y)
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"x has shape {x.shape}; wanted: scores (N, C), with at least one example and one class")
    if y.shape != x.shape[:1] or y.dtype.kind not in "iu":
        raise ValueError(f"y has shape {y.shape} and dtype {y.dtype}; wanted: {len(x)} integers, a label for each row of x")
    if y.min() < 0 or y.max() >= x.shape[1]:
        raise ValueError(f"y goes from {y.min()} to {y.max()}; wanted: labels from 0 to {x.shape[1] - 1}, as x has {x.shape[1]} columns")
    return x, np.arange(len(x)), y
