"""Local response normalisation, and its gradient."""
from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from .. import check, recycling
from ..kernels import response as kernels
from ..kernels.tasks import NO_TABLE, NOTHING, run_tasks

__all__ = ["local_response_norm", "local_response_norm_backward"]

PIXELS = 1024                                # of a task, through all channels


def local_response_norm(x: np.ndarray, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0, *,
                        out: np.ndarray | None = None) -> np.ndarray:
    """Divide each element by a power of its neighbours in `size` channels, as torch.nn.functional.local_response_norm (Krizhevsky et al., 2012).

        y[n, c] = x[n, c] / (k + alpha / size * sum of x[n, c']^2)^beta,    c - size // 2 <= c' <= c + (size - 1) // 2

    x: (N, C, ...) with at least 3 axes, float32, float64 or float16 (computed in float32, rounded once). size: channels of a sum, at least 1;
    those before the first and after the last count as 0. alpha, beta, k: numbers of at least 0.

    Returns y, of the shape of x. out: an array to write y into.
    """
    dtype, working, tasks, job, numbers = _checked(x, size, alpha, beta, k)
    given = check.output(out, x.shape, dtype, (x,))
    y, nothing = check.target(given, x.shape, working), NOTHING[working]
    run_tasks(kernels.response, tasks, 16 * y.nbytes, check.native(x, working).reshape(-1), nothing, y.reshape(-1), numbers, nothing, job, NO_TABLE)
    return check.deliver(y, given, dtype)


def local_response_norm_backward(dout: np.ndarray, x: np.ndarray, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> np.ndarray:
    """The gradient of `local_response_norm`: dx, of the shape of x. It counts how each element appears in its neighbours' sums."""
    dtype, working, tasks, job, numbers = _checked(x, size, alpha, beta, k)
    check.gradient(dout, x)
    dx, nothing = recycling.empty(x.shape, working), NOTHING[working]
    run_tasks(kernels.response_backward, tasks, 32 * dx.nbytes, check.native(x, working).reshape(-1), check.native(dout, working).reshape(-1),
              dx.reshape(-1), numbers, nothing, job, NO_TABLE)
    return check.deliver(dx, None, dtype)


def _checked(x: Any, size: Any, alpha: Any, beta: Any, k: Any) -> tuple[np.dtype, np.dtype, int, np.ndarray, np.ndarray]:
    check.array("x", x, "(N, C, ...) with at least 3 axes", range(3, 65))
    dtype, working = check.dtypes(x)
    size = check.integer("size", size, 1)
    numbers = tuple(check.number(name, value, 0.0) for name, value in (("alpha", alpha), ("beta", beta), ("k", k)))
    tasks, job = _job(x.shape, size)
    return dtype, working, tasks, job, _numbers(size, *numbers, working)


@functools.lru_cache(maxsize=1024)
def _job(shape: tuple[int, ...], size: int) -> tuple[int, np.ndarray]:
    N, C, S = shape[0], shape[1], math.prod(shape[2:])
    pixels = min(S, PIXELS)
    blocks = -(-S // pixels) if C and S else 0
    return N * blocks, np.array([C, S, pixels, blocks, size], np.int64)


@functools.lru_cache(maxsize=256)
def _numbers(size: int, alpha: float, beta: float, k: float, dtype: np.dtype) -> np.ndarray:
    return np.array([alpha / size, beta, k], dtype)
