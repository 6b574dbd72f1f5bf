"""How a product of matrices is cut into tasks: blocks of the result, and parts of the sums where there are few of them."""
from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from ..kernels.tiles import ROWS, VECTOR_BYTES, VECTORS
from .parts import even, split

MOST_ROWS, MOST_COLUMNS = 252, 512           # of the result, in a task
DEPTH, TURNED_DEPTH = 256, 512               # terms of a chain of sums: of B read in place; of B turned, where long rows of memory are better fetched


class Blocks(NamedTuple):
    """What kernels/product.py is told, its tasks, and in how many parts the sums are."""

    job: np.ndarray
    tasks: int
    parts: int


@functools.lru_cache(maxsize=4096)
def blocks(R: int, S: int, K: int, a_steps: tuple[int, int], b_steps: tuple[int, int], itemsize: int) -> Blocks:
    """Of (R, K) times (K, S); steps: elements from row to row, and from column to column."""
    rows, columns = even(R, MOST_ROWS, ROWS), even(S, MOST_COLUMNS, VECTORS * VECTOR_BYTES // itemsize)
    depth = even(K, DEPTH if b_steps[1] == 1 else TURNED_DEPTH)
    whole = -(-R // rows) * -(-S // columns)
    parts = min(split(whole, 2.0 * R * S * K), -(-K // depth))
    return Blocks(np.array([R, S, K, *a_steps, *b_steps, rows, columns, depth, parts], np.int64), whole * parts, parts)
