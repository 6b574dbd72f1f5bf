"""The passes of a normalisation over memory, and what comes between them: one call on one thread, or one after the other on several."""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import config

from .. import runtime
from ..kernels import norm, norm_columns
from ..kernels.tasks import address, run_tasks
from .layout import ONCE, Layout

Steps = tuple[tuple[Any, int], ...]          # kernels and their tasks


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


def _flat(array: np.ndarray) -> np.ndarray:
    return array if array.ndim == 1 else array.reshape(-1)


def _program(steps: Steps, dtype: np.dtype) -> Any:
    """What `in_turn` does."""
    pairs = [part for kernel, count in steps for part in (address(kernel, dtype), max(count, 1))]
    return pairs if config.DISABLE_JIT else np.array(pairs, np.int64)


def run(plan: Layout, name: str, steps: Steps, work: float, x: np.ndarray, *arrays: np.ndarray) -> None:
    """All tasks of each kernel in turn, in one call on one thread, or each on several; how many tasks, or ONCE. `name` is theirs in the plan."""
    if work < runtime.SMALL_WORK or runtime.threads_for(work) == 1:
        program = plan.programs.get(name)
        if program is None:
            program = plan.programs[name] = _program(steps, x.dtype)
        if norm.in_turn(program, x, *arrays):
            raise MemoryError("no memory for the workspace of a normalisation")
        return
    for kernel, count in steps:
        if count == ONCE:
            kernel(0, 1, x, *arrays)
        else:
            run_tasks(kernel, count, work, x, *arrays)


def forward(passes: Passes, plan: Layout, x: np.ndarray, y: np.ndarray, table: np.ndarray) -> None:
    """y from x, and the statistics in `table`."""
    none, tasks = NOTHING[x.dtype], plan.tasks
    residual = np.empty(plan.residual, x.dtype) if plan.residual else none
    steps = (passes.finish_forward, ONCE), (passes.change, tasks)
    if plan.own:
        steps = (passes.prepare, ONCE), (passes.sums, tasks), *steps
    run(plan, "forward", steps, 16.0 * plan.nbytes, _flat(x), none, _flat(y), none, residual, plan.job, table.view(np.int64))


def backward(passes: Passes, plan: Layout, dout: np.ndarray, x: np.ndarray, dx: np.ndarray | None, table: np.ndarray, parameters: bool) -> None:
    """dx from dout and x, where it is wanted; the statistics, and where `parameters` dweight and dbias, in `table`."""
    none, tasks, work = NOTHING[x.dtype], plan.tasks, 24.0 * plan.nbytes
    residual = np.empty(plan.residual, x.dtype) if plan.residual else none
    x, dout, dx = _flat(x), _flat(dout), none if dx is None else _flat(dx)
    rest = dx, none, residual, plan.job, table.view(np.int64)
    if plan.own or parameters:
        steps = (passes.prepare, ONCE), (passes.sums, tasks), (passes.finish_backward, ONCE)
        if plan.own and dx.size:
            steps = *steps, (passes.change, tasks)
        run(plan, "sums and dx" if dx.size else "sums", steps, work, x, dout, *rest)
    if dx.size and not plan.own:             # dx = dout * scale: x has no part in it
        run(plan, "dx", ((passes.finish_running_backward, ONCE), (passes.change, tasks)), work, dout, none, *rest)
