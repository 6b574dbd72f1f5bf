"""What poolings of 1 to 3 axes share: the checks of x, dout and indices, and the arrays that a maximum writes into."""
from __future__ import annotations

from typing import Any

import numpy as np

from .. import check
from ..kernels.tasks import NO_TABLE

X_SHAPES = {1: "(N, C, L) or (C, L)", 2: "(N, C, H, W) or (C, H, W)", 3: "(N, C, D, H, W) or (C, D, H, W)"}
INDEX = np.dtype(np.int64)


def checked(x: Any, nd: int) -> tuple[np.dtype, np.dtype]:
    """The dtype of x in native byte order, and the one computed in."""
    check.array("x", x, X_SHAPES[nd], (nd + 1, nd + 2))
    if check.plain(x):
        return x.dtype, x.dtype
    return check.dtypes(x)


def checked_dout(dout: Any, x: np.ndarray, y_shape: tuple[int, ...]) -> None:
    if check.plain(dout) and dout.dtype is x.dtype and dout.shape == y_shape:
        return
    check.array("dout", dout, "like the result of the forward", range(65))
    check.common_dtype((("x", x), ("dout", dout)))
    check.shape_of("dout", dout, y_shape, "the shape of the forward's result")


def integers(indices: Any, shape: tuple[int, ...], why: str) -> np.ndarray:
    """Indices as the kernels take them, one after the other; what they point at is not looked at."""
    if not isinstance(indices, np.ndarray) or isinstance(indices, np.ma.MaskedArray) or indices.dtype.kind not in "iu":
        came = f"has dtype {indices.dtype}" if isinstance(indices, np.ndarray) else f"is a {type(indices).__name__}"
        raise TypeError(f"indices {came}; wanted: the integers that a max pooling with return_indices=True gave")
    check.shape_of("indices", indices, shape, why)
    if indices.dtype == np.uint64 and indices.size and indices.max() > np.iinfo(np.int64).max:
        raise ValueError(f"indices reach {indices.max()}; wanted: places in a plane")
    return check.native(indices, INDEX).reshape(-1)


def outputs_of(out: Any, return_indices: bool, shape: tuple[int, ...], dtype: np.dtype, x: np.ndarray,
               ) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray]:
    """What was given for y, what for the indices, and the array that the indices go to: empty where they are not wanted."""
    if not return_indices:
        return check.output(out, shape, dtype, (x,)), None, NO_TABLE
    given = given_indices = None
    if out is not None:
        if not isinstance(out, tuple) or len(out) != 2:
            raise TypeError(f"out is a {type(out).__name__}; wanted: a tuple (y, indices), as return_indices is True")
        given = check.output(out[0], shape, dtype, (x,), "out[0]")
        given_indices = check.output(out[1], shape, INDEX, (x, given), "out[1]")
    return given, given_indices, check.target(given_indices, shape, INDEX)
