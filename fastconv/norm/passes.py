"""The passes of a normalisation over memory, and what comes between them: one call on one thread, or one after the other on several."""
from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from numba import config

from .. import runtime
from ..kernels import norm, norm_columns
from ..kernels.tasks import address, run_tasks
from .layout import Layout


class Passes(NamedTuple):
    """Kernels of the shared signature (kernels/tasks.py)."""

    prepare: Any
    sums: Any
    finish_forward: Any
    change: Any
    finish_backward: Any
    finish_running_backward: Any


BY_SEGMENTS = Passes(norm.prepare, norm.sum_segments, norm.finish_forward, norm.change_segments, norm.finish_batch_backward,
                     norm.finish_running_backward)
BY_COLUMNS = Passes(norm_columns.prepare_columns, norm_columns.sum_columns, norm_columns.finish_forward_columns, norm_columns.change_columns,
                    norm_columns.finish_backward_columns, norm_columns.finish_running_backward_columns)

NOTHING = {np.dtype(dtype): np.empty(0, dtype) for dtype in (np.float32, np.float64)}
ONCE = 0                                     # of a kernel that is one task


def _flat(array: np.ndarray) -> np.ndarray:
    return array if array.ndim == 1 else array.reshape(-1)


@functools.lru_cache(maxsize=1024)
def _program(kernels: tuple[Any, ...], counts: tuple[int, ...], dtype: np.dtype) -> Any:
    """What `in_turn` does."""
    pairs = [part for kernel, count in zip(kernels, counts) for part in (address(kernel, dtype), count)]
    return pairs if config.DISABLE_JIT else np.array(pairs, np.int64)


def run(kernels: tuple[Any, ...], counts: tuple[int, ...], work: float, x: np.ndarray, *arrays: np.ndarray) -> None:
    """All tasks of each kernel in turn; counts: how many, or ONCE."""
    if work < runtime.SMALL_WORK or runtime.threads_for(work) == 1:
        if norm.in_turn(_program(kernels, tuple(max(count, 1) for count in counts), x.dtype), x, *arrays):
            raise MemoryError("no memory for the workspace of a normalisation")
        return
    for kernel, count in zip(kernels, counts):
        if count == ONCE:
            kernel(0, 1, x, *arrays)
        else:
            run_tasks(kernel, count, work, x, *arrays)


def forward(passes: Passes, plan: Layout, x: np.ndarray, y: np.ndarray, table: np.ndarray) -> None:
    """y from x, and the statistics in `table`."""
    none, tasks = NOTHING[x.dtype], plan.tasks
    residual = np.empty(plan.residual, x.dtype) if plan.residual else none
    kernels, counts = (passes.prepare, passes.sums, passes.finish_forward, passes.change), (ONCE, tasks, ONCE, tasks)
    if not plan.own:
        kernels, counts = kernels[2:], counts[2:]
    run(kernels, counts, 16.0 * plan.nbytes, _flat(x), none, _flat(y), none, residual, plan.job, table.view(np.int64))


def backward(passes: Passes, plan: Layout, dout: np.ndarray, x: np.ndarray, dx: np.ndarray | None, table: np.ndarray, parameters: bool) -> None:
    """dx from dout and x, where it is wanted; the statistics, and where `parameters` dweight and dbias, in `table`."""
    none, tasks, work = NOTHING[x.dtype], plan.tasks, 24.0 * plan.nbytes
    residual = np.empty(plan.residual, x.dtype) if plan.residual else none
    x, dout, dx = _flat(x), _flat(dout), none if dx is None else _flat(dx)
    rest = dx, none, residual, plan.job, table.view(np.int64)
    if plan.own or parameters:
        own = plan.own and dx.size > 0
        kernels, counts = (passes.prepare, passes.sums, passes.finish_backward, passes.change), (ONCE, tasks, ONCE, tasks)
        run(kernels if own else kernels[:3], counts if own else counts[:3], work, x, dout, *rest)
    if dx.size and not plan.own:             # dx = dout * scale: x has no part in it
        run((passes.finish_running_backward, passes.change), (ONCE, tasks), work, dout, none, *rest)
