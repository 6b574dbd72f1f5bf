"""Pictures of many images at once, as CS231n's notebooks show filters and misclassified examples."""

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["vis_grid", "vis_nn", "visualize_grid"]


def visualize_grid(Xs: np.ndarray, ubound: float = 255.0, padding: int = 1) -> np.ndarray:
    """Images Xs (N, H, W, C) -> one picture of ceil(sqrt(N)) rows and columns, `padding` black pixels between them.

    Each image is stretched by itself to values from 0 to ubound; one of a single value is black (the course's becomes NaN).
    """
    N, H, W, C = Xs.shape
    side = math.ceil(math.sqrt(N))
    grid = np.zeros((max(side * (H + padding) - padding, 0), max(side * (W + padding) - padding, 0), C))
    for n, image in enumerate(np.asarray(Xs, np.float64)):
        top, left = (n // side) * (H + padding), (n % side) * (W + padding)
        grid[top : top + H, left : left + W] = ubound * _stretched(image)
    return grid


def vis_grid(Xs: np.ndarray) -> np.ndarray:
    """Images Xs (N, H, W, C) -> one picture as of visualize_grid, all stretched together to 0 to 1, a dark pixel after each."""
    side = math.ceil(math.sqrt(len(Xs)))
    return _tiled([list(Xs[n : n + side]) for n in range(0, len(Xs), side)], side, side, np.min(Xs))


def vis_nn(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Rows of images (H, W, C) -> one picture of these rows, all stretched together to 0 to 1, a pixel of value 1 after each."""
    return _tiled(rows, len(rows), len(rows[0]), 1)


def _tiled(rows: Sequence[Sequence[np.ndarray]], down: int, across: int, gap: float) -> np.ndarray:
    H, W, C = rows[0][0].shape
    grid = np.full((down * (H + 1), across * (W + 1), C), gap, np.float64)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            grid[i * (H + 1) : i * (H + 1) + H, j * (W + 1) : j * (W + 1) + W] = image
    return _stretched(grid)


def _stretched(image: np.ndarray) -> np.ndarray:
    """From 0, the smallest value, to 1, the largest."""
    low, high = np.min(image), np.max(image)
    return (image - low) / (high - low) if high > low else np.zeros_like(image)
