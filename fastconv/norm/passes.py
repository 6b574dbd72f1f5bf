"""What all normalisations do once their arguments are checked: the passes over memory, in one call on one thread, or one after the other on
several."""
from __future__ import annotations

from typing import Any

import numpy as np
from numba import config

from .. import check, recycling, runtime
from ..kernels import norm
from ..kernels import norm_call as kernels
from ..kernels.tasks import NOTHING, address, run_tasks
from .layout import ONCE, Layout

FORWARD_WORK, BACKWARD_WORK = 16.0, 24.0     # eight times the bytes moved, for each byte of x
DOUT = None                                  # in place of a kernel: from now on dout is what is read


def program(plan: Layout, dtype: np.dtype) -> Any:
    """The steps of a plan as `in_turn` takes them."""
    steps = plan.programs.get(dtype)
    if steps is None:
        pairs = [part for kernel, tasks in plan.steps for part in ((0, 0) if kernel is DOUT else (address(kernel, dtype), max(tasks, 1)))]
        steps = plan.programs[dtype] = [*plan.job, *pairs] if config.DISABLE_JIT else np.array([*plan.job, *pairs], np.int64)
    return steps


def _run_steps(plan: Layout, work: float, src: np.ndarray, dout: np.ndarray, dst: np.ndarray, bias: np.ndarray, residual: np.ndarray,
               table: np.ndarray) -> None:
    """All tasks of each kernel in turn, on several threads."""
    for kernel, tasks in plan.steps:
        if kernel is DOUT:
            src, dout = dout, dout[:0]
        elif tasks == ONCE:
            kernel(0, 1, src, dout, dst, bias, residual, plan.job, table)
        else:
            run_tasks(kernel, tasks, work, src, dout, dst, bias, residual, plan.job, table)


def _flat(values: np.ndarray | None, dtype: np.dtype) -> np.ndarray:
    """Parameters as the kernels take them: in one dimension, empty for None."""
    return NOTHING[dtype] if values is None else check.native(values, dtype).reshape(-1)


def _alone(work: float) -> bool:
    return work < runtime.SMALL_WORK or runtime.threads_for(work) == 1


def _failed() -> MemoryError:
    return MemoryError("no memory for the workspace of a normalisation")


def forward(call: Any, x: np.ndarray, weight: Any, bias: Any, mean: Any, var: Any, moves: bool, return_stats: Any, out: Any) -> Any:
    """y, or (y, mean, invstd). mean, var: the running statistics, or None; `moves`: they are moved."""
    dtype, plan = call.working, call.plan(norm.RUNNING if moves and x.size else 0)
    if call.plain and FORWARD_WORK * plan.nbytes < runtime.SMALL_WORK and (out is None or check.like(out, x)):
        # One thread: whether memory is shared that must not be is found in the kernel, at a tenth of the time.
        y, given, flat = np.empty(call.shape, dtype) if out is None else out, None, x.ravel()
        none = NOTHING[dtype]
        numbers = [none if a is None else a if a.ndim == 1 else a.ravel() for a in (weight, bias, mean, var)]
    else:
        inputs = x, mean, var, weight, bias
        given = check.output(out, call.shape, call.dtype, inputs)
        if moves:
            check.movable(mean, var)
        y, flat = check.target(given, call.shape, dtype), check.native(x, dtype).reshape(-1)
        numbers = [_flat(value, dtype) for value in (weight, bias, mean, var)]
    found = ()
    if check.flag("return_stats", return_stats):
        found = np.empty(call.stats, dtype), np.empty(call.stats, dtype)
        if not x.size and plan.own:
            found[0][...], found[1][...] = 0, call.eps ** -0.5 if call.eps else np.inf
    if x.size or not plan.own:
        _forward(plan, flat, y.ravel(), numbers, [stat.ravel() for stat in found] or [NOTHING[dtype]] * 2, call, (out, x, mean, var, weight, bias))
    if moves and x.size:
        for running, moved in ((mean, numbers[2]), (var, numbers[3])):
            if moved is not running:
                running[...] = moved
    if y is not out:
        y = check.deliver(y, given, call.dtype)
    return (y, *(stat if stat.dtype is dtype else stat.astype(dtype) for stat in found)) if found else y


def _forward(plan: Layout, x: np.ndarray, y: np.ndarray, numbers: list[np.ndarray], found: list[np.ndarray], call: Any, arguments: Any) -> None:
    work = FORWARD_WORK * plan.nbytes
    if _alone(work):
        came = kernels.forward_at_once(program(plan, x.dtype), x, y, *numbers, *found, call.eps, call.momentum)
        if came == kernels.SHARED:
            _refuse_shared(*arguments, bool(plan.job[norm.FLAGS] & norm.RUNNING))
        elif came == kernels.FAILED:
            raise _failed()
        return
    weight, bias, mean, var = numbers
    table, residual, none = np.empty(plan.table, np.int64), np.empty(plan.residual, x.dtype), NOTHING[x.dtype]
    kernels.begin(plan.job, table, call.eps, call.momentum, weight, bias, mean, var)
    left, right = kernels.columns(plan.job, weight, 1.0), kernels.columns(plan.job, bias, 0.0)
    _run_steps(plan, work, x, none, y, left, right if plan.elementwise else residual, table)
    kernels.end_forward(plan.job, table, mean, var, *found)


def _refuse_shared(out: Any, x: np.ndarray, mean: Any, var: Any, weight: Any, bias: Any, moves: bool) -> None:
    """The error of arguments that share memory and must not."""
    check.output(out, x.shape, x.dtype, (x, mean, var, weight, bias))
    if moves:
        check.movable(mean, var)


def backward(call: Any, dout: np.ndarray, x: np.ndarray, weight: Any, given: Any, running: Any, wanted: tuple[bool, ...], bias: Any) -> Any:
    """(dx, dweight, dbias), None where not wanted. given: mean and invstd, or None; running: the running mean and variance, where they count."""
    dtype = call.working
    wants_dx, wants_weight, wants_bias = wanted[0], wanted[1] and weight is not None, wanted[2] and bias is not None
    plan = call.plan(norm.GIVEN if given else 0, True, wants_dx, wants_weight or wants_bias)
    none = NOTHING[dtype]
    dx = recycling.empty(call.shape, dtype) if wants_dx or plan.elementwise else None
    dweight = np.empty(weight.shape, dtype) if wants_weight else None
    dbias = np.empty(bias.shape, dtype) if wants_bias else None
    gradients = [none if a is None else a.ravel() for a in (dweight, dbias)]
    if x.size:
        first, second = given or running or (None, None)
        arrays = (check.native(x, dtype).ravel(), check.native(dout, dtype).ravel(), none if dx is None else dx.ravel())
        _backward(plan, arrays, [_flat(value, dtype) for value in (weight, first, second)], gradients, call.eps)
    else:
        for gradient in gradients:
            gradient[...] = 0
    found = dx if wants_dx else None, dweight, dbias
    return found if call.dtype is dtype else tuple(None if a is None else a.astype(call.dtype) for a in found)


def _backward(plan: Layout, arrays: tuple[np.ndarray, ...], numbers: list[np.ndarray], gradients: list[np.ndarray], eps: float) -> None:
    work = BACKWARD_WORK * plan.nbytes
    if _alone(work):
        if kernels.backward_at_once(program(plan, arrays[0].dtype), *arrays, *numbers, *gradients, eps):
            raise _failed()
        return
    weight, first, second = numbers
    table, residual = np.empty(plan.table, np.int64), np.empty(plan.residual, weight.dtype)
    kernels.begin(plan.job, table, eps, 0.0, weight, weight[:0], first, second)
    _run_steps(plan, work, *arrays, kernels.columns(plan.job, weight, 1.0), residual, table)
    kernels.end_backward(plan.job, table, *gradients)
