"""Products of matrices on fastconv's own threads: for layers that stand between convolutions.

A product of NumPy wakes the threads of its BLAS, which keep a core busy for 100 ms after it: what follows on other threads loses a fifth of
its speed to that, and much more where other programs run.
"""
from __future__ import annotations

import numpy as np

from . import check, recycling
from .blocking.product import blocks
from .kernels import product as kernels
from .kernels.tasks import NOTHING, run_tasks

__all__ = ["product"]


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a (R, K) @ b (K, S) -> (R, S), in float32 or float64, which both have; none of R, S and K is 0.

    Either may be transposed, which costs no copy. Sums of more than 512 terms go through shorter ones.
    """
    (R, K), (K_of_b, S) = a.shape, b.shape
    if K != K_of_b or a.dtype != b.dtype or a.dtype not in (check.F32, check.F64):
        raise ValueError(f"a is {a.shape}, {a.dtype}, and b {b.shape}, {b.dtype}; "
                         f"wanted: (R, K) and (K, S), both float32 or both float64, in native byte order")
    (left, a_steps), (right, b_steps) = _flat(a), _flat(b)
    job, tasks, parts = blocks(R, S, K, a_steps, b_steps, a.itemsize)
    sums, nothing = recycling.empty((parts, R, S), a.dtype), NOTHING[a.dtype]
    run_tasks(kernels.product, tasks, 2.0 * R * S * K, left, right, sums.reshape(-1), nothing, nothing, job, job)
    return sums[0] if parts == 1 else np.add.reduce(sums)


def _flat(a: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """The matrix as a vector, and how far its rows, and its columns, are apart in it."""
    if a.flags.f_contiguous and not a.flags.c_contiguous:
        return check.native(a.T, a.dtype).reshape(-1), (1, a.shape[0])
    return check.native(a, a.dtype).reshape(-1), (a.shape[1], 1)
